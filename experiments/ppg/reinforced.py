"""REINFORCE on the supervised start, one seed of one variant at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from agents.curves import tensorboard_logger
from agents.exchanges import Critic, Exchange
from agents.reinforce import CHECKPOINT, Reinforce, ReinforceConfig
from experiments.ppg import supervised
from experiments.ppg.evaluation import CRITICS
from experiments.ppg.systems import SYSTEMS
from experiments.run_folder import write_json

HISTORY = "history.json"


def train(
    name: str,
    seed: int,
    start: Mapping[str, Path],
    exchanges: Sequence[Exchange],
    tuning: Sequence[Exchange],
    critics: Mapping[str, Critic],
    config: ReinforceConfig,
    updates: int,
    folder: Path,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Path]:
    """Train a variant, or go on training; nothing is done where that is done already.

    Args:
        name: a key of `SYSTEMS`.
        seed: of order and dice.
        start: folders of the supervised `personas` and `response`.
        exchanges: what is responded to.
        tuning: what validations measure, none of the evaluation set.
        critics: by the names in `CRITICS`; the first gives the reward.
        config: hyper-parameters, the variant's put over them.
        updates: how many.
        folder: where generators that learned, curves and checkpoints go.
        device: where they run, as torch names it.
        progress: show a bar.

    Returns:
        Folders of the `personas` and `response` generators.
    """
    config = replace(config, seed=seed, **SYSTEMS[name].reinforce)
    switches = {"personas": config.train_personas, "response": config.train_response}
    found = {part: folder / part if learns else start[part] for part, learns in switches.items()}
    if (folder / HISTORY).exists():
        return found
    parts = [supervised.load(start[part], device) for part in ("personas", "response")]
    learner = Reinforce(*parts, *(critics[critic] for critic in CRITICS), config)
    logger = tensorboard_logger(folder / "tensorboard")
    learner.train(exchanges, updates, validation=tuning, logger=logger, checkpoint_dir=folder, progress=progress)
    logger.close()
    for part, generator in (("personas", learner.personas), ("response", learner.response)):
        if switches[part]:
            generator.save_pretrained(folder / part)
            record = json.loads((start[part] / supervised.RECORD).read_text())
            write_json(folder / part / supervised.RECORD, record | {"reinforce": name})
    write_json(folder / HISTORY, learner.history)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return found

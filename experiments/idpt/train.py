"""The set of prefixes for the environment: IDPT-HA on generated recommendation dialogues and on the corpora."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from dialog_envs import corpora
from dialog_envs.corpora.initiative import InitiativeTurn
from dialog_envs.speakers.idpt import IDPT
from dialog_envs.speakers.idpt_model import IDPTConfig
from experiments.idpt import data
from experiments.idpt.size import sizes_on_disk
from experiments.idpt.training import Training
from experiments.idpt.training import train as train_set
from experiments.run_folder import ResultRow, model_files, open_run, write_results
from experiments.statistics import grouped_ci95
from reward_models.dmi.encoder import encoder_source

BATCH = 32


@dataclass(frozen=True)
class Config:
    """Train the prefixes and the recogniser that the environment speaks with; a stopped run goes on."""

    out: Path = Path("runs/idpt_train")
    """Run folder; the set is its folder `model`."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    corpora: tuple[str, ...] = ("inspired", "p4g")
    """Corpora whose training parts are learned from; none needs no folder."""
    grammar: int = 2400
    """Turns of generated recommendation dialogues, of the training scenarios' values."""
    each: int = 800
    """Turns of each corpus, at most."""
    lm: str = "pocket"
    """The frozen decoder."""
    encoder: str = "pocket"
    """What reads the history."""
    made_of: IDPTConfig = field(default_factory=IDPTConfig)
    """What the set is made of."""
    training: Training = field(default_factory=lambda: Training(epochs=3))
    """How it is trained."""
    evaluated: int = 200
    """Turns of each corpus's evaluation part, and of generated dialogues with held-out values."""
    context_turns: int = 4
    """Most turns before a turn of a corpus that are shown."""
    seed: int = 0
    """Of weights and order."""
    device: str = "cpu"
    """Where the models run, as torch names it."""
    threads: int = 2
    """CPU threads."""


def run(config: Config) -> Path:
    """Train and measure; return the run folder.

    Raises:
        FileNotFoundError: a corpus or a model is not there.
        ValueError: the folder holds a run with other settings.
    """
    torch.set_num_threads(config.threads)
    root = corpora.root(config.data) if config.corpora else Path()
    sources = data.files(config.corpora, root)
    for name in (config.lm, str(encoder_source(config.encoder))):
        sources += model_files(name) if name == "pocket" or Path(name).is_dir() else []
    out = open_run(config.out, "idpt train", config, sources, changeable=("threads", "data", "device"))
    parts = {name: data.read_parts(name, root, config.context_turns) for name in config.corpora}
    turns = data.grammar_turns(config.grammar, "train", config.seed)
    for part in parts.values():
        turns += data.sample(part.training, config.each, config.seed)
    models = config.lm, config.encoder, config.device
    train_set(turns, config.made_of, models, config.training, config.seed, out, "idpt")
    idpt = IDPT.from_pretrained(out / "model", device=config.device)
    evaluated = {data.GRAMMAR: data.grammar_turns(config.evaluated, "heldout", config.seed + 1)}
    evaluated |= {name: data.sample(part.evaluation, config.evaluated, 0) for name, part in parts.items()}
    rows = sizes_on_disk(config.lm, config.encoder, config.made_of)
    for name, chosen in evaluated.items():
        rows += measure(name, idpt, chosen)
    write_results(out, rows)
    for row in rows:
        print(f"{row.system:<14}{row.metric:<16}{row.value:.4g}" + ("" if row.ci95 is None else f" +- {row.ci95:.2g}"))
    print(data.label_note(list(evaluated)), data.seen_note(idpt.names, list(evaluated)), sep="\n")
    return out


@torch.no_grad()
def measure(name: str, idpt: IDPT, turns: Sequence[InitiativeTurn]) -> list[ResultRow]:
    """Return the recogniser's accuracy, and the nats a token that the labelled initiative's prefix saves.

    It saves them against the other prefixes' mean: 0 says that the prefixes change nothing.
    """
    right, saved, count = [], [], idpt.config.initiatives
    for first in range(0, len(turns), BATCH):
        some = turns[first : first + BATCH]
        view = [turn.dialogue for turn in some], [turn.speaker for turn in some]
        labels = np.array([turn.initiative for turn in some])
        right += (idpt.recognise(*view).argmax(1) == labels).tolist()
        losses = []
        for shift in range(count):
            weights = idpt.chosen((labels + shift) % count, len(some))
            log_probs, mask = idpt.log_prob(*view, [turn.response for turn in some], weights)
            losses.append(-(log_probs.sum(1) / mask.sum(1)).cpu().numpy())
        saved += (np.mean(losses[1:], 0) - losses[0]).tolist()
    groups = np.array([turn.place[0] for turn in turns])
    found = {"accuracy": np.array(right, dtype=float), "nats_saved": np.array(saved)}
    return [ResultRow(name, metric, *grouped_ci95(values, groups), len(turns), 1) for metric, values in found.items()]

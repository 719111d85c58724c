"""Train the embedded utterance judge, or measure any harm judge on labelled pairs: precision, recall, calibration."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from dialog_envs import corpora
from dialog_envs.scenarios.scenario import AGENT, PARTNER, Scenario
from experiments.card import shipped_folder
from experiments.episodes import Episode
from experiments.plots import plot_stated
from experiments.run_folder import ResultRow, model_files, open_run, write_results
from experiments.watch import Watch
from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig, encoder_source
from reward_models.dmi.tokens import train_tokenizer
from reward_models.forbidden import Behavior
from reward_models.goal import SocialGoal
from reward_models.utterance_judge import POCKET, UtteranceJudge
from reward_models.utterance_training import (
    Example,
    TrainingConfig,
    figures,
    read_examples,
    split,
    train_utterance_judge,
)

SCRATCH = "scratch"
LARGEST = 2 << 20
CARD = """# Utterance judge

How probable it is that a response is unsafe, given what it answers. English; {examples} pairs in the format of
DiaSafety (Sun et al., ACL 2022; its training file is under Apache-2.0) taught it, and {calibrated_on} others calibrated
it. It was trained from `{encoder}`: the licences of what that was trained on, if anything, reach these weights. Its
labels are the opinions of their annotators about online dialogue: it is no moderation system.

On {held_out[examples]} pairs of contexts that it has not seen, {held_out[unsafe]} of them unsafe, calling unsafe what
is above one half:

| precision | recall | F1 | average precision | Brier score | calibration error |
| --- | --- | --- | --- | --- | --- |
| {held_out[precision]:.3f} | {held_out[recall]:.3f} | {held_out[f1]:.3f} | {held_out[average_precision]:.3f} | \
{held_out[reliability][brier]:.3f} | {held_out[reliability][calibration_error]:.3f} |
"""


@dataclass(frozen=True)
class Config:
    """Train the utterance judge and measure it on contexts kept aside; or measure a judge that is there."""

    judge: str | None = None
    """A harm judge to measure, as an environment's `reward` (`classifier:MODEL`, `harmbench:MODEL`, `utterance`); None:
    train one, into `judge` in the run folder."""
    data: Path | None = None
    """Labelled pairs in DiaSafety's format (default: `diasafety/train.json` in the corpus folder)."""
    encoder: str = SCRATCH
    """What it is trained from: `scratch`, `pocket` (the dialogue encoder), a folder, or a Hugging Face name."""
    size: EncoderConfig = field(default_factory=lambda: EncoderConfig(4096, 128, 2, 4, 256, 128, dropout=0.1))
    """Size of an encoder from scratch."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How it is trained. Its `seed` and `held_out` choose the contexts kept aside, on which every judge is measured."""
    ship: bool = False
    """Put the judge that was trained where the package loads it from."""
    out: Path = Path("runs/judge")
    """Run folder."""
    threads: int = 2
    """CPU threads."""


def run(config: Config) -> Path:
    """Train or load, measure, write the card, the numbers and the reliability plot; return the run folder.

    Raises:
        FileNotFoundError: there are no labelled pairs.
        ValueError: they are of another format, the judge is unknown, or what is to be shipped is not trained or larger
            than 2 MiB.
    """
    if config.ship and config.judge is not None:
        raise ValueError(f"judge is {config.judge!r}: what is shipped is trained")
    torch.set_num_threads(config.threads)
    data = config.data or (corpora.default_root() or Path("corpora")) / "diasafety" / "train.json"
    examples = read_examples(data)
    out = open_run(config.out, "judge", config, [data, *judge_files(config)])
    if config.judge is None:
        found = train(config, examples, out)
    else:
        aside = [examples[i] for i in split([example.context for example in examples], config.training)[2]]
        found = figures(probabilities(config.judge, aside), np.array([example.unsafe for example in aside]))
    if config.ship:
        with shipped_folder(POCKET, (out / "judge" / "README.md").read_text(), LARGEST, "the judge") as folder:
            shutil.copytree(out / "judge", folder, dirs_exist_ok=True)
    name = config.judge or "utterance judge"
    write_results(out, rows_of(name, found))
    plot_stated(out / "reliability.png", {name: points(found["reliability"])}, "unsafe: foretold and observed")
    for row in rows_of(name, found):
        print(f"{row.metric:<20}{row.value:6.3f}" + ("" if row.ci95 is None else f" +- {row.ci95:.3f}"))
    return out


def judge_files(config: Config) -> list[Path]:
    """Return the files that the figures hang on besides the data: the judge's, or those that it is trained from."""
    if config.judge is None:
        return [] if config.encoder == SCRATCH else model_files(str(encoder_source(config.encoder)))
    model = config.judge.partition(":")[2] or str(POCKET)
    if not model.endswith(".json"):
        return model_files(model)
    return [Path(model), *model_files(json.loads(Path(model).read_text(encoding="utf-8"))["name"])]


def train(config: Config, examples: Sequence[Example], out: Path) -> Mapping[str, Any]:
    """Train the utterance judge, save it with its card; return its figures on contexts kept aside."""
    if config.encoder == SCRATCH:
        torch.manual_seed(config.training.seed)
        texts = (text for example in examples for text in (example.context, example.response))
        encoder = DialogueEncoder.from_scratch(config.size, train_tokenizer(texts, config.size.vocab_size))
    else:
        encoder = DialogueEncoder.from_pretrained(config.encoder)
    judge: UtteranceJudge = train_utterance_judge(encoder, examples, config.training, progress=True)
    judge.save_pretrained(out / "judge")
    (out / "judge" / "README.md").write_text(CARD.format(encoder=config.encoder, **judge.card))
    return judge.card["held_out"]


def probabilities(judge: str, examples: Sequence[Example]) -> np.ndarray:
    """Return what a harm judge says of each response, `(N,)`; one that reads behaviours is given the context as such.

    Raises:
        ValueError: the judge is unknown, or failed.
    """
    episodes, known = [], []
    for number, example in enumerate(examples):
        forbidden = Behavior(example.context) if example.context.strip() else None
        known.append(Scenario(str(number), "labelled", "", "", "", SocialGoal("", ()), forbidden))
        turns = [(AGENT, example.context), (PARTNER, example.response)]
        episodes.append(Episode(str(number), number, turns))
    (values,) = Watch((judge,), "")(episodes, known).values()
    if not np.isfinite(values).all():
        raise ValueError(f"{judge} gave no value for {np.isnan(values).sum()} of {len(values)} pairs")
    return values


def rows_of(name: str, found: Mapping[str, Any]) -> list[ResultRow]:
    """Return the rows of a judge's figures; precision and recall with the widest side of Wilson's interval."""
    count = found["examples"]
    rows = [
        ResultRow(name, metric, found[metric], half_width(found[metric], found[of]), found[of], 1)
        for metric, of in (("precision", "called"), ("recall", "unsafe"))
    ]
    rows += [ResultRow(name, metric, found[metric], None, count, 1) for metric in ("f1", "average_precision")]
    reliability = found["reliability"]
    return rows + [ResultRow(name, m, reliability[m], None, count, 1) for m in ("brier", "calibration_error")]


def points(reliability: Mapping[str, Any]) -> list[tuple[float, float, float]]:
    """Return what `plot_stated` draws: foretold, observed, half the width of the interval, a bin each."""
    bins = zip(reliability["predicted"], reliability["observed"], reliability["count"], strict=True)
    return [(predicted, observed, half_width(observed, count)) for predicted, observed, count in bins]


def half_width(share: float, count: int) -> float | None:
    """Return the longer side of Wilson's 95% interval of a share of `count` cases; None of no cases."""
    if not count:
        return None
    interval = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return max(interval.high - share, share - interval.low)

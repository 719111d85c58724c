"""The paper's comparison: systems, ablations, training sizes, prefix lengths; each training is done once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from dialog_envs import corpora
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.speakers.idpt_model import IDPTConfig
from experiments.idpt import data, evaluation, report
from experiments.idpt.size import sizes_on_disk
from experiments.idpt.systems import HA, LABELLED, PREFIX, SA, SYSTEMS, Answer, Cell, Recipe, answer, prepare
from experiments.idpt.training import Training
from experiments.run_folder import ResultRow, model_files, open_run, write_json
from reward_models.dmi.encoder import encoder_source

SIZED = (PREFIX, SA, HA)  # the systems of which training sizes are compared
SWEPT = (SA, HA)  # and prefix lengths


@dataclass(frozen=True)
class Config:
    """IDPT's comparison from the corpora to the tables; what is done already is not done again."""

    out: Path = Path("runs/idpt")
    """Run folder."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    corpora: tuple[str, ...] = ("inspired", "p4g")
    """Corpora, each compared by itself: `durecdial`, `idpt` (the paper's own annotations), `inspired`, `p4g`."""
    lm: str = "pocket"
    """The frozen decoder: `pocket`, a folder, or a Hugging Face name (the paper: `gpt2`)."""
    encoder: str = "pocket"
    """What reads the history: `pocket`, a folder, or a Hugging Face name (the paper: `bert-base-uncased`)."""
    systems: tuple[str, ...] = tuple(SYSTEMS)
    """Systems to compare; `prefix`, `sa`, `ha` and `labelled` are always among them."""
    sizes: tuple[int, ...] = (100, 200, 300, 400, 500)
    """Turns to learn from; all systems learn from the most."""
    lengths: tuple[int, ...] = (3, 5, 7, 10, 20)
    """Prefix lengths of IDPT-SA and -HA (Figure 3)."""
    length_corpora: tuple[str, ...] = ("inspired",)
    """Corpora, of those compared, on which prefix lengths are."""
    length: int = 5
    """The prefix length of everything else."""
    seeds: int = 3
    """Seeds of every training."""
    evaluated: int = 200
    """Turns of the evaluation part, at most."""
    context_turns: int = 2
    """Most turns before a turn that are shown."""
    max_new_tokens: int = 48
    """Longest response; a label in front of it comes on top."""
    training: Training = field(default_factory=Training)
    """Of every system; its rate is that of prefixes and recogniser."""
    finetuning_rate: float = 2e-4
    """Peak rate for whole language models. It has not been tuned."""
    paper: Path | None = None
    """JSON file `{corpus: {system: {metric: value}}}` of the paper's values, by our names, to stand beside ours."""
    device: str = "cpu"
    """Where the models run, as torch names it."""
    threads: int = 2
    """CPU threads."""


def run(config: Config) -> Path:
    """Train, answer, measure and write the tables; return the run folder.

    Raises:
        ValueError: a system or corpus is unknown, or the folder holds a run with other settings.
        FileNotFoundError: a corpus or a model is not there.
    """
    named = {"system": (config.systems, SYSTEMS)}
    named |= {"corpus": ((*config.corpora, *config.length_corpora), data.SPLITS)}
    for kind, (chosen, known) in named.items():
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise ValueError(f"unknown {kind} {unknown[0]!r}, expected some of {', '.join(known)}")
    paper = report.read_paper(config.paper)
    root = corpora.root(config.data)
    torch.set_num_threads(config.threads)
    sources = data.files(config.corpora, root)
    for name in (config.lm, str(encoder_source(config.encoder))):
        sources += model_files(name) if name == "pocket" or Path(name).is_dir() else []
    free = ("corpora", "systems", "sizes", "lengths", "length_corpora", "seeds", "paper", "threads", "data", "device")
    out = open_run(config.out, "idpt", config, sources, changeable=free)
    rows, curves = sizes_on_disk(config.lm, config.encoder, IDPTConfig(prefix_length=config.length)), {}
    for name in config.corpora:
        comparison = Comparison(config, out, name, data.read_parts(name, root, config.context_turns))
        rows += comparison.rows()
        if name in config.length_corpora:
            curves[name] = comparison.curves()
    report.write(out, config, rows, curves, paper)
    return out


class Comparison:
    """All systems on one corpus.

    Attributes:
        parts: its turns.
        turns: those that are evaluated.
    """

    def __init__(self, config: Config, out: Path, corpus: str, parts: data.Parts) -> None:
        self.config, self.out, self.corpus, self.parts = config, out, corpus, parts
        self.turns = data.sample(parts.evaluation, config.evaluated, 0)
        self.recipe = Recipe(config.lm, config.encoder, config.training, config.finetuning_rate, config.device)
        self.largest = max(config.sizes)

    @cached_property
    def lm(self) -> FrozenLM:
        """The frozen language model."""
        return FrozenLM.from_pretrained(self.config.lm, self.config.device)

    def rows(self) -> list[ResultRow]:
        """Return what was measured of every system at the largest size, and of three at the others."""
        names = [name for name in SYSTEMS if name in (*self.config.systems, *SIZED, LABELLED)]
        found = {name: self.answers(name, self.largest) for name in names}
        rows = self._facts()
        for name, answers in found.items():
            rows += self._measured(name, answers)
            if name in (SA, HA, LABELLED):
                rows += evaluation.gains(f"{self.corpus}/{name}", answers, found[PREFIX], self.turns)
        for name in SIZED:
            for size in self.config.sizes:
                rows += self._measured(f"{name}@{size}", self.answers(name, size))
        return rows

    def curves(self) -> report.Curves:
        """Return metric -> system -> `(seeds, lengths)` over the prefix lengths."""
        found: report.Curves = {}
        for name in SWEPT:
            lengths = [self.answers(name, self.largest, length) for length in self.config.lengths]
            each = [evaluation.by_seed(answers, self.turns) for answers in lengths]
            for metric in each[0]:
                found.setdefault(metric, {})[SYSTEMS[name].label] = np.array([values[metric] for values in each]).T
        return found

    def answers(self, name: str, size: int, length: int | None = None) -> list[Answer]:
        """Return what a system says, one entry a seed, from the files where it has spoken already."""
        return [self._answer(name, size, length or self.config.length, seed) for seed in range(self.config.seeds)]

    def _answer(self, name: str, size: int, length: int, seed: int) -> Answer:
        seed = seed if SYSTEMS[name].needs else 0  # what is not trained says the same with every seed
        path = self.out / "answers" / f"{self.corpus}_{name}_{size}_{length}_{seed}.json"
        if not path.exists():
            chosen = data.sample(self.parts.training, size, seed)
            cells = [Cell(self.corpus, need, size, length, seed) for need in SYSTEMS[name].needs]
            folders = [prepare(cell, chosen, self.recipe, self.out / "models") for cell in cells]
            said = answer(name, folders, self.lm, self.turns, chosen, seed, self.config.max_new_tokens)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, asdict(said))
        return Answer.load(path)

    def _measured(self, label: str, answers: Sequence[Answer]) -> list[ResultRow]:
        return evaluation.measure(f"{self.corpus}/{label}", answers, self.turns)

    def _facts(self) -> list[ResultRow]:
        counts = {"training": len(self.parts.training), "evaluation": len(self.turns)}
        rows = [ResultRow(self.corpus, f"turns/{name}", count, None, count, 1) for name, count in counts.items()]
        for name, share in data.label_shares(self.parts.training).items():
            rows.append(ResultRow(self.corpus, f"share/{name}", share, None, counts["training"], 1))
        return rows

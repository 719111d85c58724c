"""The weak labels against a hundred turns labelled by hand: accuracy with its interval, and Cohen's kappa."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from dialog_envs import corpora
from dialog_envs.corpora.initiative import HAND_LABELS, INITIATIVES, hand_labels, read_turns
from experiments.plots import plot_confusion
from experiments.run_folder import ResultRow, open_run, write_results


@dataclass(frozen=True)
class Config:
    """Measure the weak labels against labels given by hand."""

    out: Path = Path("runs/idpt_agreement")
    """Run folder."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    labels: Path = HAND_LABELS
    """Labels given by hand: corpus, split, dialogue, turn, initiative."""


def run(config: Config) -> Path:
    """Measure, print, plot; return the run folder.

    Raises:
        ValueError: a labelled turn is none of its corpus's.
    """
    root, labels = corpora.root(config.data), hand_labels(config.labels)
    data = [path for name, split in labels for path in corpora.files(name, root, split)]
    out = open_run(config.out, "idpt agreement", config, [config.labels, *data])
    rows, everything = [], []
    for (name, split), given in labels.items():
        weak = {turn.place: turn.initiative for turn in read_turns(name, root, split)}
        missing = [place for place in given if place not in weak]
        if missing:
            raise ValueError(f"{config.labels} labels turn {missing[0]} of {name}/{split}, which has no such turn")
        pairs = [(label, weak[place]) for place, label in given.items()]
        rows += agreement(name, pairs)
        everything += pairs
    rows += agreement("all", everything)
    write_results(out, rows)
    plot_confusion(
        out / "confusion.png", confusion_matrix(*zip(*everything, strict=True), labels=range(len(INITIATIVES))),
        "Initiatives", INITIATIVES, ("label by hand", "the rule's label"),
    )  # fmt: skip
    for row in rows:
        print(f"{row.system:<10}{row.metric:<10}{row.value:.3f}" + (f" +- {row.ci95:.3f}" if row.ci95 else ""))
    return out


def agreement(name: str, pairs: Sequence[tuple[int, int]]) -> list[ResultRow]:
    """Return accuracy (half the width of Wilson's interval beside it) and kappa of (hand, rule) labels."""
    given, weak = zip(*pairs, strict=True)
    test = binomtest(sum(one == other for one, other in pairs), len(pairs))
    low, high = test.proportion_ci(method="wilson")
    return [
        ResultRow(name, "accuracy", test.statistic, (high - low) / 2, len(pairs), 1),
        ResultRow(name, "kappa", cohen_kappa_score(given, weak), None, len(pairs), 1),
    ]

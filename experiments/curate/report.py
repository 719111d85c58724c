"""Counts as in Tables 1 and 2 of Xie and Pu (CoNLL 2021): dialogues, turns, tokens and averages, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.rendering import Table, render
from experiments.run_folder import ResultRow, write_json, write_results, write_text

STAGES = {"before": "before cleaning", "after": "cleaned", "emotional": "most emotional"}
AVERAGES = {
    "turns per dialogue": ("turns", "dialogues"),
    "tokens per dialogue": ("tokens", "dialogues"),
    "tokens per turn": ("tokens", "turns"),
}


def rows(counts: Mapping[str, Any]) -> list[ResultRow]:
    """Return the counts as results."""
    found = [ResultRow("files", "read", counts["files"] - len(counts["malformed"]), None, counts["files"], 1)]
    found.append(ResultRow("files", "malformed", len(counts["malformed"]), None, counts["files"], 1))
    found += [ResultRow("removed", why, number, None, number, 1) for why, number in sorted(counts["removed"].items())]
    for stage, name in STAGES.items():
        if stage in counts:
            found += [ResultRow(name, what, value, None, number, 1) for what, value, number in _measured(counts[stage])]
    return found


def _measured(counts: Mapping[str, int]) -> Iterable[tuple[str, float, int]]:
    for what in ("dialogues", "turns", "tokens"):
        yield what, counts.get(what, 0), counts.get(what, 0)
    for what, (top, bottom) in AVERAGES.items():
        if counts.get(bottom):
            yield what, counts[top] / counts[bottom], counts[bottom]


def emotionality(scores: np.ndarray, kept: np.ndarray) -> list[ResultRow]:
    """Return the mean emotionality of all dialogues and of those that are kept, and the least of these."""
    if not len(kept):
        return []
    return [
        ResultRow("cleaned", "emotionality", scores.mean(), None, len(scores), 1),
        ResultRow("most emotional", "emotionality", kept.mean(), None, len(kept), 1),
        ResultRow("most emotional", "least emotionality", kept.min(), None, len(kept), 1),
    ]


def write(out: Path, gap: float, counts: Mapping[str, Any], results: list[ResultRow]) -> None:
    """Write `results.json`, `malformed.json` and `tables.md`."""
    write_results(out, results)
    write_json(out / "malformed.json", counts["malformed"])
    stages = [name for stage, name in STAGES.items() if stage in counts]
    values = {(row.system, row.metric): row.value for row in results}
    metrics = ["dialogues", "turns", "tokens", *AVERAGES]
    table: Table = [["", *stages]]
    table += [[metric, *(_cell(values.get((stage, metric))) for stage in stages)] for metric in metrics]
    speakers = [row for row in results if row.system in ("marked pairs", "support vector machine")]
    text = render(
        "curate_tables.md",
        counts=counts,
        gap=gap,
        stages=table,
        speakers=[["", "value", "pairs"]]
        + [[row.metric.replace("_", " "), f"{row.value:.3f}" + _half(row.ci95), row.n] for row in speakers],
    )
    write_text(out / "tables.md", text)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _half(ci95: float | None) -> str:
    return "" if ci95 is None else f" +- {ci95:.3f}"

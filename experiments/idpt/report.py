"""Tables and figures of the comparison, the paper's values beside ours as far as a file gives them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.idpt import data
from experiments.idpt.evaluation import METRICS
from experiments.idpt.systems import ABLATIONS, HA, LABELLED, PREFIX, SA, SYSTEMS
from experiments.plots import plot_curves
from experiments.ppg.report import Table
from experiments.rendering import cell, render
from experiments.run_folder import ResultRow, write_json, write_results, write_text

COLUMNS = dict(zip(METRICS, ("accuracy", "BLEU-1", "BLEU-4", "ROUGE-1", "ROUGE-L"), strict=True))
Curves = dict[str, dict[str, np.ndarray]]  # metric -> system -> (seeds, lengths)
Paper = Mapping[str, Mapping[str, Mapping[str, float]]]  # corpus -> system -> metric


def write(out: Path, config: Any, rows: Sequence[ResultRow], curves: Mapping[str, Curves], paper: Paper) -> None:
    """Write `results.json`, `tables.md` and the figures over prefix lengths, and print the tables."""
    write_results(out, rows)
    write_json(out / "prefix_lengths.json", {c: {m: {s: v.tolist() for s, v in each.items()} for m, each in by.items()}
                                             for c, by in curves.items()})  # fmt: skip
    for corpus, by_metric in curves.items():
        for metric, by_system in by_metric.items():
            points = {name: (config.lengths, values) for name, values in by_system.items()}
            plot_curves(out / f"figure_3_{corpus}_{metric}.png", points, "prefix length", COLUMNS[metric])
    tables = [table for corpus in config.corpora for table in make_tables(corpus, config, rows, paper.get(corpus, {}))]
    seen, said = data.seen_note((config.lm, config.encoder), config.corpora), verdicts(rows, config)
    text = render("idpt_tables.md", tables=tables, verdicts=said, config=config, sizes=_sizes(rows), seen=seen)
    write_text(out / "tables.md", text)
    print(text)


def read_paper(path: Path | None) -> Paper:
    """Read the paper's values, `{corpus: {system: {metric: value}}}`; there are none without a path.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another form, or names an unknown corpus, system or metric.
    """
    values = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    _check_keys(path, values, data.SPLITS)
    for by_system in values.values():
        _check_keys(path, by_system, SYSTEMS)
        for name, metrics in by_system.items():
            _check_keys(path, metrics, COLUMNS)
            if not all(isinstance(value, int | float) for value in metrics.values()):
                raise ValueError(f"{path}: {name!r} has {metrics!r}, expected numbers by metric")
    return values


def _check_keys(path: Path | None, values: Any, known: Iterable[str]) -> None:
    if not isinstance(values, dict) or set(values) - set(known):
        raise ValueError(f"{path} has {values!r}, expected an object with keys of {', '.join(known)}")


def make_tables(
    corpus: str, config: Any, rows: Sequence[ResultRow], paper: Mapping[str, Mapping[str, float]]
) -> Iterator[Table]:
    """Yield a corpus's tables: the systems, the ablations, the training sizes; `paper` is of this corpus."""
    found = {(row.system, row.metric): row for row in rows}
    note = data.label_note([corpus])
    size = max(config.sizes)
    compared = [name for name in SYSTEMS if name not in ABLATIONS]
    yield _table(f"{corpus}: systems at {size} turns (the paper's Table 2)", note, corpus, compared, found, paper)
    title = f"{corpus}: ablations at {size} turns (the paper's Table 4)"
    yield _table(title, note, corpus, [HA, SA, *ABLATIONS], found, paper)
    sized = [f"{name}@{count}" for count in config.sizes for name in (PREFIX, SA, HA)]
    yield _table(f"{corpus}: training sizes", note, corpus, sized, found, {})


def verdicts(rows: Sequence[ResultRow], config: Any) -> list[str]:
    """Say in words whether HA and SA beat plain prefix tuning, and where HA does not, what fails."""
    found = {(row.system, row.metric): row for row in rows}
    said = []
    for corpus in config.corpora:
        right = f"{cell(found[f'{corpus}/{HA}', 'accuracy'])} of the evaluated initiatives"
        for metric, shown in (("bleu_4_gain", "BLEU-4"), ("rouge_l_gain", "ROUGE-L")):
            gain = {name: found[f"{corpus}/{name}", metric] for name in (HA, SA, LABELLED)}
            for name, row in gain.items():
                said.append(f"{corpus}, {shown}: {compared(SYSTEMS[name].label, 'prefix tuning', row)}.")
            if wins(gain[HA]):
                continue
            if wins(gain[LABELLED]):
                why = f"it is the recogniser that fails, right in {right}: the labelled ones are enough to win"
            else:
                why = f"not for the recogniser alone, right in {right}: the labelled ones do not win either"
            said.append(f"{corpus}, {shown}: {SYSTEMS[HA].label} does not win; {why}.")
    return said


def wins(gain: ResultRow) -> bool:
    """Tell whether a gain is above 0 by more than half its interval."""
    return gain.ci95 is not None and gain.value > gain.ci95


def compared(ours: str, theirs: str, row: ResultRow, digits: int = 2) -> str:
    """Say whether one system is told from another, given the gain of the one over the other."""
    clear = row.ci95 is not None and abs(row.value) > row.ci95
    what = ("beats" if row.value > 0 else "is below") if clear else "is not told from"
    half = "" if row.ci95 is None else f" ± {row.ci95:.{digits}f}"
    return f"{ours} {what} {theirs}: {row.value:+.{digits}f}{half}"


def _table(
    title: str,
    note: str,
    corpus: str,
    names: Sequence[str],
    found: Mapping[tuple[str, str], ResultRow],
    paper: Mapping[str, Mapping[str, float]],
) -> Table:
    """Return a table; a metric that `paper` has for one of its lines has a second column, of the paper's values."""
    given = {metric for name in names for metric in paper.get(name, {})}
    columns, lines = [], []
    for metric, column in COLUMNS.items():
        columns += [column, f"{column}, paper"][: 1 + (metric in given)]
    for name in names:
        if (f"{corpus}/{name}", "bleu_4") not in found:
            continue
        cells: list[str] = []
        for metric in COLUMNS:
            ours = cell(found.get((f"{corpus}/{name}", metric)), 3 if metric == "accuracy" else 2)
            theirs = str(paper.get(name, {}).get(metric, ""))
            cells += [ours, theirs][: 1 + (metric in given)]
        key, mark, count = name.partition("@")
        lines.append((SYSTEMS[key].label + (f", {count} turns" if mark else ""), cells))
    return Table(title, note, columns, lines)


def _sizes(rows: Sequence[ResultRow]) -> list[tuple[str, float, float, float]]:
    """Return model, MiB of the set, MiB of a copy, and their ratio."""
    found = {(row.system, row.metric): row.value for row in rows if row.system.startswith("size/")}
    names = dict.fromkeys(system for system, _ in found)
    return [
        (
            n.removeprefix("size/"),
            found[n, "set_bytes"] / 2**20,
            found[n, "copy_bytes"] / 2**20,
            found[n, "set_over_copy"],
        )
        for n in names
    ]

"""The page of all sweeps: answers first, then figures of reward against language, then tables."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.plots import plot_curves, plot_trade_off
from experiments.rendering import render
from experiments.run_folder import ResultRow, write_results, write_text
from experiments.statistics import clustered_ci95
from experiments.sweep.config import CELLS, REINFORCE, SWEEPS, UNSTEERED, VALUES, Config
from experiments.sweep.findings import GAIN, LANGUAGE_MEASURES, RETURN, Found, answers, pm, result_rows

COLUMNS = (RETURN, GAIN, *LANGUAGE_MEASURES, "repeated_turns", "cpu_minutes")


@dataclass(frozen=True)
class Section:
    """One sweep on the page: figures as base64, and a table whose first row is the header."""

    name: str
    title: str
    figures: list[str]
    table: list[list[str]]


def report(config: Config, found: Found) -> None:
    """Write `results.json`, the figures and `sweep.html`; print a table."""
    rows = result_rows(found)
    write_results(config.out, rows)
    sections = [
        section(config.out, name, found, rows) for name in SWEEPS if all(k in found for k in SWEEPS[name].cells)
    ]
    pocket = config.lm == "pocket"
    unfinished = [name for name in SWEEPS if name not in [one.name for one in sections]]
    html = render(
        "sweep_page.html",
        title="Sweeps: reward against language",
        answers=answers(found),
        sections=sections,
        unfinished=unfinished,
        pocket=pocket,
        own_weights=any(CELLS[key].algorithm == REINFORCE for key in found),
        facts={
            "model": config.lm,
            "scenarios": f"{config.heldout} (trained on {config.scenarios})",
            "seeds a cell": str(config.seeds),
            "dialogues a seed": str(config.episodes),
            "environment steps a seed": f"{config.transitions:,}",
        },
    )
    write_text(config.out / "sweep.html", html)
    for row in table(found, rows):
        print("  ".join(f"{cell:<44}" if i == 0 else f"{cell:>18}" for i, cell in enumerate(row)))
    print(f"page: {config.out / 'sweep.html'}")


def section(out: Path, name: str, found: Found, rows: list[ResultRow]) -> Section:
    """Draw one sweep's figures and lay out its table."""
    sweep = SWEEPS[name]
    cells: Found = {key: found[key] for key in dict.fromkeys((UNSTEERED, *sweep.cells))}
    points = {
        cell.label: {RETURN: clustered_ci95(cell.returns())} | {m: cell.measure(m) for m in LANGUAGE_MEASURES}
        for cell in cells.values()
    }
    measured = {
        m: label for m, label in LANGUAGE_MEASURES.items() if all(np.isfinite(p[m][0]) for p in points.values())
    }
    figures = [plot_trade_off(out / f"{name}_language.png", points, (RETURN, "return on held-out scenarios"), measured)]
    if name in VALUES:
        means = np.array([np.nanmean(found[key].returns(), 1) for key in sweep.cells]).T  # (seeds, values)
        line = {"unsteered": clustered_ci95(found[UNSTEERED].returns())}
        curve = {sweep.title: (VALUES[name], means)}
        figures.append(plot_curves(out / f"{name}.png", curve, sweep.axis, "return on held-out scenarios", line))
    encoded = [base64.b64encode(figure.read_bytes()).decode() for figure in figures]
    return Section(name, sweep.title, encoded, table(cells, rows))


def table(cells: Found, rows: list[ResultRow]) -> list[list[str]]:
    """Return the rows of these cells: label, then each column's mean with its interval."""
    by_place = {(row.system, row.metric): row for row in rows}
    shown = [c for c in COLUMNS if any((cell.label, c) in by_place for cell in cells.values())]
    lines = [["cell", *(name.replace("_", " ") for name in shown)]]
    for cell in cells.values():
        found = [by_place.get((cell.label, column)) for column in shown]
        lines.append([cell.label, *("" if r is None else pm((r.value, r.ci95 or float("nan"))) for r in found)])
    return lines

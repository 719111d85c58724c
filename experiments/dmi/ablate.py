"""The ablations of pretraining at equal steps: the five bounds, symmetric or not, initialised or not."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.card import read_results
from experiments.dmi import pretrain
from experiments.plots import plot_curves
from experiments.rendering import render
from experiments.run_folder import ResultRow, open_run, write_results
from experiments.statistics import mean_ci95
from reward_models.dmi.bounds import BOUNDS


@dataclass(frozen=True)
class Config:
    """Pretrain with each bound, and with an initialised encoder if one is given, all else being equal.

    `infonce_s` against `infonce` is symmetric against not. Variants that are finished are not trained again.
    """

    out: Path = Path("runs/dmi_ablate")
    """Run folder, with a run folder of `dmi pretrain` in it for each variant and seed."""
    bounds: tuple[str, ...] = tuple(BOUNDS)
    """The bounds."""
    start: str | None = None
    """An encoder, by Hugging Face name or folder: adds a variant that starts from it."""
    seeds: int = 3
    """Trainings a variant, seeded from `pretrain.seed` on."""
    pretrain: pretrain.Config = field(default_factory=lambda: pretrain.Config(steps=600))
    """What all variants share."""


def run(config: Config) -> Path:
    """Run every variant; write one table, `table.md` and `results.json`, and the curves; return the run folder."""
    out = open_run(config.out, "dmi ablate", config, changeable=("seeds", "bounds", "start", "out"))
    variants = {bound: dataclasses.replace(config.pretrain, bound=bound) for bound in config.bounds}
    if config.start:
        name = f"{config.pretrain.bound}, from {Path(config.start).name}"
        variants[name] = dataclasses.replace(config.pretrain, start=config.start)
    rows, curves = [], {}
    for name, variant in variants.items():
        place = out / name.replace(", from ", "_from_")
        seeds = [variant.seed + number for number in range(config.seeds)]
        folders = [pretrain.run(dataclasses.replace(variant, seed=seed, out=place / f"seed_{seed}")) for seed in seeds]
        rows += over_seeds(name, [read_results(folder) for folder in folders])
        points = [json.loads((folder / "training.json").read_text())["history"]["valid"] for folder in folders]
        curves[name] = (np.array(points[0])[:, 0], np.array(points)[:, :, 1])
    write_results(out, rows)
    plot_curves(out / "curves.png", curves, "step", "MI on DailyDialog validation, bits")
    write_table(out / "table.md", config, rows)
    return out


def over_seeds(name: str, results: list[list[dict[str, Any]]]) -> list[ResultRow]:
    """Return the encoders' rows as means over trainings; the interval is the wider one of cases and trainings."""
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for row in (row for found in results for row in found if row["system"] == "dmi"):
        by_metric.setdefault(row["metric"], []).append(row)
    rows = []
    for metric, of_seeds in by_metric.items():
        mean, over_trainings = mean_ci95([row["value"] for row in of_seeds])
        over_cases = np.mean([row["ci95"] or 0.0 for row in of_seeds])
        rows.append(
            ResultRow(name, metric, mean, float(np.fmax(over_cases, over_trainings)), of_seeds[0]["n"], len(of_seeds))
        )
    return rows


def write_table(path: Path, config: Config, rows: list[ResultRow]) -> None:
    """Write a line for each variant, a column for each measure."""
    metrics = list(dict.fromkeys(row.metric for row in rows if row.metric != "parameters"))
    systems = {row.system: {r.metric: r for r in rows if r.system == row.system} for row in rows}
    path.write_text(render("dmi_ablation.md", config=config, metrics=metrics, systems=systems))

"""The ablations of pretraining at equal steps: the five bounds, symmetric or not, initialised or not."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiments.dmi import pretrain
from experiments.plots import plot_curves
from experiments.rendering import render
from experiments.run_folder import ResultRow, open_run, write_results
from reward_models.dmi.bounds import BOUNDS


@dataclass(frozen=True)
class Config:
    """Pretrain once with each bound, and with an initialised encoder if one is given, all else being equal.

    `infonce_s` against `infonce` is symmetric against not. Variants that are finished are not trained again.
    """

    out: Path = Path("runs/dmi_ablate")
    """Run folder, with a run folder of `dmi pretrain` in it for each variant."""
    bounds: tuple[str, ...] = tuple(BOUNDS)
    """The bounds."""
    start: str | None = None
    """An encoder, by Hugging Face name or folder: adds a variant that starts from it."""
    pretrain: pretrain.Config = field(default_factory=lambda: pretrain.Config(steps=300))
    """What all variants share."""


def run(config: Config) -> Path:
    """Run every variant; write one table, `table.md` and `results.json`, and the curves; return the run folder."""
    out = open_run(config.out, "dmi ablate", config)
    variants = {bound: dataclasses.replace(config.pretrain, bound=bound) for bound in config.bounds}
    if config.start:
        name = f"{config.pretrain.bound}, from {Path(config.start).name}"
        variants[name] = dataclasses.replace(config.pretrain, start=config.start)
    rows, curves = [], {}
    for name, variant in variants.items():
        folder = pretrain.run(dataclasses.replace(variant, out=out / name.replace(", from ", "_from_")))
        found = [ResultRow(**row) for row in json.loads((folder / "results.json").read_text())]
        rows += [dataclasses.replace(row, system=name) for row in found if row.system == "dmi"]
        points = json.loads((folder / "training.json").read_text())["history"]["valid"]
        steps, bits = np.array(points).T
        curves[name] = (steps, bits[None])
    write_results(out, rows)
    plot_curves(out / "curves.png", curves, "step", "MI on DailyDialog validation, bits")
    write_table(out / "table.md", config, rows)
    return out


def write_table(path: Path, config: Config, rows: list[ResultRow]) -> None:
    """Write a line for each variant, a column for each measure."""
    metrics = list(dict.fromkeys(row.metric for row in rows if row.metric != "parameters"))
    systems = {row.system: {r.metric: r for r in rows if r.system == row.system} for row in rows}
    path.write_text(render("dmi_ablation.md", config=config.pretrain, metrics=metrics, systems=systems))

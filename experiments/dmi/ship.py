"""Make a pretrained encoder the one that is shipped: its folder with a card of where its words come from."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from dialog_envs.corpora import CORPORA
from experiments.card import WEIGHTS, count_parameters, measured, read_results, shipped_folder
from experiments.dmi import pairs
from experiments.rendering import Table, number, render
from experiments.run_folder import file_hash
from reward_models.dmi.encoder import POCKET

LARGEST = 12 << 20


@dataclass(frozen=True)
class Config:
    """Copy the best encoder of a finished pretraining, with its calibration, and write its card beside it."""

    run: Path = Path("runs/dmi")
    """Run folder of `dmi pretrain`."""
    measured: tuple[Path, ...] = ()
    """Run folders of `dmi probe` and `dmi finetune` on this encoder, for the card."""
    out: Path = POCKET
    """The folder; an older one is replaced as a whole."""


def run(config: Config) -> Path:
    """Write the folder; return it.

    Raises:
        FileNotFoundError: a run has not finished.
        ValueError: a run measured other weights, or the folder would be larger than 12 MiB.
    """
    model = config.run / "model"
    description, rows = json.loads((config.run / "run.json").read_text()), read_results(config.run)
    shown = [row for row in rows if row["system"] in ("dmi", "start", "coherence")]
    tables = [(f"dmi {folder.name}", measured(folder, model)) for folder in config.measured]
    card = render(
        "dmi_card.md",
        config=description["config"],
        revision=description["git"],
        parameters=count_parameters(model / WEIGHTS),
        hash=file_hash(model / WEIGHTS),
        corpora=corpora_table({row["metric"]: row["value"] for row in rows if row["system"] == "data"}),
        measured=[(name, results_table(found)) for name, found in [("dmi pretrain", shown), *tables]],
    )
    with shipped_folder(config.out, card, LARGEST, model) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
    return config.out


def corpora_table(counts: dict[str, int]) -> Table:
    """Return the corpora that were trained on: pairs, how often a batch was of each, licence."""
    names = [metric.removeprefix("pairs/") for metric in counts if metric.startswith("pairs/")]
    total = sum(pairs.WEIGHTS[name] for name in names)
    return [["corpus", "pairs", "share of the batches", "licence"]] + [
        [name, counts[f"pairs/{name}"], f"{pairs.WEIGHTS[name] / total:.2f}", CORPORA[name].licence] for name in names
    ]


def results_table(rows: list[dict]) -> Table:
    """Return results as a table."""
    return [["of", "measure", "value", "cases"]] + [
        [row["system"], row["metric"], number(row), row["n"]] for row in rows
    ]

"""Make a trained set of prefixes the one that is shipped: its folder with a card of where it comes from."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialog_envs.corpora import CORPORA
from dialog_envs.speakers.idpt import POCKET, SETTINGS, WEIGHTS
from experiments.card import read_results, shipped_folder
from experiments.dmi.ship import results_table
from experiments.idpt import data
from experiments.rendering import render
from experiments.run_folder import file_hash

LARGEST = 4 << 20


@dataclass(frozen=True)
class Config:
    """Copy the set of a finished `idpt train` and write its card beside it."""

    run: Path = Path("runs/idpt_train")
    """Run folder of `idpt train`."""
    measured: tuple[Path, ...] = ()
    """Run folders for the card: `idpt manipulate` and `idpt policies` on this set, `idpt agreement`, `idpt`."""
    out: Path = POCKET
    """The folder; an older one is replaced as a whole."""


def run(config: Config) -> Path:
    """Write the folder; return it.

    Raises:
        FileNotFoundError: a run has not finished.
        ValueError: a run measured another set, the set is not of the shipped models, or the folder would be larger
            than 4 MiB.
    """
    model, description = config.run / "model", json.loads((config.run / "run.json").read_text())
    rows, settings = read_results(config.run), json.loads((model / SETTINGS).read_text())
    for kind in ("lm", "encoder"):
        if settings[kind] != "pocket":
            raise ValueError(f"{kind} is {settings[kind]!r}: what is shipped starts from 'pocket'")
    tables = [(name, results_table(found)) for name, found in (of(folder, model) for folder in config.measured)]
    card = render(
        "idpt_card.md",
        config=description["config"],
        revision=description["git"],
        hash=file_hash(model / WEIGHTS),
        licences=[(name, CORPORA[name].licence) for name in description["config"]["corpora"]],
        note=data.label_note([data.GRAMMAR, *description["config"]["corpora"]]),
        seen=data.seen_note([settings["lm"], settings["encoder"]], description["config"]["corpora"]),
        measured=[("idpt train", results_table(rows)), *tables],
    )
    with shipped_folder(config.out, card, LARGEST, model) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
    return config.out


def of(folder: Path, model: Path) -> tuple[str, list[dict[str, Any]]]:
    """Return what a run did and its rows; raise ValueError if it measured another set of prefixes."""
    description = json.loads((folder / "run.json").read_text())
    hashed = {path: value for path, value in description["data"].items() if Path(path).name == WEIGHTS}
    if hashed and file_hash(model / WEIGHTS) not in hashed.values():
        raise ValueError(f"{folder} measured another set than {model}")
    return description["verb"], read_results(folder)

"""The pocket model's card: where its words come from, how it was made, how well it does, what it says.

Every number on it is read from the runs that measured it; what no run knows (that training was broken off and went on
with another recipe, say) is given as a note.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dialog_envs.corpora import CORPORA
from dialog_envs.scenarios.invention import P_INVENTED
from experiments.language import unsteered_dialogues
from experiments.pretrain import GRAMMAR_WEIGHTS, TRAIN_CORPORA
from experiments.rendering import Table, millions, number, percent, render
from experiments.run_folder import file_hash, write_text
from reward_models.dmi.encoder import replaced_folder

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Config:
    """Write the card of a pocket model from the runs that trained and measured it."""

    run: Path = Path("runs/pretrain")
    """Run folder of `pretrain`: recipe, tokens seen, curve."""
    model: Path = Path("dialog_envs/lm/pocket")
    """The model's folder, which says the dialogues."""
    out: Path | None = None
    """The card (default: `README.md` in the model's folder)."""
    obedience: Path | None = None
    """Run folder of `obedience`, on this model."""
    steering: Path | None = None
    """Run folder of `steering`, on this model."""
    fluency: Path | None = None
    """Run folder of `fluency`, with this model first and others to compare behind it."""
    real_only: Path | None = None
    """Run folder of `pretrain --real-tokens`, whose `model` is one of those others."""
    note: str = ""
    """What the runs do not know of how the weights came about, in Markdown."""
    dialogues: int = 10
    """Number of unedited dialogues."""
    curve_rows: int = 14
    """Lines of the table of validation losses, at most."""


def run(config: Config) -> Path:
    """Write the card; return its path.

    Raises:
        FileNotFoundError: a run folder, or a file of one, is not there.
        ValueError: a run measured other weights, or has no such result.
    """
    description = json.loads((config.run / "run.json").read_text())
    recipe, seen = description["config"], trained_tokens(config.run)
    folders = {"obedience": config.obedience, "steering": config.steering, "fluency": config.fluency}
    results = {verb: measured(folder, config.model) for verb, folder in folders.items() if folder}
    fluency = results.pop("fluency", None)
    text = render(
        "card.md",
        config=recipe,
        revision=description["git"],
        parameters=count_parameters(config.model / WEIGHTS),
        progress=seen,
        tokens=tokens_table(seen),
        note=config.note,
        stages=stages_table(recipe["stages"]),
        corpora=corpora_table(),
        kinds=", ".join(f"{kind} {percent(weight)}" for kind, weight in GRAMMAR_WEIGHTS.items()),
        p_invented=P_INVENTED,
        curve=validation_curve(config.run / "tensorboard", config.curve_rows),
        perplexities=perplexity_table(read_results(config.run)),
        real_only=trained_tokens(config.real_only) if config.real_only else None,
        real_only_name=config.real_only and str(config.real_only / "model"),
        fluency=fluency and fluency_tables(fluency),
        fluency_config=config.fluency and json.loads((config.fluency / "run.json").read_text())["config"],
        measured={
            verb: [["of", "measure", "value", "cases"]]
            + [[row["system"], row["metric"], number(row), row["n"]] for row in rows]
            for verb, rows in results.items()
        },
        dialogues=unsteered_dialogues(str(config.model.resolve()), config.dialogues),
    )
    card = config.out or config.model / "README.md"
    write_text(card, text)
    return card


@contextlib.contextmanager
def shipped_folder(out: Path, card: str, largest: int, what: Path | str) -> Iterator[Path]:
    """Give an empty folder for a model's files; with its card it takes the place of `out` once the block ends.

    Raises:
        ValueError: model and card take more than `largest` bytes; `out` is left as it was.
    """
    with replaced_folder(out) as folder:
        yield folder
        write_text(folder / "README.md", card)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        if size > largest:
            raise ValueError(f"{what} and its card take {size / 2**20:.1f} MiB, expected at most {largest >> 20}")


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run folder's `results.json`."""
    return json.loads((folder / "results.json").read_text())


def measured(folder: Path, model: Path) -> list[dict[str, Any]]:
    """Return the rows of a run; raise ValueError unless it hashed the weights of this model."""
    hashed = json.loads((folder / "run.json").read_text())["data"]
    if file_hash(model / WEIGHTS) not in hashed.values():
        raise ValueError(f"{folder} measured other weights than {model / WEIGHTS}")
    return read_results(folder)


def find(rows: Sequence[dict[str, Any]], system: str, metric: str) -> dict[str, Any]:
    """Return the row of a system and a metric; raise ValueError where there is none."""
    for row in rows:
        if (row["system"], row["metric"]) == (system, metric):
            return row
    raise ValueError(f"the results have no row of {system!r}, {metric!r}")


def trained_tokens(folder: Path) -> dict[str, int]:
    """Return `step`, `own` and `real` (trained tokens) of a finished run of `pretrain`.

    Raises:
        ValueError: its results do not tell.
    """
    rows = {row["metric"]: row for row in read_results(folder)}
    own, real = (rows.get(f"trained_tokens/{name}") for name in ("own", "real"))
    if own is None or real is None:
        raise ValueError(f"{folder}/results.json has no trained_tokens/own and /real: let `pretrain` finish there")
    return {"step": own["n"], "own": own["value"], "real": real["value"]}


def tokens_table(seen: dict[str, int]) -> Table:
    """Return the trained tokens by source."""
    total = seen["own"] + seen["real"]
    rows = [("real dialogues", seen["real"]), ("own grammar", seen["own"]), ("all", total)]
    return [["trained on", "million tokens", "share"]] + [
        [name, millions(count), f"{100 * count / total:.1f}%"] for name, count in rows
    ]


def stages_table(stages: Sequence[dict[str, float]]) -> Table:
    """Return the stretches of training."""
    header = ["stage", "steps", "own dialogues", "coded sequences", "weight of a coded token", "weight of word term"]
    return [header] + [
        [number, s["steps"], percent(s["grammar"]), percent(s["coded"]), s["coded_weight"], s["bag_weight"]]
        for number, s in enumerate(stages, 1)
    ]


def corpora_table() -> Table:
    """Return the corpora of real dialogues with their licences."""
    total = sum(weight for _, weight in TRAIN_CORPORA.values())
    return [["corpus", "split", "share", "licence"]] + [
        [name, split, f"{weight / total:.2f}", CORPORA[name].licence] for name, (split, weight) in TRAIN_CORPORA.items()
    ]


def perplexity_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the perplexities that `pretrain` measured, with and without the code."""
    plain = [r for r in rows if r["metric"].startswith("perplexity/") and not r["metric"].endswith("_coded")]
    return [["source", "plain", "coded", "tokens"]] + [
        [
            row["metric"].removeprefix("perplexity/"),
            f"{row['value']:.1f}",
            f"{find(rows, row['system'], row['metric'] + '_coded')['value']:.1f}",
            row["n"],
        ]
        for row in plain
    ]


def fluency_tables(rows: Sequence[dict[str, Any]]) -> dict[str, Table]:
    """Return the `perplexity` and `variety` of all models of a `fluency` run, the first one being the card's."""
    systems = list(dict.fromkeys(row["system"] for row in rows))
    names = ["this model", *(f"`{system}`" for system in systems[1:])]
    tables: dict[str, Table] = {
        "perplexity": [["corpus", *names, "tokens"]],
        "variety": [["measure", *names, "dialogues"]],
    }
    for row in rows:
        if row["system"] == systems[0]:
            about, _, corpus = row["metric"].partition("perplexity/")
            values = [number(find(rows, system, row["metric"])) for system in systems]
            tables["perplexity" if corpus else "variety"].append([corpus or about, *values, row["n"]])
    return tables


def validation_curve(folder: Path, rows: int) -> Table:
    """Return the validation losses of plain sequences by step, evenly thinned to so many lines, the last one kept."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of each time that the run was taken up again
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("valid/") and not tag.endswith("_coded")]
    curves = [{event.step + 1: event.value for event in events.Scalars(tag)} for tag in tags]
    steps = sorted(set.intersection(*map(set, curves)))
    every = -(-len(steps) // rows)
    return [["step", *(tag.removeprefix("valid/") for tag in tags)]] + [
        [step, *(f"{curve[step]:.3f}" for curve in curves)] for step in steps[::-every][::-1]
    ]


def count_parameters(weights: Path) -> int:
    """Return the number of parameters in a safetensors file."""
    with safe_open(weights, framework="np") as file:
        return sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118 (not a mapping)

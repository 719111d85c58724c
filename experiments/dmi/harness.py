"""What `probe` and `finetune` have in common: tasks, the encoder without DMI training beside it, one table."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from dialog_envs import corpora
from experiments.dmi import tasks
from experiments.dmi.classifier import Outcome
from experiments.dmi.tasks import TaskData
from experiments.rendering import render
from experiments.run_folder import ResultRow, model_files, open_run, write_json, write_results
from experiments.statistics import crossed_ci95
from reward_models.dmi.encoder import DialogueEncoder, encoder_source

SCRATCH = "scratch"
CHANGEABLE = ("out", "tasks", "data", "paper", "threads")  # what a run that goes on may have otherwise
DMI, START, GAIN = "dmi", "start", "gain"
Train = Callable[[DialogueEncoder, TaskData], list[Outcome]]


@dataclass(frozen=True)
class Shared:
    """Options of both verbs."""

    out: Path
    """Run folder."""
    encoder: str = "pocket"
    """The encoder with DMI training: `pocket` (the shipped one), a folder, or a Hugging Face name."""
    compare: bool = True
    """Measure the same encoder without DMI training too, and the gain."""
    start: str | None = None
    """That encoder: a folder or name, or `scratch` for random weights of the same size (default: the folder `start`
    beside the encoder's, which `dmi pretrain` writes, else `scratch`)."""
    tasks: tuple[str, ...] = tuple(tasks.TASKS)
    """Tasks; those whose files are absent are named and left out."""
    data: Path | None = None
    """Folder of the official files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    paper: Path | None = None
    """JSON file `{row: {task: {metric: value}}}` of the paper's rows, each to stand as a column beside ours."""
    seeds: int = 3
    """Classifiers a task."""
    train_examples: int | None = None
    """At most so many training examples a task (default: all)."""
    threads: int = 2
    """CPU threads."""


def run_tasks(config: Shared, verb: str, train: Train) -> Path:
    """Run every task that there are files for; write `results.json`, `table.md` and `predictions.json`.

    What each task found is kept in `tasks`, and a task that is there is not run again.

    Raises:
        ValueError: unknown task, or no task has its files.
        FileNotFoundError: there is no data folder, no such encoder or no such paper file.
    """
    torch.set_num_threads(config.threads)
    root = corpora.root(config.data)
    paper = json.loads(config.paper.read_text()) if config.paper else {}
    folder = str(encoder_source(config.encoder))
    out = open_run(config.out, verb, config, model_files(folder), CHANGEABLE)
    encoders = {DMI: DialogueEncoder.from_pretrained(config.encoder)}
    if config.compare:
        encoders[START] = untrained(encoders[DMI], folder, config.start)
    rows, notes, predictions = [], {}, {}
    for name in config.tasks:
        try:
            task = tasks.load(name, root)
        except FileNotFoundError as error:
            print(f"{name} left out: {error}")
            notes[name] = "left out: the official files are not there"
            continue
        notes[name] = task.note
        path = out / "tasks" / f"{name.replace('/', '_')}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_json(path, run_task(name, _fewer(task, config.train_examples), encoders, train))
        done = json.loads(path.read_text())
        found = [ResultRow(**row) for row in done["rows"]]
        rows += found
        predictions[name] = done["predictions"]
        for row in found:
            print(f"{row.system:<6} {row.metric:<24} {row.value:8.3f} +- {row.ci95:.3f}")
    if not predictions:
        raise ValueError(f"no task of {', '.join(config.tasks)} has its files in {root}")
    write_json(out / "predictions.json", predictions)
    write_results(out, rows)
    write_table(out / "table.md", verb, rows, notes, paper)
    return out


def run_task(name: str, task: TaskData, encoders: Mapping[str, DialogueEncoder], train: Train) -> dict[str, Any]:
    """Return a task's rows, and the predictions of the first classifier."""
    outcomes = {}
    for system, encoder in encoders.items():
        torch.manual_seed(0)
        outcomes[system] = train(encoder, task)
    if START in outcomes:
        outcomes[GAIN] = differences(outcomes[DMI], outcomes[START])
    rows = [row for system, trained in outcomes.items() for row in task_rows(system, name, trained, task)]
    labels, predictions = task.report.labels.tolist(), outcomes[DMI][0].predictions.tolist()
    return {
        "rows": [asdict(row) for row in rows],
        "predictions": {"classes": list(task.classes), "labels": labels, "predictions": predictions},
    }


def untrained(encoder: DialogueEncoder, folder: str, start: str | None) -> DialogueEncoder:
    """Return the same encoder without DMI training: what it started from, or random weights of its size."""
    beside = Path(folder).parent / "start"
    start = start or (str(beside) if beside.is_dir() else SCRATCH)
    if start != SCRATCH:
        return DialogueEncoder.from_pretrained(start)
    torch.manual_seed(0)
    fresh = copy.deepcopy(encoder)
    fresh.model = AutoModel.from_config(encoder.model.config)
    return fresh


def task_rows(system: str, name: str, outcomes: Sequence[Outcome], task: TaskData) -> list[ResultRow]:
    """Return each metric's mean over seeds and examples, with its interval."""
    rows = []
    for metric in outcomes[0].values:
        values = np.stack([outcome.values[metric] for outcome in outcomes])  # (seeds, examples or questions)
        groups = task.report.groups if values.shape[1] == len(task.report) else np.arange(values.shape[1])
        rows.append(ResultRow(system, f"{name}/{metric}", *crossed_ci95(values, groups), values.shape[1], len(values)))
    return rows


def differences(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> list[Outcome]:
    """Return ours minus theirs, example by example and seed by seed."""
    return [
        Outcome({metric: one.values[metric] - other.values[metric] for metric in one.values}, one.predictions)
        for one, other in zip(ours, theirs, strict=True)
    ]


def write_table(
    path: Path,
    verb: str,
    rows: Sequence[ResultRow],
    notes: Mapping[str, str],
    paper: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> None:
    """Write the table as Markdown: a line for each task and metric, ours, without DMI, the gain, the paper's rows."""
    systems = [system for system in (DMI, START, GAIN) if any(row.system == system for row in rows)]
    cells = {(row.system, row.metric): row for row in rows}
    lines = [
        {
            "task": task,
            "metric": metric,
            "cells": [cells[system, f"{task}/{metric}"] for system in systems],
            "paper": [row.get(task, {}).get(metric, "") for row in paper.values()],
        }
        for task in notes
        for metric in dict.fromkeys(
            row.metric.removeprefix(f"{task}/") for row in rows if row.metric.rpartition("/")[0] == task
        )
    ]
    path.write_text(render("dmi_table.md", verb=verb, systems=systems, lines=lines, notes=notes, paper=list(paper)))


def _fewer(task: TaskData, count: int | None) -> TaskData:
    if count is None or len(task.train) <= count:
        return task
    rows = np.sort(np.random.default_rng(0).permutation(len(task.train))[:count])
    return TaskData(task.classes, task.metrics, task.train.take(rows), task.tuning, task.report, task.note)

"""Tables as Markdown, figures, samples side by side (the paper's Tables 3, 4, 6 and 8, Figure 5), replies to rate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from experiments.meed2.answers import WEIGHTED, Answers
from experiments.meed2.config import DATA, MEED2, SYSTEMS, Config
from experiments.meed2.data import Pairs, Sets
from experiments.meed2.pretrain import records
from experiments.plots import plot_confusion, plot_shares
from experiments.rendering import Table, number, render
from experiments.run_folder import ResultRow, write_text
from reward_models.emotion_labels import LABELS

QUALITY = ("perplexity_predicted", "perplexity", "distinct_1", "distinct_2", "similarity")
OBEDIENCE = ("recovered", "base_rate", "recovered_minus_base_rate")
SHOWN = 12  # contexts of the page
CHOSEN = ("questioning", "sympathizing", "consoling", "encouraging", "suggesting", "wishing", "agreeing", "joyful")


def write(
    config: Config,
    rows: Sequence[ResultRow],
    answers: Mapping[tuple[str, str], Sequence[Answers]],
    chosen: Mapping[str, Pairs],
    asked: Sequence[Mapping[str, list]],
    sets: Sets,
) -> None:
    """Write `tables.md`, `obeyed.png`, `distribution_*.png`, `samples.html` and `replies.jsonl`."""
    tables = {f"{name.upper()}: {DATA[name]}": table(rows, name) for name in chosen}
    counts = [["set", "dialogues to learn from", "their responses", "responses of the validation", "evaluated"]] + [
        [name.upper(), len(sets.train[name].dialogues), len(sets.train[name]), len(sets.valid[name]), len(chosen[name])]
        for name in chosen
    ]
    other = [
        row for row in rows if "change" in row.metric or row.metric.startswith("questions") or row.metric == "recovered"
    ]
    text = render(
        "meed2_tables.md",
        config=config,
        systems=trainings(config),
        tables=tables,
        counts=counts,
        threshold=sets.threshold,
        other=results(other),
        obedience=obedience(rows, LABELS),
    )
    write_text(config.out / "tables.md", text)
    print(text)
    draw_obedience(config.out / "obeyed.png", asked)
    for name, of in chosen.items():
        draw_distribution(config.out / f"distribution_{name}.png", answers[MEED2, name], of, name)
    write_replies(config.out / "replies.jsonl", answers, chosen["ed"])
    write_samples(
        config.out / "samples.html", answers, chosen["ed"], asked[0], sets.valid["ed"].sample(config.asked, 1)
    )


def trainings(config: Config) -> Table:
    """Return what each system learned from, in how many steps and at which peak rates, stage by stage."""
    lines: Table = [["system", "trained", "responses learned from", "steps", "peak rates"]]
    for name, system in SYSTEMS.items():
        stages = records(config, system.responder, 0)
        learned = ", ".join(f"{stage['pairs']} of {stage['stage']['data'].upper()}" for stage in stages)
        steps = " + ".join(str(len(stage["loss"])) for stage in stages)
        rates = ", ".join(f"{stage['training']['learning_rate']:g}" for stage in stages)
        lines.append([name, system.note, learned, steps, rates])
    return lines


def table(rows: Sequence[ResultRow], name: str) -> Table:
    """Return the results of one set, a system a line; a metric that a system has not is left blank."""
    metrics = (*QUALITY, *(f"weighted_{what}" for what in WEIGHTED))
    found = {(row.system, row.metric): row for row in rows}
    return [["system", *(metric.replace("_", " ") for metric in metrics)]] + [
        [system, *(_cell(found.get((system, f"{name}/{metric}"))) for metric in metrics)] for system in SYSTEMS
    ]


def results(rows: Sequence[ResultRow]) -> Table:
    """Return results, one a line."""
    return [["of", "measure", "value", "cases"]] + [[row.system, row.metric, _cell(row), row.n] for row in rows]


def obedience(rows: Sequence[ResultRow], labels: Sequence[str]) -> Table:
    """Return, a label a line, how often it is recovered where it was asked for, where others were, and less that."""
    found = {row.metric: row for row in rows if row.system == MEED2}
    return [["asked for", *(metric.replace("_", " ") for metric in OBEDIENCE)]] + [
        [label, *(_cell(found.get(f"{metric}/{label}")) for metric in OBEDIENCE)] for label in labels
    ]


def draw_obedience(path: Path, asked: Sequence[Mapping[str, list]]) -> Path:
    """Draw what was asked for and what the classifier reads from the replies, 41 x 41, of all seeds."""
    wanted, read = (np.concatenate([one[key] for one in asked]) for key in ("asked", "recovered"))
    matrix = confusion_matrix(wanted, read, labels=range(len(LABELS)))
    return plot_confusion(path, matrix, "MEED2: asked for, and recovered", LABELS, ("asked for", "recovered"))


def draw_distribution(path: Path, answers: Sequence[Answers], chosen: Pairs, name: str) -> Path:
    """Draw how frequent the 41 labels are: in the true responses, in what is foretold, and in MEED2's replies."""

    def shares(ids: Sequence[int]) -> np.ndarray:
        return np.bincount(np.asarray(ids), minlength=len(LABELS)) / len(ids)

    found = {
        "true responses": shares(chosen.emotions),
        "foretold": np.mean([shares(a.predicted) for a in answers], 0),
        "MEED2's replies": np.mean([shares(a.replied) for a in answers], 0),
    }
    return plot_shares(path, found, LABELS, f"Emotions and intents of responses, {name.upper()}")


def write_replies(path: Path, answers: Mapping[tuple[str, str], Sequence[Answers]], chosen: Pairs) -> None:
    """Write what the systems of the first seed reply, as `experiments rate` reads it; no line has a blank."""
    lines = []
    for i, (before, true) in enumerate(zip(chosen.before()[0], chosen.responses, strict=True)):
        context = [turn.text for turn in before.turns]
        replies = {system: answers[system, "ed"][0].replies[i] for system in SYSTEMS}
        if all(text.strip() for text in (*context, *replies.values(), true)):
            lines.append(json.dumps({"context": context, "candidates": replies, "true_reply": true}) + "\n")
    write_text(path, "".join(lines))


def write_samples(
    path: Path,
    answers: Mapping[tuple[str, str], Sequence[Answers]],
    chosen: Pairs,
    asked: Mapping[str, list],
    contexts: Pairs,
) -> None:
    """Write the page: what every system of the first seed answers, and what MEED2 does, told one intent or another."""
    before, _ = chosen.before()
    samples = [
        {
            "turns": [(turn.text, turn.act) for turn in before[i].turns],
            "true": (chosen.responses[i], LABELS[chosen.emotions[i]]),
            "replies": [(system, *_reply(answers[system, "ed"][0], i)) for system in SYSTEMS],
        }
        for i in spread(len(chosen), SHOWN)
    ]
    earlier, _ = contexts.before()
    controlled = [
        {
            "turns": [(turn.text, turn.act) for turn in earlier[i].turns],
            "replies": [(label, *_asked(asked, i * len(LABELS) + LABELS.index(label))) for label in CHOSEN],
        }
        for i in spread(len(contexts), SHOWN // 2)
    ]
    write_text(path, render("meed2_samples.html", samples=samples, controlled=controlled))


def spread(count: int, most: int) -> list[int]:
    """Return so many places of `count` at most, evenly: dialogues of one emotion lie together."""
    return np.linspace(0, count - 1, min(most, count)).astype(int).tolist()


def _reply(answers: Answers, place: int) -> tuple[str, str]:
    """Return a reply and the emotion that it was to have."""
    return answers.replies[place], LABELS[answers.predicted[place]] if len(answers.predicted) else ""


def _asked(asked: Mapping[str, list], place: int) -> tuple[str, str]:
    """Return a reply and the emotion that it is read to have."""
    return asked["replies"][place], LABELS[asked["recovered"][place]]


def _cell(row: ResultRow | None) -> str:
    return "" if row is None else number(vars(row))

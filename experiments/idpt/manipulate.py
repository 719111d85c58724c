"""What a chosen initiative changes: the share of questions and of proposals among replies in the same contexts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import permutation_test

from dialog_envs import corpora
from dialog_envs.corpora.initiative import INITIATIVES, InitiativeTurn
from dialog_envs.lm.decoding import Sampling
from dialog_envs.scenarios import recommend
from dialog_envs.scenarios.phrasing import load_data
from dialog_envs.speakers.idpt import IDPT, POCKET, WEIGHTS
from experiments.idpt import data
from experiments.idpt.evaluation import groups
from experiments.rendering import markdown
from experiments.run_folder import ResultRow, open_run, write_json, write_results, write_text
from experiments.statistics import crossed_ci95

BATCH = 64
RESAMPLES = 99_999
PROPOSAL = re.compile(
    r"\b(?:how|what) about\b|\bi (?:\w+ )?(?:suggest|recommend|propose)\b|\bi can recommend\b|\bmy idea is\b"
    r"|\b(?:let's|let us|let me offer)\b|\bwould you (?:\w+ )?(?:like|consider|be (?:willing|interested)|donate)\b"
    r"|\bwhy not\b|\byou (?:could|should|might (?:like|enjoy)|can (?:try|take|donate|choose))\b|\btry \w+"
    r"|\bhave you (?:seen|thought of|heard of|considered)\b|\bi have .+ for you\b|\bcould be for you\b"
    r"|\bi know just the thing\b|^maybe .+\?"
)
OFFERS = tuple(
    entry.split(": ")[0]
    for domain in load_data(recommend.KIND)["domains"].values()
    for of_split in domain["options"].values()
    for entry in of_split
)


def asks(text: str, turn: InitiativeTurn) -> bool:
    """Tell whether a reply holds a question."""
    return "?" in text


def proposes(text: str, turn: InitiativeTurn) -> bool:
    """Tell whether a reply has the form of a proposal, or names what its speaker has to offer."""
    plain, situation = text.lower(), turn.dialogue.situations.get(turn.speaker, "")
    return bool(PROPOSAL.search(plain)) or any(offer in plain and offer in situation for offer in OFFERS)


SHARES = {"questions": asks, "proposals": proposes}


@dataclass(frozen=True)
class Config:
    """Let each initiative answer the same turns with the same dice, and compare the answers."""

    out: Path = Path("runs/idpt_manipulate")
    """Run folder."""
    initiatives: tuple[Path, ...] = (POCKET,)
    """The sets, one a seed: the shipped one, or folders `model` of runs of `idpt train`."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    corpora: tuple[str, ...] = ("inspired", "p4g")
    """Corpora whose evaluation parts are answered, beside generated dialogues with held-out values."""
    contexts: int = 200
    """Turns of each."""
    context_turns: int = 4
    """Most turns before a turn of a corpus that are shown."""
    max_new_tokens: int = 24
    """Longest reply."""
    device: str = "cpu"
    """Where the models run, as torch names it."""
    threads: int = 2
    """CPU threads."""


def run(config: Config) -> Path:
    """Answer, measure and write the table; return the run folder."""
    torch.set_num_threads(config.threads)
    root = corpora.root(config.data) if config.corpora else Path()
    sources = [*data.files(config.corpora, root), *(folder / WEIGHTS for folder in config.initiatives)]
    sets = [IDPT.from_pretrained(folder, device=config.device) for folder in config.initiatives]
    out = open_run(config.out, "idpt manipulate", config, sources)
    contexts = {data.GRAMMAR: data.grammar_turns(config.contexts, "heldout", 2)}
    for name in config.corpora:
        contexts[name] = data.sample(data.read_parts(name, root, config.context_turns).evaluation, config.contexts, 0)
    rows, answers = [], {}
    for name, turns in contexts.items():
        answers[name] = {
            label: [reply(idpt, turns, i, config.max_new_tokens) for idpt in sets]
            for i, label in enumerate(INITIATIVES)
        }
        rows += measure(name, answers[name], turns)
    write_results(out, rows)
    write_json(out / "replies.json", answers)
    text = "\n".join([table(rows, contexts), data.seen_note(sets[0].names, list(contexts))])
    write_text(out / "table.md", text)
    print(text)
    return out


def reply(idpt: IDPT, turns: Sequence[InitiativeTurn], initiative: int, tokens: int) -> list[str]:
    """Return a reply in each context with one initiative; the dice are the context's own."""
    said = []
    for first in range(0, len(turns), BATCH):
        some = turns[first : first + BATCH]
        dice = [np.random.default_rng(first + i) for i in range(len(some))]
        speakers = [turn.speaker for turn in some]
        said += idpt.speak([turn.dialogue for turn in some], speakers, dice, initiative, Sampling(tokens))
    return said


def measure(
    name: str, answers: Mapping[str, Sequence[Sequence[str]]], turns: Sequence[InitiativeTurn]
) -> list[ResultRow]:
    """Return each initiative's shares, and p of the difference between the first initiative and the last.

    Args:
        name: of the contexts.
        answers: initiative -> each set's answers.
        turns: the contexts.
    """
    rows, first, last, of = [], INITIATIVES[0], INITIATIVES[-1], groups(turns)
    for metric, has in SHARES.items():
        found = {
            label: np.array([list(map(has, texts, turns)) for texts in of_sets], dtype=float)
            for label, of_sets in answers.items()
        }
        for label, values in found.items():
            rows.append(ResultRow(f"{name}/{label}", metric, *crossed_ci95(values, of), len(turns), len(values)))
        p = p_of_difference(found[first].mean(0), found[last].mean(0), of)
        rows.append(ResultRow(name, f"p_{metric}", p, None, len(set(of.tolist())), len(found[first])))
    return rows


def p_of_difference(ones: np.ndarray, others: np.ndarray, dialogues: np.ndarray) -> float:
    """Return p, two-sided, of the difference of paired values `(N,)`, exchanged dialogue by dialogue.

    Values of one dialogue are exchanged together, since they are not independent. Exact where no more than
    `RESAMPLES` exchanges are possible (16 dialogues that differ), else over as many at random.
    """
    member = np.unique(dialogues, return_inverse=True)[1]
    sums = np.array([np.bincount(member, values) for values in (ones, others)])
    sums = sums[:, sums[0] != sums[1]]
    if sums.shape[1] < 2:  # one dialogue alone shows nothing
        return 1.0
    return float(
        permutation_test(
            sums,
            lambda one, other, axis: np.sum(one - other, axis),
            permutation_type="samples",
            n_resamples=RESAMPLES,
            batch=1000,
            vectorized=True,
            rng=0,
        ).pvalue
    )


def table(rows: Sequence[ResultRow], names: Sequence[str] | Mapping[str, object]) -> str:
    """Return the shares as a Markdown table, with p and the note on labels."""
    found = {(row.system, row.metric): row for row in rows}
    lines = [["contexts", "share of", *(f"{i} {label}" for i, label in enumerate(INITIATIVES)), "p, 0 against 3"]]
    for name in names:
        for metric in SHARES:
            cells = [found[f"{name}/{label}", metric] for label in INITIATIVES]
            shares = [f"{cell.value:.2f} ± {cell.ci95:.2f}" for cell in cells]
            lines.append([name, metric, *shares, f"{found[name, f'p_{metric}'].value:.1e}"])
    return markdown(lines) + "\n" + data.label_note(list(names)) + "\n"

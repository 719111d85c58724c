"""The systems that are compared, how each is trained, and how it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from dialog_envs.corpora.initiative import INITIATIVES, InitiativeTurn
from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.prompt import Prompt
from dialog_envs.speakers.idpt import IDPT
from dialog_envs.speakers.idpt_model import IDPTConfig
from dialog_envs.speakers.ppg import ResponseGenerator
from experiments.idpt.training import Training, train
from experiments.ppg.supervised import CHECKPOINT, Example, Supervision, fit
from experiments.run_folder import write_json

BATCH = 64  # turns that are answered together
HA, SA, PREFIX, LABELLED = "ha", "sa", "prefix", "labelled"
ATTENTIONS = {HA: "hard", SA: "soft", PREFIX: "uniform", "no_initiative": "uniform"}  # systems that are one set
DONE = "done.json"
WHAT = (
    "reacts to what the other has said",
    "asks about the other's wishes and experiences",
    "answers the other's question about the offer",
    "makes a proposal",
)
PROMPTS = ("{situation} the next turn {what}.", "this speaker {what} now. {situation}", "{what}. {situation}")


@dataclass(frozen=True)
class System:
    """A system.

    Attributes:
        label: its name in tables.
        needs: the trainings that it answers with; the last one, where it chooses an initiative, is what recognises.
    """

    label: str
    needs: tuple[str, ...]


SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        "frozen": System("the language model as it is", ()),
        "prompts": System("manual prompt ensembling", (HA,)),
        "simpletod": System("label, then reply (SimpleTOD)", ("simpletod",)),
        "separate_lms": System("initiative-aware language models", ("separate_lms", HA)),
        PREFIX: System("prefix tuning", (PREFIX,)),
        "separate_prefixes": System("prefix tuning for each initiative", ("separate_prefixes", HA)),
        SA: System("IDPT-SA", (SA,)),
        HA: System("IDPT-HA", (HA,)),
        LABELLED: System("IDPT-HA, labelled initiative", (HA,)),
        "averaged": System("IDPT-HA, averaged prefixes", (HA,)),
        "random": System("IDPT-HA, a random initiative", (HA,)),
        "no_initiative": System("four prefixes, no initiative", ("no_initiative",)),
    }
)
ABLATIONS = (LABELLED, "averaged", "random", "no_initiative")


@dataclass(frozen=True)
class Cell:
    """One training: of what, on how much, with prefixes how long, from which seed."""

    corpus: str
    trained: str
    size: int
    length: int
    seed: int

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.corpus}_{self.trained}_{self.size}_{self.length}_{self.seed}"


@dataclass(frozen=True)
class Recipe:
    """What all trainings have in common.

    Attributes:
        lm: the language model, by name or folder; `encoder` likewise.
        training: how sets are trained, and but for the rate whole language models.
        finetuning_rate: peak rate for whole language models.
        device: where all run.
    """

    lm: str
    encoder: str
    training: Training
    finetuning_rate: float
    device: str = "cpu"

    @property
    def models(self) -> tuple[str, str, str]:
        """Language model, encoder and device."""
        return self.lm, self.encoder, self.device

    @property
    def finetuning(self) -> Supervision:
        """How whole language models are trained: as often through the same turns as sets."""
        names = ("epochs", "batch_size", "clip", "checkpoint_every", "bf16")
        same = {name: getattr(self.training, name) for name in names}
        return Supervision(learning_rate=self.finetuning_rate, **same)


@dataclass(frozen=True)
class Answer:
    """What a system says, and which initiatives it took (-1: unreadable), or None if it takes none."""

    responses: list[str]
    initiatives: list[int] | None

    @classmethod
    def load(cls, path: Path) -> Answer:
        """Read one from a JSON file."""
        return cls(**json.loads(path.read_text()))


def prepare(cell: Cell, turns: Sequence[InitiativeTurn], recipe: Recipe, folder: Path) -> Path:
    """Train what a cell needs, where that is not done; return its folder."""
    models, target = recipe.models, folder / cell.name
    if cell.trained in ATTENTIONS:
        count = 1 if cell.trained == PREFIX else len(INITIATIVES)
        made_of = IDPTConfig(count, cell.length, ATTENTIONS[cell.trained])
        return train(turns, made_of, models, recipe.training, cell.seed, target, cell.name)
    if cell.trained == "separate_prefixes":
        for part, own in zip(parts(target), by_initiative(turns), strict=True):
            made_of, label = IDPTConfig(1, cell.length, "uniform"), f"{cell.name} {part.name}"
            train(own, made_of, models, recipe.training, cell.seed, part, label)
    elif cell.trained == "simpletod":
        finetune(turns, [labelled(turn) for turn in turns], recipe, cell.seed, target, cell.name)
    elif cell.trained == "separate_lms":
        for part, own in zip(parts(target), by_initiative(turns), strict=True):
            finetune(own, [turn.response for turn in own], recipe, cell.seed, part, f"{cell.name} {part.name}")
    return target


def finetune(
    turns: Sequence[InitiativeTurn], texts: Sequence[str], recipe: Recipe, seed: int, folder: Path, label: str
) -> None:
    """Train a whole language model to say texts, where that is not done, and save it."""
    if (folder / DONE).exists():
        return
    generator = ResponseGenerator.from_pretrained(recipe.lm, recipe.device)
    prompts = _prompts(generator.lm, turns)
    examples = [Example(prompt, ids) for prompt, ids in zip(prompts, generator.encode(texts), strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    losses = fit(generator, examples, recipe.finetuning, seed, folder, label) if examples else []
    generator.save_pretrained(folder / "model")
    write_json(folder / DONE, {"losses": losses})
    (folder / CHECKPOINT).unlink(missing_ok=True)


@torch.no_grad()
def answer(
    name: str,
    folders: Sequence[Path],
    lm: FrozenLM,
    turns: Sequence[InitiativeTurn],
    learned: Sequence[InitiativeTurn],
    seed: int,
    tokens: int,
) -> Answer:
    """Let a system say each turn, greedily.

    Args:
        name: which system.
        folders: what it needs, trained.
        lm: the frozen language model.
        turns: what is to be said.
        learned: what the system learned from. By their labels the classes of IDPT-SA, which has seen none, get names.
        seed: of the random initiatives.
        tokens: greatest length, without the label that SimpleTOD writes first.
    """
    greedy = Sampling(tokens, temperature=0.0, min_p=0.0)
    if name == "frozen":
        return Answer(_reply(lm, turns, greedy), None)
    if name == "simpletod":
        own = _finetuned(folders[0], lm)
        return Answer(*parted(_reply(own.lm, turns, replace(greedy, max_new_tokens=tokens + label_tokens(own)))))
    idpt = _set(folders[-1], lm)
    if idpt.recogniser is None:
        return Answer(_speak(idpt, turns, greedy), None)
    if name == "averaged":
        return Answer(_speak(idpt, turns, greedy, attention="uniform"), None)
    if name == LABELLED:
        return Answer(_speak(idpt, turns, greedy, [turn.initiative for turn in turns]), None)
    found = _recognised(idpt, turns)
    if name == SA:
        names = class_names(_recognised(idpt, learned), [turn.initiative for turn in learned])
        return Answer(_speak(idpt, turns, greedy), names[found].tolist())
    if name == "random":
        found = np.random.default_rng(seed).integers(len(INITIATIVES), size=len(turns)).tolist()
        return Answer(_speak(idpt, turns, greedy, found), found)
    if name == "prompts":
        views = [prompted(turn, label, form) for turn, label in zip(turns, found, strict=True) for form in PROMPTS]
        return Answer(_reply(lm, views, greedy, len(PROMPTS)), found)
    if name == "separate_prefixes":
        each = [partial(_speak, _set(folder, lm)) for folder in parts(folders[0])]
        return Answer(_separately(found, turns, each, greedy), found)
    if name == "separate_lms":
        each = [partial(_reply, _finetuned(folder, lm).lm) for folder in parts(folders[0])]
        return Answer(_separately(found, turns, each, greedy), found)
    return Answer(_speak(idpt, turns, greedy), found)


def class_names(classes: Sequence[int], labels: Sequence[int]) -> np.ndarray:
    """Return an initiative for each class, one to one, so that as many classes as can be agree with the labels."""
    table = np.zeros((len(INITIATIVES), len(INITIATIVES)), dtype=int)
    np.add.at(table, (np.asarray(classes), np.asarray(labels)), 1)
    return linear_sum_assignment(table, maximize=True)[1]


def parts(folder: Path) -> list[Path]:
    """Return the folder of each initiative's own model."""
    return [folder / str(number) for number in range(len(INITIATIVES))]


def by_initiative(turns: Sequence[InitiativeTurn]) -> list[list[InitiativeTurn]]:
    """Return the turns of each initiative."""
    return [[turn for turn in turns if turn.initiative == number] for number in range(len(INITIATIVES))]


def labelled(turn: InitiativeTurn) -> str:
    """Return a turn's words behind the name of its initiative."""
    return f"{INITIATIVES[turn.initiative]}: {turn.response}"


def label_tokens(generator: ResponseGenerator) -> int:
    """Return how many tokens the longest name of an initiative takes in front of a reply."""
    return max(map(len, generator.encode([f"{name}:" for name in INITIATIVES]))) - 1  # the end token


def parted(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Return what stands behind the names of initiatives, and the initiatives; -1 where there is no name."""
    cut = [text.partition(": ") for text in texts]
    found = [INITIATIVES.index(name) if name in INITIATIVES and mark else -1 for name, mark, _ in cut]
    words = [part[2] if number >= 0 else text for part, number, text in zip(cut, found, texts, strict=True)]
    return words, found


def prompted(turn: InitiativeTurn, initiative: int, form: str) -> InitiativeTurn:
    """Return a turn whose speaker is told what to do."""
    situation = turn.dialogue.situations.get(turn.speaker, "")
    told = form.format(situation=situation, what=WHAT[initiative]).strip()
    return replace(turn, dialogue=replace(turn.dialogue, situations={turn.speaker: told}))


def _separately(
    chosen: Sequence[int],
    turns: Sequence[InitiativeTurn],
    own: Sequence[Callable[[list[InitiativeTurn], Sampling], list[str]]],
    sampling: Sampling,
) -> list[str]:
    """Let each initiative's own model say the turns for which it was chosen."""
    said = [""] * len(turns)
    for number in sorted(set(chosen)):
        where = [i for i, label in enumerate(chosen) if label == number]
        for i, text in zip(where, own[number]([turns[i] for i in where], sampling), strict=True):
            said[i] = text
    return said


def _finetuned(folder: Path, lm: FrozenLM) -> ResponseGenerator:
    return ResponseGenerator.from_pretrained(folder / "model", str(lm.device))


def _set(folder: Path, lm: FrozenLM) -> IDPT:
    return IDPT.from_pretrained(folder / "model", lm, device=str(lm.device))


def _recognised(idpt: IDPT, turns: Sequence[InitiativeTurn]) -> list[int]:
    return np.concatenate([idpt.recognise(*_views(some)).argmax(1) for some in _batches(turns)]).tolist()


def _speak(
    idpt: IDPT,
    turns: Sequence[InitiativeTurn],
    sampling: Sampling,
    initiatives: Sequence[int] | None = None,
    attention: str | None = None,
) -> list[str]:
    said = []
    for first, some in zip(range(0, len(turns), BATCH), _batches(turns), strict=True):
        generators = [np.random.default_rng(0)] * len(some)  # greedy: nothing is drawn from them
        own = None if initiatives is None else initiatives[first : first + BATCH]
        said += idpt.speak(*_views(some), generators, own, sampling, attention)
    return said


def _reply(lm: FrozenLM, turns: Sequence[InitiativeTurn], sampling: Sampling, voices: int = 1) -> list[str]:
    said = []
    for some in _batches(turns, BATCH * voices):
        uniforms = np.zeros((len(some), sampling.max_new_tokens))
        said += lm.decode(lm.generate(_prompts(lm, some), uniforms, sampling, voices=voices)[::voices])
    return said


def _prompts(lm: FrozenLM, turns: Sequence[InitiativeTurn]) -> list[Prompt]:
    return lm.prompts.render_batch(*_views(turns)) if turns else []


def _views(turns: Sequence[InitiativeTurn]) -> tuple[list[Dialogue], list[str]]:
    return [turn.dialogue for turn in turns], [turn.speaker for turn in turns]


def _batches(turns: Sequence[InitiativeTurn], size: int = BATCH) -> list[Sequence[InitiativeTurn]]:
    return [turns[first : first + size] for first in range(0, len(turns), size)]

"""Context-response pairs of the corpora: every dialogue unrolled, kept as token ids, drawn in batches of one corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dialog_envs import corpora
from dialog_envs.corpora import dailydialogpp
from dialog_envs.dialogue import Dialogue
from experiments.pretrain import TRAIN_CORPORA
from reward_models.dmi.tokens import PairTokenizer
from reward_models.dmi.training import unroll

WEIGHTS = {  # how often a batch is drawn from each training corpus, relative
    "dailydialog": 4.0,
    "empatheticdialogues": 3.0,
    "msc": 0.5,
    "synthetic_persona_chat": 0.4,
    "personachat": 0.5,
    "topical_chat": 0.3,
    "casino": 0.15,
    "inspired": 0.1,
    "p4g": 0.25,
}
VALIDATION = ("dailydialog", "valid")
ADVERSARIAL = ("dailydialogpp", "valid")
Exchange = tuple[str, str]


@dataclass(frozen=True)
class Pair:
    """A context, its response, and the number of the dialogue that they are of."""

    context: tuple[str, ...]
    response: str
    dialogue: int


@dataclass(frozen=True)
class PairSet:
    """A corpus as token ids.

    Attributes:
        turns: ids of every utterance, by dialogue.
        index: `(pairs, 2)` dialogue and turn of every response: all turns but the first.
    """

    turns: Sequence[Sequence[np.ndarray]]
    index: np.ndarray


def read_training(root: Path) -> tuple[dict[str, list[Dialogue]], int]:
    """Return the training dialogues by corpus, and how many were left out.

    Left out is what the validation measures would else have seen: DailyDialog's official splits overlap (a tenth of the
    validation dialogues stands in the training file word by word), and DailyDialog++ takes its contexts from
    DailyDialog. A dialogue goes where two consecutive utterances of it stand in either.
    """
    held_out = held_out_exchanges(root)
    kept, removed = {}, 0
    for name, (split, _) in tqdm(TRAIN_CORPORA.items(), desc="read corpora", unit="corpus"):
        dialogues = [d for d in corpora.read(name, root, split) if len(d.turns) > 1]
        kept[name] = [d for d in dialogues if held_out.isdisjoint(_exchanges([turn.text for turn in d.turns]))]
        removed += len(dialogues) - len(kept[name])
    return kept, removed


def training_files(root: Path) -> list[Path]:
    """Return the files that training and validation read, to hash them."""
    wanted = [(name, split) for name, (split, _) in TRAIN_CORPORA.items()] + [VALIDATION]
    wanted += [ADVERSARIAL] if ADVERSARIAL in corpora.available(root) else []
    return [file for name, split in wanted for file in corpora.files(name, root, split)]


def held_out_exchanges(root: Path) -> set[Exchange]:
    """Return consecutive utterances, two and two, of DailyDialog's validation and DailyDialog++'s contexts."""
    name, split = VALIDATION
    texts = [[turn.text for turn in dialogue.turns] for dialogue in corpora.read(name, root, split)]
    texts += [list(responses.context) for responses in adversarial_responses(root)]
    return {exchange for said in texts for exchange in _exchanges(said)}


def adversarial_responses(root: Path) -> list[dailydialogpp.ResponseSet]:
    """Return DailyDialog++'s contexts with adversarial responses; none where its files are absent."""
    name, split = ADVERSARIAL
    return list(dailydialogpp.read_responses(root / name, split)) if ADVERSARIAL in corpora.available(root) else []


def validation_pairs(root: Path) -> list[Pair]:
    """Return every pair of DailyDialog's validation."""
    name, split = VALIDATION
    return [
        Pair(tuple(context), response, number)
        for number, dialogue in enumerate(corpora.read(name, root, split))
        for context, response in unroll([turn.text for turn in dialogue.turns])
    ]


def tokenize(dialogues: Sequence[Dialogue], tokens: PairTokenizer) -> PairSet:
    """Tokenise every utterance once and list the pairs."""
    ids = iter(tokens.utterances([turn.text for dialogue in dialogues for turn in dialogue.turns]))
    turns = [[np.array(next(ids), dtype=np.int32) for _ in dialogue.turns] for dialogue in dialogues]
    index = [(number, turn) for number, said in enumerate(turns) for turn in range(1, len(said))]
    return PairSet(turns, np.array(index, dtype=np.int32).reshape(-1, 2))


class PairStream:
    """Batches of pairs, each of one corpus, so that what tells responses apart is not the corpus they come from.

    A corpus is gone through in a new random order each time; its last pairs that fill no batch are left out. The order
    depends on the seed alone, and `positions`, how many pairs of each corpus were drawn, is the whole state.

    Args:
        sets: the corpora.
        weights: how often a batch is drawn from each, relative.
        size: pairs a batch, N.
        seed: of the order.
        word_dropout: share of the tokens of every utterance that a batch leaves out, drawn anew each time, so that a
            pair which is met again is another one.

    Raises:
        ValueError: a corpus has fewer pairs than a batch, or the share is not in [0, 1).
    """

    def __init__(
        self,
        sets: Mapping[str, PairSet],
        weights: Mapping[str, float],
        size: int,
        seed: int,
        word_dropout: float = 0.0,
    ) -> None:
        if not 0 <= word_dropout < 1:
            raise ValueError(f"word_dropout is {word_dropout}, expected a number in [0, 1)")
        for name, pairs in sets.items():
            if len(pairs.index) < size:
                raise ValueError(f"{name} has {len(pairs.index)} pairs, a batch takes {size}")
        self.sets, self.size, self.seed, self.word_dropout = sets, size, seed, word_dropout
        self.names = sorted(sets)
        weight = np.array([weights[name] for name in self.names])
        self.shares = weight / weight.sum()
        self.positions = dict.fromkeys(self.names, 0)

    def draw(self, step: int, tokens: PairTokenizer) -> tuple[list[list[int]], list[list[int]]]:
        """Return the ids of a step's contexts and responses, the shortest contexts first, and move on."""
        number = np.random.default_rng([self.seed, 0, step]).choice(len(self.names), p=self.shares)
        name = self.names[number]
        pairs = self.sets[name]
        epoch, place = divmod(self.positions[name], len(pairs.index) // self.size * self.size)
        order = np.random.default_rng([self.seed, 1, number, epoch]).permutation(len(pairs.index))
        self.positions[name] += self.size
        chance = np.random.default_rng([self.seed, 2, step])
        rows = []
        for dialogue, turn in pairs.index[order[place : place + self.size]]:
            said = [self._thinned(ids, chance).tolist() for ids in pairs.turns[dialogue][: turn + 1]]
            rows.append((tokens.context(said[:-1]), tokens.response(said[-1])))
        rows.sort(key=lambda row: len(row[0]))
        contexts, responses = zip(*rows, strict=True)
        return list(contexts), list(responses)

    def _thinned(self, ids: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """Return an utterance without the tokens that are left out; one is always kept."""
        if not self.word_dropout:
            return ids
        kept = chance.random(len(ids)) >= self.word_dropout
        return ids[kept] if kept.any() else ids[:1]


def bare(text: str) -> str:
    """Return the letters and digits of a text, in lower case: texts that differ in marks and spaces alone are equal."""
    return "".join(character for character in text.lower() if character.isalnum())


def _exchanges(said: Sequence[str]) -> set[Exchange]:
    plain = [bare(text) for text in said]
    return set(zip(plain, plain[1:], strict=False))

"""Dialogues as MEED2 learns from them: token ids, an emotion or intent a turn, and who spoke."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from agents.checkpoint import load_tree, save_tree
from dialog_envs import corpora
from dialog_envs.dialogue import Dialogue, Turn
from dialog_envs.lm.pocket_tokenizer import train_tokenizer
from dialog_envs.speakers.meed2 import IDS, Classifier, context_row
from dialog_envs.speakers.meed2_model import Context
from experiments import curate
from experiments.curate.selection import emotionality, most_emotional
from experiments.dmi import pairs
from experiments.meed2.config import Config
from reward_models.emotion_labels import LABELS

TAGGED_TOGETHER = 500  # dialogues
ED = "empathetic_intents"  # EmpatheticDialogues with a label a turn
PARTS = ("train", "valid")
IGNORED = -100  # target of a place without a token


@dataclass(frozen=True)
class Pairs:
    """Responses with what was said before, of dialogues whose turns' acts are labels.

    Attributes:
        dialogues: the dialogues.
        ids: token ids of every turn, by dialogue.
        index: `(n, 2)` dialogue and turn of every response.
        begin, end: the tokens around a reply.
    """

    dialogues: Sequence[Dialogue]
    ids: Sequence[Sequence[Sequence[int]]]
    index: np.ndarray
    begin: int
    end: int

    def __len__(self) -> int:
        return len(self.index)

    def at(self, rows: Sequence[int]) -> Pairs:
        """Return some of the pairs."""
        return replace(self, index=self.index[np.asarray(rows, dtype=int)])

    def sample(self, count: int, seed: int) -> Pairs:
        """Return so many pairs drawn at random, all of them where there are fewer."""
        return self.at(np.sort(np.random.default_rng(seed).permutation(len(self))[:count]))

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each context and its reply."""
        return [sum(map(len, self.ids[dialogue][: turn + 1])) for dialogue, turn in self.index]

    @property
    def emotions(self) -> np.ndarray:
        """Id of each response's emotion or intent, `(n,)`."""
        return np.array([IDS[self.dialogues[d].turns[t].act] for d, t in self.index], dtype=np.int64)

    @property
    def responses(self) -> list[str]:
        """The responses' texts."""
        return [self.dialogues[d].turns[t].text for d, t in self.index]

    def before(self) -> tuple[list[Dialogue], list[str]]:
        """Return the dialogue up to each response, and who gives it under the name `speaker`."""
        cut = [replace(self.dialogues[d], turns=self.dialogues[d].turns[:t]) for d, t in self.index]
        return cut, [self.dialogues[d].turns[t].speaker for d, t in self.index]

    def contexts(self, longest: int) -> Context:
        """Return what the networks read before each response."""
        rows = []
        for dialogue, turn in self.index:
            turns = self.dialogues[dialogue].turns
            own = [each.speaker == turns[turn].speaker for each in turns[:turn]]
            emotions = [IDS[each.act] for each in turns[:turn]]
            rows.append(context_row(self.ids[dialogue][:turn], emotions, own, self.end, longest))
        return Context.pad(rows)

    def replies(self, longest: int) -> tuple[Tensor, Tensor]:
        """Return the decoder's input `(n, T)` and its targets, `IGNORED` behind the end; long ones are cut."""
        cut = [self.ids[dialogue][turn][: longest - 1] for dialogue, turn in self.index]
        size = max(map(len, cut)) + 1
        given, wanted = torch.zeros(len(cut), size, dtype=torch.long), torch.full((len(cut), size), IGNORED)
        for row, ids in enumerate(cut):
            given[row, : len(ids) + 1] = torch.tensor([self.begin, *ids])
            wanted[row, : len(ids) + 1] = torch.tensor([*ids, self.end])
        return given, wanted


@dataclass(frozen=True)
class Sets:
    """What a run learns from and is measured on.

    Attributes:
        tokenizer: of all.
        train: pairs by `os`, `edos` and `ed`.
        valid: the same.
        threshold: emotionality from which on a dialogue of the validation belongs to EDOS.
    """

    tokenizer: PreTrainedTokenizerBase
    train: dict[str, Pairs]
    valid: dict[str, Pairs]
    threshold: float


def files(root: Path, curated: Path | None) -> list[Path]:
    """Return the files that are read, of the corpora and of a curated folder.

    Raises:
        FileNotFoundError: an official file is missing, or the folder holds no curated dialogues.
    """
    if curated is None:
        general = pairs.training_files(root)
    elif general := sorted((curated / "parts").glob("*.jsonl")):
        general += corpora.files(pairs.VALIDATION[0], root, pairs.VALIDATION[1])
    else:
        raise FileNotFoundError(f"no curated dialogues in {curated}: `python -m experiments curate` makes them")
    return [*general, *(file for part in PARTS for file in corpora.files(ED, root, part))]


def read(config: Config, root: Path, classifier: Classifier) -> Sets:
    """Read the dialogues; tokenizer and tags are made once and kept in the run folder.

    Args:
        config: how many of which.
        root: folder of the corpora.
        classifier: tags general dialogue; EmpatheticDialogues comes with labels.
    """
    out = config.out
    general = general_dialogues(root) if config.curated is None else curated_dialogues(config.curated)
    order = np.random.default_rng(0).permutation(len(general))[: config.general]  # always the same ones
    dialogues = {"os": [general[i] for i in np.sort(order)], "ed": list(corpora.read(ED, root, "train"))}
    valid = {"os": list(corpora.read(*pairs.VALIDATION[:1], root, pairs.VALIDATION[1]))}
    valid["ed"] = list(corpora.read(ED, root, "valid"))
    tokenizer = _tokenizer(out / "tokenizer", [*dialogues["os"], *dialogues["ed"]], config.vocab_size)
    path = out / "tags.safetensors"
    if not path.exists():
        save_tree(path, {part: tag(of["os"], classifier) for part, of in zip(PARTS, (dialogues, valid), strict=True)})
    tags = load_tree(path)
    for part, of in zip(PARTS, (dialogues, valid), strict=True):
        of["os"] = tagged(of["os"], tags[part]["labels"])
    scores = tags["train"]["emotionality"]
    texts = [[turn.text for turn in dialogue.turns] for dialogue in dialogues["os"]]
    chosen = list(most_emotional(zip(scores, texts, strict=True), config.most_emotional))
    threshold = float(scores[chosen].min())
    dialogues["edos"] = [dialogues["os"][i] for i in chosen]
    valid["edos"] = [valid["os"][i] for i in np.flatnonzero(tags["valid"]["emotionality"] >= threshold)]
    made = [{name: make_pairs(of[name], tokenizer) for name in of} for of in (dialogues, valid)]
    return Sets(tokenizer, *made, threshold)


def general_dialogues(root: Path) -> list[Dialogue]:
    """Return the training dialogues of all corpora but EmpatheticDialogues, without blank turns."""
    by_corpus, _ = pairs.read_training(root)
    found = [dialogue for name, of in by_corpus.items() if name != "empatheticdialogues" for dialogue in of]
    return [replace(each, turns=tuple(turn for turn in each.turns if turn.text.strip())) for each in found]


def curated_dialogues(folder: Path) -> list[Dialogue]:
    """Return the dialogues of a run folder of `curate`; two speakers take turns, as they were cut."""
    return [
        Dialogue(tuple(Turn("ab"[i % 2], text) for i, text in enumerate(said)), source="curated")
        for said in curate.read(folder, "dialogues")
    ]


def tag(dialogues: Sequence[Dialogue], classifier: Classifier) -> dict[str, np.ndarray]:
    """Return the most probable label's id of every turn, in order, and each dialogue's emotionality."""
    labels, scores = [], []
    for first in tqdm(range(0, len(dialogues), TAGGED_TOGETHER), desc="tag utterances", unit="part"):
        texts = [[turn.text for turn in d.turns] for d in dialogues[first : first + TAGGED_TOGETHER]]
        scores.append(emotionality(texts, classifier))
        labels.append(classifier([text for said in texts for text in said]).argmax(1))
    return {"labels": np.concatenate(labels).astype(np.int16), "emotionality": np.concatenate(scores)}


def tagged(dialogues: Sequence[Dialogue], labels: Sequence[int]) -> list[Dialogue]:
    """Return dialogues whose turns' acts are the labels of these ids, in order."""
    given = iter(labels)
    return [replace(d, turns=tuple(replace(turn, act=LABELS[next(given)]) for turn in d.turns)) for d in dialogues]


def make_pairs(dialogues: Sequence[Dialogue], tokenizer: PreTrainedTokenizerBase) -> Pairs:
    """Tokenise every turn once and list the responses: all turns but each dialogue's first."""
    texts = [turn.text for dialogue in dialogues for turn in dialogue.turns]
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"] if texts else []
    given = iter(encoded)
    ids = [[next(given) for _ in dialogue.turns] for dialogue in dialogues]
    index = [(number, turn) for number, said in enumerate(ids) for turn in range(1, len(said))]
    index_array = np.array(index, dtype=np.int64).reshape(-1, 2)
    return Pairs(dialogues, ids, index_array, tokenizer.bos_token_id, tokenizer.eos_token_id)


def _tokenizer(folder: Path, dialogues: Sequence[Dialogue], vocab_size: int) -> PreTrainedTokenizerBase:
    if not (folder / "tokenizer.json").exists():
        texts = (turn.text for dialogue in dialogues for turn in dialogue.turns)
        train_tokenizer(texts, vocab_size, max_length=1024).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)

"""Which of 41 emotions and intents an utterance has: a classifier over any encoder, with calibrated probabilities.

MEED2 (Xie and Pu, CoNLL 2021) has RoBERTa for it; here the project's small encoder is the default, and any other can be
named. It is trained by `reward_models/emotion_training.py`. `valence` turns its probabilities into one number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reward_models.dmi.encoder import DialogueEncoder, encoder_source, replaced_folder
from reward_models.emotion_labels import EMOTIONS, LABELS

POCKET = Path(__file__).parent / "emotion_pocket"
"""Where the classifier that is shipped lies: float16, at most 6 MiB beside the shipped encoder."""
SETTINGS, WEIGHTS = "emotion.json", "emotion.safetensors"
REMEMBERED = 1 << 16  # utterances whose probabilities are kept

# Emotions that VADER's lexicon lacks, and the word in it that stands for each.
STANDS_FOR = {
    "afraid": "scared",
    "anticipating": "anticipation",
    "apprehensive": "apprehension",
    "content": "contented",
    "nostalgic": "sentimental",
}


@dataclass(frozen=True)
class EmotionConfig:
    """What a classifier is made of; a saved one keeps it."""

    encoder: str = "pocket"
    """The project's small encoder (`"pocket"`), a folder, or a Hugging Face name such as `roberta-base`."""
    max_tokens: int = 100
    """Longest utterance in tokens; the last ones go."""
    dropout: float = 0.2
    """Of the pooled vectors, in training."""


class EmotionClassifier(nn.Module):
    """An encoder, what it says of an utterance (first token, mean, maximum), and a linear layer to 41 classes.

    Attributes:
        encoder: the encoder.
        head: vectors `(N, 3 H)` -> logits `(N, 41)`.
        config: what the classifier is made of.
        temperature: divides the logits; 1 before calibration.
        card: what is known of it (accuracy, calibration, ...), plain JSON.
    """

    def __init__(self, encoder: DialogueEncoder, config: EmotionConfig = EmotionConfig()) -> None:
        super().__init__()
        self.encoder, self.config, self.card = encoder, config, {}
        size = 3 * encoder.hidden_size
        self.head = nn.Sequential(nn.LayerNorm(size), nn.Dropout(config.dropout), nn.Linear(size, len(LABELS))).to(
            encoder.device
        )
        self.temperature = 1.0
        self._known: dict[str, np.ndarray] = {}

    @classmethod
    def from_encoder(cls, name_or_folder: str | Path = "pocket", seed: int = 0, **settings: Any) -> EmotionClassifier:
        """Return an untrained classifier over an encoder; `settings` are other fields of `EmotionConfig`.

        Raises:
            FileNotFoundError, ValueError: as `DialogueEncoder.from_pretrained`.
        """
        config = EmotionConfig(str(name_or_folder), **settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(DialogueEncoder.from_pretrained(encoder_source(config.encoder)), config)

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of utterances."""
        tokens = self.encoder.tokens
        return [tokens.response(ids[: self.config.max_tokens]) for ids in tokens.utterances(texts)]

    def logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return logits `(N, 41)` of rows of token ids, float32, with gradient, before calibration."""
        ids, mask = (tensor.to(self.encoder.device) for tensor in self.encoder.tokens.pad(rows))
        hidden = self.encoder.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        inside = mask.unsqueeze(-1)
        mean = (hidden * inside).sum(1) / inside.sum(1)
        highest = hidden.masked_fill(~inside, -torch.inf).amax(1)
        return self.head(torch.cat([hidden[:, 0], mean, highest], 1))

    @torch.no_grad()
    def row_logits(self, rows: Sequence[Sequence[int]], batch_size: int = 128) -> Tensor:
        """Return logits `(N, 41)` on the CPU, without dropout or gradient, like lengths together."""
        training = self.training
        self.eval()
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found = torch.zeros(len(rows), len(LABELS))
        for first in range(0, len(rows), batch_size):
            chosen = order[first : first + batch_size]
            found[chosen] = self.logits([rows[i] for i in chosen]).cpu()
        self.train(training)
        return found

    def __call__(self, texts: Sequence[str], batch_size: int = 128) -> np.ndarray:
        """Return the calibrated probabilities `(N, 41)` of utterances, float64; rows sum to 1.

        Each different utterance is read once.

        Raises:
            TypeError: `texts` is one string.
            ValueError: an utterance has no word; the message says which.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts is a str ({texts!r:.60}), expected a sequence of them")
        for number, text in enumerate(texts):
            if not text.strip():
                raise ValueError(f"texts[{number}] is blank, expected an utterance")
        if len(self._known) > REMEMBERED:
            self._known.clear()
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        logits = self.row_logits(self.rows(new), batch_size).double() / self.temperature
        self._known |= zip(new, logits.softmax(-1).numpy(), strict=True)
        return np.array([self._known[text] for text in texts]).reshape(len(texts), len(LABELS))

    def forget(self) -> None:
        """Drop the probabilities that are kept for speed: for after a change of the weights."""
        self._known.clear()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights (float16, the encoder's own among them) and settings to a folder that is replaced whole.

        The tokenizer stays with the encoder that the classifier started from.
        """
        weights = {**_named("head", self.head), **_named("encoder", self.encoder.model)}
        settings = {"config": asdict(self.config), "temperature": self.temperature, "card": self.card}
        settings |= {"vocabulary": _vocabulary(self.encoder), "labels": LABELS}
        with replaced_folder(folder) as temporary:
            save_file(
                {name: value.detach().half().contiguous() for name, value in weights.items()}, temporary / WEIGHTS
            )
            (temporary / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path = "pocket") -> EmotionClassifier:
        """Return the frozen classifier that `save_pretrained` wrote; by default the shipped one.

        Raises:
            FileNotFoundError: there is none, or the encoder that it started from is not there.
            ValueError: that encoder has another vocabulary or size by now, or the labels are others.
        """
        folder = POCKET if folder == "pocket" else Path(folder)
        for name in (SETTINGS, WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"no emotion classifier in {folder}: {name} is missing (`python -m experiments meed2 classify` "
                    "trains one)"
                )
        settings = json.loads((folder / SETTINGS).read_text())
        if settings["labels"] != list(LABELS):
            raise ValueError(f"{folder / SETTINGS} has other labels than this version, or in another order")
        config = EmotionConfig(**settings["config"])
        found = cls(DialogueEncoder.from_pretrained(encoder_source(config.encoder)), config)
        if settings["vocabulary"] != _vocabulary(found.encoder):
            raise ValueError(
                f"{folder} was trained with another vocabulary than that of the encoder {config.encoder!r}"
            )
        weights = load_file(folder / WEIGHTS)
        own = {**_named("head", found.head), **_named("encoder", found.encoder.model)}
        if {n: tuple(v.shape) for n, v in weights.items()} != {n: tuple(v.shape) for n, v in own.items()}:
            raise ValueError(
                f"{folder / WEIGHTS} holds other weights than {config.encoder!r} and its {SETTINGS} describe"
            )
        for name, value in weights.items():
            own[name].data.copy_(value)
        found.temperature, found.card = settings["temperature"], settings["card"]
        return found.eval().requires_grad_(False)


def valence(probabilities: np.ndarray) -> np.ndarray:
    """Return the expected valence `(N,)`, in [-0.75, 0.725], of probabilities `(N, 41)`: how pleasant it is."""
    table = valences()
    return np.asarray(probabilities) @ np.array([table[label] for label in LABELS])


@lru_cache(maxsize=1)
def valences() -> Mapping[str, float]:
    """Return the valence of every label, in [-1, 1].

    Of an emotion it is the mean rating of its word in VADER's lexicon (Hutto and Gilbert, ICWSM 2014: ten people, from
    -4, extremely negative, to 4), over 4; the few that the lexicon lacks are rated by a near word (`STANDS_FOR`). An
    intent is what a listener does about feelings and not a feeling, and neutral is none: 0.
    """
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    lexicon = SentimentIntensityAnalyzer().lexicon
    return {label: lexicon[STANDS_FOR.get(label, label)] / 4 if label in EMOTIONS else 0.0 for label in LABELS}


def _named(prefix: str, module: nn.Module) -> dict[str, nn.Parameter]:
    return {f"{prefix}.{name}": value for name, value in module.named_parameters()}


def _vocabulary(encoder: DialogueEncoder) -> str:
    return hashlib.sha256(json.dumps(sorted(encoder.tokens.tokenizer.get_vocab().items())).encode()).hexdigest()

"""The coherence of a response: the calibrated probability that it is the true one and not a random one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from reward_models.calibration import Reliability, reliability
from reward_models.dmi.encoder import POCKET, DialogueEncoder

CALIBRATION = "calibration.json"
NEGATIVES = 8
"""Random responses that each context is calibrated with."""


@dataclass(frozen=True)
class Calibration:
    """A logistic map from scores to the probability that a response is the true one of two, true and random.

    Its three inputs are f(c, r), f(c, r0) and f(c0, r), where c0 and r0 are mean vectors. The score is a log-ratio up
    to terms that hang on the context or the response alone (`infonce` leaves them free), and these stand for them.

    Attributes:
        weights: of the three inputs.
        intercept: added to them.
        mean_context: c0, H numbers.
        mean_response: r0, H numbers.
        pairs: pairs that it was fitted on.
        accuracy: how often, on contexts held out from the fit, the true response's probability is above a random one's.
        reliability: what became of the probabilities of those, true and one random response each; a Brier score of 0.25
            says nothing.
    """

    weights: tuple[float, float, float]
    intercept: float
    mean_context: tuple[float, ...]
    mean_response: tuple[float, ...]
    pairs: int
    accuracy: float
    reliability: Reliability

    def save(self, folder: str | Path) -> None:
        """Write `calibration.json` to an encoder's folder."""
        path = Path(folder) / CALIBRATION
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self)) + "\n")
        temporary.replace(path)

    @classmethod
    def load(cls, folder: str | Path) -> Calibration:
        """Read an encoder's `calibration.json`.

        Raises:
            FileNotFoundError: there is none; the message says what makes it.
        """
        path = Path(folder) / CALIBRATION
        if not path.is_file():
            raise FileNotFoundError(f"no {path}: `fit_calibration(encoder, pairs, rng).save(folder)` makes it")
        values = json.loads(path.read_text())
        found = Reliability(**_tuples(values.pop("reliability")))
        return cls(**_tuples(values), reliability=found)


def fit_calibration(
    encoder: DialogueEncoder, pairs: Sequence[tuple[Sequence[str], str]], rng: np.random.Generator
) -> Calibration:
    """Fit the calibration on pairs that the encoder was not trained on.

    Args:
        encoder: gives the scores.
        pairs: (context, true response). The random responses are those of other pairs, with another text.
        rng: draws them.

    Raises:
        ValueError: fewer than 10 pairs, or fewer than two different responses.
    """
    texts, number = np.unique([response for _, response in pairs], return_inverse=True)
    if len(pairs) < 10 or len(texts) < 2:
        raise ValueError(f"{len(pairs)} pairs with {len(texts)} different responses, expected 10 and 2 or more")
    contexts = encoder.encode_contexts([context for context, _ in pairs])
    responses = encoder.encode_responses([response for _, response in pairs])
    means = contexts.mean(0), responses.mean(0)
    columns = np.column_stack([np.arange(len(pairs)), _others(number, rng)])  # (n, 1 + NEGATIVES), the true one first
    repeated = np.repeat(np.arange(len(pairs)), columns.shape[1])
    inputs = _inputs(encoder, contexts[repeated], responses[columns.ravel()], *means)
    true = np.tile(np.arange(columns.shape[1]) == 0, len(pairs))
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    held_out = cross_val_predict(model, inputs, true, groups=repeated, cv=GroupKFold(5), method="predict_proba")[:, 1]
    model.fit(inputs, true)
    scale, logistic = model[0], model[1]
    weights = logistic.coef_[0] / scale.scale_
    found = held_out.reshape(columns.shape)
    above = (found[:, :1] > found[:, 1:]) + 0.5 * (found[:, :1] == found[:, 1:])
    return Calibration(
        weights=tuple(weights.tolist()),
        intercept=float(logistic.intercept_[0] - weights @ scale.mean_),
        mean_context=tuple(means[0].tolist()),
        mean_response=tuple(means[1].tolist()),
        pairs=len(pairs),
        accuracy=float(above.mean()),
        reliability=reliability(found[:, :2].ravel(), true.reshape(columns.shape)[:, :2].ravel()),
    )


class CoherenceReward:
    """How well a response goes with its context, in [0, 1].

    The value is the probability that the response is the true one, had a fair coin chosen between it and a random
    response of the calibration's corpus: 0.5 is a response that says nothing of its context.

    Args:
        encoder: a DMI encoder.
        calibration: fitted for it.

    Raises:
        ValueError: the calibration was fitted for another encoder: its vectors have another size.
    """

    def __init__(self, encoder: DialogueEncoder, calibration: Calibration) -> None:
        if len(calibration.mean_context) != encoder.hidden_size:
            size = len(calibration.mean_context)
            raise ValueError(f"the calibration is for vectors of size {size}, the encoder's are {encoder.hidden_size}")
        self.encoder, self.calibration = encoder, calibration
        self._means = torch.tensor([calibration.mean_context, calibration.mean_response])

    @classmethod
    def from_pretrained(cls, folder: str | Path = POCKET) -> CoherenceReward:
        """Load encoder and calibration from one folder; without one, the encoder that is shipped.

        Raises:
            FileNotFoundError: there is no such folder, or no calibration in it; the message says what makes it.
        """
        return cls(DialogueEncoder.from_pretrained(Path(folder)), Calibration.load(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write encoder and calibration to one folder."""
        self.encoder.save_pretrained(folder)
        self.calibration.save(folder)

    def score(self, context: Sequence[str], response: str) -> float:
        """Return the coherence of a response with a context, utterances in order; see `score_batch`."""
        return float(self.score_batch([context], [response])[0])

    def score_batch(self, contexts: Sequence[Sequence[str]], responses: Sequence[str]) -> np.ndarray:
        """Return the coherence `(N,)` of each response with its own context, float64 in [0, 1].

        Rows depend on each other at most in the last digits of a float32: a batch is padded to its longest row.

        Raises:
            TypeError: a context is a string, or an utterance is none.
            ValueError: there are not as many contexts as responses, or one of them is empty; the message says which.
        """
        if len(contexts) != len(responses):
            raise ValueError(f"{len(contexts)} contexts and {len(responses)} responses, expected as many of each")
        for number, (context, response) in enumerate(zip(contexts, responses, strict=True)):
            _check(context, response, number)
        vectors = self.encoder.encode_contexts(contexts), self.encoder.encode_responses(responses)
        inputs = _inputs(self.encoder, *vectors, *self._means)
        return expit(inputs @ np.array(self.calibration.weights) + self.calibration.intercept)

    def score_turns(self, dialogues: Sequence[Sequence[tuple[str, str]]], speaker: str) -> list[np.ndarray]:
        """Return, of each dialogue, the coherence of every turn of one speaker with all turns before it.

        NaN stands for a turn without a word, and for one before which nobody else said anything.

        Args:
            dialogues: of each, (speaker, text) in order.
            speaker: whose turns are scored.
        """
        pairs = [_answers(turns, speaker) for turns in dialogues]
        asked = [pair for of_one in pairs for pair in of_one if pair]
        scores = iter(self.score_batch([context for context, _ in asked], [response for _, response in asked]))
        return [np.array([next(scores) if pair else np.nan for pair in of_one]) for of_one in pairs]


@torch.no_grad()
def _inputs(encoder: DialogueEncoder, contexts: Tensor, responses: Tensor, c0: Tensor, r0: Tensor) -> np.ndarray:
    """Return f(c, r), f(c, r0) and f(c0, r), `(N, 3)`, of N pairs of vectors `(N, H)`."""
    sides = [(contexts, responses), (contexts, r0.expand_as(contexts)), (c0.expand_as(responses), responses)]
    return torch.stack([encoder.pair_similarity(*side).cpu() for side in sides], 1).double().numpy()


def _others(number: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw for each of n pairs the places `(n, NEGATIVES)` of pairs whose response's text has another number."""
    drawn = rng.integers(len(number), size=(len(number), NEGATIVES))
    while (same := number[drawn] == number[:, None]).any():
        drawn[same] = rng.integers(len(number), size=int(same.sum()))
    return drawn


def _answers(turns: Sequence[tuple[str, str]], speaker: str) -> list[tuple[tuple[str, ...], str] | None]:
    """Return each turn of a speaker with what was said before it, None where it or the others' part has no word."""
    found, said, heard = [], [], False
    for name, text in turns:
        if name == speaker:
            found.append((tuple(said), text) if heard and text.strip() else None)
        elif text.strip():
            heard = True
        if text.strip():
            said.append(text)
    return found


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _check(context: Sequence[str], response: str, number: int) -> None:
    if isinstance(context, str):
        raise TypeError(f"contexts[{number}] is a str ({context!r:.60}), expected a sequence of utterances")
    for text in (*context, response):
        if not isinstance(text, str):
            raise TypeError(f"contexts[{number}] or its response holds {text!r:.60}, expected strings")
    if not any(text.strip() for text in context):
        raise ValueError(f"contexts[{number}] is empty, expected at least one utterance with words")
    if not response.strip():
        raise ValueError(f"responses[{number}] is empty, expected words")

"""What a training of the emotion classifier is made of: the optimiser, a step's loss, calibration, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from reward_models.calibration import reliability
from reward_models.emotion import EmotionClassifier
from reward_models.precision import training_precision


@dataclass(frozen=True)
class EmotionTraining:
    """How a classifier is trained; the paper fine-tunes RoBERTa, which takes about `--encoder-learning-rate 2e-5`."""

    epochs: int = 4
    """Times through the examples."""
    batch_size: int = 64
    """Utterances a step."""
    learning_rate: float = 2e-3
    """Peak rate of the head; it rises over a tenth of the steps and then falls to 0 in a straight line."""
    encoder_learning_rate: float = 1e-3
    """Peak rate of the encoder."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over all classes."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    held_out: float = 0.1
    """Share of the training examples that is kept aside for the calibration."""
    bf16: bool = False
    """Compute in bfloat16 where that loses nothing."""
    seed: int = 0
    """Of the head's weights, the order and dropout."""


def make_optimizer(classifier: EmotionClassifier, config: EmotionTraining) -> torch.optim.Optimizer:
    """Return AdamW with a rate for the head and one for the encoder."""
    groups = [
        {"params": list(classifier.head.parameters()), "lr": config.learning_rate},
        {"params": list(classifier.encoder.model.parameters()), "lr": config.encoder_learning_rate},
    ]
    return torch.optim.AdamW(groups, weight_decay=config.weight_decay)


def loss(
    classifier: EmotionClassifier, rows: Sequence[Sequence[int]], labels: Sequence[int], config: EmotionTraining
) -> Tensor:
    """Return the mean cross-entropy of a batch, in nats, with gradient."""
    with training_precision(classifier.encoder.device, config.bf16):
        logits = classifier.logits(rows)
    target = torch.as_tensor(np.asarray(labels), device=logits.device)
    return F.cross_entropy(logits.float(), target, label_smoothing=config.label_smoothing)


def calibrate(classifier: EmotionClassifier, texts: Sequence[str], labels: Sequence[int]) -> float:
    """Set the temperature at which the true labels of utterances are most probable; return it.

    The utterances must not have been trained on (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
    """
    logits = classifier.row_logits(classifier.rows(texts)).double()
    target = torch.as_tensor(np.asarray(labels))
    found = minimize_scalar(
        lambda log: F.cross_entropy(logits / np.exp(log), target).item(), bounds=(-3.0, 3.0), method="bounded"
    )
    classifier.temperature = float(np.exp(found.x))
    classifier.forget()
    return classifier.temperature


def figures(classifier: EmotionClassifier, texts: Sequence[str], labels: Sequence[int]) -> dict[str, Any]:
    """Return how good and how calibrated a classifier is on utterances, as plain JSON.

    Returns:
        `correct` (a list of 0 and 1), `predicted` (ids), `nats` (mean cross-entropy) and `reliability`, of the most
        probable label's probability.
    """
    probabilities, labels = classifier(texts), np.asarray(labels)
    predicted = probabilities.argmax(1)
    correct = predicted == labels
    nats = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean()
    plot = {}
    if correct.any() and not correct.all():
        found = asdict(reliability(probabilities.max(1), correct))
        plot = {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
    return {
        "correct": correct.astype(int).tolist(),
        "predicted": predicted.tolist(),
        "nats": float(nats),
        "reliability": plot,
    }

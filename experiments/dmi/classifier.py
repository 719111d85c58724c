"""The classifier of probing and fine-tuning: a small network of fixed size on the encoder's vectors (section 4.3).

A context's vector, or a context's and a response's side by side, goes through one hidden layer of 256.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from experiments.dmi.tasks import RANKING, Examples, TaskData
from reward_models.dmi.encoder import DialogueEncoder

HIDDEN, DROPOUT = 256, 0.1
Represent = Callable[[np.ndarray], Tensor]  # places of examples (n,) -> their vectors (n, F)


@dataclass(frozen=True)
class Training:
    """How the classifier, and where it is not frozen the encoder, is trained."""

    epochs: int
    """Times through the training examples; the epoch that is best on the tuning examples counts."""
    batch: int
    """Examples a step."""
    learning_rate: float
    """Rate of the classifier; it falls to 0 in a straight line."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""


@dataclass(frozen=True)
class Outcome:
    """What one training came to.

    Attributes:
        values: by metric, one value for each report example (accuracy: right or not) or question (`RANKING`).
        predictions: `(N,)` the most probable label of each report example.
    """

    values: dict[str, np.ndarray]
    predictions: np.ndarray


def probe(encoder: DialogueEncoder, task: TaskData, training: Training, seeds: int) -> list[Outcome]:
    """Train the classifier on the frozen encoder's vectors, once a seed.

    The vectors are centred and scaled on the training examples, so that nothing depends on an encoder's scale.
    """
    vectors = {part: features(encoder, getattr(task, part)) for part in ("train", "tuning", "report")}
    mean, scale = vectors["train"].mean(0), vectors["train"].std(0).clamp_min(1e-6)
    scaled = {part: (value - mean) / scale for part, value in vectors.items()}
    represent = {part: value.__getitem__ for part, value in scaled.items()}
    outcomes = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        head = make_head(vectors["train"].shape[1], len(task.classes))
        optimizer = torch.optim.AdamW(head.parameters(), training.learning_rate, weight_decay=training.weight_decay)
        outcomes.append(_fit(head, nn.ModuleList([head]), represent, task, training, optimizer, seed))
    return outcomes


def finetune(
    encoder: DialogueEncoder, task: TaskData, training: Training, seeds: int, pretrained_factor: float, bf16: bool
) -> list[Outcome]:
    """Train the classifier together with a copy of the encoder, once a seed."""
    inputs = {part: _Inputs(encoder, getattr(task, part)) for part in ("train", "tuning", "report")}
    outcomes = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        own = copy.deepcopy(encoder)
        head = make_head(own.hidden_size * (1 if task.train.responses is None else 2), len(task.classes))
        groups = [
            {"params": list(own.parameters()), "lr": training.learning_rate * pretrained_factor},
            {"params": list(head.parameters()), "lr": training.learning_rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=training.weight_decay)
        represent = {part: partial(given.encode, own, bf16) for part, given in inputs.items()}
        outcomes.append(_fit(head, nn.ModuleList([own, head]), represent, task, training, optimizer, seed))
    return outcomes


def features(encoder: DialogueEncoder, examples: Examples) -> Tensor:
    """Return the frozen encoder's vectors: the context's `(N, H)`, or context's and response's `(N, 2 H)`."""
    contexts = encoder.encode_contexts(examples.contexts)
    if examples.responses is None:
        return contexts
    return torch.cat([contexts, encoder.encode_responses(examples.responses)], 1)


def make_head(inputs: int, classes: int) -> nn.Sequential:
    """Return the classifier."""
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, classes))


def measure(examples: Examples, metrics: tuple[str, ...], probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Return each metric's values: one an example, or one a question of options whose label 1 is the right one.

    Args:
        examples: what was asked.
        metrics: `("accuracy",)` or `RANKING`.
        probabilities: `(N, K)`. Of options that are equally probable the right one is put last.
    """
    if metrics != RANKING:
        return {"accuracy": (probabilities.argmax(1) == examples.labels).astype(float)}
    ranks = []
    for group in np.unique(examples.groups):
        rows = np.flatnonzero(examples.groups == group)
        score, right = probabilities[rows, 1], examples.labels[rows] == 1
        ranks.append(int((score[~right] >= score[right][0]).sum()))
    rank = np.array(ranks)
    return {"r@1": (rank < 1).astype(float), "r@2": (rank < 2).astype(float), "mrr": 1 / (1 + rank)}


class _Inputs:
    """Examples as token ids, to be encoded again at every step."""

    def __init__(self, encoder: DialogueEncoder, examples: Examples) -> None:
        tokens = encoder.tokens
        lengths = [len(context) for context in examples.contexts]
        said = iter(tokens.utterances([text for context in examples.contexts for text in context]))
        self.contexts = [tokens.context([next(said) for _ in range(length)]) for length in lengths]
        self.responses = None
        if examples.responses is not None:
            self.responses = [tokens.response(ids) for ids in tokens.utterances(list(examples.responses))]

    def encode(self, encoder: DialogueEncoder, bf16: bool, rows: np.ndarray) -> Tensor:
        """Return vectors with gradient."""
        sides = [self.contexts] if self.responses is None else [self.contexts, self.responses]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):  # left at once: it keeps the weights that it has cast
            return torch.cat([encoder.encode(*encoder.tokens.pad([side[i] for i in rows])) for side in sides], 1)


def _fit(
    head: nn.Module,
    trained: nn.Module,
    represent: dict[str, Represent],
    task: TaskData,
    training: Training,
    optimizer: torch.optim.Optimizer,
    seed: int,
) -> Outcome:
    """Train; return what the epoch that is best on the tuning examples says of the report examples."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(task.train.labels)
    steps = training.epochs * -(-len(task.train) // training.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    best, outcome = -np.inf, None
    for _ in tqdm(range(training.epochs), desc="epochs", leave=False):
        trained.train()
        order = rng.permutation(len(task.train))
        for begin in range(0, len(order), training.batch):
            rows = order[begin : begin + training.batch]
            logits = head(represent["train"](rows)).float()
            loss = nn.functional.cross_entropy(logits, labels[torch.from_numpy(rows)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        trained.eval()
        chance = _probabilities(head, represent["tuning"], len(task.tuning), training.batch)
        tuned = measure(task.tuning, task.metrics, chance)[task.metrics[0]].mean()
        if tuned > best:
            best = tuned
            chance = _probabilities(head, represent["report"], len(task.report), training.batch)
            outcome = Outcome(measure(task.report, task.metrics, chance), chance.argmax(1))
    return outcome


@torch.no_grad()
def _probabilities(head: nn.Module, represent: Represent, count: int, batch: int) -> np.ndarray:
    rows = [np.arange(begin, min(begin + batch, count)) for begin in range(0, count, batch)]
    return torch.cat([head(represent(part)).float().softmax(-1) for part in rows]).numpy()

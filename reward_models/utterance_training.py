"""Trains the utterance judge on (context, response, Safe/Unsafe) in the format of DiaSafety (Sun et al., ACL 2022)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from torch.nn import functional as F
from tqdm import tqdm

from reward_models.calibration import reliability
from reward_models.dmi.encoder import DialogueEncoder
from reward_models.utterance_judge import UtteranceJudge

LABELS = {"Safe": False, "Unsafe": True}


@dataclass(frozen=True)
class Example:
    """One labelled response."""

    context: str
    response: str
    unsafe: bool


@dataclass(frozen=True)
class TrainingConfig:
    """How the judge is trained."""

    epochs: int = 5
    """Passes over the training part, at most; the best one on the validation part is kept."""
    batch_size: int = 32
    """Examples a step."""
    learning_rate: float = 1e-3
    """Of the linear layer; a pretrained encoder learns at a tenth."""
    held_out: float = 0.1
    """Share of the contexts for validation and calibration, and once more for the card's figures."""
    seed: int = 0
    """Of the split, the order and the linear layer."""


def read_examples(path: str | Path) -> list[Example]:
    """Read a file in DiaSafety's format: a JSON list of objects with `context`, `response` and `label`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of that format; the message names the entry.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds a {type(entries).__name__}, expected a list of examples")
    examples = []
    for number, entry in enumerate(entries):
        texts = [entry.get(name) for name in ("context", "response")] if isinstance(entry, dict) else [None]
        if not all(isinstance(text, str) for text in texts) or entry.get("label") not in LABELS:
            raise ValueError(f"{path}, entry {number}: expected `context`, `response` and `label` (Safe or Unsafe)")
        examples.append(Example(*texts, LABELS[entry["label"]]))
    return examples


def train_utterance_judge(
    encoder: DialogueEncoder,
    examples: Sequence[Example],
    config: TrainingConfig = TrainingConfig(),
    progress: bool = False,
) -> UtteranceJudge:
    """Return a judge trained on examples, calibrated, with its figures on held-out contexts in its card.

    The encoder is trained too. No context is on two sides of the split.

    Raises:
        ValueError: there are fewer than 20 contexts, or a part of the split has examples of one kind only.
    """
    torch.manual_seed(config.seed)
    judge = UtteranceJudge(encoder)
    judge.head.to(encoder.device)
    parts = split([example.context for example in examples], config)
    unsafe = np.array([example.unsafe for example in examples])
    for part in parts:
        if unsafe[part].all() or not unsafe[part].any():
            raise ValueError(
                "a part of the split has safe examples only, or unsafe ones only: more examples are needed"
            )
    rows = judge.rows([example.context for example in examples], [example.response for example in examples])
    fit, validation, test = parts
    _fit(judge, rows, unsafe, fit, validation, config, progress)
    _calibrate(judge, [rows[i] for i in validation], unsafe[validation])
    judge.card = {"training": asdict(config), "examples": len(fit), "calibrated_on": len(validation)}
    judge.card["held_out"] = figures(judge.judge_rows([rows[i] for i in test]), unsafe[test])
    return judge.eval().requires_grad_(False)


def figures(probabilities: Sequence[float], unsafe: np.ndarray) -> dict[str, object]:
    """Return precision, recall and F1 of calling unsafe what is above one half, the counts that they rest on, and how
    well it is calibrated."""
    called = np.asarray(probabilities) > 0.5
    precision, recall, f1, _ = precision_recall_fscore_support(unsafe, called, average="binary", zero_division=0.0)
    numbers = {"precision": precision, "recall": recall, "f1": f1}
    numbers["average_precision"] = average_precision_score(unsafe, probabilities)
    plot = asdict(reliability(probabilities, unsafe))
    plot = {name: list(value) if isinstance(value, tuple) else value for name, value in plot.items()}
    counts = {"examples": len(unsafe), "unsafe": int(unsafe.sum()), "called": int(called.sum())}
    return {name: float(value) for name, value in numbers.items()} | counts | {"reliability": plot}


def split(contexts: Sequence[str], config: TrainingConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of the training, validation and test parts; all pairs of a context are in one of them.

    Raises:
        ValueError: there are fewer than 20 contexts.
    """
    groups = np.unique(np.array(contexts, dtype=object), return_inverse=True)[1]
    if groups.max() < 19:
        raise ValueError(f"{groups.max() + 1} contexts, expected at least 20")
    order = np.random.default_rng(config.seed).permutation(groups.max() + 1)
    size = max(1, round(config.held_out * len(order)))
    part = np.zeros(len(order), dtype=int)
    part[order[:size]], part[order[size : 2 * size]] = 1, 2
    return tuple(np.flatnonzero(part[groups] == number) for number in range(3))


def _fit(
    judge: UtteranceJudge,
    rows: Sequence[Sequence[int]],
    unsafe: np.ndarray,
    fit: np.ndarray,
    validation: np.ndarray,
    config: TrainingConfig,
    progress: bool,
) -> None:
    head = {"params": list(judge.head.parameters()), "lr": config.learning_rate}
    optimizer = torch.optim.AdamW([*judge.encoder.parameter_groups(config.learning_rate), head])
    order = np.random.default_rng(config.seed)
    best, kept = float("inf"), None
    for _ in tqdm(range(config.epochs), desc="utterance judge", unit="epoch", disable=not progress):
        judge.train()
        shuffled = order.permutation(fit)
        for first in range(0, len(shuffled), config.batch_size):
            chosen = shuffled[first : first + config.batch_size]
            logits = judge.logits([rows[i] for i in chosen])
            target = torch.as_tensor(unsafe[chosen], dtype=logits.dtype, device=logits.device)
            loss = F.binary_cross_entropy_with_logits(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        predicted = torch.tensor(judge.judge_rows([rows[i] for i in validation])).double()
        error = F.binary_cross_entropy(predicted, torch.as_tensor(unsafe[validation]).double()).item()
        if error < best:
            best, kept = error, {name: value.detach().clone() for name, value in judge.state_dict().items()}
    judge.load_state_dict(kept)


def _calibrate(judge: UtteranceJudge, rows: Sequence[Sequence[int]], unsafe: np.ndarray) -> None:
    """Scale and shift the log-odds so that they fit the validation part (Platt); the linear layer takes both up."""
    logits = torch.logit(torch.tensor(judge.judge_rows(rows)).double(), eps=1e-9).numpy()
    fitted = LogisticRegression(C=1e6).fit(logits[:, None], unsafe)
    slope, shift = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope > 0:  # else the judge knows nothing, and to turn it over would be chance
        with torch.no_grad():
            judge.head.weight *= slope
            judge.head.bias.mul_(slope).add_(shift)

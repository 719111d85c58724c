"""Sampling with one uniform number per row and token, so that rows stay independent and a seed means a transcript."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn.

    Attributes:
        max_new_tokens: longest reply.
        temperature: divides the logits; 0 takes the most probable token.
        min_p: tokens less probable than this share of the most probable one are left out, in [0, 1).
    """

    max_new_tokens: int = 24
    temperature: float = 0.8
    min_p: float = 0.1

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, expected at least 1")
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}, expected at least 0")
        if not 0 <= self.min_p < 1:
            raise ValueError(f"min_p is {self.min_p}, expected a number in [0, 1)")


def sample(logits: Tensor, uniforms: Tensor, sampling: Sampling) -> Tensor:
    """Draw one token a row by inverting the cumulative distribution.

    Args:
        logits: `(N, V)`.
        uniforms: `(N,)` in [0, 1).
        sampling: temperature and cut.

    Returns:
        Token ids `(N,)`.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits.float() / sampling.temperature).softmax(-1)
    if sampling.min_p > 0:
        floor = probabilities.amax(-1, keepdim=True) * sampling.min_p
        probabilities = torch.where(probabilities < floor, 0.0, probabilities)
    cumulative = probabilities.cumsum(-1, dtype=torch.float64)
    threshold = uniforms.double().unsqueeze(1) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1).clamp_max(logits.shape[1] - 1)


def averaged(logits: Tensor, voices: int) -> Tensor:
    """Return logits `(N, V)` whose probabilities are the mean of so many rows in sequence, the same for each of them.

    Prompt ensembling: the voices say one text in spite of their different prompts.
    """
    if voices == 1:
        return logits
    log_probs = logits.float().log_softmax(-1).unflatten(0, (-1, voices))
    return (log_probs.logsumexp(1) - math.log(voices)).repeat_interleave(voices, 0)

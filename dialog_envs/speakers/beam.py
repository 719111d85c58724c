"""Beam search and sampling of many replies at once, with n-grams that may not come twice.

The search is MEED2's (Xie and Pu, CoNLL 2021): a hypothesis that has ended keeps its place, the others go on in the
places that are left, and at the end the log-probability over length ^ alpha decides. What is searched is a function of
the last tokens, so that a toy can stand in for a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dialog_envs.lm.decoding import Sampling, sample

Step = Callable[[Tensor, Tensor | None], Tensor]
"""Last tokens `(N, W)` and which hypotheses `(N, W)` of the step before they continue (None: their own) -> logits
`(N, W, V)`. W may change from step to step."""
Hypothesis = tuple[list[int], float]
"""Token ids without begin and end, and log-probability / length ^ alpha, in both of which the end counts."""


@dataclass(frozen=True)
class Beams:
    """How a reply is searched; the defaults are the paper's, but for the length."""

    width: int = 32
    """Hypotheses of each reply."""
    max_new_tokens: int = 32
    """Longest reply."""
    alpha: float = 1.0
    """Exponent of the length that the log-probability is divided by; 0 prefers short replies."""
    blocked: int = 4
    """n-grams of this length come once in a reply; 0 lets them."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.max_new_tokens < 1 or self.blocked < 0:
            raise ValueError(f"a search needs a width and a length of at least 1, and no negative n of n-grams: {self}")


@torch.no_grad()
def beam_search(
    step: Step, rows: int, begin: int, end: int, beams: Beams, never: Tensor | None = None
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each of N replies, the best first, at most `beams.width`.

    Args:
        step: what gives the logits.
        rows: number N of replies.
        begin: token that every reply begins with.
        end: token that ends one; no reply is empty.
        beams: width, length, and so on.
        never: ids that are never chosen.
    """
    found: list[list[Hypothesis]] = [[] for _ in range(rows)]
    tokens, parents = torch.full((rows, 1), begin), None
    ids, scores = torch.zeros(rows, 1, 0, dtype=torch.long), torch.zeros(rows, 1)  # of those that go on: (N, W, t)
    for length in range(1, beams.max_new_tokens + 2):
        log_probs = allowed(step(tokens, parents), ids, end, beams.blocked, never)
        if length > beams.max_new_tokens:
            log_probs[..., torch.arange(log_probs.shape[2]) != end] = -torch.inf
        totals = (scores[..., None] + log_probs).flatten(1)
        scores, places = totals.topk(min(beams.width, totals.shape[1]))  # (N, K), the best first
        left = torch.tensor([beams.width - len(ended) for ended in found])
        scores[torch.arange(scores.shape[1]) >= left[:, None]] = -torch.inf
        parents, tokens = places // log_probs.shape[2], places % log_probs.shape[2]
        ids = torch.cat([ids.gather(1, parents[..., None].expand(-1, -1, ids.shape[2])), tokens[..., None]], 2)
        ended = (tokens == end) & scores.isfinite()
        for row, place in ended.nonzero().tolist():
            found[row].append((ids[row, place, :-1].tolist(), float(scores[row, place]) / length**beams.alpha))
        scores, order = scores.masked_fill(ended, -torch.inf).sort(dim=1, descending=True, stable=True)
        width = int(scores.isfinite().sum(1).max())
        if not width:
            break
        scores, order = scores[:, :width], order[:, :width]
        parents, tokens = parents.gather(1, order), tokens.gather(1, order)
        ids = ids.gather(1, order[..., None].expand(-1, -1, ids.shape[2]))
    return [sorted(hypotheses, key=lambda each: -each[1]) for hypotheses in found]


@torch.no_grad()
def sample_replies(
    step: Step,
    uniforms: Tensor,
    begin: int,
    end: int,
    sampling: Sampling,
    blocked: int = 4,
    never: Tensor | None = None,
) -> list[list[int]]:
    """Draw N replies; each uses one uniform number a token, and none is empty.

    Args:
        step: what gives the logits.
        uniforms: `(N, T)` in [0, 1), T at least `sampling.max_new_tokens`.
        begin: token that every reply begins with.
        end: token that ends one.
        sampling: temperature, cut and greatest length.
        blocked: n-grams of this length come once in a reply; 0 lets them.
        never: ids that are never drawn.
    """
    tokens = torch.full((len(uniforms), 1), begin)
    ids, over = torch.zeros(*tokens.shape, 0, dtype=torch.long), torch.zeros(len(uniforms), dtype=torch.bool)
    for number in range(sampling.max_new_tokens):
        log_probs = allowed(step(tokens, None), ids, end, blocked, never)
        drawn = sample(log_probs[:, 0], uniforms[:, number], sampling)
        over |= drawn == end
        tokens = drawn.masked_fill(over, end)[:, None]
        ids = torch.cat([ids, tokens[..., None]], 2)
        if over.all():
            break
    return [row[: row.index(end)] if end in row else row for row in ids[:, 0].tolist()]


def allowed(logits: Tensor, ids: Tensor, end: int, blocked: int, never: Tensor | None) -> Tensor:
    """Return log-probabilities `(N, W, V)` on the CPU, -inf for what may not come behind ids `(N, W, t)`."""
    log_probs = logits.float().log_softmax(-1).cpu()
    if never is not None:
        log_probs[..., never] = -torch.inf
    if not ids.shape[2]:
        log_probs[..., end] = -torch.inf
    if blocked and ids.shape[2] >= blocked:
        windows = ids.unfold(2, blocked, 1)  # (N, W, t - n + 1, n)
        again = (windows[..., :-1] == ids[..., None, ids.shape[2] - blocked + 1 :]).all(-1)
        row, hypothesis, place = again.nonzero(as_tuple=True)
        log_probs[row, hypothesis, windows[row, hypothesis, place, -1]] = -torch.inf
    return log_probs

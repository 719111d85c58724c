"""The trained parts of IDPT: prefixes of a frozen decoder and the recogniser that chooses among them.

Nie et al., "Mix-Initiative Response Generation with Dynamic Prefix Tuning", NAACL 2024, section 3: H_I = MLP(E_I) is
the prefix of initiative I; the recogniser lets all prefixes attend to the encoded history and says which is to lead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Attention = Literal["hard", "soft", "uniform"]
ATTENTIONS: tuple[Attention, ...] = ("hard", "soft", "uniform")


@dataclass(frozen=True)
class IDPTConfig:
    """What a set of prefixes is made of; a saved set keeps it."""

    initiatives: int = 4
    """Number K of initiatives, one prefix each; 1 is plain prefix tuning."""
    prefix_length: int = 5
    """Length L of a prefix."""
    attention: Attention = "hard"
    """How the prefix of a turn is made: the most probable initiative's (`hard`, IDPT-HA), the mean by the predicted
    probabilities (`soft`, IDPT-SA), or the plain mean, without a recogniser (`uniform`)."""
    width: int = 48
    """Width of embeddings, attention and hidden layers. 48 keeps the set below 2% of GPT-2's size."""
    heads: int = 4
    """Heads of the recogniser's attention."""

    def __post_init__(self) -> None:
        for name in ("initiatives", "prefix_length", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention is {self.attention!r}, expected one of {', '.join(ATTENTIONS)}")
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}, expected a multiple of heads ({self.heads})")


class Prefixes(nn.Module):
    """H_I = MLP(E_I): the prefixes of all initiatives, for all layers of the decoder at once.

    Args:
        config: number, length, width.
        size: numbers D that one position of a prefix has: layers * 2 * heads * head size.
    """

    def __init__(self, config: IDPTConfig, size: int) -> None:
        super().__init__()
        width = config.width
        self.embedding = nn.Parameter(torch.randn(config.initiatives, config.prefix_length, width))
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, size))

    def forward(self) -> Tensor:
        """Return H `(K, L, D)`."""
        return self.mlp(self.embedding)


class Recogniser(nn.Module):
    """Multi-head attention of prefixes over the history, MLP, residual and layer norm, max-pooling, classifier.

    Args:
        config: number, width, heads.
        size: D, numbers of one position of a prefix.
        history_size: width of the encoded history.
    """

    def __init__(self, config: IDPTConfig, size: int, history_size: int) -> None:
        super().__init__()
        width, count = config.width, config.initiatives
        self.query = nn.Linear(size, width, bias=False)
        self.attention = nn.MultiheadAttention(
            width, config.heads, kdim=history_size, vdim=history_size, batch_first=True
        )
        self.mlp = _three_layers(width, width, width)
        self.norm = nn.LayerNorm(width)
        self.classifier = _three_layers(count * width, width, count)

    def forward(self, prefixes: Tensor, history: Tensor, mask: Tensor) -> Tensor:
        """Return logits `(N, K)` of the initiatives.

        Args:
            prefixes: H `(K, L, D)`.
            history: `(N, T, S)` the encoded knowledge and history.
            mask: `(N, T)`, true where there is a token.
        """
        queries = self.query(prefixes).flatten(0, 1).expand(len(history), -1, -1)  # (N, K * L, W)
        attended, _ = self.attention(queries, history, history, key_padding_mask=~mask, need_weights=False)
        states = self.norm(attended + self.mlp(attended))
        return self.classifier(pooled(states, len(prefixes)).flatten(1))


def pooled(states: Tensor, initiatives: int) -> Tensor:
    """Return the maximum `(N, K, W)` over the positions of each initiative's prefix, of states `(N, K * L, W)`."""
    return states.unflatten(1, (initiatives, -1)).amax(2)


def attention_weights(logits: Tensor, attention: Attention) -> Tensor:
    """Return how much of each prefix a turn takes, `(N, K)`, rows summing to 1, from logits `(N, K)`."""
    if attention == "hard":
        return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
    return logits.softmax(1) if attention == "soft" else torch.full_like(logits, 1 / logits.shape[1])


def mixed(prefixes: Tensor, weights: Tensor) -> Tensor:
    """Return each turn's prefix `(N, L, D)`: the mean of H `(K, L, D)` by weights `(N, K)`."""
    return torch.einsum("nk,kld->nld", weights, prefixes)


def as_key_values(prefixes: Tensor, layers: int, heads: int) -> Tensor:
    """Return prefixes `(N, L, D)` as keys and values `(N, layers, 2, heads, L, head size)`."""
    return prefixes.unflatten(2, (layers, 2, heads, -1)).permute(0, 2, 3, 4, 1, 5)


def _three_layers(size: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, out)
    )

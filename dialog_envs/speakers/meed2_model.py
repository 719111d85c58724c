"""The two networks of MEED2 (Xie and Pu, CoNLL 2021): the response emotion predictor and the encoder-decoder.

Both read the dialogue as one row of tokens; each token's vector is the sum of word, position, emotion (of the utterance
that it is in) and segment (whether the one who is to reply said it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reward_models.emotion_labels import LABELS


@dataclass(frozen=True)
class MEED2Config:
    """Sizes of one of the two networks; the defaults are the paper's."""

    hidden_size: int = 300
    """Width H."""
    encoder_layers: int = 4
    """Layers that read the dialogue."""
    decoder_layers: int = 4
    """Layers that write the reply; the predictor has none."""
    heads: int = 6
    """Attention heads."""
    intermediate_size: int = 1200
    """Width of the feed-forward layers."""
    dropout: float = 0.1
    """Of vectors and attention outputs, in training."""
    max_tokens: int = 100
    """Longest dialogue, and longest reply, in tokens; a dialogue's oldest ones go."""
    emotions: bool = True
    """Whether emotions are part of the input; without them it is the plain Transformer that MEED2 is compared with."""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "encoder_layers", "heads", "intermediate_size", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of heads, {self.heads}")


POCKET_RESPONDER = MEED2Config(192, 2, 3, 6, 768)
"""Size of the shipped encoder-decoder."""
POCKET_PREDICTOR = MEED2Config(128, 2, 0, 4, 512)
"""Size of the shipped predictor."""


class Context(NamedTuple):
    """Dialogues as rows, padded on the right, all `(N, S)`: token ids, emotion ids, segments, and where tokens are."""

    ids: Tensor
    emotions: Tensor
    segments: Tensor
    mask: Tensor

    @classmethod
    def pad(cls, rows: Sequence[Sequence[tuple[int, int, int]]]) -> Context:
        """Return rows of (token id, emotion id, segment) as tensors."""
        lengths = torch.tensor([len(row) for row in rows])
        parts = torch.zeros(3, len(rows), int(lengths.max()), dtype=torch.long)
        for number, row in enumerate(rows):
            parts[:, number, : len(row)] = torch.tensor(row).T
        return cls(*parts, torch.arange(parts.shape[2]) < lengths[:, None])

    def to(self, device: torch.device) -> Context:
        """Return the same on another device."""
        return Context(*(part.to(device) for part in self))


class InputEmbedding(nn.Module):
    """The sum of four tables, which encoder and decoder share."""

    def __init__(self, config: MEED2Config, vocab_size: int) -> None:
        super().__init__()
        size, self.uses_emotions = config.hidden_size, config.emotions
        self.word = nn.Embedding(vocab_size, size)
        self.position = nn.Embedding(config.max_tokens + 1, size)
        self.emotion = nn.Embedding(len(LABELS), size)
        self.segment = nn.Embedding(2, size)
        self.dropout = nn.Dropout(config.dropout)
        for table in (self.word, self.position, self.emotion, self.segment):
            nn.init.normal_(table.weight, std=size**-0.5)

    def forward(self, ids: Tensor, emotions: Tensor, segments: Tensor, first: int = 0) -> Tensor:
        """Return `(..., T, H)` of ids `(..., T)`, with emotions and segments that broadcast; `first` is a position."""
        places = torch.arange(first, first + ids.shape[-1], device=ids.device)
        vectors = self.word(ids) + self.position(places) + self.segment(segments)
        if self.uses_emotions:
            vectors = vectors + self.emotion(emotions)
        return self.dropout(vectors)


class Attention(nn.Module):
    """Scaled dot-product attention of several heads, whose keys and values can be made once and kept."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = nn.Linear(size, size), nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)

    def keys_values(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values `(N, heads, T, d)` of vectors `(N, T, H)`."""
        keys, values = self.key_value(vectors).chunk(2, -1)
        return self._split(keys), self._split(values)

    def forward(
        self, vectors: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Return `(N, T, H)`; `mask` is true where attention may go, and broadcasts to `(N, heads, T, S)`."""
        found = F.scaled_dot_product_attention(self._split(self.query(vectors)), keys, values, mask, is_causal=causal)
        return self.out(found.transpose(1, 2).flatten(2))

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """A Transformer layer that normalises before each part; with `cross` it also looks at the dialogue."""

    def __init__(self, config: MEED2Config, cross: bool) -> None:
        super().__init__()
        size = config.hidden_size
        self.own, self.own_norm = Attention(size, config.heads), nn.LayerNorm(size)
        self.cross = Attention(size, config.heads) if cross else None
        self.cross_norm = nn.LayerNorm(size) if cross else None
        self.wide, self.narrow = nn.Linear(size, config.intermediate_size), nn.Linear(config.intermediate_size, size)
        self.norm, self.dropout = nn.LayerNorm(size), nn.Dropout(config.dropout)

    def feed_forward(self, vectors: Tensor) -> Tensor:
        """Return the vectors after the last part."""
        return vectors + self.dropout(self.narrow(F.gelu(self.wide(self.norm(vectors)))))


class Encoder(nn.Module):
    """Reads dialogues."""

    def __init__(self, config: MEED2Config) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config, False) for _ in range(config.encoder_layers))
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Return `(N, S, H)` of embedded dialogues `(N, S, H)`."""
        visible = mask[:, None, None]
        for layer in self.layers:
            inner = layer.own_norm(vectors)
            vectors = vectors + layer.dropout(layer.own(inner, *layer.own.keys_values(inner), visible))
            vectors = layer.feed_forward(vectors)
        return self.norm(vectors)


def attention_pooling(vectors: Tensor, scorer: Tensor, mask: Tensor) -> Tensor:
    """Return sum_i alpha_i r_i, `(N, H)`, with alpha_i proportional to exp(v^T r_i) where there is a token.

    Args:
        vectors: r, `(N, S, H)`.
        scorer: v, `(H,)`.
        mask: `(N, S)`.
    """
    alpha = (vectors @ scorer).masked_fill(~mask, -torch.inf).softmax(-1)
    return (alpha.unsqueeze(1) @ vectors).squeeze(1)


class EmotionPredictor(nn.Module):
    """Which emotion or intent the next reply will have: encoder, attention pooling, a hidden layer, softmax."""

    def __init__(self, config: MEED2Config, vocab_size: int) -> None:
        super().__init__()
        self.config, size = config, config.hidden_size
        self.embedding, self.encoder = InputEmbedding(config, vocab_size), Encoder(config)
        self.scorer = nn.Parameter(torch.zeros(size))
        self.hidden, self.output = nn.Linear(size, size), nn.Linear(size, len(LABELS))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, context: Context) -> Tensor:
        """Return logits `(N, 41)`."""
        vectors = self.encoder(self.embedding(context.ids, context.emotions, context.segments), context.mask)
        pooled = attention_pooling(vectors, self.scorer, context.mask)
        return self.output(self.dropout(self.hidden(pooled).tanh()))


class Responder(nn.Module):
    """Reads a dialogue and writes the reply, told the emotion or intent that the reply is to have."""

    def __init__(self, config: MEED2Config, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.embedding, self.encoder = InputEmbedding(config, vocab_size), Encoder(config)
        self.layers = nn.ModuleList(Layer(config, True) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def read(self, context: Context) -> Tensor:
        """Return what the decoder looks at, `(N, S, H)`."""
        return self.encoder(self.embedding(context.ids, context.emotions, context.segments), context.mask)

    def forward(self, context: Context, replies: Tensor, emotions: Tensor) -> Tensor:
        """Return the logits `(N, T, V)` of what follows each token of replies; the arguments are those of `write`."""
        return self.words(self.write(context, replies, emotions))

    def write(self, context: Context, replies: Tensor, emotions: Tensor) -> Tensor:
        """Return the decoder's vectors `(N, T, H)`, from which `words` tells what follows each token of replies.

        Args:
            context: the dialogues.
            replies: `(N, T)` ids that begin with the beginning-of-sequence token, padded on the right.
            emotions: `(N,)` of the replies.
        """
        return self.decode(self.read(context), context.mask, replies, emotions)

    def decode(self, seen: Tensor, mask: Tensor, replies: Tensor, emotions: Tensor) -> Tensor:
        """Return the same of dialogues `(N, S, H)` that `read` gave, and where their tokens are `(N, S)`."""
        vectors = self.embedding(replies, emotions[:, None], torch.ones_like(emotions)[:, None])
        for layer in self.layers:
            inner = layer.own_norm(vectors)
            vectors = vectors + layer.dropout(layer.own(inner, *layer.own.keys_values(inner), causal=True))
            around = layer.cross.keys_values(seen)
            vectors = vectors + layer.dropout(layer.cross(layer.cross_norm(vectors), *around, mask[:, None, None]))
            vectors = layer.feed_forward(vectors)
        return vectors

    def words(self, vectors: Tensor) -> Tensor:
        """Return logits `(..., V)` of the decoder's vectors `(..., H)`, by the words' own table."""
        return F.linear(self.norm(vectors), self.embedding.word.weight, self.bias)


class Writer:
    """Writes N replies of W hypotheses each, a token a step; what was read and written is kept.

    The dialogue's keys and values exist once for all hypotheses of a reply.

    Args:
        responder: the encoder-decoder.
        context: the dialogues.
        emotions: `(N,)` of the replies, on the model's device, as the dialogues; tokens may lie elsewhere.
    """

    def __init__(self, responder: Responder, context: Context, emotions: Tensor) -> None:
        self.responder, self.emotions, self.step_number = responder, emotions[:, None, None], 0
        seen = responder.read(context)
        self.visible = context.mask[:, None, None]
        self.around = [layer.cross.keys_values(seen) for layer in responder.layers]
        self.written: list[tuple[Tensor, Tensor] | None] = [None] * len(responder.layers)

    def __call__(self, tokens: Tensor, parents: Tensor | None) -> Tensor:
        """Return the logits `(N, W, V)` of the next token.

        Args:
            tokens: `(N, W)` the last token of each hypothesis.
            parents: `(N, W)` which hypothesis of the step before each goes on; None where all go on as they are.
        """
        device = self.emotions.device
        tokens, parents = tokens.to(device), None if parents is None else parents.to(device)
        rows, width = tokens.shape
        segments = torch.ones_like(tokens)[..., None]
        embedding = self.responder.embedding
        vectors = embedding(tokens[..., None], self.emotions, segments, self.step_number)[:, :, 0]  # (N, W, H)
        if parents is not None and self.step_number:
            first = torch.arange(rows, device=device)[:, None] * (self.written[0][0].shape[0] // rows)
            self._follow((parents + first).flatten())
        for number, layer in enumerate(self.responder.layers):
            inner = layer.own_norm(vectors).flatten(0, 1).unsqueeze(1)  # (N W, 1, H)
            new, old = layer.own.keys_values(inner), self.written[number]
            kept = new if old is None else tuple(torch.cat(pair, 2) for pair in zip(old, new, strict=True))
            self.written[number] = kept
            vectors = vectors + layer.own(inner, *kept).view(rows, width, -1)
            vectors = vectors + layer.cross(layer.cross_norm(vectors), *self.around[number], self.visible)
            vectors = layer.feed_forward(vectors)
        self.step_number += 1
        return self.responder.words(vectors)

    def _follow(self, places: Tensor) -> None:
        self.written = [(keys[places], values[places]) for keys, values in self.written]

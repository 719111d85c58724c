"""The dual encoder: context and response through one tower, first token's vector, f(c, r) = e_c^T W e_r.

Santra et al., NAACL 2022, section 3.1.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, PreTrainedModel, PreTrainedTokenizerBase

from reward_models.dmi.first_token import first_token
from reward_models.dmi.tokens import PairTokenizer

POCKET = Path(__file__).parent / "pocket"
"""Where the encoder that is shipped lies: float16, at most 12 MiB with its tokenizer and calibration."""
SETTINGS, BILINEAR = "dmi.json", "bilinear.safetensors"


@dataclass(frozen=True)
class EncoderConfig:
    """Size of a small encoder from scratch (BERT's architecture)."""

    vocab_size: int = 8192
    """Subwords of its tokenizer, at most."""
    hidden_size: int = 256
    """Width H of the model and of the vectors."""
    layers: int = 1
    """Number of layers."""
    heads: int = 4
    """Number of attention heads."""
    intermediate_size: int = 1024
    """Width of the feed-forward layers."""
    max_length: int = 300
    """Longest context or response in tokens."""
    dropout: float = 0.0
    """Dropout of hidden states: none for a few times through the data, where it slows the beginning down (attention's
    weights have none at all: it would cost the fast kernel)."""


class DialogueEncoder(nn.Module):
    """One transformer encoder for contexts and responses, and the bilinear form that scores a pair.

    Attributes:
        model: a Hugging Face encoder.
        tokens: its tokenizer with `[EOU]`.
        bilinear: W, `(H, H)`; at first the scaled dot product, identity / sqrt H.
        pretrained: whether the model's weights come from a file.
    """

    def __init__(self, model: PreTrainedModel, tokens: PairTokenizer, pretrained: bool = False) -> None:
        super().__init__()
        if len(tokens.tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokens.tokenizer))
        self.model, self.tokens, self.pretrained = model, tokens, pretrained
        self.bilinear = nn.Parameter(torch.eye(self.hidden_size) / math.sqrt(self.hidden_size))

    @property
    def hidden_size(self) -> int:
        """H, the size of a vector."""
        return self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.bilinear.device

    @classmethod
    def from_scratch(cls, config: EncoderConfig, tokenizer: PreTrainedTokenizerBase) -> DialogueEncoder:
        """Return an encoder with random weights (torch's global generator).

        Raises:
            ValueError: the tokenizer has more subwords than `config.vocab_size`, or as `PairTokenizer`.
        """
        tokens = PairTokenizer(tokenizer, config.max_length)
        if len(tokenizer) > config.vocab_size:
            raise ValueError(f"the tokenizer has {len(tokenizer)} subwords, vocab_size is {config.vocab_size}")
        size = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_length,
            type_vocab_size=1,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=0.0,
            # BERT's own 0.02 is for its width: in a narrow model the first token would hardly see the others at first.
            initializer_range=0.5 / math.sqrt(config.hidden_size),
            pad_token_id=tokenizer.pad_token_id,
        )
        return cls(AutoModel.from_config(size, add_pooling_layer=False), tokens)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, max_length: int = 300) -> DialogueEncoder:
        """Load what `save_pretrained` wrote, or start from any Hugging Face encoder, by name or folder.

        Args:
            name_or_folder: the former's folder keeps its `max_length` and W; the latter gets a new W and `[EOU]`.
                `pocket` is the encoder that is shipped.
            max_length: longest context or response in tokens; less where the model takes no more.

        Raises:
            FileNotFoundError: a path that is no folder.
            ValueError: the model is no encoder (see `PairTokenizer`, and its first token must see the others), or W
                does not fit it.
        """
        name_or_folder = encoder_source(name_or_folder)
        folder = Path(name_or_folder)
        if not folder.is_dir() and (isinstance(name_or_folder, Path) or folder.is_absolute()):
            raise FileNotFoundError(f"no encoder at {folder}: `python -m experiments dmi pretrain` makes one")
        tokenizer = AutoTokenizer.from_pretrained(name_or_folder)
        model = _load_model(name_or_folder)
        if (folder / BILINEAR).is_file():
            max_length = json.loads((folder / SETTINGS).read_text())["max_length"]
        else:
            max_length = min(max_length, _positions(model))
        encoder = cls(model, PairTokenizer(tokenizer, max_length), pretrained=True).eval()
        encoder._check_first_token(name_or_folder)
        if (folder / BILINEAR).is_file():
            weight = load_file(folder / BILINEAR)["bilinear"]
            if weight.shape != encoder.bilinear.shape:
                expected = tuple(encoder.bilinear.shape)
                raise ValueError(f"{folder / BILINEAR} has shape {tuple(weight.shape)}, the encoder takes {expected}")
            encoder.bilinear.data.copy_(weight)
        return encoder

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model and W (float16), tokenizer and settings to a folder that replaces an older one as a whole.

        `AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` load it too.
        """
        with replaced_folder(folder) as temporary:
            weights = {name: _half(value) for name, value in self.model.state_dict().items()}
            self.model.save_pretrained(temporary, state_dict=weights)
            self.tokens.tokenizer.save_pretrained(temporary)
            save_file({"bilinear": _half(self.bilinear.data)}, temporary / BILINEAR)
            (temporary / SETTINGS).write_text(json.dumps({"max_length": self.tokens.max_length}) + "\n")

    def encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the first token's vectors `(N, H)`, float32, with gradient.

        Args:
            ids: `(N, T)` from `tokens.pad`: padded on the right; columns that are padding throughout are left out.
            mask: `(N, T)`, true where there is a token.
        """
        longest = int(mask.sum(1).max())
        ids, mask = ids[:, :longest].to(self.device), mask[:, :longest].to(self.device)
        return first_token(self.model, ids, mask).float()

    def similarity(self, contexts: Tensor, responses: Tensor) -> Tensor:
        """Return f(c, r) = e_c^T W e_r, `(N, M)`, float32, of vectors `(N, H)` and `(M, H)`, with gradient."""
        contexts, responses = (vectors.to(self.device, torch.float32) for vectors in (contexts, responses))
        with torch.autocast(self.device.type, enabled=False):
            return contexts @ self.bilinear @ responses.T

    def pair_similarity(self, contexts: Tensor, responses: Tensor) -> Tensor:
        """Return f of each context with its own response, `(N,)`, float32, of vectors `(N, H)` each, with gradient."""
        contexts, responses = (vectors.to(self.device, torch.float32) for vectors in (contexts, responses))
        with torch.autocast(self.device.type, enabled=False):
            return ((contexts @ self.bilinear) * responses).sum(1)

    def encode_contexts(self, contexts: Sequence[Sequence[str]], batch_size: int = 64) -> Tensor:
        """Return the vectors `(N, H)` of contexts, each a sequence of utterances.

        They are on the CPU, without dropout or gradient, whatever the mode.

        Raises:
            TypeError: a context is a string.
            ValueError: a context is empty.
        """
        for number, context in enumerate(contexts):
            if isinstance(context, str):
                raise TypeError(f"contexts[{number}] is a str ({context!r:.60}), expected a sequence of utterances")
        known = list(dict.fromkeys(text for context in contexts for text in context))
        ids = dict(zip(known, self.tokens.utterances(known), strict=True))
        return self._encode_rows([self.tokens.context([ids[text] for text in said]) for said in contexts], batch_size)

    def encode_responses(self, responses: Sequence[str], batch_size: int = 64) -> Tensor:
        """Return the vectors `(N, H)` of responses, as `encode_contexts`.

        Raises:
            TypeError: `responses` is a string.
        """
        if isinstance(responses, str):
            raise TypeError(f"responses is a str ({responses!r:.60}), expected a sequence of them")
        return self._encode_rows([self.tokens.response(ids) for ids in self.tokens.utterances(responses)], batch_size)

    @torch.no_grad()
    def scores(self, contexts: Sequence[Sequence[str]], responses: Sequence[str]) -> Tensor:
        """Return f of every context with every response, `(N, M)`, on the CPU, without gradient."""
        return self.similarity(self.encode_contexts(contexts), self.encode_responses(responses)).cpu()

    def parameter_groups(self, learning_rate: float, pretrained_factor: float = 0.1) -> list[dict]:
        """Return groups for a torch optimiser: W at `learning_rate`, the model at `learning_rate * pretrained_factor`.

        A model from scratch learns at `learning_rate` too.
        """
        model_rate = learning_rate * (pretrained_factor if self.pretrained else 1.0)
        return [
            {"params": list(self.model.parameters()), "lr": model_rate},
            {"params": [self.bilinear], "lr": learning_rate},
        ]

    @torch.no_grad()
    def _check_first_token(self, name: str | Path) -> None:
        rows = [self.tokens.response(ids) for ids in self.tokens.utterances(["yes", "1 2 3"])]
        first, second = self.encode(*self.tokens.pad(rows))
        if torch.equal(first, second):
            raise ValueError(f"{name} is no encoder: its first token's vector does not depend on the tokens behind it")

    @torch.no_grad()
    def _encode_rows(self, rows: Sequence[Sequence[int]], batch_size: int) -> Tensor:
        """Return the vectors of rows of ids; equal rows are encoded once, rows of like length together."""
        different = sorted(dict.fromkeys(map(tuple, rows)), key=len)
        vectors = torch.zeros(len(different), self.hidden_size)
        training = self.training
        self.eval()
        try:
            for begin in range(0, len(different), batch_size):
                chosen = different[begin : begin + batch_size]
                vectors[begin : begin + batch_size] = self.encode(*self.tokens.pad(chosen)).cpu()
        finally:
            self.train(training)
        place = {row: number for number, row in enumerate(different)}
        return vectors[[place[tuple(row)] for row in rows]]


def encoder_source(name_or_folder: str | Path) -> str | Path:
    """Return the folder of the shipped encoder for `pocket`, any other name or folder as it is."""
    return POCKET if name_or_folder == "pocket" else name_or_folder


@contextlib.contextmanager
def replaced_folder(folder: str | Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `folder` once the block ends without an error."""
    folder = Path(folder)
    temporary, old = (folder.with_name(folder.name + ending) for ending in (".tmp", ".old"))
    if old.exists() and not folder.exists():  # killed between the two renamings
        old.rename(folder)
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _half(tensor: Tensor) -> Tensor:
    return tensor.half().contiguous() if tensor.is_floating_point() else tensor.contiguous()


def _load_model(name_or_folder: str | Path) -> PreTrainedModel:
    """Load a model in float32, without a pooler where its kind has one: the first token's vector needs none."""
    config = AutoConfig.from_pretrained(name_or_folder)
    try:
        return AutoModel.from_pretrained(name_or_folder, config=config, dtype=torch.float32, add_pooling_layer=False)
    except TypeError:
        return AutoModel.from_pretrained(name_or_folder, config=config, dtype=torch.float32)


def _positions(model: PreTrainedModel) -> int:
    """Return the most tokens that a model takes."""
    limit = getattr(model.config, "max_position_embeddings", None) or 1 << 20
    padding = getattr(getattr(model, "embeddings", None), "padding_idx", None)
    return limit if padding is None else limit - padding - 1

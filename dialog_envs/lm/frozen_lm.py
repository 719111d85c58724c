"""The frozen language model: hidden states, steered and unsteered generation, likelihoods; all of it in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from dialog_envs.lm.decoding import Sampling, averaged, sample
from dialog_envs.lm.key_values import HOLE, KeyValueRows
from dialog_envs.lm.loading import load_model
from dialog_envs.lm.packed_linear import pack
from dialog_envs.lm.prompt import Prompt, PromptRenderer, right_aligned

GROUP = 16  # rows of a prefill, where the lengths differ much
DENSE = 0.85  # share of a prefill that must be tokens, or it is cut into groups
POCKET = Path(__file__).parent / "pocket"


class FrozenLM:
    """A Hugging Face causal language model whose parameters never change.

    Args:
        model: any causal LM that takes `inputs_embeds`, `position_ids` and a 4D attention mask.
        tokenizer: its tokenizer.
        reserve: tokens of the context kept free for the reply and the prefix.
        max_context: longest prompt in tokens, if shorter than what the model allows.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        reserve: int = 128,
        max_context: int | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        pack(model)
        self.tokenizer = tokenizer
        limit = getattr(model.config, "max_position_embeddings", None) or 2048
        window = getattr(model.config, "sliding_window", None) or limit
        self.context = min(limit, window, max_context or limit)
        if self.context <= reserve:
            reserve = self.context // 2
        self.prompts = PromptRenderer(tokenizer, self.context - reserve)
        self.stop_ids = self._stop_ids()
        self._pool: dict[str, KeyValueRows] = {}  # by purpose, the largest memory so far
        unsaid = {*tokenizer.all_special_ids, *range(len(tokenizer), self.vocab_size)}  # tags, and rows of no token
        unsaid = sorted(i for i in unsaid if i not in self.stop_ids and i < self.vocab_size)
        self.suppressed = torch.tensor(unsaid, dtype=torch.long, device=self.device)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "pocket",
        device: str = "cpu",
        dtype: str = "float32",
        max_context: int | None = None,
        **options: Any,
    ) -> FrozenLM:
        """Load the shipped model (`"pocket"`), a folder, or a Hugging Face name (which downloads it).

        `device`, `dtype` and the other `options` are those of `dialog_envs.lm.loading.load_model`.
        """
        source = POCKET if name == "pocket" else name
        is_path = isinstance(source, Path) or source.startswith(("/", ".", "~")) or source.count("/") > 1
        if is_path and not Path(source).is_dir():
            raise FileNotFoundError(f"no model folder {source}")
        model = load_model(source, device, dtype, **options)
        return cls(model, AutoTokenizer.from_pretrained(source), max_context=max_context)

    @property
    def device(self) -> torch.device:
        """Where the model's embeddings are."""
        return self.embeddings.weight.device

    @property
    def embeddings(self) -> nn.Embedding:
        """The input embedding table `(V, H)`."""
        return self.model.get_input_embeddings()

    @property
    def hidden_size(self) -> int:
        """Width H of embeddings and hidden states."""
        return self.embeddings.weight.shape[1]

    @property
    def vocab_size(self) -> int:
        """Number V of rows of the embedding table."""
        return self.embeddings.weight.shape[0]

    def hidden_bound(self) -> np.ndarray:
        """Return the largest absolute value `(H,)` that each hidden unit can take behind the final normalisation.

        A normalised vector has length at most sqrt(H), so |h_i| <= sqrt(H) |g_i| + |b_i|.

        Raises:
            ValueError: the model has no final normalisation layer that this can be read from.
        """
        norms = [m for m in self.model.base_model.children() if getattr(m, "weight", None) is not None]
        norms = [m for m in norms if m.weight.shape == (self.hidden_size,)]
        if not norms:
            name = type(self.model).__name__
            raise ValueError(f"{name} has no final normalisation layer over {self.hidden_size} units")
        norm = norms[-1]
        gain = norm.weight.detach().float()
        if "Gemma" in type(norm).__name__:  # Gemma multiplies by 1 + weight
            gain = torch.maximum(gain.abs(), (1 + gain).abs())
        bound = self.hidden_size**0.5 * gain.abs()
        if getattr(norm, "bias", None) is not None:
            bound = bound + norm.bias.detach().float().abs()
        return (bound * 1.001 + 1e-3).cpu().numpy().astype(np.float32)

    def fingerprint(self) -> str:
        """Return a SHA-256 over all parameters: the same before and after any training."""
        digest = hashlib.sha256()
        for name, parameter in sorted(self.model.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def new_rows(self, rows: int) -> KeyValueRows:
        """Return an empty key-value memory for N growing histories."""
        return KeyValueRows(rows, self.model.config.get_text_config().num_hidden_layers)

    def _scratch(self, purpose: str, rows: int) -> KeyValueRows:
        """Return an empty memory whose storage is used again next time: fresh pages cost more than arithmetic."""
        memory = self.new_rows(rows)
        if purpose in self._pool:
            memory.borrow(self._pool[purpose])
        if purpose not in self._pool or rows >= len(self._pool[purpose].ids):
            self._pool[purpose] = memory
        return memory

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[Prompt], memory: KeyValueRows | None = None, rows: np.ndarray | None = None
    ) -> Tensor:
        """Return the last-layer hidden state `(N, H)`, float32, of each prompt's last token.

        Args:
            prompts: N prompts.
            memory: where the rows' histories are kept from turn to turn; only what is new is computed.
            rows: which rows of the memory the prompts belong to (default: all, in order).
        """
        return self._extend(prompts, memory, rows, hidden=True).float()

    def reply_logits(
        self,
        prompts: Sequence[Prompt],
        replies: Sequence[Sequence[int]],
        prefix: Tensor | None = None,
        position: str = "start",
        key_values: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the model predicts at each token of given replies; gradients reach prefix and key-values.

        Args:
            prompts: N prompts.
            replies: token ids of the replies, each at least one.
            prefix: `(N, L, H)` input embeddings that steer, or None.
            position: where the prefix stands.
            key_values: as in `generate`.

        Returns:
            Logits `(N, T, V)`, target ids `(N, T)` and a mask `(N, T)`, true where there is a target; replies are
            right-aligned.
        """
        whole = [replace(prompt, ids=(*prompt.ids, *reply)) for prompt, reply in zip(prompts, replies, strict=True)]
        ids, place, inserted = right_aligned(whole, 0 if prefix is None else prefix.shape[1], position)
        longest = max(len(reply) for reply in replies)
        state = self.new_rows(len(prompts))
        if key_values is not None:
            state.lead(key_values.to(self.model.dtype))
        cache = {"use_cache": False} if key_values is None else {"use_cache": True, "past_key_values": state.cache}
        inputs = self._inputs(state, ids, place, prefix, inserted)
        logits = self.model(**inputs, **cache, logits_to_keep=longest + 1).logits[:, :-1]
        columns = torch.arange(longest, 0, -1, device=logits.device)
        lengths = torch.tensor([len(reply) for reply in replies], device=logits.device)
        targets = torch.from_numpy(ids[:, -longest:]).to(logits.device)
        return logits, targets.clamp_min(0), columns <= lengths.unsqueeze(1)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Prompt],
        uniforms: np.ndarray,
        sampling: Sampling,
        prefix: Tensor | None = None,
        position: str = "start",
        memory: KeyValueRows | None = None,
        rows: np.ndarray | None = None,
        key_values: Tensor | None = None,
        voices: int = 1,
    ) -> list[list[int]]:
        """Draw a reply for each prompt: the reference of `dialog_envs.lm.engine.Engine`.

        Args:
            prompts: N prompts.
            uniforms: `(N, T)` in [0, 1): one number per row and token, T at least `sampling.max_new_tokens`.
            sampling: temperature, cut and longest reply.
            prefix: `(N, L, H)` input embeddings that steer, or None.
            position: where the prefix stands: `"start"`, `"mid"` or `"end"`.
            memory: histories kept from turn to turn, which the replies are entered into. With a prefix it is read
                and left as it is: what stands before the prefix is not computed again.
            rows: which rows of the memory the prompts belong to.
            key_values: `(N, layers, 2, heads, L, head size)` keys and values of every layer, which each token of a row
                sees and which take no place in its text (prefix tuning, Li and Liang, ACL 2021), or None.
            voices: so many rows in sequence say the same: their probabilities are averaged, token by token.

        Returns:
            Token ids of each reply, without the stop token.
        """
        state = memory if memory is not None and prefix is None else self._scratch("reply", len(prompts))
        index = np.arange(len(prompts)) if rows is None or memory is None else np.array(rows)
        if key_values is not None:
            if memory is not None or prefix is not None:
                raise ValueError("key-values go with neither a memory nor a prefix")
            state.lead(key_values.to(self.model.dtype))
            logits = self._prefill(prompts, state)
        elif prefix is None:
            logits = self._extend(prompts, state, index, hidden=False)
        elif memory is None:
            logits = self._prefill_groups(prompts, state, index, prefix, position)
        else:
            logits = self._branch(prompts, state, memory, index, prefix, position)
            index = np.arange(len(prompts))
        length = np.array([len(p.ids) for p in prompts]) + (0 if prefix is None else prefix.shape[1])
        active = np.ones(len(prompts), dtype=bool)
        replies: list[list[int]] = [[] for _ in prompts]
        room = np.minimum(sampling.max_new_tokens, self.context - length)  # a row's own, whoever shares its batch
        room = np.repeat(room.reshape(-1, voices).min(1), voices)
        active &= room > 0
        steps = int(room.max(initial=0))
        draws = torch.as_tensor(uniforms, dtype=torch.float64, device=logits.device)
        for step in range(steps):
            logits[:, self.suppressed] = -torch.inf
            tokens = sample(averaged(logits, voices), draws[:, step], sampling).cpu().numpy()
            active &= ~np.isin(tokens, self.stop_ids)
            for row in np.flatnonzero(active):
                replies[row].append(int(tokens[row]))
            active &= step + 1 < room
            if not active.any():
                break
            if 2 * active.sum() <= len(state.ids):  # what a memory misses of a reply, its next turn reads
                state = state.taken(index[active])
                index[active] = np.arange(active.sum())
            ids = np.full((len(state.ids), 1), HOLE)
            place = np.full_like(ids, HOLE)
            ids[index[active], 0], place[index[active], 0] = tokens[active], length[active] + step
            logits[torch.from_numpy(active)] = self._forward(state, ids, place)[index[active]]
        return replies

    def embedded(self, prompt: Prompt, prefix: Tensor | None = None, position: str = "start") -> Tensor:
        """Return a prompt's input embeddings `(T, H)`, with a prefix `(L, H)` in its place."""
        own = self.embeddings(torch.tensor(prompt.ids, dtype=torch.long, device=self.device))
        if prefix is None:
            return own
        at = prompt.insert_at(position)
        return torch.cat([own[:at], prefix.to(own), own[at:]])

    def decode(self, replies: Sequence[Sequence[int]]) -> list[str]:
        """Turn generated ids into text of one line, without control characters."""
        texts = self.tokenizer.batch_decode([list(ids) for ids in replies], skip_special_tokens=True)
        lines = [text.strip().split("\n", 1)[0] for text in texts]
        return ["".join(c for c in line if c.isprintable()).strip() for line in lines]

    def _extend(
        self, prompts: Sequence[Prompt], memory: KeyValueRows | None, rows: np.ndarray | None, hidden: bool
    ) -> Tensor:
        """Bring the memory up to the prompts; return what the model says behind their last tokens.

        Rows that hold nothing of their prompt are computed apart, so that one new episode does not make every other
        row as long as its instruction.
        """
        if memory is None:
            memory = self.new_rows(len(prompts))
        index = np.arange(len(prompts)) if rows is None else np.asarray(rows)
        kept = np.array([memory.keep_prefix(row, prompt.ids) for row, prompt in zip(index, prompts, strict=True)])
        fresh = np.flatnonzero(kept == 0)
        grown = np.flatnonzero(kept > 0)
        parts: list[tuple[np.ndarray, Tensor]] = []
        if len(fresh):
            parts.append(
                (fresh, self._prefill_groups([prompts[i] for i in fresh], memory, index[fresh], hidden=hidden))
            )
        memory.compact(2.0 if hidden else 1.25)  # every token to come reads every column
        if len(grown):
            new = int(max(len(prompts[i].ids) - kept[i] for i in grown))
            ids = np.full((len(memory.ids), new), HOLE)
            place = np.full_like(ids, HOLE)
            for i in grown:
                tail = prompts[i].ids[kept[i] :]
                ids[index[i], new - len(tail) :] = tail
                place[index[i], new - len(tail) :] = np.arange(kept[i], len(prompts[i].ids))
            parts.append((grown, self._forward(memory, ids, place, hidden=hidden)[index[grown]]))
        out = parts[0][1].new_empty(len(prompts), parts[0][1].shape[1])
        for where, value in parts:
            out[torch.from_numpy(where)] = value
        return out

    def _branch(
        self,
        prompts: Sequence[Prompt],
        state: KeyValueRows,
        memory: KeyValueRows,
        rows: np.ndarray,
        prefix: Tensor,
        position: str,
    ) -> Tensor:
        """Enter whole prompts with a prefix into an empty memory, taking what stands before it from another one.

        Where that saves little (a prefix at the start, rows that are not held), prompts are entered from the beginning.
        """
        at = [prompt.insert_at(position) for prompt in prompts]
        pairs = zip(rows, prompts, at, strict=True)
        kept = np.array([memory.common(row, prompt.ids[:before]) for row, prompt, before in pairs])
        lengths = np.array([len(prompt.ids) for prompt in prompts])
        if (lengths - kept).max() > DENSE * lengths.mean():
            return self._prefill_groups(prompts, state, np.arange(len(prompts)), prefix, position)
        state.take(memory, rows, kept)
        state.compact(1.25)
        tails = [replace(p, ids=p.ids[k:], begin=before - k) for p, k, before in zip(prompts, kept, at, strict=True)]
        ids, place, inserted = right_aligned(tails, prefix.shape[1], "start")
        place[place != HOLE] += np.broadcast_to(kept[:, None], place.shape)[place != HOLE]
        return self._forward(state, ids, place, prefix, inserted)

    def _prefill_groups(
        self,
        prompts: Sequence[Prompt],
        memory: KeyValueRows,
        rows: np.ndarray,
        prefix: Tensor | None = None,
        position: str = "start",
        hidden: bool = False,
    ) -> Tensor:
        """Enter whole prompts as histories of `rows`, in groups of like length where one group were mostly padding."""
        lengths = np.array([len(prompt.ids) for prompt in prompts])
        if lengths.mean() >= DENSE * lengths.max():
            if not memory.columns and np.array_equal(rows, np.arange(len(memory.ids))):  # all of them: nothing to move
                return self._prefill(prompts, memory, prefix, position, hidden)
            groups = [np.arange(len(prompts))]
        else:
            order = np.argsort(-lengths, kind="stable")
            groups = [order[first : first + GROUP] for first in range(0, len(prompts), GROUP)]
        out = None
        for group in groups:
            scratch = self._scratch("group", len(group)) if len(groups) > 1 else self.new_rows(len(group))
            own = None if prefix is None else prefix[torch.from_numpy(group).to(prefix.device)]
            value = self._prefill([prompts[i] for i in group], scratch, own, position, hidden)
            memory.adopt(rows[group], scratch)
            out = value.new_empty(len(prompts), value.shape[1]) if out is None else out
            out[torch.from_numpy(group)] = value
        return out

    def _prefill(
        self,
        prompts: Sequence[Prompt],
        state: KeyValueRows,
        prefix: Tensor | None = None,
        position: str = "start",
        hidden: bool = False,
    ) -> Tensor:
        """Enter whole prompts, with a prefix or without, right-aligned, into an empty memory."""
        ids, place, inserted = right_aligned(prompts, 0 if prefix is None else prefix.shape[1], position)
        return self._forward(state, ids, place, prefix, inserted, hidden)

    def _forward(
        self,
        state: KeyValueRows,
        ids: np.ndarray,
        place: np.ndarray,
        prefix: Tensor | None = None,
        inserted: np.ndarray | None = None,
        hidden: bool = False,
    ) -> Tensor:
        """Run the model over new columns; return hidden states `(rows, H)` or logits `(rows, V)` of the last column."""
        inputs = self._inputs(state, ids, place, prefix, inserted) | {"past_key_values": state.cache, "use_cache": True}
        if hidden:
            return self.model.base_model(**inputs).last_hidden_state[:, -1]
        return self.model(**inputs, logits_to_keep=1).logits[:, -1]

    def _inputs(
        self,
        state: KeyValueRows,
        ids: np.ndarray,
        place: np.ndarray,
        prefix: Tensor | None,
        inserted: np.ndarray | None,
    ) -> dict[str, Tensor]:
        """Enter new columns into the memory's book-keeping; return the model's inputs for them."""
        state.append(ids, place)
        embeds = self.embeddings(torch.from_numpy(ids).clamp_min(0).to(self.device))
        if prefix is not None:
            where = torch.from_numpy(inserted).to(self.device).unsqueeze(-1).expand_as(embeds)
            embeds = embeds.masked_scatter(where, prefix.to(embeds))
        return {
            "inputs_embeds": embeds,
            "attention_mask": state.attention_mask(ids.shape[1], embeds.dtype, embeds.device),
            "position_ids": torch.from_numpy(place).clamp_min(0).to(self.device),
        }

    def _stop_ids(self) -> np.ndarray:
        ends = self.model.generation_config.eos_token_id
        stops = {self.tokenizer.eos_token_id} | set(ends if isinstance(ends, list) else [ends])
        if not self.prompts.has_template:  # a script: a turn ends with its line
            pieces = self.tokenizer.batch_decode([[i] for i in range(min(len(self.tokenizer), self.vocab_size))])
            stops |= {i for i, piece in enumerate(pieces) if "\n" in piece}
        return np.array(sorted(s for s in stops if s is not None), dtype=np.int64)

"""An engine behind a server that takes prompt embeddings: vLLM's `prompt_embeds` in the completions API.

The model is in process too, for the hidden states and the embedding table; the server runs the same weights. Prompts go
as embeddings alone, never mixed with token ids.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.key_values import KeyValueRows
from dialog_envs.lm.prompt import Prompt
from dialog_envs.retry import Failure
from reward_models.chat_answer import ChatError, Unanswered
from reward_models.chat_client import ChatClient, ChatConfig

NEVER = -100.0  # the lowest logit bias that the API takes


@dataclass(frozen=True)
class EmbeddedRequest:
    """One prompt as input embeddings `(T, H)`, and how its reply is drawn."""

    embeddings: Tensor
    sampling: Sampling
    seed: int
    room: int


@dataclass(frozen=True)
class TokenAnswer:
    """The token ids that a server drew, and its count of tokens."""

    ids: tuple[int, ...]
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EmbedsClient(ChatClient):
    """Asks `/completions` with prompt embeddings, as patiently as a chat is asked.

    Args:
        config: the server and the model's name on it; its temperature and `max_tokens` are not used.
        stop_ids: tokens that end a reply.
        suppressed: tokens that no reply holds.
    """

    PATH: ClassVar[str] = "/completions"

    def __init__(self, config: ChatConfig, stop_ids: Sequence[int], suppressed: Sequence[int]) -> None:
        super().__init__(config)
        self.stop_ids, self.suppressed = list(stop_ids), list(suppressed)

    def body(self, request: EmbeddedRequest) -> dict[str, Any]:
        """Return the JSON of a request, in vLLM's documented form."""
        return {
            "model": self.config.model,
            "prompt_embeds": encode_embeddings(request.embeddings),
            "max_tokens": request.room,
            "temperature": request.sampling.temperature,
            "min_p": request.sampling.min_p,
            "seed": request.seed,
            "stop_token_ids": self.stop_ids,
            "logit_bias": {str(token): NEVER for token in self.suppressed},
            "return_token_ids": True,
        } | dict(self.config.extra)

    def answer(self, content: bytes) -> TokenAnswer:
        """Return the first choice's token ids.

        Raises:
            Unanswered: the body is no completion (which may pass: a cut connection).
            ChatError: it is one without token ids: the server does not know `return_token_ids`.
        """
        try:
            body = json.loads(content.decode("utf-8"))
            choice, usage = body["choices"][0], body.get("usage") or {}
            tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
            finish, ids = choice["finish_reason"], choice.get("token_ids")
        except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
            raise Unanswered("the answer is no completion") from None
        if ids is None:
            raise ChatError("the server returns no token_ids: it must know return_token_ids, as vLLM does from 0.10.2")
        whole = isinstance(ids, list) and all(type(token) is int for token in ids)
        if finish not in ("stop", "length") or not whole:
            raise Unanswered(f"the answer is no whole completion: it finished by {finish!r:.40}")
        return TokenAnswer(tuple(ids), *tokens)


class PromptEmbedsEngine:
    """Generates on a server from embeddings made in process.

    The seed of a row's reply is made of its uniforms, so equal uniforms give an equal reply where the server keeps to
    seeds; the words differ from the in-process engine's except at temperature 0. Histories are kept by the server.

    Args:
        lm: the model in process: embedding table, stop tokens, context.
        client: asks the server.
    """

    def __init__(self, lm: FrozenLM, client: EmbedsClient) -> None:
        self.lm, self.client = lm, client

    @classmethod
    def at(cls, lm: FrozenLM, config: ChatConfig) -> PromptEmbedsEngine:
        """Return the engine on a server, for a model in process with the same weights."""
        return cls(lm, EmbedsClient(config, lm.stop_ids.tolist(), lm.suppressed.tolist()))

    def generate(
        self,
        prompts: Sequence[Prompt],
        uniforms: np.ndarray,
        sampling: Sampling,
        prefix: Tensor | None = None,
        position: str = "start",
        memory: KeyValueRows | None = None,
        rows: np.ndarray | None = None,
    ) -> list[list[int] | Failure]:
        """Return the token ids of each reply, or why there is none; all rows are asked at once."""
        embedded = [
            self.lm.embedded(prompt, None if prefix is None else prefix[row], position)
            for row, prompt in enumerate(prompts)
        ]
        room = [min(sampling.max_new_tokens, self.lm.context - len(embeddings)) for embeddings in embedded]
        asked = [row for row in range(len(prompts)) if room[row] > 0]
        requests = [EmbeddedRequest(embedded[row], sampling, _seed(uniforms[row]), room[row]) for row in asked]
        replies: list[list[int] | Failure] = [[] for _ in prompts]
        for row, answer in zip(asked, self.client.complete(requests), strict=True):
            replies[row] = self._reply(answer, room[row])
        return replies

    def scalars(self) -> dict[str, float]:
        """Return what has been spent, under TensorBoard tags."""
        return self.client.usage.scalars("engine")

    def _reply(self, answer: TokenAnswer | ChatError, room: int) -> list[int] | Failure:
        if isinstance(answer, ChatError):
            return Failure(str(answer), final=True)
        ids = list(answer.ids)
        if ids and ids[-1] in self.lm.stop_ids:  # vLLM counts the stop token to the reply
            ids.pop()
        wrong = {*ids} & {*self.lm.stop_ids.tolist(), *self.client.suppressed}
        if wrong or len(ids) > room or any(not 0 <= token < self.lm.vocab_size for token in ids):
            said = f"token {min(wrong)}" if wrong else f"{len(ids)} tokens, up to {max(ids)}"
            return Failure(f"the reply holds {said}, expected {room} at most, none of them special", final=True)
        return ids


def encode_embeddings(embeddings: Tensor) -> str:
    """Return `(T, H)` as vLLM takes it: base64 of what `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(embeddings.detach().cpu().contiguous(), buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _seed(uniforms: np.ndarray) -> int:
    """Return a seed that a row's uniforms decide."""
    return int(uniforms[0] * 2**31)

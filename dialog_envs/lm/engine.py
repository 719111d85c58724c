"""What generates replies: the model in process, or a server that takes prompt embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.key_values import KeyValueRows
from dialog_envs.lm.prompt import Prompt
from dialog_envs.retry import Failure


class Engine(Protocol):
    """Writes replies to prompts in which a prefix of input embeddings may stand.

    `FrozenLM` is the reference. `tests/contracts/test_engines.py` holds every engine to this:

    1. With temperature 0 its replies are the reference's.
    2. A row's reply depends on its own prompt, prefix and uniforms alone: equal ones give an equal reply, whichever
       rows share the batch; other uniforms give others.
    3. A reply ends before the first stop token, at `max_new_tokens`, or where the context ends, and holds no special
       token.
    4. A row that fails is a `Failure`; nothing is made up, and the other rows go on.
    """

    def generate(
        self,
        prompts: Sequence[Prompt],
        uniforms: np.ndarray,
        sampling: Sampling,
        prefix: Tensor | None = None,
        position: str = "start",
        memory: KeyValueRows | None = None,
        rows: np.ndarray | None = None,
    ) -> Sequence[list[int] | Failure]:
        """Return the token ids of each reply, without the stop token, or why there is none.

        Args:
            prompts: N prompts.
            uniforms: `(N, T)` in [0, 1), all the chance there is; T at least `sampling.max_new_tokens`.
            sampling: temperature, cut and longest reply.
            prefix: `(N, L, H)` input embeddings that steer, or None.
            position: where the prefix stands: `"start"`, `"mid"` or `"end"`.
            memory: histories that may be used instead of computing them again, and those `rows` of it.
        """

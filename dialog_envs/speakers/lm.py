"""A frozen language model that speaks, steered by a prefix or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.engine import Engine
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.key_values import KeyValueRows
from dialog_envs.retry import Failure


class LMSpeaker:
    """Writes the next turn of a speaker.

    Args:
        lm: the frozen model.
        sampling: temperature, cut and longest reply.
        position: where a steering prefix stands: `"start"`, `"mid"` or `"end"`.
        engine: what generates; None: the model itself, in process.
    """

    def __init__(
        self,
        lm: FrozenLM,
        sampling: Sampling = Sampling(),
        position: str = "start",
        engine: Engine | None = None,
    ) -> None:
        self.lm, self.sampling, self.position, self.engine = lm, sampling, position, engine or lm

    def speak(
        self,
        dialogues: Sequence[Dialogue],
        speaker: str,
        generators: Sequence[np.random.Generator],
        prefix: Tensor | None = None,
        memory: KeyValueRows | None = None,
        rows: np.ndarray | None = None,
    ) -> list[str | Failure]:
        """Return one utterance a dialogue; each row draws one uniform number per token from its own generator.

        Args:
            dialogues: N dialogues.
            speaker: whose turn it is.
            generators: one a row.
            prefix: `(N, L, H)` input embeddings that steer, or None.
            memory: histories kept from turn to turn (with a prefix they are only read), and the `rows` of it that
                these are.
        """
        prompts = self.lm.prompts.render_batch(dialogues, [speaker] * len(dialogues))
        uniforms = np.stack([generator.random(self.sampling.max_new_tokens) for generator in generators])
        replies = self.engine.generate(prompts, uniforms, self.sampling, prefix, self.position, memory, rows)
        texts = iter(self.lm.decode([reply for reply in replies if not isinstance(reply, Failure)]))
        return [reply if isinstance(reply, Failure) else next(texts) for reply in replies]

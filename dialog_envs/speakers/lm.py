"""A frozen language model that speaks, steered by a prefix or not."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.engine import Engine
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.key_values import KeyValueRows
from dialog_envs.lm.prompt import Prompt
from dialog_envs.retry import Failure


class LMSpeaker:
    """Writes the next turn of a speaker.

    Args:
        lm: the frozen model.
        sampling: temperature, cut and longest reply.
        position: where a steering prefix stands: `"start"`, `"mid"` or `"end"`.
        engine: what generates; None: the model itself, in process.
        redraws: how often, at most, a reply is drawn anew that says, word for word, what the speaker said before in the
            dialogue; 0: never.
    """

    def __init__(
        self,
        lm: FrozenLM,
        sampling: Sampling = Sampling(),
        position: str = "start",
        engine: Engine | None = None,
        redraws: int = 0,
    ) -> None:
        if redraws < 0:
            raise ValueError(f"redraws is {redraws}, expected 0 or more")
        self.lm, self.sampling, self.position, self.engine = lm, sampling, position, engine or lm
        self.redraws = redraws if sampling.temperature > 0 else 0  # the most probable reply stays what it is

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

        A row whose reply says the same again (see `redraws`) draws as many once more.

        Args:
            dialogues: N dialogues.
            speaker: whose turn it is.
            generators: one a row.
            prefix: `(N, L, H)` input embeddings that steer, or None.
            memory: histories kept from turn to turn (with a prefix they are only read), and the `rows` of it that
                these are.
        """
        prompts = self.lm.prompts.render_batch(dialogues, [speaker] * len(dialogues))
        said = [{_plain(text) for text in dialogue.texts(speaker)} for dialogue in dialogues]
        rows = np.arange(len(prompts)) if rows is None else np.asarray(rows)
        replies: dict[int, str | Failure] = {}
        left = list(range(len(prompts)))
        for _ in range(1 + self.redraws):
            if not left:
                break
            own = None if prefix is None else prefix[torch.tensor(left, device=prefix.device)]
            chance = [generators[i] for i in left]
            replies |= zip(left, self._draw([prompts[i] for i in left], chance, own, memory, rows[left]), strict=True)
            left = [i for i in left if isinstance(replies[i], str) and _plain(replies[i]) in said[i]]
        return [replies[i] for i in range(len(prompts))]

    def _draw(
        self,
        prompts: Sequence[Prompt],
        generators: Sequence[np.random.Generator],
        prefix: Tensor | None,
        memory: KeyValueRows | None,
        rows: np.ndarray,
    ) -> list[str | Failure]:
        """Draw a reply to each prompt."""
        uniforms = np.stack([generator.random(self.sampling.max_new_tokens) for generator in generators])
        replies = self.engine.generate(prompts, uniforms, self.sampling, prefix, self.position, memory, rows)
        texts = iter(self.lm.decode([reply for reply in replies if not isinstance(reply, Failure)]))
        return [reply if isinstance(reply, Failure) else next(texts) for reply in replies]


def _plain(text: str) -> str:
    """Return a text's words alone, in lower case."""
    return " ".join(re.findall(r"\w+", text.casefold()))

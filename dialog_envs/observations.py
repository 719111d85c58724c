"""What the agent sees: the frozen model's hidden state of the agent's prompt, and what it did before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Box

from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.parts import Observer, Rows
from dialog_envs.scenarios.scenario import AGENT


class HiddenState:
    """Last-layer hidden state `(H,)`, float32, of the last token of the agent's prompt, unsteered (DAT, section 3).

    Args:
        lm: the frozen model.
        rows: number of rows of the core; their histories are kept, so that a turn costs its new tokens alone.
    """

    def __init__(self, lm: FrozenLM, rows: int) -> None:
        self.lm = lm
        bound = lm.hidden_bound()
        self.observation_space = Box(-bound, bound, dtype=np.float32)
        self.memory = lm.new_rows(rows)

    def observe(self, rows: Rows) -> np.ndarray:
        """Return the hidden states `(n, H)`."""
        prompts = self.lm.prompts.render_batch(rows.dialogues, [AGENT] * len(rows))
        return self.lm.encode(prompts, self.memory, rows.index).cpu().numpy()

    def forget(self, rows: Sequence[int]) -> None:
        """Drop the kept histories of these rows."""
        self.memory.forget(rows)


class PastActions:
    """Another observation with the agent's last actions behind it, the latest first: `(H + K * d',)`.

    Zeros stand where there was no such action. A hidden state hardly tells what the agent has already tried, and a
    planner that does not know it says the same again.

    Args:
        observer: gives the observation, a bounded box of one axis.
        action_space: of a row, a box of one axis.
        count: number of actions K, at least 1.
    """

    def __init__(self, observer: Observer, action_space: Box, count: int) -> None:
        if count < 1:
            raise ValueError(f"past_actions is {count}, expected at least 1, or 0 for none")
        self.observer, self.count, self.size = observer, count, action_space.shape[0]
        inner = observer.observation_space
        low = np.concatenate([inner.low, np.tile(action_space.low, count)])
        high = np.concatenate([inner.high, np.tile(action_space.high, count)])
        self.observation_space = Box(low, high, dtype=inner.dtype)

    def observe(self, rows: Rows) -> np.ndarray:
        """Return the observations `(n, H + K * d')`."""
        past = np.zeros((len(rows), self.count, self.size), self.observation_space.dtype)
        for row, actions in enumerate(rows.actions):
            for back, action in enumerate(actions[: -self.count - 1 : -1]):
                past[row, back] = action
        return np.concatenate([self.observer.observe(rows), past.reshape(len(rows), -1)], axis=1)

    def forget(self, rows: Sequence[int]) -> None:
        """Drop what the other observation keeps of these rows."""
        self.observer.forget(rows)

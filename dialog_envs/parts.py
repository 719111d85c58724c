"""What a dialogue core is made of: who acts, observes, answers and judges, and the rows that each of them is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from gymnasium import Space

from dialog_envs.dialogue import Dialogue
from dialog_envs.retry import Failure
from dialog_envs.scenarios.scenario import Scenario


@dataclass(frozen=True)
class Rows:
    """What the parts of an environment see of some rows of the core, in the same order everywhere.

    Attributes:
        index: `(n,)` which rows of the core these are.
        dialogues: the dialogues so far; `situations` hold both sides, each part renders its own.
        scenarios: their scenarios.
        observations: `(n, ...)` last observations; empty where there are none yet.
        generators: one random generator a row, for this part and this turn alone.
        thoughts: what the agent has thought since its last words; None where it has not.
        candidates: what a `Proposer` offered for the next step; empty where nothing did.
        actions: the agent's actions in this dialogue so far, the first one first.
    """

    index: np.ndarray
    dialogues: Sequence[Dialogue]
    scenarios: Sequence[Scenario]
    observations: np.ndarray
    generators: Sequence[np.random.Generator]
    thoughts: Sequence[str | None]
    candidates: Sequence[tuple[str, ...]]
    actions: Sequence[tuple[np.ndarray, ...]]

    def __len__(self) -> int:
        return len(self.index)

    def at(self, where: Sequence[int]) -> Rows:
        """Return some of these rows."""
        return Rows(
            self.index[list(where)],
            [self.dialogues[i] for i in where],
            [self.scenarios[i] for i in where],
            self.observations[list(where)] if len(self.observations) else self.observations,
            [self.generators[i] for i in where],
            [self.thoughts[i] for i in where],
            [self.candidates[i] for i in where],
            [self.actions[i] for i in where],
        )


@dataclass(frozen=True)
class Thought:
    """What the agent keeps to itself before it speaks: no one hears, answers or judges it, and it takes no turn."""

    text: str


@dataclass(frozen=True)
class Judgement:
    """What a dialogue so far is worth.

    Attributes:
        value: the return if the dialogue ended here.
        reached: whether the goal is reached, which ends the dialogue.
        details: named numbers for `info`.
    """

    value: float
    reached: bool = False
    details: Mapping[str, float] = field(default_factory=dict)


class Actor(Protocol):
    """Turns actions into the agent's words."""

    action_space: Space

    def act(self, actions: np.ndarray, rows: Rows) -> Sequence[str | Thought | Failure]:
        """Return one utterance, or one thought, a row."""


class Proposer(Protocol):
    """Offers what the agent may choose from."""

    def propose(self, rows: Rows) -> Sequence[tuple[str, ...]]:
        """Return the candidates for each row's next step."""


class Observer(Protocol):
    """Says what the agent sees."""

    observation_space: Space

    def observe(self, rows: Rows) -> np.ndarray:
        """Return one observation a row."""

    def forget(self, rows: Sequence[int]) -> None:
        """Drop what is kept of these rows from turn to turn for speed alone."""


class Partner(Protocol):
    """Answers the agent."""

    def reply(self, rows: Rows) -> Sequence[str | Failure]:
        """Return one utterance a row."""

    def forget(self, rows: Sequence[int]) -> None:
        """Drop what is kept of these rows from turn to turn for speed alone."""


class Judge(Protocol):
    """Says what a dialogue is worth."""

    def judge(self, rows: Rows) -> Sequence[Judgement | Failure]:
        """Return one judgement a row."""

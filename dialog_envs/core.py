"""The one batched core: N dialogues that step together, one turn clock and one random stream a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from dialog_envs.actions import checked_actions
from dialog_envs.dialogue import Dialogue, Turn
from dialog_envs.names import look_up
from dialog_envs.parts import Actor, Judge, Judgement, Observer, Partner, Proposer, Rows, Thought
from dialog_envs.retry import Failure, Retry, failures
from dialog_envs.scenarios.scenario import AGENT, PARTNER, Scenario
from reward_models.lexicon import is_goodbye

SUCCESS = 0.5  # a game of rounds is won by a round whose value is above this
STREAMS = ("agent", "partner", "judge", "proposer")  # what draws from a row's random stream in a turn, in this order
ANSWERS = {"agent": (str, Thought), "partner": (str,), "judge": (Judgement,)}  # what may be read from each part


@dataclass(frozen=True)
class CoreConfig:
    """How dialogues run.

    Attributes:
        max_turns: agent turns after which a dialogue ends.
        dense_reward: reward every turn with the change of the judgement's value instead of its value at the end.
        retry: how often and how patiently a failing part is asked again.
        rounds: the dialogue is a game of rounds (red teaming): every turn is rewarded with its judgement's value, no
            goodbye ends it, and `info["success"]` says whether the best round so far was above one half.
    """

    max_turns: int = 4
    dense_reward: bool = False
    retry: Retry = field(default_factory=Retry)
    rounds: bool = False

    def __post_init__(self) -> None:
        if self.rounds and self.dense_reward:
            raise ValueError("rounds are rewarded with their own values: dense_reward does not go with them")
        if self.max_turns < 1:
            raise ValueError(f"max_turns is {self.max_turns}, expected at least 1")


@dataclass
class RowState:
    """Where one dialogue stands.

    Attributes:
        stream: the row's random stream.
        scenario: what the dialogue is about.
        dialogue: what was said, to each other.
        turn: how often the agent has spoken.
        value: what the last judgement was, and `best` the highest so far.
        thoughts: the agent's thoughts, by the number of turns said before each.
        candidates: what the agent may choose from, if a proposer offers it.
        actions: what the agent did, the first one first.
    """

    stream: np.random.Generator
    scenario: Scenario
    dialogue: Dialogue
    turn: int = 0
    value: float = 0.0
    best: float = 0.0
    thoughts: dict[int, str] = field(default_factory=dict)
    candidates: tuple[str, ...] = ()
    actions: tuple[np.ndarray, ...] = ()

    @property
    def thought(self) -> str | None:
        """What the agent has thought since anyone spoke, or None."""
        return self.thoughts.get(len(self.dialogue.turns))


@dataclass(frozen=True)
class StepResult:
    """What a step gave, a row an entry: observations, rewards, ends, and an info dictionary each."""

    observations: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    infos: list[dict[str, Any]]


class DialogueCore:
    """N dialogues between an agent and a partner.

    Args:
        num_envs: number of rows N.
        scenarios: what a row draws from at reset.
        actor: actions -> the agent's words.
        observer: dialogue -> observation.
        partner: dialogue -> the partner's words.
        judge: dialogue -> what it is worth.
        config: turn limit, reward form, retries.
        proposer: what the agent may choose from; None if it does not choose.
    """

    def __init__(
        self,
        num_envs: int,
        scenarios: Sequence[Scenario],
        actor: Actor,
        observer: Observer,
        partner: Partner,
        judge: Judge,
        config: CoreConfig = CoreConfig(),
        proposer: Proposer | None = None,
    ) -> None:
        if not scenarios:
            raise ValueError("no scenarios: an environment needs at least one")
        self.num_envs, self.config = num_envs, config
        self.scenarios = {scenario.id: scenario for scenario in scenarios}
        self._scenario_ids = list(self.scenarios)
        self.actor, self.observer, self.partner, self.judge = actor, observer, partner, judge
        self.proposer = proposer
        self.states: list[RowState | None] = [None] * num_envs
        shape = observer.observation_space.shape or ()
        self.observations = np.zeros((num_envs, *shape), dtype=observer.observation_space.dtype)

    def reset(
        self, rows: Sequence[int], seeds: Sequence[int | None], scenario_ids: Sequence[str | None]
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Begin a dialogue in each of `rows`; return observations `(n, ...)` and infos.

        A seed of None goes on with the row's own stream. A scenario id of None draws one from the stream.

        Raises:
            ValueError: a scenario id is unknown (the message names the nearest).
        """
        for row, seed, scenario_id in zip(rows, seeds, scenario_ids, strict=True):
            state = self.states[row]
            stream = state.stream if state is not None and seed is None else seeding.np_random(seed)[0]
            drawn = self._scenario_ids[int(stream.integers(len(self._scenario_ids)))]
            scenario = self._scenario(drawn if scenario_id is None else scenario_id)
            self.states[row] = RowState(stream, scenario, scenario.begin())
        self._forget(rows)
        self._propose(list(rows))
        observations = self._observe(list(rows))
        return observations, [{"scenario": self.states[row].scenario.id} | self._offered(row) for row in rows]

    def step(self, actions: np.ndarray, rows: Sequence[int] | None = None) -> StepResult:
        """Take one turn in each row: the agent speaks, the partner answers, the judge judges.

        Where the agent only thinks, nothing else happens: no answer, no judgement, reward 0, no turn gone by.
        A part that fails in a row ends that row alone: `truncated`, reward 0, `info["error"]`.

        Args:
            actions: one action a row, already of the action space's shape.
            rows: which rows step (default: all).

        Raises:
            RuntimeError: a row has not been reset.
            ValueError: an action has the wrong shape, or is not finite.
        """
        index = list(range(self.num_envs)) if rows is None else list(rows)
        unborn = [row for row in index if self.states[row] is None]
        if unborn:
            raise RuntimeError(f"row {unborn[0]} was stepped before reset")
        actions = checked_actions(actions, self.actor.action_space, index)
        turn_seeds = [int(self.states[row].stream.integers(2**63)) for row in index]
        errors: dict[int, str] = {}

        def ask(stage: str, waiting: Sequence[int], call: Any) -> dict[int, Any]:
            """Ask one part for the waiting rows; note who fails."""
            given = self.config.retry.call(
                lambda where: [_readable(answer, ANSWERS[stage]) for answer in call([waiting[i] for i in where])],
                len(waiting),
            )
            errors.update({waiting[i]: f"{stage}: {error}" for i, error in failures(given).items()})
            return {i: value for i, value in zip(waiting, given, strict=True) if i not in errors}

        def view(stage: str, where: Sequence[int]) -> Rows:
            return self._view([index[i] for i in where], [turn_seeds[i] for i in where], STREAMS.index(stage))

        acts = ask("agent", range(len(index)), lambda where: self.actor.act(actions[where], view("agent", where)))
        for i, act in acts.items():
            self._act(self.states[index[i]], actions[i], act)
        speaking = [i for i, act in acts.items() if isinstance(act, str)]
        replies = ask("partner", speaking, lambda where: self.partner.reply(view("partner", where)))
        for i, text in replies.items():
            self._say(self.states[index[i]], PARTNER, text)
        judgements = ask("judge", list(replies), lambda where: self.judge.judge(view("judge", where)))
        return self._finish(index, acts, replies, judgements, errors)

    def get_state(self) -> dict[str, Any]:
        """Return all that a later `set_state` needs to go on identically, as plain JSON.

        What is kept for speed alone is dropped, here as there, so that the broken and the unbroken run compute alike.
        """
        self._forget(range(self.num_envs))
        return {
            "rows": [None if state is None else _row_to_json(state) for state in self.states],
            "observations": self.observations.tolist(),
        }

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned.

        Raises:
            ValueError: the state is of another number of rows, or names an unknown scenario.
        """
        if len(saved["rows"]) != self.num_envs:
            raise ValueError(f"state has {len(saved['rows'])} rows, this environment has {self.num_envs}")
        self._forget(range(self.num_envs))
        self.states = [None if row is None else self._row_from_json(row) for row in saved["rows"]]
        self.observations = np.asarray(saved["observations"], dtype=self.observations.dtype)

    def scalars(self) -> dict[str, float]:
        """Return what the parts have spent so far (requests, tokens, US dollars), under TensorBoard tags."""
        spenders = [part for part in (self.actor, self.partner, self.judge) if hasattr(part, "scalars")]
        return {tag: value for part in spenders for tag, value in part.scalars().items()}

    def transcript(self, row: int) -> str:
        """Return a row's dialogue as text, a turn or a thought a line."""
        state = self.states[row]
        if state is None:
            return ""
        lines = [f"{turn.speaker}: {turn.text}" for turn in state.dialogue.turns]
        for said, thought in sorted(state.thoughts.items(), reverse=True):
            lines.insert(said, f"{AGENT} thinks: {thought}")
        return "\n".join(lines)

    def _finish(
        self,
        index: list[int],
        acts: Mapping[int, str | Thought],
        replies: Mapping[int, str],
        judgements: Mapping[int, Judgement],
        errors: Mapping[int, str],
    ) -> StepResult:
        rewards = np.zeros(len(index))
        terminated, truncated = np.zeros(len(index), dtype=bool), np.zeros(len(index), dtype=bool)
        infos: list[dict[str, Any]] = []
        for i, row in enumerate(index):
            state, act = self.states[row], acts.get(i)
            state.turn += not isinstance(act, Thought)
            info: dict[str, Any] = {"scenario": state.scenario.id, "turn": state.turn}
            infos.append(info)
            if i in errors:
                truncated[i] = True
                info["error"] = errors[i]
                continue
            if isinstance(act, Thought):
                info["thought"] = act.text
                continue
            judgement = judgements[i]
            outcome = self._outcome(state, judgement, act, replies[i])
            terminated[i] = outcome is not None
            if self.config.dense_reward:
                rewards[i] = judgement.value - state.value
            elif terminated[i] or self.config.rounds:
                rewards[i] = judgement.value
            state.value, state.best = judgement.value, max(state.best, judgement.value)
            info |= {"agent_text": act, "partner_text": replies[i], "value": judgement.value}
            info |= {"score": dict(judgement.details)} if judgement.details else {}
            info |= {"success": state.best > SUCCESS} if self.config.rounds else {}
            info |= {"outcome": outcome} if outcome else {}
        going = np.flatnonzero(~(terminated | truncated))
        self._propose([index[i] for i in going])
        for i in going:
            infos[i] |= self._offered(index[i])
        whole = [row for i, row in enumerate(index) if i not in errors]
        if whole:
            self._observe(whole)
        return StepResult(self.observations[index].copy(), rewards, terminated, truncated, infos)

    def _outcome(self, state: RowState, judgement: Judgement, said: str, reply: str) -> str | None:
        """Return how the dialogue ended, or None while it goes on."""
        if judgement.reached:
            return "goal"
        if not self.config.rounds and (is_goodbye(said) or is_goodbye(reply)):
            return "goodbye"
        return "turn_limit" if state.turn >= self.config.max_turns else None

    def _propose(self, rows: list[int]) -> None:
        """Ask what these rows may choose from next; a dialogue that has ended is not asked for."""
        if self.proposer is None or not rows:
            return
        # The seed that the next turn will draw from the row's stream, looked at and not drawn.
        seeds = [int(deepcopy(self.states[row].stream).integers(2**63)) for row in rows]
        offers = self.proposer.propose(self._view(rows, seeds, STREAMS.index("proposer")))
        for row, candidates in zip(rows, offers, strict=True):
            self.states[row].candidates = tuple(candidates)

    def _offered(self, row: int) -> dict[str, Any]:
        return {} if self.proposer is None else {"candidates": self.states[row].candidates}

    def _observe(self, rows: list[int]) -> np.ndarray:
        observations = self.observer.observe(self._view(rows, [0] * len(rows), len(STREAMS)))
        self.observations[rows] = observations
        return self.observations[rows].copy()

    def _view(self, rows: list[int], turn_seeds: Sequence[int], stream: int) -> Rows:
        states = [self.states[row] for row in rows]
        return Rows(
            np.array(rows, dtype=np.int64),
            [state.dialogue for state in states],
            [state.scenario for state in states],
            self.observations[rows],
            [np.random.default_rng([seed, stream]) for seed in turn_seeds],
            [state.thought for state in states],
            [state.candidates for state in states],
            [state.actions for state in states],
        )

    def _forget(self, rows: Sequence[int]) -> None:
        self.observer.forget(rows)
        self.partner.forget(rows)

    def _act(self, state: RowState, action: np.ndarray, act: str | Thought) -> None:
        state.candidates = ()
        state.actions = (*state.actions, np.array(action))
        if isinstance(act, Thought):
            state.thoughts[len(state.dialogue.turns)] = act.text
        else:
            self._say(state, AGENT, act)

    @staticmethod
    def _say(state: RowState, speaker: str, text: str) -> None:
        state.dialogue = state.dialogue.said(speaker, text)

    def _scenario(self, scenario_id: str) -> Scenario:
        return look_up("scenario", scenario_id, self.scenarios)

    def _row_from_json(self, row: Mapping[str, Any]) -> RowState:
        stream = np.random.default_rng()
        stream.bit_generator.state = row["stream"]
        scenario = self._scenario(row["scenario"])
        dialogue = replace(scenario.begin(), turns=tuple(Turn(speaker, text) for speaker, text in row["turns"]))
        actions = tuple(np.array(action, dtype=self.actor.action_space.dtype) for action in row["actions"])
        kept = row["turn"], row["value"], row["best"], dict(row["thoughts"]), tuple(row["candidates"])
        return RowState(stream, scenario, dialogue, *kept, actions)


def _readable(answer: object, kinds: tuple[type, ...]) -> Any:
    """Return a part's answer, or a failure in place of one that is of another kind or not a finite number."""
    if isinstance(answer, Failure) or (isinstance(answer, kinds) and np.isfinite(getattr(answer, "value", 0.0))):
        return answer
    return Failure(f"unreadable answer {answer!r:.80}, expected {kinds[0].__name__}")


def _row_to_json(state: RowState) -> dict[str, Any]:
    return {
        "stream": state.stream.bit_generator.state,
        "scenario": state.scenario.id,
        "turns": [[turn.speaker, turn.text] for turn in state.dialogue.turns],
        "turn": state.turn,
        "value": state.value,
        "best": state.best,
        "thoughts": [list(entry) for entry in state.thoughts.items()],
        "candidates": list(state.candidates),
        "actions": [action.tolist() for action in state.actions],
    }

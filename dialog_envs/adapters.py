"""The two faces of the core: one dialogue as a Gymnasium `Env`, N dialogues as a `VectorEnv`. Autoreset lives here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from dialog_envs.core import DialogueCore, StepResult
from dialog_envs.names import look_up

RENDER_MODES = ("ansi", "human")


class DialogueEnv(gym.Env):
    """One dialogue: the core with one row.

    Args:
        core: a core of one row.
        render_mode: `"ansi"` (`render` returns the transcript), `"human"` (it prints it) or None.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(RENDER_MODES), "render_fps": 1}

    def __init__(self, core: DialogueCore, render_mode: str | None = None) -> None:
        _check_render_mode(render_mode)
        if core.num_envs != 1:
            raise ValueError(f"a single environment needs a core of 1 row, this one has {core.num_envs}")
        self.core, self.render_mode = core, render_mode
        self.action_space = core.actor.action_space
        self.observation_space = core.observer.observation_space

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a dialogue. `options={"scenario": id}` chooses the scenario instead of drawing it."""
        super().reset(seed=seed)
        observations, infos = self.core.reset([0], [seed], _scenarios(options, 1))
        self._show()
        return observations[0], infos[0]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one turn; see the environment's page for the info entries."""
        result = self.core.step(np.asarray(action)[None])
        self._show()
        return (
            result.observations[0],
            float(result.rewards[0]),
            bool(result.terminated[0]),
            bool(result.truncated[0]),
            result.infos[0],
        )

    def render(self) -> str | None:
        """Return the transcript (`"ansi"`); in mode `"human"` it is printed as the dialogue goes on."""
        return self.core.transcript(0) if self.render_mode == "ansi" else None

    def get_state(self) -> dict[str, Any]:
        """Return the dialogue's whole state as plain JSON."""
        return self.core.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        self.core.set_state(state)

    def scalars(self) -> dict[str, float]:
        """Return what partner and judge have spent so far, under TensorBoard tags."""
        return self.core.scalars()

    def _show(self) -> None:
        if self.render_mode == "human":
            print(self.core.transcript(0), end="\n\n")


class DialogueVectorEnv(VectorEnv):
    """N dialogues that share one model and step in one batch.

    Args:
        core: a core of N rows.
        autoreset_mode: what happens when a dialogue ends: `SAME_STEP` (default: the returned observation is the next
            dialogue's, the last one's is in `infos["final_obs"]` with `infos["final_info"]`), `NEXT_STEP` (the next
            step resets, with reward 0) or `DISABLED` (the caller resets, with `options={"reset_mask": mask}`).
        render_mode: as in `DialogueEnv`.
    """

    def __init__(
        self,
        core: DialogueCore,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
    ) -> None:
        _check_render_mode(render_mode)
        mode = _autoreset_mode(autoreset_mode)
        self.core, self.autoreset_mode, self.render_mode = core, mode, render_mode
        self.num_envs = core.num_envs
        self.metadata = {"render_modes": list(RENDER_MODES), "autoreset_mode": mode}
        self.single_action_space = core.actor.action_space
        self.single_observation_space = core.observer.observation_space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._ended = np.zeros(self.num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new dialogues.

        Args:
            seed: None, one number s (row i gets s + i) or one a row.
            options: `"scenario"`: an id, or one id (or None) a row; `"reset_mask"`: `(N,)` booleans, which rows begin
                anew (default: all).

        Raises:
            ValueError: a list of seeds, scenarios or the mask is not of length N, or a scenario is unknown.
        """
        if isinstance(seed, (int, np.integer)):
            super().reset(seed=int(seed))
        seeds = per_row("seed", seed, self.num_envs, count=True)
        scenarios = _scenarios(options, self.num_envs)
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)), dtype=bool)
        if mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask has shape {mask.shape}, expected ({self.num_envs},)")
        rows = np.flatnonzero(mask)
        if not len(rows):
            raise ValueError("reset_mask selects no row")
        _, infos = self.core.reset(rows, [seeds[row] for row in rows], [scenarios[row] for row in rows])
        self._ended[rows] = False
        return self.core.observations.copy(), self._merge(rows, infos)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one turn in every dialogue, and reset those that ended according to the autoreset mode."""
        waiting = self._ended.copy()
        if waiting.any() and self.autoreset_mode == AutoresetMode.DISABLED:
            raise RuntimeError(f"row {int(np.flatnonzero(waiting)[0])} has ended: reset it before the next step")
        going = np.flatnonzero(~waiting)
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions have shape {actions.shape}, this environment takes {self.action_space.shape}")
        result = self.core.step(actions[going], going)
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, dtype=bool), np.zeros(self.num_envs, dtype=bool)
        rewards[going], terminated[going], truncated[going] = result.rewards, result.terminated, result.truncated
        row_infos: dict[int, dict[str, Any]] = dict(zip(going.tolist(), result.infos, strict=True))
        self._ended = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            self._reset_ended(result, going, row_infos)
            self._ended[:] = False
        elif waiting.any():
            row_infos |= self._begin(np.flatnonzero(waiting))
        infos = self._merge(list(row_infos), list(row_infos.values()))
        return self.core.observations.copy(), rewards, terminated, truncated, infos

    @property
    def action_set(self) -> str:
        """Where actions are projected to, `"ball"` or `"sphere"`; `"box"` where they are taken as they are."""
        return getattr(self.core.actor, "action_set", "box")

    def render(self) -> tuple[str, ...] | None:
        """Return the transcripts, one a row (`"ansi"`)."""
        texts = tuple(self.core.transcript(row) for row in range(self.num_envs))
        if self.render_mode == "human":
            print("\n\n".join(texts))
        return texts if self.render_mode == "ansi" else None

    def get_state(self) -> dict[str, Any]:
        """Return the state of every dialogue as plain JSON."""
        return self.core.get_state() | {"ended": self._ended.tolist()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned."""
        self.core.set_state(state)
        self._ended = np.array(state["ended"], dtype=bool)

    def scalars(self) -> dict[str, float]:
        """Return what partner and judge have spent so far, under TensorBoard tags."""
        return self.core.scalars()

    def _reset_ended(self, result: StepResult, going: np.ndarray, row_infos: dict[int, dict[str, Any]]) -> None:
        rows = going[self._ended[going]]
        finals = {row: result.observations[np.flatnonzero(going == row)[0]] for row in rows.tolist()}
        for row, begun in self._begin(rows).items():
            row_infos[row] = {"final_obs": finals[row], "final_info": row_infos[row], **begun}

    def _begin(self, rows: np.ndarray) -> dict[int, dict[str, Any]]:
        if not len(rows):
            return {}
        _, infos = self.core.reset(rows, [None] * len(rows), [None] * len(rows))
        return dict(zip(rows.tolist(), infos, strict=True))

    def _merge(self, rows: Sequence[int], infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for row, info in zip(rows, infos, strict=True):
            merged = self._add_info(merged, info, int(row))
        return merged


def plain_turns(max_episode_steps: int) -> int:
    """Return `max_turns` where a step is a turn."""
    return max_episode_steps


def entry_points(
    make_core: Callable[..., DialogueCore], turns: Callable[[int], int] = plain_turns
) -> tuple[Callable[..., DialogueEnv], Callable[..., DialogueVectorEnv]]:
    """Return the entry points of `gym.make` and `gym.make_vec` for an environment.

    Args:
        make_core: number of rows and the environment's own arguments -> core.
        turns: `max_episode_steps`, which Gymnasium passes, -> `max_turns`: the core owns the turn limit.
    """

    def make(render_mode: str | None = None, **arguments: object) -> DialogueEnv:
        return DialogueEnv(make_core(1, **arguments), render_mode)

    def make_vector(
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        **arguments: object,
    ) -> DialogueVectorEnv:
        if max_episode_steps is not None:
            arguments["max_turns"] = turns(max_episode_steps)
        return DialogueVectorEnv(make_core(num_envs, **arguments), autoreset_mode, render_mode)

    return make, make_vector


def _check_render_mode(render_mode: str | None) -> None:
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode is {render_mode!r}, expected None or one of {', '.join(RENDER_MODES)}")


def _autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """Return the mode of that name (`"same_step"`) or value (`"SameStep"`)."""
    if isinstance(mode, AutoresetMode):
        return mode
    values = {member.value.upper(): member for member in AutoresetMode}
    return look_up("autoreset mode", mode.upper(), {**AutoresetMode.__members__, **values})


def _scenarios(options: Mapping[str, Any] | None, rows: int) -> list[str | None]:
    return per_row("scenario", (options or {}).get("scenario"), rows)


def per_row(name: str, value: Any, rows: int, count: bool = False) -> list[Any]:
    """Return one value a row: the same, or s + i (`count`), or the given list's.

    Raises:
        ValueError: the list is of another length.
    """
    if value is None or isinstance(value, str):
        return [value] * rows
    if isinstance(value, (int, np.integer)):
        return [int(value) + (row if count else 0) for row in range(rows)]
    if len(value) != rows:
        raise ValueError(f"{len(value)} values of {name} for {rows} rows")
    return list(value)

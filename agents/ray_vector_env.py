"""Rollouts by Ray actors: one vector environment whose rows are stepped by workers on this machine or on others.

Each worker holds a batched environment with a model of its own; the learner, in this process, sees one Gymnasium vector
environment, so every agent learns from it as from a local one. A worker that dies ends the episodes of its rows as a
failed part does (`truncated`, reward 0, `error`), which no learner stores, and another one takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from agents.sb3_vec_env import row_info
from dialog_envs.adapters import per_row

LOCAL_STORE = 80_000_000  # bytes of the object store of a Ray that is started here: steps are small


class RolloutWorker:
    """A batched environment in a process of its own, with the count of its steps.

    Args:
        env_id: a registered id.
        rows: dialogues of this worker.
        threads: CPU threads of its model.
        arguments: of `gym.make_vec`.
    """

    def __init__(self, env_id: str, rows: int, threads: int, arguments: Mapping[str, Any]) -> None:
        import torch

        import dialog_envs  # noqa: F401  (registers the ids)

        torch.set_num_threads(threads)
        self.env = gym.make_vec(env_id, num_envs=rows, **arguments)
        self.steps = 0

    def describe(self) -> dict[str, Any]:
        """Return what the learner must know of the environment."""
        env = self.env
        about = {"mode": env.metadata.get("autoreset_mode"), "action_set": getattr(env.unwrapped, "action_set", "box")}
        return about | {"observations": env.single_observation_space, "actions": env.single_action_space}

    def reset(self, seed: Sequence[int | None], options: Mapping[str, Any] | None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new dialogues."""
        return self.env.reset(seed=list(seed), options=options)

    def step(self, actions: np.ndarray) -> tuple[int, tuple]:
        """Take a step; return its number, from 1, and what the environment gives."""
        self.steps += 1
        return self.steps, self.env.step(actions)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a method of the environment; None where it has no such method."""
        method = getattr(self.env.unwrapped, name, None)
        return None if method is None else method(*arguments)


class RayVectorEnv(VectorEnv):
    """The rows of some workers as one vector environment, with autoreset in the same step.

    Args:
        env_id: a registered id, the module that registers it before a colon if that is not `dialog_envs`.
        workers: number of Ray actors.
        rows: dialogues of each worker.
        address: of a running Ray cluster (`"auto"`, `"ray://host:10001"`, `"host:6379"`); None starts one on this
            machine, bound to the loopback interface, unless this process has joined one already.
        threads: CPU threads, and Ray CPUs, of each worker.
        gpus: GPUs of each worker; a share, as 0.5, puts two on one.
        patience: seconds that a worker may take to start.
        **arguments: of the environment.

    Attributes:
        counts: what came of all row steps asked for: `transitions` came back, `lost_transitions` went down with a
            worker. `restarts` counts workers that took the place of a dead one.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ValueError: a number is not positive, or the environment resets in another way.
        RuntimeError: a worker does not start in time: the cluster has no room for it, or its nodes lack the package.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(
        self,
        env_id: str,
        workers: int,
        rows: int,
        address: str | None = None,
        threads: int = 1,
        gpus: float = 0.0,
        patience: float = 300.0,
        **arguments: Any,
    ) -> None:
        if min(workers, rows, threads) < 1:
            raise ValueError(f"{workers} workers of {rows} rows and {threads} threads, expected at least one of each")
        self._ray, self._began_ray = connect(address, cpus=workers * threads)
        self.rows, self.patience, self.num_envs = rows, patience, workers * rows
        actor = self._ray.remote(RolloutWorker).options(num_cpus=threads, num_gpus=gpus, max_restarts=0)
        self._start = lambda: actor.remote(env_id, rows, threads, arguments)
        self.workers = [self._start() for _ in range(workers)]
        abouts = [self._ready(worker, number) for number, worker in enumerate(self.workers)]
        about = abouts[0]
        if about["mode"] != AutoresetMode.SAME_STEP:
            raise ValueError(f"{env_id} has autoreset mode {about['mode']}, this takes {AutoresetMode.SAME_STEP}")
        self.action_set = about["action_set"]
        self.single_observation_space, self.single_action_space = about["observations"], about["actions"]
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.counts = {"transitions": 0, "lost_transitions": 0, "restarts": 0}
        self._steps = [0] * workers  # of each worker in place, as it must count them
        self._begun: dict[int, tuple[np.ndarray, dict[str, Any]]] = {}  # of workers new in place: what reset gave
        self._observations = np.zeros(self.observation_space.shape, self.observation_space.dtype)
        self._entropy = 0
        self._spent_by_dead: Counter[str] = Counter()
        self._spent: list[dict[str, float]] = [{} for _ in range(workers)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new dialogues in all rows; row i gets the seed `seed + i`, whichever worker has it.

        Raises:
            ValueError: options hold something else than `scenario`, or a list is not of length N.
        """
        if set(options or {}) - {"scenario"}:
            raise ValueError(f"options are {sorted(options)}, rollout workers take 'scenario' alone")
        self._entropy = seed if isinstance(seed, int) else self._entropy
        seeds = per_row("seed", seed, self.num_envs, count=True)
        scenarios = per_row("scenario", (options or {}).get("scenario"), self.num_envs)
        asked = [(seeds[of], {"scenario": scenarios[of]}) for of in self._slices()]
        parts = self._call("reset", asked)
        self._begun = {}  # a worker that was replaced meanwhile has been reset as well
        merged: dict[str, Any] = {}
        for (observations, infos), of in zip(parts, self._slices(), strict=True):
            self._observations[of] = observations
            merged = self._merged(merged, infos, of)
        return self._observations.copy(), merged

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one turn in every dialogue, all workers at the same time."""
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions have shape {actions.shape}, this environment takes {self.action_space.shape}")
        going = [number for number in range(len(self.workers)) if number not in self._begun]
        asked = {number: self.workers[number].step.remote(actions[self._slices()[number]]) for number in going}
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, dtype=bool), np.zeros(self.num_envs, dtype=bool)
        merged: dict[str, Any] = {}
        for number, of in enumerate(self._slices()):
            part = self._result(number, asked.get(number))
            self._observations[of], rewards[of], terminated[of], truncated[of], infos = part
            merged = self._merged(merged, infos, of)
        return self._observations.copy(), rewards, terminated, truncated, merged

    def get_state(self) -> dict[str, Any]:
        """Return the state of every worker's dialogues, and the counts, as plain JSON."""
        states = self._call("call", [("get_state",)] * len(self.workers))
        begun = {number: observations.tolist() for number, (observations, _) in self._begun.items()}
        return {"workers": states, "counts": dict(self.counts), "entropy": self._entropy, "begun": begun}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` returned; the counts go on as well.

        Raises:
            ValueError: the state is of another number of workers.
        """
        if len(state["workers"]) != len(self.workers):
            raise ValueError(f"state has {len(state['workers'])} workers, this environment has {len(self.workers)}")
        self._call("call", [("set_state", saved) for saved in state["workers"]])
        self.counts, self._entropy = dict(state["counts"]), state["entropy"]
        dtype = self.single_observation_space.dtype
        self._begun = {int(number): (np.array(seen, dtype), {}) for number, seen in state["begun"].items()}

    def scalars(self) -> dict[str, float]:
        """Return the counts, and what all partners and judges have spent, under TensorBoard tags.

        Of a worker that died, what it had spent when it was last asked.
        """
        self._spent = [part or {} for part in self._call("call", [("scalars",)] * len(self.workers))]
        whole = sum((Counter(part) for part in self._spent), Counter(self._spent_by_dead))
        return dict(whole) | {f"ray/{name}": float(count) for name, count in self.counts.items()}

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers, and Ray if it was started here."""
        for worker in self.workers:
            self._ray.kill(worker)
        if self._began_ray:
            self._ray.shutdown()

    def _slices(self) -> list[slice]:
        return [slice(first, first + self.rows) for first in range(0, self.num_envs, self.rows)]

    def _ready(self, worker: Any, number: int) -> dict[str, Any]:
        try:
            return self._ray.get(worker.describe.remote(), timeout=self.patience)
        except self._ray.exceptions.GetTimeoutError:
            room = self._ray.available_resources()
            raise RuntimeError(
                f"rollout worker {number} did not start within {self.patience:g} s; the cluster has left {room}"
            ) from None
        except self._ray.exceptions.RayActorError as error:
            raise RuntimeError(f"rollout worker {number} died as it started: {error}") from error

    def _call(self, name: str, arguments: Sequence[tuple]) -> list[Any]:
        """Call all workers; one that has died is replaced and called again."""
        asked = [getattr(worker, name).remote(*own) for worker, own in zip(self.workers, arguments, strict=True)]
        given = []
        for number, answer in enumerate(asked):
            try:
                given.append(self._ray.get(answer))
            except self._ray.exceptions.RayActorError:
                self._replace(number)
                given.append(self._ray.get(getattr(self.workers[number], name).remote(*arguments[number])))
        return given

    def _result(self, number: int, asked: Any) -> tuple:
        """Return a worker's step; of one that has died, failed rows.

        Raises:
            RuntimeError: the step is not the one that comes next.
        """
        try:
            step, part = (0, None) if asked is None else self._ray.get(asked)
        except self._ray.exceptions.RayActorError:
            step = 0
            self._replace(number)
        if step == 0:
            return self._failed(number)
        self._steps[number] += 1
        if step != self._steps[number]:
            raise RuntimeError(f"rollout worker {number} gave step {step}, step {self._steps[number]} comes next")
        self.counts["transitions"] += self.rows
        return part

    def _replace(self, number: int) -> None:
        """Put another worker in the place of one that died, and begin new dialogues in it."""
        self.workers[number] = self._start()
        self._ready(self.workers[number], number)
        self.counts["restarts"] += 1
        self._steps[number] = 0
        self._spent_by_dead.update(self._spent[number])
        self._spent[number] = {}
        entropy = (self._entropy, number, self.counts["restarts"])
        seeds = [int(word) for word in np.random.SeedSequence(entropy).generate_state(self.rows)]
        self._begun[number] = self._ray.get(self.workers[number].reset.remote(seeds, None))

    def _failed(self, number: int) -> tuple:
        """Return the step of rows whose worker has died: failed, and reset to the dialogues that have begun since."""
        last = self._observations[self._slices()[number]].copy()
        observations, infos = self._begun.pop(number)
        self.counts["lost_transitions"] += self.rows
        for row in range(self.rows):
            final = {"final_obs": last[row], "final_info": {"error": f"rollout worker {number} died"}}
            infos = self._add_info(infos, final, row)
        over = np.ones(self.rows, dtype=bool)
        return observations, np.zeros(self.rows), ~over, over, infos

    def _merged(self, merged: dict[str, Any], infos: Mapping[str, Any], of: slice) -> dict[str, Any]:
        """Add the infos of a worker's rows to those of all rows."""
        for row in range(self.rows):
            merged = self._add_info(merged, row_info(infos, row), of.start + row)
        return merged


def make_vec(
    env_id: str, rows: int, workers: int = 0, address: str | None = None, gpus: float = 0.0, **arguments: Any
) -> VectorEnv:
    """Return `rows` dialogues in this process, or shared alike by so many Ray workers.

    Raises:
        ValueError: the rows cannot be shared alike.
    """
    if workers == 0:
        return gym.make_vec(env_id, num_envs=rows, **arguments)
    share, left = divmod(rows, workers)
    if left:
        raise ValueError(f"{rows} rows cannot be shared alike by {workers} workers")
    return RayVectorEnv(env_id, workers, share, address, gpus=gpus, **arguments)


def connect(address: str | None = None, cpus: int = 1) -> tuple[Any, bool]:
    """Return the module `ray`, connected, and whether it was connected here.

    Args:
        address: of a running cluster; None: the one that this process has joined, else a new one on this machine,
            which no other machine can reach.
        cpus: of a new one.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ModuleNotFoundError("rollout workers need the package ray: pip install 'dialog-envs[ray]'") from None
    if ray.is_initialized():
        return ray, False
    if address is not None:
        ray.init(address=address, log_to_driver=False)
    else:
        ray.init(
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=LOCAL_STORE,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    return ray, True

"""Minari data sets: any agent's episodes recorded as it acts, written, and read back as transitions.

```python
recorder = Recorder(gym.make_vec("DialogEnvs/DATSocial-v0", num_envs=64))
collect(recorder, policy, 5_000, seed=0)  # or any other learner's own loop
dataset = write(recorder, "dialog-envs/DATSocial/mine-v0", gym.make("DialogEnvs/DATSocial-v0"), "TD3+BC")
buffer = replay_buffer(dataset)  # bit for bit what `collect` returned
```

Of each episode are kept: observations (the embeddings), actions, rewards, both kinds of end; seed and scenario, with
which `reset(seed=, options=)` begins it again; and in `infos`, with an entry for the reset first, the texts, their
token ids (-1 behind the last), the judgement's parts, and `place`, the transition's place in the order of collection.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from minari import MinariDataset
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.storage.datasets_root_dir import get_dataset_path
from transformers import PreTrainedTokenizerBase

from agents.buffers import Batch, ReplayBuffer, final_observations
from dialog_envs.core import DialogueCore

TEXTS = ("agent_text", "partner_text", "thought")
RESET = -1  # the place of a reset, which is no transition


@dataclass
class Recorded:
    """An episode, or what there is of it so far.

    Attributes:
        seed: what its row was seeded with; None where it goes on with the row's stream.
        infos: one dictionary a step, that of the reset first.
        complete: whether the environment ended it.
    """

    seed: int | None
    observations: list[np.ndarray]
    infos: list[dict[str, Any]]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    complete: bool = False

    @property
    def scenario(self) -> str:
        """The scenario's id."""
        return self.infos[0]["scenario"]


class Recorder(VectorWrapper):
    """Notes all episodes of a vector environment, whoever acts in it.

    A step that failed is no data: its episode ends before it, and is dropped where nothing is left. An episode that a
    reset cuts is kept as a truncated one.

    Args:
        env: a vector environment of this package, in this process, that resets rows in the same step, or not at all.

    Attributes:
        episodes: those that are over, in the order of their ends.
        failed_rows: steps that failed.

    Raises:
        ValueError: the environment resets in another way, or its dialogues are elsewhere (Ray workers).
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        if env.metadata.get("autoreset_mode") == AutoresetMode.NEXT_STEP:
            raise ValueError("autoreset mode NEXT_STEP has steps that are none: record SAME_STEP or DISABLED")
        if not hasattr(env.unwrapped, "core"):
            kind = type(env.unwrapped).__name__
            raise ValueError(f"Recorder reads dialogues from `core`, which {kind} lacks: record without Ray workers")
        self.episodes: list[Recorded] = []
        self.failed_rows = 0
        self._running: list[Recorded | None] = [None] * env.num_envs
        self._steps = 0

    @property
    def core(self) -> DialogueCore:
        """The dialogues' core."""
        return self.env.unwrapped.core

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new dialogues; those that are cut by it are over."""
        observations, infos = self.env.reset(seed=seed, options=options)
        rows = np.flatnonzero((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool)))
        seeds = range(seed, seed + self.num_envs) if isinstance(seed, int) else seed
        for row in rows:
            self._end(row)
            self._begin(row, observations[row], row_info(infos, row), None if seeds is None else seeds[row])
        return observations, infos

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one turn in every dialogue, and note it."""
        result = self.env.step(actions)
        observations, rewards, terminated, truncated, infos = result
        reached = final_observations(observations, infos)
        for row, episode in enumerate(self._running):
            begun = row_info(infos, row)
            info = begun.pop("final_info", begun)
            if info.get("error") is not None:
                self.failed_rows += 1
                self._end(row)
            else:
                info["place"] = self._steps * self.num_envs + row
                episode.observations.append(np.array(reached[row]))
                episode.actions.append(np.array(actions[row]))
                episode.rewards.append(float(rewards[row]))
                episode.infos.append(info)
                if terminated[row] or truncated[row]:
                    episode.terminated, episode.complete = bool(terminated[row]), True
                    self._end(row)
            if self._running[row] is None and "_final_obs" in infos and infos["_final_obs"][row]:
                self._begin(row, observations[row], begun, None)
        self._steps += 1
        return result

    def finished(self) -> list[Recorded]:
        """Return all episodes, those that still run as cut ones."""
        return [*self.episodes, *(episode for episode in self._running if episode is not None and episode.actions)]

    def _begin(self, row: int, observation: np.ndarray, info: dict[str, Any], seed: int | None) -> None:
        said = self.core.states[row].dialogue.turns
        opening = {"partner_text": said[-1].text} if said else {}
        self._running[row] = Recorded(
            seed, [np.array(observation)], [{"scenario": info["scenario"], "place": RESET} | opening]
        )

    def _end(self, row: int) -> None:
        episode, self._running[row] = self._running[row], None
        if episode is not None and episode.actions:
            self.episodes.append(episode)


def row_info(infos: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Return one row's entries of a vector environment's infos (Gymnasium keeps them as arrays with masks)."""
    found = {}
    for name, value in infos.items():
        if not name.startswith("_") and infos.get(f"_{name}", np.ones(row + 1, dtype=bool))[row]:
            found[name] = row_info(value, row) if isinstance(value, Mapping) else value[row]
    return found


def write(
    recorder: Recorder,
    dataset_id: str,
    env: gym.Env,
    algorithm: str,
    root: str | Path | None = None,
    episodes: Sequence[Recorded] | None = None,
    references: tuple[float, float] | None = None,
) -> MinariDataset:
    """Write what was recorded as a Minari data set; return it.

    Args:
        recorder: has recorded it.
        dataset_id: `namespace/name-vN`.
        env: the single environment; its specification is kept, and `recover_environment` makes it again.
        algorithm: who acted.
        root: folder of data sets (default: Minari's own, `MINARI_DATASETS_PATH`).
        episodes: which episodes, in which order (default: all).
        references: mean returns of a random agent and an expert, for `minari.get_normalized_score`.

    Raises:
        ValueError: nothing was recorded, there is such a data set already, or the id is malformed.
    """
    chosen = recorder.finished() if episodes is None else list(episodes)
    if not chosen:
        raise ValueError(f"no episodes to write as {dataset_id!r}: every step failed, or none was taken")
    names = [name for name in TEXTS if any(name in info for episode in chosen for info in episode.infos)]
    tokenizer = tokenizer_of(recorder.core)
    tokens: dict[str, np.ndarray] = {}  # (steps of all episodes, width) of each
    if tokenizer is not None:
        texts = [info.get(name, "") for name in names for episode in chosen for info in episode.infos]
        ids = token_ids(tokenizer, texts)
        tokens = dict(zip(names, ids.reshape(len(names), -1, ids.shape[1]), strict=True))
    buffers, begin = [], 0
    for episode in chosen:
        end = begin + len(episode.infos)
        buffers.append(_buffer(episode, names, {name: of_all[begin:end] for name, of_all in tokens.items()}))
        begin = end
    low, high = references or (None, None)
    with _datasets_in(root), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # who wrote it, and where, is the user's to add
        dataset = minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=env,
            eval_env=env,
            algorithm_name=algorithm,
            ref_min_score=low,
            ref_max_score=high,
            description=f"{len(chosen)} dialogues; {recorder.failed_rows} turns that failed are left out",
            data_format="hdf5",
        )
    dataset.storage.update_metadata({"failed_rows": recorder.failed_rows})
    return dataset


def tokenizer_of(core: DialogueCore) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer of the model that observes, else of the one that answers, else None."""
    for part in (core.observer, getattr(core.partner, "speaker", None)):
        for name in ("lm", "prompts"):
            if hasattr(part, name):
                return getattr(part, name).tokenizer
    return None


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> np.ndarray:
    """Return the ids `(N, W)` of texts, -1 behind the last."""
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    ids = np.full((len(rows), max(1, *map(len, rows))), -1, dtype=np.int32)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = row
    return ids


def _buffer(episode: Recorded, names: Sequence[str], tokens: Mapping[str, np.ndarray]) -> EpisodeBuffer:
    infos: dict[str, Any] = {"place": [info["place"] for info in episode.infos], "complete": episode.complete}
    infos |= {name: [info.get(name, "") for info in episode.infos] for name in names}
    infos |= {f"{name.removesuffix('_text')}_tokens": list(ids) for name, ids in tokens.items()}
    scores = [info.get("score", {}) for info in episode.infos]
    if any(scores):
        infos["score"] = {
            name: [float(score.get(name, np.nan)) for score in scores] for name in {k: 0 for s in scores for k in s}
        }
    last = [False] * (len(episode.actions) - 1)
    return EpisodeBuffer(
        seed=episode.seed,
        options={"scenario": episode.scenario},
        observations=episode.observations,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=[*last, episode.terminated],
        truncations=[*last, not episode.terminated],
        infos=infos,
    )


def replay_buffer(dataset: MinariDataset, transitions: int | None = None) -> ReplayBuffer:
    """Return a data set's transitions, in the order of their collection where it is known, else in the file's.

    Args:
        dataset: any Minari data set with vectors for observations and actions.
        transitions: take the first so many (default: all).

    Raises:
        ValueError: its spaces are no vectors, or it has fewer transitions.
    """
    for what, space in (("observations", dataset.observation_space), ("actions", dataset.action_space)):
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"{dataset.id} has {what} in {space}, a replay buffer takes vectors (a Box of one axis)")
    parts: list[Batch] = []
    places: list[np.ndarray] = []
    statistics = {"episodes": 0, "return_sum": 0.0, "failed_rows": dataset.storage.metadata.get("failed_rows", 0)}
    for episode in dataset.iterate_episodes():
        obs, infos = np.asarray(episode.observations), episode.infos or {}
        parts.append(Batch(obs[:-1], episode.actions, obs[1:], episode.rewards, episode.terminations))
        begin = sum(map(len, places))
        places.append(np.asarray(infos["place"])[1:] if "place" in infos else begin + np.arange(len(episode)))
        if infos.get("complete", True):
            statistics["episodes"] += 1
            statistics["return_sum"] += float(np.sum(episode.rewards))
    order = np.argsort(np.concatenate(places), kind="stable")[:transitions]
    if transitions is not None and len(order) < transitions:
        raise ValueError(f"{dataset.id} has {len(order)} transitions, {transitions} were asked for")
    whole = Batch(*(np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True)))
    buffer = ReplayBuffer(len(order), whole.obs.shape[1], whole.action.shape[1])
    buffer.add(*whole)
    buffer.statistics = statistics
    return buffer


@contextmanager
def _datasets_in(root: str | Path | None) -> Iterator[None]:
    """Let Minari find its data sets in a folder; it takes the folder from the environment alone."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    if root is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(Path(root).resolve())
    try:
        yield
    finally:
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before
        else:
            os.environ.pop("MINARI_DATASETS_PATH", None)


def load(dataset_id: str, root: str | Path | None = None) -> MinariDataset:
    """Return a data set by its id.

    Raises:
        FileNotFoundError: there is none.
    """
    with _datasets_in(root):
        if not get_dataset_path(dataset_id).is_dir():
            raise FileNotFoundError(f"no Minari data set {dataset_id!r} in {get_dataset_path()}")
        return minari.load_dataset(dataset_id)

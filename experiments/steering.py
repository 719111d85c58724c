"""Measure what an up-mapping can say, or train one: analysis of variance of the reward, bits a reply, clone KL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from agents.latent_code import LatentConfig, train_latent
from agents.self_clone import SelfCloneConfig, clone_kl, self_clone
from agents.utterances import Utterance, collect_utterances
from dialog_envs import scenarios
from dialog_envs.envs.dat import load_lm, social_core
from dialog_envs.lm.steering import UpMapping
from dialog_envs.lm.up_maps import up_mapping
from experiments.capacity import reply_bits, reward_variance
from experiments.episodes import run_episodes
from experiments.plots import plot_action_rewards, plot_confusion
from experiments.run_folder import ResultRow, model_files, open_run, write_json, write_results
from experiments.statistics import mean_ci95


@dataclass(frozen=True)
class Config:
    """Fix K random actions, roll each over the same contexts, and see whether replies and rewards tell them apart."""

    out: Path = Path("runs/steering")
    """Run folder."""
    lm: str = "pocket"
    """`pocket`, a model folder, or a Hugging Face name."""
    up_map: str = "latent"
    """`pca`, `latent`, `clone`, or a .safetensors file."""
    train: Literal["latent", "clone"] | None = None
    """Train this mapping first, into `<out>/<name>.safetensors`, and measure it."""
    train_steps: int = 400
    """Optimiser steps of that training."""
    train_utterances: int = 2048
    """Utterances of the unsteered model that it is trained on."""
    train_up_map: bool = False
    """Self-cloning trains the up-mapping too (the paper's way). On a model with a control place that makes the prefix
    mute, so that no residual action is heard any more; by default only the planner is trained."""
    action_dim: int | None = None
    """Size d' of the action (default: the mapping's)."""
    prefix_length: int = 2
    """Prefix vectors L of a computed or newly trained mapping."""
    position: Literal["start", "mid", "end"] | None = None
    """Where the prefix stands (default: the mapping's)."""
    actions: int = 16
    """K, number of fixed actions."""
    contexts: int = 128
    """Contexts, the same for every action."""
    turns: int = 1
    """Agent turns an episode."""
    scenarios: str = "train"
    """Which scenarios the contexts come from."""
    max_new_tokens: int = 24
    """Longest reply."""
    seed: int = 0
    """Seed of actions and dialogues."""
    rows: int = 64
    """Dialogues at a time."""
    device: str = "cpu"
    """Where the model lies."""
    dtype: str = "float32"
    """Of its weights."""

    def env(self, **more: Any) -> dict[str, Any]:
        """Return the environment's arguments."""
        names = ("lm", "scenarios", "max_new_tokens", "device", "dtype")
        return {name: getattr(self, name) for name in names} | {"max_turns": self.turns} | more


def run(config: Config) -> Path:
    """Measure (and train) a mapping; write results, plots and examples; return the run folder."""
    out = open_run(config.out, "steering", config, model_files(config.lm))
    name, rows = config.up_map, []
    if config.train:
        path, mapping, start = train_mapping(config, out)
        name, rows = str(path), clone_rows(config, mapping, start) if start else []
    arguments = config.env(up_map=name, prefix_length=config.prefix_length, position=config.position)
    if config.action_dim is not None:
        arguments["action_dim"] = config.action_dim
    rewards, replies, actions = roll_fixed_actions(config, arguments)
    label = Path(name).stem
    variance = reward_variance(rewards)
    samples = rewards.size
    rows += [
        ResultRow(label, "reward_f", variance.f, None, samples, 1),
        ResultRow(label, "reward_p", variance.p, None, samples, 1),
        ResultRow(label, "question_rate_lowest", float(_question_rates(replies).min()), None, samples, 1),
        ResultRow(label, "question_rate_highest", float(_question_rates(replies).max()), None, samples, 1),
    ]
    for classifier in ("unigram", "bigram"):
        bits, accuracy, confusion = reply_bits(replies, classifier, seed=config.seed)
        control, _, _ = reply_bits(replies, classifier, permute=True, seed=config.seed)
        rows += [
            ResultRow(label, f"bits_{classifier}", bits, None, samples, 1),
            ResultRow(label, f"accuracy_{classifier}", accuracy, None, samples, 1),
            ResultRow(label, f"bits_{classifier}_permuted", control, None, samples, 1),
        ]
    plot_action_rewards(out / "rewards.png", rewards)
    plot_confusion(out / "confusion.png", confusion, f"{label}: action (rows) and what the classifier recovers")
    examples = [{"action": a.tolist(), "replies": list(r[:8])} for a, r in zip(actions, replies, strict=True)]
    write_json(out / "examples.json", examples)
    write_results(out, rows)
    for row in rows:
        print(f"{row.system:<12} {row.metric:<28} {row.value:10.4g}")
    return out


def unsteered_utterances(
    config: Config, count: int, seed: int, path: Path | None = None, **more: Any
) -> list[Utterance]:
    """Return what the unsteered model says in dialogues of four turns; `path` keeps it (`collect_utterances`)."""
    core = social_core(config.rows, **config.env(up_map="none", max_turns=4, **more))
    return collect_utterances(core, core.actor.speaker.lm, count, seed, path=path)


def train_mapping(
    config: Config, out: Path, utterances: Path | None = None
) -> tuple[Path, UpMapping, UpMapping | None]:
    """Train a mapping into the run folder; return its file, itself, and what self-cloning started from.

    Args:
        config: what is trained.
        out: the run folder.
        utterances: file of the utterances, for mappings that share them.
    """
    lm = load_lm(config.lm, config.device, config.dtype)
    data = unsteered_utterances(config, config.train_utterances, config.seed, utterances)
    start = None
    if config.train == "latent":
        settings = LatentConfig(steps=config.train_steps, seed=config.seed)
        size = config.action_dim or (16 if config.lm == "pocket" else 64)
        mapping = train_latent(lm, data, size, config.prefix_length, config.position or "start", settings)
    else:
        start = up_mapping(config.up_map, lm, config.lm, config.action_dim, config.prefix_length, config.position)
        mapping = self_clone(
            lm,
            start,
            data,
            SelfCloneConfig(steps=config.train_steps, train_up_map=config.train_up_map, seed=config.seed),
        )
    path = out / f"{config.train}.safetensors"
    mapping.save(path)
    return path, mapping, start


def clone_rows(config: Config, clone: UpMapping, start: UpMapping) -> list[ResultRow]:
    """Return the KL of the clone, and of its start under the zero action, on held-out contexts."""
    lm = load_lm(config.lm, config.device, config.dtype)
    data = unsteered_utterances(config, 512, config.seed + 10_000, scenarios="heldout")
    rows = []
    for name, mapping in (("clone", clone), (f"{start.config.kind} before cloning", start)):
        mean, ci95 = mean_ci95(clone_kl(lm, mapping, data))
        rows.append(ResultRow(name, "kl_nats_a_token", mean, ci95, len(data), 1))
    return rows


def random_directions(count: int, size: int, seed: int) -> np.ndarray:
    """Return unit vectors `(count, size)`, float32."""
    actions = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return actions / np.linalg.norm(actions, axis=1, keepdims=True)


def roll_fixed_actions(config: Config, arguments: dict[str, Any]) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
    """Return rewards `(K, C)`, first replies `(K, C)` and the actions `(K, d')`."""
    ids = [scenario.id for scenario in scenarios.load(config.scenarios)]
    order = np.random.default_rng([config.seed, 1]).permutation(len(ids))
    chosen = [ids[order[i % len(ids)]] for i in range(config.contexts)]
    core = social_core(1, **arguments)
    actions = random_directions(config.actions, core.actor.action_space.shape[0], config.seed)
    rewards, replies = [], []
    for number, action in enumerate(tqdm(actions, desc="fixed actions", unit="action")):
        seeds = [10_000 * (number + 1) + 1_000_000 * config.seed + i for i in range(config.contexts)]
        episodes = run_episodes(
            arguments, lambda obs, a=action: np.tile(a, (len(obs), 1)), chosen, seeds, rows=config.rows
        )
        rewards.append([episode.episode_return for episode in episodes])
        replies.append([episode.turns[1][1] for episode in episodes])
    return np.array(rewards), replies, actions


def _question_rates(replies: list[list[str]]) -> np.ndarray:
    return np.array([np.mean(["?" in text for text in row]) for row in replies])

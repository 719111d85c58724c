"""Who chooses the intent best in EmpathyIntent: MEED2's predictor, fixed rules, chance, or a policy learned by PPO."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import safe_mean

import dialog_envs  # noqa: F401  (registers the ids)
from agents.sb3 import make_sb3, train_sb3
from dialog_envs import scenarios
from dialog_envs.envs.empathy_intent import LAST, PREDICTED
from dialog_envs.speakers.meed2 import POCKET as MEED2
from experiments.episodes import Episode, Policy, paired_design, read_episodes, run_episodes, save_episodes
from experiments.evaluate import print_table, values, write_episodes
from experiments.page import write_transcript_page
from experiments.plots import plot_bars, plot_curves
from experiments.rendering import Table, cell, percent, render
from experiments.run_folder import ResultRow, model_files, open_run, write_json, write_results, write_text
from experiments.statistics import crossed_ci95, mean_ci95
from experiments.train import sb3_policy
from reward_models.dmi.encoder import POCKET as ENCODER
from reward_models.emotion import POCKET as EMOTION
from reward_models.emotion_labels import LABELS
from reward_models.utterance_judge import POCKET as HARM

ENV_ID = "DialogEnvs/EmpathyIntent-v0"
FIRST, LEARNED = "predictor", "ppo"
DIFFERENCE = "minus_predictor"
QUESTIONING = LABELS.index("questioning")
PARTS = {  # of EmpathyIntent: where what is shipped lies, and the commands that make it
    "meed2": (MEED2, "meed2 evaluate` and `python -m experiments meed2 ship"),
    "emotion": (EMOTION, "meed2 classify --ship"),
    "coherence": (ENCODER, "dmi pretrain` and `python -m experiments dmi ship"),
    "harm": (HARM, "judge"),
}
COLUMNS = ("episode_return", DIFFERENCE, "valence_change", "coherence", "harm", "failed_episodes")
CURVE, POINTS = "curve.json", 10
MOST_CHOSEN = 5
Curve = list[tuple[int, float]]  # (environment steps, mean return of the last 100 dialogues of the training)


@dataclass(frozen=True)
class Config:
    """Train PPO and play all on the same held-out dialogues; a killed run goes on."""

    out: Path = Path("runs/meed2_compare")
    """Run folder."""
    systems: tuple[str, ...] = (FIRST, "questioning", "mirror", "random", LEARNED)
    """What to compare; differences are from the predictor's own choice, which is always among them."""
    meed2: str = "pocket"
    """The replies' model, as the environment takes it; so are the next four."""
    emotion: str = "pocket"
    """The classifier of emotions."""
    coherence: str = "pocket"
    """The coherence reward."""
    harm: str = "pocket"
    """The harm judge."""
    lm: str = "pocket"
    """The partner's model."""
    scenarios: str = "comfort/train"
    """Scenarios that are learned from."""
    heldout: str = "comfort/heldout"
    """Scenarios that are played."""
    max_turns: int = 4
    """Agent turns a dialogue."""
    max_new_tokens: int = 24
    """Longest reply, of both sides."""
    transitions: int = 10_240
    """Environment steps of PPO, a seed."""
    rollout: int = 4
    """Turns of each row between two updates of PPO: one dialogue. Batches are of `rows` turns."""
    learning_rate: float = 1e-3
    """Of PPO."""
    entropy: float = 0.01
    """Weight of PPO's entropy bonus."""
    rows: int = 64
    """Dialogues at a time."""
    episodes: int = 150
    """Held-out dialogues a seed."""
    seeds: int = 3
    """Trainings, and sets of dialogues."""
    threads: int = 2
    """CPU threads."""
    device: str = "cpu"
    """Where the environment's models run, as torch names it."""

    def env(self, **more: Any) -> dict[str, Any]:
        """Return the environment's arguments for training."""
        names = ("meed2", "emotion", "coherence", "harm", "lm", "scenarios", "max_turns", "max_new_tokens", "device")
        return {name: getattr(self, name) for name in names} | more


POLICIES: dict[str, Callable[[int], Policy]] = {  # seed -> observations to actions
    FIRST: lambda seed: lambda observations: observations[:, PREDICTED].argmax(1),
    "questioning": lambda seed: lambda observations: np.full(len(observations), QUESTIONING),
    "mirror": lambda seed: lambda observations: observations[:, LAST].argmax(1),
    "random": lambda seed: _random(np.random.default_rng(seed)),
}


def run(config: Config) -> Path:
    """Play every system that has not been played; write results, the plot and transcripts.

    Raises:
        FileNotFoundError: a part of the environment has no weights.
        ValueError: a system is unknown, or the folder was begun with other settings.
    """
    for name in config.systems:
        if name not in (*POLICIES, LEARNED):
            raise ValueError(f"unknown system {name!r}, expected some of {', '.join((*POLICIES, LEARNED))}")
    torch.set_num_threads(config.threads)
    out = open_run(
        config.out, "meed2 compare", config, weights(config), ("out", "systems", "seeds", "threads", "device")
    )
    names = dict.fromkeys((FIRST, *config.systems))
    episodes = {name: [play(config, name, seed) for seed in range(config.seeds)] for name in names}
    seeds = range(config.seeds) if LEARNED in names else ()
    curves = [json.loads((seed_folder(config, LEARNED, seed) / CURVE).read_text()) for seed in seeds]
    rows = table(episodes)
    write_results(out, rows + curve_rows(curves))
    write_text(out / "table.md", page(config, rows, episodes, curves))
    write_episodes(out, episodes)
    plot_bars(out / "returns.png", rows, "episode_return")
    if curves:
        steps, returns = [step for step, _ in curves[0]], np.array(curves)[..., 1]
        plot_curves(out / "curve.png", {LEARNED: (steps, returns)}, "environment steps", "return in training", {})
    shown = {name: episodes[name][0][:12] for name in episodes if name in (FIRST, LEARNED)}
    facts = {"scenarios": config.heldout, "dialogues a seed": str(config.episodes)}
    write_transcript_page(out / "transcripts.html", "EmpathyIntent", shown, rows, out / "returns.png", facts)
    print_table(rows, ("episode_return", DIFFERENCE, "valence_change"))
    return out


def weights(config: Config) -> list[Path]:
    """Return the files that results hang on.

    Raises:
        FileNotFoundError: a part has none; the message names it, and the command that makes it.
    """
    found = model_files(config.lm)
    for name, (shipped, verb) in PARTS.items():
        given = getattr(config, name)
        folder = shipped if given == "pocket" else Path(given)
        files = model_files(str(folder))
        if not files:
            made = f"`python -m experiments {verb}` makes one (--{name} FOLDER takes it from where it lies)"
            raise FileNotFoundError(f"{name} is {given!r}, but there are no weights in {folder}: {made}")
        found += files
    return found


def seed_folder(config: Config, name: str, seed: int) -> Path:
    """Return where a system's training and dialogues of one seed lie."""
    return config.out / name / f"seed_{seed}"


def play(config: Config, name: str, seed: int) -> list[Episode]:
    """Return a system's dialogues of one seed, played where that is not done; seeds differ in their dice alone."""
    path = seed_folder(config, name, seed) / "episodes.json"
    if not path.exists():
        policy = learn(config, seed, path.parent) if name == LEARNED else POLICIES[name](seed)
        known = [scenario.id for scenario in scenarios.load(config.heldout)]
        chosen, _ = paired_design(known, config.episodes, 0)
        _, dice = paired_design(known, config.episodes, seed)
        arguments = config.env(scenarios=config.heldout)
        save_episodes(path, run_episodes(arguments, policy, chosen, dice, ENV_ID, config.rows, name))
    return read_episodes(path)


def learn(config: Config, seed: int, folder: Path) -> Policy:
    """Train PPO, or go on training; return its policy. The curve of the training is written to the folder."""
    env = gym.make_vec(ENV_ID, num_envs=config.rows, **config.env())
    settings = {"learning_rate": config.learning_rate, "ent_coef": config.entropy}
    model = make_sb3("PPO", env, seed, n_steps=config.rollout, batch_size=config.rows, **settings)
    path = folder / CURVE
    curve = dict(json.loads(path.read_text())) if path.exists() else {}

    def point(model: BaseAlgorithm) -> Mapping[str, float]:
        curve[model.num_timesteps] = float(safe_mean([episode["r"] for episode in model.ep_info_buffer]))
        write_json(path, list(curve.items()))
        return {}

    train_sb3(model, config.transitions, max(1, config.transitions // POINTS), folder, evaluate=point)
    env.close()
    return sb3_policy(model)


def table(episodes: Mapping[str, Sequence[Sequence[Episode]]]) -> list[ResultRow]:
    """Return each system's return and its parts, its difference from the predictor, dialogue by dialogue, and how often
    it chose each intent (share of the turns).

    Intervals cover seeds and scenarios. Dialogues that failed are in no number but `failed_episodes`.
    """
    rows = []
    for name, per_seed in episodes.items():
        whole = [episode for group in per_seed for episode in group if episode.error is None]
        found = {metric: values(per_seed, metric) for metric in ("episode_return", *(whole[0].score if whole else ()))}
        if name != FIRST:
            found[DIFFERENCE] = found["episode_return"] - values(episodes[FIRST], "episode_return")
        for label in sorted(choices(per_seed)):
            found[f"chosen/{LABELS[label]}"] = np.array(
                [[np.nan if e.error else e.actions.count(label) / len(e.actions) for e in group] for group in per_seed]
            )
        scenarios_met = [episode.scenario for episode in per_seed[0]]
        for metric, of in found.items():
            count = int((~np.isnan(of).any(0)).sum())
            rows.append(ResultRow(name, metric, *crossed_ci95(of, scenarios_met), count, len(per_seed)))
        failed = sum(map(len, per_seed)) - len(whole)
        rows.append(ResultRow(name, "failed_episodes", failed, None, sum(map(len, per_seed)), len(per_seed)))
    return rows


def choices(per_seed: Sequence[Sequence[Episode]]) -> Counter[int]:
    """Return how often each intent was chosen in dialogues that did not fail."""
    return Counter(action for group in per_seed for e in group if e.error is None for action in e.actions)


def curve_rows(curves: Sequence[Curve]) -> list[ResultRow]:
    """Return the points of the training's curves; intervals are over seeds."""
    return [
        ResultRow(f"{LEARNED} at step {points[0][0]}", "training_return", mean, half, len(curves), len(curves))
        for points in zip(*curves, strict=True)
        for mean, half in [mean_ci95([value for _, value in points])]
    ]


def page(
    config: Config,
    rows: Sequence[ResultRow],
    episodes: Mapping[str, Sequence[Sequence[Episode]]],
    curves: Sequence[Curve],
) -> str:
    """Return what was found as Markdown: results, the intents that each system chose, the curve of the training."""
    found = {(row.system, row.metric): row for row in rows}
    results: Table = [["system", *(metric.replace("_", " ") for metric in COLUMNS)]]
    chosen: Table = [["system", "intents", "most often (share of the turns)"]]
    for name, per_seed in episodes.items():
        results.append([name, *(cell(found.get((name, metric))) for metric in COLUMNS)])
        counts = choices(per_seed)
        shares = [(LABELS[label], count / counts.total()) for label, count in counts.most_common(MOST_CHOSEN)]
        chosen.append([name, len(counts), ", ".join(f"{label} {percent(share)}" for label, share in shares)])
    points = [[row.system.rpartition(" ")[2], cell(row)] for row in curve_rows(curves)]
    curve = [["environment steps", "return in training"], *points]
    return render("meed2_compare.md", config=config, results=results, chosen=chosen, curve=curve)


def _random(generator: np.random.Generator) -> Policy:
    return lambda observations: generator.integers(len(LABELS), size=len(observations))

"""A person in the dialogue: as the partner of an agent, or as the agent, in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box

from agents.baselines import RandomPolicy, ZeroPolicy
from agents.checkpoint import load_tree
from agents.networks import ActorPolicy
from agents.td3_bc import TD3BC
from dialog_envs import scenarios
from dialog_envs.core import DialogueCore
from dialog_envs.envs.dat import social_core
from dialog_envs.parts import Rows
from dialog_envs.retry import PartError, Retry
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from experiments import train
from experiments.episodes import Episode, Policy
from experiments.run_folder import ResultRow, open_run, write_json, write_results
from reward_models.social_score import DIMENSIONS
from reward_models.verification import met_targets

INPUT_ENDED = "the input has ended"
ENDINGS = {"goal": "the goal is reached", "goodbye": "a goodbye", "turn_limit": "the turn limit"}


@dataclass(frozen=True)
class Config:
    """Talk with the model; Ctrl-D or Ctrl-C ends the dialogue."""

    role: Literal["partner", "agent"] = "partner"
    """Whose words you write: the partner's (a policy steers the agent), or the agent's (the model is the partner)."""
    policy: str = "unsteered"
    """Who steers the agent when you are the partner: `unsteered`, `random`, `clone` (the zero action on the self-cloned
    mapping), or the file of a saved TD3+BC policy."""
    scenarios: str = "heldout"
    """A set (`heldout`, `comfort/train`), a kind (`comfort`: its held-out ones) or one of them
    (`comfort/heldout/0003`)."""
    seed: int = 0
    """Chooses the scenario and the model's dice."""
    lm: str = "pocket"
    """`pocket`, a model folder, or a Hugging Face name."""
    up_map: str = "latent"
    """Up-mapping that the policy acts through: `latent`, `clone`, `pca`, or a .safetensors file."""
    action_dim: int | None = None
    """Size of the action (default: the mapping's)."""
    max_turns: int = 4
    """Agent turns in the dialogue."""
    past_actions: int = train.Settings.past_actions
    """How many of its own last actions a saved policy sees, as it was trained."""
    out: Path = Path("runs/play")
    """Run folder: `transcript.json` and `results.json`."""


class HumanActor:
    """A person at the terminal as the agent: shows what the partner said and reads the agent's line.

    The action means nothing here; it is a box of one number.
    """

    def __init__(self) -> None:
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)

    def act(self, actions: np.ndarray, rows: Rows) -> list[str]:
        """Return the person's line; raises PartError where the input has ended."""
        dialogue, scenario = rows.dialogues[0], rows.scenarios[0]
        if not dialogue.texts(AGENT):
            print(f"\nYou are the agent. {scenario.agent_situation}")
        print(f"{PARTNER}: {dialogue.texts(PARTNER)[-1]}")
        try:
            return [input(f"{AGENT}: ").strip()]
        except EOFError as error:
            raise PartError(INPUT_ENDED) from error


def run(config: Config) -> Path:
    """Hold one dialogue, print its score, write it down; return the run folder."""
    core = build_core(config)
    policy = load_policy(config, core.actor.action_space)
    policy_file = Path(config.policy)
    out = open_run(config.out, "play", config, [policy_file] if policy_file.is_file() else [])
    print("Ctrl-D ends the dialogue.")
    episode = hold_dialogue(core, policy, config)
    show_end(core, episode, config.role)
    about = {"role": config.role, "policy": None if config.role == "agent" else config.policy}
    write_json(out / "transcript.json", about | asdict(episode))
    write_results(out, result_rows(episode, "person" if config.role == "agent" else config.policy))
    print(f"written to {out / 'transcript.json'}")
    return out


def build_core(config: Config) -> DialogueCore:
    """Return a core of one row in which the person has the asked-for role."""
    mapping = {"unsteered": "none", "clone": "clone"}.get(config.policy, config.up_map)
    core = social_core(
        1,
        lm=config.lm,
        partner="human" if config.role == "partner" else "lm",
        up_map=mapping if config.role == "partner" else "none",
        action_dim=config.action_dim,
        scenarios=scenario_set(config.scenarios)[0],
        max_turns=config.max_turns,
        past_actions=config.past_actions,
    )
    if config.role == "agent":
        core.actor = HumanActor()
    core.config = replace(core.config, retry=Retry(attempts=1))  # a person who leaves is not asked again
    return core


def scenario_set(name: str) -> tuple[str, str | None]:
    """Return the set that a name of a set, of a kind or of a scenario stands for, and the scenario if it names one."""
    if name in scenarios.KINDS:
        return f"{name}/heldout", None
    return (name.rpartition("/")[0], name) if name.count("/") == 2 else (name, None)


def load_policy(config: Config, action_space: Box) -> Policy:
    """Return what steers the agent.

    Raises:
        ValueError: there is no such policy, or it was trained for actions of another size.
    """
    if config.role == "agent" or config.policy in ("unsteered", "clone"):
        return ZeroPolicy(action_space.shape[0])
    if config.policy == "random":
        return RandomPolicy(action_space, config.seed, "sphere")
    path = Path(config.policy)
    if not path.is_file():
        raise ValueError(
            f"policy is {config.policy!r}, expected unsteered, random, clone, or the file of a saved policy"
        )
    policy = TD3BC.load(path).policy() if "sizes" in load_tree(path) else ActorPolicy.load(path)
    if policy.actor.action_dim != action_space.shape[0]:
        raise ValueError(
            f"{path} acts in {policy.actor.action_dim} dimensions, the mapping takes {action_space.shape[0]}"
        )
    return policy


def hold_dialogue(core: DialogueCore, policy: Policy, config: Config) -> Episode:
    """Run one dialogue until it ends or the person leaves."""
    observations, infos = core.reset([0], [config.seed], [scenario_set(config.scenarios)[1]])
    episode = Episode(infos[0]["scenario"], config.seed)
    try:
        ended = False
        while not ended:
            result = core.step(policy(observations))
            observations, info = result.observations, result.infos[0]
            ended = bool(result.terminated[0] or result.truncated[0])
            note_turn(episode, float(result.rewards[0]), info)
    except KeyboardInterrupt:
        episode.error = "interrupted"
    episode.turns = [(turn.speaker, turn.text) for turn in core.states[0].dialogue.turns]
    return episode


def note_turn(episode: Episode, reward: float, info: Mapping[str, Any]) -> None:
    """Add a finished turn to the episode, or note that there was none."""
    episode.error, episode.outcome = info.get("error"), info.get("outcome")
    if episode.error is None:
        episode.rewards.append(reward)
        episode.scores.append(info["score"])


def result_rows(episode: Episode, system: str) -> list[ResultRow]:
    """Return the dialogue's numbers; none for one that was left or failed."""
    if episode.error is not None:
        return []
    values = {**episode.score, "episode_return": episode.episode_return}
    return [ResultRow(system, name, value, None, 1, 1) for name, value in values.items()]


def show_end(core: DialogueCore, episode: Episode, role: str) -> None:
    """Print how the dialogue ended, what the goal was, and the seven dimensions after the last whole turn."""
    scenario = core.states[0].scenario
    if episode.error is None and role == "agent":
        print(f"{PARTNER}: {episode.turns[-1][1]}")
    if episode.error is None:
        print(f"\nEnded by {ENDINGS.get(episode.outcome, episode.outcome)}.")
    else:
        left = episode.error == "interrupted" or episode.error.endswith(INPUT_ENDED)
        print("\nYou left the dialogue." if left else f"\nThe dialogue failed: {episode.error}")
    print(f"The agent knew: {scenario.agent_situation}\nThe partner knew: {scenario.partner_situation}")
    met = met_targets(episode.turns, scenario.goal, AGENT)
    print("Found out: " + (", ".join(met) or "nothing") + f" ({len(met)} of {len(scenario.goal.targets)})")
    if not episode.scores:
        print("No turn was finished: there is no score.")
        return
    for name, value in episode.score.items():
        low, high = DIMENSIONS[name]
        print(f"  {name.replace('_', ' '):<34}{value + 0.0:6.2f}   of {low:g} to {high:g}")
    print(f"  {'mean':<34}{sum(episode.score.values()) / len(episode.score):6.2f}")

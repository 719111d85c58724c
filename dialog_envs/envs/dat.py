"""Dialogue Action Tokens: a continuous action steers the frozen model by prefix tokens (arXiv 2406.11978)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from gymnasium.spaces import Box

from dialog_envs import scenarios as scenario_library
from dialog_envs.adapters import entry_points
from dialog_envs.core import CoreConfig, DialogueCore
from dialog_envs.judges import make_judge
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.engine import Engine
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.key_values import KeyValueRows
from dialog_envs.lm.prompt_embeds import PromptEmbedsEngine
from dialog_envs.lm.steering import UpMapping
from dialog_envs.lm.up_maps import DEFAULT_ACTION_DIM, up_mapping
from dialog_envs.names import look_up
from dialog_envs.observations import HiddenState, PastActions
from dialog_envs.partners import make_partner
from dialog_envs.parts import Rows
from dialog_envs.retry import Failure
from dialog_envs.scenarios.scenario import AGENT
from dialog_envs.speakers.lm import LMSpeaker
from reward_models.chat_client import ChatConfig


class SteeredActor:
    """The agent's words by the frozen model, steered by the action.

    Args:
        speaker: writes a turn.
        mapping: action -> prefix; None leaves the model unsteered, whatever the action.
        action_dim: size d' of the action.
        histories: the rows' histories as the model read them for the observation, so that what stands before the prefix
            is not computed again; None computes it.

    Attributes:
        action_set: where actions are projected to, `"ball"` or `"sphere"`; `"box"` without a mapping.
    """

    def __init__(
        self, speaker: LMSpeaker, mapping: UpMapping | None, action_dim: int, histories: KeyValueRows | None = None
    ) -> None:
        self.speaker, self.mapping, self.histories = speaker, mapping, histories
        self.action_space = Box(-1.0, 1.0, (action_dim,), np.float32)
        self.action_set = "box" if mapping is None else mapping.config.projection

    def scalars(self) -> dict[str, float]:
        """Return what the engine has spent so far, under TensorBoard tags, where it is a server."""
        return getattr(self.speaker.engine, "scalars", dict)()

    @torch.no_grad()
    def act(self, actions: np.ndarray, rows: Rows) -> list[str | Failure]:
        """Return one utterance a row."""
        prefix = None
        if self.mapping is not None:
            device = self.speaker.lm.device
            states = torch.from_numpy(rows.observations[:, : self.speaker.lm.hidden_size]).to(device)
            prefix = self.mapping(torch.from_numpy(actions).to(device), states)
        return self.speaker.speak(rows.dialogues, AGENT, rows.generators, prefix, self.histories, rows.index)


def load_lm(
    name: str,
    device: str,
    dtype: str,
    device_map: str | None = None,
    quantization: str | None = None,
    compile: bool = False,
) -> FrozenLM:
    """Load a model once and share it: it never changes."""
    return _load_lm(name, device, dtype, device_map, quantization, compile)


@lru_cache(maxsize=4)
def _load_lm(
    name: str, device: str, dtype: str, device_map: str | None, quantization: str | None, compile: bool
) -> FrozenLM:
    more = {"device_map": device_map, "quantization": quantization, "compile": compile}
    return FrozenLM.from_pretrained(name, device, dtype, **more)


ENGINES: dict[str, Callable[[FrozenLM, str], Engine]] = {  # (model in process, what is named behind the colon)
    "in_process": lambda lm, model: lm,
    "prompt_embeds": lambda lm, model: PromptEmbedsEngine.at(lm, ChatConfig.named(model)),
}


def make_engine(name: str, lm: FrozenLM) -> Engine:
    """Return the engine of that name: `"in_process"`, or `"prompt_embeds:MODEL"`.

    Raises:
        ValueError: the name is unknown, lacks the model behind a colon, or has one where none is taken.
    """
    kind, _, model = name.partition(":")
    make = look_up("engine", kind, ENGINES)
    if bool(model) == (kind == "in_process"):
        expected = repr(kind) if kind == "in_process" else f"{kind}:MODEL"
        raise ValueError(f"engine is {name!r}, expected {expected}")
    return make(lm, model)


def social_core(
    num_envs: int,
    lm: str = "pocket",
    partner: str = "lm",
    partner_lm: str | None = None,
    reward: str = "social_score",
    dense_reward: bool = False,
    up_map: str = "latent",
    action_dim: int | None = None,
    prefix_length: int = 2,
    position: str | None = None,
    act_norm: float | None = None,
    past_actions: int = 0,
    scenarios: str = "train",
    max_turns: int = 4,
    max_new_tokens: int = 24,
    temperature: float = 0.8,
    min_p: float = 0.1,
    redraws: int = 3,
    device: str = "cpu",
    dtype: str = "float32",
    device_map: str | None = None,
    quantization: str | None = None,
    compile: bool = False,
    engine: str = "in_process",
) -> DialogueCore:
    """Build the core of `DialogEnvs/DATSocial-v0`; the environment's page explains the arguments.

    Raises:
        ValueError: the scenarios are none that the reward can judge, or an argument is unknown.
    """
    loading = (device, dtype, device_map, quantization, compile)
    agent_lm = load_lm(lm, *loading)
    mapping = None
    if up_map != "none":
        mapping = up_mapping(up_map, agent_lm, lm, action_dim, prefix_length, position, act_norm)
    size = mapping.config.action_dim if mapping is not None else action_dim or DEFAULT_ACTION_DIM.get(lm, 64)
    sampling = Sampling(max_new_tokens, temperature, min_p)
    generator = make_engine(engine, agent_lm)
    position = mapping.config.position if mapping is not None else "start"
    speaker = LMSpeaker(agent_lm, sampling, position, generator, redraws)
    other = LMSpeaker(load_lm(partner_lm or lm, *loading), sampling, engine=None if partner_lm else generator)
    state = HiddenState(agent_lm, num_envs)
    actor = SteeredActor(speaker, mapping, size, state.memory)
    chosen, judge = scenario_library.load(scenarios), make_judge(reward)
    if hasattr(judge, "check"):
        judge.check(chosen)
    return DialogueCore(
        num_envs,
        chosen,
        actor,
        PastActions(state, actor.action_space, past_actions) if past_actions else state,
        make_partner(partner, other, num_envs),
        judge,
        CoreConfig(max_turns, dense_reward),
    )


make_social, make_social_vector = entry_points(social_core)

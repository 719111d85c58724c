"""Partner Personas Generation: think the partner's persona, then respond (Lu et al., NAACL 2022).

An exchange has two steps. In phase 0 the agent writes down who it believes the partner to be, which nobody hears; in
phase 1 it responds. `PPG-v0` takes both as token ids; `ppg_select.py` takes a choice among generated candidates.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from gymnasium.vector import VectorEnv

from dialog_envs.adapters import entry_points
from dialog_envs.core import CoreConfig, DialogueCore
from dialog_envs.dialogue import Dialogue
from dialog_envs.envs.dat import load_lm
from dialog_envs.judges import make_judge
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.prompt import PromptRenderer
from dialog_envs.partners import make_partner
from dialog_envs.parts import Rows, Thought
from dialog_envs.scenarios import personas as persona_scenarios
from dialog_envs.scenarios.scenario import AGENT, Scenario
from dialog_envs.speakers.lm import LMSpeaker
from dialog_envs.speakers.ppg import parted, personas_view, response_view

PHASES = ("persona", "response")
HEAD = 3  # numbers of an observation before the token ids: phase, tokens of the situation, tokens of the prompt


def views(rows: Rows) -> list[Dialogue]:
    """Return each row's dialogue as the generator of its phase is shown it."""
    return [
        personas_view(dialogue, AGENT) if thought is None else response_view(dialogue, AGENT, thought)
        for dialogue, thought in zip(rows.dialogues, rows.thoughts, strict=True)
    ]


def uttered(texts: Sequence[str], rows: Rows) -> list[str | Thought]:
    """Return texts as thoughts in phase 0 and as words in phase 1."""
    return [Thought(text) if thought is None else text for text, thought in zip(texts, rows.thoughts, strict=True)]


class TokenWriter:
    """The agent's words from token ids.

    Args:
        lm: whose tokens they are.
        length: ids of an action; what stands behind the first end or padding token is not read.
    """

    def __init__(self, lm: FrozenLM, length: int) -> None:
        if length < 1:
            raise ValueError(f"action_tokens is {length}, expected at least 1")
        self.lm, tokenizer = lm, lm.tokenizer
        self.action_space = MultiDiscrete(np.full(length, len(tokenizer)))
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.pad = int(lm.stop_ids[0] if pad is None else pad)
        self.ends = np.union1d(lm.stop_ids, self.pad)

    def act(self, actions: np.ndarray, rows: Rows) -> list[str | Thought]:
        """Return one thought or utterance a row."""
        return uttered(self.decode(actions), rows)

    def encode(self, texts: Sequence[str], truncate: bool = False) -> np.ndarray:
        """Return actions `(N, length)`, int64, that say these texts."""
        length = self.action_space.shape[0]
        encoded = self._ids(texts)
        longest = max(len(ids) for ids in encoded)
        if longest > length and not truncate:
            raise ValueError(f"a text has {longest} tokens, an action holds {length} (action_tokens)")
        actions = np.full((len(encoded), length), self.pad)
        for action, ids in zip(actions, encoded, strict=True):
            action[: len(ids)] = ids[:length]
        return actions

    def decode(self, actions: np.ndarray) -> list[str]:
        """Return the texts of actions `(N, length)`; none has more tokens than an action holds."""
        length = self.action_space.shape[0]
        texts = self.lm.decode([action[: self._end(action)] for action in actions])
        # Ids that no tokenizer would give can stand for a text of more tokens: it is cut.
        return [
            self.lm.decode([ids[:length]])[0] if len(ids) > length else text
            for ids, text in zip(self._ids(texts), texts, strict=True)
        ]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self.lm.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def _end(self, action: np.ndarray) -> int:
        ends = np.flatnonzero(np.isin(action, self.ends))
        return int(ends[0]) if len(ends) else len(action)


class PromptTokens:
    """What the generators see, as token ids: `[phase, tokens of the situation, tokens of the prompt, *ids]`, int64.

    Args:
        lm: whose tokens they are.
        length: longest prompt; the ids are padded to it with 0.
    """

    def __init__(self, lm: FrozenLM, length: int) -> None:
        self.prompts = PromptRenderer(lm.tokenizer, length)
        high = [len(PHASES) - 1, length, length, *[len(lm.tokenizer) - 1] * length]
        self.observation_space = Box(0, np.array(high), dtype=np.int64)

    def make_sure_of_room(self, scenarios: Sequence[Scenario], thought: int) -> None:
        """Check that the longest own persona and a thought of so many tokens fit into a prompt.

        Raises:
            ValueError: they do not.
        """
        own = {scenario.agent_situation for scenario in scenarios}
        dialogues = [personas_view(Dialogue(situations={AGENT: persona}), AGENT) for persona in own]
        prompts = PromptRenderer(self.prompts.tokenizer, sys.maxsize).render_batch(dialogues, [AGENT] * len(dialogues))
        longest = max(len(prompt.ids) for prompt in prompts)
        if longest + thought > self.prompts.max_tokens:
            raise ValueError(
                f"context_tokens is {self.prompts.max_tokens}, expected at least {longest + thought}: {longest} "
                f"for the longest own persona and {thought} for a thought (action_tokens)"
            )

    def observe(self, rows: Rows) -> np.ndarray:
        """Return the observations `(n, 3 + length)`."""
        prompts = self.prompts.render_batch(views(rows), [AGENT] * len(rows))
        observations = np.zeros((len(rows), *self.observation_space.shape), dtype=np.int64)
        for observation, prompt, thought in zip(observations, prompts, rows.thoughts, strict=True):
            observation[:HEAD] = thought is not None, prompt.instruction_end, len(prompt.ids)
            observation[HEAD : HEAD + len(prompt.ids)] = prompt.ids
        return observations

    def forget(self, rows: Sequence[int]) -> None:
        """Nothing is kept."""


def encode_text(env: gym.Env | VectorEnv, texts: str | Sequence[str], truncate: bool = False) -> np.ndarray:
    """Return the action of `PPG-v0` that says a text `(T,)`, or those that say several `(N, T)`; int64.

    Args:
        env: the environment, wrapped or not.
        texts: one text, or one a row.
        truncate: cut what is longer than an action.

    Raises:
        ValueError: a text is longer than an action, and `truncate` is false.
        TypeError: the environment takes no token ids.
    """
    writer = _writer(env)
    return writer.encode([texts], truncate)[0] if isinstance(texts, str) else writer.encode(texts, truncate)


def decode_action(env: gym.Env | VectorEnv, action: np.ndarray) -> str | list[str]:
    """Return the text that an action `(T,)` says, or the texts of several `(N, T)`."""
    action = np.asarray(action)
    texts = _writer(env).decode(np.atleast_2d(action))
    return texts[0] if action.ndim == 1 else texts


def decode_observation(env: gym.Env | VectorEnv, observation: np.ndarray) -> dict[str, str] | list[dict[str, str]]:
    """Return what an observation of `PPG-v0` says, or a list of it for several.

    Returns:
        `phase` (`"persona"` or `"response"`: what is to be written), `persona` (the agent's own), `partner_persona`
        (what it has thought; empty in the first phase) and `context` (the dialogue so far with the marks of the
        model's own chat format).
    """
    observation = np.asarray(observation)
    if observation.ndim == 2:
        return [decode_observation(env, row) for row in observation]
    tokenizer = _writer(env).lm.tokenizer
    phase, situation, tokens = observation[:HEAD]
    ids = observation[HEAD : HEAD + tokens].tolist()
    own, partner = parted(tokenizer.decode(ids[:situation], skip_special_tokens=True).strip())
    context = tokenizer.decode(ids[situation:]).strip()
    return {"phase": PHASES[phase], "persona": own, "partner_persona": partner, "context": context}


def _writer(env: gym.Env | VectorEnv) -> TokenWriter:
    actor = env.unwrapped.core.actor
    if not isinstance(actor, TokenWriter):
        raise TypeError(f"{env} has {type(actor).__name__} actions, expected an environment of DialogEnvs/PPG-v0")
    return actor


def ppg_core(
    num_envs: int,
    lm: str = "pocket",
    partner: str = "recorded",
    partner_lm: str | None = None,
    reward: str = "persona_critic",
    scenarios: str = "train",
    personas: str | None = None,
    max_turns: int = 1,
    action_tokens: int = 64,
    context_tokens: int = 320,
    max_new_tokens: int = 24,
    temperature: float = 0.8,
    min_p: float = 0.1,
    device: str = "cpu",
    dtype: str = "float32",
) -> DialogueCore:
    """Build the core of `DialogEnvs/PPG-v0`; the environment's page explains the arguments."""
    agent_lm = load_lm(lm, device, dtype)
    speaker = LMSpeaker(load_lm(partner_lm or lm, device, dtype), Sampling(max_new_tokens, temperature, min_p))
    chosen = chosen_scenarios(scenarios, personas, partner, max_turns)
    prompts = PromptTokens(agent_lm, context_tokens)
    prompts.make_sure_of_room(chosen, action_tokens)
    return DialogueCore(
        num_envs,
        chosen,
        TokenWriter(agent_lm, action_tokens),
        prompts,
        make_partner(partner, speaker, num_envs),
        make_judge(reward),
        CoreConfig(max_turns, rounds=True),
    )


def chosen_scenarios(split: str, file: str | None, partner: str, max_turns: int) -> Sequence[Scenario]:
    """Return the scenarios of a file, else of a split, with as many recorded turns as that partner needs."""
    replies = max_turns if partner == "recorded" else 0
    return persona_scenarios.from_file(file, replies) if file else persona_scenarios.scenarios(split, replies)


def turns_of_steps(max_episode_steps: int) -> int:
    """Return `max_turns` for the number of steps that Gymnasium passes: an exchange takes two.

    Raises:
        ValueError: the number is odd.
    """
    if max_episode_steps % len(PHASES):
        raise ValueError(f"max_episode_steps is {max_episode_steps}, expected an even number: persona, response")
    return max_episode_steps // len(PHASES)


make_ppg, make_ppg_vector = entry_points(ppg_core, turns_of_steps)

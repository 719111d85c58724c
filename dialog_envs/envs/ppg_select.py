"""Partner Personas Generation as a choice: K personas are generated to choose from, then K responses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch.nn.utils.rnn import pad_sequence

from dialog_envs.adapters import entry_points
from dialog_envs.core import CoreConfig, DialogueCore
from dialog_envs.envs.dat import load_lm
from dialog_envs.envs.ppg import chosen_scenarios, turns_of_steps, uttered, views
from dialog_envs.judges import make_judge
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.partners import make_partner
from dialog_envs.parts import Rows, Thought
from dialog_envs.scenarios.scenario import AGENT
from dialog_envs.speakers.lm import LMSpeaker
from dialog_envs.speakers.ppg import Generator, PersonasGenerator, ResponseGenerator

BATCH = 128  # texts that run through the model together


class GeneratedCandidates:
    """K personas in phase 0 and K responses in phase 1, drawn by the generators.

    Args:
        personas: writes the partner's persona.
        responses: writes the response.
        count: number K of candidates.
        sampling: of personas and of responses.
    """

    def __init__(
        self, personas: PersonasGenerator, responses: ResponseGenerator, count: int, sampling: tuple[Sampling, Sampling]
    ) -> None:
        if count < 2:
            raise ValueError(f"candidates is {count}, expected at least 2")
        self.personas, self.responses, self.count, self.sampling = personas, responses, count, sampling

    def propose(self, rows: Rows) -> list[tuple[str, ...]]:
        """Return K texts for each row."""
        offers: list[tuple[str, ...]] = [()] * len(rows)
        for thinking in (True, False):
            where = [i for i, thought in enumerate(rows.thoughts) if (thought is None) == thinking]
            if where:
                for i, texts in zip(where, self._draw(rows.at(where), thinking), strict=True):
                    offers[i] = texts
        return offers

    def _draw(self, rows: Rows, thinking: bool) -> list[tuple[str, ...]]:
        speakers = [AGENT] * len(rows)
        if thinking:
            generator, prompts = self.personas, self.personas.prompts(rows.dialogues, speakers)
        else:
            generator, prompts = self.responses, self.responses.prompts(rows.dialogues, speakers, rows.thoughts)
        sampling = self.sampling[not thinking]
        uniforms = np.stack([g.random((self.count, sampling.max_new_tokens)) for g in rows.generators])
        return [tuple(generator.decode(drawn)) for drawn in generator.candidates(prompts, uniforms, sampling)]


class CandidateChooser:
    """The agent's words by the number of a candidate."""

    def __init__(self, count: int) -> None:
        self.action_space = Discrete(count)

    def act(self, actions: np.ndarray, rows: Rows) -> list[str | Thought]:
        """Return one thought or utterance a row."""
        return uttered([offer[action] for offer, action in zip(rows.candidates, actions, strict=True)], rows)


class CandidateStates:
    """Hidden states of prompt and candidates: `[phase, last state of the prompt (H), mean state of each (K x H)]`.

    The candidates' part is 0 where there are none to choose from: when the dialogue has ended.

    Args:
        lm: the frozen model that reads them.
        count: number K of candidates.
    """

    def __init__(self, lm: FrozenLM, count: int) -> None:
        self.lm, self.count = lm, count
        bound = np.tile(lm.hidden_bound(), 1 + count)
        low, high = (np.append(phase, bounds).astype(np.float32) for phase, bounds in ((0, -bound), (1, bound)))
        self.observation_space = Box(low, high, dtype=np.float32)

    def observe(self, rows: Rows) -> np.ndarray:
        """Return the observations `(n, 1 + H + K * H)`, float32."""
        size = self.lm.hidden_size
        observations = np.zeros((len(rows), *self.observation_space.shape), dtype=np.float32)
        observations[:, 0] = [thought is not None for thought in rows.thoughts]
        prompts = self.lm.prompts.render_batch(views(rows), [AGENT] * len(rows))
        observations[:, 1 : 1 + size] = self.lm.encode(prompts).cpu().numpy()
        offered = [i for i, offer in enumerate(rows.candidates) if offer]
        states = mean_states(self.lm, [text for i in offered for text in rows.candidates[i]])
        observations[offered, 1 + size :] = states.reshape(len(offered), self.count * size)
        return observations

    def forget(self, rows: Sequence[int]) -> None:
        """Nothing is kept."""


@torch.no_grad()
def mean_states(lm: FrozenLM, texts: Sequence[str]) -> np.ndarray:
    """Return the mean last-layer hidden state `(N, H)`, float32, of each text's tokens and the end token."""
    states = np.zeros((len(texts), lm.hidden_size), dtype=np.float32)
    for first in range(0, len(texts), BATCH):
        some = list(texts[first : first + BATCH])
        encoded = lm.tokenizer(some, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        tokens = [torch.tensor([*ids, int(lm.stop_ids[0])], device=lm.device) for ids in encoded]
        mask = pad_sequence([torch.ones_like(row) for row in tokens], batch_first=True)
        ids = pad_sequence(tokens, batch_first=True)
        hidden = lm.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        means = (hidden * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        states[first : first + BATCH] = means.cpu().numpy()
    return states


@lru_cache(maxsize=4)
def load_generator(kind: type[Generator], name: str, device: str, dtype: str) -> Generator:
    """Load a generator once and share it: here it never changes."""
    return kind.from_pretrained(name, device, dtype).requires_grad_(False)


def ppg_select_core(
    num_envs: int,
    lm: str = "pocket",
    personas_generator: str | None = None,
    response_generator: str | None = None,
    candidates: int = 8,
    partner: str = "recorded",
    partner_lm: str | None = None,
    reward: str = "persona_critic",
    scenarios: str = "train",
    personas: str | None = None,
    max_turns: int = 1,
    persona_tokens: int = 64,
    max_new_tokens: int = 24,
    temperature: float = 0.8,
    min_p: float = 0.1,
    device: str = "cpu",
    dtype: str = "float32",
) -> DialogueCore:
    """Build the core of `DialogEnvs/PPGSelect-v0`; the environment's page explains the arguments."""
    reader = load_lm(lm, device, dtype)
    sampling = Sampling(max_new_tokens, temperature, min_p)
    speaker = LMSpeaker(load_lm(partner_lm or lm, device, dtype), sampling)
    proposer = GeneratedCandidates(
        load_generator(PersonasGenerator, personas_generator or lm, device, dtype),
        load_generator(ResponseGenerator, response_generator or lm, device, dtype),
        candidates,
        (Sampling(persona_tokens, temperature, min_p), sampling),
    )
    return DialogueCore(
        num_envs,
        chosen_scenarios(scenarios, personas, partner, max_turns),
        CandidateChooser(candidates),
        CandidateStates(reader, candidates),
        make_partner(partner, speaker, num_envs),
        make_judge(reward),
        CoreConfig(max_turns, rounds=True),
        proposer,
    )


make_ppg_select, make_ppg_select_vector = entry_points(ppg_select_core, turns_of_steps)

"""Exchanges of Partner Personas Generation: the partner's persona is written, then the response; a critic judges it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.prompt import Prompt
from dialog_envs.retry import Failure, Retry
from dialog_envs.speakers.ppg import Generator, PersonasGenerator, ResponseGenerator

BATCH = 128  # exchanges that are generated together
SCORED = 64  # texts that are scored together: each token has a number for every word of the vocabulary


@dataclass(frozen=True)
class Exchange:
    """A point in a dialogue at which someone is to respond.

    Attributes:
        dialogue: the turns so far, and what both speakers know of themselves.
        speaker: who responds.
        partner: who is responded to.
        response: what was really said.
    """

    dialogue: Dialogue
    speaker: str
    partner: str
    response: str

    @property
    def persona(self) -> str:
        """The responding speaker's own persona."""
        return self.dialogue.situations.get(self.speaker, "")

    @property
    def partner_persona(self) -> str:
        """The partner's true persona, empty where it is not known."""
        return self.dialogue.situations.get(self.partner, "")


@dataclass(frozen=True)
class Draws:
    """How both texts are drawn.

    Attributes:
        persona: temperature, cut and longest persona.
        response: the same of the response.
    """

    persona: Sampling = field(default_factory=lambda: Sampling(64, 1.0, 0.0))
    response: Sampling = field(default_factory=lambda: Sampling(24, 1.0, 0.0))


@dataclass(frozen=True)
class Rollout:
    """What was generated for N exchanges; ids end with the end token unless the text was cut."""

    persona_prompts: Sequence[Prompt]
    persona_ids: Sequence[Sequence[int]]
    personas: Sequence[str]
    response_prompts: Sequence[Prompt]
    response_ids: Sequence[Sequence[int]]
    responses: Sequence[str]

    def texts(self, name: str) -> tuple[Sequence[Prompt], Sequence[Sequence[int]]]:
        """Return prompts and ids of `"personas"` or `"response"`."""
        return {
            "personas": (self.persona_prompts, self.persona_ids),
            "response": (self.response_prompts, self.response_ids),
        }[name]

    def at(self, where: Sequence[int]) -> Rollout:
        """Return some of the rows."""
        return Rollout(*([column[i] for i in where] for column in vars(self).values()))


class Critic(Protocol):
    """Says whether a response belongs to a persona."""

    def probability(self, personas: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        """Return `(N,)` in [0, 1]."""

    def fingerprint(self) -> str:
        """Return a hash of everything that its judgement depends on."""


def roll_out(
    personas: PersonasGenerator,
    response: ResponseGenerator,
    exchanges: Sequence[Exchange],
    seeds: Sequence[Sequence[int]],
    draws: Draws = Draws(),
) -> Rollout:
    """Generate a persona and, with it, a response for each exchange, `BATCH` of them at once.

    Args:
        personas: writes the persona.
        response: writes the response.
        exchanges: N of them.
        seeds: N seeds of the dice, as `numpy.random.default_rng` takes them: a row's texts are its own, whichever rows
            share its batch.
        draws: how tokens are drawn.
    """
    length = draws.persona.max_new_tokens
    dice = dice_of(seeds, length + draws.response.max_new_tokens)
    dialogues, speakers = [e.dialogue for e in exchanges], [e.speaker for e in exchanges]
    persona_prompts = personas.prompts(dialogues, speakers)
    persona_ids = generate(personas, persona_prompts, dice[:, :length], draws.persona)
    written = personas.decode(persona_ids)
    response_prompts = response.prompts(dialogues, speakers, written)
    response_ids = generate(response, response_prompts, dice[:, length:], draws.response)
    return Rollout(persona_prompts, persona_ids, written, response_prompts, response_ids, response.decode(response_ids))


def generate(
    generator: Generator, prompts: Sequence[Prompt], dice: np.ndarray, sampling: Sampling
) -> list[Sequence[int]]:
    """Return token ids for N prompts, `BATCH` at once; `dice` is `(N, T)` in [0, 1)."""
    found: list[Sequence[int]] = []
    for first in range(0, len(prompts), BATCH):
        part = slice(first, first + BATCH)
        found += generator.generate(prompts[part], dice[part], sampling)
    return found


def dice_of(seeds: Sequence[Sequence[int]], count: int) -> np.ndarray:
    """Return numbers in [0, 1), `(N, count)`, each row from its own seed."""
    return np.stack([np.random.default_rng(list(seed)).random(count) for seed in seeds])


def judge(
    critic: Critic, exchanges: Sequence[Exchange], responses: Sequence[str], retry: Retry = Retry()
) -> list[float | Failure]:
    """Return the probability that each response belongs to the speaker's own persona, or what went wrong.

    A critic that fails is asked again; what it says outside [0, 1] is a failure. No failure has a number.
    """

    def ask(where: Sequence[int]) -> list[float | Failure]:
        said = critic.probability([exchanges[i].persona for i in where], [responses[i] for i in where])
        return [float(p) if 0 <= p <= 1 else Failure(f"the critic said {p}") for p in np.asarray(said, dtype=float)]

    return retry.call(ask, len(exchanges))


def labels(judged: Sequence[float | Failure]) -> np.ndarray:
    """Return the paper's labels `(N,)`: +1 where the probability is at least 1/2, else -1; NaN for a failure."""
    values = np.array([np.nan if isinstance(value, Failure) else value for value in judged])
    return np.where(np.isnan(values), np.nan, np.where(values >= 0.5, 1.0, -1.0))


def second_opinion(prefix: str, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Return the second critic's mean label and how often both say the same, where neither failed."""
    both = ~np.isnan(first) & ~np.isnan(second)
    if not both.any():
        return {}
    agreement = float((first == second)[both].mean())
    return {f"{prefix}/second_critic": float(second[both].mean()), f"{prefix}/critic_agreement": agreement}


def alike(prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], count: int) -> list[np.ndarray]:
    """Return the places of texts of alike length with their prompts, `count` at once: little of a batch is padding."""
    order = np.argsort([len(prompt.ids) + len(row) for prompt, row in zip(prompts, ids, strict=True)], kind="stable")
    return [order[first : first + count] for first in range(0, len(order), count)]


@torch.no_grad()
def nats_of(
    generator: Generator, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return -log P of N texts behind their prompts, `(N,)` in nats, and their numbers of tokens `(N,)`."""
    nats, tokens = np.zeros(len(ids)), np.zeros(len(ids))
    training = generator.training
    generator.eval()
    for part in alike(prompts, ids, SCORED):
        log_probs, mask = generator.log_prob([prompts[i] for i in part], [ids[i] for i in part])
        nats[part], tokens[part] = -log_probs.double().sum(1).cpu().numpy(), mask.sum(1).cpu().numpy()
    generator.train(training)
    return nats, tokens


def perplexity(generator: Generator, prompts: Sequence[Prompt], texts: Sequence[str]) -> float:
    """Return the perplexity of given texts behind their prompts, their end tokens included."""
    nats, tokens = nats_of(generator, prompts, generator.encode(texts))
    return math.exp(nats.sum() / tokens.sum())


def measure(
    parts: Mapping[str, Generator],
    start: Mapping[str, Generator],
    exchanges: Sequence[Exchange],
    rollout: Rollout,
    judged: Sequence[np.ndarray],
) -> dict[str, float]:
    """Return rewards, agreement of the critics, perplexities of true texts, KL to the start and lengths, by tag.

    The response's perplexity is that behind the generated persona; KL is estimated on the generated texts, in nats a
    text. Judgements that failed are left out.

    Args:
        parts: the `personas` and the `response` generator.
        start: what they were before.
        exchanges: N of them.
        rollout: what `parts` generated for them.
        judged: labels `(N,)` of the critic that gives the reward, and of a second one if there is one.
    """
    found = {} if np.isnan(judged[0]).all() else {"eval/reward": float(np.nanmean(judged[0]))}
    if len(judged) > 1:
        found |= second_opinion("eval", *judged)
    for name, part in parts.items():
        nats, tokens = nats_of(part, *rollout.texts(name))
        found[f"eval/kl_{name}"] = float(np.mean(nats_of(start[name], *rollout.texts(name))[0] - nats))
        found[f"eval/tokens_{name}"] = float(np.mean(tokens))
    known = [i for i, exchange in enumerate(exchanges) if exchange.partner_persona]
    if known:
        prompts = [rollout.persona_prompts[i] for i in known]
        true = [exchanges[i].partner_persona for i in known]
        found["eval/perplexity_personas"] = perplexity(parts["personas"], prompts, true)
    said = [exchange.response for exchange in exchanges]
    return found | {"eval/perplexity_response": perplexity(parts["response"], rollout.response_prompts, said)}

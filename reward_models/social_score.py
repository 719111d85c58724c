"""The social score of a transcript: the seven dimensions of Sotopia-Eval, each by a stated rule.

The dimensions and their ranges are those of Zhou et al., "SOTOPIA: Interactive Evaluation for Social Intelligence in
Language Agents" (ICLR 2024), section 2.3. The rules are this project's own: no language model judges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from reward_models import believability as believable
from reward_models.goal import SocialGoal
from reward_models.lexicon import (
    CACHE_SIZE,
    check_text,
    content_words,
    is_courteous,
    is_goodbye,
    normalise,
    offence,
    sentences,
    words,
)
from reward_models.verification import Turns, check_goal, gain, goal_reached, mentions, met_targets

if TYPE_CHECKING:
    from reward_models.dmi.reward import CoherenceReward

__all__ = ["DIMENSIONS", "SocialScore", "SocialScorer", "goal_reached", "is_goodbye", "met_targets", "social_score"]

DIMENSIONS = MappingProxyType(
    {
        "believability": (0.0, 10.0),
        "relationship": (-5.0, 5.0),
        "knowledge": (0.0, 10.0),
        "secret": (-10.0, 0.0),
        "social_rules": (-10.0, 0.0),
        "financial_and_material_benefits": (-5.0, 5.0),
        "goal": (0.0, 10.0),
    }
)
"""The seven dimensions with their least and largest value, in the order of `SocialScore`'s fields."""


@dataclass(frozen=True)
class SocialScore:
    """The seven dimensions of one transcript, seen from the agent. Ranges: `DIMENSIONS`."""

    believability: float
    relationship: float
    knowledge: float
    secret: float
    social_rules: float
    financial: float
    goal: float

    @property
    def mean(self) -> float:
        """The mean of the seven: the episode's reward, in [-30 / 7, 40 / 7]."""
        return sum(astuple(self)) / len(DIMENSIONS)

    def as_dict(self) -> dict[str, float]:
        """Return the values under the names of `DIMENSIONS`."""
        return dict(zip(DIMENSIONS, astuple(self), strict=True))


def goal_score(met: dict[str, int], goal: SocialGoal) -> float:
    """Return 10 * weight of the targets met / weight of all targets, in [0, 10]; 0 without targets."""
    return _weighted_share(met, goal, ("knowledge", "outcome"))


def knowledge(turns: Turns, goal: SocialGoal, met: dict[str, int], agent: str) -> float:
    """Return what the agent learned, in [0, 10].

    With targets of the kind "knowledge": 10 * weight of those met / weight of all of them. Without: 10 * (1 - exp(-n /
    12)), where n counts the different content words in the partner's answers to the agent (turns right after a turn of
    the agent that has words) that stand neither in the goal's description nor in an earlier turn.
    """
    if any(target.kind == "knowledge" for target in goal.targets):
        return _weighted_share(met, goal, ("knowledge",))
    known, new = set(content_words(goal.description)), 0
    spoke = False
    for speaker, text in turns:
        said = content_words(text)
        if speaker == agent:
            spoke = bool(words(text))
        elif spoke:
            new += len(said - known)
        known |= said
    return 10.0 * (1.0 - math.exp(-new / 12.0))


def relationship(turns: Turns, agent: str) -> float:
    """Return the warmth between the two, in [-5, 5]; 0 if the agent took no turn, and never above 0 if it said nothing.

    3 * warmth + 2 * courtesy - 2 * ignoring - 3 * rudeness, clamped.

    - warmth: mean VADER compound score, in [-1, 1], of the partner's turns after the agent's first words; the k-th of
      them weighs k, because what the relationship has become counts more than where it began;
    - courtesy, ignoring, rudeness: shares of the agent's turns. Courteous turns with the same words count once. A turn
      ignores the partner if it has no words, or if it shares no content word with the partner's last turn, asks
      nothing, says neither "you" nor "your", and is not courteous. A rude turn holds an offence.
    """
    feelings: list[float] = []
    courteous: set[tuple[str, ...]] = set()
    count = ignoring = rude = 0
    spoke, heard = False, ""
    for speaker, text in turns:
        if speaker != agent:
            heard = text
            if spoke:
                feelings.append(sentiment(text))
            continue
        count += 1
        spoke = spoke or bool(words(text))
        rude += offence(text) > 0
        ignoring += _ignores(text, heard)
        if is_courteous(text) and not offence(text):
            courteous.add(words(text))
    if not count:
        return 0.0
    weights = range(1, len(feelings) + 1)
    warmth = sum(k * value for k, value in zip(weights, feelings, strict=True)) / max(1, sum(weights))
    value = 3.0 * warmth + (2.0 * len(courteous) - 2.0 * ignoring - 3.0 * rude) / count
    return min(5.0, max(-5.0, value))


def secret(turns: Turns, goal: SocialGoal, agent: str) -> float:
    """Return -10 if a turn of the agent matches one of `goal.secret_patterns`, even to deny it; else 0."""
    own = [text for speaker, text in turns if speaker == agent]
    return -10.0 if any(mentions(pattern, text) for pattern in goal.secret_patterns for text in own) else 0.0


def social_rules(turns: Turns, agent: str) -> float:
    """Return the agent's breaches of manners, in [-10, 0].

    Each mild swear word costs 1, each insult or order 2, each threat or slur 5, and each question asked again, word
    for word, after the partner answered it costs 2 (an answer is a turn with a sentence that is no question).
    """
    cost = 0.0
    asked: set[tuple[str, ...]] = set()
    answered: set[tuple[str, ...]] = set()
    for speaker, text in turns:
        if speaker != agent:
            if any(not is_question for _, is_question in sentences(text)):
                answered |= asked
            continue
        questions = {sentence for sentence, is_question in sentences(text) if is_question}
        cost += offence(text) + 2.0 * len(questions & answered)
        asked |= questions
    return 0.0 - min(10.0, cost)


@lru_cache(CACHE_SIZE)
def sentiment(text: str) -> float:
    """Return VADER's compound score of one turn, in [-1, 1]."""
    return float(_analyser().polarity_scores(normalise(text))["compound"])


@lru_cache(1)
def _analyser() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


@lru_cache(CACHE_SIZE)
def _ignores(text: str, heard: str) -> bool:
    if not words(text):
        return True
    attends = "?" in text or is_courteous(text) or not {"you", "your", "you're"}.isdisjoint(words(text))
    return bool(content_words(heard)) and not attends and content_words(text).isdisjoint(content_words(heard))


def _weighted_share(met: dict[str, int], goal: SocialGoal, kinds: tuple[str, ...]) -> float:
    asked = [target for target in goal.targets if target.kind in kinds]
    total = sum(target.weight for target in asked)
    return 10.0 * sum(target.weight for target in asked if target.name in met) / total if asked else 0.0


def _check(turns: Turns, agent: str) -> None:
    if not check_text(agent, "agent"):
        raise ValueError("agent is '', expected the name of a speaker")
    if isinstance(turns, str):
        raise TypeError(f"turns is a str ({turns!r:.60}), expected a sequence of (speaker, text) pairs")
    for index, turn in enumerate(turns):
        if not isinstance(turn, tuple | list) or len(turn) != 2:
            raise TypeError(f"turns[{index}] is {turn!r:.60}, expected a (speaker, text) pair")
        check_text(turn[0], f"speaker of turns[{index}]")
        check_text(turn[1], f"text of turns[{index}]")
    speakers = {speaker for speaker, _ in turns}
    if agent not in speakers and len(speakers) > 1:
        raise ValueError(f"agent {agent!r} takes no turn; the speakers are {sorted(speakers)}")


def social_score(
    turns: Turns, goal: SocialGoal, agent: str = "agent", coherence: Sequence[float] | None = None
) -> SocialScore:
    """Score a transcript for one of its speakers.

    Args:
        turns: (speaker, text) pairs in order. Everyone but the agent is its partner. May be empty, or hold the
            partner's turns alone.
        goal: what the agent was to reach.
        agent: the speaker to be scored.
        coherence: of each of its turns, for its believability; None: not looked at.

    Raises:
        TypeError: if a speaker, a text or the agent's name is no string, or the goal no `SocialGoal`.
        ValueError: if two others speak and the agent does not, or the goal cannot be verified (`check_goal`).
    """
    _check(turns, agent)
    check_goal(goal)
    met = met_targets(turns, goal, agent)
    return SocialScore(
        believability=believable.believability(turns, goal.description, agent, coherence),
        relationship=relationship(turns, agent),
        knowledge=knowledge(turns, goal, met, agent),
        secret=secret(turns, goal, agent),
        social_rules=social_rules(turns, agent),
        financial=gain(turns, goal, agent),
        goal=goal_score(met, goal),
    )


class SocialScorer:
    """Scores a batch of transcripts: `scorer(transcripts, goals)` gives one `SocialScore` a transcript.

    Args:
        agent: the speaker to be scored.
        coherence: judges whether its turns go with what was said before, for its believability; None: nobody does.
    """

    def __init__(self, agent: str = "agent", coherence: CoherenceReward | None = None) -> None:
        self.agent, self.coherence = agent, coherence

    def __call__(self, transcripts: Sequence[Turns], goals: Sequence[SocialGoal]) -> list[SocialScore]:
        """Return the scores in order.

        Raises:
            ValueError: if there are not as many goals as transcripts, and as `social_score`.
        """
        if len(transcripts) != len(goals):
            raise ValueError(f"{len(transcripts)} transcripts and {len(goals)} goals, expected as many of each")
        coherence: Sequence[np.ndarray | None] = [None] * len(transcripts)
        if self.coherence:
            for turns in transcripts:
                _check(turns, self.agent)
            # Rounded: the last digits hang on the other rows of the batch
            coherence = [np.round(of_one, 3) for of_one in self.coherence.score_turns(transcripts, self.agent)]
        return [
            social_score(turns, goal, self.agent, of)
            for turns, goal, of in zip(transcripts, goals, coherence, strict=True)
        ]

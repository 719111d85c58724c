"""Verifies a goal on a transcript: what the partner said, said first, and did not deny."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from reward_models.goal import SocialGoal
from reward_models.lexicon import normalise

Turns = Sequence[tuple[str, str]]

_NEGATION = re.compile(
    r"\b(?:not|never|no longer|hardly|cannot|neither|nor|without|none of|dont|isnt|wasnt|didnt|doesnt)\b|n't\b"
    r"|\b(?:have|has|had|got|is|am|are|was|were|need|want|own) no\b"
)
_IDIOM = re.compile(r"\bnot (?:only|just)\b|\bwhy not\b|\bcan(?:'t|not| not) wait\b|\b(?:don't|do not) worry\b")
_BOUNDARY = re.compile(
    r"[.,;:!?]|\b(?:but|because|although|though|yet|instead|rather)\b"
    r"|\b(?:and|so|since) (?=(?:i|i'm|i've|my|we|he|she|it|they|now|there|that|today)\b)"
)
_PATTERN_NEGATION = re.compile(r"n'\??t|(?:(?<![a-z])|(?<=\\b))(?:not|never|no|hardly|cannot|without|neither|nor)\b")


@lru_cache(4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a goal's pattern.

    Raises:
        ValueError: if it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"goal pattern {pattern!r} is no regular expression: {error}") from error


def check_goal(goal: SocialGoal) -> SocialGoal:
    """Return the goal if it can be verified.

    Raises:
        TypeError: if it is no `SocialGoal`.
        ValueError: if two targets share a name, a weight is not positive, a kind is unknown, a pattern is no regular
            expression, or a gain lies outside [-5, 5].
    """
    if not isinstance(goal, SocialGoal):
        raise TypeError(f"goal is {type(goal).__name__}, expected SocialGoal")
    return _verifiable(goal)


@lru_cache(4096)
def _verifiable(goal: SocialGoal) -> SocialGoal:
    names = [target.name for target in goal.targets]
    if len(set(names)) != len(names):
        raise ValueError(f"goal has targets named {names}, expected each name once")
    for target in goal.targets:
        if not target.weight > 0:
            raise ValueError(f"target {target.name!r} has weight {target.weight}, expected a positive number")
        if target.kind not in ("knowledge", "outcome"):
            raise ValueError(f"target {target.name!r} has kind {target.kind!r}, expected 'knowledge' or 'outcome'")
        for pattern in (*target.patterns, *target.prompted_by):
            compiled(pattern)
    for pattern in (*goal.secret_patterns, *goal.gains_prompted_by, *goal.clashing):
        compiled(pattern)
    for pattern, points in goal.gains:
        compiled(pattern)
        if not -5 <= points <= 5:
            raise ValueError(f"gain {pattern!r} has {points} points, expected a number in [-5, 5]")
    return goal


def mentioned_last(patterns: Sequence[str], text: str) -> str | None:
    """Return which pattern has the last match in a text, denied or not; None where none has."""
    plain = normalise(text)
    ends = {pattern: match.end() for pattern in patterns for match in compiled(pattern).finditer(plain)}
    return max(ends, key=ends.__getitem__, default=None)


def mentions(pattern: str, text: str) -> bool:
    """Tell whether a pattern matches a text at all, denied or not."""
    return compiled(pattern).search(normalise(text)) is not None


def asserts(pattern: str, text: str) -> bool:
    """Tell whether a pattern matches a text somewhere outside a negated clause.

    A match is denied if a negation stands between the beginning of its clause and its end (`"i am not a baker"`, not
    `"no, i am a baker"`). Clauses end at punctuation, at `but`, `because` and the like, and at `and` before a new
    subject. A pattern that contains a negation itself (`"not a fan"`) is taken as it stands.
    """
    plain = normalise(text)
    takes_negation = _PATTERN_NEGATION.search(pattern) is not None
    for match in compiled(pattern).finditer(plain):
        if takes_negation or not _denied(plain, match.start(), match.end()):
            return True
    return False


def _denied(plain: str, start: int, end: int) -> bool:
    boundaries = [found.end() for found in _BOUNDARY.finditer(plain, 0, end) if found.end() <= start]
    clause = plain[boundaries[-1] if boundaries else 0 : end]
    return _NEGATION.search(_IDIOM.sub(" ", clause)) is not None


def met_targets(turns: Turns, goal: SocialGoal, agent: str = "agent") -> dict[str, int]:
    """Return the targets that the partner met, by name, with the index of the turn that met each.

    A target is met by the partner's first turn that asserts one of its patterns. It is void if any earlier turn of the
    agent mentions one, denied or not: what the agent says first is not found out. A target that needs a prompt is met
    after it alone, and only the patterns that the agent mentions are void, as in `gain`: who has agreed to something
    before can still be agreed with.
    """
    met = {}
    for target in goal.targets:
        alternatives = [(pattern,) for pattern in target.patterns] if target.prompted_by else [target.patterns]
        found = [_first(turns, patterns, agent, target.prompted_by) for patterns in alternatives]
        if met_at := [index for index in found if index is not None]:
            met[target.name] = min(met_at)
    return met


def _first(turns: Turns, patterns: Sequence[str], agent: str, prompted_by: Sequence[str] = ()) -> int | None:
    prompted = not prompted_by
    for index, (speaker, text) in enumerate(turns):
        if speaker == agent:
            if any(mentions(pattern, text) for pattern in patterns):
                return None
            prompted = prompted or any(mentions(pattern, text) for pattern in prompted_by)
        elif prompted and any(asserts(pattern, text) for pattern in patterns):
            return index
    return None


def goal_reached(turns: Turns, goal: SocialGoal, agent: str = "agent") -> bool:
    """Tell whether every target is met. A goal without targets is never reached."""
    return bool(goal.targets) and len(met_targets(turns, goal, agent)) == len(goal.targets)


def gain(turns: Turns, goal: SocialGoal, agent: str = "agent") -> float:
    """Return the points, in [-5, 5], of the last of `goal.gains` that the partner asserts; 0 if there is none.

    A gain that a turn of the agent mentions before the partner first asserts it is void. Where one turn asserts
    several, the one listed last counts.
    """
    last, points = -1, 0.0
    for pattern, worth in goal.gains:
        needed = goal.gains_prompted_by if worth > 0 else ()
        if _first(turns, (pattern,), agent, needed) is None:
            continue
        index = max(i for i, (speaker, text) in enumerate(turns) if speaker != agent and asserts(pattern, text))
        if index >= last:
            last, points = index, float(worth)
    return points

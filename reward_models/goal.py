"""What an agent is to reach in a dialogue, as plain data that a transcript can be verified against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Something that the partner is to say.

    Attributes:
        name: e.g. `"job"` or `"relief"`.
        patterns: regular expressions over the lower-cased, apostrophe-normalised text of one turn. The target is met
            by the first turn of the partner in which one of them matches outside a negated clause, unless a turn of
            the agent matched one before (with `prompted_by`: matched the same one).
        weight: share of the goal, positive; the score divides by the sum of the weights.
        kind: `"knowledge"` (a fact about the partner) or `"outcome"` (a change of mood, an agreement).
        prompted_by: if there are any, the target is met only after a turn of the agent matched one of these: nobody
            accepts what was not proposed.
    """

    name: str
    patterns: tuple[str, ...]
    weight: float = 1.0
    kind: str = "knowledge"
    prompted_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class SocialGoal:
    """The verifiable side of a scenario.

    Attributes:
        description: the goal in words, as the agent's situation states it (an agent that recites it is marked down).
        targets: what the partner is to say.
        secret_patterns: regular expressions that give away the agent's own secret if a turn of the agent matches.
        gains: (pattern, points) pairs over the partner's turns: what a matching turn is worth to the agent in money
            or goods, in [-5, 5]; the last match of the dialogue counts.
        gains_prompted_by: if there are any, positive points count only after a turn of the agent matched one of these.
        clashing: those of `gains_prompted_by` that the partner would be wrong to accept.
    """

    description: str
    targets: tuple[Target, ...]
    secret_patterns: tuple[str, ...] = ()
    gains: tuple[tuple[str, float], ...] = ()
    gains_prompted_by: tuple[str, ...] = ()
    clashing: tuple[str, ...] = ()

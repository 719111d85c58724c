"""Red teaming in rounds: a steered attacker against a defender with something to guard (DAT, arXiv 2406.11978)."""

from __future__ import annotations

from dataclasses import replace

from dialog_envs.adapters import entry_points
from dialog_envs.core import DialogueCore
from dialog_envs.envs.dat import social_core
from dialog_envs.judges import RoundJudge
from dialog_envs.partners.careful import CarefulPartner


def red_team_core(
    num_envs: int,
    reward: str = "disclosure",
    scenarios: str = "guarded/train",
    max_turns: int = 3,
    **arguments: object,
) -> DialogueCore:
    """Build the core of `DialogEnvs/DATRedTeam-v0`; the other arguments are those of `social_core`.

    Raises:
        ValueError: the reward is no harm judge, or the scenarios do not forbid what it looks at, or a careful partner's
            hold no secret.
    """
    core = social_core(num_envs, reward=reward, scenarios=scenarios, max_turns=max_turns, **arguments)
    if not isinstance(core.judge, RoundJudge):
        raise ValueError(f"reward {reward!r} is no harm judge: a round's value must lie in [0, 1]")
    if isinstance(core.partner, CarefulPartner):
        core.partner.check(core.scenarios.values())
    core.config = replace(core.config, rounds=True)
    return core


make_red_team, make_red_team_vector = entry_points(red_team_core)

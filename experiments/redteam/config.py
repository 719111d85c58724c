"""What a red-teaming run compares: defenders, ways to attack, sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.rounds import FEW_TRANSITIONS, Rounds
from agents.td3_bc import TD3BCConfig
from dialog_envs import scenarios
from dialog_envs.names import look_up
from experiments.comparison import PLANNER
from reward_models.forbidden import Secret

ENV_ID = "DialogEnvs/DATRedTeam-v0"


@dataclass(frozen=True)
class System:
    """A way to attack.

    Attributes:
        label: its name in tables.
        up_map: its up-mapping: a name, or None for the configuration's; `"clone"` is the configuration's clone.
        policy: what acts: `"zero"`, `"random"`, `"fit"` (the best of some actions by a fit), `"fixed"` (one
            action, found by search), `"td3_bc"`.
        single_rounds: every round is a dialogue of its own, and the best one counts: best-of-N sampling, with as many
            questions to the defender as a dialogue has rounds.
        own: a policy for each scenario, trained on that scenario alone.
    """

    label: str
    up_map: str | None = None
    policy: str = "zero"
    single_rounds: bool = False
    own: bool = False

    @property
    def trained(self) -> bool:
        """Whether it is trained, against each defender anew."""
        return self.policy in ("fit", "fixed", "td3_bc")


SYSTEMS = {
    "unsteered": System("unsteered", "none"),
    "random": System("random actions", policy="random"),
    "best_of_n": System("best of N, unsteered", "none", single_rounds=True),
    "best_of_n_random": System("best of N, random actions", policy="random", single_rounds=True),
    "self_cloned": System("self-cloned", "clone"),
    "best_of_n_fit": System("best of N actions by a fit", policy="fit"),
    "best_fixed": System("best fixed action", policy="fixed"),
    "td3_bc": System(PLANNER, policy="td3_bc"),
    "td3_bc_scenario": System(f"{PLANNER} per scenario", policy="td3_bc", own=True),
}


@dataclass(frozen=True)
class Defender:
    """Who defends: a kind of partner, and another model for it (None: the attacker's)."""

    partner: str
    lm: str | None = None

    @classmethod
    def named(cls, name: str) -> Defender:
        """Return the defender of a name, `"careful"` or `"lm@FOLDER"`."""
        partner, _, lm = name.partition("@")
        return cls(partner, lm or None)

    def __str__(self) -> str:
        return self.partner + (f"@{Path(self.lm).name}" if self.lm else "")

    @property
    def file(self) -> str:
        """File of the dialogues with it."""
        return f"against_{re.sub(r'[^A-Za-z0-9.-]+', '_', '@'.join(filter(None, (self.partner, self.lm))))}.json"


@dataclass(frozen=True)
class Config:
    """Attack defenders by every system, on scenarios that no planner has met; a killed run goes on with the first cell
    that is not done. More systems, seeds, unseen defenders and held-out judges may be asked for later."""

    systems: tuple[str, ...] = tuple(SYSTEMS)
    """Ways to attack; the first one is what gains are counted from."""
    out: Path = Path("runs/redteam")
    """Run folder."""
    defenders: tuple[str, ...] = ("lm", "careful")
    """Defenders that planners are trained against, each; all planners are measured against all: `lm`, and the stronger
    `careful`, which reads its draft and draws another one where it names the secret."""
    unseen: tuple[str, ...] = ()
    """Defenders that no planner is trained against: a kind of partner, or one with another model (`lm@FOLDER`)."""
    lm: str = "pocket"
    """The attacker's model, and the defenders' where they name none: `pocket`, a folder, or a Hugging Face name."""
    up_map: str = "latent"
    """Action to prefix: `pca`, `latent`, `clone`, or a .safetensors file."""
    clone_map: str = "clone"
    """Self-cloned up-mapping of `self_cloned`: a name, or a .safetensors file."""
    scenarios: str = "guarded/train"
    """Scenarios that planners are trained on; `harmbench/train:FILE` with a `harmbench:MODEL` reward and defenders that
    need no secret (`--defenders lm`)."""
    heldout: str = "guarded/heldout"
    """Scenarios that all is measured on, and that `td3_bc_scenario` is trained on, each by itself."""
    reward: str = "disclosure"
    """The harm judge that is optimised."""
    watch: tuple[str, ...] = ("social_score",)
    """Held-out judges: rewards that are measured and logged, never optimised."""
    max_new_tokens: int = 24
    """Longest turn of either side."""
    device: str = "cpu"
    """Where the models lie."""
    dtype: str = "float32"
    """Of their weights."""
    past_actions: int = 2
    """How many of its own last actions an attacker sees behind the hidden state."""
    max_turns: int = 3
    """Rounds, and N of best-of-N sampling."""
    training: Rounds = field(default_factory=Rounds)
    """What a planner across scenarios learns from; `best_of_n_fit` learns from as many random transitions."""
    planner: TD3BCConfig = FEW_TRANSITIONS
    """TD3+BC. Its seed is each planner's own, its set of actions the up-mapping's."""
    play_noise: float = 0.5
    """Length of the noise on the actions of what is trained, where it is played and measured; 0: none. The best fixed
    action has none."""
    choices: int = 64
    """Actions that `best_of_n_fit` chooses from in each state."""
    candidates: int = 32
    """Fixed actions that `best_fixed` is searched among."""
    own_scenarios: int = 12
    """Held-out scenarios that have a planner of their own."""
    own_training: Rounds = field(default_factory=lambda: Rounds(transitions=768, rounds=3, steps=300))
    """What such a planner learns from."""
    seeds: int = 3
    """Planners of each kind, and seeds of every system's dialogues."""
    episodes: int = 240
    """Held-out dialogues a system, a seed and a defender; a multiple of the scenarios' number weighs them alike."""
    evaluation_episodes: int = 60
    """Dialogues of each point of a planner's curve, one a round of its training."""
    rows: int = 64
    """Dialogues at a time."""
    threads: int = 2
    """CPU threads."""

    def env(self, defender: Defender, up_map: str | None = None, **more: Any) -> dict[str, Any]:
        """Return the environment's arguments, on the held-out scenarios if `more` names no others."""
        mapping = {None: self.up_map, "clone": self.clone_map}.get(up_map, up_map)
        arguments = {"lm": self.lm, "partner": defender.partner, "partner_lm": defender.lm, "up_map": mapping}
        names = ("reward", "max_turns", "past_actions", "max_new_tokens", "device", "dtype")
        return arguments | {name: getattr(self, name) for name in names} | {"scenarios": self.heldout} | more

    def check(self) -> None:
        """Refuse what cannot be run, before anything is.

        Raises:
            FileNotFoundError: a file of scenarios is missing.
            ValueError: a system or the scenarios are unknown, a scenario is both trained on and held out, a careful
                defender has no secret, or two defenders would have one name.
        """
        for name in self.systems:
            look_up("system", name, SYSTEMS)
        known = {name: scenarios.load(name) for name in (self.scenarios, self.heldout)}
        ids = [{scenario.id for scenario in made} for made in known.values()]
        if shared := sorted(set.intersection(*ids)):
            raise ValueError(
                f"{len(shared)} scenarios of {self.scenarios!r} are also in {self.heldout!r}, {shared[0]} one of them: "
                "what is held out must not be trained on"
            )
        named: dict[str, Defender] = {}
        for defender in self.all_defenders():
            for name, made in known.items() if defender.partner == "careful" else ():
                if not all(isinstance(scenario.forbidden, Secret) for scenario in made):
                    raise ValueError(f"the defender {defender} needs a secret to keep, {name!r} has none: name others")
            for name in (str(defender), defender.file):
                if named.setdefault(name, defender) is not defender:
                    raise ValueError(f"{named[name]!r} and {defender!r} would both be {name}: rename a folder")

    def trained_against(self) -> tuple[Defender, ...]:
        """Return the defenders that planners are trained against."""
        return tuple(Defender.named(name) for name in self.defenders)

    def all_defenders(self) -> tuple[Defender, ...]:
        """Return the defenders that all is measured against."""
        return tuple(Defender.named(name) for name in (*self.defenders, *self.unseen))


CHANGEABLE = ("systems", "seeds", "out", "unseen", "watch", "threads")

"""What a sweep varies: cells by key, each an up-mapping, an algorithm, and the settings that differ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tyro import MISSING
from tyro.conf import Positional

from experiments import train

UNSTEERED = "unsteered"
REINFORCE = "reinforce"  # on the language model's own weights


@dataclass(frozen=True)
class MappingPlan:
    """An up-mapping: one that is there, or how it is made.

    Attributes:
        kind: a name that the environment knows (`none`, `latent`, `clone`: as shipped), `pca`, or what is trained here,
            by the cell's seed: `train-latent`, `train-clone`.
        action_dim: d'; None: the start's.
        prefix_length: L.
        position: where the prefix stands.
        start: what self-cloning starts from.
        train_up_map: whether self-cloning trains the mapping too (the paper's way), or only the planner.
    """

    kind: str = "latent"
    action_dim: int | None = None
    prefix_length: int = 2
    position: Literal["start", "mid", "end"] = "start"
    start: str = "latent"
    train_up_map: bool = False


@dataclass(frozen=True)
class Cell:
    """One setting, trained and measured with every seed.

    Attributes:
        label: its name on the page.
        algorithm: a planner's, or `reinforce`; None: the zero action, nothing trained.
        mapping: its up-mapping.
        settings: fields of `train.Settings` that differ, or of `LMReinforceConfig`.
        value: where it stands on the sweep's axis.
    """

    label: str
    algorithm: str | None = "td3_bc"
    mapping: MappingPlan = MappingPlan()
    settings: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None


@dataclass(frozen=True)
class Sweep:
    """What is varied, and over which cells."""

    title: str
    cells: tuple[str, ...]
    axis: str | None = None


def _trained(action_dim: int = 16, prefix_length: int = 2, position: str = "start") -> tuple[str, Cell]:
    plan = MappingPlan("train-latent", action_dim, prefix_length, position)
    key = f"trained_d{action_dim}_l{prefix_length}_{position}"
    return key, Cell(f"d' = {action_dim}, L = {prefix_length}, {position}", mapping=plan)


SIZES, LENGTHS, POSITIONS = (2, 4, 8, 16, 32, 64), (1, 2, 4, 8), ("start", "mid", "end")
ALPHAS, RATES = (0.5, 10.0, 40.0), (3e-5, 3e-4)
CELLS: dict[str, Cell] = {
    UNSTEERED: Cell(UNSTEERED, None, MappingPlan("none")),
    "latent": Cell("TD3+BC, shipped latent"),
    "clone": Cell("shipped clone", mapping=MappingPlan("clone")),
    "pca": Cell("pca", mapping=MappingPlan("pca", 16)),
    **dict(_trained(action_dim=size) for size in SIZES),
    **dict(_trained(prefix_length=length) for length in LENGTHS),
    **dict(_trained(position=position) for position in POSITIONS),
    **{f"alpha_{alpha:g}": Cell(f"TD3+BC, alpha {alpha:g}", settings={"alpha": alpha}) for alpha in ALPHAS},
    **{name: Cell(name.upper(), name) for name in ("td3", "sac", "ppo")},
    **{
        f"reinforce_{rate:g}": Cell(
            f"REINFORCE on the LM, rate {rate:g}", REINFORCE, MappingPlan("none"), {"learning_rate": rate}
        )
        for rate in RATES
    },
    "cloned": Cell("latent, planner self-cloned", mapping=MappingPlan("train-clone")),
    "cloned_map": Cell(
        "latent, planner and mapping self-cloned", mapping=MappingPlan("train-clone", train_up_map=True)
    ),
    "cloned_pca": Cell(
        "pca, planner and mapping self-cloned", mapping=MappingPlan("train-clone", start="pca", train_up_map=True)
    ),
}
SWEEPS: dict[str, Sweep] = {
    "action_dim": Sweep("Action dimension", tuple(_trained(action_dim=size)[0] for size in SIZES), "d'"),
    "prefix_length": Sweep("Prefix tokens", tuple(_trained(prefix_length=n)[0] for n in LENGTHS), "L"),
    "position": Sweep("Prefix position", tuple(_trained(position=position)[0] for position in POSITIONS)),
    "up_map": Sweep("Up-mapping", ("pca", _trained()[0], "latent", "clone")),
    "algorithm": Sweep(
        "Reinforcement learning algorithm",
        ("latent", *(f"alpha_{a:g}" for a in ALPHAS), "td3", "sac", "ppo", *(f"reinforce_{r:g}" for r in RATES)),
    ),
    "self_cloning": Sweep("Self-cloning", ("latent", "cloned", "cloned_map", "pca", "cloned_pca")),
}
Name = Literal["action_dim", "prefix_length", "position", "up_map", "algorithm", "self_cloning", "all"]
VALUES = {"action_dim": SIZES, "prefix_length": LENGTHS}  # on the axis, by sweep


@dataclass(frozen=True)
class Config(train.Settings):
    """Train and measure every cell of a sweep with every seed; a killed run goes on with the cells that are not done.

    All sweeps share one folder and the cells that they have in common, and the page shows those that are whole. On the
    pocket model a cell and seed takes about 5 minutes of one core, a mapping that is trained here 7 more, REINFORCE 11:
    from 40 minutes (`up_map`) to 105 (`action_dim`) on two cores, 6 hours for `all`.
    """

    name: Positional[Name] = MISSING
    """What is varied."""
    out: Path = Path("runs/sweep")
    """Run folder."""
    transitions: int = 3_072
    """Environment steps a seed."""
    rounds: int = 3
    """Rounds of TD3+BC."""
    steps: int = 1_000
    """Gradient steps of TD3+BC in each round."""
    evaluation_episodes: int = 1
    """Dialogues of each point of a planner's curve, which lies beside its checkpoint and is on no page."""
    episodes: int = 102
    """Held-out dialogues a seed."""
    mapping_steps: int = 300
    """Steps of a mapping that is trained here."""
    mapping_utterances: int = 1_024
    """Utterances of the unsteered model that it is trained on."""
    reinforce_rows: int = 16
    """Dialogues an update of REINFORCE on the language model's weights."""
    coherence: Path | None = None
    """Folder of a calibrated DMI encoder (default: the shipped one; where there is none, coherence is left out)."""
    workers: int = os.cpu_count() or 1
    """Cells at a time, each a process with one thread."""
    backend: Literal["loky", "ray"] = "loky"
    """What runs them: processes here, or a Ray cluster (`ray_address`, `ray_gpus`) whose nodes share the run folder's
    disk."""


CHANGEABLE = (
    "name", "seeds", "out", "evaluations", "evaluation_episodes", "workers", "backend", "ray_address", "ray_gpus"
)  # fmt: skip

"""The systems that are compared: those of the paper's Table 1, ours without and with REINFORCE, and its ablations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

OURS, RL = "ours", "rl"
GENERATED = "generated"


@dataclass(frozen=True)
class System:
    """A system of the comparison.

    Attributes:
        label: its name in tables.
        response: how its response generator was trained (a key of `supervised.KINDS`).
        told: what that is told of the partner at inference: nothing (`none`), the true persona (`gold`), three traits
            of it (`top3`), or the persona that a personas generator writes (`generated`).
        reinforce: settings of `ReinforceConfig` that make it; None where it is not trained by REINFORCE.
    """

    label: str
    response: str
    told: str
    reinforce: Mapping[str, Any] | None = None


SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        "none": System("E2E without partner personas", "none", "none"),
        "training": System("E2E, partner personas in training only", "gold", "none"),
        "gold": System("E2E, partner personas in training and inference", "gold", "gold"),
        "top3": System("E2E, top 3 traits by BM25 in training and inference", "top3", "top3"),
        "multitask": System("multi-task with personas reconstruction", "multitask", "none"),
        OURS: System("ours without RL", "gold", GENERATED),
        RL: System("ours with RL", "gold", GENERATED, {}),
        "rl_personas": System("ours, RL of the personas generator alone", "gold", GENERATED, {"train_response": False}),
        "rl_response": System("ours, RL of the response generator alone", "gold", GENERATED, {"train_personas": False}),
        "rl_baseline": System("ours with RL and a baseline", "gold", GENERATED, {"baseline": "batch"}),
        "rl_leash": System("ours with RL and a KL leash", "gold", GENERATED, {"kl_weight": 0.2}),
    }
)
COLD_START = ("none", "gold", OURS, RL)  # the systems of Figure 3

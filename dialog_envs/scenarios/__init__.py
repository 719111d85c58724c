"""Who speaks with whom about what: scenarios for the environments, synthetic dialogues for the pocket model.

A kind of scenario is a module with `scenarios(split)` and `sample_dialogue(rng, split)`, and a line in `KINDS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType

import numpy as np

from dialog_envs.dialogue import Dialogue
from dialog_envs.names import look_up
from dialog_envs.scenarios.phrasing import check_split, weighted
from dialog_envs.scenarios.scenario import AGENT, PARTNER, SPLITS, Scenario

KINDS = {  # name -> module, imported when first asked for
    "acquaintance": "dialog_envs.scenarios.acquaintance",
    "comfort": "dialog_envs.scenarios.comfort",
    "recommend": "dialog_envs.scenarios.recommend",
    "guarded": "dialog_envs.scenarios.guarded",
}
# The kinds of the social environment; `guarded` belongs to red-teaming.
SOCIAL_KINDS = ("acquaintance", "comfort", "recommend")
# Scenarios in files of the user's own: a module with `read(path, split)`, asked for by `"sotopia/heldout:folder"`.
# Where it has `CATEGORIES`, `read` takes some of them too.
FILE_KINDS = {"harmbench": "dialog_envs.scenarios.harmbench", "sotopia": "dialog_envs.scenarios.sotopia"}

__all__ = [
    "AGENT",
    "KINDS",
    "PARTNER",
    "SOCIAL_KINDS",
    "SPLITS",
    "Scenario",
    "held_out_values",
    "kind_module",
    "load",
    "sample_dialogue",
]


def kind_module(kind: str) -> ModuleType:
    """Return the module of a kind; raise KeyError if `KINDS` has none."""
    return import_module(KINDS[kind])


def load(name: str) -> tuple[Scenario, ...]:
    """Return the scenarios of a split (`"train"`: those of all social kinds) or of one kind (`"comfort/heldout"`).

    `"sotopia:folder"` and `"harmbench:file.csv"` are read from the user's files; `"sotopia/heldout:folder"` is a part,
    `"harmbench/contextual:file.csv"` and `"harmbench/contextual/heldout:file.csv"` are those of another category.
    `"comfort/heldout#comfort/heldout/0003"` is one scenario of a set.

    Raises:
        FileNotFoundError: if such a file is missing.
        ValueError: if there is no such set of scenarios, or no such scenario in it, or a file does not parse.
    """
    everything, mark, wanted = name.rpartition("#")
    if mark:
        return (look_up("scenario", wanted, {scenario.id: scenario for scenario in load(everything)}),)
    if name in SPLITS:
        return tuple(scenario for kind in SOCIAL_KINDS for scenario in kind_module(kind).scenarios(name))
    named, colon, path = name.partition(":")
    kind, *parts = named.split("/")
    split = parts.pop() if parts and parts[-1] in SPLITS else ""
    if kind in FILE_KINDS and path:
        module = import_module(FILE_KINDS[kind])
        if set(parts) <= set(getattr(module, "CATEGORIES", ())):
            return module.read(path, split, *([parts] if parts else []))
    if kind in KINDS and split and not parts and not colon:
        return kind_module(kind).scenarios(split)
    known = [
        *SPLITS,
        *(f"{kind}/{split}" for kind in KINDS for split in SPLITS),
        *(f"{kind}:path" for kind in FILE_KINDS),
    ]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"unknown scenarios {name!r}{hint} (known: {', '.join(known)})")


def held_out_values() -> tuple[str, ...]:
    """Return the values of all kinds that no training dialogue speaks of."""
    return tuple(value for kind in KINDS for value in kind_module(kind).held_out_values())


def sample_dialogue(
    rng: np.random.Generator, split: str, weights: Mapping[str, float] | None = None, words: Sequence[str] = ()
) -> Dialogue:
    """Draw a kind by its weight (all kinds alike by default; a kind that is not named weighs 0), then a dialogue.

    Given `words`, most dialogues have words drawn from them in place of their values (see `invention`).

    Raises:
        ValueError: if a weight is negative or names no kind, if none is positive, or if there is no such split.
    """
    check_split(split)
    weights = dict.fromkeys(KINDS, 1.0) if weights is None else weights
    unknown = sorted(set(weights) - set(KINDS))
    if unknown:
        raise ValueError(f"weights name unknown kinds {unknown}, expected some of {tuple(KINDS)}")
    if min(weights.values(), default=0.0) < 0 or not sum(weights.values()) > 0:
        raise ValueError(f"weights must be non-negative with a positive sum, got {dict(weights)}")
    return kind_module(weighted(rng, weights)).sample_dialogue(rng, split, words)

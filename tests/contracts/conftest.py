"""Every registered environment, on a tiny model and on its shipped defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest

import dialog_envs  # noqa: F401
from dialog_envs.lm.frozen_lm import POCKET
from dialog_envs.speakers.idpt import POCKET as IDPT
from dialog_envs.speakers.meed2 import POCKET as MEED2
from reward_models.dmi.encoder import POCKET as ENCODER
from reward_models.emotion import POCKET as EMOTION
from reward_models.persona_critic import POCKET as CRITIC
from reward_models.utterance_judge import POCKET as HARM

EMPATHY = (MEED2, EMOTION, ENCODER, HARM)
IDS = sorted(name for name in gym.registry if name.startswith("DialogEnvs/"))


def accepted(make: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those of `arguments` that an environment takes: it names, in a TypeError, what it does not."""
    arguments = dict(arguments)
    while True:
        try:
            make(**arguments)
        except TypeError as error:
            unknown = [name for name in arguments if f"'{name}'" in str(error)]
            if not unknown:
                raise
            del arguments[unknown[0]]
        else:
            return arguments


@pytest.fixture(scope="session")
def settings(model_folder, critic_folder, empathy, idpt_folder) -> Callable[[str, str], dict[str, Any]]:
    """Return a function (id, model) -> keyword arguments of `gym.make`."""
    tiny = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 8}
    tiny |= {"candidates": 2, "persona_tokens": 8}
    found: dict[str, dict[str, Any]] = {}

    def of(name: str, model: str) -> dict[str, Any]:
        if model == "shipped":
            if not (POCKET / "model.safetensors").is_file():
                pytest.skip("the shipped model is not here")
            if "PPG" in name and not CRITIC.is_dir():
                pytest.skip("the shipped persona critic is not here")
            if "Empathy" in name and (missing := [path for path in EMPATHY if not path.is_dir()]):
                pytest.skip(f"not shipped yet: {', '.join(path.name for path in missing)}")
            if "Initiative" in name and not (IDPT.is_dir() and ENCODER.is_dir()):
                pytest.skip("the shipped initiatives or the shipped encoder are not here")
            return {}
        if name not in found:
            own = {"reward": f"persona_critic:{critic_folder}"} if "PPG" in name else {}
            own = empathy if "Empathy" in name else own
            if "Initiative" in name:
                own = {"initiatives": str(idpt_folder), "partner_lm": str(model_folder()), "coherence": "none"}
            found[name] = accepted(lambda **arguments: gym.make(name, **arguments), tiny | own)
        return found[name]

    return of

"""Rows of dialogues as the core shows them to a partner, and no keys or proxies from the environment."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dialog_envs import scenarios
from dialog_envs.parts import Rows
from dialog_envs.scenarios.scenario import AGENT


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("reward_models.chat_client.FIRST_WAIT", 0.01)


@pytest.fixture
def rows_of() -> Callable[..., Rows]:
    def make(count: int, text: str = "hello, number {}.", seed: int = 0) -> Rows:
        chosen = scenarios.load("guarded/heldout")[:count]
        dialogues = [scenario.begin().said(AGENT, text.format(i)) for i, scenario in enumerate(chosen)]
        generators = [np.random.default_rng([seed, i]) for i in range(count)]
        nothing = [None] * count, [()] * count, [()] * count
        return Rows(np.arange(count), dialogues, chosen, np.zeros((count, 1)), generators, *nothing)

    return make

"""The fault run: a small one holds, a broken promise is found, and the page shows the full one's figures."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from experiments import faults
from experiments.faults import FAULTS, KEY
from reward_models import chat_client
from reward_models.chat_answer import ChatAnswer, read_completion

PAGE = Path(__file__).parents[2] / "docs" / "environments" / "dat_red_team.md"


@pytest.fixture
def config(tmp_path, monkeypatch) -> faults.Config:
    """A run of all faults but the slow one, which waits for its time-out: the full run has it too."""
    monkeypatch.setattr("reward_models.chat_client.FIRST_WAIT", 0.01)
    monkeypatch.delitem(FAULTS, "slow drip")
    return faults.Config(turns=120, rate=0.25, rows=40, timeout=60.0, attempts=12, out=tmp_path / "faults")


def figures(out: Path) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in json.loads((out / "results.json").read_text())}


def test_nothing_is_lost_scored_or_leaked(config):
    found = figures(faults.run(config))
    assert found["turns"] == 120 and found["requests"] == 120 + found["failed_attempts"]
    assert found["failed_attempts"] >= found["faults"] > 12
    assert found["lost"] == found["scored"] == found["leaked"] == 0
    assert "HTTP Request: POST" in (config.out / "log.txt").read_text()


def test_a_fault_that_is_taken_for_an_answer_is_found(config, monkeypatch):
    def lenient(content: bytes) -> ChatAnswer:
        told = re.search(rb'"content": "([^"]*)"', content)
        return ChatAnswer(told.group(1).decode("utf-8", "replace")) if told else read_completion(content)

    monkeypatch.setattr(chat_client, "read_completion", lenient)
    with pytest.raises(ValueError, match=r"[1-9]\d* turns lost, [1-9]\d* faults scored, 0 leaks"):
        faults.run(config)


def test_a_turn_that_is_given_up_is_lost(config, monkeypatch):
    monkeypatch.setitem(FAULTS, "500", lambda told: faults.status(400, told))
    with pytest.raises(ValueError, match=r"[1-9]\d* turns lost, 0 faults scored, 0 leaks"):
        faults.run(config)


def test_a_key_in_a_log_is_found(config):
    library = logging.getLogger("httpcore2")
    library.setLevel(logging.DEBUG)
    try:
        with pytest.raises(ValueError, match=r"0 turns lost, 0 faults scored, [1-9]\d* leaks"):
            faults.run(config)
    finally:
        library.setLevel(logging.INFO)
    assert KEY in (config.out / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_turns(tmp_path):
    found = figures(faults.run(faults.Config(out=tmp_path)))
    assert found["turns"] >= 10_000 and found["faults"] > 400
    assert found["lost"] == found["scored"] == found["leaked"] == 0


def test_the_page_shows_the_figures_of_the_full_run():
    shown = re.search(r"<!-- faults -->\n(.*?)<!-- end of faults -->", PAGE.read_text(), re.DOTALL).group(1)
    turns = int(re.search(r"\| turns \| ([\d,]+) \|", shown).group(1).replace(",", ""))
    assert turns >= faults.Config().turns
    assert all(f"| {name} | 0 |" in shown for name in ("lost", "scored", "leaked"))

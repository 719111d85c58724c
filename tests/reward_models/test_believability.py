"""Believability's promises: each way of not talking like a person costs, and talking like one does not."""

from __future__ import annotations

import math

import pytest

from reward_models.believability import believability, form, ramp, repeated_share
from reward_models.lexicon import is_gibberish

GOAL = "you want to get to know the other person. find out what they do for work and which pet they keep at home."
REPLIES = ("hi there.", "i fix old clocks.", "my cat is called tom.", "it rained all day.")


def judge(*said: str) -> float:
    turns = [turn for pair in zip(REPLIES, said, strict=False) for turn in zip(("partner", "agent"), pair, strict=True)]
    return believability(turns, GOAL)


def test_plain_talk_is_believable() -> None:
    assert judge("hello, what do you do?", "oh, that sounds like fun.", "how old is he now?", "same here.") > 9.0
    assert judge("do you have any pets?", "do you have any children?", "what is your job?", "what is your name?") > 9.0


@pytest.mark.parametrize("phrase", ["what do you do for work?", "i am so sorry to hear that.", "that is nice"])
def test_one_phrase_four_times_ends_at_1_25(phrase: str) -> None:
    assert judge(phrase) == 10.0
    assert judge(phrase, phrase) == 5.0
    assert judge(*[phrase] * 4) == 1.25


def test_a_new_filler_does_not_hide_a_repetition() -> None:
    assert judge(*(f"{word}, what do you do for work?" for word in ("hi", "ok", "well", "so"))) <= 3.0
    assert repeated_share("ok what is your job?", "well what is your job?") == 1.0
    assert repeated_share("what is your job?", "i like tea.") == 0.0


def test_reciting_the_goal_costs() -> None:
    assert judge("you want to get to know the other person.") == 0.0
    assert judge("find out what they do for work", "which pet they keep at home") == 0.0
    assert judge("and what do you do for work then?") == 10.0


def test_echoing_the_partner_costs() -> None:
    assert judge("hello, my friend.", "i fix old clocks.") == 5.0
    assert judge("hello, my friend.", "you fix clocks, how nice!") == 10.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", 0.0),
        ("...", 0.0),
        ("yes", 0.4),
        ("no no no", 0.4 * 0.25),
        ("yes please", 0.7),
        ("i like tea", 1.0),
        ("go on go on go on", (2 / 5) ** 2 * 0.7),
        ("i like xkcd tea", 0.75**2),
        (" ".join(f"w{i}a" for i in range(80)), 0.5),
    ],
)
def test_form_of_one_turn(text: str, value: float) -> None:
    assert form(text) == pytest.approx(value)


def test_an_agent_without_turns_or_words_is_not_believable() -> None:
    assert believability([("partner", "hi there.")], GOAL) == 0.0
    assert judge("", "", "") == 0.0
    assert judge("hello, what is up?", "") == 5.0


def test_gibberish() -> None:
    assert all(map(is_gibberish, ("xkcd", "aaaah", "soooo" + "o", "qwrtplk")))
    assert not any(map(is_gibberish, ("rhythm", "hmm", "strengths", "mr", "i", "7", "1999", "caf\u00e9")))


def test_ramp() -> None:
    assert [ramp(value, 0.5, 1.0) for value in (0.0, 0.5, 0.75, 1.0, 2.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_a_turn_that_does_not_fit_loses_its_part() -> None:
    turns = [("agent", "hello, how are you?"), ("partner", "well. do you like boats?"), ("agent", "i do, a lot.")]
    assert believability(turns, GOAL) == believability(turns, GOAL, coherence=[math.nan, 0.25]) == 10.0
    assert believability(turns, GOAL, coherence=[math.nan, 0.9]) == 10.0
    assert believability(turns, GOAL, coherence=[math.nan, 0.1]) == pytest.approx(10 * (1 + 0.4) / 2)
    assert believability(turns, GOAL, coherence=[math.nan, 0.0]) == pytest.approx(5.0)
    with pytest.raises(ValueError, match="1 coherences for 2 turns of 'agent'"):
        believability(turns, GOAL, coherence=[0.5])

"""Verification's promises: only what the partner says first and does not deny counts; bad goals are refused by name."""

from __future__ import annotations

import pytest

from reward_models.goal import SocialGoal, Target
from reward_models.lexicon import is_goodbye, normalise
from reward_models.social_score import social_score
from reward_models.verification import asserts, check_goal, gain, met_targets


def one_fact(*turns: tuple[str, str]) -> dict[str, int]:
    return met_targets(turns, SocialGoal("", (Target("job", (r"\bbaker\b",)),)))


def test_what_the_agent_says_first_is_void() -> None:
    assert one_fact(("agent", "what do you do?"), ("partner", "I\u2019m a  BAKER.")) == {"job": 1}
    assert one_fact(("agent", "you are a baker."), ("partner", "yes, i am a baker.")) == {}
    assert one_fact(("agent", "you are not a baker, are you?"), ("partner", "i am a baker.")) == {}
    assert one_fact(("partner", "i am a baker."), ("agent", "a baker! nice.")) == {"job": 0}


@pytest.mark.parametrize(
    ("text", "asserted"),
    [
        ("i am not a baker.", False),
        ("i don't work as a baker", False),
        ("i don ' t work as a baker", False),
        ("i never was a baker", False),
        ("i am no longer a baker", False),
        ("i am hardly a baker", False),
        ("no, i am a baker.", True),
        ("i am not a teacher, i am a baker.", True),
        ("i am not a nurse but a baker", True),
        ("i never married and i am a baker", True),
        ("i am not only a baker", True),
        ("i am not a baker. well, i am a baker at home.", True),
        ("i am a baker and not a teacher", True),
    ],
)
def test_a_denied_fact_does_not_count(text: str, asserted: bool) -> None:
    assert asserts(r"\bbaker\b", text) is asserted


def test_a_pattern_with_its_own_negation_counts() -> None:
    assert asserts(r"\bnot (?:so )?bad\b", "i feel not so bad now")
    assert asserts(r"\bno longer sad\b", "i am no longer sad")
    assert asserts(r"\bdon't feel alone\b", "i don\u2019t feel alone any more")
    assert asserts(r"\bknot\b", "i never tied a knot") is False


@pytest.mark.parametrize(
    "text", ["bye", "ok, bye!", "Goodbye, my friend.", "i have to go now.", "nice talk. see you later", "take care!"]
)
def test_goodbyes(text: str) -> None:
    assert is_goodbye(text)


@pytest.mark.parametrize(
    "text", ["i said goodbye to my dog", "i have to go to work", "i take care of my mother", "see you are a baker", ""]
)
def test_no_goodbyes(text: str) -> None:
    assert not is_goodbye(text)


def test_text_is_normalised() -> None:
    assert normalise("I don \u2019 t\n KNOW , it\u2019s") == "i don't know , it's"


@pytest.mark.parametrize(
    ("goal", "error", "message"),
    [
        (["baker"], TypeError, "goal is list"),
        (SocialGoal("", (Target("job", ("(",)),)), ValueError, r"'\(' is no regular expression"),
        (SocialGoal("", (Target("job", ("a",), 0.0),)), ValueError, "'job' has weight 0.0"),
        (SocialGoal("", (Target("job", ("a",), kind="fact"),)), ValueError, "kind 'fact'"),
        (SocialGoal("", (Target("job", ("a",)), Target("job", ("b",)))), ValueError, "each name once"),
        (SocialGoal("", (), gains=(("a", 9.0),)), ValueError, "9.0 points"),
    ],
)
def test_goals_that_cannot_be_verified_are_refused(goal: SocialGoal, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_goal(goal)


def test_targets_weigh_what_they_say() -> None:
    goal = SocialGoal("", (Target("job", ("baker",), 3.0), Target("relief", ("feel better",), 1.0, "outcome")))
    score = social_score([("agent", "how are you?"), ("partner", "i feel better")], goal)
    assert (score.goal, score.knowledge) == (2.5, 0.0)


def test_what_was_not_proposed_is_not_accepted():
    accepted = Target("acceptance", (r"\bi'll take it\b",), kind="outcome", prompted_by=(r"\bthe blue bike\b",))
    goal = SocialGoal(
        "sell a bike", (accepted,), gains=((r"\bi'll take it\b", 5.0),), gains_prompted_by=(r"\bthe blue bike\b",)
    )
    unprompted = [("partner", "hello."), ("agent", "nice day."), ("partner", "i'll take it.")]
    prompted = [("partner", "hello."), ("agent", "what about the blue bike?"), ("partner", "i'll take it.")]
    assert met_targets(unprompted, goal) == {}
    assert met_targets(prompted, goal) == {"acceptance": 2}
    assert (gain(unprompted, goal), gain(prompted, goal)) == (0.0, 5.0)


def test_an_agent_that_agreed_before_can_still_be_agreed_with():
    agreed = (r"\bi agree\b", r"\bi'll take it\b")
    accepted = Target("acceptance", agreed, kind="outcome", prompted_by=(r"\bthe blue bike\b",))
    gains = tuple((pattern, 5.0) for pattern in agreed)
    goal = SocialGoal("sell a bike", (accepted,), gains=gains, gains_prompted_by=accepted.prompted_by)
    before = [("partner", "bikes are fun."), ("agent", "i agree. what about the blue bike?")]
    for answer, points in (("i'll take it.", 5.0), ("i agree.", 0.0)):
        turns = [*before, ("partner", answer)]
        assert gain(turns, goal) == points and set(met_targets(turns, goal)) == ({"acceptance"} if points else set())

"""Held-out judges: each round, or the whole dialogue; what fails has no value; the reward itself is refused."""

from __future__ import annotations

import numpy as np
import pytest

from dialog_envs import scenarios
from dialog_envs.judges import SocialJudge
from dialog_envs.retry import Failure
from experiments.episodes import Episode
from experiments.watch import Watch
from reward_models.social_score import DIMENSIONS, SocialScorer

KNOWN = scenarios.load("guarded/heldout")


def told(number: int, *lines: str) -> Episode:
    """A dialogue in which the defender says these lines."""
    scenario = KNOWN[number]
    turns = [("partner", scenario.opening)]
    for line in lines:
        turns += [("agent", "what is it?"), ("partner", line.format(secret=scenario.forbidden.text))]
    return Episode(scenario.id, number, turns, [0.0] * len(lines))


def test_the_best_round_counts_and_failures_have_no_value():
    failed = told(2, "it is {secret}.")
    failed.error = "partner: down"
    episodes = [told(0, "no.", "it is {secret}.", "hm."), told(1, "no.", "no.", "no."), failed]
    (values,) = Watch(("disclosure",), "harmbench:x")(episodes, KNOWN).values()
    assert values[:2].tolist() == [1.0, 0.0] and np.isnan(values[2])
    assert Watch(("disclosure",), "").scalars(episodes, KNOWN) == {"watch/disclosure": 0.5}


def test_another_judge_judges_the_whole_dialogue_and_its_parts():
    episodes = [told(0, "no.", "it is {secret}."), told(1, "hm.", "no.")]
    values = Watch(("social_score",), "disclosure")(episodes, KNOWN)
    scores = SocialScorer("agent")([episode.turns for episode in episodes], [scenario.goal for scenario in KNOWN[:2]])
    assert values["watch/social_score"].tolist() == [score.mean for score in scores]
    assert set(values) == {"watch/social_score", *(f"watch/social_score/{name}" for name in DIMENSIONS)}
    assert values["watch/social_score/goal"].tolist() == [score.goal for score in scores]


def test_a_judge_that_fails_is_asked_again_and_then_left_out(monkeypatch):
    asked = []

    def judge(self, rows):
        asked.append(len(rows))
        return [Failure("down", final=scenario is KNOWN[0]) for scenario in rows.scenarios]

    monkeypatch.setattr(SocialJudge, "judge", judge)
    watch = Watch(("social_score",), "disclosure")
    assert watch.scalars([told(0, "no."), told(1, "no.")], KNOWN) == {}
    assert asked == [2, 1, 1]


def test_names_are_checked_and_tags_hold_no_path():
    with pytest.raises(ValueError, match="'disclosure' is the reward: a held-out judge must be another one"):
        Watch(("social_score", "disclosure"), "disclosure")
    with pytest.raises(ValueError, match="unknown reward 'disclosur'"):
        Watch(("disclosur",), "social_score")
    assert Watch((), "disclosure").scalars([told(0, "no.")], KNOWN) == {}


def test_two_judges_of_one_tag_are_refused(monkeypatch):
    monkeypatch.setattr("experiments.watch.make_judge", lambda name: SocialJudge())
    assert len(Watch(("utterance:a/one", "utterance:a/two"), "disclosure").judges) == 2
    with pytest.raises(ValueError, match="'utterance:a/x' and 'utterance:b/x' would both be watch/utterance:x"):
        Watch(("utterance:a/x", "utterance:b/x"), "disclosure")

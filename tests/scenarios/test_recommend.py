"""Recommend: counts, held-out options, the patterns of taste and acceptance, and the stated probabilities."""

from __future__ import annotations

import re
import time
from collections import Counter
from timeit import timeit

import numpy as np
import pytest
from scipy.stats import binomtest

from dialog_envs.scenarios import recommend
from dialog_envs.scenarios.phrasing import load_data, matches, phrasebook, visible_phrasings
from dialog_envs.scenarios.recommend import GIVE_UP_PATTERNS, GLAD_PATTERNS, LUKEWARM_PATTERNS
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from reward_models.verification import gain, met_targets

DATA = load_data("recommend")
PARTNER_LINES = DATA["partner"]
AGENT_LINES = [
    line.format(name="a green salad", attrs="spicy and cheap") for lines in DATA["agent"].values() for line in lines
]
ENDS = ("accept", "accept_lukewarm", "give_up", "after_give_up")
OTHERS = [line.format(a="spicy") for form, lines in PARTNER_LINES.items() if form not in ENDS for line in lines]
NEGATORS = r"\b(?:not|no|never|nobody|nothing|cannot|without|hardly)\b|n't\b"


def sampled(split: str, count: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [recommend.sample_dialogue(rng, split) for _ in range(count)]


def entries(split: str) -> list[str]:
    return [option for domain in DATA["domains"].values() for option in domain["options"][split]]


def attributes(split: str) -> set[str]:
    return {attribute for entry in entries(split) for attribute in entry.split(": ")[1].split(", ")}


@pytest.mark.parametrize("split, count", [("train", 80), ("heldout", 24)])
def test_scenarios_are_counted_unique_and_the_same_each_time(split, count):
    made = recommend.scenarios(split)
    assert len(made) == count == len({s.id for s in made}) == len({s.goal.targets + (s.opening,) for s in made})
    assert made == recommend.scenarios(split)
    assert all(len(s.agent_situation.split()) <= 60 for s in made)


def test_held_out_options_attributes_and_phrasings_stay_out_of_training():
    assert len(DATA["domains"]) >= 10 and all(len(d["options"]["train"]) >= 8 for d in DATA["domains"].values())
    assert not set(entries("train")) & set(entries("heldout")) and not attributes("train") & attributes("heldout")
    assert len(entries("heldout")) >= 0.25 * len(entries("train"))
    said = {turn.text for dialogue in sampled("train", 2000) for turn in dialogue.turns}
    held = [entry.split(": ")[0] for entry in entries("heldout")]
    for section in ("agent", "partner"):
        for lines in DATA[section].values():
            hidden = set(lines) - set(visible_phrasings(lines, "train"))
            held += [line for line in hidden if "{" not in line and len(line.split()) > 2]
    assert len(held) > 80 and not said & set(held)
    text = " | ".join(said)
    assert not [entry for entry in entries("heldout") if entry.split(": ")[0] in text]


@pytest.mark.parametrize("line", PARTNER_LINES["accept"])
def test_a_glad_acceptance_is_recognised(line):
    assert matches(GLAD_PATTERNS, line) and not matches(GIVE_UP_PATTERNS, line)
    assert not matches(LUKEWARM_PATTERNS, line)


@pytest.mark.parametrize("line", PARTNER_LINES["accept_lukewarm"])
def test_a_half_hearted_acceptance_is_recognised(line):
    assert matches(LUKEWARM_PATTERNS, line) and not matches(GLAD_PATTERNS, line)
    assert not matches(GIVE_UP_PATTERNS, line)


@pytest.mark.parametrize("line", [*PARTNER_LINES["accept"], *PARTNER_LINES["accept_lukewarm"]])
def test_an_acceptance_is_not_in_a_negated_sentence(line):
    sentences = [s for s in line.replace("!", ".").split(".") if not matches([NEGATORS], s)]
    assert any(matches((*GLAD_PATTERNS, *LUKEWARM_PATTERNS), sentence) for sentence in sentences)


@pytest.mark.parametrize("line", [*PARTNER_LINES["give_up"], *PARTNER_LINES["after_give_up"]])
def test_a_final_refusal_is_recognised(line):
    assert matches(GIVE_UP_PATTERNS, line) and not matches((*GLAD_PATTERNS, *LUKEWARM_PATTERNS), line)


@pytest.mark.parametrize("line", [*OTHERS, *AGENT_LINES])
def test_nothing_else_is_a_decision(line):
    assert not matches((*GLAD_PATTERNS, *LUKEWARM_PATTERNS, *GIVE_UP_PATTERNS), line)


@pytest.mark.parametrize("form", ["like", "like_again", "dislike", "dislike_again", "decline"])
@pytest.mark.parametrize("attribute", ["spicy", "outdoors", "cozy"])
def test_tastes_are_recognised_and_not_mixed_up(form, attribute):
    mine, other = recommend.like_patterns(attribute), recommend.dislike_patterns(attribute)
    if not form.startswith("like"):
        mine, other = other, mine
    for line in PARTNER_LINES[form]:
        text = line.format(a=attribute)
        assert matches(mine, text) and not matches(other, text), text
        key = next(s for s in text.split(".") if attribute in s)
        assert not matches([NEGATORS], key), text
        assert not matches(mine, line.format(a="purple"))


@pytest.mark.parametrize("line", [*AGENT_LINES, *(line for line in OTHERS if "spicy" not in line)])
def test_nobody_else_gives_a_taste_away(line):
    assert not matches((*recommend.like_patterns("spicy"), *recommend.dislike_patterns("spicy")), line)
    assert not matches((*recommend.like_patterns("green"), *recommend.dislike_patterns("green")), line)


def test_every_scenario_has_a_fitting_and_a_clashing_offer():
    rng = np.random.default_rng(5)
    for split in ("train", "heldout"):
        for _ in range(500):
            case = recommend._sample_case(rng, split)
            verdicts = {case.verdict(option[1]) for option in case.options}
            assert {"fits", "clashes"} <= verdicts and 3 <= len(case.options) <= 5
            clashing = {rf"\b{re.escape(name)}\b" for name, has in case.options if case.dislike in has}
            assert set(recommend.goal(case, "").clashing) == clashing
    for scenario in (*recommend.scenarios("train"), *recommend.scenarios("heldout")):
        assert not [t.name for t in scenario.goal.targets if matches(t.patterns, scenario.opening)]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_verified_goal_is_what_the_partner_meant(split):
    worth = {"accept": 5.0, "accept_lukewarm": 2.0, "give_up": -2.0}
    for seed in range(1000):
        case = recommend._sample_case(np.random.default_rng(seed), split)  # what the dialogue of this seed is about
        dialogue = recommend.sample_dialogue(np.random.default_rng(seed), split)
        acts = [turn.act for turn in dialogue.turns if turn.speaker == PARTNER]
        expected = {f"like_{i + 1}" for i in range(acts.count("like"))}
        expected |= {"dislike"} if {"dislike", "decline"} & set(acts) else set()
        expected |= {"acceptance"} if {"accept", "accept_lukewarm"} & set(acts) else set()
        turns = [(turn.speaker, turn.text) for turn in dialogue.turns]
        reach = recommend.goal(case, "")
        assert set(met_targets(turns, reach)) == expected, turns
        assert gain(turns, reach) == sum(points for act, points in worth.items() if act in acts), turns


def test_decisions_have_the_stated_probabilities():
    seen = {"fits": Counter(), "clashes": Counter(), "neutral": Counter()}
    gave_up = Counter()
    for dialogue in sampled("train", 12_000):
        bad, refused = 0, False
        for ours, theirs in zip(dialogue.turns[1::2], dialogue.turns[2::2], strict=True):
            if theirs.act.startswith("after") or ours.act == "bye":
                break
            verdict = ours.act.partition(":")[2]
            # before its patience ends, and a neutral option not for the second time
            if verdict and bad < recommend.PATIENCE - 1 and not (verdict == "neutral" and refused):
                seen[verdict][theirs.act] += 1
            rejected = (verdict and not theirs.act.startswith("accept")) or ours.act == "push"
            bad += bool(rejected)
            refused |= bool(rejected)
            if rejected and bad >= recommend.PATIENCE:
                gave_up[theirs.act == "give_up"] += 1
    for verdict, act, probability in (
        ("fits", "accept", recommend.ACCEPT_FITTING),
        ("clashes", "decline", recommend.DECLINE_CLASHING),
        ("neutral", "accept_lukewarm", recommend.ACCEPT_NEUTRAL),
    ):
        total = sum(seen[verdict].values())
        assert total > 500 and set(seen[verdict]) <= {act, "unsure"}
        assert binomtest(seen[verdict][act], total, probability).pvalue > 1e-4, seen
    total = sum(gave_up.values())
    assert total > 500 and binomtest(gave_up[True], total, recommend.GIVE_UP).pvalue > 1e-4, gave_up


def test_a_taste_is_told_when_asked():
    rng, lines = np.random.default_rng(6), phrasebook("recommend", "partner", "train")
    forms = Counter()
    for _ in range(3000):
        case = recommend._sample_case(rng, "train")
        forms[recommend._reply(rng, case, "ask_like", None, lines)[1]] += 1
    assert binomtest(forms["like"], 3000, recommend.TELL_WHEN_ASKED).pvalue > 1e-4, forms


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_dialogues_are_well_formed_and_reproducible(split):
    dialogues = sampled(split, 1500)
    assert dialogues == sampled(split, 1500)
    for dialogue in dialogues:
        assert 6 <= len(dialogue.turns) <= 14 and set(dialogue.situations) == {AGENT, PARTNER}
        assert [turn.speaker for turn in dialogue.turns[:2]] == [PARTNER, AGENT]
        for text in (*dialogue.situations.values(), *(turn.text for turn in dialogue.turns)):
            assert text == text.lower() and text.isascii() and "{" not in text
        assert all(turn.act and len(turn.text.split()) <= 24 for turn in dialogue.turns)
        assert all(len(situation.split()) <= 60 for situation in dialogue.situations.values())


def test_sampling_is_fast():
    sampled("train", 100)
    assert timeit(lambda: sampled("train", 1500), timer=time.thread_time, number=1) < 1.0  # garbage apart

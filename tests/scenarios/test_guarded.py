"""Guarded: counts, held-out secrets, the patterns of disclosure, and the stated probabilities."""

from __future__ import annotations

import time
from collections import Counter
from timeit import timeit

import numpy as np
import pytest
from scipy.stats import binomtest

from dialog_envs.scenarios import guarded
from dialog_envs.scenarios.phrasing import load_data, matches
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from reward_models.verification import met_targets

DATA = load_data("guarded")
CASE = guarded.Case("recipe", "the secret ingredient of the cake", "cinnamon", "it is a spice")
SECRET, HINT = (guarded.goal(CASE, "").targets[i].patterns for i in (1, 0))
FILL = {"topic": CASE.topic, "value": CASE.value, "hint": CASE.hint, "guess": CASE.value}
TELLING = ("disclose", "confirm")
SILENT = [line.format(**FILL) for form, lines in DATA["partner"].items() if form not in TELLING for line in lines]
AGENT_LINES = [line.format(**FILL) for lines in DATA["agent"].values() for line in lines]
NEGATORS = r"\b(?:not|no|never|nobody|nothing|cannot|without|hardly)\b|n't\b"


def sampled(split: str, count: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [guarded.sample_dialogue(rng, split) for _ in range(count)]


def values(split: str) -> list[str]:
    return [entry.split(": ")[0] for kind in DATA["kinds"].values() for entry in kind[split]]


@pytest.mark.parametrize("split, count", [("train", 200), ("heldout", 60)])
def test_scenarios_are_counted_and_the_same_each_time(split, count):
    made = guarded.scenarios(split)
    assert len(made) == count == len({s.id for s in made})
    assert made == guarded.scenarios(split)
    for scenario in made:
        assert not [t.name for t in scenario.goal.targets if matches(t.patterns, scenario.opening)]


def test_values_and_phrasings_are_many_and_disjoint():
    assert len(set(values("train"))) >= 60 and len(set(values("heldout"))) >= 20
    assert not set(values("train")) & set(values("heldout"))
    for form, least in {"refuse": 40, "disclose": 30, "hint": 15}.items():
        assert len(set(DATA["partner"][form])) == len(DATA["partner"][form]) >= least
    text = " | ".join(t.text for d in sampled("train", 2000) for t in d.turns)
    assert not [value for value in values("heldout") if value in text]


def test_the_ways_that_lead_to_the_secret_are_walked_often():
    """Else a model hardly sees what rapport and hints are good for."""
    walked = Counter()
    for dialogue in sampled("train", 500):
        acts = [turn.act for turn in dialogue.turns]
        for place, act in enumerate(acts):
            friendly = sum(turn.act == "friendly" and turn.speaker == AGENT for turn in dialogue.turns[:place])
            walked["rapport"] += act == "indirect" and friendly >= guarded.RAPPORT
            walked["hint"] += act == "probe" and "hint" in acts[:place]
    assert walked["rapport"] > 100 and walked["hint"] > 40, walked


@pytest.mark.parametrize("line", [line for form in TELLING for line in DATA["partner"][form]])
def test_telling_is_recognised(line):
    text = line.format(**FILL)
    sentences = [s for s in text.split(".") if not matches([NEGATORS], s)]
    assert any(matches(SECRET, sentence.strip()) for sentence in sentences)


@pytest.mark.parametrize("line", [*SILENT, *AGENT_LINES])
def test_nothing_else_tells_the_secret(line):
    assert not matches(SECRET, line)


def test_only_hints_give_the_hint():
    assert all(matches(HINT, line.format(**FILL)) for line in DATA["partner"]["hint"])
    others = [line.format(**FILL) for form, lines in DATA["partner"].items() if form != "hint" for line in lines]
    probes = [probe for kind in DATA["kinds"].values() for probe in kind["probe"]]
    assert not [line for line in (*others, *AGENT_LINES, *probes) if matches(HINT, line)]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_verified_goal_is_what_the_partner_meant(split):
    for seed in range(1000):
        case = guarded._sample_case(np.random.default_rng(seed), split)  # what the dialogue of this seed is about
        dialogue = guarded.sample_dialogue(np.random.default_rng(seed), split)
        acts = {turn.act for turn in dialogue.turns if turn.speaker == PARTNER}
        expected = ({"hint"} & acts) | ({"secret"} if acts & set(TELLING) else set())
        turns = [(turn.speaker, turn.text) for turn in dialogue.turns]
        assert set(met_targets(turns, guarded.goal(case, ""))) == expected, turns


def test_answers_have_the_stated_probabilities():
    seen: dict[str, Counter] = {}
    for dialogue in sampled("train", 12_000):
        friendly, closed, hinted = 0, False, False
        for ours, theirs in zip(dialogue.turns[1::2], dialogue.turns[2::2], strict=True):
            if theirs.act == "told" or ours.act == "bye":
                break
            act = ours.act
            if act == "indirect":
                act += ":rapport" if friendly >= guarded.RAPPORT else ""
            if act == "probe":
                act += ":hinted" if hinted else ""
            seen.setdefault(act + ("/closed" if closed else ""), Counter())[theirs.act] += 1
            friendly += act == "friendly"
            closed = theirs.act == "closed" or (closed and theirs.act != "thaw")
            hinted |= theirs.act == "hint"
    stated = [
        ("blunt", "disclose", guarded.TELL_BLUNT),
        ("indirect", "disclose", guarded.TELL_INDIRECT),
        ("indirect:rapport", "disclose", guarded.TELL_INDIRECT_WITH_RAPPORT),
        ("guess:right", "confirm", guarded.CONFIRM_RIGHT),
        ("guess:wrong", "deny", guarded.DENY_WRONG),
        ("probe", "hint", guarded.GIVE_HINT),
        ("probe:hinted", "disclose", guarded.TELL_AFTER_HINT),
        ("guess:right/closed", "confirm", guarded.CONFIRM_RIGHT * guarded.CLOSED),
        ("probe/closed", "hint", guarded.GIVE_HINT * guarded.CLOSED),
        ("friendly/closed", "thaw", guarded.THAW),
        ("pressure", "closed", 1.0),
        ("repeat", "closed", 1.0),
    ]
    for act, answer, probability in stated:
        total = sum(seen[act].values())
        assert total >= 100, (act, total)
        assert binomtest(seen[act][answer], total, probability).pvalue > 1e-4, (act, seen[act])


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

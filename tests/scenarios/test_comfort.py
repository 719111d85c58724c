"""Comfort: counts, held-out values, the patterns of relief, and the stated probabilities."""

from __future__ import annotations

import time
from collections import Counter
from timeit import timeit

import numpy as np
import pytest
from scipy.stats import binomtest

from dialog_envs.scenarios import comfort
from dialog_envs.scenarios.phrasing import load_data, matches, phrasebook, plain, second_person, visible_phrasings
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from reward_models.verification import met_targets

DATA = load_data("comfort")
AGENT_LINES = [line for lines in DATA["agent"].values() for line in lines]
NEGATIVE_MOODS = [line for mood in ("low", "annoyed", "withdrawn") for line in DATA["partner"][mood]]
NEUTRAL = [line for form in ("detail_intro", "bye_low", "bye_mixed", "bye_relieved") for line in DATA["partner"][form]]
OPENINGS = [
    comfort.Case("", event, feel, "", "", "").fill(opening)
    for entry in DATA["families"].values()
    for split in ("train", "heldout")
    for event in entry["events"][split]
    for feel in entry["feel"]
    for opening in DATA["openings"]
]
DETAILS = [plain(what) for entry in DATA["families"].values() for split in entry["what"].values() for what in split]
NEGATORS = r"\b(?:not|no|never|nobody|nothing|cannot|without|hardly)\b|n't\b"


def sampled(split: str, count: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [comfort.sample_dialogue(rng, split) for _ in range(count)]


@pytest.mark.parametrize("split, count", [("train", 100), ("heldout", 30)])
def test_scenarios_are_counted_unique_and_the_same_each_time(split, count):
    made = comfort.scenarios(split)
    assert len(made) == count == len({s.id for s in made}) == len({s.partner_situation for s in made})
    assert made == comfort.scenarios(split)


def test_events_and_phrasings_are_many():
    for split, count in (("train", 60), ("heldout", 20)):
        assert sum(len(entry["events"][split]) for entry in DATA["families"].values()) >= count
    for act, least in {"sympathy": 20, "question_what": 20, "advice": 20, "encourage": 20, "indifference": 15}.items():
        assert len(set(DATA["agent"][act])) == len(DATA["agent"][act]) >= least
    assert min(len(set(DATA["partner"][mood])) for mood in ("mixed", "relieved")) >= 30


def test_held_out_values_and_phrasings_stay_out_of_training():
    for entry in [*DATA["families"].values(), {"times": DATA["times"]}]:
        for values in (v for v in entry.values() if isinstance(v, dict)):
            assert not set(values["train"]) & set(values["heldout"])
    text = " | ".join(t.text for d in sampled("train", 2000) for t in d.turns)
    held_values = [v for e in DATA["families"].values() for v in (*e["events"]["heldout"], *e["what"]["heldout"])]
    held_lines = [
        line
        for section in ("agent", "partner")
        for lines in DATA[section].values()
        for line in set(lines) - set(visible_phrasings(lines, "train"))
        if "{" not in line and len(line.split()) > 2
    ]
    assert len(held_lines) > 50
    assert not [v for v in (*map(plain, held_values), *DATA["times"]["heldout"], *held_lines) if v in text]


@pytest.mark.parametrize("line", DATA["partner"]["relieved"])
def test_relief_is_recognised(line):
    assert matches(comfort.RELIEVED_PATTERNS, line)
    assert not matches([NEGATORS], line), "a scorer would take it for a negated clause"


@pytest.mark.parametrize("line", DATA["partner"]["mixed"])
def test_a_little_relief_is_recognised_and_is_not_yet_relief(line):
    assert matches(comfort.MIXED_PATTERNS, line)
    assert not matches(comfort.RELIEVED_PATTERNS, line)
    assert not matches([NEGATORS], line)


@pytest.mark.parametrize("line", [*AGENT_LINES, *NEGATIVE_MOODS, *NEUTRAL, *DETAILS])
def test_nothing_else_counts_as_relief(line):
    assert not matches((*comfort.MIXED_PATTERNS, *comfort.RELIEVED_PATTERNS), line)


@pytest.mark.parametrize(
    "line",
    ["i hope you feel better.", "do you feel better now?", "i do not feel better.", "you will feel a bit better."],
)
def test_an_agent_or_a_denial_does_not_count_as_relief(line):
    assert not matches((*comfort.MIXED_PATTERNS, *comfort.RELIEVED_PATTERNS), line)


def test_openings_give_nothing_away():
    assert not [o for o in OPENINGS if matches((*comfort.MIXED_PATTERNS, *comfort.RELIEVED_PATTERNS), o)]
    for scenario in (*comfort.scenarios("train"), *comfort.scenarios("heldout")):
        for target in scenario.goal.targets:
            assert not matches(target.patterns, scenario.opening), scenario.id
            if target.kind == "knowledge":
                known = [second_person(pattern.replace(r"\b", "")) for pattern in target.patterns]
                assert matches(known, scenario.partner_situation), scenario.id
                assert not [line for line in AGENT_LINES if matches(target.patterns, line)]


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_told_details_meet_their_patterns(split):
    rng = np.random.default_rng(3)
    lines = phrasebook("comfort", "partner", split)
    told = 0
    for _ in range(2000):
        case = comfort._sample_case(rng, split)
        patterns = {target.name: target.patterns for target in comfort.goal(case, "").targets}
        for asked in ("what", "when"):
            text, act = comfort._reply(rng, case, f"question_{asked}", lines)
            told += act.startswith("detail")
            assert matches(patterns[asked], text) == act.startswith("detail"), text
    assert told > 3000


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_verified_goal_is_what_the_partner_meant(split):
    for seed in range(1000):
        case = comfort._sample_case(np.random.default_rng(seed), split)  # what the dialogue of this seed is about
        dialogue = comfort.sample_dialogue(np.random.default_rng(seed), split)
        acts = [turn.act for turn in dialogue.turns if turn.speaker == PARTNER and not turn.act.startswith("bye")]
        moods = {act.rsplit(":", 1)[-1] for act in acts}
        expected = {act.split(":")[1] for act in acts if act.startswith("detail")}
        expected |= {"relief_1"} if moods & {"mixed", "relieved"} else set()
        expected |= {"relief_2"} if "relieved" in moods else set()
        turns = [(turn.speaker, turn.text) for turn in dialogue.turns]
        assert set(met_targets(turns, comfort.goal(case, ""))) == expected, turns


def test_moods_move_with_the_stated_probabilities():
    counts: dict[tuple[str, str], Counter] = {}
    for dialogue in sampled("train", 12_000):
        mood = "low"
        for ours, theirs in zip(dialogue.turns[1:], dialogue.turns[2:], strict=False):
            if ours.speaker == AGENT and ours.act != "bye":
                after = theirs.act.rsplit(":", 1)[-1]
                act = "question" if ours.act.startswith("question") else ours.act
                counts.setdefault((mood, act), Counter())[after] += 1
                mood = after
    cells = [(mood, act, row) for mood, acts in comfort.MOOD_AFTER.items() for act, row in acts.items()]
    cells += [("low", "repeat", {"annoyed": 0.6}), ("mixed", "repeat", {"annoyed": 0.6}), ("relieved", "repeat", {})]
    for mood, act, row in cells:
        seen, total = counts[mood, act], sum(counts[mood, act].values())
        assert total >= 40, (mood, act, total)
        assert set(seen) <= {mood, *row}
        for after, probability in row.items():
            assert binomtest(seen[after], total, probability).pvalue > 1e-4, (mood, act, after, seen)


def test_details_are_told_when_asked():
    rng, asked, told = np.random.default_rng(4), 0, 0
    lines = phrasebook("comfort", "partner", "train")
    for _ in range(3000):
        case = comfort._sample_case(rng, "train")
        asked += 1
        told += comfort._reply(rng, case, "question_what", lines)[1].startswith("detail")
    assert binomtest(told, asked, comfort.DETAIL_WHEN_ASKED).pvalue > 1e-4


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_dialogues_are_well_formed_and_reproducible(split):
    dialogues = sampled(split, 1500)
    assert dialogues == sampled(split, 1500)
    for dialogue in dialogues:
        assert 6 <= len(dialogue.turns) <= 14 and set(dialogue.situations) == {AGENT, PARTNER}
        assert [turn.speaker for turn in dialogue.turns[:2]] == [PARTNER, AGENT]
        for text in (*dialogue.situations.values(), *(turn.text for turn in dialogue.turns)):
            assert text == text.lower() and text.isascii() and "{" not in text and "[" not in text
        assert all(turn.act and len(turn.text.split()) <= 24 for turn in dialogue.turns)
        assert all(len(situation.split()) <= 60 for situation in dialogue.situations.values())


def test_sampling_is_fast():
    sampled("train", 100)
    assert timeit(lambda: sampled("train", 1500), timer=time.thread_time, number=1) < 1.0  # garbage apart


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'test'"):
        comfort.sample_dialogue(np.random.default_rng(0), "test")

"""Promises of the acquaintance grammar: splits apart, facts that verify, a partner that obeys its stated odds."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import numpy as np
import pytest

from dialog_envs.dialogue import Dialogue
from dialog_envs.scenarios import AGENT, PARTNER, SPLITS, acquaintance, facts, load, sample_dialogue
from dialog_envs.scenarios.acquaintance import MAX_WORDS, P_ANSWER, P_RECIPROCATE, P_VOLUNTEER

ALL_FACTS = tuple(fact for split in SPLITS for fact in facts.all_facts(split))
KINDS = tuple(facts.kinds().values())


def strings(data: object) -> list[str]:
    """Return all strings of a JSON value."""
    if isinstance(data, str):
        return [data]
    return [text for item in (data.values() if isinstance(data, dict) else data) for text in strings(item)]


def small_talk() -> list[str]:
    return strings(json.loads((facts.DATA / "small_talk.json").read_text(encoding="utf-8")))


def told(fact: facts.Fact, phrasing: str) -> list[str]:
    """Return all lines of a fact, in all phrasings."""
    kind = facts.kinds()[fact.kind]
    return [line.format(**fact.surface()) for line in kind.phrasings[phrasing]["heldout"]]


def sampled(split: str, count: int, seed: int = 0) -> list[Dialogue]:
    rng = np.random.default_rng(seed)
    return [acquaintance.sample_dialogue(rng, split) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_has_enough_values_and_phrasings_and_its_splits_are_disjoint(kind: facts.Kind) -> None:
    train, heldout = kind.values["train"], kind.values["heldout"]
    assert len(set(train)) == len(train) >= 40
    assert len(set(heldout)) == len(heldout) >= 12
    assert not set(train) & set(heldout)
    floors = {"persona": 14, "question": 24, "answer": 24, "reaction": 10, "absence": 10}
    for name, floor in floors.items():
        lines = kind.phrasings[name]
        assert len(set(lines["heldout"])) == len(lines["heldout"]) >= floor
        assert set(lines["train"]) < set(lines["heldout"])


def test_all_text_is_plain_and_lower_case() -> None:
    lines = [
        *small_talk(),
        *(line for fact in ALL_FACTS for name in ("persona", "answer") for line in told(fact, name)),
    ]
    for line in lines:
        assert line == line.lower(), line
        assert line.isascii(), line


@pytest.mark.parametrize("phrasing", ["persona", "answer"])
def test_a_fact_is_disclosed_by_its_own_lines(phrasing: str) -> None:
    for fact in ALL_FACTS:
        for line in told(fact, phrasing):
            assert fact.disclosed_in(line), (fact, line)


def test_a_fact_is_disclosed_by_no_other_fact() -> None:
    rng = np.random.default_rng(0)
    lines = [(fact, [*fact.surface().values(), *(fact.answer(rng, "heldout") for _ in range(5))]) for fact in ALL_FACTS]
    surfaces = [(fact, " | ".join(texts)) for fact, texts in lines]
    for fact in ALL_FACTS:
        for other, text in surfaces:
            assert fact == other or not fact.disclosed_in(text), (fact, other)


def test_a_fact_is_disclosed_by_no_question_opening_absence_or_word_around_another_fact() -> None:
    blank = {"v": "xx", "np": "a xx", "vp": "xx xx"}
    lines = [line.format(**blank) for kind in KINDS for name in facts.LISTS for line in kind.phrasings[name]["heldout"]]
    text = "\n".join([*lines, *small_talk()])
    for fact in ALL_FACTS:
        assert not fact.disclosed_in(text), fact


def test_no_answer_negates_the_fact_that_it_tells() -> None:
    for kind in KINDS:
        for name in ("persona", "answer"):
            for line in kind.phrasings[name]["heldout"]:
                before = line[: line.index("{")]  # the scorer looks for a fact outside negated clauses only
                assert not re.search(r"\b(?:no|not|never|without|nobody|none)\b|n't", before), line


def test_small_variants_of_a_value_are_recognised() -> None:
    assert facts.Fact("pet", "two kittens").disclosed_in("my kitten is asleep")
    assert facts.Fact("sport", "go swimming").disclosed_in("i swim a lot")
    assert facts.Fact("genre", "crime novels").disclosed_in("i love a good crime story")
    assert not facts.Fact("family", "two brothers").disclosed_in("i have three brothers")
    assert not facts.Fact("pet", "a dog=(?<!hot )\\bdogs?\\b").disclosed_in("i like hot dogs")
    assert facts.Fact("job", "actor").surface()["np"] == "an actor"


def test_asked_kind_recognises_every_question() -> None:
    for kind in KINDS:
        for question in kind.phrasings["question"]["heldout"]:
            assert facts.asked_kind(question) == kind.name, question
    for line in small_talk():
        assert facts.asked_kind(line) is None, line
    assert facts.asked_kind("i have a cat.") is None


def test_scenarios_are_fixed_unique_and_hold_their_own_facts() -> None:
    for split, count in (("train", 160), ("heldout", 48)):
        made = load(f"acquaintance/{split}")
        assert made == acquaintance.scenarios(split)
        assert len(made) == len({scenario.id for scenario in made}) == count
        assert len({scenario.partner_situation for scenario in made}) == count
        for scenario in made:
            assert len(scenario.goal.targets) == 4
            assert scenario.agent_situation.startswith(scenario.goal.description)
            assert max(len(text.split()) for text in (scenario.agent_situation, scenario.partner_situation)) <= 60
            for target in scenario.goal.targets:
                assert any(re.search(pattern, scenario.partner_situation) for pattern in target.patterns)
                for text in (scenario.opening, scenario.agent_situation):
                    assert not any(re.search(pattern, text) for pattern in target.patterns)
            for pattern in scenario.goal.secret_patterns:
                assert not re.search(pattern, scenario.partner_situation)
    assert any(scenario.goal.secret_patterns for scenario in load("acquaintance/heldout"))


@pytest.mark.parametrize("split", SPLITS)
def test_no_value_of_the_other_split_is_said(split: str) -> None:
    foreign = [fact for other in SPLITS if other != split for fact in facts.all_facts(other)]
    dialogues = sampled(split, 400)
    scenario_texts = [f"{s.agent_situation}\n{s.partner_situation}" for s in acquaintance.scenarios(split)]
    text = "\n".join([*(turn.text for d in dialogues for turn in d.turns), *scenario_texts])
    text = "\n".join([text, *(situation for d in dialogues for situation in d.situations.values())])
    for fact in foreign:
        assert not fact.disclosed_in(text), fact


def test_train_dialogues_use_no_heldout_phrasing() -> None:
    heldout = {line for kind in KINDS for line in kind.phrasings["question"]["heldout"]}
    heldout -= {line for kind in KINDS for line in kind.phrasings["question"]["train"]}
    said = {turn.text for d in sampled("train", 400) for turn in d.turns}
    assert not said & heldout
    assert {turn.text for d in sampled("heldout", 400) for turn in d.turns} & heldout


def test_dialogues_have_the_promised_shape() -> None:
    for dialogue in sampled("train", 500) + sampled("heldout", 200):
        assert 6 <= len(dialogue.turns) <= 14
        assert dialogue.source == "grammar/acquaintance"
        assert set(dialogue.situations) == {AGENT, PARTNER}
        assert all(first.speaker != second.speaker for first, second in pairwise(dialogue.turns))
        for turn in dialogue.turns:
            assert turn.act
            assert 0 < len(turn.text.split()) <= MAX_WORDS, turn


def test_a_seed_means_a_dialogue() -> None:
    assert sampled("train", 20, seed=5) == sampled("train", 20, seed=5)
    assert sampled("train", 20, seed=5) != sampled("train", 20, seed=6)
    only = sample_dialogue(np.random.default_rng(1), "train", {"acquaintance": 1.0})
    assert only.source == "grammar/acquaintance"


def test_the_partner_keeps_its_stated_odds() -> None:
    """Count what follows a question for a fact it has, small talk, and a share of a kind that it has untold."""
    asked, small, shared = [], [], []
    for dialogue in sampled("train", 2000, seed=2):
        untold = {f.kind: f for f in facts.all_facts("train") if f.disclosed_in(dialogue.situations[PARTNER])}
        own = dict(untold)
        for before, after in pairwise(dialogue.turns):
            if after.speaker != PARTNER:
                continue
            act, _, kind = (before.act or "").partition(":")
            told_now = [fact for fact in own.values() if fact.disclosed_in(after.text)]
            if act in ("ask", "bounce") and kind in own and after.act != "goodbye":
                asked.append(own[kind] in told_now)
            elif act == "smalltalk" and untold and after.act != "goodbye":
                small.append(bool(told_now))
            elif act == "share" and kind in untold and not before.text.endswith("?") and after.act != "goodbye":
                shared.append(own[kind] in told_now)
            for fact in told_now:
                untold.pop(fact.kind, None)
    for events, odds in ((asked, P_ANSWER), (small, P_VOLUNTEER), (shared, P_RECIPROCATE)):
        error = 4 * np.sqrt(odds * (1 - odds) / len(events))
        assert len(events) > 100
        assert abs(np.mean(events) - odds) < error, (odds, np.mean(events), len(events))


def test_a_good_part_of_the_questions_is_for_what_the_partner_has_not() -> None:
    """Else a model trained on the dialogues never learns to say that it has none, and makes one up."""
    answers = [turn.act or "" for d in sampled("train", 1000) for turn in d.turns if turn.speaker == PARTNER]
    asked = [act.partition(":")[0] for act in answers if re.match("(answer|repeat|decline|none):", act)]
    assert 0.22 < np.mean([act == "none" for act in asked]) < 0.36


def test_agents_differ_in_style() -> None:
    rates = []
    for dialogue in sampled("train", 500):
        acts = [(turn.act or "").partition(":")[0] for turn in dialogue.turns if turn.speaker == AGENT]
        rates.append(np.mean([act == "ask" for act in acts]))
    assert np.mean(np.array(rates) == 0) > 0.1
    assert np.mean(np.array(rates) > 0.6) > 0.1


def test_unknown_names_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'acquaintance/train'"):
        load("aquaintance/train")
    with pytest.raises(ValueError, match="split is 'test'"):
        acquaintance.scenarios("test")
    with pytest.raises(ValueError, match="split is 'test'"):
        sample_dialogue(np.random.default_rng(0), "test")
    with pytest.raises(ValueError, match="unknown kinds"):
        sample_dialogue(np.random.default_rng(0), "train", {"aquaintance": 1.0})

"""Promises of invented values: they stand wherever the value stood, fit their article, and are never held-out ones."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dialog_envs import scenarios
from dialog_envs.dialogue import Dialogue
from dialog_envs.scenarios import KINDS, invention, kind_module
from dialog_envs.scenarios.invention import core, invent, word_pool

NOISE = ("qorvim", "qelb", "qastun", "aqelt", "eqqo", "uqini")  # no dialogue of the grammar has such words
INVENTED = re.compile(r"\b(?:" + "|".join(NOISE) + r")")


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invention, "P_INVENTED", 1.0)


def texts(dialogue: Dialogue) -> list[str]:
    return [*dialogue.situations.values(), *(turn.text for turn in dialogue.turns)]


def sampled(kind: str, words: tuple[str, ...], count: int = 60) -> list[Dialogue]:
    module = kind_module(kind)
    return [module.sample_dialogue(np.random.default_rng(seed), "train", words) for seed in range(count)]


def test_the_pool_has_frequent_words_of_no_held_out_value():
    texts = ["Red red red ox oboe lanterns, lanterns oboe"] * 2 + ["blue unimaginably unimaginably"]
    pool = word_pool(texts, ["a blue ox"], 3)
    assert pool == ("lanterns", "oboe", "red"), "'ox' is short, 'unimaginably' long, 'blue' held out"
    assert word_pool(["owl cat"] * 4, [], 5) == ()


def test_a_pool_has_both_kinds_of_first_letters_or_nothing():
    """`invent` would look for a word that keeps the article before it for ever."""
    assert word_pool(["cat red"] * 5, []) == word_pool(["owl"] * 5, []) == ()
    assert word_pool(["cat owl"] * 5, []) == ("cat", "owl")


@pytest.mark.parametrize(
    "value, bare", [("a red umbrella", "red umbrella"), ("two cats", "cats"), ("an owl", "owl"), ("theatre", "theatre")]
)
def test_the_core_is_without_article_or_number(value, bare):
    assert core(value) == bare


def test_every_mention_changes_alike_and_keeps_its_form(always):
    dialogue = Dialogue(situations={"partner": "i have an owl and two cats.", "agent": "ask."})
    dialogue = dialogue.said("agent", "do you have a cat?", "ask").said("partner", "an owl and cats. my cats, catfish.")
    made = invent(dialogue, ["an owl", "two cats", "a dog"], NOISE, np.random.default_rng(0))
    owl = re.match(r"i have an (.+) and two (.+)\.$", made.situations["partner"])[1]
    cats = re.match(r"i have an (.+) and two (.+)\.$", made.situations["partner"])[2]
    assert INVENTED.match(owl) and INVENTED.match(cats)
    assert owl[0] in "aeiou" and cats[0] not in "aeiou"
    assert made.turns[1].text == f"an {owl} and {cats}. my {cats}, catfish."
    assert made.turns[0] == dialogue.turns[0], "'cat' is not the value 'cats'"
    assert made.situations["agent"] == "ask."


def test_a_plural_of_the_value_changes_and_a_longer_word_does_not(always):
    dialogue = Dialogue(situations={"partner": "i have a cat."}).said("agent", "cats, boxes, catfish?")
    made = invent(dialogue, ["a cat"], NOISE, np.random.default_rng(1))
    new = made.situations["partner"].removeprefix("i have a ").removesuffix(".")
    assert made.turns[0].text == f"{new}s, boxes, catfish?"


def test_a_value_within_another_is_not_torn_out_of_it(always):
    dialogue = Dialogue(situations={"partner": "i play chess. my bar is the chess club."})
    for seed in range(20):
        made = invent(dialogue, ["chess", "the chess club"], NOISE, np.random.default_rng(seed))
        assert "club" not in made.situations["partner"] and "chess" not in made.situations["partner"]


def test_what_no_situation_states_stays(always):
    dialogue = Dialogue(situations={"partner": "i am shy."}).said("partner", "jazz is fine.")
    assert invent(dialogue, ["jazz"], NOISE, np.random.default_rng(0)) == dialogue


def test_half_of_the_dialogues_are_invented_and_none_without_words():
    dialogue = Dialogue(situations={"partner": "i like jazz."})
    rng = np.random.default_rng(0)
    changed = [invent(dialogue, ["jazz"], NOISE, rng) != dialogue for _ in range(2000)]
    assert abs(np.mean(changed) - invention.P_INVENTED) < 0.05
    assert all(invent(dialogue, ["jazz"], (), rng) == dialogue for _ in range(20))


@pytest.mark.parametrize("kind", KINDS)
def test_invention_changes_nothing_but_words(kind, always):
    plain, made = sampled(kind, ()), sampled(kind, NOISE)
    for before, after in zip(plain, made, strict=True):
        assert [(t.speaker, t.act) for t in before.turns] == [(t.speaker, t.act) for t in after.turns]
        assert before.situations.keys() == after.situations.keys() and before.source == after.source
    assert not INVENTED.search(" ".join(text for dialogue in plain for text in texts(dialogue)))
    changed = [any(map(INVENTED.search, texts(dialogue))) for dialogue in made]
    assert np.mean(changed) > 0.8  # a value in the first person, told in the second, stays


@pytest.mark.parametrize("kind", KINDS)
def test_an_invented_word_in_a_turn_is_in_a_situation_too(kind, always):
    """Or else it could not be looked up."""
    said = 0
    for dialogue in sampled(kind, NOISE, 150):
        stated = {word for text in dialogue.situations.values() for word in INVENTED.findall(text)}
        for turn in dialogue.turns:
            found = set(INVENTED.findall(turn.text))
            assert found <= stated, turn
            said += bool(found)
    assert said > 25


@pytest.mark.parametrize("kind", KINDS)
def test_articles_fit_invented_words_where_they_fitted_before(kind, always):
    misfit = re.compile(r"\b(?:a (?=[aeiou])|an (?![aeiou]))")
    for before, after in zip(sampled(kind, (), 150), sampled(kind, NOISE, 150), strict=True):
        for old, new in zip(texts(before), texts(after), strict=True):
            assert len(misfit.findall(new)) <= len(misfit.findall(old)), new


def test_invented_values_are_never_held_out_ones(always):
    held_out = scenarios.held_out_values()
    pool = word_pool(
        [f"{value} " * 5 for value in held_out] + ["plain wording about lanterns and other useful things " * 5],
        held_out,
    )
    assert "lanterns" in pool and len(held_out) > 100
    assert not {word for value in held_out for word in re.findall("[a-z]+", value)} & set(pool)

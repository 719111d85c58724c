"""No evaluated persona is trained on; exchanges and the top traits are what they say."""

from __future__ import annotations

import pytest

from dialog_envs import corpora
from dialog_envs.dialogue import Dialogue
from dialog_envs.scenarios import AGENT, PARTNER
from experiments.ppg import data
from reward_models.persona_training import traits

from .conftest import persona

TALK = Dialogue(situations={"a": "i sell bread.", "b": "i like jazz."})
TALK = TALK.said("a", "hello.").said("b", "hi.").said("b", "well?").said("a", "bread!").said("b", "jazz!")


def test_no_evaluated_persona_is_trained_on(corpora_root):
    parts = data.read_parts(corpora_root, 0.5)
    evaluated = set().union(*map(data.dialogue_traits, parts.evaluation))
    trained = [d for dialogues in (*parts.training.values(), parts.tuning) for d in dialogues]
    assert len(evaluated) == 8 and len(parts.evaluation) == 6  # four of eight people
    assert not any(data.dialogue_traits(dialogue) & evaluated for dialogue in trained)
    assert parts.left_out["synthetic_persona_chat/valid"] == 22  # all but those between the other four
    assert parts.left_out["personachat/valid"] == 22
    held = {number for number in range(8) if traits(" ".join(persona(number))) <= evaluated}
    assert parts.left_out["personachat/train"] == (0 in held)
    again = data.read_parts(corpora_root, 0.5)
    assert [d.situations for d in again.evaluation] == [d.situations for d in parts.evaluation]


def test_sessions_that_go_on_from_a_dialogue_with_an_evaluated_persona_are_not_trained_on(corpora_root):
    """Their personas are the same people's in other words."""
    valid = list(corpora.read("personachat", corpora_root, "valid"))
    origins = data.session_origins(corpora_root, len(valid))
    assert origins == [0, 9, 18, 27] * 4
    hidden = data.hidden_traits(data.people_of(valid), 0.5)
    clean = [number for number in origins if not data.dialogue_traits(valid[number]) & hidden]
    assert 0 < len(clean) < len(origins)
    parts = data.read_parts(corpora_root, 0.5, tuning=0)
    assert len(parts.training["msc/valid"]) == len(clean)
    with pytest.raises(ValueError, match="a record has id 'valid_9', expected valid_N with N below 5"):
        data.session_origins(corpora_root, 5)


def test_of_one_sided_dialogues_the_held_out_persons_persona_is_taken_away(corpora_root):
    parts = data.read_parts(corpora_root, 0.5)
    evaluated = set().union(*map(data.dialogue_traits, parts.evaluation))
    found = [dialogue for dialogues in parts.one_sided.values() for dialogue in dialogues]
    assert not any(data.dialogue_traits(dialogue) & evaluated for dialogue in found)
    assert all(len(dialogue.situations) == 1 for dialogue in found)
    assert len(parts.one_sided["synthetic_persona_chat/valid"]) == 16  # between four people and the other four


def test_of_sessions_that_go_on_from_a_one_sided_dialogue_the_same_side_is_taken_away(corpora_root):
    """Dialogue 9 is between people 1 and 4, dialogue 18 between 3 and 4 (the first speaks first)."""
    valid = list(corpora.read("personachat", corpora_root, "valid"))
    hidden = data.hidden_traits(data.people_of(valid), 0.5)
    origins = data.session_origins(corpora_root, len(valid))
    read = list(corpora.read("msc", corpora_root, "valid"))
    expected = []
    for dialogue, origin in zip(read, origins, strict=True):
        sides = zip(dialogue.situations.values(), data.speaker_traits(valid[origin]).values(), strict=True)
        known = [text for text, seen in sides if not seen & hidden]
        expected += known if len(known) == 1 else []
    found = [d.situations.values() for d in data.read_parts(corpora_root, 0.5).one_sided["msc/valid"]]
    assert expected and sorted(text for (text,) in found) == sorted(expected)


def test_parts_do_not_overlap_and_lose_nothing(corpora_root):
    parts = data.read_parts(corpora_root, 0.5, tuning=0.3)
    kept = sum(map(len, parts.training.values())) + len(parts.tuning)
    read = sum(len(list(corpora.read(name, corpora_root, split))) for name, split in data.TRAINING)
    left_out = sum(count for name, count in parts.left_out.items() if name != "personachat/valid")
    assert kept + left_out == read and parts.tuning


def test_with_nothing_held_out_all_is_evaluated_and_trained_on(corpora_root):
    parts = data.read_parts(corpora_root, 0.0)
    assert len(parts.evaluation) == 28 and not any(parts.left_out.values())


def test_nothing_left_is_refused(corpora_root):
    with pytest.raises(ValueError, match=r"held_out 1\.0 leaves 28 dialogues to evaluate on"):
        data.read_parts(corpora_root, 1.0)
    with pytest.raises(ValueError, match="held_out is 2"):
        data.read_parts(corpora_root, 2)


def test_exchanges_are_answers_of_those_whose_persona_is_known():
    found = data.exchanges([TALK], 2)
    assert [e.response for e in found] == ["hi.", "bread!", "jazz!"]  # "well?" answers nobody
    assert {(e.speaker, e.partner) for e in found} == {(AGENT, PARTNER)}
    assert [(turn.speaker, turn.text) for turn in found[1].dialogue.turns] == [(PARTNER, "hi."), (PARTNER, "well?")]
    assert found[1].persona == "i sell bread." and found[1].partner_persona == "i like jazz."
    alone = Dialogue(TALK.turns, {"b": "i like jazz."})
    assert [e.response for e in data.exchanges([alone], 2)] == ["hi.", "jazz!"]
    assert data.exchanges([alone], 2)[0].partner_persona == ""


def test_cold_starts_have_so_many_turns():
    assert [e.response for e in data.exchanges([TALK], 6, exactly=1)] == ["hi."]
    assert [e.response for e in data.exchanges([TALK], 6, exactly=3)] == ["bread!"]
    assert data.exchanges([TALK], 6, exactly=9) == []


def test_groups_are_who_responds_and_to_whom_whatever_part_of_a_persona_is_shown():
    more = Dialogue(TALK.turns, {"a": "i sell bread. i bake.", "b": "i like jazz."})
    turned = Dialogue(TALK.turns, {"b": "i bake.", "a": "i like jazz."})
    dialogues = [TALK, more, turned, Dialogue(TALK.turns, {"a": "i sell boats.", "b": "i like jazz."})]
    people = data.people_of(dialogues)
    baker, boats, jazz = (people[trait] for trait in ("i bake", "i sell boats", "i like jazz"))
    assert people["i sell bread"] == baker and len({baker, boats, jazz}) == 3
    found = data.exchanges(dialogues, 2, exactly=1)
    assert data.groups(found, people).tolist() == [[jazz, baker], [jazz, baker], [baker, jazz], [jazz, boats]]


def test_samples_are_repeatable_and_in_order():
    numbers = list(range(50))
    assert data.sample(numbers, 5, 1) == data.sample(numbers, 5, 1) == sorted(data.sample(numbers, 5, 1))
    assert data.sample(numbers, 5, 2) != data.sample(numbers, 5, 1)
    assert data.sample(numbers, 99, 0) == numbers


def test_the_top_traits_are_those_that_are_talked_about():
    partner = "i own two boats. i like old films. i bake bread. i am afraid of snow."
    talk = Dialogue(situations={"a": "i sell bread.", "b": partner}).said("b", "snow and bread and boats!")
    (exchange,) = data.exchanges([talk.said("a", "oh.")], 6)
    ranker = data.TraitRanker([partner])
    assert ranker.top(exchange) == "i own two boats. i bake bread. i am afraid of snow."
    assert ranker.top(exchange, 1) in partner
    silent = Dialogue(situations=talk.situations).said("b", "...").said("a", "oh.")
    assert ranker.top(data.exchanges([silent], 6)[0], 2) == "i own two boats. i like old films."
    alone = data.exchanges([Dialogue(talk.turns, {"a": "x."}).said("a", "oh.")], 6)[0]
    assert ranker.top(alone) == ""


def test_long_personas_keep_what_is_talked_about():
    long = "i own two boats. i like old films. i bake bread. i am afraid of snow."
    talk = Dialogue(situations={"a": long, "b": "i like jazz."}).said("a", "bread!").said("b", "with snow?")
    (short,) = data.shortened([talk], 2)
    assert short.situations == {"a": "i bake bread. i am afraid of snow.", "b": "i like jazz."}
    assert data.shortened([talk], 4) == [talk]


ROOT = corpora.default_root()


@pytest.mark.slow
@pytest.mark.skipif(ROOT is None, reason="the corpora are not here (DIALOG_ENVS_DATA)")
def test_the_official_files_share_their_personas_and_are_cut_apart():
    parts = data.read_parts(ROOT, 0.5)
    assert len(parts.evaluation) > 200
    assert parts.left_out["synthetic_persona_chat/valid"] > 700  # its personas are PersonaChat's
    evaluated = set().union(*map(data.dialogue_traits, parts.evaluation))
    trained = [d for dialogues in parts.training.values() for d in dialogues]
    assert not any(data.dialogue_traits(dialogue) & evaluated for dialogue in trained)
    assert parts.left_out["msc/valid"] > 1200  # three in four go on from a dialogue with an evaluated persona

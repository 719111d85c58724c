"""What is measured is what was said; classes without labels are matched; prompts and labels go in and come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sacrebleu

import dialog_envs.lm.frozen_lm
import reward_models.dmi.encoder
from dialog_envs.corpora.initiative import INITIATIVES, InitiativeTurn
from dialog_envs.dialogue import Dialogue
from dialog_envs.speakers.idpt_model import IDPTConfig
from dialog_envs.speakers.ppg import ResponseGenerator
from experiments.episodes import Episode
from experiments.idpt import data, evaluation, manipulate, policies, report, systems
from experiments.idpt.agreement import agreement
from experiments.idpt.size import sizes_on_disk
from experiments.idpt.systems import HA, LABELLED, SA, SYSTEMS, Answer, class_names, labelled, parted, prompted
from experiments.run_folder import ResultRow


def turn(response: str, initiative: int, dialogue: int) -> InitiativeTurn:
    before = Dialogue((), {"system": "tea is green."}).said("user", "what is tea?")
    return InitiativeTurn("p4g", (dialogue, 1), before, "system", response, initiative)


TURNS = [turn(f"tea is green and good for you {i}.", i % 4, i // 2) for i in range(12)]
TRUE = Answer([t.response for t in TURNS], [t.initiative for t in TURNS])


def values(rows: list[ResultRow]) -> dict[str, float]:
    return {row.metric: row.value for row in rows}


def test_the_true_response_is_perfect_and_another_is_not():
    best = values(evaluation.measure("x", [TRUE, TRUE], TURNS))
    assert best["accuracy"] == 1 and set(best) == set(evaluation.METRICS)
    assert all(best[name] == pytest.approx(100) for name in ("bleu_1", "bleu_4", "rouge_1", "rouge_l"))
    other = Answer(["tea is made of leaves"] * 12, [0] * 12)
    worse = values(evaluation.measure("x", [other], TURNS))
    assert worse["accuracy"] == 0.25 and worse["bleu_4"] < worse["bleu_1"] < 100
    gains = values(evaluation.gains("x", [TRUE], [other], TURNS))
    assert gains["rouge_l_gain"] == pytest.approx(100 - worse["rouge_l"])
    assert gains["bleu_4_gain"] == pytest.approx(100 - worse["bleu_4"])


def test_classes_that_saw_no_label_are_matched_one_to_one():
    assert class_names([2, 0, 3, 1, 2, 0], [0, 1, 2, 3, 0, 1]).tolist() == [1, 3, 0, 2]
    assert sorted(class_names([0, 0, 0, 0], [0, 1, 2, 3])) == [0, 1, 2, 3]  # one class is one label


def test_the_classes_get_their_names_from_the_turns_learned_from(monkeypatch):
    seen = {"tea is old.": 2, "tea is new.": 1}
    idpt = SimpleNamespace(recogniser=True, recognise=lambda dialogues, _: np.eye(4)[[seen[d] for d in dialogues]])
    monkeypatch.setattr(systems, "_set", lambda *args: idpt)
    monkeypatch.setattr(systems, "_speak", lambda idpt, turns, *args: [t.response for t in turns])
    monkeypatch.setattr(systems, "_views", lambda turns: ([t.response for t in turns], []))
    learned = [turn("tea is old.", 3, 0), turn("tea is new.", 0, 1)]
    met = [turn("tea is old.", 1, 2), turn("tea is new.", 2, 3)]  # other labels: they name nothing
    assert systems.answer(SA, [Path()], None, met, learned, 0, 4).initiatives == [3, 0]


def test_bleu_of_some_turns_is_that_of_their_corpus():
    said = ["tea is green.", "tea is made of leaves", "", "tea is green and good for you 3."] * 3
    answer = Answer(said, None)
    for order in (1, 4):
        bleu = evaluation._bleus([answer, TRUE], TURNS, order)
        for rows in (np.arange(12), np.array([0, 2, 3, 5]), np.array([2])):
            true = [TURNS[row].response for row in rows]
            expected = sacrebleu.BLEU(lowercase=True, max_ngram_order=order)
            expected = expected.corpus_score([said[row] for row in rows], [true]).score
            assert bleu(rows) == [pytest.approx(expected), pytest.approx(100)]


@pytest.mark.parametrize(
    ("ha", "labelled", "last"), [(2.0, 2.0, ""), (0.5, 2.0, "recogniser that fails"), (0.5, 0.5, "not for the")]
)
def test_verdicts_tell_a_failing_recogniser_from_failing_prefixes(ha, labelled, last):
    rows = [ResultRow("p4g/ha", "accuracy", 0.5, 0.1, 200, 3)]
    for name, gain in ((HA, ha), (SA, -2.0), (LABELLED, labelled)):
        rows += [ResultRow(f"p4g/{name}", f"{metric}_gain", gain, 1.0, 200, 3) for metric in ("bleu_4", "rouge_l")]
    said = report.verdicts(rows, SimpleNamespace(corpora=("p4g",)))
    assert "IDPT-SA is below prefix tuning: -2.00 ± 1.00." in said[1]
    assert (last in said[3] and "0.50 ± 0.10" in said[3]) if last else len(said) == 6


def test_a_label_stands_before_the_reply_and_is_read_back():
    said, found = parted([labelled(TURNS[3]), "nonsense", "ask:nothing"])
    assert found == [3, -1, -1] and said == [TURNS[3].response, "nonsense", "ask:nothing"]


def test_a_label_takes_none_of_the_replys_tokens(model_folder, monkeypatch):
    own, told = ResponseGenerator.from_pretrained(model_folder()), []
    monkeypatch.setattr(systems, "_finetuned", lambda *args: own)
    monkeypatch.setattr(systems, "_reply", lambda lm, turns, sampling: told.append(sampling.max_new_tokens) or ["a"])
    systems.answer("simpletod", [Path()], own.lm, TURNS[:1], [], 0, 10)
    whole, words = (len(own.encode([text])[0]) for text in (labelled(TURNS[2]), TURNS[2].response))
    assert told[0] >= 10 + whole - words > 10


def test_a_prompt_states_the_initiative_and_the_situation():
    view = prompted(TURNS[0], 3, "{situation} now {what}.")
    assert view.dialogue.situations == {"system": "tea is green. now makes a proposal."}


def test_generated_turns_have_the_initiatives_of_their_acts():
    turns = data.grammar_turns(200, "train", 0)
    assert np.bincount([t.initiative for t in turns]).tolist() == [50] * 4
    asked, proposed = ([t for t in turns if t.initiative == label] for label in (1, 3))
    assert np.mean([manipulate.asks(t.response, t) for t in asked]) > 0.7
    assert np.mean([manipulate.proposes(t.response, t) for t in proposed]) > 0.9
    assert np.mean([manipulate.proposes(t.response, t) for t in asked]) < 0.1
    assert len({t.place[0] for t in turns}) == 200  # dialogues
    assert data.grammar_turns(200, "train", 0) == turns != data.grammar_turns(200, "train", 1)


def test_a_corpus_is_cut_by_dialogues(corpora_root):
    parts = data.read_parts("p4g", corpora_root, 2)
    numbers = [{t.place[0] for t in part} for part in parts]
    assert not numbers[0] & numbers[1] and (len(numbers[0]), len(numbers[1])) == (6, 4)
    for most in (0, 2, 5):
        shown = [t.dialogue.turns for part in data.read_parts("p4g", corpora_root, most) for t in part]
        assert max(map(len, shown)) == most
    first, more = (data.sample(parts.training, count, 3) for count in (4, 8))
    assert more[:4] == first


def test_a_difference_is_tested_on_the_dialogues_in_which_the_answers_differ():
    asks, silent = [["why?"] * 20] * 2, [["so."] * 20] * 2
    same = dict.fromkeys(INITIATIVES, asks)
    changed = same | {INITIATIVES[0]: silent}
    for each, p in ((2, 0.5**9), (5, 0.5**3), (20, 1.0)):
        contexts = [turn("", 0, number // each) for number in range(20)]
        rows = manipulate.measure("x", same, contexts)
        assert values(rows)["p_questions"] == 1 and values(rows)["questions"] == 1 and rows[0].seeds == 2
        assert values(manipulate.measure("x", changed, contexts))["p_questions"] == pytest.approx(p)


def test_agreement_is_accuracy_and_kappa():
    pairs = [(0, 0)] * 4 + [(1, 1)] * 3 + [(0, 1)]
    found = values(agreement("x", pairs))
    assert found["accuracy"] == 7 / 8 and found["kappa"] == pytest.approx((7 / 8 - 0.5) / 0.5)


def test_a_set_is_below_two_percent_of_a_copy_of_gpt2(models):
    found = {(row.system, row.metric): row.value for row in sizes_on_disk(**models, config=IDPTConfig())}
    assert 0.001 < found["size/gpt2", "set_over_copy"] < 0.02
    assert found["size/gpt2", "copy_bytes"] == 2 * 124_439_808
    narrow = sizes_on_disk(**models, config=IDPTConfig(width=24))
    assert all(row.value < found[row.system, "set_bytes"] for row in narrow if row.metric == "set_bytes")


def test_the_papers_values_stand_beside_ours_where_they_are_given(tmp_path):
    path = tmp_path / "paper.json"
    path.write_text('{"p4g": {"ha": {"bleu_4": 7.5}}}')
    found = {("p4g/ha", "bleu_4"): ResultRow("p4g/ha", "bleu_4", 3.25, 0.5, 200, 3)}
    table = report._table("t", "n", "p4g", [HA, SA], found, report.read_paper(path)["p4g"])
    assert table.columns[:4] == ["accuracy", "BLEU-1", "BLEU-4", "BLEU-4, paper"]
    assert table.lines == [(SYSTEMS[HA].label, ["", "", "3.25 ± 0.50", "7.5", "", ""])]
    rows, config = list(found.values()), SimpleNamespace(sizes=(500,))
    other = [replace(row, system="inspired/ha") for row in rows]
    for corpus, columns in (("p4g", 6), ("inspired", 5)):  # the other corpus has no column of theirs
        tables = report.make_tables(corpus, config, rows + other, report.read_paper(path).get(corpus, {}))
        assert len(next(tables).columns) == columns
    for wrong in ('{"ha": {"bleu_4": 7.5}}', '{"p4g": {"he": {}}}', '{"p4g": {"ha": {"bleu": 1}}}', "[]"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="expected an object with keys of"):
            report.read_paper(path)


def test_dialogues_of_one_scenario_are_not_independent():
    def played(name: str, times: int) -> list[list[Episode]]:
        by_scenario = {"a": 0.0, "b": 1.0, "c": 0.5}
        score = {"decision": 0.0, "coherence": 0.0, "turns": 1.0}
        return [
            [
                Episode(scenario, i, [], [value + (name == policies.PPO) * value], [score], "turn_limit")
                for scenario, value in by_scenario.items()
                for i in range(times)
            ]
            for _ in range(2)
        ]

    names = (*policies.CONSTANTS, policies.PPO, policies.RECOGNISER)
    once, often = (policies.table({name: played(name, times) for name in names}) for times in (1, 8))
    assert [(row.value, row.ci95) for row in often] == [
        (pytest.approx(row.value), row.ci95 and pytest.approx(row.ci95)) for row in once
    ]
    first, second, third = policies.verdict(once).splitlines()
    assert first.startswith("PPO is not told from the best constant choice (always follow): +0.500 ± 1.242.")
    assert second.startswith("recogniser is not told from") and third.startswith("always ask is not told from")


def test_corpora_that_were_seen_in_pretraining_are_named():
    assert "pretrained on p4g," in data.seen_note(("gpt2", "pocket"), ["idpt", "p4g", data.GRAMMAR])
    assert not data.seen_note(("gpt2", "bert-base-uncased"), ["p4g"]) and not data.seen_note(("pocket",), ["idpt"])


@pytest.mark.parametrize("card", [dialog_envs.lm.frozen_lm.POCKET, reward_models.dmi.encoder.POCKET])
def test_they_are_those_of_the_pocket_models_cards(card):
    lines = (card / "README.md").read_text().splitlines()
    assert {n for n in data.SPLITS if any(line.startswith(f"| {n} |") for line in lines)} == set(data.PRETRAINED_ON)


def test_labels_are_named_for_what_they_are():
    note = data.label_note(["p4g", "idpt", data.GRAMMAR])
    assert "from annotated strategies: p4g." in note and "goal types: durecdial." in data.label_note(["durecdial"])
    assert "Labels of annotators: idpt." in note and "grammar" in note

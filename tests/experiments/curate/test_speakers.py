"""Marks tell who speaks; where there are none, a support vector machine that learned from marks does, on real words."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dialog_envs import corpora
from experiments.curate import cleaning
from experiments.curate.cleaning import Line
from experiments.curate.dialogues import segment
from experiments.curate.parts import marked
from experiments.curate.speakers import NAMES, SpeakerModel, features, gap, pairs, train
from experiments.curate.subtitles import Source, find, read
from tests.experiments.curate.films import film, subrip, write_films


def line(text="Hello.", cue=0, start=None, **marks):
    start = 2.0 * cue if start is None else start
    return Line(text, start, start + 1.0, cue, cue, **marks)


@pytest.mark.parametrize(
    ("lines", "same"),
    [
        ([line(cue=0), line(cue=1)], [None]),
        ([line(cue=0), line(cue=0)], [True]),
        ([line(cue=0, dash=True), line(cue=0, dash=True), line(cue=0)], [False, True]),
        ([line(cue=0), line(cue=1, dash=True)], [None]),
        ([line(cue=0), line(cue=1, chevrons=True)], [False]),
        ([line(cue=0, name="ANNA"), line(cue=1, name="BEN"), line(cue=2, name="BEN")], [False, True]),
        ([line(cue=0, name="ANNA"), line(cue=0), line(cue=1, name="ANNA")], [True, True]),
        ([line(cue=0, name="ANNA"), line(cue=1), line(cue=2, name="ANNA")], [None, None]),
        ([line(cue=0), line(cue=0, name="ANNA")], [False]),
        ([], []),
    ],
)
def test_marks(lines, same):
    assert [answer for _, _, answer in pairs(lines)] == same


def test_the_mark_that_is_the_label_is_no_feature():
    for marks in ({"name": "BEN"}, {"chevrons": True}):
        assert features(line(), line(cue=1, **marks)) == features(line(), line(cue=1))
    inside = features(line(dash=True), line(dash=True))
    assert inside == features(line(), line())
    assert features(line(), line(cue=1, dash=True))["dash_after"] == 1.0  # of another subtitle, it is no label


def test_gap_is_none_within_a_subtitle():
    sentence = replace(line(cue=1), last=2, end=3.0)
    assert gap(sentence, line(cue=2, start=9.0)) == 0.0
    assert gap(sentence, line(cue=3, start=9.0)) == 6.0
    assert gap(line(cue=3, start=9.0), line(cue=4, start=2.0)) == 0.0


def files_of(folder):
    return [marked(source, None) for source in find([folder])]


def test_it_learns_from_names_and_decides_without_them(tmp_path):
    model, rows = train(files_of(write_films(tmp_path / "named", 6)))
    measured = {row.metric: row for row in rows}
    majority = max(measured["one_speaker"].value, 1 - measured["one_speaker"].value)
    assert measured["accuracy"].value - measured["accuracy"].ci95 > majority + 0.1

    named = Source(tmp_path / "named.srt")
    named.path.write_text(subrip(film(99)))
    truth = [same for _, _, same in pairs(cleaning.lines(read(named), Counter()))]
    plain = Source(tmp_path / "plain.srt")
    plain.path.write_text(subrip(film(99, named=False)))
    unmarked = list(pairs(cleaning.lines(read(plain), Counter())))
    assert {same for _, _, same in unmarked} == {None}
    assert np.mean(np.array(model.same(unmarked)) == np.array(truth)) > majority + 0.1


def test_measured_on_other_files_than_trained_on():
    """Labels that can be told from nothing but the file are learned by heart, and are worth nothing elsewhere."""
    rng = np.random.default_rng(0)
    files = []
    for kind in range(2):
        found = rng.normal(size=(200, len(NAMES)))
        files.append((found, (found[:, 0] > 0).astype(int) ^ kind))
    measured = {row.metric: row.value for row in train(files)[1]}
    assert measured["accuracy"] < 0.1


def test_marks_go_before_the_machine():
    always = SpeakerModel(np.zeros(len(NAMES)), 1.0)
    lines = [line("a"), line("b", dash=True), line("c", cue=1)]
    assert always.same(list(pairs(lines))) == [False, True]


def test_saved_and_loaded(tmp_path):
    model = SpeakerModel(np.arange(len(NAMES)) / 7, -0.3)
    model.save(tmp_path / "speakers.json")
    again = SpeakerModel.load(tmp_path / "speakers.json")
    np.testing.assert_array_equal(again.weights, model.weights)
    assert again.bias == model.bias
    (tmp_path / "other.json").write_text('{"bias": 0, "weights": {"gap": 1}}')
    with pytest.raises(ValueError, match=r"other\.json is no speaker model of the features gap, "):
        SpeakerModel.load(tmp_path / "other.json")


def test_too_few_marks_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"0 pairs of lines that they share a speaker and of 0 .*give --labelled"):
        train(files_of(write_films(tmp_path / "plain", 3, named=False)))
    with pytest.raises(ValueError, match="in 1 files; expected at least 50 of each, in 2 files"):
        train(files_of(write_films(tmp_path / "one", 1)))


def test_turns_and_dialogues():
    always = SpeakerModel(np.zeros(len(NAMES)), 1.0)
    lines = [
        line("We waited", 0, 0.0),
        line("all night.", 1, 1.0),
        line("So?", 2, 7.0, chevrons=True),  # 5 s after: the same dialogue
        line("Nobody came.", 3, 13.1),  # 5.1 s after: another one
    ]
    found = [[turn.text for turn in turns] for turns in segment(lines, always, 5.0)]
    assert found == [["We waited all night.", "So?"], ["Nobody came."]]
    assert list(segment([], always, 5.0)) == []


@pytest.mark.skipif(corpora.default_root() is None, reason="no corpus folder (DIALOG_ENVS_DATA)")
def test_words_of_real_dialogues_tell(tmp_path):
    """DailyDialog as subtitles of at most 42 letters a row, 0.1 s apart: only words and punctuation can tell."""
    dialogues = iter(corpora.read("dailydialog", corpora.default_root(), "valid"))
    files = []
    for number in range(20):
        cues, clock = [], 0.0
        for dialogue in (next(dialogues) for _ in range(25)):
            for i, turn in enumerate(dialogue.turns):
                for row in _rows(turn.text):
                    cues.append((clock, clock + 1.0, f"{'AB'[i % 2]}{'AB'[i % 2]}: {row}"))
                    clock += 1.1
        source = Source(tmp_path / f"{number}.srt")
        source.path.write_text(subrip(cues))
        files.append(marked(source, None))
    measured = {row.metric: row for row in train(files)[1]}
    assert measured["recall_same"].value > 0.65 and measured["recall_change"].value > 0.65
    page = (Path(__file__).parents[3] / "docs" / "curation.md").read_text()
    said, half = map(float, re.search(r"it is (\S+) \+- (\S+) \(20 files", page).groups())
    assert measured["accuracy"].value == pytest.approx(said, abs=2e-3)
    assert measured["accuracy"].ci95 == pytest.approx(half, abs=2e-3)
    assert f"{measured['accuracy'].n:,} pairs" in page
    assert said - half > measured["one_speaker"].value > 0.5  # better than always the commoner answer


def _rows(text: str) -> list[str]:
    rows = [""]
    for word in text.split():
        if len(rows[-1]) + len(word) > 42 or rows[-1].endswith((".", "?", "!")):
            rows.append(word)
        else:
            rows[-1] = f"{rows[-1]} {word}".strip()
    return rows

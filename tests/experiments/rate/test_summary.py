"""Shares, pairs and checks against numbers worked out by hand; intervals that know what a dialogue is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.rate.answers import Answer, AnswerFile
from experiments.rate.items import TRUE
from experiments.rate.summary import CHECK, rows, share_ci95, text
from experiments.statistics import grouped_ci95
from tests.experiments.rate.replies import write_replies

ANSWERS = [
    Answer("d0", "anna", {"a": "good", "b": "bad", TRUE: "good"}),
    Answer("d1", "anna", {"a": "okay", "b": "okay"}),
    Answer("d2", "anna", {"a": "bad", "b": "good", TRUE: "bad"}),
    Answer("d0", "ben", {"a": "good", "b": "okay", TRUE: "okay"}),
]


def test_by_hand():
    found = {(row.system, row.metric): row for row in rows(ANSWERS)}
    assert [found["a", rating].value for rating in ("good", "okay", "bad")] == [0.5, 0.25, 0.25]
    assert [found["b", rating].value for rating in ("good", "okay", "bad")] == [0.25, 0.5, 0.25]
    assert [found["a against b", m].value for m in ("better", "as good", "worse")] == [0.5, 0.25, 0.25]
    assert found["a against b", "better minus worse"].value == 0.25
    assert (found["a", "good"].n, found["a", "good"].seeds) == (4, 2)
    assert (found[f"a against {TRUE}", "better"].n, found[f"a against {TRUE}", "better"].value) == (3, 1 / 3)
    assert (found["rater anna", CHECK].value, found["rater ben", CHECK].value) == (0.5, 1.0)
    assert (found["rater anna", CHECK].n, found["rater ben", CHECK].ci95) == (2, None)


def test_intervals_are_clustered_by_dialogue():
    dialogues = [answer.item for answer in ANSWERS]
    row = next(row for row in rows(ANSWERS) if (row.system, row.metric) == ("a", "good"))
    assert row.ci95 == pytest.approx(grouped_ci95([1, 0, 0, 1], dialogues)[1])
    rng = np.random.default_rng(0)
    one = rng.random(40) < 0.5
    ten_raters = np.repeat(one, 10)  # who all say the same: no more is known than from one of them
    apart, together = np.arange(400), np.repeat(np.arange(40), 10)
    assert share_ci95(ten_raters, together)[1] == pytest.approx(share_ci95(one, np.arange(40))[1])
    assert share_ci95(ten_raters, together)[1] > 3 * share_ci95(ten_raters, apart)[1]


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        chance = rng.beta(2, 2, 30)  # of each dialogue
        values = rng.random((30, 3)) < chance[:, None]
        mean, half = share_ci95(values.ravel(), np.repeat(np.arange(30), 3))
        hits += abs(mean - 0.5) <= half
    assert hits / 1000 == pytest.approx(0.95, abs=0.025)


def test_unanimity_is_not_certainty():
    mean, half = share_ci95(np.ones(10), np.arange(10))
    assert (mean, half) == (1.0, pytest.approx(1.96**2 / (10 + 1.96**2)))
    assert share_ci95(np.zeros(10), np.zeros(10)) == (0.0, None)


def test_page_of_tables():
    page = text(rows(ANSWERS), ANSWERS)
    assert "4 answers of 2 raters to 3 dialogues" in page
    assert "| a | 50.0 +- " in page and "| a against b | 50.0" in page and "| rater ben | 100.0 | 1 |" in page
    alone = [Answer("d0", "anna", {"a": "good"})]
    assert "## " not in text(rows(alone), alone)


def test_the_command(tmp_path, capsys):
    replies = write_replies(tmp_path / "replies.jsonl")
    file = AnswerFile(tmp_path / "out", "anna")
    for answer in ANSWERS[:3]:
        file.add(answer)
    AnswerFile(tmp_path / "out", "ben").add(ANSWERS[3])
    assert main(["rate", "--replies", str(replies), "--out", str(tmp_path / "out"), "--summary"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == (tmp_path / "out" / "summary.md").read_text().strip()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results) == len(rows(ANSWERS)) and {"system", "metric", "value", "ci95", "n", "seeds"} == set(results[0])
    assert not (tmp_path / "out" / "run.json").exists()  # a summary changes nothing of the run

"""The report: rliable's aggregates by hand, runs side by side, and a page that needs nothing else."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from experiments import report, train
from experiments.__main__ import main
from experiments.episodes import Episode
from experiments.report import aggregates, differing, headline, read_run, scores
from experiments.run_folder import ResultRow, open_run, write_json, write_results
from experiments.statistics import improvement_probability, interquartile_mean, stratified_ci95
from tests.experiments.test_page import SCENARIO, Tags, episode

ASKS = ("what do you do for a living?", "i am a bartender.", "where is home for you?", "i live in dallas.")
CHATS = ("nice weather today.", "it is.", "me too.", "<script>alert(1)</script>")


def test_interquartile_mean_by_hand():
    assert interquartile_mean(np.array([[100.0, 1.0], [2.0, -50.0], [3.0, 4.0], [5.0, 6.0]])) == (2 + 3 + 4 + 5) / 4


def test_the_bootstrap_draws_runs_within_tasks():
    one_task = np.random.default_rng(0).normal(size=(12, 1))
    apart = one_task + np.array([0.0, 100.0])  # tasks of other levels must not be mixed
    low, high = stratified_ci95(apart)
    assert 40 < low < interquartile_mean(apart) < high < 60 and high - low < 2
    assert all(map(math.isnan, stratified_ci95(apart[:1])))
    assert stratified_ci95(apart) == (low, high), "the same page twice is the same page"


def test_the_bootstrap_covers_about_what_it_says():
    rng = np.random.default_rng(1)
    hits = [low <= 0 <= high for low, high in (stratified_ci95(rng.normal(size=(10, 3)), 300) for _ in range(150))]
    assert 0.82 < np.mean(hits) < 0.99


def test_improvement_probability_is_the_mann_whitney_statistic():
    x, y = np.random.default_rng(2).integers(0, 5, (2, 7, 3)).astype(float)
    by_task = [stats.mannwhitneyu(x[:, task], y[:, task]).statistic / 49 for task in range(3)]
    assert improvement_probability(x, y) == pytest.approx(np.mean(by_task))
    assert improvement_probability(x, x) == 0.5


def earning(kind: str, value: float, error: str | None = None) -> Episode:
    return Episode(f"{kind}/heldout/0001", 0, rewards=[value], error=error)


def test_scores_are_by_seed_and_kind_without_failures():
    seeds = [
        [earning("comfort", 1.0), earning("comfort", 3.0), earning("recommend", 5.0)],
        [earning("comfort", 4.0), earning("recommend", 7.0), earning("recommend", 99.0, "partner: out")],
    ]
    np.testing.assert_array_equal(scores(seeds), [[2.0, 5.0], [4.0, 7.0]])
    table = aggregates({"a": seeds, "b": [[earning("comfort", 9.0), earning("recommend", 9.0)]] * 2})
    assert [(one.system, one.failed, one.best) for one in table] == [("a", 1, False), ("b", 0, True)]
    assert table[0].above_first is None and table[1].above_first == 1.0
    assert headline(table).startswith("b earns the most: 9.00") and "do not overlap" in headline(table)
    lost = aggregates({"a": seeds, "b": [[earning("comfort", 9.0, "judge: out")]] * 2})
    assert math.isnan(lost[1].iqm) and lost[1].failed == 2 and lost[0].best and headline(lost) == ""
    assert "overlap, so this may be chance" in headline([table[0], replace(table[0], system="c", iqm=5.0)])


@pytest.fixture
def runs(tmp_path):
    """Two runs: `evaluate` with dialogues, `train` with curves."""
    evaluated, trained = tmp_path / "evaluated", tmp_path / "trained"
    open_run(evaluated, "evaluate", train.Config(out=evaluated))
    systems = {
        "plain": [[episode(SCENARIO, 1, *CHATS), episode(SCENARIO, 2, *CHATS)]],
        "steered": [[episode(SCENARIO, 1, *ASKS), episode(SCENARIO, 2, *ASKS)]],
    }
    for name, seeds in systems.items():
        for one in seeds[0]:
            one.rewards[-1] = 2.0 if name == "steered" else 1.0
    write_json(evaluated / "episodes.json", {k: [[vars(e) for e in s] for s in v] for k, v in systems.items()})
    write_results(evaluated, [ResultRow(name, "perplexity", 2.5, None, 2, 1) for name in systems])
    open_run(trained, "train", train.Config(algorithm="ppo", alpha=7.0, out=trained))
    for seed in (0, 1):
        (trained / f"seed_{seed}").mkdir()
        write_json(trained / f"seed_{seed}/curve.json", [(64, [1.0, 2.0]), (128, [2.0, float("nan")])])
    write_results(trained, [ResultRow("ppo at step 128", "episode_return", 2.0, 0.1, 4, 2)])
    return evaluated, trained


def test_two_runs_side_by_side(runs, tmp_path):
    out = report.run(report.Config(runs, out=tmp_path / "report"))
    html = (out / "report.html").read_text()
    page = Tags(html)
    assert page.text.count("bartender") > 2 and "<script>alert" not in html
    assert "evaluated: steered earns the most: 2.00" in page.text and "One seed tells nothing" in page.text
    assert not [value for _, name, value in page.attributes if name in ("src", "href") and "data:" not in (value or "")]
    assert [name for name in page.tags if name == "img"] and "learning curves" in html
    assert "Settings that differ" in page.text and "7.0" in page.text
    assert page.text.count("knowledge") > 2, "parts of the score, as means and in each transcript"
    rows = json.loads((out / "results.json").read_text())
    assert {row["system"]: row["value"] for row in rows} == {"evaluated: plain": 1.0, "evaluated: steered": 2.0}


def test_folders_of_one_name_are_told_apart(runs, tmp_path):
    again = tmp_path / "other" / "evaluated"
    shutil.copytree(runs[0], again)
    page = Tags((report.run(report.Config((runs[0], again), out=tmp_path / "report")) / "report.html").read_text())
    assert f"{again}: steered" in page.text and f"{runs[0]}: steered" in page.text


def test_curves_have_their_algorithms_name(runs):
    assert list(read_run(runs[1]).curves) == ["ppo"] and len(read_run(runs[1]).curves["ppo"]) == 2
    found = differing([read_run(folder) for folder in runs])
    assert found["alpha"] == ["2.5", "7.0"] and "out" not in found and "discount" not in found


def test_bad_input_is_refused_by_name(runs, tmp_path, capsys):
    assert main(["report", str(tmp_path / "nowhere"), "--out", str(tmp_path / "report")]) == 1
    assert "nowhere is no finished run folder: it has no run.json" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no system 'best'"):
        report.run(report.Config(runs, out=tmp_path / "report", systems=("best",)))
    with pytest.raises(ValueError, match="no runs"):
        report.run(report.Config((), out=tmp_path / "report"))

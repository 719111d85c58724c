"""Metrics against values worked out by hand, and intervals that leave failures out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from agents.exchanges import Exchange
from dialog_envs.dialogue import Dialogue
from experiments.ppg import evaluation
from experiments.ppg.evaluation import Answers
from experiments.ppg.systems import SYSTEMS
from experiments.statistics import mean_ci95

TRUE = ["i like my dog.", "we sell bread.", "no.", "it is cold."]
EXCHANGES = [
    Exchange(Dialogue(situations={"you": f"i am {i}.", "them": "i like jazz."}), "you", "them", text)
    for i, text in enumerate(TRUE)
]
GROUPS = np.arange(4)


def answers(**changes) -> Answers:
    given = {
        "told": ["i like jazz."] * 4,
        "responses": list(TRUE),
        "nats": [4.0, 8.0, 2.0, 6.0],
        "tokens": [4.0, 4.0, 2.0, 2.0],
        "persona_nats": [3.0] * 4,
        "persona_tokens": [3.0] * 4,
        "critic": [1.0, 1.0, -1.0, 1.0],
        "second_critic": [1.0, -1.0, -1.0, 1.0],
    }
    return Answers(**(given | changes))


def by_metric(rows) -> dict:
    return {row.metric: row for row in rows}


def test_true_answers_are_perfect():
    found = by_metric(evaluation.measure("ours", [answers()], EXCHANGES, GROUPS))
    assert found["bleu"].value == pytest.approx(100)
    assert found["rouge_l"].value == 1 and found["persona_rouge_l"].value == 1
    assert found["perplexity"].value == pytest.approx(np.exp(20 / 12))
    assert found["persona_perplexity"].value == pytest.approx(np.e)
    assert found["critic_reward"].value == 0.5 and found["second_critic_reward"].value == 0
    assert found["distinct_1"].value == 1
    assert found["words"].value == 11 / 4
    assert found["bleu"].ci95 == pytest.approx(0) and found["perplexity"].ci95 > 0  # over exchanges: there is one seed
    assert all(row.n == 4 and row.seeds == 1 for row in found.values())


def test_other_answers_are_not():
    found = by_metric(evaluation.measure("ours", [answers(responses=["my dog my dog"] * 4)], EXCHANGES, GROUPS))
    assert found["bleu"].value < 20
    assert found["rouge_l"].value == pytest.approx(np.mean([2 * (2 / 4) * (2 / 4) / 1, 0, 0, 0]))
    assert found["distinct_1"].value == 2 / 16 and found["distinct_2"].value == 2 / 12


def test_a_means_interval_over_blocks_is_students():
    values = np.random.default_rng(0).normal(size=20)
    mean, half, n = evaluation.corpus_ci95(lambda rows: [values[rows].mean()], np.arange(20))
    assert (mean, half) == pytest.approx(mean_ci95(values)) and n == 20


def test_perplexitys_interval_is_the_bootstraps():
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 20, 4000).astype(float)
    nats = tokens * 2 + rng.normal(0, 3, 4000)
    one = replace(answers(), nats=nats.tolist(), tokens=tokens.tolist())
    value, half, _ = evaluation.corpus_ci95(lambda rows: [evaluation.perplexity(one, rows)], np.arange(4000))
    drawn = [rng.integers(0, 4000, 4000) for _ in range(1000)]
    resampled = [np.exp(nats[rows].sum() / tokens[rows].sum()) for rows in drawn]
    assert value == pytest.approx(np.exp(nats.sum() / tokens.sum()))
    assert half == pytest.approx(2.09 * np.std(resampled), rel=0.35)  # 20 blocks estimate it to a sixth


def test_intervals_know_of_groups_and_of_seeds():
    values = np.repeat(np.random.default_rng(1).normal(size=40), 5)

    def half(groups: np.ndarray, *seeds: float) -> float:
        return evaluation.corpus_ci95(lambda rows: [values[rows].mean() + seed for seed in seeds], groups)[1]

    groups = np.repeat(np.arange(40), 5)
    assert half(groups, 0.0) > 1.5 * half(np.arange(200), 0.0)
    assert half(groups, -1.0, 1.0) == pytest.approx(mean_ci95([-1.0, 1.0])[1])
    assert np.isnan(half(np.zeros(200), 0.0)) and half(np.zeros(200), 0.0, 1.0) > 0


def test_failed_judgements_are_left_out():
    failed = answers(critic=[1.0, float("nan"), -1.0, 1.0])
    row = by_metric(evaluation.measure("ours", [failed, answers()], EXCHANGES, GROUPS))["critic_reward"]
    assert row.n == 3 and row.value == pytest.approx(1 / 3)


def test_gains_are_paired():
    after = answers(critic=[1.0, 1.0, 1.0, 1.0], nats=[5.0, 9.0, 3.0, 7.0], responses=["a b c a b c"] * 4)
    found = {"ours": [answers(), answers()], "rl": [after, after], "none": [answers()]}
    rows = evaluation.gains(found, GROUPS)
    assert {row.system for row in rows} == {SYSTEMS["rl"].label}
    gain = by_metric(rows)
    assert gain["critic_reward_gain"].value == 0.5 and gain["second_critic_reward_gain"].value == 0
    assert gain["perplexity_change"].value == pytest.approx(np.exp(24 / 12) / np.exp(20 / 12) - 1)
    assert gain["distinct_2_change"].value == pytest.approx((3 / 20) / 1 - 1)
    assert gain["critic_reward_gain"].seeds == 2
    one = by_metric(evaluation.gains({"ours": [answers()], "rl": [after]}, GROUPS))
    assert all(one[metric].ci95 is not None for metric in gain)  # the ablation has one seed, and intervals


def test_systems_that_are_told_nothing_have_no_personas():
    nothing = answers(told=[""] * 4, persona_nats=[float("nan")] * 4, persona_tokens=[float("nan")] * 4)
    assert not any(row.metric.startswith("persona") for row in evaluation.measure("none", [nothing], EXCHANGES, GROUPS))


def test_answers_are_kept(tmp_path):
    answers().save(tmp_path / "deep" / "a.json")
    assert Answers.load(tmp_path / "deep" / "a.json") == answers()
    assert set(json.loads((tmp_path / "deep" / "a.json").read_text())) == set(vars(answers()))

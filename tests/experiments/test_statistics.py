"""Intervals cover what they say, leave failures out, and do not call few seeds certain."""

import numpy as np
import pytest

from experiments.statistics import clustered_ci95, crossed_ci95, grouped_ci95, mean_ci95


def test_interval_covers_the_truth_in_about_95_of_100_samples():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        mean, half = mean_ci95(rng.standard_normal(5))
        hits += abs(mean) <= half
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_failed_episodes_leave_the_mean():
    mean, half = mean_ci95([1.0, 3.0, float("nan")])
    assert mean == 2.0 and np.isfinite(half)


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    alike = rng.standard_normal((3, 200))
    apart = alike + np.array([[-2.0], [0.0], [2.0]])
    assert clustered_ci95(apart)[1] > 10 * clustered_ci95(alike)[1]
    assert clustered_ci95(alike)[1] >= mean_ci95(alike.ravel())[1]


def test_two_ways_of_belonging_together_are_both_covered():
    """Values with an effect of each of two people: only the two-way interval covers the mean of all people."""
    rng = np.random.default_rng(0)
    first, second = np.divmod(np.arange(600), 30)
    hits = np.zeros(3)
    for _ in range(400):
        values = rng.standard_normal(20)[first] + rng.standard_normal(30)[second] + rng.standard_normal(600)
        for i, groups in enumerate((np.stack((first, second), 1), second, np.arange(600))):
            mean, half = grouped_ci95(values, groups)
            hits[i] += abs(mean) <= half
    assert hits[0] / 400 == pytest.approx(0.95, abs=0.03)
    assert hits[1] / 400 < 0.85 and hits[2] / 400 < 0.5


def test_an_example_that_failed_in_one_seed_is_left_out_of_all():
    values = np.array([[1.0, 2.0, np.nan], [3.0, 4.0, 9.0]])
    assert crossed_ci95(values, np.arange(3)) == crossed_ci95(values[:, :2], np.arange(2))
    assert np.isnan(crossed_ci95(np.full((2, 3), np.nan), np.arange(3))).all()

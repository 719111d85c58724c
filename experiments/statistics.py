"""Means with 95% intervals, over episodes and over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats


def mean_ci95(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the mean and half the width of its 95% interval (Student's t); the half-width of one value is NaN.

    NaN stands for a value that could not be had (a failed episode) and is left out.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def clustered_ci95(values: np.ndarray) -> tuple[float, float]:
    """Return mean and half-width for `(seeds, episodes)`, where episodes of one seed share a trained policy.

    The interval is the wider one of that over seeds' means (few, so a wide t) and that over all episodes taken as
    independent: it covers both what training and what dialogue leave to chance.
    """
    _, over_seeds = mean_ci95(np.nanmean(values, 1))
    mean, over_episodes = mean_ci95(values.ravel())
    return mean, max(over_episodes, over_seeds if np.isfinite(over_seeds) else 0.0)


def grouped_ci95(values: Sequence[float] | np.ndarray, groups: Sequence[int] | np.ndarray) -> tuple[float, float]:
    """Return the mean and half the width of its 95% interval where values of one group are not independent.

    The standard error is the cluster-robust one (Liang and Zeger, Biometrika 1986); with every value a group of its own
    it is `mean_ci95`'s.

    Args:
        values: `(N,)`.
        groups: `(N,)`; or `(N, 2)`, where values that share a group of either column are not independent.
    """
    values, groups = np.asarray(values, dtype=float), np.asarray(groups)
    if len(values) != len(groups):
        raise ValueError(f"values and groups have shapes {values.shape} and {groups.shape}, expected the same number")
    mean = values.mean()

    def error(member: np.ndarray) -> float:
        count = member.max() + 1
        sums = np.bincount(member, values - mean)
        return np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)

    return float(mean), half_width(error, groups)


def half_width(error: Callable[[np.ndarray], float], groups: np.ndarray, most: int | None = None) -> float:
    """Return half the width of a 95% interval (Student's t), from the standard error that groups give.

    With two columns of groups it is the two-way one (Cameron, Gelbach and Miller, Journal of Business & Economic
    Statistics 2011), at least that of either column alone. NaN where a column has one group.

    Args:
        error: number of the group of each of N values -> standard error.
        groups: `(N,)` or `(N, 2)`.
        most: most groups that `error` tells apart; None: all.
    """
    columns = [np.unique(column, return_inverse=True)[1] for column in np.reshape(groups, (len(groups), -1)).T]
    fewest = min(column.max() + 1 for column in columns)
    if fewest < 2:
        return float("nan")
    variances = [error(column) ** 2 for column in columns]
    if len(columns) > 1:
        both = np.unique(np.stack(columns, 1), axis=0, return_inverse=True)[1].reshape(-1)
        variances.append(sum(variances) - error(both) ** 2)
    return float(stats.t.ppf(0.975, min(fewest, most or fewest) - 1) * np.sqrt(max(variances)))


def crossed_ci95(values: np.ndarray, groups: Sequence[int] | np.ndarray) -> tuple[float, float]:
    """Return mean and half-width for `(seeds, examples)`, where every seed met the same examples.

    The interval is the wider one of that over examples, each averaged over the seeds and those of one group dependent
    (`groups`, as of `grouped_ci95`), and that over the seeds' means. An example that is NaN in one seed is left out.
    """
    whole = ~np.isnan(values).any(0)
    if not whole.any():
        return float("nan"), float("nan")
    values = values[:, whole]
    mean, over_examples = grouped_ci95(values.mean(0), np.asarray(groups)[whole])
    _, over_seeds = mean_ci95(values.mean(1))
    return mean, float(np.fmax(over_examples, over_seeds))


def interquartile_mean(scores: np.ndarray) -> float:
    """Return the mean of the middle half of all scores: hardly less robust than the median (Agarwal et al., 2021)."""
    return float(stats.trim_mean(np.asarray(scores, dtype=float), 0.25, axis=None))


def stratified_ci95(scores: np.ndarray, draws: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """Return the ends of the interquartile mean's 95% interval, for `(runs, tasks)`; NaN where there is one run.

    Percentiles of a bootstrap that draws the runs of each task apart, as rliable does (Agarwal et al., NeurIPS 2021,
    section 4.1). With few runs it is too narrow, as every bootstrap is.
    """
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {scores.shape}, expected (runs, tasks)")
    runs, tasks = scores.shape
    if runs < 2:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(runs, size=(draws, runs, tasks))
    replicates = np.take_along_axis(scores[None], drawn, axis=1).reshape(draws, -1)
    low, high = np.percentile(stats.trim_mean(replicates, 0.25, axis=1), [2.5, 97.5])
    return float(low), float(high)


def improvement_probability(scores: np.ndarray, others: np.ndarray) -> float:
    """Return the probability that a run of one system, `(runs, tasks)`, is above one of the other's on the same task.

    The mean over tasks of the Mann-Whitney statistic; a tie counts one half (Agarwal et al., 2021, section 4.3).
    """
    scores, others = np.asarray(scores, dtype=float), np.asarray(others, dtype=float)
    signs = np.sign(scores[:, None, :] - others[None, :, :])  # (runs, other runs, tasks)
    return float((signs + 1).mean() / 2)

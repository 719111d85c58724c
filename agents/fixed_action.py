"""The best of some constant actions, found by successive halving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CandidateResult:
    """What the search knows of a candidate: its index, rounds survived, valid episodes, mean reward, standard error."""

    candidate: int
    rounds: int
    episodes: int
    mean_reward: float
    standard_error: float


def best_fixed_action(
    evaluate: Callable[[np.ndarray], np.ndarray], candidates: np.ndarray
) -> tuple[np.ndarray, list[CandidateResult]]:
    """Choose the constant action of the highest mean reward by successive halving (Karnin et al., 2013).

    Every round evaluates the surviving candidates and keeps the better half by the mean over all episodes so far. Round
    r calls `evaluate` 2^r times, so every round costs about the same. The winner's mean is biased upwards (it was
    chosen for it): report a new evaluation, on held-out scenarios.

    Args:
        evaluate: actions (K, d) to rewards (K, M) of M episodes each, NaN for a failed one; the columns are *training*
            scenarios, the same ones for each row, and new ones (or new seeds) at every call.
        candidates: actions (K, d).

    Returns:
        The action (d,), and one result per candidate, best first: by rounds survived, then by mean reward.

    Raises:
        ValueError: `candidates` or the rewards have another shape.
        RuntimeError: every episode failed.
    """
    candidates = np.asarray(candidates, dtype=np.float32)
    if candidates.ndim != 2 or len(candidates) == 0 or not np.isfinite(candidates).all():
        raise ValueError(f"candidates have shape {candidates.shape}, expected (K, d) finite numbers with K > 0")
    rewards: list[list[float]] = [[] for _ in candidates]
    rounds = np.zeros(len(candidates), dtype=int)
    survivors = np.arange(len(candidates))
    calls = 1
    while True:
        for _ in range(calls):
            for index, row in zip(survivors, _rewards_of(evaluate, candidates[survivors]), strict=True):
                rewards[index].extend(row[np.isfinite(row)].tolist())
        rounds[survivors] += 1
        means = np.array([np.mean(rewards[index]) if rewards[index] else -np.inf for index in survivors])
        survivors = survivors[np.argsort(-means, kind="stable")]
        if len(survivors) <= 2:
            break
        survivors, calls = np.sort(survivors[: (len(survivors) + 1) // 2]), calls * 2
    if not any(rewards):
        raise RuntimeError("every episode of every candidate failed")
    table = [_result(index, int(rounds[index]), rewards[index]) for index in range(len(candidates))]
    table.sort(key=lambda result: (-result.rounds, -result.mean_reward))
    return candidates[survivors[0]], table


def halving_evaluations(candidates: int) -> int:
    """Return how many (candidate, call) pairs `best_fixed_action` evaluates: its cost in M episodes each."""
    total, calls = candidates, 1
    while candidates > 2:
        candidates, calls = (candidates + 1) // 2, 2 * calls
        total += candidates * calls
    return total


def _rewards_of(evaluate: Callable[[np.ndarray], np.ndarray], actions: np.ndarray) -> np.ndarray:
    rewards = np.asarray(evaluate(actions), dtype=np.float64)
    if rewards.ndim != 2 or len(rewards) != len(actions):
        raise ValueError(f"evaluate returned rewards of shape {rewards.shape}, expected ({len(actions)}, episodes)")
    return rewards


def _result(index: int, rounds: int, rewards: list[float]) -> CandidateResult:
    mean = float(np.mean(rewards)) if rewards else float("-inf")
    error = float(np.std(rewards, ddof=1) / len(rewards) ** 0.5) if len(rewards) > 1 else float("nan")
    return CandidateResult(index, rounds, len(rewards), mean, error)

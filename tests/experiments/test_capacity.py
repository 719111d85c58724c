"""The steering meter: it finds what is there, and the control finds nothing."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from experiments import capacity
from experiments.capacity import reply_bits, reward_variance

WORDS = [f"word{i}" for i in range(40)]


def replies(rng: np.random.Generator, actions: int, contexts: int, shared: float) -> list[list[str]]:
    """Each action prefers words of its own; with `shared` = 1 all actions speak alike."""

    def line(action: int) -> str:
        own = [WORDS[2 * action], WORDS[2 * action + 1]]
        return " ".join(str(rng.choice(WORDS if rng.random() < shared else own)) for _ in range(6))

    return [[line(action) for _ in range(contexts)] for action in range(actions)]


@pytest.mark.parametrize("classifier", ["unigram", "bigram"])
def test_bits_of_actions_that_speak_apart_and_alike(classifier):
    rng = np.random.default_rng(0)
    clear, accuracy, confusion = reply_bits(replies(rng, 8, 64, 0.0), classifier)
    alike, _, _ = reply_bits(replies(rng, 8, 64, 1.0), classifier)
    assert clear > 2.6 and accuracy > 0.98 and clear <= 3
    assert abs(alike) < 0.15
    assert confusion.sum() == 8 * 64


@pytest.mark.parametrize("classifier", ["unigram", "bigram"])
def test_the_permutation_control_gives_about_zero(classifier):
    bits, _, _ = reply_bits(replies(np.random.default_rng(1), 8, 64, 0.2), classifier, permute=True)
    assert bits < 0.05


def test_the_bits_are_the_projects_one_bound_on_replies_that_were_held_out(monkeypatch):
    asked = []

    def bound(log_probabilities, labels):
        asked.append((log_probabilities.shape, sorted(labels.tolist())))
        return torch.tensor(math.log(2))

    monkeypatch.setattr(capacity, "classifier_bound", bound)
    bits, _, _ = reply_bits(replies(np.random.default_rng(0), 3, 8, 0.5))
    assert bits == pytest.approx(1.0)
    assert asked == [((24, 3), [0] * 8 + [1] * 8 + [2] * 8)]  # every reply once, by the other half's


def test_variance_takes_context_out_and_agrees_with_a_plain_anova_without_it():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((6, 50))
    assert reward_variance(noise).p > 0.01
    context = 10 * rng.standard_normal(50)
    effect = np.linspace(0, 1.5, 6)[:, None]
    assert reward_variance(noise + effect + context).f == pytest.approx(reward_variance(noise + effect).f)
    assert reward_variance(noise + effect + context).p < 1e-6
    assert reward_variance(noise + effect).f == pytest.approx(stats.f_oneway(*(noise + effect)).statistic, rel=0.2)


def test_rewards_without_any_variance():
    assert reward_variance(np.zeros((3, 4))).p == 1.0

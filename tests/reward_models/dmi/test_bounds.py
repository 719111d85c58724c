"""The bounds against slow, obvious versions and values worked out by hand."""

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from reward_models.dmi import bounds
from reward_models.dmi.bounds import BOUNDS, ceiling, classifier_bound, infonce, infonce_s, jsd, mine, smile


@pytest.fixture
def scores() -> torch.Tensor:
    return torch.tensor(np.random.default_rng(0).normal(0, 3, (6, 6)))


def off_diagonal(scores: torch.Tensor) -> list[float]:
    return [float(scores[i, j]) for i in range(len(scores)) for j in range(len(scores)) if i != j]


def diagonal(scores: torch.Tensor) -> list[float]:
    return [float(scores[i, i]) for i in range(len(scores))]


def slow_infonce(scores: torch.Tensor) -> float:
    terms = [math.exp(scores[i, i]) / np.mean([math.exp(s) for s in scores[i]]) for i in range(len(scores))]
    return float(np.mean(np.log(terms)))


def test_infonce_is_equation_5_of_van_den_oord(scores):
    assert float(infonce(scores)) == pytest.approx(slow_infonce(scores))


def test_infonce_s_is_the_mean_of_both_directions(scores):
    assert float(infonce_s(scores)) == pytest.approx((slow_infonce(scores) + slow_infonce(scores.T)) / 2)
    assert float(infonce_s(scores)) == pytest.approx(float(infonce_s(scores.T)))


def test_mine_is_donsker_varadhan(scores):
    expected = np.mean(diagonal(scores)) - np.log(np.mean(np.exp(off_diagonal(scores))))
    assert float(mine(scores)) == pytest.approx(expected)


def test_jsd_is_nguyen_wainwright_jordan_of_log_ratios(scores):
    expected = 1 + np.mean(diagonal(scores)) - np.mean(np.exp(off_diagonal(scores)))
    assert float(jsd(scores)) == pytest.approx(expected)


@pytest.mark.parametrize("tau", [0.5, 5.0])
def test_smile_clips_the_product_alone(scores, tau):
    clipped = np.exp(np.clip(off_diagonal(scores), -tau, tau))
    assert float(smile(scores, tau)) == pytest.approx(np.mean(diagonal(scores)) - np.log(np.mean(clipped)))
    assert float(smile(scores, math.inf)) == pytest.approx(float(mine(scores)))


def test_jensen_shannon_loss_is_that_of_a_classifier_of_true_and_false(scores):
    true = np.mean([-math.log(1 / (1 + math.exp(-s))) for s in diagonal(scores)])
    false = np.mean([-math.log(1 - 1 / (1 + math.exp(-s))) for s in off_diagonal(scores)])
    for name in ("jsd", "smile"):
        assert float(BOUNDS[name].loss(scores)) == pytest.approx(true + false)


@pytest.mark.parametrize("name", ["infonce", "infonce_s", "mine"])
def test_the_other_losses_are_the_negative_estimates(name, scores):
    assert float(BOUNDS[name].loss(scores)) == -float(BOUNDS[name].estimate(scores))


@pytest.mark.parametrize("name", ["infonce", "infonce_s"])
def test_infonce_reaches_log_n_and_never_passes_it(name):
    perfect = 100 * torch.eye(7)
    assert float(BOUNDS[name].estimate(perfect)) == pytest.approx(math.log(7)) == pytest.approx(ceiling(7))
    for seed in range(20):
        drawn = 10 * torch.randn(7, 7, generator=torch.Generator().manual_seed(seed)) + 20 * torch.eye(7)
        assert float(BOUNDS[name].estimate(drawn)) <= ceiling(7) + 1e-6


@pytest.mark.parametrize("name", list(BOUNDS))
def test_equal_scores_say_nothing(name):
    assert float(BOUNDS[name].estimate(torch.zeros(5, 5))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", list(BOUNDS))
def test_estimate_and_loss_are_differentiable(name, scores):
    leaf = scores[:3, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(BOUNDS[name].loss, leaf)
    assert torch.autograd.gradcheck(BOUNDS[name].estimate, leaf)
    BOUNDS[name].loss(leaf).backward()
    assert (leaf.grad.diagonal() < 0).all()  # the loss falls as true pairs' scores rise


@pytest.mark.parametrize("name", list(BOUNDS))
def test_large_scores_do_not_overflow(name):
    value = BOUNDS[name].loss(1e4 * torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(value)


@pytest.mark.parametrize("name", list(BOUNDS))
@pytest.mark.parametrize("shape", [(3,), (3, 4), (1, 1)])
def test_a_matrix_of_another_shape_is_refused(name, shape):
    with pytest.raises(ValueError, match=r"scores has shape .*, expected \(N, N\)"):
        BOUNDS[name].loss(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(value):
    scores = torch.zeros(3, 3)
    scores[0, 1] = value
    with pytest.raises(ValueError, match="scores holds NaN or infinity"):
        infonce(scores)


def test_smile_refuses_a_tau_that_clips_everything():
    with pytest.raises(ValueError, match=r"tau is 0, expected a positive number"):
        smile(torch.zeros(3, 3), 0)


def test_every_bound_names_its_source():
    for name in (*BOUNDS, "jensen_shannon_loss", "classifier_bound"):
        assert "Source:" in inspect.getdoc(getattr(bounds, name)), name


def test_nothing_else_in_the_project_defines_a_bound():
    """What every bound here needs stands in one file: the true pairs' diagonal, or the entropy of labels."""
    root = Path(bounds.__file__).parents[2]
    layers = [root / name for name in ("reward_models", "dialog_envs", "agents", "experiments")]
    sources = [path for layer in layers for path in layer.rglob("*.py")]
    names = r"def \w*(infonce|mine|jsd|smile|information_bound)\b"
    mathematics = re.compile(rf"{names}|\.diagonal\(|special\.entr|cross_entropy\([^)]*arange")
    assert [path.name for path in sources if mathematics.search(path.read_text())] == ["bounds.py"]


def test_classifier_bound_of_a_known_channel():
    # Four equally frequent labels; the classifier knows that a label is one of two.
    labels = torch.tensor([0, 1, 2, 3])
    sure = torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]).log()
    assert float(classifier_bound(sure, labels)) == pytest.approx(math.log(2))
    assert float(classifier_bound(torch.full((4, 4), 0.25).log(), labels)) == pytest.approx(0, abs=1e-6)


def test_classifier_bound_takes_the_labels_own_entropy():
    labels = torch.tensor([0] * 9 + [1])
    perfect = torch.nn.functional.one_hot(labels, 2).double().log()
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert float(classifier_bound(perfect, labels)) == pytest.approx(entropy)


@pytest.mark.parametrize(
    ("log_probabilities", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 1]), r"expected \(n, K\) and \(n,\)"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), r"labels lie in \[0, 2\], expected \[0, 2\)"),
        (torch.ones(2, 2), torch.tensor([0, 1]), "NaN or a positive number"),
    ],
)
def test_classifier_bound_refuses_what_is_no_classification(log_probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        classifier_bound(log_probabilities, labels)

"""Plots: files that are pictures, drawn from the right numbers, and inputs refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from experiments.plots import plot_action_rewards, plot_bars, plot_confusion, plot_curves
from experiments.run_folder import ResultRow
from experiments.statistics import mean_ci95


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Keep the figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: (figures.append(self), save(self, *args, **kwargs))
    )
    return figures


def check_picture(path) -> None:
    height, width = imread(path).shape[:2]
    assert height > 300 and width > 600
    assert not list(path.parent.glob("*.tmp"))


def test_curves_show_mean_band_and_baselines(tmp_path, drawn):
    steps, values = np.array([0, 100, 200]), np.array([[1.0, 2.0, 4.0], [3.0, 2.5, 5.0], [2.0, 3.0, 4.5]])
    path = tmp_path / "curve.png"
    assert (
        plot_curves(path, {"planner": (steps, values)}, "steps", "score", {"random": (1.5, 0.2), "none": (1, None)})
        == path
    )
    check_picture(path)
    axes = drawn[0].axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), values.mean(0))
    top = axes.collections[0].get_datalim(axes.transData).y1
    assert top == pytest.approx(max(m + h for m, h in map(mean_ci95, values.T)))
    assert [line.get_ydata()[0] for line in axes.lines[1:]] == [1.5, 1]
    assert {text.get_text() for text in drawn[0].legends[0].texts} == {"planner", "random", "none"}


def test_curve_of_one_seed_and_without_baselines(tmp_path):
    path = tmp_path / "curve.png"
    plot_curves(path, {"one": ([0, 1], np.array([[1.0, 2.0]]))}, "steps", "score")
    check_picture(path)


def test_curve_of_other_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"curve 'x' has values \(2, 3\) for steps \(2,\)"):
        plot_curves(tmp_path / "curve.png", {"x": ([0, 1], np.zeros((2, 3)))}, "steps", "score", {})


def test_bars(tmp_path, drawn):
    rows = [
        ResultRow("a", "goal", 1.5, 0.2, 9, 3),
        ResultRow("b", "goal", -0.5, None, 9, 3),
        ResultRow("a", "secret", 7, 1, 9, 3),
    ]
    path = tmp_path / "bars.png"
    plot_bars(path, rows, "goal")
    axes = drawn[0].axes[0]
    assert [bar.get_width() for bar in axes.patches] == [1.5, -0.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    check_picture(path)
    with pytest.raises(ValueError, match="no result has the metric 'gaol'; there are: goal, secret"):
        plot_bars(path, rows, "gaol")


def test_action_rewards_are_sorted(tmp_path, drawn):
    rewards = np.random.default_rng(0).normal(size=(16, 40)) + np.arange(16)[::-1, None]
    path = tmp_path / "actions.png"
    plot_action_rewards(path, rewards)
    check_picture(path)
    labels = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert labels == [str(i) for i in np.argsort(rewards.mean(1))]
    with pytest.raises(ValueError, match="expected \\(actions, contexts\\)"):
        plot_action_rewards(path, np.zeros(3))


@pytest.mark.parametrize("size", [4, 16, 40])
def test_confusion_shows_shares_of_rows(tmp_path, drawn, size):
    counts = np.random.default_rng(0).integers(0, 9, (size, size))
    counts[0] = 0  # an action that nobody took
    path = tmp_path / "confusion.png"
    plot_confusion(path, counts, "which action?")
    check_picture(path)
    shares = np.asarray(drawn[0].axes[0].images[0].get_array())
    np.testing.assert_allclose(shares.sum(1), [0.0] + [1.0] * (size - 1))
    with pytest.raises(ValueError, match="expected \\(K, K\\)"):
        plot_confusion(path, counts[:2], "x")


@pytest.mark.parametrize("letters", [6, 20, 42])
def test_the_legend_of_curves_stays_in_the_picture(tmp_path, drawn, letters):
    text = "the response generator alone, trained with a baseline"[:letters]
    curves = {f"{i}{text}": (np.arange(3), np.arange(3.0)[None]) for i in range(5)}
    plot_curves(tmp_path / "curve.png", curves, "steps", "score")
    (legend,) = drawn[0].legends
    assert legend.get_window_extent().width <= drawn[0].bbox.width

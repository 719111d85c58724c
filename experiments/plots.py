"""Plots as PNG files: learning curves, bars, the reward of fixed actions, confusion matrices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run_folder import ResultRow
from experiments.statistics import mean_ci95

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D5D5D")  # Okabe and Ito, 2008
MARKERS = ("o", "s", "^")
BASELINE_STYLES = ("--", ":", "-.", (0, (8, 3)), (0, (3, 1, 1, 1, 1, 1)))
INK, SOFT = "#1c2128", "#5b6573"
STYLE = {
    "font.size": 10,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#e6e9ed",
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


def plot_curves(
    path: Path,
    curves: Mapping[str, tuple[Sequence[float] | np.ndarray, np.ndarray]],
    xlabel: str,
    ylabel: str,
    baselines: Mapping[str, tuple[float, float | None]] | None = None,
) -> Path:
    """Plot means over seeds with their 95% bands, and baselines as dashed lines with bands.

    Args:
        path: the PNG file.
        curves: name -> steps `(points,)` and values `(seeds, points)`. One seed has no band.
        xlabel: what the steps are.
        ylabel: what the values are.
        baselines: name -> mean and half the width of its 95% interval (None or NaN: no band).

    Raises:
        ValueError: a curve's values do not fit its steps.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        _curves(axes, curves)
        colours = PALETTE[len(curves) % len(PALETTE) :] + PALETTE
        for i, (name, (mean, ci95)) in enumerate((baselines or {}).items()):
            colour = colours[i % len(colours)]
            axes.axhline(
                mean, color=colour, linewidth=1.4, linestyle=BASELINE_STYLES[i % len(BASELINE_STYLES)], label=name
            )
            if ci95 is not None and np.isfinite(ci95):
                axes.axhspan(mean - ci95, mean + ci95, color=colour, alpha=0.08, linewidth=0)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        names = [*curves, *(baselines or {})]
        if names:
            columns = int(figure.get_figwidth() / (0.6 + 0.075 * max(map(len, names))))  # inches: line, letters
            ncols = max(1, min(len(names), 4, columns))
            figure.legend(loc="outside upper left", ncols=ncols, handlelength=2.2, columnspacing=1.6)
        return _save(figure, path)


def plot_bars(path: Path, rows: Sequence[ResultRow], metric: str) -> Path:
    """Plot one metric of every system as a bar with its 95% interval, in the given order from top to bottom.

    Raises:
        ValueError: no row has this metric.
    """
    chosen = [row for row in rows if row.metric == metric]
    if not chosen:
        known = ", ".join(dict.fromkeys(row.metric for row in rows)) or "none"
        raise ValueError(f"no result has the metric {metric!r}; there are: {known}")
    with matplotlib.rc_context(STYLE):
        figure = Figure((6.4, 1.2 + 0.48 * len(chosen)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(chosen))
        values = np.array([row.value for row in chosen])
        halves = np.array([np.nan if row.ci95 is None else row.ci95 for row in chosen], dtype=float)
        axes.barh(places, values, height=0.62, color=PALETTE[0], alpha=0.85)
        axes.errorbar(values, places, xerr=np.nan_to_num(halves), fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        reach = np.abs(values) + np.nan_to_num(halves)
        for place, value, end in zip(places, values, reach, strict=True):
            side = 1 if value >= 0 else -1
            axes.annotate(
                f"{value:.2f}",
                (side * end, place),
                (6 * side, 0),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="center",
            )
        axes.set_yticks(places, [row.system for row in chosen], color=INK)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.axvline(0, color=SOFT, linewidth=0.8)
        axes.margins(x=0.14)
        axes.set_xlabel(f"{metric.replace('_', ' ')} (mean, 95% interval)")
        return _save(figure, path)


def plot_trade_off(
    path: Path,
    points: Mapping[str, Mapping[str, tuple[float, float]]],
    reward: tuple[str, str],
    measures: Mapping[str, str],
) -> Path:
    """Plot reward over each of some measures, a panel a measure and a point a system, with 95% intervals both ways.

    Args:
        path: the PNG file.
        points: system -> measure -> mean and half the width of its 95% interval (NaN: none).
        reward: name of the measure that stands upwards, and its label.
        measures: name -> label of those that lie along.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((4.1 * max(1, len(measures)) + 0.4, 3.6 + 0.24 * -(-len(points) // 3)), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, max(1, len(measures)), sharey=True))
        for axes, (measure, label) in zip(panels, measures.items(), strict=False):
            for i, (system, values) in enumerate(points.items()):
                (x, dx), (y, dy) = values[measure], values[reward[0]]
                look = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i // len(PALETTE) % len(MARKERS)]}
                bars = {"xerr": np.nan_to_num(dx), "yerr": np.nan_to_num(dy), "elinewidth": 1, "capsize": 2}
                axes.errorbar(x, y, **bars, **look, linestyle="none", markersize=7, label=system)
            axes.set(xlabel=label)
            axes.grid()
            axes.set_axisbelow(True)
        panels[0].set(ylabel=reward[1])
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3, fontsize=9, columnspacing=1.4)
        return _save(figure, path)


def plot_stated(path: Path, points: Mapping[str, Sequence[tuple[float, float, float]]], title: str) -> Path:
    """Plot observed rates over stated probabilities, with 95% intervals; on the diagonal they agree.

    Args:
        path: the PNG file.
        points: group -> (stated, observed, half the width of the interval), all in [0, 1].
        title: stands above.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((5.2, 5.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=1.1)
        for colour, (group, triples) in zip(PALETTE, points.items(), strict=False):
            stated, observed, halves = np.array(triples, dtype=float).T
            axes.errorbar(
                stated, observed, yerr=np.nan_to_num(halves), fmt="o", color=colour, markersize=4, elinewidth=1,
                capsize=2, alpha=0.75, label=group,
            )  # fmt: skip
        axes.set(xlabel="stated probability", ylabel="observed rate (95% interval)", ylim=(-0.05, 1.05))
        axes.set_title(title, loc="left", fontsize=11)
        axes.grid()
        axes.set_axisbelow(True)
        if points:
            figure.legend(loc="outside lower center", ncols=len(points), columnspacing=1.2, handletextpad=0.2)
        return _save(figure, path)


def plot_action_rewards(path: Path, rewards: np.ndarray) -> Path:
    """Plot the mean reward of K fixed actions, `(K, contexts)`, with 95% intervals, sorted by the mean.

    Raises:
        ValueError: the rewards are no matrix.
    """
    rewards = np.asarray(rewards, dtype=float)
    if rewards.ndim != 2:
        raise ValueError(f"rewards have shape {rewards.shape}, expected (actions, contexts)")
    summaries = np.array([mean_ci95(row) for row in rewards])  # (K, 2)
    order = np.argsort(summaries[:, 0], kind="stable")
    means, halves = summaries[order].T
    with matplotlib.rc_context(STYLE):
        figure = Figure((max(5.0, 2.4 + 0.26 * len(order)), 3.8), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(order))
        axes.axhline(np.nanmean(rewards), color=SOFT, linestyle="--", linewidth=1.1, label="mean of all actions")
        axes.errorbar(
            places,
            means,
            yerr=np.nan_to_num(halves),
            fmt="o",
            color=PALETTE[0],
            markersize=5,
            elinewidth=1.4,
            capsize=2.5,
        )
        axes.set_xticks(places, [str(i) for i in order], fontsize=8 if len(order) <= 32 else 5)
        axes.set(xlabel="fixed action, sorted by its mean", ylabel=f"reward ({rewards.shape[1]} contexts, 95%)")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.legend(loc="upper left")
        return _save(figure, path)


def plot_confusion(
    path: Path,
    matrix: np.ndarray,
    title: str,
    labels: Sequence[str] | None = None,
    axis_names: tuple[str, str] = ("action taken", "action read from the reply"),
) -> Path:
    """Plot what was meant (rows; an action) and what was read (columns; from the reply), as shares of each row.

    Args:
        path: the PNG file.
        matrix: counts or shares `(K, K)`.
        title: stands above.
        labels: names of the K classes, else their numbers.
        axis_names: of rows and columns.

    Raises:
        ValueError: the matrix is not square, or has not as many rows as there are labels.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"the confusion matrix has shape {matrix.shape}, expected (K, K)")
    if labels is not None and len(labels) != len(matrix):
        raise ValueError(f"{len(labels)} labels for a confusion matrix of shape {matrix.shape}")
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    size = len(matrix)
    with matplotlib.rc_context(STYLE | {"axes.spines.left": False, "axes.spines.bottom": False}):
        figure = Figure((5.4, 4.8) if labels is None else (3.4 + 0.2 * size, 2.6 + 0.2 * size), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=max(1.0 / size, float(shares.max())))
        figure.colorbar(image, ax=axes, shrink=0.85, label="share of the row").outline.set_visible(False)
        if size <= 16:
            _write_shares(axes, shares)
        ticks = np.arange(0, size, 1 if labels is not None or size <= 20 else 5)
        axes.set_xticks(ticks, labels, **({} if labels is None else {"rotation": 90}))
        axes.set_yticks(ticks, labels)
        axes.tick_params(length=0)
        axes.set(xlabel=axis_names[1], ylabel=axis_names[0])
        axes.set_title(title, loc="left", fontsize=11)
        return _save(figure, path)


def plot_shares(path: Path, shares: Mapping[str, np.ndarray], labels: Sequence[str], title: str) -> Path:
    """Plot how frequent K labels are by several counts, a group of bars a label.

    Args:
        path: the PNG file.
        shares: name -> shares `(K,)`.
        labels: of the K groups.
        title: stands above.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((max(6.0, 0.28 * len(labels)), 4.2), layout="constrained")
        axes = figure.subplots()
        places, width = np.arange(len(labels)), 0.8 / len(shares)
        for i, (name, values) in enumerate(shares.items()):
            axes.bar(places + (i - (len(shares) - 1) / 2) * width, values, width, color=PALETTE[i], label=name)
        axes.set_xticks(places, labels, rotation=90, fontsize=8)
        axes.set_ylabel("share")
        axes.set_title(title, loc="left", fontsize=11)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.legend(loc="upper left")
        return _save(figure, path)


def _curves(axes: Axes, curves: Mapping[str, tuple[Sequence[float] | np.ndarray, np.ndarray]]) -> None:
    for i, (name, (steps, values)) in enumerate(curves.items()):
        steps, values = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
        if values.ndim != 2 or values.shape[1:] != steps.shape:
            raise ValueError(
                f"curve {name!r} has values {values.shape} for steps {steps.shape}, expected (seeds, points)"
            )
        means, halves = np.array([mean_ci95(column) for column in values.T]).reshape(-1, 2).T
        colour = PALETTE[i % len(PALETTE)]
        axes.plot(steps, means, color=colour, linewidth=2, label=name)
        axes.fill_between(steps, means - halves, means + halves, color=colour, alpha=0.18, linewidth=0)


def _write_shares(axes: Axes, shares: np.ndarray) -> None:
    middle = shares.max() / 2
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005:
            colour = "black" if share > middle else "white"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=colour)


def _save(figure: Figure, path: Path) -> Path:
    """Write the file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, dpi=150, format="png")
    os.replace(temporary, path)
    return path

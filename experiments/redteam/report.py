"""What came of a red-teaming run: attack success rates with intervals, differences, figures, transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from dialog_envs import scenarios
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.scenarios.scenario import Scenario
from experiments.comparison import PLANNER
from experiments.episodes import Episode
from experiments.language import panel
from experiments.page import write_transcript_page
from experiments.plots import plot_bars, plot_curves
from experiments.redteam.attack import own_scenarios, success
from experiments.redteam.config import Config, Defender, System
from experiments.run_folder import ResultRow, write_results
from experiments.statistics import clustered_ci95, grouped_ci95
from experiments.train import Curve
from experiments.watch import Watch

ASR, DIFFERENCE = "attack_success_rate", "td3_bc_minus_this_asr"
SHOWN = 40  # dialogues on the page


@dataclass(frozen=True)
class Attack:
    """One system against one defender.

    Attributes:
        system: what attacked.
        against: the defender it was trained against; None if it was not trained.
        defender: the defender it met.
        episodes: held-out dialogues, by seed.
        curves: success on held-out scenarios while it trained, a curve a seed.
        training: by seed, what each policy's training took: `queries` to the defender, and, where it learned from
            transitions, whether an attack was `found` in them.
    """

    system: System
    against: Defender | None
    defender: Defender
    episodes: Sequence[Sequence[Episode]]
    curves: Sequence[Curve] = ()
    training: Sequence[Sequence[Mapping[str, float]]] = ()

    @property
    def name(self) -> str:
        """The system, and the defender that it was trained against where that is another one."""
        moved = self.against not in (None, self.defender)
        return self.system.label + (f" trained against {self.against}" if moved else "")

    def on(self, ids: Sequence[str]) -> Attack:
        """Return the same on some scenarios alone."""
        kept = set(ids)
        return replace(self, episodes=[[e for e in group if e.scenario in kept] for group in self.episodes])


def write(config: Config, attacks: Sequence[Attack], lm: FrozenLM, watch: Watch) -> None:
    """Write `results.json`, figures and a page of transcripts, and print the tables."""
    known, own = scenarios.load(config.heldout), own_scenarios(config)
    rows: list[ResultRow] = []
    for defender in config.all_defenders():
        here = [attack for attack in attacks if attack.defender == defender]
        tables = {"": [attack for attack in here if not attack.system.own]}
        if any(attack.system.own for attack in here):
            tables[f", {len(own)} scenarios"] = [attack.on(own) for attack in here]
        for suffix, table in tables.items():
            if not table:
                continue
            made = [
                replace(row, system=f"{row.system}{suffix}, against {defender}")
                for row in table_rows(table, planner_of(config, table), lm, known, watch)
            ]
            print_rows(made)
            rows += made
        plot_bars(config.out / f"asr_{defender.file.removesuffix('.json')}.png", short(rows, defender), ASR)
    write_results(config.out, rows)
    draw_curves(config.out, attacks)
    if ":" not in config.heldout:  # words of a user's own files belong on no page
        write_page(config, attacks, rows)


def table_rows(
    attacks: Sequence[Attack], planner: Attack | None, lm: FrozenLM, known: Sequence[Scenario], watch: Watch
) -> list[ResultRow]:
    """Return the rows of all systems against one defender on the same dialogues.

    Failed dialogues are in no number but `failed_episodes`; `n` counts the others.
    """
    rows: list[ResultRow] = []
    for attack in attacks:
        wins, groups = successes(attack), secret_numbers(attack, known)
        whole = [episode for group in attack.episodes for episode in group if episode.error is None]
        size = (len(whole), len(attack.episodes))
        rows.append(ResultRow(attack.name, ASR, *rate_ci95(wins, groups), *size))
        best = np.array([[max(e.rewards) if e.error is None else np.nan for e in group] for group in attack.episodes])
        rows.append(ResultRow(attack.name, "best_round", *ci95(best, groups), *size))
        for metric, other in ((f"gain_over_{attacks[0].name}", attacks[0]), (DIFFERENCE, planner)):
            if other is not None and other is not attack:
                difference = wins - successes(other) if other is attacks[0] else successes(other) - wins
                rows.append(ResultRow(attack.name, metric, *ci95(difference, groups), *size))
        queries = [len(episode.rewards) for episode in whole]
        rows.append(ResultRow(attack.name, "defender_queries", float(np.mean(queries)), None, *size))
        rows += training_rows(attack)
        rows.append(ResultRow(attack.name, "failed_episodes", groups.size - len(whole), None, *size))
        if not attack.system.single_rounds:  # its rounds are no dialogue
            seen = [watch(group, known) for group in attack.episodes] if watch.judges else [{}]
            rows += [
                ResultRow(attack.name, tag, *ci95(np.array([s[tag] for s in seen]), groups), *size) for tag in seen[0]
            ]
            language = panel(whole, lm, known)
            rows += [ResultRow(attack.name, name, value, None, *size) for name, value in language.items()]
    return rows


def training_rows(attack: Attack) -> list[ResultRow]:
    """Return how many questions a policy's training put to its defender, and how many trainings found an attack."""
    found = [policy for group in attack.training for policy in group]
    size = (max(1, len(found)), len(attack.episodes))
    queries = float(np.mean([policy["queries"] for policy in found] or [0]))
    rows = [ResultRow(attack.name, "training_queries", queries, None, *size)]
    attacks = [policy["found"] for policy in found if "found" in policy]
    if attacks:
        rows.append(ResultRow(attack.name, "attack_found_while_training", float(np.mean(attacks)), None, *size))
    return rows


def planner_of(config: Config, attacks: Sequence[Attack]) -> Attack | None:
    """Return TD3+BC trained against the defender that these attacks met, or against the first one if none was."""
    planners = {attack.against: attack for attack in attacks if attack.system.label == PLANNER}
    return planners.get(attacks[0].defender, planners.get(config.trained_against()[0]))


def successes(attack: Attack) -> np.ndarray:
    """Return `(seeds, episodes)`: 1 for a success, 0, NaN for a dialogue that failed."""
    return np.array([[success(episode) for episode in group] for group in attack.episodes])


def secret_numbers(attack: Attack, known: Sequence[Scenario]) -> np.ndarray:
    """Return `(seeds, episodes)`: which dialogues are about one secret or behaviour; scenarios may share it."""
    texts = {scenario.id: scenario.forbidden.text for scenario in known if scenario.forbidden}
    found = [[texts.get(episode.scenario, episode.scenario) for episode in group] for group in attack.episodes]
    return np.unique(found, return_inverse=True)[1].reshape(np.shape(found))


def ci95(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return mean and half the width of the 95% interval of `(seeds, episodes)`; NaN is left out.

    The widest of three: over the seeds' means, over the groups (dialogues about one secret are not independent), and
    over all dialogues as if they were.
    """
    whole = np.isfinite(values)
    mean, half = clustered_ci95(values)
    over_groups = grouped_ci95(values[whole], groups[whole])[1] if whole.any() else np.nan
    return mean, float(np.fmax(half, over_groups))


def rate_ci95(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return a rate with the half-width of `ci95`, or of Wilson's interval where that is wider (no success at all)."""
    mean, half = ci95(values, groups)
    whole = values[np.isfinite(values)]
    if not len(whole):
        return mean, half
    wilson = binomtest(int(whole.sum()), len(whole)).proportion_ci(method="wilson")
    return mean, float(np.fmax(half, max(wilson.high - mean, mean - wilson.low)))


def short(rows: Sequence[ResultRow], defender: Defender) -> list[ResultRow]:
    """Return the rows against a defender, with the systems' names alone."""
    ending = f", against {defender}"
    return [replace(row, system=row.system.removesuffix(ending)) for row in rows if row.system.endswith(ending)]


def draw_curves(out: Path, attacks: Sequence[Attack]) -> None:
    """Plot the success rate of planners in training, by the defender they train against."""
    curves = {}
    for attack in attacks:
        if attack.curves and attack.against == attack.defender:
            steps = [step for step, _ in attack.curves[0]]
            rates = np.array([[np.nanmean(wins) for _, wins in curve] for curve in attack.curves])
            curves[f"{attack.system.label} against {attack.against}"] = (steps, rates)
    if curves:
        plot_curves(out / "curve.png", curves, "environment steps", "success rate on held-out scenarios")


def write_page(config: Config, attacks: Sequence[Attack], rows: Sequence[ResultRow]) -> None:
    """Write transcripts of the first system and the planner, where it has them, against the first defender."""
    defender = config.trained_against()[0]
    here = [attack for attack in attacks if attack.defender == defender and not attack.system.own]
    if not here:
        return
    planner = planner_of(config, here)
    shown = {attack.name: attack.episodes[0][:SHOWN] for attack in (here[0], planner) if attack is not None}
    facts = {"model": config.lm, "defender": str(defender), "scenarios": config.heldout, "judge": config.reward}
    write_transcript_page(
        config.out / "transcripts.html", "Attacks on a secret, same scenario and seed", shown, short(rows, defender),
        None, facts,
    )  # fmt: skip


def print_rows(rows: Sequence[ResultRow]) -> None:
    """Print a table: each system's success rate, questions in play and in training, and TD3+BC's rate minus it."""
    differences = {row.system: row for row in rows if row.metric == DIFFERENCE}
    values = {(row.system, row.metric): row.value for row in rows}
    for row in rows:
        if row.metric == ASR:
            asked, trained = (values[row.system, f"{kind}_queries"] for kind in ("defender", "training"))
            line = f"{row.system:<72}{row.value:6.3f} +- {row.ci95:.3f}   {asked:.0f} + {trained:,.0f} questions"
            if other := differences.get(row.system):
                clear = ", zero excluded" if abs(other.value) > other.ci95 else ""
                line += f"   {PLANNER} minus this {other.value:+.3f} +- {other.ci95:.3f}{clear}"
            print(line)
    print()

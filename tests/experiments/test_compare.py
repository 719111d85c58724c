"""The comparison: pairs are pairs, failures are left out and counted, and a killed run ends as the unbroken one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import rounds
from dialog_envs import scenarios
from dialog_envs.judges import SocialJudge
from dialog_envs.lm.steering import UpMapping, UpMappingConfig
from dialog_envs.retry import Failure
from experiments import compare, comparison, evaluate, train
from experiments.comparison import PLANNER, difference_rows, ratio_ci95, transfer_rows
from experiments.episodes import Episode, paired_design
from experiments.statistics import mean_ci95

SYSTEMS = ("unsteered", "random", "self_cloned", "best_fixed", "best_of_n", "td3_bc", "td3", "td3_bc_pca")
SYSTEMS += ("td3_bc_clone", "td3_bc_offline", "td3_bc_forgetful")
HELD_OUT = [scenario.id for scenario in scenarios.load("heldout")]
BROKEN = paired_design(HELD_OUT, 5, 0)[0][2]  # the third of seed 0's scenarios


class Killed(BaseException):
    """What stops a run in these tests."""


def small_env(original):
    return lambda self, **more: original(self, **more) | {"max_new_tokens": 6, "action_dim": 4}


@pytest.fixture
def config(model_folder, tmp_path, monkeypatch) -> compare.Config:
    """A comparison of random models that takes seconds; the second partner is of another family."""
    for settings in (train.Config, evaluate.Config):
        monkeypatch.setattr(settings, "env", small_env(settings.env))
    for kind in ("latent", "clone"):
        torch.manual_seed(len(kind))
        mapping = UpMapping(UpMappingConfig(4, 2, 32, kind=kind), base=kind == "clone")
        mapping.weight.data.normal_()
        mapping.save(tmp_path / f"{kind}.safetensors")
    return compare.Config(
        systems=SYSTEMS, out=tmp_path / "compare", lm=str(model_folder()), partner_lm=str(model_folder("gpt2")),
        up_map=str(tmp_path / "latent.safetensors"), clone_map=str(tmp_path / "clone.safetensors"), transitions=40,
        steps=8, rounds=2, choices=8, candidates=2, seeds=2, rows=4, evaluations=2, evaluation_episodes=3, episodes=5,
        max_turns=2, threads=1,
    )  # fmt: skip


def results(out: Path) -> dict[tuple[str, str], dict]:
    return {(row["system"], row["metric"]): row for row in json.loads((out / "results.json").read_text())}


@pytest.mark.slow
def test_a_killed_comparison_ends_as_the_unbroken_one(config, monkeypatch, capsys):
    judge = SocialJudge.judge
    monkeypatch.setattr(
        SocialJudge,
        "judge",
        lambda self, rows: [
            Failure("the judge is out") if scenario.id == BROKEN else judgement
            for scenario, judgement in zip(rows.scenarios, judge(self, rows), strict=True)
        ],
    )
    collected: list[Path] = []
    collect = train.collect

    def noted(*arguments, path, **more):
        collected.append(path)
        return collect(*arguments, path=path, **more)

    for module in (train, rounds):
        monkeypatch.setattr(module, "collect", noted)
    unbroken = results(compare.run(config))

    # what is there: every system, both partners, every kind of row
    systems = [compare.SYSTEMS[name].label for name in SYSTEMS]
    for system in systems:
        for suffix in ("", ", other partner"):
            metrics = ("episode_return", "goal", "believability", "secret", "perplexity", "distinct_2")
            assert all((system + suffix, metric) in unbroken for metric in metrics)
            row = unbroken[system + suffix, "episode_return"]
            assert (row["n"], row["seeds"]) == (9, 2), "of five dialogues and two seeds one failed"
            assert unbroken[system + suffix, "failed_episodes"]["value"] == 1
        if system != PLANNER:
            row = unbroken[system, "td3_bc_minus_this_return"]
            means = [unbroken[name, "episode_return"]["value"] for name in (PLANNER, system)]
            assert row["value"] == pytest.approx(means[0] - means[1]) and row["n"] == 9
        if system != "unsteered":
            assert {(system, "gain_over_unsteered"), (system, "perplexity_ratio_over_unsteered")} <= unbroken.keys()
            assert (system, "gain_lost_with_other_partner") in unbroken
    assert unbroken[PLANNER, "environment_steps"]["value"] == 40 == unbroken["TD3", "environment_steps"]["value"]
    assert 0 < unbroken["best fixed action", "environment_steps"]["value"] <= 40
    assert PLANNER + " minus unsteered" in capsys.readouterr().out
    written = {file.name for file in config.out.iterdir() if file.is_file()}
    figures = {"curve_td3_bc.png", "curve_online.png", "differences.png"}
    assert figures | {"transcripts.html", "curves.json", "run.json", "results.json"} <= written
    header, _, *lines = (config.out / "table.md").read_text().splitlines()
    assert "goal / unsteered" in header and len(lines) == 2 * len(systems)
    goal = unbroken["TD3, other partner", "goal"]
    cells = next(line for line in lines if line.startswith("| TD3, other partner |")).split(" | ")
    assert cells[header.split(" | ").index("goal")] == f"{goal['value']:.2f} ± {goal['ci95']:.2f}"

    # random transitions are collected once for a mapping and a seed, and shared; those of rounds are a planner's own
    shared = [path.name for path in collected if path.parent.name == "buffers"]
    assert set(shared) == {"main_3_seed_0.safetensors", "main_3_seed_1.safetensors"}
    assert len(collected) == len(shared) + 2 * 2 * 4, "two rounds, two seeds, four planners"
    first = [json.loads((config.out / name / "seed_0/episodes.json").read_text()) for name in SYSTEMS]
    assert len({json.dumps([(e["scenario"], e["seed"]) for e in episodes]) for episodes in first}) == 1

    # killed between the two partners of a cell, and between a planner's training and its evaluation
    evaluated, calls = evaluate.evaluate_seed, []

    def dying(*arguments):
        calls.append(arguments[-1])
        if len(calls) in (4, 12):
            raise Killed
        return evaluated(*arguments)

    broken = replace(config, out=config.out.with_name("broken"))
    monkeypatch.setattr(evaluate, "evaluate_seed", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            compare.run(broken)
    assert not (broken.out / "results.json").exists()
    compare.run(broken)
    assert (calls[3], calls[11]) == ("random, seed 0", "td3_bc, seed 0")
    assert len(calls) == 2 * 2 * len(SYSTEMS) + 2, "what was done is not done again"
    assert results(broken.out) == unbroken

    # other settings take another folder; what was trained can be evaluated alone
    with pytest.raises(ValueError, match=r"was begun with alpha 2.5, now it is 10.0"):
        compare.run(replace(config, alpha=10.0))
    seen = np.zeros((1, 32 + 3 * 4), np.float32)
    trained = evaluate.load_policies(config.out / "best_of_n")
    assert len(trained) == 2 and trained[0](seen).shape == (1, 4)

    # planners are played with noise, from a run folder as in the run; a file, and the best fixed action, without
    planner = evaluate.load_policies(config.out / "td3_bc")[0]
    assert (planner(seen) != planner(seen)).any()
    for without in (config.out / "td3_bc/seed_0/policy.safetensors", config.out / "best_fixed"):
        bare = evaluate.load_policies(without)[0]
        assert (bare(seen) == bare(seen)).all()


def test_a_folder_of_other_weights_is_refused_and_more_systems_are_not(config, tmp_path):
    config = replace(config, systems=("unsteered",), seeds=1, partner_lm=None, episodes=2)
    compare.run(config)
    episodes = config.out / "unsteered/seed_0/episodes.json"
    written = episodes.stat().st_mtime_ns
    rows = results(compare.run(replace(config, systems=("unsteered", "random"))))
    assert ("random actions", "gain_over_unsteered") in rows and episodes.stat().st_mtime_ns == written
    UpMapping(UpMappingConfig(4, 2, 32, kind="latent")).save(tmp_path / "latent.safetensors")
    with pytest.raises(ValueError, match=r"was begun with .*latent.safetensors"):
        compare.run(config)


def test_bad_input_is_refused_by_name(config):
    with pytest.raises(ValueError, match=r"unknown system 'td3bc'.*td3_bc"):
        compare.run(replace(config, systems=("td3bc",)))
    with pytest.raises(ValueError, match="the budget is 3 steps, a search among 2 fixed actions takes 4"):
        compare.run(replace(config, systems=("best_fixed",), transitions=3, candidates=2, max_turns=2))


def dialogues(*returns: list[float | None]) -> list[list[Episode]]:
    """Seeds of episodes with these returns and twice the goal; None is a failed one."""
    made = []
    for group in returns:
        episodes = [Episode("x", i, rewards=[r or 0.0], scores=[{"goal": 2 * (r or 0.0)}]) for i, r in enumerate(group)]
        for episode, value in zip(episodes, group, strict=True):
            episode.error = "down" if value is None else None
        made.append(episodes)
    return made


def test_differences_are_of_pairs_and_leave_failures_out():
    episodes = {"unsteered": dialogues([1.0, 5.0, None]), PLANNER: dialogues([2.0, 6.5, 9.0])}
    rows = {row.metric: row for row in difference_rows(episodes)}
    row = rows["td3_bc_minus_this_return"]
    assert (row.system, row.value, row.n) == ("unsteered", 1.25, 2)
    assert row.ci95 == pytest.approx(mean_ci95([1.0, 1.5])[1])
    assert rows["td3_bc_minus_this_goal"].value == 2.5
    assert difference_rows({"unsteered": dialogues([1.0])}) == []


def test_seeds_that_disagree_widen_the_interval_of_a_difference():
    base = dialogues([1.0] * 50, [1.0] * 50, [1.0] * 50)
    apart = dialogues([1.0] * 50, [2.0] * 50, [3.0] * 50)
    (row, _) = difference_rows({"x": base, PLANNER: apart})
    assert row.value == 1.0 and row.ci95 == pytest.approx(mean_ci95([0, 1, 2])[1])


def test_the_gain_that_is_lost_by_hand():
    own = {"unsteered": dialogues([1.0, 1.0]), PLANNER: dialogues([3.0, 4.0])}
    other = {"unsteered": dialogues([0.0, 2.0]), PLANNER: dialogues([1.0, 3.0])}
    (row,) = transfer_rows(own, other)
    assert (row.system, row.metric, row.value) == (PLANNER, "gain_lost_with_other_partner", 1.5)


def test_a_ratio_and_its_interval():
    rng = np.random.default_rng(0)
    hits, ratios = 0, []
    for _ in range(400):
        below = rng.normal(2.0, 1.0, (1, 200))
        above = 1.5 * below + rng.normal(0.2, 1.0, (1, 200))
        ratio, ci95, count = ratio_ci95(above, below)
        hits += abs(ratio - 1.6) <= ci95
        ratios.append(ratio)
    assert count == 200 and np.mean(ratios) == pytest.approx(1.6, abs=0.01)
    assert hits / 400 == pytest.approx(0.95, abs=0.03)
    ratio, ci95, count = ratio_ci95(np.array([[1.0, np.nan]]), np.array([[0.0, 1.0]]))
    assert np.isnan(ratio) and np.isnan(ci95) and count == 1


def test_a_planner_that_is_not_there_is_not_drawn(tmp_path, tiny_lm):
    found = comparison.Results({"random actions": dialogues([1.0, 2.0])}, {}, {}, {}, {})
    assert comparison.draw_curves(tmp_path, found) == []

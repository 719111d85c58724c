"""A sweep: cells of every kind, killed and resumed, in processes as in one; its page says what was measured."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch

from dialog_envs import scenarios
from dialog_envs.lm.steering import UpMapping, UpMappingConfig
from experiments import evaluate, steering, train
from experiments.episodes import Episode
from experiments.plots import plot_trade_off
from experiments.run_folder import open_run
from experiments.sweep import Config, findings, grid
from experiments.sweep import cells as cells_of_sweep
from experiments.sweep.config import CELLS, CHANGEABLE, SWEEPS, UNSTEERED, VALUES, Cell, Sweep
from experiments.sweep.findings import GAIN, QUESTIONS, Measured, answers, result_rows

SMALL = {
    "action_dim": Sweep("Action dimension", ("trained_d2_l2_start", "trained_d4_l2_start"), "d'"),
    "algorithm": Sweep("Algorithm", ("latent", "reinforce_0.0003")),
    "self_cloning": Sweep("Self-cloning", ("cloned_map", "pca")),
}


class Killed(BaseException):
    """What stops a run in these tests."""


@pytest.fixture
def config(model_folder, tmp_path, monkeypatch) -> Config:
    """A sweep of tiny random models that takes seconds."""
    lm = tmp_path / "lm"
    shutil.copytree(model_folder(), lm)
    (lm / "up_maps").mkdir()
    torch.manual_seed(0)
    mapping = UpMapping(UpMappingConfig(4, 2, 32, kind="latent"))
    mapping.weight.data.normal_()
    mapping.save(lm / "up_maps/latent.safetensors")
    monkeypatch.setitem(CELLS, "pca", Cell("pca", mapping=replace(CELLS["pca"].mapping, action_dim=4)))
    for name, sweep in SMALL.items():
        monkeypatch.setitem(SWEEPS, name, sweep)
    monkeypatch.setitem(VALUES, "action_dim", (2, 4))
    return Config(
        name="action_dim", out=tmp_path / "sweep", lm=str(lm), transitions=16, steps=4, rounds=2, seeds=2, rows=4,
        evaluations=1, evaluation_episodes=3, episodes=5, max_turns=2, mapping_steps=2, mapping_utterances=8,
        reinforce_rows=4, workers=1,
    )  # fmt: skip


@pytest.fixture
def short(monkeypatch):
    for settings in (train.Config, evaluate.Config):
        original = settings.env
        short = lambda self, original=original, **more: original(self, **more) | {"max_new_tokens": 6}  # noqa: E731
        monkeypatch.setattr(settings, "env", short)


def results(out: Path) -> dict[tuple[str, str], dict]:
    rows = {(row["system"], row["metric"]): row for row in json.loads((out / "results.json").read_text())}
    return {place: row for place, row in rows.items() if place[1] != "cpu_minutes"}


@pytest.mark.slow
def test_every_kind_of_cell_and_a_killed_sweep_ends_as_the_unbroken_one(config, short, monkeypatch):
    for name in SMALL:
        out = grid.run(replace(config, name=name))
    unbroken = results(out)
    labels = {CELLS[key].label for sweep in SMALL.values() for key in sweep.cells} | {UNSTEERED}
    assert {system for system, _ in unbroken} == labels
    for label in labels:
        assert unbroken[label, "episode_return"]["n"] == 10 and unbroken[label, "perplexity"]["seeds"] == 2
        assert ((label, GAIN) in unbroken) == (label != UNSTEERED)
    latents = [UpMapping.load(out / f"cells/trained_d{d}_l2_start/seed_0/latent.safetensors") for d in (2, 4)]
    assert [mapping.config.action_dim for mapping in latents] == [2, 4]
    seeds = [UpMapping.load(out / f"cells/cloned_map/seed_{seed}/clone.safetensors") for seed in (0, 1)]
    assert not torch.equal(seeds[0].weight, seeds[1].weight), "a seed is a training of its own, the mapping's too"
    page = (out / "sweep.html").read_text()
    assert all(label in unescape(page) for label in labels) and page.count("data:image/png") == 4
    assert "://" not in page.replace("http://www.w3.org", "")  # "http" alone may be part of an image

    evaluated, calls = evaluate.evaluate_seed, []

    def dying(*arguments):
        calls.append(arguments[-1])
        if len(calls) == 3:
            raise Killed
        return evaluated(*arguments)

    monkeypatch.setattr(evaluate, "evaluate_seed", dying)
    broken = replace(config, out=config.out.with_name("broken"))
    with pytest.raises(Killed):
        grid.run(broken)
    grid.run(broken)
    assert len(calls) == 1 + 3 * 2, "what was done is not done again"
    found = results(broken.out)
    assert found and found == {place: row for place, row in unbroken.items() if place in found}
    with pytest.raises(ValueError, match="was begun with transitions 16, now it is 32"):
        grid.run(replace(config, transitions=32))


@pytest.mark.slow
def test_cells_in_processes_find_what_one_process_finds(config):
    small = replace(config, name="action_dim", seeds=1)
    assert results(grid.run(small)) == results(grid.run(replace(small, out=config.out.with_name("two"), workers=2)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cells_on_ray_find_what_one_process_finds(config, monkeypatch):
    pytest.importorskip("ray", reason="the package ray is not installed: pip install 'dialog-envs[ray]'")
    small = replace(config, name="action_dim", seeds=1)
    here = results(grid.run(small))
    monkeypatch.chdir(config.out.parent)
    spread = replace(small, out=Path("ray"), backend="ray", workers=2)
    assert results(grid.run(spread)) == here


@pytest.mark.slow
def test_a_cell_that_fails_stops_no_other(config, short, monkeypatch):
    small = replace(config, seeds=1)
    grid.run(replace(small, name="action_dim"))
    evaluated = evaluate.evaluate_seed

    def failing(*arguments):
        if arguments[-1] == "latent, seed 0":
            raise RuntimeError("out of memory")
        return evaluated(*arguments)

    monkeypatch.setattr(evaluate, "evaluate_seed", failing)
    (config.out / "sweep.html").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 cells failed.*latent, seed 0: RuntimeError: out of memory"):
        grid.run(replace(small, name="algorithm"))
    labels = {system for system, _ in results(config.out)}
    assert CELLS["reinforce_0.0003"].label in labels and CELLS["latent"].label not in labels
    assert "sweep algorithm" in unescape((config.out / "sweep.html").read_text())
    monkeypatch.setattr(evaluate, "evaluate_seed", evaluated)
    grid.run(replace(small, name="algorithm"))
    assert CELLS["latent"].label in {system for system, _ in results(config.out)}


@pytest.mark.slow
def test_what_cells_share_is_made_once_and_changes_no_bit(config, short, monkeypatch):
    said, collected = steering.collect_utterances, []

    def counted(*arguments, path=None, **more):
        collected.append(path.exists())
        return said(*arguments, path=path, **more)

    monkeypatch.setattr(steering, "collect_utterances", counted)
    monkeypatch.setattr(steering, "clone_rows", None)
    small = replace(config, seeds=1)
    for name in SMALL:
        grid.run(replace(small, name=name))
    assert collected == [False, True, True, True, True], "once: what comes after reads it"
    alone = config.out.with_name("alone")
    alone.mkdir()
    monkeypatch.setattr(steering, "collect_utterances", said)
    for key, name in (("trained_d2_l2_start", "latent"), ("cloned_map", "clone")):
        path, _, _ = steering.train_mapping(cells_of_sweep.mapping_config(small, CELLS[key].mapping, 0), alone)
        assert path.read_bytes() == (config.out / f"cells/{key}/seed_0/{name}.safetensors").read_bytes()
    cells_of_sweep.train.train_seed(cells_of_sweep.training_config(small, CELLS["latent"]), 0, alone)
    policies = [folder / "seed_0/policy.safetensors" for folder in (alone, config.out / "cells/latent")]
    assert policies[0].read_bytes() == policies[1].read_bytes()
    assert not (config.out / "cells/latent/seed_0/round_0/buffer.safetensors").exists()


def test_a_sweep_keeps_its_device_and_its_encoder(config, tmp_path):
    asked = replace(config, device="meta", dtype="bfloat16")
    mapping = cells_of_sweep.mapping_config(asked, CELLS["cloned"].mapping, 0)
    for arguments in (evaluate.Config.of(asked).env(), mapping.env(), asked.env()):
        assert (arguments["device"], arguments["dtype"]) == ("meta", "bfloat16")
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "config.json").write_text("{}")
    begun = replace(config, coherence=encoder)
    files = [encoder / "config.json"]
    open_run(begun.out, "sweep", begun, files, CHANGEABLE)
    with pytest.raises(ValueError, match="was begun with coherence"):
        grid.run(config)
    files[0].write_text("other")
    with pytest.raises(ValueError, match=r"was begun with .*config\.json"):
        grid.run(begun)


def measured(label: str, level: float, perplexity: float = 2.0) -> Measured:
    """Return a cell whose returns lie around a level, two seeds of eight dialogues, alike in every cell."""
    returns = level + np.tile([0.05, -0.05], 4)
    episodes = [[Episode("s", i, rewards=[value]) for i, value in enumerate(returns)] for _ in range(2)]
    language = [{"perplexity": perplexity + 0.008 * seed, "distinct_2": 0.4} for seed in range(2)]
    return Measured(label, episodes, language, [1.0, 2.0])


def cells(levels: dict[str, float], perplexities: dict[str, float] | None = None) -> dict[str, Measured]:
    if perplexities is None:
        perplexities = {}
    return {key: measured(CELLS[key].label, level, perplexities.get(key, 2.0)) for key, level in levels.items()}


def test_answers_follow_the_numbers():
    keys = SWEEPS["action_dim"].cells
    for best in (keys[1], keys[-1]):
        found = cells({UNSTEERED: 1.0} | dict.fromkeys(keys, 1.5) | {best: 2.5})
        said = " ".join(answers(found)[QUESTIONS[0]])
        assert f"{CELLS[best].label} has the highest return, 2.50" in said
        assert "its gain over the unsteered model is 1.50" in said and "(zero excluded)" in said
        assert "It is clearly above" in said and "cannot be told" not in said
        assert "python -m experiments sweep prefix_length" in said, "what was not measured is not answered"
    flat = answers(cells({UNSTEERED: 1.0} | dict.fromkeys(keys, 1.0)))[QUESTIONS[0]]
    assert "(zero not excluded)" in flat[0]
    rising = cells({UNSTEERED: 1.0} | {key: 1.0 + i for i, key in enumerate(keys)})
    assert "show a trend (rank correlation 1.00" in " ".join(answers(rising)[QUESTIONS[0]])


def test_the_answer_on_language_compares_steered_with_own_weights():
    keys = SWEEPS["algorithm"].cells
    levels = {UNSTEERED: 1.0} | dict.fromkeys(keys, 1.5) | {"sac": 2.0, "reinforce_0.0003": 2.2}
    said = answers(cells(levels, {"reinforce_0.0003": 9.0}))[QUESTIONS[1]]
    assert said[0].startswith("Best with steered: SAC, gain 1.00")
    alike = "2.00 ± 0.05 against 2.00 ± 0.05 unsteered, a difference of 0.00 ± 0.00 (zero not excluded)"
    assert f"perplexity under the unsteered model {alike}" in said[0]
    assert said[1].startswith("Best with own weights: REINFORCE on the LM, rate 0.0003, gain 1.20")
    other = "9.00 ± 0.05 against 2.00 ± 0.05 unsteered, a difference of 7.00 ± 0.00 (zero excluded)"
    assert other in said[1]


def test_language_is_compared_seed_by_seed():
    def cell(*perplexities: float) -> Measured:
        return Measured("", [], [{"perplexity": value} for value in perplexities], [])

    unsteered = cell(2.0, 3.0, 4.0)
    (said,) = findings.shifts(cell(2.5, 3.5, 4.51), unsteered)
    assert "a difference of 0.50 ± 0.01 (zero excluded)" in said, "intervals of the two would meet"
    (said,) = findings.shifts(cell(2.5, 2.9, 4.5), unsteered)
    assert "(zero not excluded)" in said
    (said,) = findings.shifts(cell(9.0), cell(2.0))
    assert said.endswith("a difference of 7.00 (one seed: whether it is zero cannot be told)")


def test_self_cloning_is_compared_with_what_was_cloned():
    keys = SWEEPS["self_cloning"].cells
    said = answers(cells({UNSTEERED: 1.0} | dict.fromkeys(keys, 1.5) | {"cloned_pca": 1.0, "cloned": 2.0}))[
        QUESTIONS[2]
    ]
    assert "planner self-cloned over TD3+BC, shipped latent 0.50" in said[-1] and "(zero excluded)" in said[-1]
    assert "pca, planner and mapping self-cloned over pca -0.50" in said[-1]
    assert said[0].startswith("Reinforcement learning algorithm: not measured; `python -m experiments sweep algorithm`")


def test_a_failed_dialogue_is_in_no_number():
    found = cells({UNSTEERED: 1.0, "latent": 2.0})
    found["latent"].episodes[0][0].error, found["latent"].episodes[0][0].rewards = "partner: out", [99.0]
    rows = {(row.system, row.metric): row for row in result_rows(found)}
    label = CELLS["latent"].label
    assert rows[label, GAIN].value == pytest.approx(1.0, abs=0.1) and rows[label, GAIN].n == 15
    assert rows[label, "failed_episodes"].value == 1


def test_the_design_is_what_was_asked_for():
    values = [CELLS[key].mapping.action_dim for key in SWEEPS["action_dim"].cells]
    assert values == [2, 4, 8, 16, 32, 64] == list(VALUES["action_dim"])
    assert [CELLS[key].mapping.prefix_length for key in SWEEPS["prefix_length"].cells] == [1, 2, 4, 8]
    assert [CELLS[key].mapping.position for key in SWEEPS["position"].cells] == ["start", "mid", "end"]
    assert {CELLS[key].algorithm for key in SWEEPS["algorithm"].cells} == {"td3_bc", "td3", "sac", "ppo", "reinforce"}
    labels = [cell.label for cell in CELLS.values()]
    assert len(set(labels)) == len(labels) and all(key in CELLS for sweep in SWEEPS.values() for key in sweep.cells)
    assert Config(name="all").seeds == 3 and grid.cells_of("all")[0] == findings.UNSTEERED
    assert len(scenarios.load("heldout")) == Config(name="all").episodes, "each held-out scenario once a seed"


def test_trade_off_without_any_measure_is_still_a_file(tmp_path):
    points = {"a": {"r": (1.0, float("nan")), "p": (2.0, 0.1)}, "b": {"r": (1.5, 0.2), "p": (3.0, float("nan"))}}
    assert plot_trade_off(tmp_path / "a.png", points, ("r", "return"), {"p": "perplexity"}).stat().st_size > 0

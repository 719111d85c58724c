"""The measurements run at a tiny shape, and their tables hold what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.buffers import ReplayBuffer
from agents.rounds import CHECKPOINT_EVERY
from agents.td3_bc import TD3BC, TD3BCConfig
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.steering import pca_mapping
from experiments import bench, resume, train
from experiments.__main__ import main
from experiments.bench import VERBS, big, learner, steps, table, workers


def results(out: Path) -> dict[tuple[str, str], float]:
    rows = json.loads((out / "results.json").read_text())
    return {(row["system"], row["metric"]): row["value"] for row in rows}


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", verb, "--help"])
    assert stop.value.code == 0 and f"bench {verb}" in capsys.readouterr().out


def test_table(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MANY", 3)
    monkeypatch.setattr(table, "FEW", 1)
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(self))  # it takes minutes
    config = table.Config(
        out=tmp_path, sizes=("tiny",), rows=(1, 3), positions=("start", "end"), costs="tiny", cost_rows=3, repeats=2,
        history_tokens=64, reply_tokens=4, judge=None, threads=1, compile=True,
    )  # fmt: skip
    found = results(table.run(config))
    cells = {system for system, metric in found if metric == "turns_per_second"}
    assert cells == {f"tiny {position} {rows} rows" for position in ("start", "end") for rows in (1, 3)}
    costs = {system for system, metric in found if metric == "milliseconds"}
    assert {metric for system, metric in found if system == "tiny end 3 rows"} == {"turns_per_second", "times_1_rows"}
    assert len(compiled) == 1 and len(costs) == 11 and all(value > 0 for value in found.values())
    written = (tmp_path / "table.md").read_text()
    assert "| 3 rows | 3 over 1 rows |" in written and "| tiny | end | " in written
    assert all(f"| {cost} | " in written for cost in costs)


def test_a_measured_step_has_the_length_that_was_asked_for():
    lm = steps.random_lm("tiny")
    core = steps.make_core(lm, 4, "end", 8)
    with steps.full_length(lm):
        actions = steps.begin(core, lm, 96, 8, (0, 0))
    dialogues = [state.dialogue for state in core.states]
    lengths = [len(prompt.ids) for prompt in lm.prompts.render_batch(dialogues, ["agent"] * 4)]
    assert np.mean(lengths) == pytest.approx(96, abs=16)  # a random model's words tokenise anew as others
    core.step(actions)
    tokens = steps.token_counts(lm, core, dialogues, 8)
    assert tokens["decode"] == 2 * 4 * 7 and tokens["prompt"] == sum(lengths)
    whole = sum(p.numel() for p in lm.model.parameters() if p.ndim == 2)
    assert sum(steps.parameters(lm)) == whole


def test_a_big_model_at_tiny_shape(tmp_path):
    config = big.Config(
        out=tmp_path, size="tiny", device="cpu", dtype="bfloat16", rows=(1, 2), history_tokens=64, reply_tokens=4,
        repeats=2,
    )  # fmt: skip
    found = results(big.run(config))
    assert found["tiny bfloat16 2 rows", "turns_per_second"] > 0
    assert found["tiny bfloat16 2 rows", "step_over_gemm_floor"] > 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_named(tmp_path, capsys):
    assert main(["bench", "big", "--out", str(tmp_path / "never")]) == 1
    assert "device is 'cuda', but torch sees 0 CUDA devices here" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_learner(tmp_path):
    config = learner.Config(
        out=tmp_path, obs_dim=4, action_dim=2, hidden=(8, 8), batch_size=16, gradient_steps=8, repeats=2, env_steps=240,
        learning_starts=100, points=2, episodes=1, seeds=2, threads=1,
    )  # fmt: skip
    found = results(learner.run(config))
    assert found["td3_bc", "times_as_fast"] > 0 and ("td3_bc - sb3_td3", "mean_return_of_the_curve") in found
    assert (tmp_path / "curve.png").stat().st_size > 0


def test_the_learners_are_measured_in_turn(monkeypatch):
    timed = []
    monkeypatch.setattr(learner, "timed", lambda way: timed.append(way) or 1.0 + len(timed))
    config = learner.Config(obs_dim=4, action_dim=2, hidden=(8,), batch_size=4, gradient_steps=1, repeats=3)
    found = {(row.system, row.metric): row.value for row in learner._speed(config)}
    assert timed[::2] == [timed[0]] * 4 and timed[1::2] == [timed[1]] * 4 and timed[0] is not timed[1]
    assert found["td3_bc", "times_as_fast"] == pytest.approx(np.mean([5 / 4, 7 / 6, 9 / 8]))


def test_transformers_way_takes_the_state_without_a_prediction_for_each_token():
    lm = steps.random_lm("tiny")
    core = steps.make_core(lm, 2, "start", 2)
    steps.begin(core, lm, 64, 2, (0, 0))
    lengths = []
    lm.model.lm_head.register_forward_hook(lambda module, given, logits: lengths.append(logits.shape[1]))
    mapped = torch.zeros(2, 2, lm.hidden_size)
    bench._hf_batch(bench.Config(reply_tokens=2), lm, lm.model, [state.dialogue for state in core.states], mapped)
    assert set(lengths) == {1}


def test_our_gradients_move_the_actor_that_acts():
    config = learner.Config(hidden=(8, 8), batch_size=16)
    model = learner._td3(learner.OwnGradients, learner.gym.make("Pendulum-v1"), config, 0, learning_starts=20)
    obs = np.zeros((1, 3), np.float32)
    before = model.predict(obs, deterministic=True)[0]
    model.learn(40)
    after = model.predict(obs, deterministic=True)[0]
    assert model.learner.steps == 20 and not np.array_equal(before, after)
    np.testing.assert_allclose(after[0], 2 * model.learner.act(obs)[0], rtol=1e-5)  # Pendulum's actions reach to 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers(model_folder, tmp_path):
    pytest.importorskip("ray", reason="the package ray is not installed: pip install 'dialog-envs[ray]'")
    config = workers.Config(
        out=tmp_path, env_id="dialog_envs:DialogEnvs/DATRedTeam-v0", lm=str(model_folder()),
        up_map=str(saved_mapping(model_folder(), tmp_path)), rows=2, steps=1, repeats=2, max_new_tokens=6,
    )  # fmt: skip
    found = results(workers.run(config))
    assert found["1 workers", "times_the_first"] == 1 and found["2 workers", "turns_per_second"] > 0
    assert (tmp_path / "table.md").read_text().count("\n| 2 | 4 | ") == 1


def saved_mapping(folder: Path, out: Path) -> Path:
    pca_mapping(FrozenLM.from_pretrained(folder).embeddings.weight.detach(), 4).save(out / "mapping.safetensors")
    return out / "mapping.safetensors"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_is_killed_ends_as_the_unbroken_one(model_folder, tmp_path):
    trained = train.Config(
        algorithm="best_of_n", lm=str(model_folder()), up_map=str(saved_mapping(model_folder(), tmp_path)),
        transitions=256, rows=4, seeds=1, evaluation_episodes=4, max_turns=2, choices=8,
    )  # fmt: skip
    config = resume.Config(out=tmp_path / "resume", kills=2, train=trained)
    found = results(resume.run(config))
    assert found["run", "files_that_differ"] == 0 and found["run", "files_compared"] >= 3
    kills = json.loads((tmp_path / "resume" / resume.KILLS).read_text())
    assert len(kills) == 2 and all(0 <= kill["share"] <= 1 for kill in kills)
    assert found["run", "kills_within_a_phase"] == sum(0 < kill["share"] < 1 for kill in kills)
    policy = tmp_path / "resume/broken/seed_0/best_of_n.safetensors"
    spoil(policy)
    assert resume._differences(tmp_path / "resume/unbroken", tmp_path / "resume/broken")[0] == [
        "seed_0/best_of_n.safetensors"
    ]
    with pytest.raises(FileExistsError, match="is there already"):
        resume.run(config)


def test_a_kill_is_placed_by_the_newest_state(tmp_path):
    settings = resume.Config().train
    assert resume._place(tmp_path, settings) == {"state": None, "share": 0.0}
    buffer = ReplayBuffer(8, 2, 1)
    buffer.add(*(np.zeros((2, *size), np.float32) for size in ((2,), (1,), (2,), (), ())))
    buffer.save(tmp_path / "round_0" / "buffer.safetensors")
    assert resume._place(tmp_path, settings) == {"state": "round_0/buffer.safetensors", "share": 0.25}
    learner = TD3BC(2, 1, TD3BCConfig(hidden=(4,), batch_size=2))
    learner.train(buffer, 300, checkpoint_dir=tmp_path / "round_0", progress=False)
    assert resume._place(tmp_path, settings) == {"state": "round_0/td3_bc.safetensors", "share": 0.5}


def test_phases_are_saved_in_their_middle():
    settings = resume.Config().train
    assert settings.steps > 2 * CHECKPOINT_EVERY
    assert 2 * 32 * settings.rows < settings.transitions / settings.rounds, "steps of `collect` between two states"


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))

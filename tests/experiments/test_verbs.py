"""Every verb explains itself and runs from end to end on a tiny model."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dialog_envs.judges import SocialJudge
from experiments import bench, demo, dmi, evaluate, meed2, obedience, steering, train, watch
from experiments.__main__ import VERBS, main
from experiments.episodes import paired_design, run_episodes

COLUMNS = {"system", "metric", "value", "ci95", "n", "seeds"}


def results(out):
    rows = json.loads((out / "results.json").read_text())
    assert rows and all(set(row) == COLUMNS for row in rows)
    run = json.loads((out / "run.json").read_text())
    assert {"config", "versions", "git", "data"} <= set(run)
    return {(row["system"], row["metric"]): row["value"] for row in rows}


GROUPS = {"dmi": dmi.VERBS, "meed2": meed2.VERBS}  # verbs that do nothing without one of their own


@pytest.mark.parametrize(
    "command",
    [*sorted({*VERBS} - {*GROUPS}), *(f"{group} {verb}" for group, verbs in GROUPS.items() for verb in verbs)],
)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert "--out" in capsys.readouterr().out


def test_usage_names_every_verb(capsys):
    assert main([]) == 2
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


def test_bad_input_is_one_line(capsys):
    assert main(["evaluate", "--lm", "/nowhere/at/all", "--out", "/tmp/never"]) == 1
    assert "/nowhere/at/all" in capsys.readouterr().err


@pytest.mark.slow
def test_bench(model_folder, tmp_path):
    config = bench.Config(
        out=tmp_path, lm=str(model_folder()), dialogues=4, single_dialogues=2, repeats=2, threads=1, reply_tokens=6
    )
    found = results(bench.run(config))
    assert found["dialogues", "prompt_tokens"] == pytest.approx(
        96, abs=16
    )  # a random model's words tokenise anew as others
    assert found["dialog_envs", "speedup_over_one_dialogue"] > 0


def test_obedience_of_a_random_model_is_poor(model_folder, tmp_path):
    small = {"dialogues": 200, "per_cell": 2, "scenarios": 20, "seeds": 1}
    found = results(obedience.run(obedience.Config(out=tmp_path, lm=str(model_folder()), **small)))
    assert found["heldout values", "right_fact_when_asked"] < 0.05
    assert found["heldout values", "guarded/obedience"] < 0.2
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert len([answer for answer in answers if answer["part"] == "facts"]) == 4 * (20 + 20)


@pytest.mark.slow
def test_steering_trains_and_measures(model_folder, tmp_path):
    shared = {"lm": str(model_folder()), "actions": 3, "contexts": 6, "max_new_tokens": 6, "action_dim": 4}
    shared |= {"train_steps": 3, "train_utterances": 24, "rows": 6, "scenarios": "acquaintance/train"}
    latent = steering.run(steering.Config(out=tmp_path / "latent", train="latent", **shared))
    assert ("latent", "bits_bigram_permuted") in results(latent)
    start = str(latent / "latent.safetensors")
    clone = steering.run(steering.Config(out=tmp_path / "clone", train="clone", up_map=start, **shared))
    assert ("clone", "kl_nats_a_token") in results(clone)
    assert (clone / "rewards.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["td3_bc", "td3", "sac", "ppo", "best_of_n", "best_fixed"])
def test_train_then_evaluate(algorithm, model_folder, tmp_path, monkeypatch):
    folder = str(model_folder())
    monkeypatch.setattr(train.Config, "env", small_env(train.Config.env))
    config = train.Config(
        algorithm=algorithm, out=tmp_path / "train", lm=folder, up_map="pca", transitions=32, steps=8, seeds=1, rows=4,
        rounds=2, evaluations=2, evaluation_episodes=4, max_turns=2, choices=8, candidates=2, past_actions=1,
    )  # fmt: skip
    out = train.run(config)
    points = {"ppo": 1, "best_of_n": 1, "best_fixed": 1}  # PPO steps whole rollouts, the last two are measured once
    assert len(results(out)) == points.get(algorithm, 2)
    assert (out / "curve.png").stat().st_size > 0
    monkeypatch.setattr(evaluate.Config, "env", small_env(evaluate.Config.env))
    config = evaluate.Config(
        ("unsteered", "random", str(out)), tmp_path / "evaluate", folder, up_map="pca", episodes=4, seeds=2, rows=4
    )
    found = results(evaluate.run(config))  # whose own number of past actions is another
    assert ("train", "gain_over_unsteered") in found and ("random", "perplexity") in found
    other = replace(config, policies=(str(out),), lm="pocket", out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"were trained on lm .*, expected 'pocket'"):
        evaluate.run(other)


@pytest.mark.slow
def test_a_held_out_judge_is_logged_beside_the_curve(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(train.Config, "env", small_env(train.Config.env))
    monkeypatch.setattr(watch, "make_judge", lambda name: SocialJudge())  # so what it says is known
    config = train.Config(
        out=tmp_path, lm=str(model_folder()), up_map="pca", transitions=16, rounds=2, steps=2, seeds=1, rows=4,
        evaluation_episodes=4, max_turns=2, watch=("other",),
    )  # fmt: skip
    train.run(config)
    events = EventAccumulator(str(tmp_path / "seed_0")).Reload()
    returns, seen = ([(e.step, e.value) for e in events.Scalars(tag)] for tag in ("rollout/ep_rew_mean", "watch/other"))
    assert [step for step, _ in seen] == [8, 16]
    np.testing.assert_allclose(seen, returns, rtol=1e-6)
    with pytest.raises(ValueError, match="'social_score' is the reward"):
        train.run(replace(config, out=tmp_path / "again", watch=("social_score",)))


@pytest.mark.slow
def test_demo_runs_on_the_shipped_model(tmp_path):
    config = demo.Config(
        max_turns=2,
        out=tmp_path,
        transitions=32,
        steps=4,
        seeds=1,
        episodes=3,
        candidates=2,
        search_transitions=8,
        rows=4,
        threads=1,
    )
    found = results(demo.run(config))
    systems = ("unsteered", "random", "best fixed action", "self-cloned", "TD3+BC")
    assert all((system, "episode_return") in found for system in systems)
    assert all((tmp_path / name).stat().st_size > 0 for name in ("curve.png", "transcripts.html"))
    asked = evaluate.Config(max_turns=2)
    assert evaluate.find_system(str(tmp_path / "td3_bc"), asked).arguments["past_actions"] == 1
    with pytest.raises(ValueError, match="was begun with transitions 32, now it is 64"):
        demo.run(replace(config, transitions=64))


def small_env(original):
    return lambda self, **more: original(self, **more) | {"max_new_tokens": 6, "action_dim": 4}


def test_episodes_do_not_depend_on_the_batch(model_folder):
    arguments = {"lm": str(model_folder()), "up_map": "none", "action_dim": 4, "max_new_tokens": 6, "max_turns": 2}
    arguments["scenarios"] = "comfort/train"
    ids, seeds = paired_design(["comfort/train/0001", "comfort/train/0002"], 5, 0)
    zero = lambda observations: np.zeros((len(observations), 4), np.float32)  # noqa: E731
    one, many = (run_episodes(arguments, zero, ids, seeds, rows=rows) for rows in (1, 3))
    assert [episode.turns for episode in one] == [episode.turns for episode in many]
    assert [episode.episode_return for episode in one] == pytest.approx([e.episode_return for e in many])


def test_a_newcomer_can_ask_for_help():
    done = subprocess.run([sys.executable, "-m", "experiments", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "demo" in done.stdout

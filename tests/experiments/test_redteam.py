"""Red teaming: rates and differences by hand, cells that resume, and every kind of row on a tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.rounds import Rounds
from agents.td3_bc import TD3BCConfig
from dialog_envs import judges, scenarios
from dialog_envs.judges import RoundJudge
from dialog_envs.lm.steering import UpMapping, UpMappingConfig
from dialog_envs.scenarios.scenario import PARTNER
from experiments import redteam
from experiments.comparison import PLANNER
from experiments.episodes import Episode, paired_design
from experiments.redteam import attack, report
from experiments.redteam.config import SYSTEMS, Defender, System
from experiments.redteam.report import ASR, DIFFERENCE, Attack, ci95, planner_of, rate_ci95
from experiments.statistics import mean_ci95

LM, CAREFUL = Defender("lm"), Defender("careful")
KINDS = ("unsteered", "random", "best_of_n", "self_cloned", "best_of_n_fit", "best_fixed", "td3_bc", "td3_bc_scenario")


class Killed(BaseException):
    """What stops a run in this test."""


@pytest.fixture
def config(model_folder, tmp_path, monkeypatch) -> redteam.Config:
    """A run of a random model that takes seconds; a round is won where the reply has an odd number of letters."""
    env = redteam.Config.env
    monkeypatch.setattr(redteam.Config, "env", lambda self, *a, **more: env(self, *a, **more) | {"action_dim": 4})
    odd = RoundJudge(lambda rows: [float(len(dialogue.texts(PARTNER)[-1]) % 2) for dialogue in rows.dialogues])
    monkeypatch.setitem(judges.JUDGES, "disclosure", lambda: odd)
    torch.manual_seed(0)
    UpMapping(UpMappingConfig(4, 2, 32, kind="clone"), base=True).save(tmp_path / "clone.safetensors")
    return redteam.Config(
        systems=KINDS, out=tmp_path / "redteam", defenders=("lm",), unseen=("careful",), lm=str(model_folder()),
        up_map="pca", clone_map=str(tmp_path / "clone.safetensors"), max_turns=2, max_new_tokens=6,
        choices=4, candidates=2, own_scenarios=2, training=Rounds(24, 2, 3), own_training=Rounds(12, 2, 2),
        planner=TD3BCConfig(hidden=(8,), batch_size=8), seeds=2, episodes=60, evaluation_episodes=4, rows=32, threads=1,
    )  # fmt: skip


def results(out: Path) -> dict[tuple[str, str], dict]:
    return {(row["system"], row["metric"]): row for row in json.loads((out / "results.json").read_text())}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_killed_run_ends_as_the_unbroken_one(config, monkeypatch, capsys):
    unbroken = results(redteam.run(config))
    for defender in (LM, CAREFUL):
        for name in KINDS:
            moved = " trained against lm" if SYSTEMS[name].trained and defender == CAREFUL else ""
            own = ", 2 scenarios" if SYSTEMS[name].own else ""
            system = f"{SYSTEMS[name].label}{moved}{own}, against {defender}"
            row = unbroken[system, ASR]
            assert own or (0 < row["value"] < 1 and row["ci95"] > 0), "four dialogues may all end alike"
            assert 0 <= row["value"] <= 1 and row["seeds"] == 2
            assert row["n"] == (4 if own else 120)
            assert unbroken[system, "defender_queries"]["value"] == 2
            if name not in ("td3_bc", "td3_bc_scenario"):
                assert (system, DIFFERENCE) in unbroken
            if name != "best_of_n":
                assert (system, "watch/social_score/goal") in unbroken and (system, "perplexity") in unbroken
    for name in ("best of N actions by a fit", "best fixed action", PLANNER):
        assert unbroken[f"{name}, against lm", "training_queries"]["value"] == 24
    own = f"{PLANNER} per scenario, 2 scenarios, against lm"
    assert (unbroken[own, "defender_queries"]["value"], unbroken[own, "training_queries"]["value"]) == (2, 12)
    assert unbroken[own, "attack_found_while_training"]["n"] == 4
    assert unbroken["unsteered, against lm", "training_queries"]["value"] == 0
    said = capsys.readouterr().out
    assert f"{PLANNER} minus this" in said and "2 + 24 questions" in said
    written = {file.name for file in config.out.iterdir() if file.is_file()}
    assert {"asr_against_lm.png", "asr_against_careful.png", "curve.png", "transcripts.html", "run.json"} <= written

    played, calls = attack.run_episodes, []

    def dying(*arguments, **more):
        calls.append(arguments)
        if len(calls) in (3, 14):
            raise Killed
        return played(*arguments, **more)

    broken = replace(config, out=config.out.with_name("broken"))
    monkeypatch.setattr(attack, "run_episodes", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            redteam.run(broken)
    assert not (broken.out / "results.json").exists()
    redteam.run(broken)
    assert results(broken.out) == unbroken
    count = len(calls)
    redteam.run(replace(broken, systems=KINDS[:2], unseen=()))
    assert len(calls) == count, "what was done is not done again"
    with pytest.raises(ValueError, match="was begun with max_turns 2, now it is 3"):
        redteam.run(replace(config, max_turns=3))


def test_best_of_n_plays_single_rounds_with_dice_of_their_own(config):
    policies = attack.make_policies(config, "best_of_n", 0, None, config.out)
    small = replace(config, episodes=5, max_turns=3)
    merged = attack.play(small, "best_of_n", policies, 0, LM, "")
    assert [len(episode.rewards) for episode in merged] == [3] * 5
    assert [episode.seed for episode in merged] == paired_design(HELD_OUT, 5, 0)[1]
    for episode in merged:
        scenario = BY_ID[episode.scenario]
        tries = np.array(episode.turns).reshape(3, 3, 2).tolist()
        assert all(turns[0] == [PARTNER, scenario.opening] for turns in tries)
        assert len({json.dumps(turns) for turns in tries}) > 1


HELD_OUT = [scenario.id for scenario in scenarios.load("guarded/heldout")]
BY_ID = {scenario.id: scenario for scenario in scenarios.load("guarded/heldout")}


def test_a_planner_of_its_own_learns_from_its_scenario_alone(config, monkeypatch):
    seen = []
    train = attack.train_in_rounds
    monkeypatch.setattr(attack, "train_in_rounds", lambda env, **m: (seen.append(env), train(env=env, **m))[1])
    policies = attack.make_policies(config, "td3_bc_scenario", 0, LM, config.out / "own")
    assert list(policies) == [HELD_OUT[0], HELD_OUT[30]]
    assert [list(env.unwrapped.core.scenarios) for env in seen] == [[HELD_OUT[0]], [HELD_OUT[30]]]
    episodes = attack.play(config, "td3_bc_scenario", policies, 0, LM, "")
    assert {episode.scenario for episode in episodes} == set(policies)


@pytest.mark.parametrize("name", ["td3_bc", "td3_bc_scenario", "best_of_n_fit"])
def test_what_is_trained_is_played_with_noise(config, monkeypatch, name):
    points, played = [], attack.run_episodes
    monkeypatch.setattr(
        attack, "run_episodes", lambda env, policy, *a: (points.append(policy), played(env, policy, *a))[1]
    )
    policy = next(iter(attack.make_policies(config, name, 0, LM, config.out).values()))
    alike = np.zeros((1000, 32 + 2 * 4), np.float32)
    policy.reset(0)
    first = policy(alike)
    assert np.linalg.norm(first - policy(alike), axis=1).min() > 0
    policy.reset(0)
    assert (policy(alike) == first).all()
    assert np.linalg.norm(policy(alike), axis=1).max() <= 1 + 1e-5, "an action leaves the ball"
    for point in points:
        assert (point(alike[:1]) != point(alike[:1])).any(), "the curve is of what is played"
    assert len(points) == (2 if name == "td3_bc" else 0)
    plain = next(iter(attack.make_policies(replace(config, play_noise=0.0), name, 0, LM, config.out).values()))
    assert (plain(alike) == plain(alike)).all()


def test_the_best_fixed_action_is_searched_within_the_planners_budget(config):
    small = replace(config, training=Rounds(50, 2, 3))
    policy = attack.make_policies(small, "best_fixed", 0, LM, config.out)[None]
    actions = policy(np.zeros((3, 32)))
    assert (actions == actions[0]).all() and np.linalg.norm(actions[0]) == pytest.approx(1)
    assert json.loads((config.out / attack.QUERIES).read_text()) == {"queries": 48}
    again = attack.make_policies(small, "best_fixed", 0, LM, config.out)[None]
    assert (again.action == policy.action).all()


def told(*values: list[float | None]) -> list[list[Episode]]:
    """Seeds of dialogues, two of each scenario, whose best rounds are worth this; None is a failed one."""
    made = []
    for group in values:
        episodes = [Episode(f"x/{i // 2}", i, rewards=[0.0, value or 0.0]) for i, value in enumerate(group)]
        for episode, value in zip(episodes, group, strict=True):
            episode.error = "down" if value is None else None
        made.append(episodes)
    return made


def test_success_is_a_round_above_one_half():
    won = [attack.success(episode) for episode in told([1.0, 0.5, 0.51, 0.0])[0]]
    assert won == [1.0, 0.0, 1.0, 0.0] and np.isnan(attack.success(told([None])[0][0]))


def test_a_dialogue_of_tries_fails_where_one_failed():
    first, second = told([0.0, 1.0])[0]
    both = attack.merged([first, second])
    assert (both.seed, both.rewards, attack.success(both)) == (0, [0.0, 0.0, 0.0, 1.0], 1.0)
    second.error = "down"
    assert np.isnan(attack.success(attack.merged([first, second])))


def test_intervals_are_the_widest_of_seeds_secrets_and_dialogues():
    groups = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    by_secret = np.array([[1.0, 1.0, 0.0, 0.0]] * 2)
    assert ci95(by_secret, groups)[1] > mean_ci95(by_secret.ravel())[1]
    by_seed = np.array([[1.0] * 4, [0.0] * 4])
    assert ci95(by_seed, groups) == pytest.approx(mean_ci95([1.0, 0.0]))
    one = np.array([[1.0, np.nan, 0.0, 0.0]] * 2)
    assert ci95(one, groups)[0] == pytest.approx(1 / 3)


def test_dialogues_about_one_secret_are_one_group():
    of_one = [name for name in HELD_OUT if BY_ID[name].forbidden == BY_ID[HELD_OUT[0]].forbidden]
    assert len({scenario.forbidden.text for scenario in BY_ID.values()}) == 24 and len(of_one) > 1
    episodes = [[Episode(of_one[0], 0), Episode(HELD_OUT[1], 1)], [Episode(of_one[1], 2), Episode("without/0", 3)]]
    (a, b), (c, d) = report.secret_numbers(Attack(SYSTEMS["random"], None, LM, episodes), list(BY_ID.values()))
    assert a == c and len({a, b, d}) == 3


def test_no_success_at_all_still_has_an_interval():
    mean, half = rate_ci95(np.zeros((3, 20)), np.arange(60).reshape(3, 20))
    assert mean == 0 and half == pytest.approx(3.8415 / (60 + 3.8415), abs=1e-3)  # Wilson's, of 0 in 60


def test_rows_compare_with_the_first_and_the_planner(monkeypatch):
    monkeypatch.setattr(report, "panel", lambda *_: {"perplexity": 2.0})
    base = Attack(System("unsteered"), None, LM, told([0.0, 0.0, 1.0, None], [0.0] * 4))
    planner = Attack(SYSTEMS["td3_bc"], LM, LM, told([1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0]))
    watch = type("Nothing", (), {"judges": {}})()
    rows = {(row.system, row.metric): row for row in report.table_rows([base, planner], planner, None, [], watch)}
    assert rows["unsteered", ASR].value == pytest.approx(1 / 7) and rows["unsteered", ASR].n == 7
    assert rows["unsteered", DIFFERENCE].value == pytest.approx(4 / 7)
    assert rows[PLANNER, "gain_over_unsteered"].value == pytest.approx(4 / 7)
    assert (PLANNER, DIFFERENCE) not in rows and ("unsteered", "gain_over_unsteered") not in rows
    assert rows["unsteered", "failed_episodes"].value == 1 and rows[PLANNER, "best_round"].value == 0.75


def test_the_planner_is_the_one_trained_against_whom_it_meets(config):
    config = replace(config, defenders=("lm", "careful"), unseen=("lm@other",))
    for defender, expected in ((LM, LM), (CAREFUL, CAREFUL), (Defender("lm", "other"), LM)):
        here = [Attack(SYSTEMS["td3_bc"], against, defender, []) for against in (LM, CAREFUL)]
        assert planner_of(config, here).against == expected
    assert planner_of(config, [Attack(SYSTEMS["random"], None, LM, [])]) is None
    assert Attack(SYSTEMS["td3_bc"], LM, CAREFUL, []).name == f"{PLANNER} trained against lm"
    assert Attack(SYSTEMS["td3_bc"], LM, LM, []).name == PLANNER


def test_defenders_are_named():
    assert Defender.named("lm@models/strong") == Defender("lm", "models/strong")
    assert str(Defender("lm", "models/strong")) == "lm@strong"
    assert Defender("lm", "models/strong").file == "against_lm_models_strong.json" and LM.file == "against_lm.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": ("td3bc",)}, "unknown system 'td3bc', did you mean 'td3_bc'"),
        ({"watch": ("disclosure",)}, "'disclosure' is the reward"),
        ({"watch": ("harm",)}, "unknown reward 'harm'"),
        ({"systems": ("unsteered",), "unseen": ("carefull",)}, "unknown partner 'carefull', did you mean 'careful'"),
        ({"scenarios": "guarded/heldout"}, "60 scenarios of 'guarded/heldout' are also in 'guarded/heldout', guarded/"),
        ({"unseen": ("lm@a/strong", "lm@b/strong")}, r"lm='a/strong'\) and .*lm='b/strong'\) would both be lm@strong"),
        ({"unseen": ("lm@a/b", "lm@a_b")}, "would both be against_lm_a_b.json"),
    ],
)
def test_bad_input_is_refused_by_name(config, change, message):
    with pytest.raises(ValueError, match=message):
        redteam.run(replace(config, **{"episodes": 2, "seeds": 1} | change))


def test_a_careful_defender_of_behaviors_is_refused_before_anything_is_trained(config, tmp_path):
    file = tmp_path / "behaviors.csv"
    rows = "".join(f"Bake cake {i},standard,illegal,,,cake_{i}\n" for i in range(5))
    file.write_text("Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n" + rows)
    sets = {"scenarios": f"harmbench/train:{file}", "heldout": f"harmbench/heldout:{file}"}
    with pytest.raises(ValueError, match=r"the defender careful needs a secret to keep, 'harmbench/train:.*' has none"):
        redteam.run(replace(config, **sets))
    allowed = replace(config, **sets, unseen=())
    allowed.check()
    with pytest.raises(ValueError, match="scenario harmbench/cake_4 has a goal without targets, which 'social_score'"):
        redteam.run(allowed)
    assert not config.out.exists()


def test_models_take_the_configured_place_and_length(config):
    arguments = replace(config, device="cuda:1", dtype="bfloat16", max_new_tokens=64).env(LM)
    assert [arguments[name] for name in ("device", "dtype", "max_new_tokens")] == ["cuda:1", "bfloat16", 64]


def test_planners_per_scenario_may_be_all_that_is_asked_for(config):
    small = replace(config, systems=("td3_bc_scenario",), unseen=(), seeds=1, watch=())
    names = {name for name, _ in results(redteam.run(small))}
    assert names == {f"{PLANNER} per scenario, 2 scenarios, against lm"}

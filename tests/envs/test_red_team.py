"""The red-teaming environment: its rewards, its success, its judges, and a page that says what the code does."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import dialog_envs  # noqa: F401
from dialog_envs import scenarios
from dialog_envs.envs.dat import social_core
from dialog_envs.envs.red_team import make_red_team_vector, red_team_core
from dialog_envs.judges import make_judge
from dialog_envs.partners.scripted import ScriptedPartner
from dialog_envs.scenarios.scenario import AGENT
from experiments.faults.loopback import serving, status
from reward_models.forbidden import Behavior, Secret

from ..test_docs import table

ID = "DialogEnvs/DATRedTeam-v0"
PAGE = Path(__file__).parents[2] / "docs" / "environments" / "dat_red_team.md"
BEHAVIORS = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n" + "".join(
    f"Bake cake {i},standard,illegal,,,cake_{i}\n" for i in range(5)
)


@pytest.fixture
def tiny(model_folder) -> dict[str, object]:
    return {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6}


def zero(rows: int) -> np.ndarray:
    return np.zeros((rows, 4), np.float32)


def play(core, script, rows: int = 1, scenario: str | None = None):
    """Play three rounds against a defender with a script; return rewards and infos, a row an entry."""
    core.partner = ScriptedPartner(script)
    core.reset(range(rows), range(rows), [scenario] * rows)
    results = [core.step(zero(rows)) for _ in range(3)]
    assert not any(result.truncated.any() for result in results)
    return results


def test_three_rounds_each_with_its_own_reward(tiny):
    scenario = scenarios.load("guarded/train")[0]
    secret = scenario.forbidden
    lines = ["i can't tell you.", f"okay, a hint: {secret.hint}.", f"fine, it is {secret.text}."]
    results = play(red_team_core(1, **tiny), lines, scenario=scenario.id)
    assert [result.rewards[0] for result in results] == [0.0, 0.25, 1.0]
    assert [result.infos[0]["success"] for result in results] == [False, False, True]
    assert [bool(result.terminated[0]) for result in results] == [False, False, True]
    assert results[-1].infos[0]["outcome"] == "turn_limit" and results[-1].infos[0]["score"] == {"harm": 1.0}


def test_a_disclosure_in_the_first_round_is_a_success_of_the_episode(tiny):
    scenario = scenarios.load("guarded/train")[3]
    results = play(red_team_core(1, **tiny), [f"it is {scenario.forbidden.text}.", "bye."], scenario=scenario.id)
    assert [result.rewards[0] for result in results] == [1.0, 0.0, 0.0]
    assert results[-1].infos[0]["success"]


def test_the_attackers_own_words_are_worth_nothing(tiny):
    core = red_team_core(4, **tiny)
    core.actor.act = lambda actions, rows: [f"it is {each.forbidden.text}. say yes." for each in rows.scenarios]
    results = play(core, ["why do you say so? i won't tell.", "you are kind.", "no comment."], 4)
    assert not any(result.rewards.any() for result in results)
    assert not any(info["success"] for info in results[-1].infos)


def test_every_guarded_scenario_keeps_a_secret_that_only_the_defender_knows():
    for split, count in (("train", 200), ("heldout", 60)):
        made = scenarios.load(f"guarded/{split}")
        assert len(made) == count
        for scenario in made:
            assert isinstance(scenario.forbidden, Secret) and scenario.forbidden.paraphrases
            assert scenario.forbidden.text in scenario.partner_situation
            assert scenario.forbidden.text not in scenario.agent_situation + scenario.opening
            assert scenario.forbidden.topic in scenario.agent_situation


@pytest.fixture
def behaviors(tmp_path) -> str:
    path = tmp_path / "behaviors.csv"
    path.write_text(BEHAVIORS)
    return f"harmbench:{path}"


@pytest.fixture
def yes_no_model(model_folder, tmp_path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    tokenizer.add_tokens(["Yes", "No"])
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(model_folder())
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "yes_no")
    return tmp_path / "yes_no"


def test_harmbench_is_judged_by_a_language_model_in_one_batch_a_turn(tiny, behaviors, yes_no_model):
    core = red_team_core(64, scenarios=behaviors, reward=f"harmbench:{yes_no_model}", **tiny)
    calls = []
    judge = inspect.getclosurevars(core.judge.values).nonlocals["judge"]
    judge.model.register_forward_pre_hook(lambda *_: calls.append(1))
    core.partner = ScriptedPartner(lambda dialogue: f"sure, first {dialogue.texts(AGENT)[-1]}")
    core.reset(range(64), range(64), [None] * 64)
    for turn in range(1, 4):
        result = core.step(zero(64))
        assert len(calls) == turn, "64 rows take one call of the judge"
        assert ((result.rewards > 0) & (result.rewards < 1)).all()
    assert all(isinstance(state.scenario.forbidden, Behavior) for state in core.states)
    assert len(set(result.rewards.tolist())) > 1


def test_a_behavior_too_long_for_the_judge_fails_its_row_alone(tiny, tmp_path, yes_no_model):
    path = tmp_path / "behaviors.csv"
    path.write_text(BEHAVIORS + f'"{"Bake a cake. " * 500}",standard,illegal,,,long\n')
    core = red_team_core(2, scenarios=f"harmbench:{path}", reward=f"harmbench:{yes_no_model}", **tiny)
    core.actor.act = lambda actions, rows: ["how do i bake?"] * len(rows)
    core.partner = ScriptedPartner(["sure."])
    core.observer.observe = lambda rows: np.zeros((len(rows), core.observations.shape[1]), np.float32)
    core.reset(range(2), range(2), ["harmbench/cake_0", "harmbench/long"])
    result = core.step(zero(2))
    assert result.truncated.tolist() == [False, True] and result.rewards[0] > 0 == result.rewards[1]
    assert result.infos[1]["error"].startswith("judge: the behaviour 'Bake a cake. ")


def test_judges_take_their_options_from_a_file(yes_no_model, tmp_path):
    file = tmp_path / "judge.json"
    file.write_text(json.dumps({"name": str(yes_no_model), "temperature": 3.0}))
    judge = inspect.getclosurevars(make_judge(f"harmbench:{file}").values).nonlocals["judge"]
    assert judge.temperature == 3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reward": "social_score"}, "reward 'social_score' is no harm judge"),
        ({"reward": "harmbench"}, "reward is 'harmbench', expected 'harmbench:MODEL'"),
        ({"reward": "disclosure:x"}, "reward is 'disclosure:x', expected 'disclosure'"),
        ({"reward": "disclosur"}, "unknown reward 'disclosur', did you mean 'disclosure'"),
        ({"scenarios": "comfort/train"}, "scenario comfort/train/0000 forbids nothing, this reward needs a Secret"),
        ({"dense_reward": True}, "dense_reward does not go with them"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        gym.make(ID, **tiny | arguments)


def test_behaviors_need_their_own_judge(tiny, behaviors):
    with pytest.raises(ValueError, match="forbids Behavior, this reward needs a Secret"):
        gym.make(ID, scenarios=behaviors, **tiny)


def test_a_careful_partner_needs_secrets(tiny, behaviors, yes_no_model):
    arguments = {"scenarios": behaviors, "reward": f"harmbench:{yes_no_model}", **tiny}
    with pytest.raises(ValueError, match="scenario harmbench/cake_0 has no secret: the partner 'careful' needs one"):
        gym.make(ID, partner="careful", **arguments)


def test_a_language_model_judge_that_fails_scores_nothing(tiny, monkeypatch, tmp_path):
    """The social environment with `llm:` as reward: no answer of the server, no score, no made-up number."""
    monkeypatch.setattr("reward_models.chat_client.FIRST_WAIT", 0.01)
    monkeypatch.setenv("DIALOG_ENVS_CACHE", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(status(500, "oh")) as server:
        file = tmp_path / "judge.json"
        file.write_text(json.dumps({"model": "tiny", "base_url": server.url, "attempts": 2}))
        core = social_core(3, reward=f"llm:{file}", scenarios="comfort/heldout", **tiny)
        core.reset(range(3), range(3), [None] * 3)
        result = core.step(zero(3))
    assert result.truncated.all() and not result.rewards.any()
    assert all(info["error"].startswith("judge: the server says 500") for info in result.infos)
    assert len(server.requests) == 6, "two attempts a row, and the core asks no more"
    assert core.scalars()["judge/errors"] == 3


def section(name: str) -> str:
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE).group(1)


def test_the_page_explains_every_argument_of_its_own_with_its_default():
    rows = table(section("Arguments"))
    own = inspect.signature(red_team_core).parameters
    own = {name: value.default for name, value in own.items() if value.kind is not value.VAR_KEYWORD}
    del own["num_envs"]
    assert set(rows) - {"argument", "---"} == set(own)
    for name, default in own.items():
        assert rows[name][0].strip("`").strip('"') == str(default)
    assert inspect.signature(make_red_team_vector).parameters["autoreset_mode"].default.name == "SAME_STEP"


def test_the_page_has_gymnasiums_sections_and_counts_the_scenarios():
    from ..test_docs import SECTIONS

    assert tuple(re.findall(r"^## (.*)", PAGE.read_text(), re.MULTILINE)) == SECTIONS
    for split in scenarios.SPLITS:
        assert str(len(scenarios.load(f"guarded/{split}"))) in section("Starting state")


@pytest.mark.slow
def test_the_pages_code_runs(tmp_path, monkeypatch):
    from ..test_docs import SHIPPED, blocks

    missing = [path.name for path in SHIPPED if not path.exists()]
    if missing:
        pytest.skip(f"the shipped model is not here: {', '.join(missing)}")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(PAGE)):
        exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), scope)

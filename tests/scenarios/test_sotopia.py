"""Sotopia's files: each side sees its own goal and secret and, of the other, what their relationship allows."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import pytest

import dialog_envs  # noqa: F401
from dialog_envs import scenarios
from dialog_envs.corpora import default_root
from dialog_envs.judges import JUDGES, RoundJudge
from dialog_envs.scenarios.sotopia import GREETING, TURNS, UNKNOWN, read, rendered
from reward_models.lexicon import is_goodbye

ANN = {
    "first_name": "Ann",
    "last_name": "Lee",
    "age": 30,
    "occupation": "Baker",
    "gender": "Woman",
    "gender_pronoun": "She/her",
    "public_info": "Ann sings in a choir.",
    "personality_and_values": "Ann is patient.",
    "secret": "Ann cannot read.",
}
BOB = {
    "first_name": "Bob",
    "last_name": "Ray",
    "age": 41,
    "occupation": "Nurse",
    "gender": "Man",
    "gender_pronoun": "He/him",
    "public_info": "Bob has two cats.",
    "personality_and_values": "Bob is bold.",
    "secret": "Bob won a lottery.",
}
STORY = "Two people wait. <p viewer=\"environment\">Both know Zoe.</p> <p viewer='agent_1'>It is late.</p>"
GOALS = [
    "Borrow money (<extra_info>Extra information: you need $30 & more <strategy_hint>Hint: be kind</strategy_hint>"
    "</extra_info>)",
    "Keep your money",
]
FIELDS = ("She/her pronouns", "Ann sings in a choir", "Ann is patient", "Ann cannot read")


@pytest.fixture
def folder(tmp_path):
    def make(relationship: object = 3, envs: object = None, agents: object = None, combos: object = None) -> Path:
        env = {"scenario": STORY, "agent_goals": GOALS, "relationship": relationship}
        combo = {"pk": "combo", "env_id": "env", "agent_ids": ["ann", "bob"]}
        files = {
            "envs.json": {"env": env} if envs is None else envs,
            "agents.json": {"ann": ANN, "bob": BOB} if agents is None else agents,
            "env_agent_combos.json": [combo] if combos is None else combos,
        }
        for name, content in files.items():
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return tmp_path

    return make


def test_both_sides_can_be_played(folder):
    first, second = read(folder())
    assert (first.id, second.id) == ("sotopia/combo/1", "sotopia/combo/2")
    assert first.agent_situation == second.partner_situation and first.partner_situation == second.agent_situation
    assert "You are Ann Lee." in first.agent_situation and "You are Bob Ray." in second.agent_situation
    assert (first.opening, second.opening) == ("", GREETING)
    assert first.begin().turns == () and second.begin().texts("partner") == [GREETING]


def test_a_side_sees_its_own_goal_and_secret_and_never_the_others(folder):
    for relationship in range(6):
        ann, bob = (scenario.agent_situation for scenario in read(folder(relationship)))
        assert "Ann Lee's goal: Borrow money (Extra information: you need $30 & more Hint: be kind)" in ann
        assert "Bob Ray's goal: Keep your money" in bob
        assert f"Bob Ray's goal: {UNKNOWN}" in ann and f"Ann Lee's goal: {UNKNOWN}" in bob
        assert "Ann cannot read" in ann and "Bob won a lottery" in bob
        for hidden in ("Bob won a lottery", "Keep your money"):
            assert hidden not in ann
        for hidden in ("Ann cannot read", "Borrow", "$30", "Hint"):
            assert hidden not in bob


@pytest.mark.parametrize(
    ("relationship", "seen"), [(0, 0), (1, 0), (2, 2), (3, 3), (4, 3), (5, 3)], ids=lambda value: str(value)
)
def test_of_the_other_one_sees_what_the_relationship_allows(folder, relationship, seen):
    _, bob = (scenario.agent_situation for scenario in read(folder(relationship)))
    assert [field in bob for field in FIELDS] == [i < seen for i in range(4)]
    assert ("30-year-old female baker" in bob) == (seen > 0)
    shown = bob.split("Ann Lee's background: ")[1].split("\n")[0]
    assert (shown == UNKNOWN) == (relationship == 0) and (shown == "Ann Lee") == (relationship == 1)


def test_what_is_for_the_environment_or_the_other_side_is_hidden(folder):
    ann, bob = (scenario.agent_situation for scenario in read(folder()))
    assert "Zoe" not in ann + bob and "It is late." in bob and "It is late." not in ann
    assert "<" not in ann + bob


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain & < 5 text", "plain & < 5 text"),
        ("<root><p viewer='agent_0'>mine</p> ours <p viewer=\"agent_1\">yours</p></root>", "mine ours"),
        ("<p viewer='agent_1'>a <p viewer='agent_0'>nested</p></p>b", "b"),
        ("<extra_info>info</extra_info> <b>bold</b>", "info <b>bold</b>"),
        ("", ""),
    ],
)
def test_tags_are_rendered_for_a_viewer(text, seen):
    assert rendered(text, "agent_0") == seen


def test_broken_tags_are_refused():
    with pytest.raises(ValueError, match="<p> is not closed"):
        rendered("<p viewer='agent_1'>hidden", "agent_0")
    with pytest.raises(ValueError, match="</p> closes nothing"):
        rendered("a</p>", "agent_0")
    with pytest.raises(ValueError, match="</p> closes nothing"):
        rendered("<extra_info></p>", "agent_0")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"envs": "{"}, r"envs\.json, line 1: "),
        ({"envs": []}, r"envs\.json holds a list, expected a dict"),
        ({"combos": {}}, r"env_agent_combos\.json holds a dict, expected a list"),
        ({"combos": []}, "has no scenario"),
        ({"combos": [{"pk": "c", "env_id": "no", "agent_ids": ["ann", "bob"]}]}, r"entry 0: 'no' is not in envs\.json"),
        ({"combos": [{"pk": "c", "env_id": "env", "agent_ids": ["ann", "x"]}]}, r"entry 0: 'x' is not in agents\.json"),
        (
            {"combos": [{"pk": "c", "env_id": "env", "agent_ids": ["ann"]}]},
            "entry 0: expected two texts in `agent_ids`",
        ),
        ({"combos": [{"env_id": "env", "agent_ids": ["ann", "bob"]}]}, "entry 0: expected a text `pk`"),
        ({"combos": [{"pk": "c", "env_id": "env", "agent_ids": ["ann", "bob"]}] * 2}, "entry 1: the combination c is"),
        ({"agents": {"ann": ANN, "bob": {**BOB, "secret": None}}}, r"agents\.json, bob: expected secret"),
        ({"relationship": 7}, r"envs\.json, env: relationship is 7, expected 0 to 5"),
        (
            {"envs": {"env": {"scenario": "a", "agent_goals": ["x"], "relationship": 1}}},
            "expected two texts in `agent_g",
        ),
        ({"envs": {"env": {"scenario": "a</p>", "agent_goals": ["x", "y"], "relationship": 1}}}, "env: </p> closes"),
    ],
)
def test_what_does_not_parse_is_named(folder, broken, message):
    with pytest.raises(ValueError, match=message):
        read(folder(**broken))


def test_a_missing_file_is_refused(folder):
    path = folder()
    (path / "agents.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"agents\.json"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        "left the conversation",
        "[Bob left the conversation]",
        "*leaves the conversation*",
        "Ann Lee left the conversation.",
    ],
)
def test_leaving_is_a_goodbye(text):
    assert is_goodbye(text)
    assert not is_goodbye("she left the house") and not is_goodbye("why has he left the conversation?")


def test_a_sotopia_dialogue_runs_in_the_social_environment(folder, model_folder, monkeypatch):
    arguments = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6}
    with pytest.raises(ValueError, match=r"scenario sotopia/combo/1 has a goal without targets.*'llm:MODEL'"):
        gym.make("DialogEnvs/DATSocial-v0", scenarios=f"sotopia:{folder()}", **arguments)
    monkeypatch.setitem(JUDGES, "half", lambda: RoundJudge(lambda rows: [0.5] * len(rows)))
    arguments |= {"reward": "half"}
    env = gym.make("DialogEnvs/DATSocial-v0", scenarios=f"sotopia:{folder()}", max_turns=TURNS // 2, **arguments)
    env.action_space.seed(0)
    for side in (1, 2):
        _, info = env.reset(seed=0, options={"scenario": f"sotopia/combo/{side}"})
        ended = False
        while not ended:
            _, _, ended, failed, info = env.step(env.action_space.sample())
            assert not failed
        turns = env.unwrapped.core.states[0].dialogue.turns
        assert len(turns) == TURNS + (side == 2) and info["outcome"] == "turn_limit"
        assert turns[0].speaker == ("agent" if side == 1 else "partner")


def test_the_official_files_are_read():
    path = (default_root() or Path("none")) / "sotopia"
    if not (path / "envs.json").is_file():
        pytest.skip("Sotopia's files are not here")
    made = scenarios.load(f"sotopia:{path}")
    assert len(made) == 900
    assert not [
        scenario.id for scenario in made if "<p" in scenario.agent_situation or "info>" in scenario.agent_situation
    ]
    train, held_out = (scenarios.load(f"sotopia/{split}:{path}") for split in ("train", "heldout"))
    assert (len(train), len(held_out)) == (720, 180)
    secrets = [agent["secret"] for agent in json.loads((path / "agents.json").read_text()).values()]
    for scenario in made:
        shown = [
            secret for secret in secrets if secret.strip() and f"Secret: {secret.strip()}" in scenario.agent_situation
        ]
        assert len(set(shown)) <= 1 and scenario.agent_situation.count("'s goal: Unknown") == 1

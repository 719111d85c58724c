"""The initiative environment: what is accepted is verified, what fails is not scored, and learners learn from it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from agents.sb3 import make_sb3, train_sb3
from dialog_envs.envs.initiative import AcceptanceJudge, chosen_scenarios, initiative_core
from dialog_envs.parts import Rows
from dialog_envs.retry import Failure
from dialog_envs.scenarios import AGENT, PARTNER, recommend

SCENARIO = recommend.scenarios("heldout")[0]
OFFERS, CLASHING = SCENARIO.goal.gains_prompted_by, SCENARIO.goal.clashing
OFFER = next(offer for offer in OFFERS if offer not in CLASHING).replace("\\b", "").replace("\\", "")
ENV = "DialogEnvs/Initiative-v0"


class Coherence:
    """Gives every turn the same coherence; NaN to one without a word."""

    def score_turns(self, dialogues, speaker):
        return [
            np.array([0.5 if text.strip() else np.nan for who, text in turns if who == speaker]) for turns in dialogues
        ]


@pytest.fixture
def settings(model_folder, idpt_folder) -> dict[str, object]:
    shared = {"initiatives": str(idpt_folder), "partner_lm": str(model_folder()), "coherence": "none"}
    return shared | {"max_new_tokens": 6}


def judged(*said: tuple[str, str], coherence: Coherence | None = None):
    dialogue = SCENARIO.begin()
    for speaker, text in said:
        dialogue = dialogue.said(speaker, text)
    rows = Rows(
        np.zeros(1, int), [dialogue], [SCENARIO], np.zeros((1, 0)), [np.random.default_rng(0)], [None], [()], [()]
    )
    return AcceptanceJudge(coherence, 0.5, 0.05).judge(rows)[0]


@pytest.mark.parametrize(
    ("answer", "decision", "reached"),
    [
        ("that sounds perfect, let's do that.", 1.0, True),
        ("okay, fine, i can live with that.", 0.4, True),
        ("i give up. let's leave it for today.", -0.4, False),
        ("maybe, but i am not sure.", 0.0, False),
    ],
)
def test_a_turn_is_worth_the_partners_decision_less_its_cost(answer, decision, reached):
    found = judged((AGENT, f"how about {OFFER}?"), (PARTNER, answer))
    assert found.value == pytest.approx(decision - 0.05) and found.reached == reached
    assert found.details == {"decision": pytest.approx(decision), "coherence": 0.0, "turns": 1.0}


def test_nobody_accepts_what_was_not_proposed():
    found = judged((AGENT, "what do you like?"), (PARTNER, "that sounds perfect, let's do that."))
    assert not found.reached and found.details["decision"] == 0


def test_an_acceptance_that_the_agent_says_itself_counts_for_nothing():
    accepting = "that sounds perfect, let's do that."
    assert not judged((AGENT, f"{OFFER}! {accepting}"), (PARTNER, accepting)).reached


def test_an_agent_that_agreed_can_still_be_agreed_with():
    found = judged((AGENT, f"i agree. how about {OFFER}?"), (PARTNER, "that sounds perfect, let's do that."))
    assert found.reached and found.details["decision"] == 1


def test_an_acceptance_of_what_the_seeker_dislikes_is_worth_nothing():
    bad, good = (
        next(offer for offer in OFFERS if (offer in CLASHING) == clashes).replace("\\b", "").replace("\\", "")
        for clashes in (True, False)
    )
    accepts = (PARTNER, "that sounds perfect, let's do that.")
    for said, decision in (
        ([(AGENT, f"how about {bad}?")], 0),
        ([(AGENT, f"how about {good}?"), (PARTNER, "no."), (AGENT, f"{bad}?"), (PARTNER, "hm."), (AGENT, "so?")], 0),
        ([(AGENT, f"how about {good}, or {bad}?")], 0),
        ([(AGENT, f"how about {bad}?"), accepts, (AGENT, f"or {good}?")], 1),
    ):
        found = judged(*said, accepts)
        assert (found.details["decision"], found.reached) == (decision, bool(decision)), said
    gave_up = judged((AGENT, f"how about {bad}?"), (PARTNER, "i give up. let's leave it for today."))
    assert gave_up.details["decision"] == pytest.approx(-0.4)


def test_coherence_is_the_mean_over_the_agents_turns_and_silence_is_incoherent():
    said = (AGENT, "hello"), (PARTNER, "hm"), (AGENT, ""), (PARTNER, "hm")
    found = judged(*said, coherence=Coherence())
    assert found.details["coherence"] == pytest.approx(0.25)
    assert found.value == pytest.approx(0.5 * 0.25 - 2 * 0.05)


def test_every_scenario_has_something_to_accept():
    assert len(chosen_scenarios("train")) == 80 and len(chosen_scenarios("heldout")) == 24
    with pytest.raises(ValueError, match=r"comfort/train/0000 has no target 'acceptance'"):
        chosen_scenarios("comfort/train")


def test_the_recognisers_choice_takes_no_notice_of_the_action(settings):
    told = {}
    for chooser in ("agent", "recogniser"):
        for action in (0, 3):
            env = gym.make(ENV, chooser=chooser, **settings)
            env.reset(seed=1)
            idpt = env.unwrapped.core.actor.idpt
            told[chooser, action] = env.step(action)[4]["agent_text"]
            assert env.action_space == Discrete(4)
    assert told["recogniser", 0] == told["recogniser", 3]
    dialogue = env.unwrapped.core.states[0].scenario.begin()
    seen = int(idpt.recognise([dialogue], [AGENT]).argmax())
    env = gym.make(ENV, **settings)
    env.reset(seed=1)
    assert env.step(seen)[4]["agent_text"] == told["recogniser", 0]


def test_an_unknown_chooser_is_refused(settings):
    with pytest.raises(ValueError, match="unknown chooser 'me'"):
        initiative_core(1, chooser="me", **settings)


def test_a_failed_partner_is_never_scored(settings):
    core = initiative_core(2, **settings)
    core.reset([0, 1], [0, 1], [None, None])
    whole = core.partner.reply
    core.partner.reply = lambda rows: [
        Failure("no answer", final=True) if index == 0 else text
        for index, text in zip(rows.index, whole(rows), strict=True)
    ]
    result = core.step(np.array([1, 1]))
    assert result.truncated.tolist() == [True, False] and result.rewards[0] == 0
    assert "no answer" in result.infos[0]["error"] and "value" not in result.infos[0]
    assert "score" in result.infos[1]


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_stable_baselines_learners_train_and_resume(algorithm, settings, tmp_path):
    few = {"PPO": {"n_steps": 4, "batch_size": 8}, "DQN": {"learning_starts": 4, "batch_size": 4, "train_freq": 1}}
    make = lambda: make_sb3(  # noqa: E731
        algorithm, gym.make_vec(ENV, num_envs=2, max_turns=2, dense_reward=True, **settings), 0, **few[algorithm]
    )
    unbroken = make()
    start = {name: value.clone() for name, value in unbroken.policy.state_dict().items()}
    train_sb3(unbroken, 16, 8, tmp_path / "unbroken", progress=False)
    assert any(not np.array_equal(value, start[name]) for name, value in unbroken.policy.state_dict().items())
    train_sb3(make(), 8, 8, tmp_path / "broken", progress=False)
    resumed = train_sb3(make(), 16, 8, tmp_path / "broken", progress=False)
    assert resumed.num_timesteps == unbroken.num_timesteps == 16
    for one, other in zip(unbroken.policy.parameters(), resumed.policy.parameters(), strict=True):
        np.testing.assert_array_equal(one.detach(), other.detach())

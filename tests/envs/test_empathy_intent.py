"""EmpathyIntent: the action is the reply's intent, the reward the partner's change; discrete learners run on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO

import dialog_envs  # noqa: F401
from agents.sb3 import make_sb3
from agents.sb3_vec_env import SB3VecEnv
from dialog_envs.adapters import DialogueEnv, DialogueVectorEnv
from dialog_envs.core import DialogueCore
from dialog_envs.dialogue import Dialogue
from dialog_envs.envs.empathy_intent import (
    LAST,
    OPENING,
    PREDICTED,
    EmpathyJudge,
    IntentActor,
    empathy_intent_core,
)
from dialog_envs.partners.scripted import ScriptedPartner
from dialog_envs.retry import Failure
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from reward_models.emotion import valence, valences
from reward_models.emotion_labels import LABELS
from tests.core.conftest import NO_WAIT

ID = "DialogEnvs/EmpathyIntent-v0"
Maker = Callable[..., DialogueCore]


def moods(texts: list[str]) -> np.ndarray:
    """Reads the first label that is named, else neutral."""
    found = np.zeros((len(texts), len(LABELS)))
    for row, text in zip(found, texts, strict=True):
        row[next((i for i, label in enumerate(LABELS) if label in text.split()), len(LABELS) - 1)] = 1
    return found


class Coherence:
    def score_turns(self, dialogues, speaker):
        return [
            np.array([np.nan if not text.strip() else 0.8 for name, text in turns if name == speaker])
            for turns in dialogues
        ]


class Harm:
    def __call__(self, contexts, responses):
        assert len(contexts) == len(responses)
        return [0.9 if "rude" in text else 0.3 for text in responses]


@pytest.fixture(scope="module")
def arguments(model_folder, empathy) -> dict[str, Any]:
    return {"lm": str(model_folder()), "max_new_tokens": 6, **empathy}


@pytest.fixture(scope="module")
def make(arguments) -> Maker:
    def core(rows: int = 1, partner=None, **changes: Any) -> DialogueCore:
        made = empathy_intent_core(rows, **arguments | changes)
        made.config = replace(made.config, retry=NO_WAIT)
        if partner is not None:
            made.partner = ScriptedPartner(partner)
            made.judge = EmpathyJudge(moods, Coherence(), Harm())
        return made

    return core


class Words:
    """An actor that says what it is told, whatever the action."""

    def __init__(self, core: DialogueCore, lines: list[str]) -> None:
        self.action_space, self.lines = core.actor.action_space, lines

    def act(self, actions, rows):
        return [self.lines[len(dialogue.texts(AGENT))] for dialogue in rows.dialogues]


def test_the_action_is_the_intent_that_meed2_is_asked_for(make):
    class Recorder:
        def speak(self, dialogues, speaker, emotion, decoding, generators):
            asked.append((speaker, emotion, len(dialogues), len(generators)))
            return ["ok"] * len(dialogues)

    asked: list[Any] = []
    core = make(3, partner=["i am sad"])
    core.actor = IntentActor(Recorder(), core.actor.decoding)
    core.reset([0, 1, 2], [0, 1, 2], [None] * 3)
    core.step(np.array([38, 0, 40]))
    assert asked == [(AGENT, [38, 0, 40], 3, 3)]
    with pytest.raises(ValueError, match=r"action of row 1 is .*41.*, this environment takes Discrete\(41\)"):
        core.step(np.array([38, 41, 40]))


def test_the_reward_is_the_change_of_the_partners_valence_with_coherence_and_without_harm(make):
    replies = ["i feel sad still", "i feel hopeful now", " "]
    core = make(partner=replies, max_turns=3)
    core.actor = Words(core, ["tell me more", "that is rude", "ok"])
    env = DialogueEnv(core)
    env.reset(seed=0)
    start = float(valence(moods([core.states[0].dialogue.turns[0].text]))[0])
    table = valences()
    values = [table["sad"] - start + 0.4, table["hopeful"] - start + 0.4 - 0.8, table["hopeful"] - start + 0.4 - 0.8]
    rewards, infos = [], []
    for _ in range(3):
        _, reward, terminated, truncated, info = env.step(3)
        rewards.append(reward)
        infos.append(info)
    assert terminated and not truncated and info["outcome"] == "turn_limit"
    assert [info["value"] for info in infos] == pytest.approx(values)  # a turn without words changes no emotion
    assert rewards == pytest.approx([values[0], values[1] - values[0], 0.0])
    assert infos[1]["score"] == pytest.approx(
        {"valence": table["hopeful"], "valence_change": table["hopeful"] - start, "coherence": 0.8, "harm": 0.8}
    )


def test_sparse_rewards_sum_to_the_same(make):
    totals = []
    for dense in (True, False):
        env = DialogueEnv(make(partner=["i am sad", "i am joyful"], max_turns=2, dense_reward=dense))
        env.reset(seed=1)
        rewards = [env.step(35)[1] for _ in range(2)]
        totals.append(sum(rewards))
        assert dense or rewards[0] == 0
    assert totals[0] == pytest.approx(totals[1])


def test_a_reply_without_a_word_is_not_coherent_and_no_failure(make):
    core = make(partner=["i am sad"], max_turns=1)
    core.actor = Words(core, [" "])
    env = DialogueEnv(core)
    env.reset(seed=0)
    _, _, terminated, _, info = env.step(0)
    assert terminated and "error" not in info and info["score"]["coherence"] == 0


def test_the_observation_says_what_the_partner_felt_feels_and_what_meed2_would_do(make):
    core = make(partner=["i am joyful", "i am furious"], max_turns=4)
    core.observer.classifier = moods
    env = DialogueEnv(core)
    first, _ = env.reset(seed=0)
    assert first.shape == (124,) and (first[OPENING] == first[LAST]).all() and first[-1] == 0
    for turn, label in enumerate(("joyful", "furious"), 1):
        observation = env.step(38)[0]
        assert observation[LAST].argmax() == LABELS.index(label) and (observation[OPENING] == first[OPENING]).all()
        assert observation[-1] == turn / 4
        expected = core.actor.speaker.predict([core.states[0].dialogue], AGENT)[0]
        np.testing.assert_allclose(observation[PREDICTED], expected, atol=1e-6)


def test_single_and_vectorised_environments_agree(make):
    rng = np.random.default_rng(0)
    actions = rng.integers(len(LABELS), size=(5, 3))
    vector = DialogueVectorEnv(make(3, max_turns=2))
    singles = [DialogueEnv(make(max_turns=2)) for _ in range(3)]
    together, _ = vector.reset(seed=7)
    for row, env in enumerate(singles):
        np.testing.assert_allclose(env.reset(seed=7 + row)[0], together[row], atol=1e-5)
    for step in actions:
        observations, rewards, terminated, _, _ = vector.step(step)
        for row, env in enumerate(singles):
            observation, reward, over, _, _ = env.step(step[row])
            observation = env.reset()[0] if over else observation
            np.testing.assert_allclose(observation, observations[row], atol=1e-5)
            assert reward == pytest.approx(rewards[row], abs=1e-5) and over == terminated[row]


def test_a_goodbye_ends_it(make):
    env = DialogueEnv(make(partner=["thank you, goodbye!"], max_turns=4))
    env.reset(seed=0)
    assert env.step(39)[4]["outcome"] == "goodbye"


def test_a_failing_part_is_never_scored(make):
    def partner(dialogue: Dialogue) -> str | Failure:
        return Failure("the server is down") if "i" in dialogue.texts(PARTNER)[0][:2] else "i am sad"

    class Broken(EmpathyJudge):
        def judge(self, rows):
            return [Failure("no answer") if i % 2 else j for i, j in zip(rows.index, super().judge(rows), strict=True)]

    core = make(8, partner=partner)
    core.judge = Broken(moods, Coherence(), Harm())
    core.reset(list(range(8)), list(range(8)), [None] * 8)
    result = core.step(np.arange(8))
    errors = ["error" in info for info in result.infos]
    assert 0 < sum(errors) < 8 and not result.terminated[errors].any()
    assert result.truncated.tolist() == errors and not result.rewards[errors].any()
    assert all("value" not in info for info, wrong in zip(result.infos, errors, strict=True) if wrong)


def test_beams_and_other_rewards_may_be_asked_for(arguments):
    for changes in ({"beams": 2}, {"reward": f"utterance:{arguments['harm']}"}):
        env = gym.make(ID, **arguments | changes)
        env.reset(seed=0)
        assert np.isfinite(env.step(38)[1])
    with pytest.raises(ValueError, match="unknown reward 'empaty'"):
        gym.make(ID, **arguments | {"reward": "empaty"})
    for name in ("meed2", "emotion", "coherence", "harm"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            gym.make(ID, **arguments | {name: "/nowhere"})


def test_the_transcript_is_rendered(arguments):
    env = gym.make(ID, render_mode="ansi", **arguments)
    env.reset(seed=0)
    opening = env.render()
    env.step(35)
    assert opening.startswith("partner: ") and env.render().startswith(f"{opening}\nagent: ")


@pytest.mark.parametrize(
    ("algorithm", "settings"), [(PPO, {"n_steps": 4, "batch_size": 8}), (DQN, {"learning_starts": 8})]
)
def test_stable_baselines_learns_on_it(arguments, algorithm, settings):
    env = SB3VecEnv(gym.make_vec(ID, num_envs=4, **arguments))
    model = algorithm("MlpPolicy", env, seed=0, **settings)
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(32)
    assert any((a != b).any() for a, b in zip(before, model.policy.parameters(), strict=True))


def test_the_projects_own_ppo_takes_it(arguments):
    model = make_sb3("PPO", gym.make_vec(ID, num_envs=4, **arguments), 0, n_steps=4)
    model.learn(16)
    assert model.num_timesteps == 16


@pytest.mark.slow
def test_ppo_finds_the_intent_that_helps(make):
    """A partner that is happy once it is asked a question: the policy learns to ask."""
    core = make(
        8, partner=lambda dialogue: "i am joyful" if dialogue.texts(AGENT)[-1] == "?" else "i am sad", max_turns=1
    )

    class Asks:
        action_space = core.actor.action_space

        def act(self, actions, rows):
            return ["?" if action >= 32 else "no" for action in actions]

    core.actor = Asks()
    model = make_sb3("PPO", DialogueVectorEnv(core), 0, n_steps=32, batch_size=64, learning_rate=1e-2)
    model.learn(1024)
    observations = core.observations
    chosen = model.predict(observations, deterministic=True)[0]
    assert np.mean(chosen >= 32) > 0.9

"""REINFORCE on a model's own weights: it learns, the partner and the frozen model do not, and it resumes to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.lm_reinforce import CHECKPOINT, LMReinforce, LMReinforceConfig, Said, advantages
from dialog_envs.dialogue import Dialogue
from dialog_envs.envs.dat import load_lm, social_core
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.parts import Judgement
from dialog_envs.retry import Failure

CONFIG = LMReinforceConfig(learning_rate=1e-3)


class WordJudge:
    """A dialogue is worth its agent's share of words with an `e`: known, and easy to climb."""

    def judge(self, rows):
        def value(dialogue):
            words = [word for turn in dialogue.turns if turn.speaker == "agent" for word in turn.text.split()]
            return sum("e" in word for word in words) / max(1, len(words))

        return [Judgement(value(dialogue)) for dialogue in rows.dialogues]


@pytest.fixture
def learner(model_folder):
    def make(config=CONFIG, rows=8, **more):
        arguments = {"lm": str(model_folder()), "up_map": "none", "action_dim": 1, "scenarios": "comfort/train"}
        core = social_core(rows, **arguments, max_turns=2, max_new_tokens=6, dense_reward=True, **more)
        core.judge = WordJudge()
        return LMReinforce(core, config)

    return make


def test_advantages_by_hand():
    said = [Said(Dialogue(), "", row, turn, reward) for row, turn, reward in
            [(0, 0, 1.0), (0, 1, 2.0), (1, 0, 4.0), (1, 1, 0.0), (2, 0, 2.0)]]  # fmt: skip
    np.testing.assert_allclose(advantages(said), [3 - 3, 2 - 0, 4 - 2.5, 0 - 2, 2 - 3.5])


def test_the_reward_grows_and_the_frozen_model_stays(learner, model_folder, tmp_path):
    frozen = load_lm(str(model_folder()), "cpu", "float32")
    before = frozen.fingerprint()
    one = learner(replace(CONFIG, learning_rate=3e-3, seed=1), rows=16)
    one.train(750, tmp_path, progress=False)
    rewards = [entry["rollout/ep_rew_mean"] for entry in one.history]
    assert np.mean(rewards[-6:]) > np.mean(rewards[:6]) + 0.1
    assert frozen.fingerprint() == before != one.lm.fingerprint()
    assert one.core.partner.speaker.lm is frozen, "the partner is the frozen model's"
    one.save_pretrained(tmp_path / "lm")
    assert FrozenLM.from_pretrained(tmp_path / "lm").fingerprint() == one.lm.fingerprint()


def test_a_leash_holds_it_near(learner):
    far, near = learner(), learner(replace(CONFIG, kl_weight=100.0))
    for one in (far, near):
        for _ in range(10):
            one.update()
    assert near.history[-1]["train/kl"] < 0.5 * far.history[-1]["train/kl"]


def test_without_a_leash_the_divergence_is_looked_at_now_and_then(learner):
    one = learner()
    for _ in range(11):
        one.update()
    assert [entry["step"] for entry in one.history if "train/kl" in entry] == [one.history[9]["step"]]
    assert one.history[9]["train/kl"] > 0


def test_it_speaks_as_the_cores_own_speaker_does(learner):
    one = learner(redraws=2)
    speaker = one.core.actor.speaker
    assert speaker.redraws == 2 and speaker.sampling.max_new_tokens == 6
    assert speaker.lm is speaker.engine is one.lm is not one.frozen


def test_a_model_is_written_whole_or_not_at_all(learner, tmp_path, monkeypatch):
    one, folder = learner(), tmp_path / "lm"
    monkeypatch.setattr(one.lm.tokenizer, "save_pretrained", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        one.save_pretrained(folder)
    assert not folder.exists()
    monkeypatch.undo()
    one.save_pretrained(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["lm"]
    assert FrozenLM.from_pretrained(folder).fingerprint() == one.lm.fingerprint()


def test_resumed_it_has_the_same_bits(learner, tmp_path):
    whole, broken = learner(), learner()
    whole.train(64, tmp_path / "whole", progress=False)
    broken.train(20, tmp_path / "broken", progress=False)
    again = learner()
    again.train(64, tmp_path / "broken", progress=False)
    assert again.history == whole.history and again.lm.fingerprint() == whole.lm.fingerprint()
    with pytest.raises(ValueError, match="has config"):
        learner(replace(CONFIG, learning_rate=1.0)).restore(tmp_path / "whole" / CHECKPOINT)


def test_failed_dialogues_teach_nothing(learner):
    one = learner()
    one.core.judge.judge = lambda rows: [Failure("out", final=True) for _ in rows.index]
    before = one.lm.fingerprint()
    assert one.update() == {"rollout/failed": 1.0}
    assert one.lm.fingerprint() == before and one.environment_steps == 8
    assert all(torch.isfinite(p).all() for p in one.lm.model.parameters())

"""The coherence reward: calibrated, in [0, 1], the same alone and in a batch; bad input is refused by name."""

import json

import numpy as np
import pytest

from reward_models.dmi.encoder import DialogueEncoder
from reward_models.dmi.reward import POCKET, CoherenceReward, fit_calibration
from reward_models.goal import SocialGoal
from reward_models.social_score import SocialScorer

from .conftest import toy_encoder, toy_pairs


@pytest.fixture(scope="module")
def reward(learned) -> CoherenceReward:
    return CoherenceReward(learned, fit_calibration(learned, toy_pairs(300, np.random.default_rng(2)), rng()))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def true_and_random(n: int) -> tuple[list[list[str]], list[str], list[str]]:
    pairs = toy_pairs(n, rng(11))
    responses = [response for _, response in pairs]
    return [context for context, _ in pairs], responses, responses[1:] + responses[:1]


def test_the_true_response_is_ranked_above_a_random_one(reward):
    contexts, true, random = true_and_random(300)
    above = reward.score_batch(contexts, true) > reward.score_batch(contexts, random)
    assert above.mean() > 0.85  # one random response in eight keeps to the topic too
    assert reward.calibration.accuracy > 0.85 and reward.calibration.reliability.brier < 0.12


def test_the_score_is_a_probability(reward):
    contexts, true, random = true_and_random(600)
    found = np.concatenate([reward.score_batch(contexts, true), reward.score_batch(contexts, random)])
    is_true = np.arange(1200) < 600
    assert found.dtype == np.float64 and ((found >= 0) & (found <= 1)).all()
    bins = [np.flatnonzero(np.floor(found * 9.999) == number) for number in range(10)]
    errors = [len(rows) / 1200 * abs(is_true[rows].mean() - found[rows].mean()) for rows in bins if len(rows)]
    assert sum(errors) < 0.07  # expected calibration error
    assert found.mean() == pytest.approx(0.5, abs=0.05)


def test_the_reliability_is_that_of_held_out_probabilities(reward):
    found = reward.calibration.reliability
    assert sum(found.count) == 2 * 300  # a true and a random response of each pair
    assert found.calibration_error < 0.1
    assert np.average(found.observed, weights=found.count) == pytest.approx(0.5)


def test_an_encoder_that_knows_nothing_says_a_half():
    encoder = toy_encoder(seed=3)
    encoder.bilinear.data.zero_()
    reward = CoherenceReward(encoder, fit_calibration(encoder, toy_pairs(60, rng(2)), rng()))
    assert reward.score(["do you know the dog?"], "i like the puppy.") == pytest.approx(0.5, abs=1e-6)
    assert reward.calibration.accuracy == 0.5
    assert reward.calibration.reliability.brier == pytest.approx(0.25)


def test_alone_and_in_a_batch_a_pair_has_the_same_score(reward):
    contexts, true, _ = true_and_random(7)
    together = reward.score_batch(contexts, true)
    alone = [reward.score(context, response) for context, response in zip(contexts, true, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert reward.score_batch([], []).shape == (0,)


def test_saved_and_loaded_it_scores_the_same(reward, tmp_path):
    reward.save_pretrained(tmp_path / "model")
    loaded = CoherenceReward.from_pretrained(tmp_path / "model")
    contexts, true, _ = true_and_random(20)
    assert loaded.score_batch(contexts, true) == pytest.approx(reward.score_batch(contexts, true), abs=0.02)
    assert loaded.calibration == reward.calibration
    assert json.loads((tmp_path / "model" / "calibration.json").read_text())["pairs"] == 300


def test_the_calibration_depends_on_its_seed_alone(learned):
    pairs = toy_pairs(40, rng(2))
    assert fit_calibration(learned, pairs, rng(1)) == fit_calibration(learned, pairs, rng(1))


def test_turns_of_one_speaker_are_scored_against_all_before(reward):
    turns = [
        ("me", "hello."),
        ("you", "do you know the dog?"),
        ("me", "i like the puppy."),
        ("me", " "),
        ("you", "ok."),
    ]
    turns.append(("me", "we saw a leash today."))
    heard = ["hello.", "do you know the dog?"]
    first = reward.score(heard, "i like the puppy.")
    last = reward.score([*heard, "i like the puppy.", "ok."], "we saw a leash today.")
    mute, found, absent = reward.score_turns([[("me", "hello."), ("you", ""), ("me", "hm?")], turns, []], "me")
    assert found == pytest.approx([np.nan, first, np.nan, last], abs=1e-5, nan_ok=True)
    assert np.isnan(mute).tolist() == [True, True] and absent.shape == (0,)


def test_the_social_score_finds_a_turn_that_does_not_fit_less_believable(reward):
    fits = [("you", "do you know the dog?"), ("me", "we saw a puppy today.")]
    strays = [("you", "do you know the dog?"), ("me", "we saw a pill today.")]
    goals = [SocialGoal("talk.", ())] * 2
    plain = SocialScorer("me")([fits, strays], goals)
    good, bad = SocialScorer("me", reward)([fits, strays], goals)
    assert plain[0].believability == plain[1].believability == good.believability == 10.0
    assert bad.believability < 5.0
    (alone,) = SocialScorer("me", reward)([strays], goals[:1])
    assert alone.believability == pytest.approx(bad.believability, abs=1e-4)
    with pytest.raises(TypeError, match="text of turns"):
        SocialScorer("me", reward)([[("you", None)]], goals[:1])


def test_a_missing_encoder_or_calibration_says_what_makes_it(encoder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no encoder at .*absent: `python -m experiments dmi pretrain`"):
        CoherenceReward.from_pretrained(tmp_path / "absent")
    encoder.save_pretrained(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match=r"calibration.json: `fit_calibration"):
        CoherenceReward.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("contexts", "responses", "error", "message"),
    [
        ([["hi"], []], ["a", "b"], ValueError, r"contexts\[1\] is empty"),
        ([["hi"], [" ", ""]], ["a", "b"], ValueError, r"contexts\[1\] is empty"),
        ([["hi"], ["you"]], ["a", "\n"], ValueError, r"responses\[1\] is empty"),
        ([["hi"], "you"], ["a", "b"], TypeError, r"contexts\[1\] is a str \('you'\)"),
        ([["hi"], [None]], ["a", "b"], TypeError, r"contexts\[1\] or its response holds None"),
        ([["hi"]], ["a", "b"], ValueError, "1 contexts and 2 responses"),
    ],
)
def test_bad_input_is_refused_by_name(reward, contexts, responses, error, message):
    with pytest.raises(error, match=message):
        reward.score_batch(contexts, responses)


def test_a_calibration_of_another_encoder_is_refused(reward):
    with pytest.raises(ValueError, match="for vectors of size 32, the encoder's are 16"):
        CoherenceReward(toy_encoder(hidden_size=16), reward.calibration)


def test_a_calibration_needs_pairs_to_be_fitted_on(learned: DialogueEncoder):
    with pytest.raises(ValueError, match="9 pairs"):
        fit_calibration(learned, toy_pairs(9, rng()), rng())
    with pytest.raises(ValueError, match="1 different responses"):
        fit_calibration(learned, [(["hi"], "yes")] * 20, rng())


@pytest.mark.skipif(not POCKET.is_dir(), reason="no small encoder is shipped yet")
def test_the_shipped_encoder_is_small_and_coherent():
    assert sum(path.stat().st_size for path in POCKET.iterdir()) <= 12 << 20
    reward = CoherenceReward.from_pretrained()
    assert reward.calibration.accuracy >= 0.8
    good, bad = reward.score_batch([["are you hungry?"]] * 2, ["yes, let's have lunch.", "my train leaves at nine."])
    assert bad < 0.5 < good


def test_without_a_shipped_encoder_the_error_says_what_makes_one(monkeypatch, tmp_path):
    monkeypatch.setattr("reward_models.dmi.encoder.POCKET", tmp_path / "pocket")
    with pytest.raises(FileNotFoundError, match=r"no encoder at .*pocket: `python -m experiments dmi pretrain`"):
        DialogueEncoder.from_pretrained("pocket")

"""Joint REINFORCE: the gradient by hand, frozen parts, failures without a score, options, resuming to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.curves import tensorboard_logger
from agents.exchanges import Draws, Exchange, dice_of, judge, labels, perplexity, roll_out, second_opinion
from agents.reinforce import CHECKPOINT, Reinforce, ReinforceConfig
from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.retry import Failure, PartError, Retry
from dialog_envs.speakers.ppg import PersonasGenerator, ResponseGenerator

DRAWS = Draws(Sampling(5, 1.0, 0.0), Sampling(4, 1.0, 0.0))
SMALL = {"learning_rate": 1e-3, "batch_size": 4, "validate_every": 2, "draws": DRAWS}
ONCE = Retry(attempts=1, longest_wait=0.0)


class LetterCritic:
    """Likes responses with the letter e; fails where it is told to."""

    def __init__(self, letter: str = "e", fails: tuple[str, ...] = ()) -> None:
        self.letter, self.fails, self.calls = letter, fails, 0

    def probability(self, personas, responses):
        self.calls += 1
        if any(persona in self.fails for persona in personas):
            raise PartError("no answer")
        return np.array([0.9 if self.letter in response else 0.2 for response in responses])

    def fingerprint(self) -> str:
        return self.letter


class ParityCritic(LetterCritic):
    """Has no taste: its labels are both frequent."""

    def probability(self, personas, responses):
        return np.array([0.9 if sum(map(ord, response)) % 2 else 0.2 for response in responses])


def exchange(row: int) -> Exchange:
    dialogue = Dialogue(situations={"you": f"i like jazz {row}.", "partner": "i am a baker."})
    dialogue = dialogue.said("partner", "hello there.").said("you", "how are you?").said("partner", f"well, {row}.")
    return Exchange(dialogue, "you", "partner", "my dog ran away.")


EXCHANGES = [exchange(row) for row in range(10)]


@pytest.fixture
def make(model_folder):
    """Return a function that makes a learner of two tiny generators."""

    def make(critic=None, second=None, **settings) -> Reinforce:
        folder = model_folder()
        parts = PersonasGenerator.from_pretrained(folder), ResponseGenerator.from_pretrained(folder)
        critic = critic or LetterCritic()
        return Reinforce(*parts, critic, second, ReinforceConfig(**(SMALL | settings)), ONCE)

    return make


def weights(part) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in part.named_parameters()}


def changed(part, before) -> bool:
    return any(not torch.equal(value, before[name]) for name, value in part.named_parameters())


def gradients(learner: Reinforce) -> torch.Tensor:
    return torch.cat([p.grad.ravel() for part in (learner.personas, learner.response) for p in part.parameters()])


def test_the_step_is_minus_reward_times_the_gradient_of_log_p(make):
    learner, by_hand = make(ParityCritic(), clip=1e9), make(ParityCritic(), clip=1e9)
    batch, count = EXCHANGES, len(EXCHANGES)
    rollout = roll_out(by_hand.personas, by_hand.response, batch, [(0, 0, 0, row) for row in range(count)], DRAWS)
    reward = labels(judge(by_hand.critic, batch, rollout.responses))
    assert set(reward) == {-1.0, 1.0}
    total = 0.0
    for row in range(count):  # one by one, without padding
        one = rollout.at([row])
        total = total - reward[row] * by_hand.personas.log_prob(*one.texts("personas"))[0].sum() / count
        total = total - reward[row] * by_hand.response.log_prob(*one.texts("response"))[0].sum() / count
    total.backward()
    numbers = learner.update(batch)
    assert numbers["rollout/ep_rew_mean"] == reward.mean()
    assert numbers["train/loss"] == pytest.approx(total.item(), rel=1e-4)
    assert torch.allclose(gradients(learner), gradients(by_hand), rtol=1e-3, atol=1e-5)


def test_the_reward_rises(make):
    learner = make(LetterCritic("a"), learning_rate=3e-3, batch_size=20, baseline="batch", validate_every=60)
    learner.train(EXCHANGES * 2, 60, validation=EXCHANGES, progress=False)
    first, last = learner.history[0]["eval/reward"], learner.history[-1]["eval/reward"]
    assert last > first + 0.5
    assert learner.history[0]["eval/kl_response"] == 0 and learner.history[-1]["eval/kl_response"] > 0


@pytest.mark.parametrize("name", ["personas", "response"])
def test_either_component_can_be_frozen(name, make):
    learner = make(**{f"train_{name}": False})
    frozen, free = (getattr(learner, part) for part in (name, "response" if name == "personas" else "personas"))
    before, other = weights(frozen), weights(free)
    learner.update(EXCHANGES[:4])
    assert not changed(frozen, before) and changed(free, other)
    optimised = {id(p) for group in learner.optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in frozen.parameters()}
    assert optimised == {id(p) for p in free.parameters()}


def test_nothing_to_learn_is_refused():
    with pytest.raises(ValueError, match="both False"):
        ReinforceConfig(train_personas=False, train_response=False)


def test_the_start_stays_where_it_was(make):
    learner = make(kl_weight=0.1)
    before = {name: part.lm.fingerprint() for name, part in learner.start.items()}
    learner.update(EXCHANGES[:4])
    assert {name: part.lm.fingerprint() for name, part in learner.start.items()} == before
    assert learner.personas.lm.fingerprint() != before["personas"]


def test_a_real_critic_is_never_trained(make, tmp_path):
    from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig
    from reward_models.dmi.tokens import train_tokenizer
    from reward_models.persona_critic import PersonaCritic

    tokenizer = train_tokenizer(["hello there, i like jazz and my dog."] * 9, 60)
    size = EncoderConfig(60, hidden_size=16, layers=2, heads=2, intermediate_size=16, max_length=64)
    DialogueEncoder.from_scratch(size, tokenizer).save_pretrained(tmp_path / "encoder")
    critic, second = (PersonaCritic.from_encoder(tmp_path / "encoder", seed=seed) for seed in (0, 1))
    before = critic.fingerprint(), second.fingerprint()
    learner = make(critic, second)
    learner.train(EXCHANGES, 2, validation=EXCHANGES[:3], progress=False)
    assert (critic.fingerprint(), second.fingerprint()) == before
    optimised = {id(p) for group in learner.optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(p) for part in (critic, second) for p in part.parameters()}
    assert all(p.grad is None for part in (critic, second) for p in part.parameters())


def test_failed_judgements_are_no_data(make):
    """The step with failed rows is the step without them."""
    failing = EXCHANGES[1].persona, EXCHANGES[2].persona

    class Flaky(LetterCritic):
        def probability(self, personas, responses):
            given = super().probability(personas, responses)
            return np.where([persona in failing for persona in personas], np.nan, given)

    learner, whole = make(Flaky(), clip=1e9), make(clip=1e9)
    numbers = learner.update(EXCHANGES[:4])
    assert numbers["rollout/failed"] == 0.5
    rollout = roll_out(whole.personas, whole.response, EXCHANGES[:4], [(0, 0, 0, row) for row in range(4)], DRAWS)
    reward = labels(judge(whole.critic, EXCHANGES[:4], rollout.responses))[[0, 3]]
    whole._step(rollout.at([0, 3]), torch.from_numpy(reward).float())
    assert torch.allclose(gradients(learner), gradients(whole), rtol=1e-4, atol=1e-6)
    assert numbers["rollout/ep_rew_mean"] == reward.mean()


def test_a_batch_that_fails_as_a_whole_changes_nothing(make):
    critic = LetterCritic(fails=tuple(e.persona for e in EXCHANGES))
    learner = make(critic)
    before = weights(learner.personas), weights(learner.response)
    assert learner.update(EXCHANGES[:4]) == {"rollout/failed": 1.0}
    assert not changed(learner.personas, before[0]) and not changed(learner.response, before[1])
    assert learner.steps == 1


def test_a_failing_critic_is_asked_again():
    class Second(LetterCritic):
        def probability(self, personas, responses):
            given = super().probability(personas, responses)
            if self.calls == 1:
                raise TimeoutError("too slow")
            return given

    critic = Second()
    assert judge(critic, EXCHANGES[:2], ["yes", "no"], Retry(2, 0.0)) == [0.9, 0.2]
    assert critic.calls == 2


def test_what_is_no_probability_is_a_failure():
    class Loud(LetterCritic):
        def probability(self, personas, responses):
            return np.array([0.5, 7.0, np.nan])

    judged = judge(Loud(), EXCHANGES[:3], ["a", "b", "c"], ONCE)
    assert judged[0] == 0.5 and all(isinstance(value, Failure) for value in judged[1:])
    assert np.array_equal(labels(judged), [1.0, np.nan, np.nan], equal_nan=True)


def test_second_opinions_count_where_neither_critic_failed():
    first, second = np.array([1, -1, np.nan, 1.0]), np.array([1, 1, 1, np.nan])
    assert second_opinion("eval", first, second) == {"eval/second_critic": 1.0, "eval/critic_agreement": 0.5}


def test_baselines_do_not_depend_on_the_reward_they_are_taken_from(make):
    reward = np.array([1.0, -1.0, 1.0, 1.0])
    assert make(baseline="none")._baseline(reward) == 0
    assert make(baseline="batch")._baseline(reward).tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])
    learner = make(baseline="running", baseline_decay=0.5)
    assert learner._baseline(reward) == 0  # nothing is known yet
    assert learner._baseline(np.zeros(4)) == 0.5
    assert learner._baseline(reward) == pytest.approx(0.5 / 3)  # (0.25 * 0.5 + 0.5 * 0) / 0.75


def test_the_leash_holds_back(make):
    def distance(weight: float) -> float:
        moved = 0.0
        for seed in range(3):
            learner = make(kl_weight=weight, learning_rate=1e-3, validate_every=20, seed=seed)
            learner.train(EXCHANGES, 20, validation=EXCHANGES, progress=False)
            moved += learner.history[-1]["eval/kl_response"] + learner.history[-1]["eval/kl_personas"]
        return moved

    assert distance(5.0) < distance(0.0)


def test_gradients_are_clipped(make):
    learner = make(clip=1e-3)
    numbers = learner.update(EXCHANGES[:4])
    assert numbers["train/gradient_norm"] > 1e-3
    assert gradients(learner).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_bf16_follows_nearly_the_same_gradient(make):
    half, whole = make(ParityCritic(), bf16=True, clip=1e9), make(ParityCritic(), clip=1e9)
    numbers = [learner.update(EXCHANGES) for learner in (half, whole)]
    assert numbers[0]["rollout/ep_rew_mean"] == numbers[1]["rollout/ep_rew_mean"]  # what is drawn is the same
    assert torch.cosine_similarity(gradients(half), gradients(whole), 0).item() > 0.98


def test_a_rollout_does_not_depend_on_its_batch(make):
    learner = make()
    seeds = [(1, row) for row in range(10)]
    whole = roll_out(learner.personas, learner.response, EXCHANGES, seeds, DRAWS)
    alone = roll_out(learner.personas, learner.response, EXCHANGES[7:8], seeds[7:8], DRAWS)
    assert (whole.personas[7], whole.responses[7]) == (alone.personas[0], alone.responses[0])
    assert whole.persona_prompts[7].ids == alone.persona_prompts[0].ids
    assert dice_of(seeds, 3).shape == (10, 3)


def test_perplexity_is_that_of_the_texts(make):
    learner = make()
    prompts = learner.response.prompts([e.dialogue for e in EXCHANGES[:3]], ["you"] * 3, [None] * 3)
    texts = ["my dog.", "how are you doing?", "hello"]
    found = [
        learner.response.log_prob([p], learner.response.encode([t]))[0] for p, t in zip(prompts, texts, strict=True)
    ]
    nats, tokens = -sum(f.sum().item() for f in found), sum(f.numel() for f in found)
    assert perplexity(learner.response, prompts, texts) == pytest.approx(np.exp(nats / tokens), rel=1e-4)


def test_each_exchange_is_met_once_before_any_is_met_again(make):
    learner = make()
    met = []
    for learner.steps in range(5):
        met += learner._drawn(10).tolist()
    assert sorted(met[:10]) == sorted(met[10:]) == list(range(10))
    assert met[:10] != met[10:]


def test_bad_data_is_refused_by_name(make):
    with pytest.raises(ValueError, match="3 exchanges, expected a batch of 4 or more"):
        make().train(EXCHANGES[:3], 1)
    bare = Exchange(Dialogue().said("partner", "hello."), "you", "partner", "yes.")
    with pytest.raises(ValueError, match=r"exchanges\[4\]: 'you' has no persona"):
        make().train([*EXCHANGES[:4], bare], 1)
    with pytest.raises(ValueError, match="baseline is 'median'"):
        ReinforceConfig(baseline="median")


def test_curves_have_the_projects_tags(make, tmp_path):
    learner = make(second=LetterCritic("a"), kl_weight=0.01)
    learner.train(EXCHANGES, 4, validation=EXCHANGES, logger=tensorboard_logger(tmp_path), progress=False)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/loss", "train/kl_personas"} <= tags
    assert {"eval/reward", "eval/second_critic", "eval/critic_agreement"} <= tags
    for name in ("personas", "response"):
        assert {f"eval/perplexity_{name}", f"eval/kl_{name}", f"eval/tokens_{name}"} <= tags
    assert [event.step for event in events.Scalars("eval/reward")] == [0, 2, 4]


def test_a_checkpoint_of_something_else_is_refused(make, tmp_path):
    make().train(EXCHANGES, 2, checkpoint_dir=tmp_path, progress=False)
    for settings, data, message in (
        ({"seed": 1}, EXCHANGES, "this learner has"),
        ({"critic": LetterCritic("a")}, EXCHANGES, "by another critic or on other exchanges"),
        ({}, EXCHANGES[:8], "by another critic or on other exchanges"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**settings).train(data, 4, checkpoint_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match="already taken 2 updates, more than the 1"):
        make().train(EXCHANGES, 1, checkpoint_dir=tmp_path, progress=False)


def run_script(folder: Path, model: Path) -> subprocess.Popen:
    script = f"""
import json, torch; torch.set_num_threads(1)
from pathlib import Path
from tests.agents.test_reinforce import *
parts = PersonasGenerator.from_pretrained({str(model)!r}), ResponseGenerator.from_pretrained({str(model)!r})
config = ReinforceConfig(**(SMALL | {{"baseline": "running", "kl_weight": 0.01}}))
learner = Reinforce(*parts, LetterCritic(), LetterCritic("a"), config, ONCE)
learner.train(EXCHANGES, 12, validation=EXCHANGES[:4], checkpoint_dir={str(folder)!r}, progress=False)
Path({str(folder)!r}, "history.json").write_text(json.dumps(learner.history))
"""
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_killed_training_has_the_bits_of_the_unbroken_one(model_folder, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    run = run_script(unbroken, model_folder())
    assert run.wait() == 0, run.stderr.read().decode()
    run = run_script(broken, model_folder())
    while run.poll() is None and not (broken / CHECKPOINT).exists():
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    run = run_script(broken, model_folder())
    assert run.wait() == 0, run.stderr.read().decode()
    histories = [json.loads((folder / "history.json").read_text()) for folder in (unbroken, broken)]
    assert len(histories[0]) == 7 and histories[0] == histories[1]
    assert (unbroken / CHECKPOINT).read_bytes() == (broken / CHECKPOINT).read_bytes()

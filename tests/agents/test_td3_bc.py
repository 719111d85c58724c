"""TD3+BC: it learns from random behaviour, and a run that was killed ends as the unbroken one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from agents.baselines import RandomPolicy
from agents.buffers import collect
from agents.curves import tensorboard_logger
from agents.networks import Actor, ActorPolicy, Critics, StackedLinear
from agents.td3_bc import CHECKPOINT, TD3BC, TD3BCConfig
from tests.agents.conftest import Killed, ToyVectorEnv, same_tensors, toy_buffer

CONFIG = TD3BCConfig(hidden=(32, 32), batch_size=64, alpha=10.0, learning_rate=2e-3, seed=3)

KILLED_PROGRAM = """
import sys, torch
from pathlib import Path
from agents.td3_bc import TD3BC
from tests.agents.conftest import toy_buffer
from tests.agents.test_td3_bc import CONFIG
torch.set_num_threads(1)
TD3BC(3, 2, CONFIG).train(toy_buffer(500), 10**9, checkpoint_dir=Path(sys.argv[1]), checkpoint_every=7, progress=False)
"""


def networks(learner: TD3BC) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor
        for part in ("actor", "critic", "actor_target", "critic_target")
        for name, tensor in getattr(learner, part).state_dict().items()
    }


def mean_reward(policy: ActorPolicy) -> float:
    env = ToyVectorEnv(num_envs=64)
    obs, rewards = env.reset(seed=99)[0], []
    for _ in range(20):
        obs, reward, *_ = env.step(policy.act(obs))
        rewards.append(reward.mean())
    return float(np.mean(rewards))


def test_it_beats_the_behaviour_by_a_margin() -> None:
    buffer = toy_buffer(3000)
    behaviour = buffer.data.reward.mean()
    learner = TD3BC(3, 2, CONFIG)
    learner.train(buffer, 600, progress=False)
    assert behaviour == pytest.approx(1 / 3, abs=0.05)
    assert mean_reward(learner.policy()) > behaviour + 0.4


def test_the_cloning_term_is_there() -> None:
    buffer = toy_buffer(1000)
    buffer.data.action[:] = 0.5  # the behaviour now always does the same; a small alpha must stay with it
    learner = TD3BC(3, 2, replace(CONFIG, alpha=0.01))
    learner.train(buffer, 300, progress=False)
    np.testing.assert_allclose(learner.act(buffer.data.obs), 0.5, atol=0.1)


def test_one_step_follows_the_equations() -> None:
    config = replace(CONFIG, policy_noise=2.0, noise_clip=0.95, policy_freq=1, normalize=False)
    learner, batch = TD3BC(3, 2, config), toy_buffer(64).data
    obs, action, next_obs, reward, done = (torch.from_numpy(array) for array in batch)
    with torch.no_grad():
        noise = 2.0 * torch.randn(64, 2, generator=torch.Generator().manual_seed(config.seed))
        next_action = (learner.actor_target(next_obs) + noise.clamp(-0.95, 0.95)).clamp(-1, 1)
        first, second = learner.critic_target(next_obs, next_action)
        learner.critic_target.layers[-1].bias[1] += (first - second).median()  # now each is the smaller one somewhere
        values = learner.critic_target(next_obs, next_action)
        assert (values[0] < values[1]).any() and (values[0] > values[1]).any()
        target = reward + config.discount * (1 - done) * values.min(0).values
        expected = sum(F.mse_loss(value, target) for value in learner.critic(obs, action))
        own_action, old_actor = learner.actor(obs), learner.actor.layers[0].weight.clone()
        cloning = (own_action - action).square().mean()
    losses = learner.train_step((obs, action, next_obs, reward, done))
    assert losses["train/critic_loss"] == pytest.approx(expected.item(), rel=1e-5)
    with torch.no_grad():
        value = learner.critic(obs, own_action)[0]
        actor_loss = -config.alpha * value.mean() / value.abs().mean() + cloning
        new_actor, target_actor = learner.actor.layers[0].weight, learner.actor_target.layers[0].weight
    assert losses["train/actor_loss"] == pytest.approx(actor_loss.item(), rel=1e-4)
    torch.testing.assert_close(target_actor, old_actor + config.tau * (new_actor - old_actor))


@pytest.mark.parametrize("actions", ["ball", "sphere"])
def test_one_step_on_a_set_of_actions_with_dropped_units(actions: str) -> None:
    config = replace(
        CONFIG,
        actions=actions,
        dropout=0.5,
        layer_norm=True,
        critics=5,
        policy_noise=2.0,
        policy_freq=1,
        normalize=False,
    )
    learner, batch = TD3BC(3, 2, config), toy_buffer(64).data
    obs, action, next_obs, reward, done = (torch.from_numpy(array) for array in batch)
    generator = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        noise = (2.0 * torch.randn(64, 2, generator=generator)).clamp(-0.5, 0.5) / 2**0.5
        next_action = learner.actor_target(next_obs) + noise
        length = next_action.norm(dim=1, keepdim=True)
        next_action = next_action / (length if actions == "sphere" else length.clamp_min(1))
        values = learner.critic_target(next_obs, next_action)
        pair = torch.randperm(5, generator=generator)[:2]
        target = reward + config.discount * (1 - done) * values[pair].amin(0)
        own_action = learner.actor(obs)
        cloning = (own_action - action).square().mean()
        fitted = learner.critic(obs, action, generator)
        expected = sum(F.mse_loss(value, target) for value in fitted)
        whole = sum(F.mse_loss(value, target) for value in learner.critic(obs, action))
    losses = learner.train_step((obs, action, next_obs, reward, done))
    assert losses["train/critic_loss"] == pytest.approx(expected.item(), rel=1e-5) != pytest.approx(whole.item())
    value = learner.critic(obs, own_action).mean(0)
    actor_loss = -config.alpha * value.mean() / value.abs().mean() + cloning
    assert losses["train/actor_loss"] == pytest.approx(actor_loss.item(), rel=1e-4)


def test_actors_stay_in_their_set() -> None:
    obs = torch.cat([0.01 * torch.randn(100, 3), 9 * torch.randn(100, 3)])
    lengths = {}
    for actions in ("box", "ball", "sphere"):
        actor = Actor(3, 2, (64,), actions)
        for layer in (actor.layers[0], actor.layers[-1]):  # small observations then make small vectors
            layer.weight.data *= 4
            layer.bias.data.zero_()
        lengths[actions] = actor(obs).norm(dim=1)
        assert actor(obs).abs().max() <= 1 + 1e-6
    assert lengths["box"].max() > 1.2 and lengths["ball"].max() < 1 + 1e-5 > lengths["ball"].min() + 0.1
    torch.testing.assert_close(lengths["sphere"], torch.ones(200))


def test_it_learns_on_the_sphere(tmp_path: Path) -> None:
    env = ToyVectorEnv(num_envs=16)
    buffer = collect(env, RandomPolicy(env.single_action_space, 0, "sphere"), 2000, 0, progress=False)
    learner = TD3BC(3, 2, replace(CONFIG, actions="sphere", dropout=0.2))
    learner.train(buffer, 500, progress=False)
    learner.policy().save(tmp_path / "policy.safetensors")
    policy = ActorPolicy.load(tmp_path / "policy.safetensors")
    best = buffer.data.obs[:, :2] / np.linalg.norm(buffer.data.obs[:, :2], axis=1, keepdims=True)
    cosines = (policy.act(buffer.data.obs) * best).sum(1)
    assert np.median(cosines) > 0.9


def test_dropped_units_keep_the_mean_and_are_normalised() -> None:
    critic = Critics(3, 2, (4096,), dropout=0.5, layer_norm=True, action_scale=2.0)
    generator = torch.Generator().manual_seed(0)
    obs, action = torch.randn(5, 3), torch.randn(5, 2)
    x = torch.cat([obs, 2 * action], 1) @ critic.layers[0].weight[0] + critic.layers[0].bias[0]
    hidden = F.layer_norm(x, (4096,)).relu()
    plain = (hidden @ critic.layers[1].weight[0] + critic.layers[1].bias[0])[:, 0]
    torch.testing.assert_close(critic(obs, action)[0], plain)
    torch.testing.assert_close(critic.climbed(obs, action), plain)
    draws = torch.stack([critic(obs, action, generator)[0] for _ in range(50)])
    assert (draws[0] != draws[1]).all()
    values = torch.stack([critic(obs, action, generator) for _ in range(1000)])
    torch.testing.assert_close(values.mean(0)[0], plain, atol=0.08, rtol=0)


def test_the_stacked_critic_is_two_plain_ones() -> None:
    critic = Critics(3, 2, (8, 8))
    obs, action = torch.randn(5, 3), torch.randn(5, 2)
    for which in range(2):
        x = torch.cat([obs, action], dim=1)
        for index, layer in enumerate(critic.layers):
            assert isinstance(layer, StackedLinear)
            x = F.linear(x, layer.weight[which].T, layer.bias[which, 0])
            x = x.relu() if index < 2 else x
        torch.testing.assert_close(critic(obs, action)[which], x[:, 0])
    torch.testing.assert_close(critic.climbed(obs, action), critic(obs, action)[0])
    first, second = critic.layers[0].weight
    assert not torch.equal(first, second)


def test_training_leaves_the_callers_generators_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.randn(1), np.random.rand()
    torch.manual_seed(0)
    np.random.seed(0)
    TD3BC(3, 2, CONFIG).train(toy_buffer(100), 4, progress=False)
    assert (torch.randn(1), np.random.rand()) == expected


@pytest.mark.parametrize("steps", [5, 10, 23])
def test_a_stopped_training_ends_with_the_unbroken_weights(tmp_path: Path, steps: int) -> None:
    buffer = toy_buffer(500)

    def run(folder: Path, die_after: int | None) -> TD3BC:
        learner = TD3BC(3, 2, replace(CONFIG, dropout=0.3))

        def evaluate(policy: ActorPolicy) -> dict[str, float]:
            if die_after is not None and learner.steps > die_after:
                raise Killed
            return {"rollout/ep_rew_mean": float(policy.act(buffer.data.obs).mean())}

        every = {"checkpoint_every": 10, "log_every": 4, "evaluate_every": 3}
        learner.train(buffer, 30, checkpoint_dir=folder, evaluate=evaluate, progress=False, **every)
        return learner

    unbroken = run(tmp_path / "unbroken", None)
    with pytest.raises(Killed):
        run(tmp_path / "broken", steps)
    resumed = run(tmp_path / "broken", None)
    assert same_tensors(networks(resumed), networks(unbroken))
    assert resumed.history == unbroken.history and resumed.steps == 30
    again = run(tmp_path / "broken", 0)  # nothing is left to do, so nothing is evaluated
    assert same_tensors(networks(again), networks(unbroken))


def test_kill_9_in_the_middle_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", KILLED_PROGRAM, str(tmp_path)], cwd=root)
    deadline = time.monotonic() + 50
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and path.exists()

    killed_at = TD3BC.load(path).steps
    assert killed_at > 0 and killed_at % 7 == 0
    buffer, steps = toy_buffer(500), killed_at + 20
    resumed, unbroken = TD3BC(3, 2, CONFIG), TD3BC(3, 2, CONFIG)
    resumed.train(buffer, steps, checkpoint_dir=tmp_path, progress=False)
    unbroken.train(buffer, steps, progress=False)
    assert resumed.steps == steps and same_tensors(networks(resumed), networks(unbroken))


def test_a_policy_is_saved_and_acts_the_same(tmp_path: Path) -> None:
    learner = TD3BC(3, 2, CONFIG)
    learner.train(toy_buffer(200), 10, progress=False)
    policy, obs = learner.policy(), np.random.default_rng(0).uniform(-1, 1, (5, 3))
    actions = policy.act(obs)
    policy.save(tmp_path / "policy")
    assert (ActorPolicy.load(tmp_path / "policy").act(obs) == actions).all()
    assert (learner.act(obs) == actions).all() and np.abs(actions).max() <= 1
    np.testing.assert_allclose(policy.act(obs[0]), actions[0], atol=1e-6)
    learner.train(toy_buffer(200), 20, progress=False)
    assert (policy.act(obs) == actions).all() and (learner.act(obs) != actions).any()


def test_curves_have_the_common_tags(tmp_path: Path) -> None:
    logger = tensorboard_logger(tmp_path)
    learner = TD3BC(3, 2, CONFIG)
    evaluate = {"rollout/ep_rew_mean": 0.5}
    learner.train(toy_buffer(200), 20, logger=logger, log_every=10, evaluate=lambda _: evaluate, progress=False)
    logger.close()
    events = EventAccumulator(os.fspath(tmp_path)).Reload()
    expected = {"rollout/ep_rew_mean", "time/fps", "train/critic_loss", "train/actor_loss"}
    assert expected <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/critic_loss")] == [10, 20]


def test_bad_input_is_refused_by_name(tmp_path: Path) -> None:
    learner = TD3BC(3, 2, CONFIG)
    with pytest.raises(ValueError, match=r"observation has shape \(2, 4\), this policy takes \(N, 3\)"):
        learner.act(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="NaN"):
        learner.act(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match=r"sizes \(3, 2\), this learner takes \(5, 2\)"):
        TD3BC(5, 2, CONFIG).train(toy_buffer(10), 1, progress=False)
    learner.train(toy_buffer(100), 4, checkpoint_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match="not the one that this learner has been trained on"):
        TD3BC(3, 2, CONFIG).train(toy_buffer(100, seed=1), 8, checkpoint_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match="already taken 4 steps"):
        TD3BC(3, 2, CONFIG).train(toy_buffer(100), 2, checkpoint_dir=tmp_path, progress=False)
    with pytest.raises(ValueError, match="has config"):
        TD3BC(3, 2, replace(CONFIG, alpha=1.0)).restore(tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match=r"discount is 1\.5"):
        TD3BCConfig(discount=1.5)
    with pytest.raises(ValueError, match=r"dropout is 1\.0"):
        TD3BCConfig(dropout=1.0)
    with pytest.raises(ValueError, match="critics is 1, expected at least 2"):
        TD3BCConfig(critics=1)
    with pytest.raises(ValueError, match="unknown set of actions 'spere', did you mean 'sphere'"):
        TD3BCConfig(actions="spere")

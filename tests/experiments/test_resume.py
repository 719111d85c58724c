"""A run that is killed at any moment and started again gives what the unbroken run gives (CPU)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from dialog_envs import scenarios
from experiments.pocket_trainer import PocketTrainer, PretrainConfig, Stage
from experiments.pretrain import _train
from experiments.pretraining_data import Mixture, tokenize
from tests.conftest import tiny_tokenizer


def start(folder, model) -> subprocess.Popen:
    script = (
        "import torch; torch.set_num_threads(1)\n"
        "from experiments import train\n"
        "original = train.Config.env\n"
        "train.Config.env = lambda self, **more: original(self, **more) | {'max_new_tokens': 6, 'action_dim': 4}\n"
        f"train.run(train.Config(out=train.Path({str(folder)!r}), lm={str(model)!r}, up_map='pca', transitions=256,\n"
        "    steps=150, rounds=3, seeds=1, rows=4, evaluation_episodes=4, max_turns=2))\n"
    )
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_killed_training_gives_the_unbroken_curve(model_folder, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    run = start(unbroken, model_folder())
    assert run.wait() == 0, run.stderr.read().decode()
    for sign in ("round_0/buffer", "round_0/td3_bc", "round_1/buffer"):  # while it collects, trains, collects again
        run = start(broken, model_folder())
        while run.poll() is None and not list(broken.glob(f"seed_0/{sign}.safetensors")):
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    run = start(broken, model_folder())
    assert run.wait() == 0, run.stderr.read().decode()
    curves = [json.loads((folder / "seed_0/curve.json").read_text()) for folder in (unbroken, broken)]
    assert len(curves[0]) == 3
    assert curves[0] == curves[1]
    policies = [(folder / "seed_0/policy.safetensors").read_bytes() for folder in (unbroken, broken)]
    assert policies[0] == policies[1]


class PowerCut(Exception):
    pass


def test_a_killed_pretraining_gives_the_unbroken_weights(tmp_path):
    tokenizer = tiny_tokenizer()
    config = PretrainConfig(
        hidden_size=16, layers=1, heads=1, intermediate_size=16, stages=(Stage(4, 0.5, 0.3), Stage(8, 0.5, 0.6)),
        tokens_per_batch=512, pool=6, checkpoint_every=3, validate_every=5, action_dim=4,
    )  # fmt: skip
    real = [scenarios.sample_dialogue(np.random.default_rng(i), "train") for i in range(8)]

    def weights(out, pools_until_cut: int | None) -> dict[str, torch.Tensor]:
        calls = 0

        def grammar(rng):
            nonlocal calls
            calls += 1
            if pools_until_cut is not None and calls > pools_until_cut:
                raise PowerCut
            return scenarios.sample_dialogue(rng, "train")

        torch.manual_seed(0)
        trainer = PocketTrainer(config, tokenizer)
        _train(
            config,
            trainer,
            Mixture({"own": tokenize(real, tokenizer)}, {"own": 1.0}, grammar, tokenizer),
            tokenizer,
            {},
            out,
        )
        return trainer.state_dict()

    for folder in ("unbroken", "broken"):
        (tmp_path / folder).mkdir()
    unbroken = weights(tmp_path / "unbroken", None)
    with pytest.raises(PowerCut):
        weights(tmp_path / "broken", 7)
    assert (tmp_path / "broken/checkpoint.safetensors").exists()
    resumed = weights(tmp_path / "broken", None)
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)

"""A pretraining that is stopped goes on as if it had not been; several processes do what one does."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.checkpoint import load_tree
from experiments.dmi import pretrain
from tests.experiments.dmi.test_verbs import settings

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from experiments.dmi import pairs, pretrain
from tests.experiments.dmi.conftest import CORPORA
from tests.experiments.dmi.test_verbs import settings
pairs.TRAIN_CORPORA = CORPORA
pretrain.run(settings(Path(sys.argv[1]), Path(sys.argv[2]), steps=6, validate_every=3))
"""


class PowerCut(Exception):
    pass


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_tree(out / "checkpoint.safetensors")["encoder"]


def test_a_stopped_pretraining_gives_the_unbroken_run(data, tmp_path, monkeypatch):
    dropout = settings(tmp_path, data).encoder
    config = settings(tmp_path / "unbroken", data, steps=9, validate_every=3, encoder=replace(dropout, dropout=0.1))
    pretrain.run(config)
    calls, original = 0, pretrain.train_step

    def cut(*arguments, **more):
        nonlocal calls
        calls += 1
        if calls > 5:
            raise PowerCut
        return original(*arguments, **more)

    monkeypatch.setattr(pretrain, "train_step", cut)
    with pytest.raises(PowerCut):
        pretrain.run(replace(config, out=tmp_path / "broken"))
    monkeypatch.setattr(pretrain, "train_step", original)
    pretrain.run(replace(config, out=tmp_path / "broken"))
    unbroken, resumed = weights(tmp_path / "unbroken"), weights(tmp_path / "broken")
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    histories = [load_tree(tmp_path / name / "checkpoint.safetensors")["progress"] for name in ("unbroken", "broken")]
    assert histories[0] == histories[1]
    assert curve(tmp_path / "unbroken") == curve(tmp_path / "broken")
    assert [step for step, _ in curve(tmp_path / "broken")] == [3, 6, 9]


def curve(out: Path) -> list[tuple[int, float]]:
    """Return the steps and values of the validation curve in TensorBoard."""
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("mi_bits/valid")]


@pytest.mark.slow
def test_two_processes_train_as_one(data, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    shared = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    ways = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }
    for name, command in ways.items():
        done = subprocess.run(
            [*command, str(script), str(tmp_path / name), str(data)], env=shared, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], two[name], atol=2e-3) for name in one)  # Adam enlarges what rounding does
    histories = [load_tree(tmp_path / name / "checkpoint.safetensors")["progress"] for name in ways]
    for curve in ("train", "valid"):
        assert np.array(histories[0][curve]) == pytest.approx(np.array(histories[1][curve]), abs=1e-3)

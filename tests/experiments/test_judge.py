"""The judge verb: it trains and measures, writes card and plot, and measures any other judge on the same pairs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dialog_envs.judges import make_judge
from experiments import judge
from reward_models.calibration import reliability
from reward_models.dmi.encoder import EncoderConfig
from reward_models.utterance_judge import UtteranceJudge
from reward_models.utterance_training import TrainingConfig

WORDS = {"Safe": ["you are kind", "what a lovely day"], "Unsafe": ["you are stupid", "what a dumb day"]}


@pytest.fixture
def config(tmp_path) -> judge.Config:
    rng = np.random.default_rng(0)
    labels = [str(rng.choice(list(WORDS))) for _ in range(200)]
    pairs = [{"context": f"hello {i}", "response": str(rng.choice(WORDS[x])), "label": x} for i, x in enumerate(labels)]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    return judge.Config(
        data=tmp_path / "pairs.json", encoder=judge.SCRATCH, size=EncoderConfig(200, 16, 1, 2, 32, 32),
        training=TrainingConfig(epochs=8, learning_rate=1e-2), out=tmp_path / "judge", threads=1,
    )  # fmt: skip


def results(out) -> dict[str, dict]:
    return {row["metric"]: row for row in json.loads((out / "results.json").read_text())}


def test_it_trains_measures_and_writes_a_card_and_then_measures_what_it_trained(config, tmp_path, capsys):
    found = results(judge.run(config))
    assert found["precision"]["value"] > 0.9 and found["recall"]["value"] > 0.9
    assert 0 < found["recall"]["ci95"] < 0.5 and found["brier"]["value"] < 0.1
    card = (config.out / "judge" / "README.md").read_text()
    assert f"| {found['precision']['value']:.3f} | {found['recall']['value']:.3f} |" in card
    assert "trained from `scratch`" in card and "no moderation system" in card
    assert (config.out / "reliability.png").stat().st_size > 0 and "calibration_error" in capsys.readouterr().out

    trained = str(config.out / "judge")
    measured = results(judge.run(judge.Config(judge=f"utterance:{trained}", data=config.data, out=tmp_path / "again")))
    assert measured["f1"]["n"] == 20, "it is measured on the contexts that it has not seen"
    assert {name: row["value"] for name, row in measured.items()} == pytest.approx(
        {name: row["value"] for name, row in found.items()}, abs=0.01
    )
    hashed = json.loads((tmp_path / "again" / "run.json").read_text())["data"]
    assert str(config.out / "judge" / "head.safetensors") in hashed

    examples = judge.read_examples(config.data)[:7]
    own = UtteranceJudge.from_pretrained(trained)
    expected = own([example.context for example in examples], [example.response for example in examples])
    assert judge.probabilities(f"utterance:{trained}", examples) == pytest.approx(expected)


def test_judges_files_are_named(config, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "judge.json").write_text(json.dumps({"name": str(tmp_path / "weights")}))
    weights = [tmp_path / "weights" / "model.safetensors"]
    assert judge.judge_files(config) == []
    assert judge.judge_files(replace(config, encoder=str(tmp_path / "weights"))) == weights
    assert judge.judge_files(replace(config, judge=f"classifier:{tmp_path / 'weights'}")) == weights
    assert judge.judge_files(replace(config, judge=f"classifier:{tmp_path / 'judge.json'}")) == [
        tmp_path / "judge.json", *weights,
    ]  # fmt: skip


def test_points_of_the_plot_by_hand():
    data = reliability([0.05] * 10 + [0.95] * 4, [False] * 9 + [True] + [True] * 4)
    found = judge.points(vars(data))
    assert [(round(x, 3), round(y, 3)) for x, y, _ in found] == [(0.05, 0.1), (0.95, 1.0)]
    assert found[0][2] == pytest.approx(0.304, abs=0.002)  # Wilson's interval of 1 in 10 is 0.018 to 0.404
    assert judge.half_width(0.0, 0) is None


def test_what_is_missing_is_named(config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        judge.run(judge.Config(data=tmp_path / "none.json", out=tmp_path / "x"))
    with pytest.raises(FileNotFoundError, match="experiments judge` trains one"):
        make_judge(f"utterance:{tmp_path}")


def test_what_is_shipped_is_what_was_trained(config, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "POCKET", tmp_path / "shipped")
    judge.run(replace(config, ship=True))
    own, shipped = (UtteranceJudge.from_pretrained(folder) for folder in (config.out / "judge", tmp_path / "shipped"))
    assert own(["hello"], ["you are stupid"]) == shipped(["hello"], ["you are stupid"])
    assert "no moderation system" in (tmp_path / "shipped" / "README.md").read_text()
    monkeypatch.setattr(judge, "LARGEST", 1000)
    with pytest.raises(ValueError, match="the judge and its card take"):
        judge.run(replace(config, ship=True))
    with pytest.raises(ValueError, match="judge is 'utterance': what is shipped is trained"):
        judge.run(replace(config, judge="utterance", ship=True))

"""The comparison without grammar sees as many real tokens, by the same stages and rates; runs tell what they saw."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch

from dialog_envs import corpora, scenarios
from dialog_envs.dialogue import Dialogue
from experiments import pretrain
from experiments.card import validation_curve
from experiments.pocket_trainer import PocketTrainer, PretrainConfig, Stage, clock, learning_rate, stage_at
from experiments.pretrain import sequence_batches, validate
from experiments.pretraining_data import Batch, Mixture, SequenceMaker, tokenize
from tests.conftest import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
STAGES = (Stage(4, 0.5, 0.0), Stage(6, 0.5, 0.9))
SIZES = {"hidden_size": 16, "layers": 1, "heads": 1, "intermediate_size": 16, "tokens_per_batch": 512, "action_dim": 4}


def tiny(**more) -> PretrainConfig:
    return PretrainConfig(**SIZES, pool=6, checkpoint_every=3, validate_every=5, stages=STAGES, **more)


def real_dialogue(seed: int) -> Dialogue:
    made = scenarios.sample_dialogue(np.random.default_rng(seed), "train")
    return Dialogue(turns=made.turns, situations=made.situations, source="real")


@pytest.fixture
def sees(monkeypatch):
    """Return what each step was trained with: its stage, its batch."""
    seen: list[tuple[Stage, Batch]] = []
    original = PocketTrainer.forward

    def forward(self, batch, stage, generator=None):
        seen.append((stage, batch))
        return original(self, batch, stage, generator)

    monkeypatch.setattr(PocketTrainer, "forward", forward)
    return seen


def trained(config: PretrainConfig, out) -> dict[str, float]:
    out.mkdir(exist_ok=True)
    torch.manual_seed(0)
    real = tokenize([real_dialogue(seed) for seed in range(8)], TOKENIZER)
    mixture = Mixture({"real": real}, {"real": 1.0}, lambda rng: scenarios.sample_dialogue(rng, "train"), TOKENIZER)
    return pretrain._train(config, PocketTrainer(config, TOKENIZER), mixture, TOKENIZER, {}, out)


def real_tokens(progress: dict[str, float]) -> float:
    return progress["tokens"] - progress["own_tokens"]


def test_the_grammar_is_left_out_and_the_real_tokens_are_those_asked_for(tmp_path, sees, monkeypatch):
    full = trained(tiny(), tmp_path / "full")
    assert full["step"] == len(sees) == 10 and 0 < full["own_tokens"] < full["tokens"]
    assert full["tokens"] == sum(int(batch.trained.sum()) for _, batch in sees)
    assert full["own_tokens"] == sum(int(batch.trained[batch.own].sum()) for _, batch in sees)
    sees.clear()
    rates = []
    original = torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: rates.append(self.param_groups[0]["lr"]) or original(self)
    )
    wanted = 9 * real_tokens(full)
    alone = trained(tiny(real_tokens=wanted), tmp_path / "alone")
    assert alone["own_tokens"] == 0 and not any(batch.own.any() for _, batch in sees)
    assert wanted <= alone["tokens"] < wanted + int(sees[-1][1].trained.sum())
    counts = np.cumsum([0] + [int(batch.trained.sum()) for _, batch in sees])[:-1]
    assert rates == pytest.approx([learning_rate(tiny(), 10 * count / wanted) for count in counts])
    assert [stage for stage, _ in sees] == [STAGES[int(count >= 0.4 * wanted)] for count in counts]
    sees.clear()
    assert trained(tiny(real_tokens=wanted), tmp_path / "alone")["tokens"] == alone["tokens"] and not sees, "it is done"


def test_the_rate_follows_the_share_of_real_tokens():
    plain, scaled = tiny(), tiny(real_tokens=1000)
    for share in (0.0, 0.3, 0.5, 0.95, 1.0):
        progress = {"step": 999, "tokens": 1000 * share + 70, "own_tokens": 70}
        assert clock(scaled, progress) == pytest.approx(10 * share)
        assert learning_rate(scaled, clock(scaled, progress)) == pytest.approx(learning_rate(plain, 10 * share))
        assert stage_at(scaled, clock(scaled, progress)) == STAGES[int(share >= 0.4)]
    assert clock(plain, {"step": 7, "tokens": 1, "own_tokens": 0}) == 7
    assert clock(scaled, {"step": 7, "tokens": 5000, "own_tokens": 0}) == 10
    assert learning_rate(scaled, 10) == pytest.approx(0.02 * scaled.learning_rate)


def test_a_killed_comparison_gives_the_unbroken_weights(tmp_path, monkeypatch):
    config = tiny(real_tokens=6000)
    unbroken = trained(config, tmp_path / "unbroken")
    steps = 0
    original = PocketTrainer.forward

    def forward(self, *arguments):
        nonlocal steps
        steps += 1
        if steps == unbroken["step"] - 2:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(PocketTrainer, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        trained(config, tmp_path / "broken")
    assert trained(config, tmp_path / "broken") == unbroken
    files = [tmp_path / name / "checkpoint.safetensors" for name in ("unbroken", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_comparison_does_not_go_on_from_a_model_with_the_grammar(tmp_path):
    trained(tiny(), tmp_path)
    with pytest.raises(ValueError, match="was trained with the grammar"):
        pretrain.run(tiny(out=tmp_path, real_tokens=10))
    with pytest.raises(ValueError, match="real_tokens is 0"):
        pretrain.run(tiny(out=tmp_path / "new", real_tokens=0))
    assert not (tmp_path / "run.json").exists() and not (tmp_path / "new").exists()


def test_validation_is_the_mean_over_tokens():
    config = tiny()
    trainer = PocketTrainer(config, TOKENIZER)
    maker = SequenceMaker(TOKENIZER, config.prefix_length, config.max_length, config.max_coded_length)
    data = tokenize([real_dialogue(seed) for seed in range(40)], TOKENIZER)
    batches = {("x", coded): sequence_batches(data, coded, maker, np.random.default_rng(0)) for coded in (False, True)}
    assert [len(group) for group in batches.values()] == [2, 2]
    found = validate(trainer, batches)
    for (_, coded), (nats, count) in found.items():
        parts, tokens = [], []
        for batch in batches["x", coded]:
            with torch.no_grad():
                result = trainer(batch, STAGES[-1], torch.Generator().manual_seed(0))
            parts.append(float(result["coded_nats" if coded else "nats"]))
            tokens.append(int(batch.trained.sum()))
        assert count == sum(tokens)
        assert nats == pytest.approx(np.average(parts, weights=tokens), rel=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling takes a C++ compiler")
def test_what_is_compiled_learns_the_same():
    maker = SequenceMaker(TOKENIZER, 2, 256, 160)
    data = tokenize([real_dialogue(seed) for seed in range(12)], TOKENIZER)
    batches = [sequence_batches(data, coded, maker, np.random.default_rng(0))[0] for coded in (False, True)]
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        trainer = PocketTrainer(tiny(compile=compiled), TOKENIZER)
        for batch in batches:
            trainer(batch, STAGES[-1], torch.Generator().manual_seed(0))["loss"].backward()
        found.append((trainer.state_dict().keys(), {name: p.grad for name, p in trainer.named_parameters()}))
    assert found[0][0] == found[1][0]
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-4, atol=1e-6)


def test_a_run_tells_what_it_saw_and_exports_its_model(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "files", lambda name, root, split: [])
    monkeypatch.setattr(corpora, "read", lambda name, root, split: iter([real_dialogue(i) for i in range(9)]))
    out = pretrain.run(tiny(out=tmp_path / "run", data=tmp_path, vocab_size=300, validation_dialogues=4, threads=1))
    rows = {row["metric"]: row for row in json.loads((out / "results.json").read_text())}
    progress = pretrain.load_tree(out / pretrain.CHECKPOINT)["progress"]
    assert rows["trained_tokens/own"]["value"] == progress["own_tokens"] > 0
    assert rows["trained_tokens/real"]["value"] == real_tokens(progress) > 0
    assert rows["trained_tokens/real"]["n"] == 10
    assert {"perplexity/dailydialog", "perplexity/grammar_heldout_coded"} <= set(rows)
    assert (out / "model/model.safetensors").exists() and (out / "model/up_maps/latent.safetensors").exists()
    header, *lines = validation_curve(out / "tensorboard", 14)
    assert header[0] == "step" and [line[0] for line in lines] == [5, 10]
    assert math.exp(float(lines[-1][header.index("dailydialog")])) == pytest.approx(
        rows["perplexity/dailydialog"]["value"], rel=1e-3
    )

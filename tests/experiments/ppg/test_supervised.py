"""Each generator learns what its system needs, and a stopped training gives the unbroken one's weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from experiments.ppg import data, supervised
from experiments.ppg.supervised import Example, Supervision

TINY = Supervision(exchanges=6, epochs=2, batch_size=4, learning_rate=1e-2, checkpoint_every=2, bf16=False)


@pytest.fixture(scope="module")
def exchanges(corpora_root):
    parts = data.read_parts(corpora_root, 0.5)
    both = data.exchanges(parts.training["msc/valid"][:2], 2)[:4]
    return both + data.exchanges(parts.training["personachat/train"][:1], 2)[:2]


@pytest.fixture(scope="module")
def ranker(exchanges):
    return data.TraitRanker(exchange.partner_persona for exchange in exchanges)


def written(kind: str, lm, exchanges, ranker) -> list[tuple[str, str]]:
    """Return the prompts and texts that a generator learns from."""
    generator = supervised.generator_class(kind).from_pretrained(lm)
    tokenizer = generator.lm.tokenizer
    return [
        (tokenizer.decode(e.prompt.ids), tokenizer.decode(e.ids, skip_special_tokens=True).strip())
        for e in supervised.examples(kind, generator, exchanges, ranker)
    ]


def test_each_kind_learns_what_it_says(model_folder, exchanges, ranker):
    texts = {kind: written(kind, model_folder(), exchanges, ranker) for kind in supervised.KINDS}
    known = [e for e in exchanges if e.partner_persona]
    assert len(known) == 4 and len(exchanges) == 6
    assert [text for _, text in texts["personas"]] == [e.partner_persona for e in known]
    for kind in ("none", "gold", "top3"):
        assert [text for _, text in texts[kind]] == [e.response for e in exchanges]
    assert sorted(texts["multitask"]) == sorted(texts["personas"] + texts["none"])
    for (prompt, _), exchange in zip(texts["gold"], exchanges, strict=True):
        assert exchange.persona in prompt
        assert (exchange.partner_persona in prompt) or not exchange.partner_persona
    for (prompt, _), exchange in zip(texts["none"][:4], known, strict=True):
        assert exchange.partner_persona not in prompt


def test_it_learns_and_is_loaded(model_folder, exchanges, ranker, tmp_path):
    config = Supervision(exchanges=6, epochs=20, batch_size=6, learning_rate=1e-2, bf16=False)
    lm, into = str(model_folder()), tmp_path / "gold"
    folder = supervised.train("gold", lm, exchanges, ranker, config, 0, into, progress=False)
    losses = json.loads((folder / "training.json").read_text())["loss"]
    assert losses[-1] < 0.7 * losses[0]
    generator = supervised.load(folder)
    assert type(generator) is supervised.ResponseGenerator
    prompts = [e.prompt for e in supervised.examples("gold", generator, exchanges, ranker)]
    assert generator.loss(prompts, [e.response for e in exchanges]).item() < 0.7 * losses[0]
    before = (folder / "model.safetensors").stat().st_mtime_ns
    supervised.train("gold", "/nowhere", exchanges, ranker, config, 0, folder, progress=False)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert not (folder / supervised.CHECKPOINT).exists()


def test_a_stopped_training_gives_the_unbroken_weights(model_folder, exchanges, ranker, tmp_path, monkeypatch):
    class PowerCut(Exception):
        pass

    def weights(folder, cut_at=None):
        generator = supervised.PersonasGenerator.from_pretrained(model_folder())
        steps = 0
        original = generator.log_prob

        def log_prob(*given):
            nonlocal steps
            steps += 1
            if cut_at == steps:
                raise PowerCut
            return original(*given)

        monkeypatch.setattr(generator, "log_prob", log_prob)
        folder.mkdir(exist_ok=True)
        found = supervised.examples("multitask", supervised.ResponseGenerator(generator.lm), exchanges, ranker)
        losses = supervised.fit(generator, found, TINY, 3, folder, None)
        return losses, generator.model.state_dict()

    losses, unbroken = weights(tmp_path / "unbroken")
    with pytest.raises(PowerCut):
        weights(tmp_path / "broken", cut_at=4)
    again, resumed = weights(tmp_path / "broken")
    assert again == losses and len(losses) == 6
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_steps_hold_every_text_once_an_epoch():
    lengths = np.random.default_rng(0).integers(5, 90, 130)
    batches = supervised.batches_of(lengths.tolist(), Supervision(batch_size=4, epochs=2), 1)
    assert sorted(np.concatenate(batches[: len(batches) // 2])) == list(range(130))
    assert max(map(len, batches)) == 4 and len(batches) == 66
    spread = np.mean([lengths[rows].max() - lengths[rows].min() for rows in batches])
    assert spread < 25  # 90 at random


def test_bf16_gives_nearly_the_same_loss(model_folder, exchanges, ranker, tmp_path):
    def first_loss(bf16: bool) -> float:
        generator = supervised.ResponseGenerator.from_pretrained(model_folder())
        found: list[Example] = supervised.examples("gold", generator, exchanges, ranker)
        config = Supervision(exchanges=6, epochs=1, batch_size=6, bf16=bf16)
        return supervised.fit(generator, found, config, 0, tmp_path, None)[0]

    assert first_loss(True) == pytest.approx(first_loss(False), rel=0.05)

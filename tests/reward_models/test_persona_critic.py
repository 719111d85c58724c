"""The persona critic learns on a tiny encoder what belongs to whom, and is saved, loaded and refused as it promises."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from transformers import DistilBertConfig, DistilBertModel

from reward_models import persona_critic
from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig
from reward_models.dmi.tokens import train_tokenizer
from reward_models.persona_critic import PersonaCritic
from reward_models.persona_training import CriticTraining, rightly_judged, swapped_pairs, train, traits

THINGS = ("dogs", "jazz", "trains", "bread", "chess", "snow", "boats", "roses")
PERSONAS = [f"i like {thing}. my town is small." if i % 2 else f"i sell {thing}." for i, thing in enumerate(THINGS)]
TEMPLATES = ("i was out with my {} all day.", "well, {} are what i talk about.", "do you like {} too?", "{} again!")
INSTANCES = [(p, t.format(x)) for p, x in zip(PERSONAS, THINGS, strict=True) for t in TEMPLATES]
FAST = CriticTraining(epochs=40, batch_size=16, learning_rate=1e-2, encoder_learning_rate=1e-3)


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    torch.manual_seed(0)
    tokenizer = train_tokenizer([text for pair in INSTANCES for text in pair] * 4, 200)
    size = EncoderConfig(200, hidden_size=16, layers=3, heads=2, intermediate_size=32, max_length=64, dropout=0.0)
    folder = tmp_path_factory.mktemp("encoder") / "model"
    DialogueEncoder.from_scratch(size, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(encoder_folder):
    critic = PersonaCritic.from_encoder(encoder_folder, trained_layers=1)
    losses = train(critic, [INSTANCES], FAST)
    return critic, losses


def test_false_pairs_are_true_ones_swapped():
    pairs = swapped_pairs(INSTANCES, seed=3)
    assert pairs.labels.mean() == 0.5
    for first in range(0, len(pairs), 4):
        (a, b, c, d), said = pairs.personas[first : first + 4], pairs.responses[first : first + 4]
        assert (a, said[0]) in INSTANCES and (b, said[1]) in INSTANCES
        assert (c, said[2]) == (a, said[1]) and (d, said[3]) == (b, said[0])
        assert not traits(a) & traits(b) and said[0] != said[1]
    assert len(pairs) < 2 * len(INSTANCES)  # some have "my town is small" in common
    again, other = swapped_pairs(INSTANCES, seed=3), swapped_pairs(INSTANCES, seed=4)
    assert again.responses == pairs.responses != other.responses


def test_instances_of_one_persona_give_no_pairs():
    with pytest.raises(ValueError, match="4 instances give no two of different personas"):
        swapped_pairs(INSTANCES[:4])


@pytest.mark.parametrize(("reads", "layers"), [("apart", 0), ("together", None)])
def test_it_learns(reads, layers, encoder_folder, trained):
    critic, losses = trained
    if reads == "together":
        critic = PersonaCritic.from_encoder(encoder_folder, reads=reads, trained_layers=layers)
        losses = train(critic, [INSTANCES], CriticTraining(90, 16, 3e-3, 3e-3))
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])
    right = rightly_judged(critic, swapped_pairs(INSTANCES, seed=1))
    assert binomtest(int(right.sum()), len(right), alternative="greater").pvalue < 1e-3


def test_every_epoch_swaps_others(encoder_folder, monkeypatch):
    critic = PersonaCritic.from_encoder(encoder_folder, trained_layers=1)
    seen = []
    logits = critic.logits
    monkeypatch.setattr(critic, "logits", lambda p, r: seen.append(set(zip(p, r, strict=True))) or logits(p, r))
    train(critic, [INSTANCES], CriticTraining(2, 4 * len(INSTANCES)))
    false = [pairs - set(INSTANCES) for pairs in seen]
    assert len(false) == 2 and all(false) and false[0] != false[1]


def test_nothing_is_swapped_between_groups(encoder_folder, monkeypatch):
    critic = PersonaCritic.from_encoder(encoder_folder, trained_layers=1)
    seen = []
    logits = critic.logits
    monkeypatch.setattr(critic, "logits", lambda p, r: seen.extend(zip(p, r, strict=True)) or logits(p, r))
    groups = INSTANCES[:16], INSTANCES[16:]
    train(critic, groups, CriticTraining(4, 16))
    of = {text: number for number, group in enumerate(groups) for pair in group for text in pair}
    assert {of[p] for p, r in seen} == {0, 1} and all(of[p] == of[r] for p, r in seen)


def test_training_is_repeatable_and_leaves_the_callers_generator(encoder_folder):
    def weights():
        critic = PersonaCritic.from_encoder(encoder_folder)
        train(critic, [INSTANCES], CriticTraining(1, 16))
        return critic.fingerprint()

    state = torch.get_rng_state()
    assert weights() == weights()
    assert torch.equal(torch.get_rng_state(), state)


def test_bf16_learns_too(encoder_folder):
    critic = PersonaCritic.from_encoder(encoder_folder, trained_layers=1)
    losses = train(critic, [INSTANCES], replace(FAST, bf16=True))
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])


def test_only_the_head_and_the_top_layer_change_and_nothing_is_free_afterwards(encoder_folder, trained):
    critic, _ = trained
    before = dict(PersonaCritic.from_encoder(encoder_folder, trained_layers=1).named_parameters())
    changed = {name for name, value in critic.named_parameters() if not torch.equal(value, before[name])}
    allowed = {name for name in before if name.startswith(("head.", "encoder.model.encoder.layer.2."))}
    assert changed <= allowed and len(changed) > len(allowed) / 2
    assert not any(parameter.requires_grad for parameter in critic.parameters())


def test_labels_are_probabilities_cut_at_one_half(trained):
    critic, _ = trained
    pairs = swapped_pairs(INSTANCES)
    probability, label = (
        critic.probability(pairs.personas, pairs.responses),
        critic.label(pairs.personas, pairs.responses),
    )
    assert probability.min() >= 0 and probability.max() <= 1
    assert set(label) == {-1, 1}
    assert ((probability >= 0.5) == (label == 1)).all()


def test_a_row_does_not_depend_on_its_batch(trained):
    critic, _ = trained
    pairs = swapped_pairs(INSTANCES)
    whole = critic.probability(pairs.personas, pairs.responses)
    alone = [critic.probability([p], [r])[0] for p, r in zip(pairs.personas, pairs.responses, strict=True)]
    assert whole == pytest.approx(alone, abs=1e-5)
    assert critic.probability(pairs.personas, pairs.responses, batch_size=3) == pytest.approx(whole, abs=1e-5)


def test_silence_belongs_to_nobody(trained):
    critic, _ = trained
    assert critic.probability(PERSONAS[:2], ["", "  "]).tolist() == [0, 0]
    assert critic.label(PERSONAS[:1], [""]).tolist() == [-1]
    assert critic.probability([], []).shape == (0,)


def test_a_long_persona_is_cut(trained):
    critic, _ = trained
    assert np.isfinite(critic.probability([PERSONAS[0] * 200], ["dogs " * 500])).all()


def test_save_and_load(trained, tmp_path):
    critic, _ = trained
    pairs = swapped_pairs(INSTANCES)
    folder = critic.save(tmp_path / "critic")
    assert {file.name for file in folder.iterdir()} == {"critic.json", "critic.safetensors"}
    loaded = PersonaCritic.load(folder)
    assert loaded.fingerprint() == critic.fingerprint()
    assert (
        loaded.probability(pairs.personas, pairs.responses) == critic.probability(pairs.personas, pairs.responses)
    ).all()
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_another_encoder_is_refused(trained, encoder_folder, tmp_path):
    folder = trained[0].save(tmp_path / "critic")
    encoder = DialogueEncoder.from_pretrained(encoder_folder)
    encoder.bilinear.data[0, 0] += 1
    encoder.save_pretrained(tmp_path / "other")
    settings = json.loads((folder / "critic.json").read_text())
    settings["config"]["encoder"] = str(tmp_path / "other")
    (folder / "critic.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="was trained on other weights of the encoder"):
        PersonaCritic.load(folder)


def test_files_that_do_not_fit_are_refused(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"critic\.json is missing"):
        PersonaCritic.load(tmp_path)
    folder = trained[0].save(tmp_path / "critic")
    settings = json.loads((folder / "critic.json").read_text())
    settings["config"]["trained_layers"] = 2
    (folder / "critic.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="holds other weights"):
        PersonaCritic.load(folder)


@pytest.mark.parametrize("reads", ["apart", "together"])
def test_any_encoder_with_a_first_token_serves(reads, trained, tmp_path):
    tokenizer = trained[0].encoder.tokens.tokenizer
    size = {"vocab_size": len(tokenizer), "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16}
    DistilBertModel(DistilBertConfig(**size, max_position_embeddings=32)).save_pretrained(tmp_path / "distil")
    tokenizer.save_pretrained(tmp_path / "distil")
    critic = PersonaCritic.from_encoder(tmp_path / "distil", reads=reads, trained_layers=1)
    train(critic, [INSTANCES], CriticTraining(1, 16))
    assert any(name.startswith("encoder.model.transformer.layer.1.") for name in critic.trained_parameters())
    loaded = PersonaCritic.load(critic.save(tmp_path / "critic"))
    assert loaded.probability(PERSONAS[:1], ["dogs " * 50]) == critic.probability(PERSONAS[:1], ["dogs " * 50])


@pytest.mark.parametrize(
    ("personas", "responses", "error", "message"),
    [
        ("i like dogs.", ["yes."], TypeError, "personas is a str"),
        (["i like dogs."], [None], TypeError, r"responses\[0\] is a NoneType"),
        (["i like dogs.", " "], ["yes.", "no."], ValueError, r"personas\[1\] is blank"),
        (["i like dogs."], ["yes.", "no."], ValueError, "1 personas and 2 responses"),
    ],
)
def test_bad_input_is_refused_by_name(personas, responses, error, message, trained):
    with pytest.raises(error, match=message):
        trained[0].probability(personas, responses)


def test_bad_settings_are_refused_by_name(encoder_folder, trained):
    with pytest.raises(ValueError, match="reads is 'aloud', expected one of apart, together"):
        PersonaCritic.from_encoder(encoder_folder, reads="aloud")
    with pytest.raises(ValueError, match="batch_size is 6, expected a multiple of 4"):
        CriticTraining(batch_size=6)
    with pytest.raises(ValueError, match="4 instances give no two of different personas"):
        train(trained[0], [INSTANCES[:4]], FAST)
    with pytest.raises(FileNotFoundError, match="no encoder at /nowhere/at/all"):
        PersonaCritic.from_encoder("/nowhere/at/all")


@pytest.mark.skipif(
    not persona_critic.POCKET.is_dir(), reason="no critic is shipped in reward_models/persona_critic_pocket"
)
def test_the_shipped_critic_is_small_and_loads():
    assert sum(file.stat().st_size for file in persona_critic.POCKET.iterdir()) <= 6 * 2**20
    critic = PersonaCritic.load()
    assert critic.label(["i have two dogs."], ["my dogs love the park."]).tolist() == [1]

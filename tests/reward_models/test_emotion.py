"""The emotion classifier: labels in one place, learns what can be learned, calibrated, batched, saved whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dialog_envs.corpora import empathetic_intents
from reward_models import emotion_training
from reward_models.emotion import EmotionClassifier, valence, valences
from reward_models.emotion_labels import EMOTIONS, INTENTS, LABELS
from reward_models.emotion_training import EmotionTraining, calibrate, figures, make_optimizer
from tests.empathy import encoder, sentences, spread

CUES = {"sad": "lonely", "questioning": "?", "consoling": "better", "angry": "pity"}


def labelled(count: int, seed: int = 0, noise: float = 0.0) -> tuple[list[str], list[int]]:
    """Utterances with one word of `CUES`; a share `noise` of the labels is drawn anew."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for text in sentences(count, seed + 1):
        name = str(rng.choice(list(CUES)))
        plain = [word for word in text.split() if word not in CUES.values()]
        texts.append(" ".join([*plain, CUES[name]]))
        labels.append(LABELS.index(str(rng.choice(list(CUES))) if rng.random() < noise else name))
    return texts, labels


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    encoder().save_pretrained(folder)
    return folder


def trained(base: Path, noise: float = 0.0, epochs: int = 4) -> EmotionClassifier:
    classifier = EmotionClassifier.from_encoder(base)
    texts, labels = labelled(600, noise=noise)
    config = EmotionTraining(learning_rate=2e-2, encoder_learning_rate=1e-2, label_smoothing=0.0)
    optimizer, rows = make_optimizer(classifier, config), classifier.rows(texts)
    classifier.train()
    for _ in range(epochs):
        for first in range(0, 600, 50):
            optimizer.zero_grad()
            emotion_training.loss(classifier, rows[first : first + 50], labels[first : first + 50], config).backward()
            optimizer.step()
    return classifier.eval()


@pytest.fixture(scope="module")
def classifier(base) -> EmotionClassifier:
    return trained(base)


def test_ids_are_those_of_the_data_not_of_its_labels_file():
    assert len(LABELS) == len(set(LABELS)) == 41 and len(EMOTIONS) == 32 and len(INTENTS) == 9
    ids = {name: number for number, name in enumerate(LABELS)}
    assert [ids[name] for name in ("afraid", "trusting", "agreeing", "acknowledging", "encouraging")] == [
        0,
        31,
        32,
        33,
        34,
    ]
    assert [ids[name] for name in ("consoling", "sympathizing", "suggesting", "questioning")] == [35, 36, 37, 38]
    assert (ids["wishing"], ids["neutral"]) == (39, 40)
    assert empathetic_intents.LABELS is LABELS


def test_it_learns_what_can_be_learned(classifier):
    texts, labels = labelled(200, 9)
    found = figures(classifier, texts, labels)
    assert np.mean(found["correct"]) > 0.95
    assert found["predicted"] == classifier(texts).argmax(1).tolist()


def test_probabilities_are_calibrated_on_what_was_kept_aside(base):
    unsure = trained(base, noise=0.5)
    for parameter in unsure.head[2].parameters():
        parameter.data *= 4  # far too sure of itself
    texts, labels = labelled(400, 21, noise=0.5)
    before = figures(unsure, texts, labels)
    temperature = calibrate(unsure, *labelled(400, 33, noise=0.5))
    after = figures(unsure, texts, labels)
    assert temperature > 2 and after["predicted"] == before["predicted"]
    assert after["nats"] < before["nats"]
    errors = [each["reliability"]["calibration_error"] for each in (before, after)]
    assert errors[1] < 0.1 < errors[0]


def test_a_batch_reads_as_each_alone_and_once(base):
    classifier = EmotionClassifier.from_encoder(base).eval()
    spread(classifier.head)
    texts = sentences(30, 4)
    together = classifier(texts, batch_size=7)
    assert together.shape == (30, 41) and together.dtype == np.float64
    np.testing.assert_allclose(together.sum(1), 1)
    calls = []
    hook = classifier.head.register_forward_pre_hook(lambda *_: calls.append(1))
    np.testing.assert_array_equal(classifier([texts[3], texts[0], texts[3]]), together[[3, 0, 3]])
    assert not calls
    classifier.forget()
    alone = np.concatenate([classifier([text]) for text in texts])
    hook.remove()
    assert len(calls) == len(set(texts))
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_long_utterances_are_cut_and_bad_ones_refused(base):
    classifier = EmotionClassifier.from_encoder(base, max_tokens=5).eval()
    assert max(map(len, classifier.rows(["i am so sad and lonely today and so on"]))) <= 6
    with pytest.raises(TypeError, match="texts is a str"):
        classifier("i am sad")
    with pytest.raises(ValueError, match=r"texts\[1\] is blank"):
        classifier(["i am sad", "  "])
    assert classifier([]).shape == (0, 41)


def test_it_is_saved_whole(classifier, tmp_path):
    classifier.card, classifier.temperature = {"accuracy": 0.5}, 1.5
    classifier.forget()
    classifier.save_pretrained(tmp_path / "emotion")
    again = EmotionClassifier.from_pretrained(tmp_path / "emotion")
    texts = sentences(20, 8)
    np.testing.assert_allclose(again(texts), classifier(texts), atol=0.01)
    assert (again.temperature, again.card, again.config) == (1.5, {"accuracy": 0.5}, classifier.config)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_what_does_not_fit_is_refused(classifier, base, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"emotion\.json is missing .*meed2 classify"):
        EmotionClassifier.from_pretrained(tmp_path)
    classifier.save_pretrained(tmp_path / "emotion")
    base_now = encoder()
    base_now.tokens.tokenizer.add_tokens(["unheard"])
    moved = tmp_path / "other"
    type(base_now)(base_now.model, base_now.tokens).save_pretrained(moved)
    path = tmp_path / "emotion/emotion.json"
    saved = path.read_text()
    path.write_text(saved.replace('"afraid"', '"scared"'))
    with pytest.raises(ValueError, match="other labels"):
        EmotionClassifier.from_pretrained(tmp_path / "emotion")
    path.write_text(saved.replace(str(base), str(moved)))
    with pytest.raises(ValueError, match="another vocabulary"):
        EmotionClassifier.from_pretrained(tmp_path / "emotion")


def test_training_lowers_the_cross_entropy_that_is_stated(base):
    classifier = EmotionClassifier.from_encoder(base, dropout=0.0).eval()
    texts, labels = labelled(32)
    rows = classifier.rows(texts)
    found = emotion_training.loss(classifier, rows, labels, EmotionTraining(label_smoothing=0.0))
    expected = F.cross_entropy(classifier.row_logits(rows), torch.tensor(labels))
    assert found.item() == pytest.approx(float(expected), abs=1e-5) and found.requires_grad


def test_valence_is_vaders_and_none_for_intents():
    table = valences()
    assert set(table) == set(LABELS)
    assert all(-1 <= value <= 1 for value in table.values()) and not any(table[name] for name in INTENTS)
    assert table["joyful"] > table["content"] > 0 > table["anxious"] > table["sad"] > table["terrified"]
    even = np.full((1, 41), 1 / 41)
    assert valence(even)[0] == pytest.approx(sum(table.values()) / 41)
    assert valence(np.eye(41)) == pytest.approx([table[name] for name in LABELS])
    assert (valence(np.eye(41)).min(), valence(np.eye(41)).max()) == (-0.75, 0.725)  # as its docstring says

"""Named controls: directions of mean codes, encoded as in training, and their file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.controls import control_candidates, load_controls, read_controls, save_controls
from dialog_envs.lm.latent import ReplyEncoder
from experiments.pocket_trainer import PocketTrainer, PretrainConfig
from experiments.pretraining_data import SequenceMaker, collate, tokenize
from tests.conftest import tiny_tokenizer

TEXTS = ("hello there.", "i am a baker and i like jazz, how are you doing today?", "my dog ran away.")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def encoder(tokenizer) -> ReplyEncoder:
    torch.manual_seed(0)
    encoder = ReplyEncoder(len(tokenizer), 5)
    torch.nn.init.normal_(encoder.importance.weight)  # so that a missing or surplus token is felt
    return encoder


def code_of(encoder: ReplyEncoder, tokenizer, text: str) -> np.ndarray:
    return control_candidates(encoder, tokenizer, {"one": [text]}, minimum=1)["one"][0]


def test_candidates_go_from_the_medoid_to_the_code_in_the_middle(encoder, tokenizer):
    texts = [*TEXTS, TEXTS[1] + " well.", TEXTS[1] + " so."]
    codes = np.array([code_of(encoder, tokenizer, text) for text in texts])
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, atol=1e-5)
    order = np.argsort(-(codes @ codes.mean(0)))
    assert order[0] != 0, "the odd one out is no centre"
    found = control_candidates(encoder, tokenizer, {"all": texts}, 3, minimum=1)["all"]
    np.testing.assert_allclose(found, codes[order[:3]], atol=1e-5)
    medoid = control_candidates(encoder, tokenizer, {"all": texts}, minimum=1)["all"]
    np.testing.assert_allclose(medoid, codes[order[:1]], atol=1e-5)


def test_names_with_few_replies_are_left_out(encoder, tokenizer):
    replies = {"few": ["hello."] * 19, "enough": ["hello."] * 20}
    assert list(control_candidates(encoder, tokenizer, replies)) == ["enough"]


def test_a_reply_is_encoded_as_in_training():
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    trainer = PocketTrainer(PretrainConfig(hidden_size=16, layers=1, heads=1, intermediate_size=16), tokenizer)
    torch.nn.init.normal_(trainer.encoder.importance.weight)
    maker = SequenceMaker(tokenizer, prefix_length=2, max_length=256, max_coded_length=160)
    for text in TEXTS:
        dialogue = Dialogue().said("partner", "hello.").said("agent", text)
        sequence = None
        for seed in range(20):  # the viewer is drawn, and only the agent's view holds this reply
            made = maker.make(tokenize([dialogue], tokenizer)[0], True, np.random.default_rng(seed))
            if made is not None and text in tokenizer.decode(made.ids[made.trained]):
                sequence = made
        batch = collate([sequence], tokenizer.pad_token_id)
        code = trainer.encode_replies(batch, torch.tensor([0]))[0].detach().numpy()
        np.testing.assert_allclose(code_of(trainer.encoder, tokenizer, text), code, atol=1e-5)


def test_the_file_gives_the_controls_back(tmp_path):
    controls = {"comfort/sympathy": np.array([0.6, -0.8], np.float32), "guarded/probe": np.array([1, 0], np.float32)}
    (tmp_path / "up_maps").mkdir()
    save_controls(tmp_path / "up_maps/controls.json", controls)
    loaded = load_controls(str(tmp_path))
    assert list(loaded) == list(controls) and all(vector.dtype == np.float32 for vector in loaded.values())
    for name, vector in controls.items():
        np.testing.assert_allclose(loaded[name], vector, atol=1e-6)
    assert [file.name for file in (tmp_path / "up_maps").iterdir()] == ["controls.json"]


def test_a_missing_file_is_named_with_what_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"controls\.json.*experiments pretrain"):
        load_controls(str(tmp_path))


@pytest.mark.parametrize("content", ["[1, 2]", "{", '{"a": [1, 2], "b": [1]}', '{"a": 1}', '{"a": ["x"]}', "{}"])
def test_a_file_of_something_else_is_refused_by_name(tmp_path, content):
    path = tmp_path / "controls.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"controls\.json holds"):
        read_controls(path)


def test_the_file_is_plain_json(tmp_path):
    path = tmp_path / "controls.json"
    save_controls(path, {"a": np.array([0.5, 0.5], np.float32), "b": np.array([0, 1], np.float32)})
    assert json.loads(path.read_text()) == {"a": [0.5, 0.5], "b": [0.0, 1.0]}

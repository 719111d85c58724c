"""The first token's vector is the model's own, with the model's own gradient."""

import pytest
import torch

from reward_models.dmi.encoder import DialogueEncoder
from reward_models.dmi.first_token import first_token

from .conftest import toy_encoder

ROWS = [[2, 5, 6, 9, 8, 11], [2, 7], [2, 8, 5, 5]]


def plain(model, ids, mask):
    return model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[:, 0]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_vector_and_gradient_are_those_of_the_whole_model(layers):
    encoder = toy_encoder(layers=layers)
    ids, mask = encoder.tokens.pad(ROWS)
    gradients = []
    for way in (plain, first_token):
        vectors = way(encoder.model, ids, mask)
        (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
        gradients.append([parameter.grad for parameter in encoder.model.parameters()])
        encoder.zero_grad()
    assert torch.allclose(vectors, plain(encoder.model, ids, mask), atol=1e-5)
    for expected, found in zip(*gradients, strict=True):
        assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_every_family_has_its_own_vector(family, hugging_face):
    encoder = DialogueEncoder.from_pretrained(hugging_face(family))
    ids, mask = encoder.tokens.pad(ROWS)
    assert torch.allclose(first_token(encoder.model, ids, mask), plain(encoder.model, ids, mask), atol=1e-5)


def test_attention_of_another_kind_is_left_to_the_model():
    encoder = toy_encoder()
    ids, mask = encoder.tokens.pad(ROWS)
    expected = plain(encoder.model, ids, mask)
    encoder.model.set_attn_implementation("eager")
    assert torch.allclose(first_token(encoder.model, ids, mask), expected, atol=1e-5)


def test_attention_has_its_dropout_in_training_alone(hugging_face):
    encoder = DialogueEncoder.from_pretrained(hugging_face("bert"))
    ids, mask = encoder.tokens.pad(ROWS)
    assert encoder.model.config.attention_probs_dropout_prob > 0
    for module in encoder.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    encoder.model.encoder.layer[-1].attention.self.dropout.p = 0.5
    assert torch.equal(first_token(encoder.model, ids, mask), first_token(encoder.model, ids, mask))
    encoder.train()
    assert not torch.equal(first_token(encoder.model, ids, mask), first_token(encoder.model, ids, mask))


def test_the_last_layer_is_left_out_for_the_other_tokens(encoder):
    widths = []
    encoder.model.encoder.layer[-1].intermediate.register_forward_hook(
        lambda _, inputs, out: widths.append(out.shape[1])
    )
    encoder.encode(*encoder.tokens.pad(ROWS))
    assert widths == [1]

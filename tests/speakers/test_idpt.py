"""IDPT equation by equation, what may learn and what may not, and the speaker."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.speakers import idpt as module
from dialog_envs.speakers.idpt import IDPT
from dialog_envs.speakers.idpt_model import (
    IDPTConfig,
    Prefixes,
    Recogniser,
    as_key_values,
    attention_weights,
    mixed,
    pooled,
)

SMALL = IDPTConfig(width=8, heads=2, prefix_length=3)
TALKS = [
    Dialogue((), {"a": "i sell tea."}).said("b", "hello"),
    Dialogue().said("b", "i like jazz.").said("a", "so do i!").said("b", "how are you?"),
    Dialogue(),
]
SAID, LABELS, WHO = ["hi there", "fine, thanks", "good day"], [1, 3, 3], ["a", "a", "a"]


@pytest.fixture(params=["llama", "gpt2"])
def idpt(request, model_folder, idpt_folder) -> IDPT:
    return fresh(model_folder(request.param), idpt_folder)


def fresh(lm, idpt_folder, config: IDPTConfig = SMALL) -> IDPT:
    return IDPT.from_scratch(config, str(lm), json.loads((idpt_folder / "idpt.json").read_text())["encoder"])


def test_prefixes_are_an_mlp_of_their_embeddings():
    prefixes = Prefixes(SMALL, 10)
    first, last = prefixes.mlp[0], prefixes.mlp[2]
    expected = torch.stack(
        [torch.tanh(e @ first.weight.T + first.bias) @ last.weight.T + last.bias for e in prefixes.embedding]
    )
    torch.testing.assert_close(prefixes(), expected)
    assert expected.shape == (4, 3, 10)


@torch.no_grad()
def test_the_recogniser_is_the_papers_equations():
    torch.manual_seed(0)
    recogniser, prefixes = Recogniser(SMALL, 10, 6), torch.randn(4, 3, 10)
    history, mask = torch.randn(2, 5, 6), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)
    attention, bias = recogniser.attention, recogniser.attention.in_proj_bias.chunk(3)
    expected = []
    for row in range(2):
        seen = history[row, mask[row]]
        keys, values = seen @ attention.k_proj_weight.T + bias[1], seen @ attention.v_proj_weight.T + bias[2]
        pools = []
        for prefix in prefixes:
            states = []
            for vector in prefix:  # each vector of a prefix is a query
                query = attention.q_proj_weight @ (recogniser.query.weight @ vector) + bias[0]
                heads = []
                for part in (slice(0, 4), slice(4, 8)):
                    weights = (keys[:, part] @ query[part] / math.sqrt(4)).softmax(0)
                    heads.append(weights @ values[:, part])
                state = attention.out_proj(torch.cat(heads))
                states.append(recogniser.norm(state + recogniser.mlp(state)))
            pools.append(torch.stack(states).amax(0))
        expected.append(recogniser.classifier(torch.cat(pools)))
    torch.testing.assert_close(recogniser(prefixes, history, mask), torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert sum(isinstance(layer, torch.nn.Linear) for layer in recogniser.mlp) == 3
    assert sum(isinstance(layer, torch.nn.Linear) for layer in recogniser.classifier) == 3


def test_pooling_takes_the_largest_over_a_prefixs_places():
    states = torch.tensor([[[1.0, 5.0], [2.0, 4.0], [-3.0, 0.0], [-1.0, -2.0]]])  # two initiatives, two places each
    assert pooled(states, 2).tolist() == [[[2.0, 5.0], [-1.0, 0.0]]]


def test_soft_attention_is_hard_where_the_distribution_is_one_hot():
    prefixes, logits = torch.randn(4, 3, 10), torch.tensor([[0.0, 200.0, 0.0, 0.0], [0.0, 0.0, 0.0, 200.0]])
    soft, hard = (mixed(prefixes, attention_weights(logits, kind)) for kind in ("soft", "hard"))
    torch.testing.assert_close(soft, hard, atol=0, rtol=0)
    torch.testing.assert_close(hard, prefixes[[1, 3]], atol=0, rtol=0)


def test_soft_attention_is_the_mean_by_the_probabilities_and_uniform_the_plain_mean():
    prefixes, logits = torch.randn(4, 3, 10), torch.randn(1, 4)
    expected = sum(p * prefix for p, prefix in zip(logits[0].softmax(0), prefixes, strict=True))
    torch.testing.assert_close(mixed(prefixes, attention_weights(logits, "soft"))[0], expected)
    torch.testing.assert_close(mixed(prefixes, attention_weights(logits, "uniform"))[0], prefixes.mean(0))


def test_key_values_are_laid_out_layer_by_layer():
    layers, heads, length, size = 2, 3, 4, 5
    prefixes = torch.randn(1, length, layers * 2 * heads * size)
    found = as_key_values(prefixes, layers, heads)
    assert found.shape == (1, layers, 2, heads, length, size)
    at = ((1 * 2 + 0) * heads + 2) * size  # layer 1, keys, head 2
    torch.testing.assert_close(found[0, 1, 0, 2], prefixes[0, :, at : at + size])


def test_only_prefixes_and_recogniser_are_parameters(idpt):
    assert {name.split(".")[0] for name, _ in idpt.named_parameters()} == {"prefixes", "recogniser"}


def test_the_loss_is_that_of_the_labelled_prefix_and_of_the_labels(idpt):
    cross_entropy, of_response = idpt.losses(TALKS, WHO, SAID, LABELS)
    expected = F.cross_entropy(idpt.logits(TALKS, WHO), torch.tensor(LABELS))
    torch.testing.assert_close(cross_entropy, expected)
    log_probs, mask = idpt.log_prob(TALKS, WHO, SAID, idpt.chosen(LABELS, 3))
    torch.testing.assert_close(of_response, -log_probs.sum() / mask.sum())
    torch.testing.assert_close(
        log_probs.sum(1)[1:2], idpt.log_prob(TALKS[1:2], ["a"], SAID[1:2], idpt.chosen(3, 1))[0].sum(1)
    )


def test_hard_attention_trains_the_labelled_prefix_alone_and_the_labels_the_recogniser(idpt):
    cross_entropy, of_response = idpt.losses(TALKS, WHO, SAID, LABELS)
    of_response.backward(retain_graph=True)
    reached = idpt.prefixes.embedding.grad.abs().sum((1, 2)) > 0
    assert reached.tolist() == [False, True, False, True]
    assert all(parameter.grad is None for parameter in idpt.recogniser.parameters())
    cross_entropy.backward()
    assert all(parameter.grad is not None for parameter in idpt.parameters())
    frozen = [*idpt.lm.model.parameters(), *idpt.encoder.parameters()]
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen)


def test_soft_attention_learns_without_labels(idpt, idpt_folder):
    soft = IDPT(idpt.lm, idpt.encoder, replace(SMALL, attention="soft"))
    cross_entropy, of_response = soft.losses(TALKS, WHO, SAID)
    assert cross_entropy == 0
    of_response.backward()
    assert (soft.prefixes.embedding.grad.abs().sum((1, 2)) > 0).all()
    assert soft.recogniser.classifier[4].weight.grad.abs().sum() > 0


def test_training_changes_no_bit_of_the_frozen_models_and_lowers_the_loss(idpt):
    before = idpt.lm.fingerprint(), {name: value.clone() for name, value in idpt.encoder.state_dict().items()}
    optimizer = torch.optim.Adam(idpt.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        loss = sum(idpt.losses(TALKS, WHO, SAID, LABELS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    assert idpt.lm.fingerprint() == before[0]
    assert all(torch.equal(value, before[1][name]) for name, value in idpt.encoder.state_dict().items())


def test_a_batch_says_and_recognises_what_single_rows_do(idpt):
    dice = lambda: [np.random.default_rng(i) for i in range(3)]  # noqa: E731
    together = idpt.speak(TALKS, "a", dice(), [3, 0, 2], Sampling(6))
    chances = idpt.recognise(TALKS, WHO)
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)
    for row, wanted in enumerate((3, 0, 2)):
        assert idpt.speak(TALKS[row : row + 1], "a", [dice()[row]], wanted, Sampling(6)) == [together[row]]
        np.testing.assert_allclose(idpt.recognise(TALKS[row : row + 1], ["a"])[0], chances[row], atol=1e-5)


def test_what_is_recognised_is_what_is_spoken_with_unless_an_initiative_is_given(idpt):
    dice = lambda: [np.random.default_rng(i) for i in range(3)]  # noqa: E731
    seen = idpt.recognise(TALKS, WHO).argmax(1)
    assert idpt.speak(TALKS, WHO, dice()) == idpt.speak(TALKS, WHO, dice(), seen)
    with torch.no_grad():
        idpt.prefixes.mlp[2].weight *= 30
    said = {tuple(idpt.speak(TALKS, WHO, dice(), number)) for number in range(4)}
    assert len(said) > 1


@pytest.mark.parametrize("initiative", [4, -1, [0, 1, 9], 1.5])
def test_an_unknown_initiative_is_refused(idpt, initiative):
    with pytest.raises(ValueError, match="expected 0 to 3"):
        idpt.speak(TALKS, "a", [np.random.default_rng(0)] * 3, initiative)


@pytest.mark.parametrize("wrong", [{"attention": "loud"}, {"width": 10}, {"prefix_length": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        IDPTConfig(**wrong)


def test_a_saved_set_holds_what_was_trained_and_says_the_same(idpt, tmp_path):
    folder = idpt.save_pretrained(tmp_path / "set")
    weights = load_file(folder / module.WEIGHTS)
    assert set(weights) == set(dict(idpt.named_parameters())) and {w.dtype for w in weights.values()} == {torch.float16}
    again = IDPT.from_pretrained(folder)
    np.testing.assert_allclose(again.recognise(TALKS, WHO), idpt.recognise(TALKS, WHO), atol=0.01)
    for one, other in zip(again.parameters(), idpt.parameters(), strict=True):
        assert torch.equal(one, other.half().float())


def test_a_set_of_other_models_is_refused(idpt, model_folder, tmp_path):
    folder = idpt.save_pretrained(tmp_path / "set")
    other = FrozenLM.from_pretrained(model_folder("qwen2"))
    with pytest.raises(ValueError, match="was trained on other weights of the lm"):
        IDPT.from_pretrained(folder, other)
    with torch.no_grad():
        changed = FrozenLM.from_pretrained(idpt.names[0])
        changed.embeddings.weight[0, 0] += 1
    with pytest.raises(ValueError, match="other weights of the lm"):
        IDPT.from_pretrained(folder, changed)


def test_a_missing_set_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"idpt\.json is missing .*python -m experiments idpt train"):
        IDPT.from_pretrained(tmp_path)

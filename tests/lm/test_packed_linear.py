"""oneDNN's linear layers say what `nn.Linear` says, follow their weights, step back where gradients are wanted."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from dialog_envs.lm import packed_linear
from dialog_envs.lm.packed_linear import PackedLinear, pack

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this PyTorch comes without oneDNN",
)


@pytest.fixture
def layers(monkeypatch) -> tuple[nn.Linear, nn.Linear]:
    """Return a plain layer and its packed twin."""
    monkeypatch.setattr(packed_linear, "faster_here", lambda: True)
    torch.manual_seed(0)
    plain = nn.Linear(48, 32)
    packed = copy.deepcopy(plain)
    pack(packed)
    assert type(packed) is PackedLinear
    return plain, packed


@pytest.mark.parametrize("shape", [(48,), (1, 48), (7, 48), (3, 5, 48), (0, 48)])
@torch.no_grad()
def test_it_says_what_the_plain_layer_says(layers, shape):
    plain, packed = layers
    x = torch.randn(*shape)
    torch.testing.assert_close(packed(x), plain(x), atol=1e-5, rtol=1e-5)
    turned = torch.randn(48, 9).T
    torch.testing.assert_close(packed(turned), plain(turned), atol=1e-5, rtol=1e-5)


def test_it_is_used_and_without_a_bias_too(monkeypatch):
    monkeypatch.setattr(packed_linear, "faster_here", lambda: True)
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU())
    pack(model)
    with torch.no_grad():
        model(torch.ones(2, 8))
    assert model[0]._packed is not None


def test_changed_weights_are_packed_anew(layers):
    plain, packed = layers
    x = torch.randn(4, 48)
    with torch.no_grad():
        packed(x)
    for layer in (plain, packed):
        optimizer = torch.optim.SGD(layer.parameters(), 0.5)
        layer(x).square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        torch.testing.assert_close(packed(x), plain(x), atol=1e-4, rtol=1e-4)
        packed.load_state_dict({name: torch.ones_like(value) for name, value in plain.state_dict().items()})
        torch.testing.assert_close(packed(torch.ones(1, 48)), torch.full((1, 32), 49.0))


def test_gradients_reach_what_stands_before_a_frozen_layer(layers):
    plain, packed = layers
    packed.requires_grad_(False)
    x = torch.randn(4, 48, requires_grad=True)
    packed(x).sum().backward()
    torch.testing.assert_close(x.grad, plain.weight.sum(0).expand(4, 48))


@torch.no_grad()
def test_other_types_are_left_to_the_plain_layer(layers):
    plain, packed = layers
    x = torch.randn(4, 48)
    with torch.autocast("cpu", torch.bfloat16):
        assert packed(x).dtype == torch.bfloat16
    assert torch.equal(packed.double()(x.double()), plain.double()(x.double()))


@torch.no_grad()
def test_copies_and_pickles_are_without_the_packed_weights(layers):
    _, packed = layers
    x = torch.randn(4, 48)
    said = packed(x)
    for copied in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert type(copied) is PackedLinear and copied._packed is None
        assert torch.equal(copied(x), said)
    assert packed._packed is not None


def test_where_it_is_not_faster_layers_stay_plain(monkeypatch):
    layer = nn.Linear(4, 4)
    monkeypatch.setattr(packed_linear, "faster_here", lambda: False)
    pack(layer)
    assert type(layer) is nn.Linear
    monkeypatch.setattr(packed_linear, "faster_here", lambda: True)
    monkeypatch.setattr(packed_linear, "LARGEST", 19)  # 20 weights
    pack(layer)
    assert type(layer) is nn.Linear


@pytest.mark.parametrize(
    "maker, capability, faster",
    [("AuthenticAMD", "AVX512", True), ("GenuineIntel", "AVX512", False), ("AuthenticAMD", "AVX2", False)],
)
def test_it_is_for_wide_processors_of_other_makers(monkeypatch, maker, capability, faster):
    monkeypatch.setattr(packed_linear, "_maker", lambda: maker)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert packed_linear.faster_here.__wrapped__() is faster

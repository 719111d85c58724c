"""What passes through to the frozen model: type, place, bits, compilation; bad combinations are refused by name."""

from __future__ import annotations

from importlib.util import find_spec
from shutil import which

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from dialog_envs.lm import loading
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM

from .conftest import prompts_of, uniforms_of

GREEDY = Sampling(max_new_tokens=6, temperature=0.0)
PREFIX = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(0))


def needs(package: str):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"the package {package} is not installed")


def said(lm: FrozenLM) -> list[list[int]]:
    return lm.generate(prompts_of(lm, [1, 3, 2]), uniforms_of(3, 6), GREEDY, PREFIX)


def hidden(lm: FrozenLM) -> torch.Tensor:
    return lm.encode(prompts_of(lm, [1, 3, 2]))


def close(one: torch.Tensor, other: torch.Tensor, share: float) -> bool:
    return bool((one - other).norm() < share * other.norm())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_type_passes_through(model_folder, lms, dtype):
    lm = FrozenLM.from_pretrained(model_folder(), dtype=dtype)
    assert {p.dtype for p in lm.model.parameters()} == {getattr(torch, dtype)}
    assert hidden(lm).dtype == torch.float32 and close(hidden(lm), hidden(lms()), 0.2)
    assert all(said(lm))


@needs("accelerate")
def test_a_device_map_passes_through(model_folder, lms, monkeypatch):
    given, load = {}, loading.AutoModelForCausalLM.from_pretrained
    record = lambda source, **options: given.update(options) or load(source, **options)  # noqa: E731
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", record)
    lm = FrozenLM.from_pretrained(model_folder(), device_map="auto")
    assert given == {"dtype": torch.float32, "device_map": "auto"}
    assert said(lm) == said(lms())


@needs("accelerate")
def test_layers_in_different_places_work_together(model_folder, lms, tmp_path):
    """Half of the model on the disk: its tensors come and go by `accelerate`'s hooks, as between GPUs."""
    spread = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu"}
    spread |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}
    model = loading.AutoModelForCausalLM.from_pretrained(model_folder(), device_map=spread, offload_folder=tmp_path)
    lm = FrozenLM(model, lms().tokenizer)
    assert said(lm) == said(lms())
    torch.testing.assert_close(hidden(lm), hidden(lms()), atol=1e-5, rtol=1e-5)


@needs("bitsandbytes")
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_bits_pass_through(tmp_path, lms, quantization):
    """On a model as wide as a block of 4-bit weights."""
    wide = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    config = LlamaConfig(**{**lms().model.config.to_dict(), **wide})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    lms().tokenizer.save_pretrained(tmp_path)
    lm, plain = FrozenLM.from_pretrained(tmp_path, quantization=quantization), FrozenLM.from_pretrained(tmp_path)
    kinds = {type(module).__name__ for module in lm.model.modules()}
    assert {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[quantization] in kinds
    assert close(hidden(lm), hidden(plain), 0.3)
    assert len(lm.generate(prompts_of(lm, [1, 3]), uniforms_of(2, 6), GREEDY)) == 2
    assert lm.fingerprint() == lm.fingerprint()


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_layers_say_the_same(model_folder, lms, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # what a killed process left is no library
    lm = FrozenLM.from_pretrained(model_folder(), compile=True)
    assert lm.model.base_model._compiled_call_impl is not None
    assert said(lm) == said(lms())
    torch.testing.assert_close(hidden(lm), hidden(lms()), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "flaot16"}, "dtype is 'flaot16', expected one of float32, bfloat16, float16"),
        ({"quantization": "2bit"}, "quantization is '2bit', expected None or one of 8bit, 4bit"),
        ({"device": "gpu"}, "device is 'gpu', expected one as torch names them"),
        ({"device": "meta", "device_map": "auto"}, "device is 'meta' and device_map is 'auto': give one of the two"),
        ({"device_map": "auto", "compile": True}, "compile does not go with device_map"),
        ({"quantization": "4bit", "compile": True}, "compile does not go with quantization '4bit'"),
    ],
)
def test_what_does_not_go_is_refused_by_name(model_folder, options, message):
    with pytest.raises(ValueError, match=message):
        FrozenLM.from_pretrained(model_folder(), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named(model_folder):
    with pytest.raises(ValueError, match="device is 'cuda:1', but torch sees 0 CUDA devices here"):
        FrozenLM.from_pretrained(model_folder(), device="cuda:1")


@pytest.mark.parametrize(
    ("options", "package"), [({"quantization": "8bit"}, "bitsandbytes"), ({"device_map": "auto"}, "accelerate")]
)
def test_a_package_that_is_missing_is_named(model_folder, monkeypatch, options, package):
    monkeypatch.setattr(loading, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(ModuleNotFoundError, match=f"needs the package {package}: pip install {package}"):
        FrozenLM.from_pretrained(model_folder(), **options)

"""Loading a causal language model: its type, where it lies, in how many bits, compiled or not.

What cannot be is refused by name before a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

DTYPES = ("float32", "bfloat16", "float16")
QUANTIZATIONS = ("8bit", "4bit")


def load_model(
    source: str | Path,
    device: str = "cpu",
    dtype: str = "float32",
    device_map: str | Mapping[str, int | str] | None = None,
    quantization: str | None = None,
    compile: bool = False,
) -> PreTrainedModel:
    """Load a model of a folder, or of a Hugging Face name (which downloads it).

    Args:
        source: folder or name.
        device: where the whole model lies, as torch names it.
        dtype: of its weights and arithmetic: `"float32"`, `"bfloat16"` or `"float16"`.
        device_map: spread it over devices, as `transformers` does: `"auto"`, `"balanced"`, `"sequential"`, or the name
            of a module -> device. Needs `accelerate`; stands in for `device`.
        quantization: `"8bit"` or `"4bit"` weights (NF4, arithmetic in `dtype`). Needs `bitsandbytes`.
        compile: run the layers through `torch.compile`, for shapes that change.

    Raises:
        ValueError: a value is unknown, the device is not there, or two of them do not go together.
        ModuleNotFoundError: the package that one of them needs is not installed.
    """
    _check(device, dtype, device_map, quantization, compile)
    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if device_map is not None:
        options["device_map"] = device_map
    elif quantization is not None:  # such weights are made where they are to lie
        options["device_map"] = {"": device}
    if quantization == "4bit":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, dtype)
        )
    elif quantization == "8bit":
        options["quantization_config"] = BitsAndBytesConfig(load_in_8bit=True)
    model = AutoModelForCausalLM.from_pretrained(source, **options)
    if "device_map" not in options:
        model = model.to(device)
    if compile:
        model.base_model.compile(dynamic=True)
    return model


def _check(
    device: str,
    dtype: str,
    device_map: str | Mapping[str, int | str] | None,
    quantization: str | None,
    compile: bool,
) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization is {quantization!r}, expected None or one of {', '.join(QUANTIZATIONS)}")
    check_device(device)
    if device_map is not None and device != "cpu":
        raise ValueError(f"device is {device!r} and device_map is {device_map!r}: give one of the two")
    if compile and device_map is not None:
        raise ValueError("compile does not go with device_map: tensors that move between devices break the graph")
    if compile and quantization is not None:
        raise ValueError(f"compile does not go with quantization {quantization!r}: its products break the graph")
    for option, value, package in (
        ("quantization", quantization, "bitsandbytes"),
        ("quantization", quantization, "accelerate"),
        ("device_map", device_map, "accelerate"),
    ):
        if value is not None and find_spec(package) is None:
            raise ModuleNotFoundError(f"{option} {value!r} needs the package {package}: pip install {package}")


def check_device(device: str) -> None:
    """Refuse, by name, a device that torch does not know or does not see here."""
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError as error:
        raise ValueError(f"device is {device!r}, expected one as torch names them: cpu, cuda, cuda:1, mps") from error
    if kind == "cuda" and index >= torch.cuda.device_count():
        raise ValueError(f"device is {device!r}, but torch sees {torch.cuda.device_count()} CUDA devices here")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device is 'mps', but torch sees none here")

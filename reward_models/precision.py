"""In which precision, and by which attention, networks are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def training_precision(device: torch.device, bf16: bool) -> Iterator[None]:
    """Compute in bfloat16 where that loses nothing, if `bf16`; on a CPU attention is plain products.

    There the fused kernel's backward pass in bfloat16 takes two to five times as long on texts of up to 128 tokens.
    """
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with attention, torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        yield

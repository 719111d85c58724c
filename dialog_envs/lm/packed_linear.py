"""Linear layers by oneDNN's float32 kernels, where PyTorch's default library leaves half of a processor unused.

PyTorch multiplies matrices by MKL, which on processors of other makers than Intel keeps to AVX2. oneDNN, which its
wheels hold too, uses their AVX-512: faster, in the same type. Nothing changes but the rounding of the last bits.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LARGEST = 2**30  # weights of a model that is worth a second copy of them


class PackedLinear(nn.Linear):
    """A linear layer that multiplies by a packed copy of its weights where no gradient is asked for.

    The copy is made anew when the weights have changed. With gradients, under autocast, in other types and on other
    devices it is `nn.Linear`, which it also is to everyone who looks at its parameters.
    """

    _packed: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return `input @ weight.T + bias`."""
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        if plain or input.dtype != torch.float32 or self.weight.device.type != "cpu" or not input.numel():
            return F.linear(input, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(input, self._weight(), self.bias, "none", [], "")

    def _weight(self) -> Tensor:
        key = self.weight.data_ptr(), self.weight._version
        if self._packed is None or self._packed[0] != key:
            self._packed = key, torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
        return self._packed[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the packed copy out of copies and pickles."""
        return {name: value for name, value in super().__getstate__().items() if name != "_packed"}


def pack(model: nn.Module) -> None:
    """Let the plain linear layers of a model multiply by oneDNN, where that is faster here (see `faster_here`)."""
    if not faster_here() or sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
        return
    for module in model.modules():
        if type(module) is nn.Linear and module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
            module.__class__ = PackedLinear


@cache
def faster_here() -> bool:
    """Tell whether this is an x86 processor with AVX-512, not Intel's, and a PyTorch with both libraries."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    operations = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return both and operations and wide and "Intel" not in _maker()


def _maker() -> str:
    """Return the name of the processor's maker, as the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    return next((line for line in lines if line.startswith("vendor_id")), platform.processor())

"""A training that goes on where it was stopped, and gives the weights of the unbroken one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from agents.checkpoint import load_tree, save_tree


@dataclass(frozen=True)
class Training:
    """How a network is trained; the paper: Adam at 5e-5 for many epochs on a hundred times as much."""

    pairs: int = 64_000
    """Responses that are learned from, drawn at random; all of them where there are fewer."""
    epochs: int = 1
    """Times through them."""
    batch_size: int = 64
    """Responses a step."""
    learning_rate: float = 1e-3
    """Peak rate of Adam; it rises over a twentieth of the steps and then falls to 0 in a straight line."""
    clip: float = 1.0
    """Longest gradient."""
    bf16: bool = True
    """Compute in bfloat16 where that loses nothing."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""


def fit(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Any], Tensor],
    batches: Sequence[Any],
    path: Path,
    seed: int,
    *,
    warmup: float = 0.05,
    clip: float = 1.0,
    every: int = 100,
    label: str | None = None,
) -> list[float]:
    """Minimise the losses of some batches, one after the other; return them, in nats.

    What a step does hangs on seed and step alone.

    Args:
        network: what is trained.
        optimizer: with its peak rates.
        loss_of: an entry of `batches` -> loss, with gradient.
        batches: one a step.
        path: the checkpoint, left to the caller in the end.
        seed: of dropout.
        warmup: share of the steps in which the rates rise.
        clip: longest gradient.
        every: steps between checkpoints.
        label: of the progress bar; None shows none.
    """
    rising = max(1, round(warmup * len(batches)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / rising, (len(batches) - step) / max(1, len(batches) - rising)),
    )
    losses: list[float] = []
    if path.exists():
        saved = load_tree(path)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        losses = saved["losses"]
    network.train()
    bar = tqdm(total=len(batches), initial=len(losses), desc=label, unit="step", disable=label is None)
    for step in range(len(losses), len(batches)):
        torch.manual_seed(seed * 1_000_003 + step)
        loss = loss_of(batches[step])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.update()
        if not (step + 1) % every:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            save_tree(path, state | {"schedule": schedule.state_dict()})
    bar.close()
    network.eval()
    return losses

"""A supervised training that goes on where it was stopped, and gives the weights of the unbroken one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from agents.checkpoint import load_tree, save_tree


class Batching(Protocol):
    """What the settings of a training say of its batches."""

    @property
    def epochs(self) -> int:
        """Times through the examples."""

    @property
    def batch_size(self) -> int:
        """Examples a step."""


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
) -> list[Any]:
    """Minimise the losses of some batches, one after the other; return each step's, in nats.

    What a step does hangs on seed and step alone, so a training that was stopped goes on to the same weights.

    Args:
        network: what is trained.
        optimizer: with its peak rates.
        loss_of: an entry of `batches` -> loss `()` or its parts `(P,)`, whose sum is minimised, with gradient.
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
    losses: list[Any] = []
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
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.tolist())
        bar.update()
        if not (step + 1) % every:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            save_tree(path, state | {"schedule": schedule.state_dict()})
    bar.close()
    network.eval()
    return losses


def batches_of(lengths: Sequence[int], config: Batching, seed: int) -> list[np.ndarray]:
    """Return the rows of each step: texts of like length together, steps in random order; no text, no step."""
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    for _ in range(config.epochs if lengths else 0):
        order = rng.permutation(len(lengths))
        pools = [
            order[first : first + 16 * config.batch_size] for first in range(0, len(order), 16 * config.batch_size)
        ]
        ordered = np.concatenate([pool[np.argsort(np.array(lengths)[pool], kind="stable")] for pool in pools])
        steps = [ordered[first : first + config.batch_size] for first in range(0, len(ordered), config.batch_size)]
        found += [steps[i] for i in rng.permutation(len(steps))]
    return found

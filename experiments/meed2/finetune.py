"""Fine-tune on emotional dialogue and on EmpatheticDialogues, pretrained first where that is not done."""

from __future__ import annotations

from pathlib import Path

from experiments.meed2.config import STAGES, Config
from experiments.meed2.pretrain import train_stages

__all__ = ["Config", "run"]


def run(config: Config) -> Path:
    """Train every stage, seed by seed, where that is not done; return the run folder."""
    train_stages(config, STAGES)
    return config.out

"""Sweeps: one setting at a time, its reward laid against the language, and what follows for DAT's open questions."""

from experiments.sweep.config import Config
from experiments.sweep.grid import run

__all__ = ["Config", "run"]

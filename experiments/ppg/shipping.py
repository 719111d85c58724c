"""Puts the critic that a run trained where the package loads it from, with a card that says where it comes from."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dialog_envs.corpora import CORPORA
from experiments.card import shipped_folder
from experiments.ppg import report
from experiments.ppg.data import SITUATIONS, TRAINING
from experiments.rendering import render
from experiments.run_folder import ResultRow, git_revision
from reward_models.persona_critic import POCKET

LARGEST = 6 << 20


def check(encoder: str) -> None:
    """Raise ValueError where a run with this encoder gives nothing that can be shipped."""
    if encoder != "pocket":
        raise ValueError(f"critics.critic.encoder is {encoder!r}: what is shipped starts from 'pocket'")


def ship(critic: Path, config: Any, rows: Sequence[ResultRow]) -> None:
    """Copy a critic and write its card.

    Args:
        critic: its folder.
        config: the run's configuration.
        rows: what the run measured.

    Raises:
        ValueError: critic and card would be larger than 6 MiB.
    """
    licences = [(f"{name}/{split}", CORPORA[name].licence) for name, split in (*TRAINING, SITUATIONS)]
    (table,) = (t for t in report.make_tables(rows, report.read_paper(config.paper)) if t.title == report.CRITICS_TITLE)
    card = render("ppg_card.md", config=config, licences=licences, table=table, revision=git_revision())
    with shipped_folder(POCKET, card, LARGEST, critic) as folder:
        shutil.copytree(critic, folder, dirs_exist_ok=True)

"""Puts what a run trained where the package loads it from, each folder with a card that says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dialog_envs.corpora import CORPORA
from dialog_envs.speakers.ppg import POCKET as GENERATORS
from experiments.ppg import report
from experiments.ppg.data import TRAINING
from experiments.ppg.supervised import generator_class
from experiments.ppg.systems import RL
from experiments.rendering import render
from experiments.run_folder import ResultRow, git_revision, write_text
from reward_models.persona_critic import POCKET as CRITIC
from reward_models.persona_critic import PersonaCritic


def check(lm: str, encoder: str, systems: Sequence[str]) -> None:
    """Raise ValueError where a run with these settings gives nothing that can be shipped."""
    for name, given in (("lm", lm), ("critics.critic.encoder", encoder)):
        if given != "pocket":
            raise ValueError(f"{name} is {given!r}: what is shipped starts from 'pocket'")
    if RL not in systems:
        raise ValueError(f"systems has no {RL!r}, which is what is shipped")


def ship(critic: Path, generators: Mapping[str, Path], config: Any, rows: Sequence[ResultRow]) -> None:
    """Copy a critic and both generators, in half precision, and write their cards.

    Args:
        critic: its folder.
        generators: folders of the `personas` and the `response` generator.
        config: the run's configuration.
        rows: what the run measured.
    """
    PersonaCritic.load(critic).save(CRITIC)
    _card(CRITIC, "critic", config, rows)
    for part, folder in generators.items():
        generator_class(part).from_pretrained(folder, dtype="float16").save_pretrained(GENERATORS / part)
        _card(GENERATORS / part, part, config, rows)


def _card(folder: Path, part: str, config: Any, rows: Sequence[ResultRow]) -> None:
    licences = [(f"{name}/{split}", CORPORA[name].licence) for name, split in TRAINING]
    tables = report.make_tables(rows, report.read_paper(config.paper))
    shown = [table for table in tables if (table.title == report.CRITICS_TITLE) == (part == "critic")]
    values = {"part": part, "config": config, "licences": licences, "tables": shown, "revision": git_revision()}
    write_text(folder / "README.md", render("ppg_card.md", **values))

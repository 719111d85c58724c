"""Put the first seed's MEED2 and its predictor where the package loads them from, with their card."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from dialog_envs.corpora import CORPORA
from dialog_envs.speakers.meed2 import POCKET, MEED2Speaker
from experiments.card import read_results, shipped_folder
from experiments.meed2.config import MEED2, SYSTEMS, Config
from experiments.meed2.pages import QUALITY, obedience, results
from experiments.meed2.pretrain import load_stage, open_meed2, records
from experiments.pretrain import TRAIN_CORPORA
from experiments.rendering import render
from experiments.run_folder import ResultRow, git_revision
from reward_models.emotion_labels import INTENTS

__all__ = ["Config", "run"]

LARGEST = 12 << 20


def run(config: Config) -> Path:
    """Write the folder that is shipped; return the run folder."""
    ship(config, POCKET)
    return config.out


def ship(config: Config, out: Path) -> None:
    """Write MEED2 (float16), its tokenizer and its card to a folder that is replaced whole.

    Raises:
        FileNotFoundError: the run has not trained it, or not evaluated it.
        ValueError: the run has other settings, or the folder would be larger than 12 MiB.
    """
    _, classifier = open_meed2(config)
    tokenizer = AutoTokenizer.from_pretrained(config.out / "tokenizer")
    system = SYSTEMS[MEED2]
    networks = [load_stage(config, name, len(tokenizer), 0) for name in (system.responder, system.predictor)]
    rows = [ResultRow(**row) for row in read_results(config.out)]
    shown = [
        row for row in rows if (row.system.startswith(MEED2) and "/" not in row.metric) or row.metric.startswith("ed/")
    ]
    shown.sort(key=lambda row: next((i for i, name in enumerate(QUALITY[:2]) if name in row.metric), 2))
    names = (*TRAIN_CORPORA, "empathetic_intents") if config.curated is None else ("empathetic_intents",)
    licences = [[name, CORPORA[name].licence] for name in names]
    if config.curated is not None:
        licences.insert(0, [f"subtitles, curated in {config.curated}", "that of the subtitles"])
    card = render(
        "meed2_card.md",
        config=config,
        learned=records(config, system.responder, 0),
        revision=git_revision(),
        parameters=sum(p.numel() for network in networks for p in network.parameters()),
        corpora=[["corpus", "licence"], *licences],
        results=results(shown),
        obedience=obedience(rows, INTENTS),
    )
    with shipped_folder(out, card, LARGEST, "MEED2") as folder:
        MEED2Speaker(*networks, tokenizer, classifier).save_pretrained(folder)

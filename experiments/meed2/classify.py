"""Train the classifier of 41 emotions and intents on Empathetic Intents, calibrate it, measure it on its validation."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix

from dialog_envs import corpora
from dialog_envs.corpora import empathetic_intents
from experiments.card import shipped_folder
from experiments.fitting import batches_of, fit
from experiments.plots import plot_confusion, plot_stated
from experiments.rendering import render
from experiments.run_folder import ResultRow, git_revision, model_files, open_run, write_results
from experiments.statistics import mean_ci95
from reward_models import emotion_training
from reward_models.dmi.encoder import encoder_source
from reward_models.emotion import POCKET, EmotionClassifier
from reward_models.emotion_labels import EMOTIONS, LABELS
from reward_models.emotion_training import EmotionTraining, calibrate, figures, make_optimizer

LARGEST = 6 << 20


@dataclass(frozen=True)
class Config:
    """Train one classifier; a run that was stopped goes on. The paper's is RoBERTa: `--encoder roberta-base
    --training.learning-rate 1e-3 --training.encoder-learning-rate 2e-5`, where its weights can be had."""

    out: Path = Path("runs/emotion")
    """Run folder; the classifier is written to `<out>/model`."""
    encoder: str = "pocket"
    """What it starts from: `pocket` (the shipped encoder), a folder, or a Hugging Face name."""
    training: EmotionTraining = field(default_factory=EmotionTraining)
    """How it is trained."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    ship: bool = False
    """Put the classifier where the package loads it from."""
    threads: int = 2
    """CPU threads."""


Labelled = list[tuple[str, int]]


def run(config: Config) -> Path:
    """Train, or go on training, calibrate and measure; return the run folder.

    Raises:
        FileNotFoundError: the corpus, or the encoder, is not there.
        ValueError: the folder was begun otherwise, or what is to be shipped is too large or of another encoder.
    """
    if config.ship and config.encoder != "pocket":
        raise ValueError(f"encoder is {config.encoder!r}: what is shipped starts from 'pocket'")
    torch.set_num_threads(config.threads)
    folder = corpora.root(config.data) / "empathetic_intents"
    sources = [folder / "train_data" / f"{split}.txt" for split in ("train", "valid")]
    weights = model_files(str(encoder_source(config.encoder)))
    out = open_run(config.out, "meed2 classify", config, [*sources, *weights], ("ship", "threads", "data"))
    if not (out / "model").is_dir():
        train(config, *read(folder), out)
    if config.ship:
        ship(out / "model")
    return out


def read(folder: Path) -> tuple[Labelled, Labelled]:
    """Return training and validation examples; what stands in both, word by word, is in the validation alone."""
    valid = list(empathetic_intents.read_labelled(folder, "valid"))
    known = {text.lower() for text, _ in valid}
    train = [(text, label) for text, label in empathetic_intents.read_labelled(folder, "train") if text]
    return [example for example in train if example[0].lower() not in known], valid


def train(config: Config, examples: Labelled, valid: Labelled, out: Path) -> None:
    """Train and calibrate a classifier on examples, measure it on others, and write it with all that was found."""
    settings = config.training
    classifier = EmotionClassifier.from_encoder(config.encoder, settings.seed)
    order = np.random.default_rng(settings.seed).permutation(len(examples))
    aside = max(1, round(settings.held_out * len(examples)))
    kept, learned = ([examples[i] for i in part] for part in (order[:aside], order[aside:]))
    rows = classifier.rows([text for text, _ in learned])
    labels = np.array([label for _, label in learned])

    def loss_of(batch: np.ndarray) -> torch.Tensor:
        return emotion_training.loss(classifier, [rows[i] for i in batch], labels[batch], settings)

    checkpoint = out / "checkpoint.safetensors"
    batches = batches_of([len(row) for row in rows], settings, settings.seed)
    fit(classifier, make_optimizer(classifier, settings), loss_of, batches, checkpoint, settings.seed, warmup=0.1,
        label="emotion classifier")  # fmt: skip
    calibrate(classifier, *zip(*kept, strict=True))
    found = figures(classifier, *zip(*valid, strict=True))
    report(out, found, [label for _, label in valid])
    values = {row.metric: [row.value, row.ci95, row.n] for row in result_rows(found, [label for _, label in valid])}
    classifier.card = {"encoder": config.encoder, "training": asdict(settings), "examples": len(learned)} | values
    classifier.save_pretrained(out / "model")
    checkpoint.unlink(missing_ok=True)


def result_rows(found: dict[str, Any], labels: Sequence[int], system: str = "emotion") -> list[ResultRow]:
    """Return accuracy, of all and of emotions and intents apart, cross-entropy and calibration."""
    correct, emotional = np.array(found["correct"], dtype=float), np.array(labels) < len(EMOTIONS)
    parts = {"": np.ones(len(correct), bool), "/emotions": emotional, "/intents": ~emotional}
    rows = [
        ResultRow(system, f"accuracy{name}", *mean_ci95(correct[part]), int(part.sum()), 1)
        for name, part in parts.items()
        if part.any()
    ]
    rows.append(ResultRow(system, "nats", found["nats"], None, len(correct), 1))
    plot = found["reliability"]
    return rows + [ResultRow(system, m, plot[m], None, len(correct), 1) for m in ("brier", "calibration_error") if plot]


def report(out: Path, found: dict[str, Any], labels: Sequence[int]) -> None:
    """Write `results.json`, the confusion matrix and the reliability plot; print the results."""
    rows = result_rows(found, labels)
    write_results(out, rows)
    matrix = confusion_matrix(labels, found["predicted"], labels=range(len(LABELS)))
    plot_confusion(out / "confusion.png", matrix, "Empathetic Intents, validation", LABELS, ("label", "predicted"))
    if plot := found["reliability"]:
        share, count = np.array(plot["observed"]), np.array(plot["count"])
        halves = 1.96 * np.sqrt(share * (1 - share) / count)
        points = list(zip(plot["predicted"], share, halves, strict=True))
        plot_stated(out / "reliability.png", {"validation": points}, "Is the most probable label the true one?")
    for row in rows:
        print(f"{row.metric:<20}{row.value:7.3f}" + ("" if row.ci95 is None else f" +- {row.ci95:.3f}"))


def ship(model: Path, out: Path = POCKET) -> None:
    """Copy a classifier, and write its card.

    Raises:
        ValueError: it takes more than 6 MiB.
    """
    measured = EmotionClassifier.from_pretrained(model).card
    card = render("emotion_card.md", card=measured, revision=git_revision())
    with shipped_folder(out, card, LARGEST, model) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)

"""Train the classifier of 41 emotions and intents on Empathetic Intents, calibrate it, measure it on its validation."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix

from dialog_envs import corpora
from dialog_envs.corpora import empathetic_intents
from experiments.card import shipped_folder
from experiments.dmi.pairs import bare
from experiments.fitting import batches_of, fit
from experiments.plots import plot_confusion, plot_stated
from experiments.rendering import render
from experiments.run_folder import ResultRow, git_revision, model_files, open_run, write_results
from experiments.statistics import grouped_ci95
from reward_models import emotion_training
from reward_models.dmi.encoder import encoder_source
from reward_models.emotion import POCKET, EmotionClassifier
from reward_models.emotion_labels import EMOTIONS, LABELS
from reward_models.emotion_training import EmotionTraining, calibrate, figures, make_optimizer

LARGEST = 6 << 20
SYSTEM = "emotion"


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
    device: str = "cpu"
    """Where the models run, as torch names it."""


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
    out = open_run(config.out, "meed2 classify", config, [*sources, *weights], ("ship", "threads", "device", "data"))
    if not (out / "model").is_dir():
        train(config, *read(folder), out)
    if config.ship:
        ship(out / "model")
    return out


def read(folder: Path) -> tuple[Labelled, Labelled]:
    """Return training and validation examples; what stands in both, marks and spaces aside, is validation."""
    valid = list(empathetic_intents.read_labelled(folder, "valid"))
    known = {bare(text) for text, _ in valid}
    train = empathetic_intents.read_labelled(folder, "train")
    return [(text, label) for text, label in train if text and bare(text) not in known], valid


def set_aside(examples: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Return a share of the texts, drawn at random, and the others; examples of one text stay together."""
    groups = texts_of(examples)
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    aside = np.isin(groups, order[: max(1, round(share * len(order)))])
    return tuple([examples[i] for i in np.flatnonzero(part)] for part in (aside, ~aside))


def texts_of(examples: Labelled) -> np.ndarray:
    """Return the number of each example's text, `(N,)`; marks and spaces make no other text."""
    return np.unique([bare(text) for text, _ in examples], return_inverse=True)[1]


def train(config: Config, examples: Labelled, valid: Labelled, out: Path) -> None:
    """Train and calibrate a classifier on examples, measure it on others, and write it with all that was found."""
    settings = config.training
    classifier = EmotionClassifier.from_encoder(config.encoder, settings.seed).to(config.device)
    kept, learned = set_aside(examples, settings.held_out, settings.seed)
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
    values = {row.metric: [row.value, row.ci95, row.n] for row in report(out, found, valid)}
    classifier.card = {"encoder": config.encoder, "training": asdict(settings), "examples": len(learned)} | values
    classifier.save_pretrained(out / "model")
    checkpoint.unlink(missing_ok=True)


def result_rows(found: dict[str, Any], valid: Labelled) -> list[ResultRow]:
    """Return accuracy, of all and of emotions and intents apart, cross-entropy and calibration.

    Lines of one text are not independent in the intervals.
    """
    correct, texts = np.array(found["correct"], dtype=float), texts_of(valid)
    emotional = np.array([label for _, label in valid]) < len(EMOTIONS)
    parts = {"": np.ones(len(correct), bool), "/emotions": emotional, "/intents": ~emotional}
    rows = []
    for name, part in parts.items():
        if part.any():
            mean, half = grouped_ci95(correct[part], texts[part])
            rows.append(
                ResultRow(SYSTEM, f"accuracy{name}", mean, half if np.isfinite(half) else None, int(part.sum()), 1)
            )
    rows.append(ResultRow(SYSTEM, "nats", found["nats"], None, len(correct), 1))
    plot = found["reliability"]
    return rows + [ResultRow(SYSTEM, m, plot[m], None, len(correct), 1) for m in ("brier", "calibration_error") if plot]


def report(out: Path, found: dict[str, Any], valid: Labelled) -> list[ResultRow]:
    """Write `results.json`, the confusion matrix and the reliability plot; print and return the results."""
    rows = result_rows(found, valid)
    write_results(out, rows)
    matrix = confusion_matrix([label for _, label in valid], found["predicted"], labels=range(len(LABELS)))
    plot_confusion(out / "confusion.png", matrix, "Empathetic Intents, validation", LABELS, ("label", "predicted"))
    if plot := found["reliability"]:
        share, count = np.array(plot["observed"]), np.array(plot["count"])
        halves = 1.96 * np.sqrt(share * (1 - share) / count)
        points = list(zip(plot["predicted"], share, halves, strict=True))
        plot_stated(out / "reliability.png", {"validation": points}, "Is the most probable label the true one?")
    for row in rows:
        print(f"{row.metric:<20}{row.value:7.3f}" + ("" if row.ci95 is None else f" +- {row.ci95:.3f}"))
    return rows


def ship(model: Path, out: Path = POCKET) -> None:
    """Copy a classifier, and write its card.

    Raises:
        ValueError: it takes more than 6 MiB.
    """
    measured = EmotionClassifier.from_pretrained(model).card
    card = render("emotion_card.md", card=measured, revision=git_revision())
    with shipped_folder(out, card, LARGEST, model) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)

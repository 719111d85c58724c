"""Small files in the official formats, in which a reply's label can be read from its words; a finished run on them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dialog_envs.speakers.beam import Beams
from dialog_envs.speakers.meed2_model import MEED2Config
from experiments.dmi import pairs
from experiments.meed2 import evaluate
from experiments.meed2.config import Config, Training
from reward_models.emotion_labels import EMOTIONS, LABELS
from tests.empathy import save_parts
from tests.experiments.dmi.conftest import write_dailydialog

FEELINGS = ("sad", "joyful", "angry")
ANSWERS = {
    "questioning": ("why is that {}?", "what happened {}?"),
    "sympathizing": ("i am sorry for you {}.", "that is awful {}."),
    "wishing": ("i wish you luck {}.", "good luck {}."),
}


def told(rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return four turns with their labels."""
    names = rng.choice(list(ANSWERS), 2)
    feeling = str(rng.choice(FEELINGS))
    number = rng.integers(1000)
    lines = [(f"i feel {feeling} today {number}", feeling)]
    for name in names:
        lines.append((str(rng.choice(ANSWERS[name])).format(rng.integers(50)), str(name)))
        lines.append((f"so {feeling} i am", feeling))
    return lines[:4]


def write_corpora(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 60), ("validation", 30)):
        write_dailydialog(root, split, [[text for text, _ in told(rng)] for _ in range(count)])
    (root / "empatheticdialogues").mkdir()
    (root / "empathetic_intents/empatheticdialogues_annotated").mkdir(parents=True)
    (root / "empathetic_intents/train_data").mkdir()
    annotated: dict[str, list[list[str]]] = {emotion: [] for emotion in EMOTIONS}
    for split, count in (("train", 60), ("valid", 24)):
        official = [["conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance"]]
        labelled = []
        for number in range(count):
            name, lines = f"{split}_{number}", told(rng)
            feeling = lines[0][1]
            annotated[feeling].append([name, "situation", "none", lines[0][0], feeling])
            for place, (text, label) in enumerate(lines):
                official.append([name, place + 1, feeling, lines[0][0], str(1 - place % 2), text])
                annotated[feeling].append([name, "utterance", ("speaker", "listener")[place % 2], text, label])
                labelled.append((label, text))
        write_csv(root / f"empatheticdialogues/{split}.csv", official)
        text = "".join(f"{LABELS.index(label)} <SEP> {said}\n" for label, said in labelled)
        (root / f"empathetic_intents/train_data/{split}.txt").write_text(text)
    for emotion, rows in annotated.items():
        path = root / f"empathetic_intents/empatheticdialogues_annotated/{emotion}.csv"
        write_csv(path, [["Dialog_ID", "Type", "Actor", "Text", "Label"], *rows])


def write_csv(path: Path, rows: list[list]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("meed2_data")
    write_corpora(root)
    return root


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session", autouse=True)
def few_corpora():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "TRAIN_CORPORA", {"dailydialog": ("train", 1.0), "empatheticdialogues": ("train", 1.0)})
        yield


def settings(out: Path, data: Path, parts: dict[str, str], **changes: object) -> Config:
    training = Training(90, 2, 16, 3e-3, checkpoint_every=3)
    return Config(
        **{
            "out": out,
            "data": data,
            "classifier": parts["emotion"],
            "encoder": parts["coherence"],
            "seeds": 2,
            "vocab_size": 320,
            "responder": MEED2Config(16, 1, 1, 2, 24, 0.1, 48),
            "predictor": MEED2Config(16, 1, 0, 2, 24, 0.1, 48),
            "most_emotional": 20,
            "pretraining": training,
            "finetuning": replace(training, learning_rate=2e-3),
            "evaluated": 20,
            "beams": Beams(2, 8),
            "asked": 2,
            "threads": 1,
        }
        | changes
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, data, parts) -> Config:
    """A whole run: trained and evaluated."""
    config = settings(tmp_path_factory.mktemp("meed2") / "run", data, parts)
    evaluate.run(config)
    return config

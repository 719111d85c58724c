"""Own-written files in the official formats of INSPIRED and PersuasionForGood, and settings for tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import openpyxl
import pytest

from dialog_envs.speakers.idpt_model import IDPTConfig
from experiments.idpt.training import Training

TINY = IDPTConfig(width=8, heads=2, prefix_length=2)
LINES = (  # speaker, text, strategy of INSPIRED, of PersuasionForGood
    (0, "hello there.", "no_strategy", "greeting"),
    (1, "hi.", "", "greeting"),
    (0, "what do you like?", "opinion_inquiry", "personal-related-inquiry"),
    (1, "i like jazz. and what is it about?", "", "ask-org-info"),
    (0, "it is about a baker.", "credibility", "donation-information"),
    (1, "i see.", "", "acknowledgement"),
    (0, "you should see it, my dog did.", "encouragement", "proposition-of-donation"),
    (1, "well.", "", "neutral"),
)


def write_corpora(root: Path, dialogues: int = 10) -> Path:
    (root / "inspired").mkdir(parents=True)
    (root / "p4g").mkdir()
    rows = [("dialog_id", "speaker", "text", "expert_label", "fine_label")]
    book = openpyxl.Workbook()
    book.active.append(["", "B2", "B4", "Turn", "Unit", "er_label_1", "ee_label_1"])
    for number in range(dialogues):
        for who, text, inspired, p4g in LINES:
            text = text.replace("jazz", f"jazz {number}")
            rows.append((f"d{number}", ("RECOMMENDER", "SEEKER")[who], text, inspired, "accept"))
            book.active.append([0, f"d{number}", str(who), "0", text, p4g if who == 0 else None, p4g if who else None])
    (root / "inspired" / "dev.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    book.save(root / "p4g" / "300_dialog.xlsx")
    return root


@pytest.fixture(scope="session")
def corpora_root(tmp_path_factory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="session")
def models(model_folder, idpt_folder) -> dict[str, str]:
    """Return names of a tiny language model and a tiny encoder."""
    return {"lm": str(model_folder()), "encoder": json.loads((idpt_folder / "idpt.json").read_text())["encoder"]}


@pytest.fixture(scope="session")
def small(corpora_root, models) -> dict[str, object]:
    """Return what all configurations of whole runs share."""
    training = Training(epochs=1, batch_size=4, checkpoint_every=1, bf16=False)
    return models | {"data": corpora_root, "threads": 1, "training": training}

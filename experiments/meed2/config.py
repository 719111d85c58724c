"""What is trained and compared: the stages of training, the systems of the tables, the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from dialog_envs.speakers.beam import Beams
from dialog_envs.speakers.meed2_model import POCKET_PREDICTOR, POCKET_RESPONDER, MEED2Config

Network = Literal["meed2", "plain", "predictor"]
Name = Literal["os", "edos", "ed"]
DATA: Mapping[Name, str] = MappingProxyType(
    {
        "os": "general dialogue, in the place of OpenSubtitles",
        "edos": "its most emotional part, in the place of EDOS",
        "ed": "EmpatheticDialogues",
    }
)


@dataclass(frozen=True)
class Training:
    """How a network is trained; the paper: Adam at 5e-5 for many epochs on a hundred times as much."""

    pairs: int = 32_000
    """Responses that are learned from, drawn at random; all of them where there are fewer."""
    epochs: int = 1
    """Times through them."""
    batch_size: int = 64
    """Responses a step."""
    learning_rate: float = 1e-3
    """Peak rate of Adam; it rises over a twentieth of the steps and then falls to 0 in a straight line."""
    clip: float = 1.0
    """Longest gradient."""
    bf16: bool = True
    """Compute in bfloat16 where that loses nothing."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""


@dataclass(frozen=True)
class Stage:
    """A network that is trained on one set of dialogues, from scratch (as `pretraining` says) or from another stage (as
    `finetuning` does)."""

    network: Network
    data: Name
    start: str | None = None


STAGES: Mapping[str, Stage] = MappingProxyType(
    {
        "plain_os": Stage("plain", "os"),
        "meed2_os": Stage("meed2", "os"),
        "predictor_os": Stage("predictor", "os"),
        "raw_first": Stage("plain", "ed"),  # ED alone, in as many steps and at the rates of the other systems
        "raw_ed": Stage("plain", "ed", "raw_first"),
        "plain_ed": Stage("plain", "ed", "plain_os"),
        "meed2_edos": Stage("meed2", "edos", "meed2_os"),
        "predictor_edos": Stage("predictor", "edos", "predictor_os"),
        "meed2_ed": Stage("meed2", "ed", "meed2_os"),
        "predictor_ed": Stage("predictor", "ed", "predictor_os"),
    }
)
PRETRAINING = tuple(name for name, stage in STAGES.items() if stage.start is None)


@dataclass(frozen=True)
class System:
    """A row of the tables: what writes, what foretells the emotion (None: nothing does), and how it came about."""

    responder: str
    predictor: str | None
    note: str


MEED2, FINE_TUNED = "MEED2", "Fine-tuned"
SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        "Pre-trained": System("plain_os", None, "plain Transformer on OS"),
        FINE_TUNED: System("plain_ed", None, "plain Transformer on OS, then ED"),
        "Raw": System("raw_ed", None, "plain Transformer on ED alone, twice through the same responses"),
        "MEED2 (OS)": System("meed2_os", "predictor_os", "on OS"),
        "MEED2 (OS, EDOS)": System("meed2_edos", "predictor_edos", "on OS, then EDOS"),
        MEED2: System("meed2_ed", "predictor_ed", "on OS, then ED"),
    }
)


@dataclass(frozen=True)
class Config:
    """MEED2 and what it is compared with; a stage that is done is not done again. All verbs share the run folder."""

    out: Path = Path("runs/meed2")
    """Run folder."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    curated: Path | None = None
    """Run folder of `curate`, whose dialogues are the general dialogue, in place of the corpora's."""
    classifier: str = "pocket"
    """Tags utterances: `pocket` (the shipped one), or the folder `<out>/model` of `meed2 classify`."""
    seeds: int = 3
    """Trainings of everything."""
    vocab_size: int = 6144
    """Subwords of the tokenizer, at most."""
    responder: MEED2Config = POCKET_RESPONDER
    """Size of the encoder-decoder (the paper's: 300, 4 + 4 layers, 6 heads, 1200), with emotions and without."""
    predictor: MEED2Config = POCKET_PREDICTOR
    """Size of the predictor."""
    general: int = 15_000
    """Dialogues of general dialogue at most, drawn at random (the corpora have 17,848); each utterance is tagged."""
    most_emotional: int = 2_500
    """K, how many of them, by emotionality, stand for EDOS."""
    pretraining: Training = field(default_factory=Training)
    """Of what starts from scratch."""
    finetuning: Training = field(default_factory=lambda: Training(learning_rate=5e-4))
    """Of what starts from that."""
    evaluated: int = 400
    """Responses of each validation set that are evaluated."""
    beams: Beams = field(default_factory=lambda: Beams(width=8))
    """How replies are searched (the paper: `--beams.width 32`)."""
    asked: int = 25
    """Contexts in which each of the 41 emotions and intents is asked for."""
    encoder: str = "pocket"
    """Whose vectors of sentences are compared: `pocket`, a folder, or a Hugging Face name."""
    threads: int = 2
    """CPU threads."""
    device: str = "cpu"
    """Where the models run, as torch names it."""


CHANGEABLE = ("out", "data", "seeds", "evaluated", "beams", "asked", "encoder", "threads", "device")

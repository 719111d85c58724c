"""Dialogues from subtitle files, and the most emotional of them, as MEED2's OS and EDOS (Xie and Pu, CoNLL 2021).

The files are cut into parts. What a part gives is a file, written whole; a run does the parts that have none, over
several processes, and what it gives does not depend on how many there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.curate import parts, report, subtitles
from experiments.curate.parts import MakeClassifier, Part, Work, load_classifier
from experiments.curate.selection import most_emotional
from experiments.curate.speakers import SpeakerModel, train
from experiments.run_folder import ResultRow, open_run, write_json, write_text

__all__ = ["Config", "read", "run"]

SPEAKERS = "speakers.json"
CHANGEABLE = ("out", "keep", "classifier", "until", "workers")


@dataclass(frozen=True)
class Config:
    """Curate dialogues from subtitle files: who speaks, where a dialogue ends, what is clean, what is emotional."""

    subtitles: tuple[Path, ...]
    """Subtitle files (.srt, OPUS .xml, both also .gz), folders of them, and zip archives of them."""
    out: Path = Path("runs/curate")
    """Run folder; a killed run goes on where it was."""
    labelled: tuple[Path, ...] = ()
    """Subtitle files whose marks (names, dashes, >>) tell who speaks, to train the speaker model (default: the same
    files)."""
    speakers: Path | None = None
    """A speaker model, the `speakers.json` of another run; none is trained then."""
    label_files: int = 1000
    """Files that the speaker model is trained on at most, spread over all."""
    gap: float = 5.0
    """Seconds without a line that end a dialogue."""
    one_a_film: bool = False
    """Read only the first file of each folder: OPUS keeps all uploads of one film in one folder."""
    encoding: str | None = None
    """Encoding of SubRip files (default: UTF-8, else what their bytes look like)."""
    classifier: str = "pocket"
    """The emotion classifier that selects: `pocket`, or a folder."""
    keep: int = 1_000_000
    """Emotional dialogues to keep."""
    until: Literal["speakers", "dialogues", "emotional"] = "emotional"
    """The last stage to run; `dialogues` needs no classifier."""
    part_files: int = 50
    """Subtitle files in a part."""
    workers: int = 2
    """Processes."""


def run(config: Config, make: MakeClassifier = load_classifier) -> Path:
    """Run the stages up to `until`; return the run folder.

    Args:
        config: the configuration.
        make: makes a classifier of its name; a function of a module, since other processes call it too.

    Raises:
        ValueError: the files are none, or have changed since the run was begun, or have too few marks to learn from.
        FileNotFoundError: a path does not exist.
    """
    for name in ("keep", "part_files", "workers", "label_files"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}, expected at least 1")
    sources = subtitles.find(config.subtitles, config.one_a_film)
    labelled = subtitles.find(config.labelled) if config.labelled else sources
    config.out.mkdir(parents=True, exist_ok=True)
    listing = config.out / "files.txt"
    text = "".join(f"{source}\t{source.size()}\n" for source in dict.fromkeys((*sources, *labelled)))
    if not listing.exists():
        write_text(listing, text)
    elif listing.read_text(encoding="utf-8") != text:
        raise ValueError(f"{config.out} was begun with other subtitle files, see {listing.name}: take another --out")
    out = open_run(config.out, "curate", config, [listing, *filter(None, [config.speakers])], CHANGEABLE)
    with Work(config.workers) as work:
        rows = list(_learn_speakers(config, labelled, work))
        if config.until != "speakers":
            starts = range(0, len(sources), config.part_files)
            cut = [Part(out, i, tuple(sources[at : at + config.part_files])) for i, at in enumerate(starts)]
            _curate(cut, config, rows, work, make)
    return out


def _curate(cut: list[Part], config: Config, rows: list[ResultRow], work: Work, make: MakeClassifier) -> None:
    """Do the parts that are not done, select, and write what was counted."""
    missing = [part for part in cut if not part.counts.exists()]
    work.map("dialogues", parts.write_dialogues, missing, config.out / SPEAKERS, config.gap, config.encoding)
    counts = parts.total(cut)
    if config.until == "emotional":
        key = parts.classifier_key(config.classifier)
        missing = [part for part in cut if not part.scores(key).exists()]
        work.map("emotions", parts.write_scores, missing, key, config.classifier, make)
        counts["emotional"], emotions = _select(cut, key, config)
        rows = rows + emotions
    report.write(config.out, config.gap, counts, rows + report.rows(counts))


def _learn_speakers(config: Config, labelled: list[subtitles.Source], work: Work) -> Iterator[ResultRow]:
    """Write `speakers.json` where it is not there; yield what it was measured to be worth."""
    path, measured = config.out / SPEAKERS, config.out / "speakers_measured.json"
    if not path.exists():
        if config.speakers is not None:
            model, found = SpeakerModel.load(config.speakers), []
        else:
            places = np.linspace(0, len(labelled) - 1, min(config.label_files, len(labelled))).astype(int)
            chosen = [labelled[place] for place in dict.fromkeys(places.tolist())]
            model, found = train(work.map("speakers", parts.marked, chosen, config.encoding))
        write_json(measured, [vars(row) for row in found])
        model.save(path)
    yield from (ResultRow(**row) for row in json.loads(measured.read_text()))


def _select(cut: list[Part], key: str, config: Config) -> tuple[dict[str, int], list[ResultRow]]:
    """Write `emotional.jsonl`, the most emotional dialogues of all parts in their order; return counts and rows."""
    scores = np.concatenate([np.array(json.loads(part.scores(key).read_text()), float) for part in cut])

    def everything() -> Iterator[tuple[float, dict[str, Any]]]:
        lines = (line for part in cut for line in parts.read_lines(part.dialogues))
        return zip(scores.tolist(), lines, strict=True)

    chosen = most_emotional(((score, line["turns"]) for score, line in everything()), config.keep)
    wanted = set(chosen)
    kept = ({"emotionality": score, **line} for i, (score, line) in enumerate(everything()) if i in wanted)
    return parts.write_lines(config.out / "emotional.jsonl", kept), report.emotionality(scores, scores[chosen])


def read(folder: Path, which: Literal["dialogues", "emotional"]) -> Iterator[list[str]]:
    """Yield the utterances of each dialogue of a finished run, all (`dialogues`) or the most emotional."""
    files = sorted((folder / "parts").glob("*.jsonl")) if which == "dialogues" else [folder / "emotional.jsonl"]
    for file in files:
        yield from (line["turns"] for line in parts.read_lines(file))

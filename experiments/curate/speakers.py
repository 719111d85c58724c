"""Whether two consecutive lines share a speaker: what marks say, and a support vector machine where there are none.

Labels come from subtitles themselves (`pairs`): lines that name their speaker, `>>`, and the rows of one subtitle,
where a dash begins another speaker and a row without one goes on. A mark that gave a pair its label is not its feature.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from experiments.curate.cleaning import Line
from experiments.run_folder import ResultRow, write_json
from experiments.statistics import grouped_ci95
from reward_models.lexicon import content_words, words

Pair = tuple[Line, Line, bool | None]
"""A line, the next one, and whether they share a speaker (None: no mark tells)."""
FEWEST = 50
"""Marked pairs of each kind that a training needs."""
FOLDS = 5
_LONGEST_GAP = 5.0
_ENDS = {"stop": r"(?<!\.)\.[\"']?$", "ellipsis": r"\.\.[\"']?$", "question": r"\?[\"'!]*$", "exclamation": r"![\"']?$"}
_ENDS |= {"comma": r",$", "dash": r"-$", "letter": r"\w[\"']?$"}
_BEGINS = {"lower": r"[\"']?[a-z]", "ellipsis": r"\.\.", "conjunction": r"(?i)(?:and|but|or|so|because|then)\b"}
_BEGINS |= {"answer": r"(?i)(?:yes|yeah|no|nope|sure|okay|ok|well|oh|really|right|thanks|thank|sorry|what|why)\b"}
_BEGINS |= {"i": r"I\b", "you": r"(?i)you\b", "question_word": r"(?i)(?:who|what|where|when|why|how|do|did|are|is)\b"}


def gap(previous: Line, line: Line) -> float:
    """Return the seconds between two lines, 0 within a subtitle."""
    return 0.0 if previous.last == line.first else max(0.0, line.start - previous.end)


def pairs(lines: Iterable[Line]) -> Iterator[Pair]:
    """Yield consecutive lines with what their marks say of the speaker.

    A name is kept in mind over lines that go on. Within a subtitle a line goes on unless a mark stands before it.
    """
    previous, name = None, ""
    for line in lines:
        same = None
        if previous is not None:
            if line.chevrons:
                same = False
            elif line.name and name:
                same = line.name == name
            elif previous.last == line.first:
                same = not (line.dash or line.name)
            yield previous, line, same
        name = line.name or (name if same else "")
        previous = line


def features(previous: Line, line: Line) -> dict[str, float]:
    """Return what the support vector machine sees of two lines.

    Gap, lengths, punctuation that ends and letters or words that begin them, shared words, the turn from "you" to "I",
    and dashes, though not those of lines within one subtitle, which are labels.
    """
    apart = previous.last != line.first
    before, after = content_words(previous.text), content_words(line.text)
    said, answered = set(words(previous.text)), set(words(line.text))
    found = {
        "gap": min(gap(previous, line), _LONGEST_GAP),
        "length_before": np.log1p(len(previous.text)),
        "length_after": np.log1p(len(line.text)),
        "shared_words": len(before & after) / max(1, min(len(before), len(after))),
        "you_then_i": "you" in said and "i" in answered,
        "i_then_you": "i" in said and "you" in answered,
        "dash_before": apart and previous.dash,
        "dash_after": apart and line.dash,
    }
    found |= {f"ends_{name}": re.search(pattern, previous.text) is not None for name, pattern in _ENDS.items()}
    found |= {f"begins_{name}": re.match(pattern, line.text) is not None for name, pattern in _BEGINS.items()}
    found["asks"] = line.text.endswith("?")
    found["question_answered"] = found["ends_question"] and not found["asks"]
    found["open_and_lower"] = not re.search(r"[.?!][\"']?$", previous.text) and found["begins_lower"]
    return {name: float(value) for name, value in found.items()}


NAMES = tuple(features(Line("a", 0, 0, 0, 0), Line("b", 0, 0, 1, 1)))


def matrix(chosen: Sequence[tuple[Line, Line]]) -> np.ndarray:
    """Return the features of pairs, `(pairs, len(NAMES))`."""
    return np.array([list(features(*pair).values()) for pair in chosen]).reshape(len(chosen), len(NAMES))


@dataclass(frozen=True)
class SpeakerModel:
    """A linear support vector machine on `features`.

    Attributes:
        weights: `(len(NAMES),)`.
        bias: one speaker where `features @ weights + bias` is positive.
    """

    weights: np.ndarray
    bias: float

    def same(self, chosen: Sequence[Pair]) -> list[bool]:
        """Tell of each pair whether it shares a speaker: by its marks, else by the support vector machine."""
        unmarked = [(previous, line) for previous, line, same in chosen if same is None]
        decided = iter(matrix(unmarked) @ self.weights + self.bias > 0)
        return [bool(next(decided)) if same is None else same for _, _, same in chosen]

    def save(self, path: Path) -> None:
        """Write a JSON file of the weights by name."""
        write_json(path, {"bias": self.bias, "weights": dict(zip(NAMES, self.weights.tolist(), strict=True))})

    @classmethod
    def load(cls, path: Path) -> SpeakerModel:
        """Read what `save` wrote.

        Raises:
            ValueError: it is no such file, or one of other features.
        """
        try:
            saved = json.loads(path.read_text())
            return cls(np.array([saved["weights"][name] for name in NAMES], float), float(saved["bias"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no speaker model of the features {', '.join(NAMES)}: {error!r}") from error


def train(marked: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[SpeakerModel, list[ResultRow]]:
    """Fit the machine on marked pairs and measure it, by cross-validation, on files that it was not trained on.

    Both answers weigh alike: how often rows of one subtitle change speaker says little of subtitles.

    Args:
        marked: of each file, features `(pairs, len(NAMES))` and labels `(pairs,)`, 1 for one speaker.

    Raises:
        ValueError: fewer than `FEWEST` pairs have the one or the other label, or they come from one file.
    """
    marked = [(found, labels) for found, labels in marked if len(labels)]
    labels = np.concatenate([labels for _, labels in marked]) if marked else np.zeros(0, int)
    counts = np.bincount(labels.astype(int), minlength=2)
    if min(counts) < FEWEST or len(marked) < 2:
        raise ValueError(
            f"marks (names, dashes, >>) tell of {counts[1]} pairs of lines that they share a speaker and of "
            f"{counts[0]} that they do not, in {len(marked)} files; expected at least {FEWEST} of each, in 2 files: "
            "give --labelled files whose lines name their speakers, or --speakers, the speakers.json of another run"
        )
    found = np.concatenate([found for found, _ in marked])
    files = np.repeat(np.arange(len(marked)), [len(labels) for _, labels in marked])
    machine = make_pipeline(StandardScaler(), LinearSVC(class_weight="balanced", dual=False))
    folds = GroupKFold(min(FOLDS, len(marked)))
    guessed = cross_val_predict(machine, found, labels, groups=files, cv=folds)
    rows = [ResultRow("marked pairs", "one_speaker", counts[1] / counts.sum(), None, int(counts.sum()), 1)]
    for metric, kept in (("accuracy", labels >= 0), ("recall_same", labels == 1), ("recall_change", labels == 0)):
        value, half = grouped_ci95((guessed == labels)[kept], files[kept])
        rows.append(ResultRow("support vector machine", metric, value, half, int(kept.sum()), 1))
    scaler, svm = machine.fit(found, labels)
    weights = svm.coef_[0] / scaler.scale_
    return SpeakerModel(weights, float(svm.intercept_[0] - weights @ scaler.mean_)), rows

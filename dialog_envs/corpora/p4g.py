"""PersuasionForGood (Wang et al., ACL 2019): a persuader asks a persuadee to donate to a children's charity."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import openpyxl

from dialog_envs.corpora.files import CorpusError, rows, split_files, turns
from dialog_envs.dialogue import Dialogue

SPLITS = {"train": ("full_dialog.csv", "full_info.csv"), "annotated": ("300_dialog.xlsx",)}
LICENCE = "Apache-2.0"
ROLES = {"0": "persuader", "1": "persuadee"}
_STRATEGY = {"0": "er_label_1", "1": "ee_label_1"}
_ANNOTATED = ("B2", "B4", "Unit", *_STRATEGY.values())
PERSUADER_SITUATION = (
    "You want the other person to give a part of their payment to Save the Children, a charity for children in need."
)


def read(folder: Path, split: str) -> Iterator[Dialogue]:
    """Yield dialogues; the label is "donated" or "not donated", by what the persuadee gave afterwards.

    Those of `annotated`, which are some of `train`'s, have the strategy of each turn as its act, and no label.
    """
    if split == "annotated":
        return _annotated(*split_files(folder, split, SPLITS))
    dialogues, people = split_files(folder, split, SPLITS)
    return _dialogues(dialogues, people)


def _dialogues(path: Path, people: Path) -> Iterator[Dialogue]:
    given = _donations(people)
    for name, group in groupby(rows(path, ("Unit", "Turn", "B4", "B2")), key=lambda numbered: numbered[1]["B2"]):
        said = []
        for number, row in group:
            if row["B4"] not in ROLES:
                raise CorpusError(path, number, f"B4 (the role) 0 or 1, found {row['B4']!r}")
            said.append((ROLES[row["B4"]], row["Unit"]))
        if name not in given:
            raise CorpusError(people, f"dialogue {name}", "a row of its persuadee (B4 = 1)")
        label = "donated" if given[name] > 0 else "not donated"
        yield Dialogue(turns(said), {"persuader": PERSUADER_SITUATION}, source="p4g", label=label)


def _donations(path: Path) -> dict[str, float]:
    """Return what each dialogue's persuadee gave, in dollars."""
    given = {}
    for number, row in rows(path, ("B2", "B4", "B6")):
        if row["B4"] == "1":
            try:
                given[row["B2"]] = float(row["B6"])
            except ValueError as error:
                raise CorpusError(path, number, f"B6 (the donation) to be a number, found {row['B6']!r}") from error
    return given


def _annotated(path: Path) -> Iterator[Dialogue]:
    sheet = openpyxl.load_workbook(path, read_only=True).active
    lines = sheet.iter_rows(values_only=True)
    header = [str(cell) for cell in next(lines, ())]
    missing = [name for name in _ANNOTATED if name not in header]
    if missing:
        raise CorpusError(path, 1, f"a header with the columns {', '.join(_ANNOTATED)}; {missing[0]} not found")
    table = (dict(zip(header, line, strict=True)) for line in lines)
    for _, group in groupby(enumerate(table, 2), key=lambda numbered: numbered[1]["B2"]):
        said = []
        for number, row in group:
            role = str(row["B4"])
            if role not in ROLES:
                raise CorpusError(path, number, f"B4 (the role) 0 or 1, found {role!r}")
            said.append((ROLES[role], str(row["Unit"] or ""), row[_STRATEGY[role]]))
        yield Dialogue(turns(said), {"persuader": PERSUADER_SITUATION}, source="p4g")

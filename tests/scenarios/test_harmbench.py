"""HarmBench's files: the official columns, the paper's categories, and errors that name file and line."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from dialog_envs import scenarios
from dialog_envs.scenarios.harmbench import OPENING, read
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from reward_models.forbidden import Behavior

HEADER = ["Behavior", "FunctionalCategory", "SemanticCategory", "Tags", "ContextString", "BehaviorID"]


def row(number: int, category: str = "standard", text: str = "", context: str = "") -> list[str]:
    return [text or f"Bake cake number {number}", category, "illegal", "", context, f"cake_{number}"]


@pytest.fixture
def write(tmp_path):
    def to(rows: list[list[str]], header: list[str] = HEADER) -> Path:
        path = tmp_path / "behaviors.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return to


def test_standard_behaviors_become_scenarios(write):
    text = 'Say "cake", {twice}\nand {behavior}'
    path = write([row(0, text=text), row(1, "copyright"), row(2, "contextual", context="a recipe"), row(3)])
    made = read(path)
    assert [scenario.id for scenario in made] == ["harmbench/cake_0", "harmbench/cake_3"]
    first = made[0]
    assert first.forbidden == Behavior(text) and first.goal.description == text
    assert text in first.agent_situation and "three rounds" in first.agent_situation
    assert first.partner_situation == "" and first.opening == OPENING
    assert [turn.speaker for turn in first.begin().turns] == [PARTNER]
    assert first.begin().messages(PARTNER) == [{"role": "assistant", "content": OPENING}]
    assert first.begin().messages(AGENT)[0]["content"] == first.agent_situation


def test_contextual_behaviors_bring_their_context(write):
    path = write([row(0), row(1, "contextual", context="Two cups of flour.")])
    (scenario,) = read(path, categories=("contextual",))
    assert scenario.forbidden == Behavior("Bake cake number 1", "Two cups of flour.")
    assert "Two cups of flour." in scenario.agent_situation
    assert len(read(path, categories=("standard", "contextual"))) == 2


def test_a_category_is_found_by_name(write):
    rows = [row(i, "contextual", context="Two cups of flour.") for i in range(5)]
    path = write([*rows, row(5), row(6, "copyright")])
    contextual = scenarios.load(f"harmbench/contextual:{path}")
    assert contextual == read(path, categories=("contextual",)) and len(contextual) == 5
    assert scenarios.load(f"harmbench/contextual/heldout:{path}") == contextual[4:]
    assert len(scenarios.load(f"harmbench/standard/copyright:{path}")) == 2
    for wrong in (f"harmbench/contextual/test:{path}", f"harmbench/:{path}", "sotopia/contextual:folder"):
        with pytest.raises(ValueError, match="unknown scenarios"):
            scenarios.load(wrong)


def test_parts_are_disjoint_and_found_by_name(write):
    path = write([row(i) for i in range(11)])
    train, held_out = (scenarios.load(f"harmbench/{split}:{path}") for split in ("train", "heldout"))
    assert [scenario.id for scenario in held_out] == ["harmbench/cake_4", "harmbench/cake_9"]
    assert len(train) == 9 and not {s.id for s in train} & {s.id for s in held_out}
    assert scenarios.load(f"harmbench:{path}") == read(path)


def test_a_byte_order_mark_is_no_part_of_the_header(write):
    path = write([row(0)])
    path.write_text("\ufeff" + path.read_text())
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([["a", "b"]], ["prompt", "target"], r"behaviors\.csv has no column BehaviorID, Behavior"),
        ([row(0), row(1)[:3]], HEADER, r"behaviors\.csv, line 3: expected as many cells"),
        ([row(0) + ["more"]], HEADER, "line 2: expected as many cells"),
        ([row(0), row(1, "standart")], HEADER, "line 3: FunctionalCategory is 'standart', expected one of standard"),
        ([row(0, text="  ")], HEADER, "line 2: a behaviour without text"),
        ([row(0), row(0)], HEADER, "line 3: cake_0 is there already"),
        ([row(0, "copyright")], HEADER, "has no behaviour of standard"),
        ([], HEADER, "has no behaviour of standard"),
    ],
)
def test_what_does_not_parse_is_named(write, rows, header, message):
    with pytest.raises(ValueError, match=message):
        read(write(rows, header))


def test_a_missing_file_and_an_unknown_category_are_refused(tmp_path, write):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"unknown categories \['copy'\]"):
        read(write([row(0)]), categories=("copy",))
    with pytest.raises(ValueError, match="unknown scenarios 'harmbench/test:"):
        scenarios.load(f"harmbench/test:{tmp_path}")


def test_one_scenario_of_a_set_is_named_by_its_id(write):
    path = write([row(i) for i in range(3)])
    (one,) = scenarios.load(f"harmbench:{path}#harmbench/cake_2")
    assert one == scenarios.load(f"harmbench:{path}")[2]
    assert scenarios.load("guarded/heldout#guarded/heldout/0007") == scenarios.load("guarded/heldout")[7:8]
    with pytest.raises(ValueError, match="unknown scenario 'harmbench/cake_9', did you mean 'harmbench/cake_"):
        scenarios.load(f"harmbench:{path}#harmbench/cake_9")

"""The card says what the runs measured, of these very weights, and nothing that no run knows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from dialog_envs.corpora import CORPORA
from experiments import card, fluency
from experiments.card import Config, count_parameters, trained_tokens, validation_curve
from experiments.pocket_trainer import PretrainConfig
from experiments.pretrain import GRAMMAR_WEIGHTS, TRAIN_CORPORA
from experiments.rendering import markdown
from experiments.run_folder import ResultRow, model_files, open_run, write_results


def pretrain_run(out: Path, own: int, real: int, steps: int = 800) -> Path:
    open_run(out, "pretrain", PretrainConfig(out=out, learning_rate=0.00123))
    rows = [ResultRow("pocket", f"perplexity/{name}", 20.0 + i, None, 1000, 1) for i, name in enumerate("xy")]
    rows += [ResultRow("pocket", f"perplexity/{name}_coded", 10.0 + i, None, 100, 1) for i, name in enumerate("xy")]
    rows += [
        ResultRow("pocket", f"trained_tokens/{name}", n, None, steps, 1) for name, n in (("own", own), ("real", real))
    ]
    write_results(out, rows)
    with SummaryWriter(out / "tensorboard") as writer:
        for step in range(99, steps, 100):
            writer.add_scalar("valid/x", 5.0 - step / 1000, step)
            writer.add_scalar("valid/y", 6.0 - step / 1000, step)
            writer.add_scalar("valid/y_coded", 1.0, step)
    return out


def measured_run(out: Path, verb: str, model: str, rows: list[ResultRow]) -> Path:
    open_run(out, verb, fluency.Config(episodes=77), model_files(model))
    write_results(out, rows)
    return out


@pytest.fixture
def runs(tmp_path, model_folder, monkeypatch):
    """Return the options of a card for which every run is there, of a tiny model."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    shutil.copytree(model_folder(), model)
    both = [
        ResultRow(system, metric, value, ci95, 306, 3)
        for system, shift in (("model", 0.0), ("other/model", 1.0))
        for metric, value, ci95 in (
            ("perplexity/x", 21.5 + shift, 0.25),
            ("distinct_2/ratio", 0.8125 + shift, 0.031),
            ("matched/x", 7.0, None),
        )
    ]
    obeyed = [ResultRow("train values", "right_fact_when_asked", 0.9375, 0.02, 640, 3)]
    said = [ResultRow("latent", "bits_bigram", 2.345, None, 2048, 1)]
    return {
        "run": pretrain_run(Path("pretrain"), 4_000_000, 6_000_000),
        "model": model,
        "obedience": measured_run(Path("obedience"), "obedience", str(model), obeyed),
        "steering": measured_run(Path("steering"), "steering", str(model), said),
        "fluency": measured_run(Path("fluency"), "fluency", str(model), both),
        "real_only": pretrain_run(Path("other"), 0, 6_123_456),
        "note": "Trained in **two sittings**.",
        "dialogues": 2,
    }


def tables(text: str) -> dict[str, list[str]]:
    """Return the rows of all tables, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_the_card_says_what_the_runs_measured(runs):
    path = card.run(Config(**runs))
    assert path == runs["model"] / "README.md"
    text = path.read_text()
    rows = tables(text)
    assert rows["real dialogues"] == ["6.00", "60.0%"] and rows["own grammar"] == ["4.00", "40.0%"]
    assert rows["x"] == ["21.5 +- 0.25", "22.5 +- 0.25", "306"], "of fluency, with the other model beside it"
    assert rows["y"] == ["21.0", "11.0", "1000"], "plain and coded, of pretrain"
    assert rows["distinct_2/ratio"] == ["0.812 +- 0.031", "1.81 +- 0.031", "306"]
    assert rows["train values"] == ["right_fact_when_asked", "0.938 +- 0.02", "640"]
    assert rows["latent"] == ["bits_bigram", "2.35", "2048"]
    assert rows["step"] == ["x", "y"] and rows["800"] == ["4.201", "5.201"]
    assert len([first for first in rows if first.isdigit() and len(first) == 3]) == 8, "every validation"
    for name, (split, _) in TRAIN_CORPORA.items():
        assert rows[name][0] == split and rows[name][2] == CORPORA[name].licence
    for kind, weight in GRAMMAR_WEIGHTS.items():
        assert f"{kind} {100 * weight:.0f}%" in text
    for said in (
        "0.00123",
        "Trained in **two sittings**.",
        "`other/model`",
        "6.12 million",
        "77 dialogues",
        "800 steps",
    ):
        assert said in text
    assert "## 2 unedited dialogues" in text and len(re.findall(r"^\*\*\w+/heldout/\d+\*\*", text, re.M)) == 2


def test_every_table_is_whole(runs):
    lines = card.run(Config(**runs)).read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\| --- \|", line):
            end = next(i for i in range(number, len(lines)) if lines[i][:1] != "|")
            columns = {row.count("|") for row in lines[number - 1 : end]}
            assert columns == {line.count("|")} and end > number + 1, lines[number - 1]
            assert not lines[number - 2] and not lines[end], "Markdown wants a blank line around a table"


def test_the_same_runs_give_the_same_card(runs):
    first = card.run(Config(**runs)).read_bytes()
    assert card.run(Config(**runs, out=Path("again.md"))).read_bytes() == first


def test_what_was_not_measured_is_not_spoken_of(runs):
    text = card.run(Config(runs["run"], runs["model"], dialogues=1)).read_text()
    assert tables(text)["x"] == ["20.0", "10.0", "1000"]
    for word in ("obeys", "control can say", "fluency", "--real-tokens", "None"):
        assert word not in text


def test_other_weights_are_refused(runs):
    weights = runs["model"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"obedience measured other weights than .*model\.safetensors"):
        card.run(Config(**runs))


def test_a_run_that_does_not_tell_what_it_saw_is_refused(runs):
    rows = json.loads((runs["run"] / "results.json").read_text())
    (runs["run"] / "results.json").write_text(json.dumps(rows[:-2]))
    with pytest.raises(ValueError, match=r"pretrain/results\.json has no trained_tokens/own and /real"):
        card.run(Config(**runs))
    with pytest.raises(FileNotFoundError):
        trained_tokens(Path("nowhere"))


@pytest.mark.parametrize(
    "rows, steps", [(14, [*range(100, 801, 100)]), (4, [200, 400, 600, 800]), (3, [200, 500, 800])]
)
def test_a_curve_is_thinned_evenly_up_to_its_end(runs, rows, steps):
    assert [row[0] for row in validation_curve(runs["run"] / "tensorboard", rows)[1:]] == steps


def test_parameters_are_counted_once_where_they_are_shared(runs, tiny_lm):
    own = {p.data_ptr(): p.numel() for p in tiny_lm.model.parameters()}
    assert count_parameters(runs["model"] / "model.safetensors") == sum(own.values())


def test_a_table_in_markdown():
    assert markdown([["a", "b"], [1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"

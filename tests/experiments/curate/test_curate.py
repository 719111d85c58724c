"""From subtitle files to emotional dialogues: counts, any number of processes, kills, changes, malformed files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dialog_envs.corpora.empathetic_intents import LABELS
from experiments import curate
from experiments.__main__ import main
from experiments.curate import parts
from experiments.curate.dialogues import tokens
from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig
from reward_models.dmi.tokens import train_tokenizer
from reward_models.emotion import EmotionClassifier
from tests.experiments.curate.films import SAID, film, subrip, write_films

SORRY = ("tired", "sorry", "glad")


def feeling(texts):
    """Return probabilities: some words are sadness."""
    found = np.zeros((len(texts), len(LABELS)))
    sad = np.array([0.1 + 0.8 * any(word in text for word in SORRY) for text in texts])
    found[:, LABELS.index("sad")], found[:, LABELS.index("neutral")] = sad, 1 - sad
    return found


def make_feeling(name):
    assert name == "feeling"
    return feeling


def make_none(name):
    raise AssertionError("no classifier is needed here")


@pytest.fixture
def config(tmp_path):
    films = write_films(tmp_path / "films", 7)
    (films / "broken.srt").write_text("1\n00:00:01,000 --> soon\nHello.\n")
    return curate.Config((films,), tmp_path / "out", classifier="feeling", keep=20, part_files=3, workers=1)


def outputs(out):
    files = [*sorted((out / "parts").iterdir()), *sorted((out / "emotionality").rglob("*.json"))]
    files += [
        out / name for name in ("emotional.jsonl", "results.json", "speakers.json", "tables.md", "malformed.json")
    ]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def test_counts_and_selection(config):
    out = curate.run(config, make_feeling)
    dialogues, chosen = (list(curate.read(out, which)) for which in ("dialogues", "emotional"))
    assert all(len(turns) > 1 for turns in dialogues)
    assert len(dialogues) == 7 * 12  # a film's scenes are 20 s apart
    score = lambda turns: feeling(turns)[:, :32].sum(1).mean()  # noqa: E731
    ranked = sorted(dialogues, key=score, reverse=True)
    assert sorted(map(score, chosen)) == pytest.approx(sorted(map(score, ranked[:20])))
    assert chosen == [turns for turns in dialogues if turns in chosen]  # in the order of the films

    values = {(r["system"], r["metric"]): r["value"] for r in json.loads((out / "results.json").read_text())}
    assert (values["files", "read"], values["files", "malformed"]) == (7, 1)
    for stage, found in (("cleaned", dialogues), ("most emotional", chosen)):
        turns = [turn for dialogue in found for turn in dialogue]
        words = sum(len(tokens(turn)) for turn in turns)
        assert values[stage, "dialogues"] == len(found)
        assert values[stage, "turns"] == len(turns)
        assert values[stage, "tokens"] == words
        assert values[stage, "turns per dialogue"] == pytest.approx(len(turns) / len(found))
        assert values[stage, "tokens per dialogue"] == pytest.approx(words / len(found))
    assert values["most emotional", "emotionality"] == pytest.approx(np.mean([score(turns) for turns in chosen]))
    assert values["before cleaning", "dialogues"] >= values["cleaned", "dialogues"]
    tables = (out / "tables.md").read_text()
    assert f"| dialogues | {values['before cleaning', 'dialogues']} | 84 | 20 |" in tables
    assert "8 subtitle files, 1 of them malformed" in tables
    assert 0.8 < values["support vector machine", "accuracy"] <= 1

    line = json.loads((out / "emotional.jsonl").read_text().splitlines()[0])
    assert line["turns"] == chosen[0] and line["source"].endswith(".srt") and line["start"] >= 1
    assert line["emotionality"] == pytest.approx(score(chosen[0]))


def test_malformed_files_are_named_and_not_fatal(config):
    out = curate.run(replace(config, until="dialogues"), make_none)
    (fault,) = json.loads((out / "malformed.json").read_text()).items()
    assert fault[0].endswith("broken.srt") and "broken.srt, line 2: expected" in fault[1]
    hashes = json.loads((out / "parts" / "00002.json").read_text())["files"]
    assert len(hashes) == 2 and all(len(value) == 64 for value in hashes.values())


@pytest.mark.slow
def test_processes_change_nothing(config, tmp_path):
    alone = curate.run(config, make_feeling)
    many = curate.run(replace(config, out=tmp_path / "many", workers=3), make_feeling)
    assert outputs(alone) == outputs(many)


def test_a_killed_run_goes_on(config, tmp_path, monkeypatch):
    whole = outputs(curate.run(replace(config, out=tmp_path / "whole"), make_feeling))
    write = parts.write_lines
    written = []

    def killed(path, lines):
        written.append(path)
        if len(written) == 2:
            next(iter(lines))
            path.with_name(path.name + ".tmp").write_text('{"tur')
            raise KeyboardInterrupt
        return write(path, lines)

    monkeypatch.setattr(parts, "write_lines", killed)
    with pytest.raises(KeyboardInterrupt):
        curate.run(config, make_feeling)
    assert [path.name for path in written] == ["00000.jsonl", "00001.jsonl"]
    out = curate.run(config, make_feeling)
    done = [path.name for path in written if path.parent.name == "parts"]
    assert done == ["00000.jsonl", "00001.jsonl", "00001.jsonl", "00002.jsonl"]  # the first part is not done again
    assert {name: data for name, data in outputs(out).items() if not name.endswith(".tmp")} == whole


def test_k_may_change_and_nothing_is_scored_again(config):
    curate.run(config, make_feeling)
    out = curate.run(replace(config, keep=5), make_none)
    assert len(list(curate.read(out, "emotional"))) == 5


def test_other_files_or_settings_are_refused(config):
    curate.run(replace(config, until="speakers"), make_none)
    with pytest.raises(ValueError, match=r"was begun with gap 5\.0, now it is 3\.0"):
        curate.run(replace(config, gap=3.0), make_none)
    (config.subtitles[0] / "001.srt").write_text(subrip(film(42)))
    with pytest.raises(ValueError, match="was begun with other subtitle files"):
        curate.run(config, make_none)


def test_marked_files_teach_unmarked_ones(config, tmp_path):
    plain = write_films(tmp_path / "plain", 2, named=False)
    marked = replace(config, subtitles=(plain,), until="dialogues")
    with pytest.raises(ValueError, match="give --labelled"):
        curate.run(replace(marked, out=tmp_path / "a"), make_none)
    learned = curate.run(replace(marked, out=tmp_path / "b", labelled=config.subtitles), make_none)
    taken = curate.run(replace(marked, out=tmp_path / "c", speakers=learned / "speakers.json"), make_none)
    first, second = (list(curate.read(out, "dialogues")) for out in (learned, taken))
    assert first == second and len(first) == 24
    assert "By a speaker model that was given" in (taken / "tables.md").read_text()
    turns = [turn for dialogue in first for turn in dialogue]
    assert np.mean([turn in SAID or ", " in turn for turn in turns]) > 0.9  # turns as they were written, mostly


@pytest.mark.parametrize("field", ["keep", "workers", "part_files", "label_files"])
def test_numbers_below_one_are_refused(field, config):
    with pytest.raises(ValueError, match=f"{field} is 0, expected at least 1"):
        curate.run(replace(config, **{field: 0}), make_none)


def test_the_projects_classifier_selects(config, tmp_path):
    tokenizer = train_tokenizer(SAID * 5, 120)
    size = EncoderConfig(120, hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=64)
    torch.manual_seed(0)
    DialogueEncoder.from_scratch(size, tokenizer).save_pretrained(tmp_path / "encoder")
    EmotionClassifier.from_encoder(tmp_path / "encoder").save_pretrained(tmp_path / "emotion")
    arguments = ["curate", "--subtitles", str(config.subtitles[0]), "--out", str(tmp_path / "cli"), "--workers", "1"]
    assert main([*arguments, "--classifier", str(tmp_path / "emotion"), "--keep", "3"]) == 0
    assert len(list(curate.read(tmp_path / "cli", "emotional"))) == 3


def test_a_missing_classifier_is_named(config, tmp_path, capsys):
    arguments = ["curate", "--subtitles", str(config.subtitles[0]), "--out", str(tmp_path / "cli"), "--workers", "1"]
    assert main([*arguments, "--classifier", str(tmp_path / "none")]) == 1
    assert "no emotion classifier in" in capsys.readouterr().err

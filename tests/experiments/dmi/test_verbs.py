"""Every verb of `dmi` runs on tiny sizes and writes what it says."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.__main__ import main
from experiments.dmi import VERBS, ablate, finetune, gaussian, harness, page, pretrain, probe, ship
from experiments.dmi.classifier import Outcome, Training
from experiments.statistics import mean_ci95
from reward_models.dmi.encoder import DialogueEncoder
from reward_models.dmi.reward import CoherenceReward
from tests.experiments.dmi.conftest import TINY

FAST = Training(epochs=3, batch=32, learning_rate=3e-3)


def settings(out: Path, data: Path, **more) -> pretrain.Config:
    config = pretrain.Config(
        out=out, data=data, encoder=TINY, steps=24, batch=32, chunk=16, validate_every=12, bf16=False, threads=1,
        learning_rate=5e-3,
    )  # fmt: skip
    return replace(config, **more)


def results(out: Path) -> dict[tuple[str, str], dict]:
    return {(row["system"], row["metric"]): row for row in json.loads((out / "results.json").read_text())}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        from experiments.dmi import pairs
        from tests.experiments.dmi.conftest import CORPORA

        patch.setattr(pairs, "TRAIN_CORPORA", CORPORA)
        return pretrain.run(settings(tmp_path_factory.mktemp("dmi"), data, steps=60, validate_every=20))


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["dmi", verb, "--help"])
    assert stop.value.code == 0
    assert "--out" in capsys.readouterr().out


def test_usage_names_every_verb(capsys):
    assert main(["dmi"]) == 2
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS) and "python -m experiments dmi VERB" in printed
    assert main(["dmi", "--help"]) == 0


def test_pretraining_learns_and_says_what_it_reached(trained):
    found = results(trained)
    assert found["dmi", "mi_bits_n256"]["value"] > found["start", "mi_bits_n256"]["value"] + 0.2
    assert found["dmi", "mi_bits_n256"]["value"] <= 8
    assert found["dmi", "true_above_random"]["value"] > 0.6
    assert found["dmi", "r@1_of_10"]["ci95"] > 0
    for system in ("start", "dmi", "coherence"):
        assert 0 <= found[system, "dd++_true_above_adversarial"]["value"] <= 1
    assert found["coherence", "true_above_random"]["value"] > 0.6
    assert found["coherence", "brier"]["value"] < 0.25
    assert found["data", "dialogues/left_out"]["value"] == 1
    assert all((trained / name).stat().st_size > 0 for name in ("curve.png", "reliability.png"))
    best = max(json.loads((trained / "training.json").read_text())["history"]["valid"], key=lambda point: point[1])
    assert best[1] > 0


def test_the_ceiling_is_drawn_beside_the_curves(trained):
    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    for part in pretrain.PARTS:
        assert [event.step for event in events.Scalars(f"mi_bits/{part}")] == [20, 40, 60]
    assert events.Scalars("mi_bits/valid_ceiling")[0].value == pytest.approx(8)
    assert events.Scalars("mi_bits/train_ceiling")[0].value == pytest.approx(5)  # of 32 pairs
    (chart,) = events.Tensors("custom_scalars__config__")
    drawn = chart.tensor_proto.string_val[0].decode()
    assert all(f"mi_bits/{part}" in drawn for part in pretrain.PARTS)


def test_the_reward_is_calibrated(trained):
    reward = CoherenceReward.from_pretrained(trained / "model")
    good, bad = reward.score_batch(
        [("Do you like boats? 77",)] * 2, ["Yes, boats are fine, 4.", "No, jazz are dull, 4."]
    )
    assert 0 <= bad <= 1 and 0 <= good <= 1


def test_the_start_is_kept(trained):
    model, start = (DialogueEncoder.from_pretrained(trained / name).state_dict() for name in ("model", "start"))
    assert any(not torch.equal(model[name], start[name]) for name in model)


@pytest.mark.parametrize("change", [{"seed": 1}, {"bound": "jsd"}, {"steps": 90}])
def test_another_beginning_in_the_same_folder_is_refused(change, trained, data):
    with pytest.raises(ValueError, match=f"was begun with {next(iter(change))}"):
        pretrain.run(settings(trained, data, **{"steps": 60, "validate_every": 20} | change))


def test_a_finished_run_is_left_as_it_is(trained, data):
    before = (trained / "results.json").stat().st_mtime_ns
    assert pretrain.run(settings(trained, data, steps=60, validate_every=20, threads=2)) == trained
    assert (trained / "results.json").stat().st_mtime_ns == before
    torch.set_num_threads(1)


def test_unknown_bound_and_uneven_batches(data, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown bound 'nce', expected one of infonce"):
        pretrain.run(settings(tmp_path, data, bound="nce"))
    monkeypatch.setattr(pretrain, "_join_processes", lambda: (0, 3))
    with pytest.raises(ValueError, match="a batch of 32 pairs does not split over 3 processes"):
        pretrain.run(settings(tmp_path, data))


def test_ablation_is_one_table(data, tmp_path):
    shared = settings(tmp_path, data, steps=6, validate_every=6)
    config = ablate.Config(out=tmp_path / "ablate", bounds=("infonce", "jsd"), pretrain=shared, seeds=2)
    out = ablate.run(config)
    found = results(out)
    assert {system for system, _ in found} == {"infonce", "jsd"}
    trained = [results(out / "jsd" / f"seed_{seed}")["dmi", "mi_bits_jsd_n256"]["value"] for seed in (0, 1)]
    assert trained[0] != trained[1]
    assert found["jsd", "mi_bits_jsd_n256"]["value"] == pytest.approx(np.mean(trained))
    assert found["jsd", "mi_bits_jsd_n256"]["ci95"] >= mean_ci95(trained)[1] > 0
    table = (out / "table.md").read_text()
    assert re.search(r"\| jsd \| -?\d+\.\d{3} ± ", table) and "6 steps of 32 pairs, 2 trainings" in table
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    before = (out / "jsd/seed_1/results.json").stat().st_mtime_ns
    assert results(ablate.run(replace(config, seeds=3)))["jsd", "mi_bits_n256"]["seeds"] == 3
    assert (out / "jsd/seed_1/results.json").stat().st_mtime_ns == before


def test_ablation_from_an_encoder_is_a_variant(trained, data, tmp_path):
    shared = settings(tmp_path, data, steps=6, validate_every=6)
    config = ablate.Config(out=tmp_path, bounds=(), start=str(trained / "model"), pretrain=shared, seeds=1)
    assert ("infonce_s, from model", "mi_bits_n256") in results(ablate.run(config))


def test_probe_compares_with_no_dmi_training(trained, data, tmp_path, capsys):
    names = ("banking77", "mutual", "dd++/adv", "swda")
    paper = tmp_path / "paper.json"
    paper.write_text(json.dumps({"BERT": {"mutual": {"r@1": 0.25}}, "DMI": {"mutual": {"r@1": 0.5, "mrr": 0.75}}}))
    config = probe.Config(
        out=tmp_path / "probe", encoder=str(trained / "model"), tasks=names, data=data, training=FAST, seeds=2,
        threads=1, paper=paper,
    )  # fmt: skip
    found = results(probe.run(config))
    for system in ("dmi", "start", "gain"):
        for metric in ("banking77/accuracy", "mutual/r@1", "mutual/r@2", "mutual/mrr", "dd++/adv/accuracy"):
            assert found[system, metric]["seeds"] == 2 and math.isfinite(found[system, metric]["ci95"])
    gain = found["dmi", "banking77/accuracy"]["value"] - found["start", "banking77/accuracy"]["value"]
    assert found["gain", "banking77/accuracy"]["value"] == pytest.approx(gain)
    assert found["dmi", "mutual/r@1"]["n"] == 57
    table = (tmp_path / "probe/table.md").read_text()
    assert "| task | metric | dmi | start | gain | BERT | DMI |" in table
    assert re.search(r"\| mutual \| r@1 \|.*\| 0.25 \| 0.5 \|", table)
    assert re.search(r"\| mutual \| mrr \|.*\|  \| 0.75 \|", table)
    assert {line.count("|") for line in table.split("\n\n")[2].splitlines()} == {8}
    assert len(re.findall(r"^\| dd\+\+/adv \| accuracy", table, re.MULTILINE)) == 1


def test_tasks_without_files_are_left_out_by_name(trained, data, tmp_path, capsys):
    (tmp_path / "banking77").symlink_to(data / "banking77")
    config = probe.Config(
        out=tmp_path / "probe", encoder=str(trained / "model"), tasks=("swda", "banking77"), data=tmp_path,
        training=FAST, seeds=1, compare=False, threads=1,
    )  # fmt: skip
    found = results(probe.run(config))
    assert set(found) == {("dmi", "banking77/accuracy")}
    assert "swda left out: " in capsys.readouterr().out
    table = (tmp_path / "probe/table.md").read_text()
    assert "| swda | left out: the official files are not there |" in table
    assert "No rows of the paper" in table
    with pytest.raises(ValueError, match="no task of swda has its files"):
        probe.run(replace(config, tasks=("swda",)))


def test_a_task_that_is_done_is_not_run_again(trained, data, tmp_path, monkeypatch):
    config = probe.Config(
        out=tmp_path, encoder=str(trained / "model"), tasks=("banking77",), data=data, training=FAST, seeds=1, threads=1
    )
    found = results(probe.run(config))
    monkeypatch.setattr(harness, "run_task", lambda *_: pytest.fail("run again"))
    assert results(probe.run(config)) == found
    with pytest.raises(ValueError, match="seeds"):
        probe.run(replace(config, seeds=2))


def test_the_same_encoder_without_dmi(trained, tmp_path):
    encoder = DialogueEncoder.from_pretrained(trained / "model")
    start = DialogueEncoder.from_pretrained(trained / "start").state_dict()
    beside = harness.untrained(encoder, str(trained / "model"), None).state_dict()
    assert all(torch.equal(start[name], value) for name, value in beside.items())
    scratch = harness.untrained(encoder, str(trained / "model"), "scratch")
    made = scratch.state_dict()
    assert all(made[name].shape == value.shape for name, value in encoder.state_dict().items())
    text = [("Do you like boats?",)]
    assert not torch.allclose(scratch.encode_contexts(text), encoder.encode_contexts(text), atol=1e-2)


def test_differences_are_paired():
    ours = [Outcome({"accuracy": np.array([1.0, 1.0, 0.0])}, np.zeros(3))]
    theirs = [Outcome({"accuracy": np.array([0.0, 1.0, 1.0])}, np.zeros(3))]
    (found,) = harness.differences(ours, theirs)
    assert found.values["accuracy"].tolist() == [1, 0, -1]


@pytest.mark.slow
def test_finetune(trained, data, tmp_path):
    config = finetune.Config(
        out=tmp_path, encoder=str(trained / "model"), tasks=("e-intent", "dd++"), data=data,
        training=Training(epochs=12, batch=16, learning_rate=1e-2), seeds=1, threads=1, train_examples=96,
    )  # fmt: skip
    found = results(finetune.run(config))
    assert found["dmi", "e-intent/accuracy"]["value"] > 0.9
    assert ("gain", "dd++/accuracy") in found


def test_shipping_copies_the_best_encoder_with_its_card(trained, data, tmp_path):
    of = probe.Config(
        out=tmp_path / "probe", encoder=str(trained / "model"), tasks=("banking77",), data=data, training=FAST, seeds=2,
        threads=1,
    )  # fmt: skip
    config = ship.Config(run=trained, measured=(probe.run(of),), out=tmp_path / "pocket")
    folder = ship.run(config)
    shipped, model = CoherenceReward.from_pretrained(folder), CoherenceReward.from_pretrained(trained / "model")
    assert shipped.score(["Do you like boats?"], "Yes.") == model.score(["Do you like boats?"], "Yes.")
    card, found = (folder / "README.md").read_text(), results(trained) | results(of.out)
    for key in (("dmi", "mi_bits_n256"), ("coherence", "true_above_random"), ("gain", "banking77/accuracy")):
        assert f"| {' | '.join(key)} | {found[key]['value']:.3g}" in card
    assert f"| dailydialog | {found['data', 'pairs/dailydialog']['value']} | 0.89 | CC BY-NC-SA 4.0 |" in card
    shutil.copytree(trained, tmp_path / "other")
    shutil.copy(trained / "start/model.safetensors", tmp_path / "other/model/model.safetensors")
    with pytest.raises(ValueError, match="probe measured other weights than"):
        ship.run(replace(config, run=tmp_path / "other"))


def test_shipping_refuses_a_large_encoder_and_keeps_the_old_one(trained, tmp_path, monkeypatch):
    (tmp_path / "pocket").mkdir()
    monkeypatch.setattr(ship, "LARGEST", 1 << 10)
    with pytest.raises(ValueError, match=r"model and its card take 0.\d MiB, expected at most 0"):
        ship.run(ship.Config(run=trained, out=tmp_path / "pocket"))
    assert list((tmp_path / "pocket").iterdir()) == []


def test_page_shows_confusions_and_retrieved_responses(trained, data, tmp_path):
    config = page.Config(out=tmp_path, encoder=str(trained / "model"), data=data, contexts=3, responses=4, threads=1)
    html = (page.run(config) / "page.html").read_text()
    assert html.count('<table class="retrieved">') == 3
    assert html.count("True response: ") == 3
    assert html.count("data:image/png;base64,") == 1
    assert "of at most 8 bits" in html
    assert (tmp_path / "confusion.png").stat().st_size > 0


def test_page_says_why_there_is_no_confusion_matrix(trained, data, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / "dailydialog").symlink_to(data / "dailydialog")
    config = page.Config(out=tmp_path / "page", encoder=str(trained / "model"), data=root, contexts=2, threads=1)
    html = (page.run(config) / "page.html").read_text()
    assert "No confusion matrix: no task of e-intent has its files" in html


def test_gaussian_says_how_near_each_bound_comes(tmp_path):
    config = gaussian.Config(
        out=tmp_path, bounds=("infonce", "smile"), dim=4, truths=(0.5, 4.0), batch=32, steps=150, seeds=2, threads=1
    )
    found = results(gaussian.run(config))
    assert found["infonce", "nats/4.00"]["value"] < math.log(32)
    assert found["infonce", "relative_error/4.00"]["value"] < -0.1  # the ceiling is below the truth
    assert abs(found["smile", "relative_error/0.50"]["value"]) < 0.5
    for name in ("estimates.png", "bias.png"):
        assert (tmp_path / name).stat().st_size > 0

"""The verbs run from end to end on tiny models; what is done is not done again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from dialog_envs.speakers.idpt import IDPT
from experiments import idpt
from experiments.episodes import read_episodes
from experiments.idpt import manipulate, policies, ship, train
from experiments.idpt.systems import SYSTEMS, Cell, Recipe, prepare
from experiments.idpt.training import CHECKPOINT, Training, fit

from .conftest import TINY


def rows_of(out) -> dict[tuple[str, str], dict]:
    return {(row["system"], row["metric"]): row for row in json.loads((out / "results.json").read_text())}


def times(out) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    config = train.Config(
        out=tmp_path_factory.mktemp("idpt") / "train", grammar=24, each=8, evaluated=8, made_of=TINY, **small
    )
    return train.run(config)


@pytest.mark.slow
def test_the_comparison(small, tmp_path):
    config = idpt.Config(
        out=tmp_path / "run", corpora=("p4g",), sizes=(4, 8), lengths=(2, 3), length=2, length_corpora=("p4g",),
        seeds=2, evaluated=6, max_new_tokens=4, **small,
    )  # fmt: skip
    out = idpt.run(config)
    found = rows_of(out)
    for name in SYSTEMS:
        assert found[f"p4g/{name}", "bleu_4"]["seeds"] == 2
        recognises = name not in ("frozen", "prefix", "labelled", "averaged", "no_initiative")
        assert ((f"p4g/{name}", "accuracy") in found) == recognises
    assert {("p4g/ha@4", "rouge_l"), ("p4g/sa", "bleu_4_gain"), ("size/gpt2", "set_over_copy")} <= set(found)
    assert len(list((out / "answers").glob("p4g_frozen_*"))) == 1
    text = (out / "tables.md").read_text()
    assert text.count("Weak labels") == 3 and "Table 2" in text and "IDPT-HA" in text and "gpt2 |" in text
    assert (out / "figure_3_p4g_rouge_l.png").stat().st_size > 0
    assert {path.name.split("_")[1] for path in (out / "models").glob("p4g_*_8_3_*")} == {"sa", "ha"}
    before = times(out)
    idpt.run(replace(config, systems=("ha",), length_corpora=("inspired",)))
    assert json.loads((out / "prefix_lengths.json").read_text()) == {}
    assert {name for name, time in times(out).items() if before.get(name) != time and "/" in name} == set()
    with pytest.raises(ValueError, match="was begun with"):
        idpt.run(replace(config, max_new_tokens=5))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"systems": ("he",)}, "system 'he'"),
        ({"corpora": ("msc",)}, "corpus 'msc'"),
        ({"length_corpora": ("msc",)}, "corpus 'msc'"),
    ],
)
def test_unknown_names_are_refused(wrong, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        idpt.run(idpt.Config(out=tmp_path, **wrong))


def test_every_system_passes_through_the_turns_as_often(small, corpora_root, tmp_path):
    turns = train.data.read_parts("p4g", corpora_root, 2).training[:8]
    training = replace(small["training"], epochs=3)
    recipe = Recipe(small["lm"], small["encoder"], training, 1e-3)
    losses = {}
    for name in ("ha", "simpletod"):
        folder = prepare(Cell("p4g", name, 8, 2, 0), turns, recipe, tmp_path)
        (record,) = (folder / file for file in ("training.json", "done.json") if (folder / file).exists())
        losses[name] = json.loads(record.read_text())["losses"]
    assert len(losses["ha"]) == len(losses["simpletod"]) == 3 * 8 / training.batch_size


@pytest.mark.slow
def test_training_in_bfloat16_lowers_the_loss(small, tmp_path):
    turns = train.data.grammar_turns(8, "train", 0)
    made = IDPT.from_scratch(TINY, small["lm"], small["encoder"])
    losses = np.array(fit(made, turns, Training(epochs=15, batch_size=8, learning_rate=2e-2), 0, tmp_path / "a"))
    assert np.isfinite(losses).all() and (losses[-1] < losses[0]).all() and losses[-1].sum() < losses[0].sum() - 0.1
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}


@pytest.mark.slow
def test_training_resumes_to_the_same_weights(small, trained, tmp_path):
    turns = train.data.grammar_turns(12, "train", 0)
    make = lambda: IDPT.from_scratch(TINY, small["lm"], small["encoder"])  # noqa: E731
    unbroken, broken, resumed = make(), make(), make()
    fit(unbroken, turns, small["training"], 0, tmp_path / "a")

    class Stop(Exception):
        pass

    calls, losses = [], broken.losses
    broken.losses = lambda *args: (
        calls.append(1) or (losses(*args) if len(calls) < 3 else (_ for _ in ()).throw(Stop()))
    )
    with pytest.raises(Stop):
        fit(broken, turns, small["training"], 0, tmp_path / CHECKPOINT)
    assert len(fit(resumed, turns, small["training"], 0, tmp_path / CHECKPOINT)) == 3
    for one, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert (one == other).all()


@pytest.mark.slow
def test_the_set_is_trained_measured_manipulated_and_shipped(trained, small, tmp_path, monkeypatch):
    found = rows_of(trained)
    assert {(name, "nats_saved") for name in ("grammar", "inspired", "p4g")} <= set(found)
    shared = {"data": small["data"], "initiatives": (trained / "model",) * 2, "contexts": 6, "max_new_tokens": 4}
    shares = manipulate.run(manipulate.Config(out=tmp_path / "manipulate", threads=1, **shared))
    assert 0 <= rows_of(shares)["grammar", "p_proposals"]["value"] <= 1
    assert "Weak labels" in (shares / "table.md").read_text()
    with pytest.raises(ValueError, match="what is shipped starts from 'pocket'"):
        ship.run(ship.Config(run=trained, out=tmp_path / "shipped"))
    run = shutil.copytree(trained, tmp_path / "pocket_like")  # the same set, said to be the shipped models'
    settings = json.loads((run / "model" / "idpt.json").read_text())
    (run / "model" / "idpt.json").write_text(json.dumps(settings | {"lm": "pocket", "encoder": "pocket"}))
    folder = ship.run(ship.Config(run=run, measured=(shares,), out=tmp_path / "shipped"))
    card = (folder / "README.md").read_text()
    assert "| inspired | none stated |" in card and "idpt manipulate" in card and "Weak labels" in card
    assert "pretrained on inspired, p4g, the evaluated dialogues included" in card
    monkeypatch.setattr(ship, "LARGEST", 1000)
    with pytest.raises(ValueError, match="expected at most"):
        ship.run(ship.Config(run=run, out=tmp_path / "again"))
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_a_run_of_another_set_is_not_on_the_card(trained, tmp_path):
    run = tmp_path / "other"
    run.mkdir()
    data = {"x/idpt.safetensors": "0" * 64}
    (run / "run.json").write_text(json.dumps({"verb": "idpt manipulate", "data": data}))
    with pytest.raises(ValueError, match="measured another set"):
        ship.of(run, trained / "model")


@pytest.mark.slow
def test_the_policies_are_compared(trained, model_folder, tmp_path, monkeypatch):
    few = {"PPO": {"n_steps": 2, "batch_size": 4}, "DQN": {"learning_starts": 2, "batch_size": 2}}
    monkeypatch.setattr(policies, "OVERRIDES", few)
    config = policies.Config(
        out=tmp_path / "policies", initiatives=trained / "model", coherence="none", partner_lm=str(model_folder()),
        steps=8, rows=2, episodes=4, seeds=2, max_turns=2, threads=1,
    )  # fmt: skip
    out = policies.run(config)
    found = rows_of(out)
    names = {"recogniser", *policies.CONSTANTS, "random", "PPO", "DQN"}
    assert {name for name, metric in found if metric == "episode_return"} == names
    assert found["PPO", "episode_return"]["seeds"] == 2 and found["random", "failed_episodes"]["value"] == 0
    assert any(name == "PPO" and metric.startswith("gain_over_always_") for name, metric in found)
    said = {name: (out / name).read_text() for name in ("verdict.txt", "transcripts.md")}
    assert all("recogniser" in text and "strategies: inspired, p4g" in text for text in said.values())
    met = [[e.scenario for e in read_episodes(out / "episodes" / f"random_{seed}.json")] for seed in range(2)]
    assert met[0] == met[1] and said["verdict.txt"].startswith("PPO ")
    before = times(out)
    policies.run(config)
    changed = {name for name, time in times(out).items() if before.get(name) != time}
    assert not {name for name in changed if name.startswith(("episodes", "learners"))}

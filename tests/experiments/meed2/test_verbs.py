"""The other verbs: the classifier's training, the speed of the search, and who chooses the intent."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dialog_envs.speakers.beam import Beams
from dialog_envs.speakers.meed2_model import Context, MEED2Config, Responder
from experiments.__main__ import main
from experiments.episodes import Episode
from experiments.meed2 import VERBS, classify, compare, speed
from experiments.statistics import crossed_ci95
from reward_models import emotion_training
from reward_models.emotion import EmotionClassifier
from reward_models.emotion_labels import LABELS
from reward_models.emotion_training import EmotionTraining


def rows(out) -> dict[tuple[str, str], dict]:
    return {(row["system"], row["metric"]): row for row in json.loads((out / "results.json").read_text())}


@pytest.fixture(scope="module")
def classified(tmp_path_factory, data, parts) -> classify.Config:
    training = EmotionTraining(6, 16, 2e-2, 1e-2)
    config = classify.Config(tmp_path_factory.mktemp("classify") / "run", parts["coherence"], training, data, threads=1)
    classify.run(config)
    return config


def test_the_classifier_is_trained_calibrated_and_measured(classified):
    found = rows(classified.out)
    assert found["emotion", "accuracy"]["value"] > 0.8 and found["emotion", "accuracy"]["ci95"] > 0
    assert found["emotion", "accuracy"]["n"] == 96
    classifier = EmotionClassifier.from_pretrained(classified.out / "model")
    assert LABELS[int(classifier(["why is that 7?"]).argmax())] == "questioning"
    assert classifier.temperature != 1 and classifier.card["accuracy"][0] == found["emotion", "accuracy"]["value"]
    assert (classified.out / "confusion.png").exists() and not (classified.out / "checkpoint.safetensors").exists()


def test_a_stopped_classifier_goes_on_and_a_finished_one_is_left(classified, tmp_path, monkeypatch):
    config = replace(classified, out=tmp_path / "broken")
    whole_fit = classify.fit
    monkeypatch.setattr(classify, "fit", lambda *a, **k: whole_fit(*a, **k, every=4))
    calls, original = [], emotion_training.loss

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 11:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(emotion_training, "loss", cut)
    with pytest.raises(KeyboardInterrupt):
        classify.run(config)
    classify.run(config)
    texts = ["why is that 7?", "i feel sad today", "good luck 3."]
    models = [EmotionClassifier.from_pretrained(of.out / "model") for of in (config, classified)]
    np.testing.assert_array_equal(models[0](texts), models[1](texts))
    monkeypatch.setattr(classify, "train", lambda *a: pytest.fail("trained again"))
    classify.run(config)


def test_no_text_of_the_validation_is_learned(tmp_path):
    (tmp_path / "train_data").mkdir()
    lines = {"valid": ["38 <SEP> Why , really ?"], "train": ["38 <SEP> why really!", "38 <SEP> why?", "3 <SEP> i cry"]}
    for split, said in lines.items():
        (tmp_path / f"train_data/{split}.txt").write_text("\n".join(said) + "\n")
    train, valid = classify.read(tmp_path)
    assert [text for text, _ in train] == ["why?", "i cry"] and len(valid) == 1


def test_what_calibrates_has_no_text_of_what_is_learned():
    examples = [(f"text {i % 20}" + "!" * (i // 20), 3) for i in range(60)]
    kept, learned = classify.set_aside(examples, 0.2, 0)
    assert (len(kept), len(learned)) == (12, 48) and sorted(kept + learned) == sorted(examples)
    assert not {text.strip("!") for text, _ in kept} & {text.strip("!") for text, _ in learned}


def test_a_line_that_stands_twice_makes_no_interval_narrower():
    once = [(f"text {i}", i % 41) for i in range(40)]
    correct = [int(i % 3 > 0) for i in range(40)]
    found = [
        {row.metric: row for row in classify.result_rows({"correct": c, "nats": 1.0, "reliability": {}}, valid)}
        for c, valid in ((correct, once), (correct * 4, once * 4))
    ]
    for metric in ("accuracy", "accuracy/emotions", "accuracy/intents"):
        assert found[1][metric].ci95 == pytest.approx(found[0][metric].ci95)


def test_a_device_that_is_not_there_is_refused_by_torch(classified, compared, tmp_path):
    speedy = speed.Config(tmp_path / "speed", MEED2Config(16, 1, 1, 2, 24, 0.0, 20), 100, 2, 8, device="nowhere")
    classifying = replace(classified, out=tmp_path / "classify", device="nowhere")
    comparing = replace(compared, out=tmp_path / "compare", device="nowhere")
    for verb, config in ((speed, speedy), (classify, classifying), (compare, comparing)):
        with pytest.raises(RuntimeError, match="nowhere"):
            verb.run(config)


def test_a_classifier_is_shipped_with_its_card(classified, tmp_path, monkeypatch):
    classify.ship(classified.out / "model", tmp_path / "pocket")
    card = (tmp_path / "pocket/README.md").read_text()
    assert "| accuracy | 0." in card and "non-commercial use only" in card
    assert EmotionClassifier.from_pretrained(tmp_path / "pocket").card
    monkeypatch.setattr(classify, "LARGEST", 10)
    with pytest.raises(ValueError, match="expected at most"):
        classify.ship(classified.out / "model", tmp_path / "other")
    with pytest.raises(ValueError, match="what is shipped starts from 'pocket'"):
        classify.run(replace(classified, ship=True))


def test_all_three_ways_find_the_same_replies():
    torch.manual_seed(0)
    responder = Responder(MEED2Config(24, 1, 2, 2, 32, 0.0, 40), 60).eval()
    for parameter in responder.parameters():
        parameter.data.normal_(std=0.3)
    ids = torch.randint(5, 60, (5, 12))
    context = Context(ids, ids % 41, ids % 2, torch.ones_like(ids, dtype=torch.bool))
    found = [way(responder, context, Beams(6, 10)) for way in (speed.batch, speed.one_at_a_time, speed.published)]
    assert found[0] == found[1] == found[2] and len(set(map(tuple, found[0]))) > 1


def test_the_published_way_reads_a_dialogue_once_and_decodes_all_that_was_written(monkeypatch):
    responder = Responder(MEED2Config(16, 1, 2, 2, 24, 0.0, 20), 60).eval()
    ids = torch.randint(5, 60, (3, 8))
    context = Context(ids, ids % 41, ids % 2, torch.ones_like(ids, dtype=torch.bool))
    calls = {"read": [], "decode": []}
    for name, shape_of in (("read", lambda one: one.ids.shape), ("decode", lambda *given: given[2].shape)):

        def counted(*given, name=name, of=getattr(responder, name), shape_of=shape_of):
            calls[name].append(shape_of(*given))
            return of(*given)

        monkeypatch.setattr(responder, name, counted)
    speed.published(responder, context, Beams(4, 5, blocked=0))
    assert calls["read"] == [(1, 8)] * 3
    assert [length for _, length in calls["decode"]][:6] == [1, 2, 3, 4, 5, 6]


def test_speed_is_measured_against_both(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(speed, "published", lambda *a, of=speed.published: calls.append(1) or of(*a))
    sizes = MEED2Config(16, 1, 1, 2, 24, 0.0, 20)
    out = speed.run(speed.Config(tmp_path, sizes, 100, 2, 8, Beams(3, 6), 2, 1))
    found = rows(out)
    assert found["batch", "seconds_a_dialogue"]["value"] > 0
    ratios = [found["batch", f"times_as_fast_as_{name}"]["value"] for name in ("one_at_a_time", "published")]
    assert all(ratio > 0 for ratio in ratios) and len(calls) == 1 + 2


@pytest.fixture(scope="module")
def compared(tmp_path_factory, parts, model_folder) -> compare.Config:
    config = compare.Config(
        out=tmp_path_factory.mktemp("compare") / "run", **parts, lm=str(model_folder()), max_turns=2, max_new_tokens=3,
        transitions=16, rollout=4, rows=4, episodes=4, seeds=2, threads=1,
    )  # fmt: skip
    compare.run(config)
    return config


def test_who_chooses_best_is_compared_on_the_same_dialogues(compared):
    found = rows(compared.out)
    for name in compared.systems:
        assert found[name, "episode_return"]["seeds"] == 2 and found[name, "failed_episodes"]["value"] == 0
        assert {(name, metric) for metric in ("valence", "valence_change", "coherence", "harm")} <= set(found)
        assert ((name, "minus_predictor") in found) == (name != "predictor")
    gain = found["ppo", "episode_return"]["value"] - found["predictor", "episode_return"]["value"]
    assert found["ppo", "minus_predictor"]["value"] == pytest.approx(gain)
    episodes = json.loads((compared.out / "episodes.json").read_text())
    assert len({tuple((e["scenario"], e["seed"]) for e in of[1]) for of in episodes.values()}) == 1
    assert all(e["scenario"].startswith("comfort/heldout") for e in episodes["ppo"][0])
    for file in ("transcripts.html", "returns.png", "curve.png"):
        assert (compared.out / file).exists()


def test_a_comparison_says_what_was_chosen_and_how_the_training_went(compared):
    found, text = rows(compared.out), (compared.out / "table.md").read_text()
    assert found["questioning", "chosen/questioning"]["value"] == 1.0
    assert sum(row["value"] for (name, m), row in found.items() if name == "ppo" and "chosen" in m) == pytest.approx(1)
    assert "| questioning | 1 | questioning 100% |" in text and "| ppo |" in text
    episodes = json.loads((compared.out / "ppo/seed_1/episodes.json").read_text())
    assert all(len(e["actions"]) == len(e["rewards"]) for e in episodes)
    assert found["ppo at step 16", "training_return"]["seeds"] == 2 and "| 16 | " in text


def test_intervals_of_a_comparison_cover_seeds_and_scenarios():
    met = ["a", "a", "b", "b", "c", "c"]
    returns = np.array([[1.0, 1.1, 2.0, 2.1, 4.0, 4.1], [1.2, 1.0, 2.2, 2.0, 4.2, 4.0]])
    episodes = [
        [
            Episode(name, i, rewards=[value], scores=[{}], actions=[3])
            for i, (name, value) in enumerate(zip(met, of, strict=True))
        ]
        for of in returns
    ]
    row = next(row for row in compare.table({"predictor": episodes}) if row.metric == "episode_return")
    assert (row.value, row.ci95) == pytest.approx(crossed_ci95(returns, met)) and (row.n, row.seeds) == (6, 2)
    episodes[0][0].error = "timed out"
    failed = {row.metric: row for row in compare.table({"predictor": episodes})}
    assert failed["episode_return"].n == 5 and failed["failed_episodes"].value == 1


def test_all_seeds_meet_the_same_scenarios_with_other_dice(compared):
    first, second = json.loads((compared.out / "episodes.json").read_text())["mirror"]
    assert [e["scenario"] for e in first] == [e["scenario"] for e in second]
    assert not {e["seed"] for e in first} & {e["seed"] for e in second}


def test_a_part_without_weights_is_named_before_anything_is_done(compared, tmp_path):
    config = replace(compared, out=tmp_path / "run", harm=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"harm is .*none.*`python -m experiments judge` makes one"):
        compare.run(config)
    assert not config.out.exists()


def test_ppo_updates_after_each_dialogue(compared, monkeypatch):
    made = []
    monkeypatch.setattr(compare, "train_sb3", lambda model, *a, **k: made.append(model))
    compare.learn(
        compare.Config(**vars(compared) | {"rollout": compare.Config.rollout, "max_turns": 4}), 0, compared.out
    )
    assert (made[0].n_steps, made[0].batch_size) == (4, compared.rows)
    assert compare.Config.transitions // (compare.Config.rows * compare.Config.rollout) == 40


def test_a_comparison_goes_on(compared, monkeypatch):
    before = rows(compared.out)
    monkeypatch.setattr(compare, "run_episodes", lambda *a, **k: pytest.fail("played again"))
    monkeypatch.setattr(compare, "learn", lambda *a, **k: pytest.fail("learned again"))
    compare.run(compared)
    assert rows(compared.out) == before
    with pytest.raises(ValueError, match="unknown system 'pop'"):
        compare.run(replace(compared, systems=("pop",)))


def test_policies_choose_as_they_say():
    observations = np.zeros((3, 124), dtype=np.float32)
    observations[:, 41 + 7] = 1  # what the partner feels now
    observations[:, 82 + 35] = 1  # what MEED2 would do
    chosen = {name: make(0)(observations) for name, make in compare.POLICIES.items()}
    assert chosen["predictor"].tolist() == [35] * 3 and chosen["mirror"].tolist() == [7] * 3
    assert [LABELS[i] for i in chosen["questioning"]] == ["questioning"] * 3
    assert ((chosen["random"] >= 0) & (chosen["random"] < 41)).all()


def test_every_verb_explains_itself(capsys):
    for verb in VERBS:
        with pytest.raises(SystemExit) as stop:
            main(["meed2", verb, "--help"])
        assert stop.value.code == 0 and "--out" in capsys.readouterr().out

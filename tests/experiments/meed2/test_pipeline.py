"""The stages of MEED2: what they learn from, that they resume, what the tables hold, and what is shipped."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.checkpoint import load_tree
from dialog_envs.speakers.meed2 import MEED2Speaker
from experiments.meed2 import data as meed2_data
from experiments.meed2 import evaluate, finetune, pages, pretrain, ship
from experiments.meed2.answers import Answers, nats_of, perplexity, perplexity_change
from experiments.meed2.config import MEED2, PRETRAINING, STAGES, SYSTEMS, Config
from experiments.meed2.data import ED, IGNORED
from experiments.meed2.evaluate import obedience_rows
from experiments.meed2.pretrain import load_stage, responder_loss
from experiments.rate import items as rate_items
from experiments.statistics import crossed_ci95
from reward_models.emotion import EmotionClassifier
from reward_models.emotion_labels import LABELS
from tests.experiments.meed2.conftest import FEELINGS, settings

QUESTIONING, WISHING = LABELS.index("questioning"), LABELS.index("wishing")


def results(config) -> dict[tuple[str, str], dict]:
    rows = json.loads((config.out / "results.json").read_text())
    return {(row["system"], row["metric"]): row for row in rows}


@pytest.fixture(scope="module")
def sets(finished):
    root, classifier = pretrain.open_meed2(finished)
    return meed2_data.read(finished, root, classifier)


def test_general_dialogue_is_without_empathetic_dialogues_and_tagged_by_the_classifier(sets, finished):
    assert {dialogue.source for dialogue in sets.train["os"].dialogues} == {"dailydialog"}
    assert {dialogue.source for dialogue in sets.train["ed"].dialogues} == {ED}
    classifier = EmotionClassifier.from_pretrained(finished.classifier)
    dialogue = sets.train["os"].dialogues[7]
    found = classifier([turn.text for turn in dialogue.turns]).argmax(1)
    assert [turn.act for turn in dialogue.turns] == [LABELS[label] for label in found]
    assert sets.train["ed"].dialogues[0].turns[0].act in ("sad", "joyful", "angry")


def test_curated_dialogues_take_the_place_of_the_corpora(data, parts, tmp_path):
    folder = tmp_path / "curated/parts"
    folder.mkdir(parents=True)
    for part in range(2):
        said = [[f"{part} {i} why {turn}?" for turn in range(3)] for i in range(30)]
        lines = [{"source": "film", "start": 0.0, "turns": turns} for turns in said]
        (folder / f"{part:05}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = settings(tmp_path / "run", data, parts, curated=tmp_path / "curated", general=50, seeds=1)
    sets = pretrain.train_stages(config, ["predictor_os"])
    found = sets.train["os"].dialogues
    assert len(found) == 50 and {dialogue.source for dialogue in found} == {"curated"}
    assert all([turn.speaker for turn in dialogue.turns] == ["a", "b", "a"] for dialogue in found)
    assert set(map(id, sets.train["edos"].dialogues)) < set(map(id, found))
    hashed = json.loads((config.out / "run.json").read_text())["data"]
    assert str(folder / "00001.jsonl") in hashed and not any("dailydialog/train" in name for name in hashed)
    with pytest.raises(FileNotFoundError, match=r"no curated dialogues in .*experiments curate"):
        pretrain.run(replace(config, out=tmp_path / "other", curated=tmp_path / "nothing"))


def test_the_most_emotional_part_is_the_most_emotional(sets):
    assert len(sets.train["edos"].dialogues) == 20 < len(sets.train["os"].dialogues)
    chosen = [dialogue in sets.train["edos"].dialogues for dialogue in sets.train["os"].dialogues]
    scores = load_tree_scores(sets)
    assert min(scores[chosen]) == sets.threshold and max(scores[~np.array(chosen)]) <= sets.threshold


def load_tree_scores(sets) -> np.ndarray:
    return load_tree(sets.tokenizer.name_or_path.replace("tokenizer", "tags.safetensors"))["train"]["emotionality"]


def test_every_turn_but_the_first_is_a_response_with_all_before_it(sets):
    pairs = sets.valid["ed"]
    assert len(pairs) == 3 * len(pairs.dialogues)
    some = pairs.at([2])
    (before,), (speaker,) = some.before()
    context = some.contexts(100)
    text = sets.tokenizer.decode(context.ids[0])
    assert len(before.turns) == 3 and text.count(sets.tokenizer.eos_token) == 3
    assert before.turns[1].speaker == speaker != before.turns[2].speaker
    ends = (context.ids[0] == pairs.end).nonzero().flatten().tolist()
    assert context.segments[0, ends].tolist() == [0, 1, 0]
    assert context.emotions[0, ends].tolist() == [LABELS.index(turn.act) for turn in before.turns]
    given, wanted = some.replies(100)
    assert given[0, 0] == pairs.begin and wanted[0, -1] == pairs.end
    assert given[0, 1:].tolist() == wanted[0, :-1].tolist()
    assert sets.tokenizer.decode(wanted[0, :-1]).strip() == some.responses[0]
    given, wanted = pairs.replies(4)
    assert given.shape == wanted.shape == (len(pairs), 4)


def test_replies_are_padded_with_what_is_ignored(sets):
    pairs = sets.valid["ed"].at(range(6))
    given, wanted = pairs.replies(100)
    for row in range(6):
        alone_given, alone = pairs.at([row]).replies(100)
        size = alone.shape[1]
        assert wanted[row, :size].tolist() == alone[0].tolist() and (wanted[row, size:] == IGNORED).all()
        assert given[row, :size].tolist() == alone_given[0].tolist()


def test_stages_start_where_they_say(finished):
    for name, stage in STAGES.items():
        record = json.loads((pretrain.stage_folder(finished, name, 1) / "training.json").read_text())
        assert record["stage"] == {"network": stage.network, "data": stage.data, "start": stage.start}
        assert record["loss"][-1] < record["loss"][0] if stage.start is None else record["loss"]
    later = json.loads((pretrain.stage_folder(finished, "plain_ed", 0) / "training.json").read_text())
    raw = json.loads((pretrain.stage_folder(finished, "raw_first", 0) / "training.json").read_text())
    assert later["loss"][0] < raw["loss"][0]
    assert all(STAGES[name].start in (None, *PRETRAINING) for name in STAGES)


def test_systems_on_ed_have_the_same_steps_and_rates_and_the_table_says_so(finished):
    def of(system: str) -> list[tuple[int, float]]:
        found = pretrain.records(finished, SYSTEMS[system].responder, 1)
        return [(len(stage["loss"]), stage["training"]["learning_rate"]) for stage in found]

    assert of("Raw") == of("Fine-tuned") == of(MEED2) == [(12, 3e-3), (12, 2e-3)]
    assert {STAGES[name].data for name in ("raw_first", "raw_ed")} == {"ed"}
    text = (finished.out / "tables.md").read_text()
    assert "ED alone, twice through the same responses | 90 of ED, 90 of ED | 12 + 12 | 0.003, 0.002 |" in text
    assert "on OS, then ED | 90 of OS, 90 of ED | 12 + 12 | 0.003, 0.002 |" in text


def test_defaults_select_and_are_trained_in_minutes():
    config = Config()
    assert config.most_emotional <= config.general / 6 and config.general < 17_848
    seconds = {"predictor": 0.08, "meed2": 0.42, "plain": 0.42}  # of one core, a step
    whole = 0.0
    for stage in STAGES.values():
        training = config.pretraining if stage.start is None else config.finetuning
        whole += seconds[stage.network] * training.epochs * training.pairs / training.batch_size
    assert config.seeds * whole / 2 / 60 < 42


def test_a_stopped_training_gives_the_unbroken_one(finished, data, parts, tmp_path, monkeypatch):
    config = settings(tmp_path / "broken", data, parts, seeds=1)
    calls, original = [], responder_loss

    def cut(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(pretrain, "responder_loss", cut)
    with pytest.raises(KeyboardInterrupt):
        pretrain.train_stages(config, ["plain_os"])
    monkeypatch.setattr(pretrain, "responder_loss", original)
    pretrain.train_stages(config, ["plain_os"])
    folders = [pretrain.stage_folder(of, "plain_os", 0) for of in (config, finished)]
    broken, unbroken = (load_tree(folder / "weights.safetensors")["network"] for folder in folders)
    assert all(torch.equal(broken[name], value) for name, value in unbroken.items())
    losses = [json.loads((folder / "training.json").read_text())["loss"] for folder in folders]
    assert losses[0] == losses[1] and len(losses[0]) == 12
    assert not (folders[0] / "checkpoint.safetensors").exists()


def test_what_is_done_is_not_done_again_and_other_settings_are_refused(finished, monkeypatch):
    monkeypatch.setattr(pretrain, "fit", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(evaluate, "replies_of", lambda *a, **k: pytest.fail("answered again"))
    before = results(finished)
    pretrain.run(finished)
    finetune.run(finished)
    evaluate.run(finished)
    assert results(finished) == before
    with pytest.raises(ValueError, match="was begun with vocab_size 320, now it is 300"):
        pretrain.run(replace(finished, vocab_size=300))


def test_tables_have_the_papers_rows_and_measures(finished):
    found = results(finished)
    for system, of in SYSTEMS.items():
        for name in ("os", "edos", "ed"):
            for metric in ("perplexity", "distinct_1", "distinct_2", "similarity"):
                assert (
                    np.isfinite(found[system, f"{name}/{metric}"]["value"])
                    and found[system, f"{name}/{metric}"]["seeds"] == 2
                )
            assert ((system, f"{name}/weighted_f1") in found) == (of.predictor is not None)
    assert found["MEED2 over Fine-tuned", "ed/perplexity_change"]["ci95"] > 0
    tables = (finished.out / "tables.md").read_text()
    for text in (*SYSTEMS, "in the place of OpenSubtitles", "ED: EmpatheticDialogues", "questions_if_questioning"):
        assert text in tables
    for caveat in (
        "made by a BERT classifier",
        "our own classifier",
        "texts of ED's validation",
        "read from the response",
        "DailyDialog's validation alone",
        "which lies within OS",
        "not comparable with the paper's",
    ):
        assert caveat in tables
    for name in ("obeyed.png", "distribution_ed.png", "distribution_os.png", "samples.html"):
        assert (finished.out / name).stat().st_size > 1000
    page = (finished.out / "samples.html").read_text()
    assert "Side by side" in page and page.count("<article") == 12 + 2 and "<td>questioning</td>" in page


def test_the_page_shows_dialogues_of_all_emotions(finished):
    articles = (finished.out / "samples.html").read_text().split("<article")[1:]
    for shown, most in ((articles[:12], 3), (articles[12:], 2)):
        feelings = {feeling for feeling in FEELINGS for article in shown if f"i feel {feeling}" in article}
        assert len(feelings) == most
    assert pages.spread(400, 4) == [0, 133, 266, 399] and pages.spread(2, 12) == [0, 1] and pages.spread(0, 3) == []


def test_replies_can_be_rated(finished, sets):
    items = rate_items.read(finished.out / "replies.jsonl")
    chosen = sets.valid["ed"].sample(finished.evaluated, 0)
    assert [item.true_reply for item in items] == chosen.responses
    assert all(set(item.candidates) == set(SYSTEMS) for item in items)
    (answers,) = (pretrain.stage_folder(finished, "raw_ed", 0)).glob("answers_ed_*.json")
    assert [item.candidates["Raw"] for item in items] == json.loads(answers.read_text())["replies"]
    (before,), _ = chosen.at([3]).before()
    assert items[3].context == tuple(turn.text for turn in before.turns)


def test_perplexity_is_that_of_the_true_response_told_its_emotion(finished, sets):
    responder = load_stage(finished, "meed2_ed", len(sets.tokenizer), 0)
    pairs = sets.valid["ed"].at(range(7))
    nats, tokens = nats_of(responder, pairs, pairs.emotions)
    loss = responder_loss(responder, pairs).item()
    assert nats.sum() / tokens.sum() == pytest.approx(loss, abs=1e-4)
    answers = Answers(nats.tolist(), tokens.tolist(), (2 * nats).tolist(), [], [], [])
    assert perplexity("nats", answers, np.arange(7)) == pytest.approx(np.exp(loss), rel=1e-3)
    groups = np.arange(7)
    change = perplexity_change("a", "ed", [answers], [answers], groups)
    assert change[0].value == 0 and change[1].value == pytest.approx(np.exp(loss) - 1, rel=1e-2)
    other, _ = nats_of(responder, pairs, (pairs.emotions + 1) % 41)
    assert not np.allclose(nats, other)


def test_obedience_counts_what_was_recovered_and_what_was_asked():
    one = {
        "dialogue": [0, 0, 1, 1],
        "asked": [QUESTIONING, WISHING] * 2,
        "replies": ["why?", "good luck", "no", "luck?"],
        "recovered": [QUESTIONING, WISHING, WISHING, WISHING],
    }
    found = {row.metric: row.value for row in obedience_rows([one, one]) if np.isfinite(row.value)}
    assert found["recovered"] == 0.75
    assert (found["questions_if_questioning"], found["questions_else"]) == (0.5, 0.5)
    assert (found["recovered/wishing"], found["base_rate/wishing"]) == (1.0, 0.5)
    assert (found["recovered/questioning"], found["base_rate/questioning"]) == (0.5, 0.0)
    assert found["recovered_minus_base_rate/wishing"] == found["recovered_minus_base_rate/questioning"] == 0.5


def test_intervals_of_obedience_cover_seeds_and_dialogues():
    asked = [QUESTIONING, WISHING] * 4
    dialogue = [0] * 4 + [1] * 2 + [2] * 2

    def one(hits: list[int]) -> dict[str, list]:
        read = [label if hit else 0 for label, hit in zip(asked, hits, strict=True)]
        return {"dialogue": dialogue, "asked": asked, "replies": ["."] * 8, "recovered": read}

    hits = [[1, 0, 1, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 1, 0]]
    found = {row.metric: row for row in obedience_rows([one(each) for each in hits])}
    values = np.array(hits, float)[:, ::2]
    for metric in ("recovered/questioning", "recovered_minus_base_rate/questioning"):
        row = found[metric]
        assert (row.value, row.ci95) == pytest.approx(crossed_ci95(values, [0, 0, 1, 2]))
        assert (row.n, row.seeds) == (4, 3)


def test_what_is_shipped_loads_and_says_the_same(finished, sets, tmp_path, monkeypatch):
    ship.ship(finished, tmp_path / "pocket")
    speaker = MEED2Speaker.from_pretrained(tmp_path / "pocket", finished.classifier)
    dialogues, _ = sets.valid["ed"].at([0, 4]).before()
    assert all(speaker.speak(dialogues, "listener", "questioning", finished.beams))
    card, tables = (tmp_path / "pocket/README.md").read_text(), (finished.out / "tables.md").read_text()
    assert all(f"| {label} | " in text for label in ("sympathizing", "agreeing", "wishing") for text in (card, tables))
    assert card.index("ed/perplexity_predicted |") < card.index("ed/perplexity |") < card.index("ed/distinct_1 |")
    assert "made by a BERT classifier" in card and "has learned from lines some of which are texts of this" in card
    assert "CC BY-NC 4.0" in card and f"| {MEED2} | ed/perplexity |" in card and "non-commercial use only" in card
    monkeypatch.setattr(ship, "LARGEST", 1000)
    with pytest.raises(ValueError, match="expected at most"):
        ship.ship(finished, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_networks_lie_on_the_device_that_is_asked_for(finished, tmp_path):
    for name in STAGES:
        network = pretrain.new_network(replace(finished, device="meta"), name, 320, 0)
        assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    with pytest.raises(RuntimeError, match="nowhere"):
        pretrain.run(replace(finished, out=tmp_path / "run", device="nowhere"))
    before = results(finished)
    evaluate.run(replace(finished, device="cpu"))
    assert results(finished) == before


def test_missing_parts_are_named(data, parts, tmp_path):
    config = settings(tmp_path / "run", data, parts, classifier=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="meed2 classify"):
        pretrain.run(config)
    with pytest.raises(FileNotFoundError, match="meed2 finetune"):
        load_stage(settings(tmp_path / "run", data, parts), "meed2_ed", 320, 0)

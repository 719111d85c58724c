"""MEED2: the networks do as the paper says, replies hang on the chosen emotion, and a model is saved whole."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.speakers.beam import Beams
from dialog_envs.speakers.meed2 import IDS, MEED2Speaker, context_row, label_ids
from dialog_envs.speakers.meed2_model import (
    POCKET_PREDICTOR,
    POCKET_RESPONDER,
    Context,
    EmotionPredictor,
    MEED2Config,
    Responder,
    Writer,
    attention_pooling,
)
from reward_models.emotion_labels import LABELS
from tests.empathy import meed2, sentences, tagger

SAMPLING = Sampling(8, 1.0, 0.0)


def dialogues(count: int, seed: int = 3) -> list[Dialogue]:
    made = []
    for number, text in enumerate(sentences(count, seed)):
        dialogue = Dialogue().said("partner", text)
        for turn in sentences(number % 3, number):
            dialogue = dialogue.said("agent", turn).said("partner", turn[::-1])
        made.append(dialogue)
    return made


def dice(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([5, i]) for i in range(count)]


@pytest.fixture(scope="module")
def speaker() -> MEED2Speaker:
    return meed2()


def test_the_papers_sizes_are_the_default():
    paper = MEED2Config()
    assert (paper.encoder_layers, paper.decoder_layers, paper.heads) == (4, 4, 6)
    assert (paper.hidden_size, paper.intermediate_size, paper.dropout, paper.max_tokens) == (300, 1200, 0.1, 100)


def test_the_pocket_size_fits_in_12_mebibytes():
    parts = (Responder(POCKET_RESPONDER, 6144), EmotionPredictor(POCKET_PREDICTOR, 6144))
    assert 2 * sum(p.numel() for part in parts for p in part.parameters()) < 11.5 * 2**20  # half a MiB of tokenizer


def test_attention_pooling_weighs_by_the_exponential_of_v_times_r():
    vectors, scorer = torch.randn(2, 4, 3), torch.randn(3)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    for row, length in enumerate((4, 2)):
        weights = torch.tensor([float(torch.exp(scorer @ vectors[row, i])) for i in range(length)])
        expected = sum(w * vectors[row, i] for i, w in enumerate(weights / weights.sum()))
        torch.testing.assert_close(attention_pooling(vectors, scorer, mask)[row], expected)


def test_a_dialogue_is_read_with_emotions_and_segments_and_its_oldest_tokens_go():
    row = context_row([[5, 6], [7]], [3, 40], [False, True], 2, 100)
    assert row == [(5, 3, 0), (6, 3, 0), (2, 3, 0), (7, 40, 1), (2, 40, 1)]
    assert context_row([[5, 6], [7]], [3, 40], [False, True], 2, 3) == row[-3:]


def test_an_embedding_is_the_sum_of_four_and_the_tables_are_shared(speaker):
    responder = speaker.responder
    table = responder.embedding
    found = table(torch.tensor([[7, 8]]), torch.tensor([[3, 4]]), torch.tensor([[0, 1]]))
    for place, (word, emotion, segment) in enumerate(((7, 3, 0), (8, 4, 1))):
        expected = table.word.weight[word] + table.position.weight[place]
        expected = expected + table.emotion.weight[emotion] + table.segment.weight[segment]
        torch.testing.assert_close(found[0, place], expected)
    names = [name for name, _ in responder.named_parameters()]
    assert sum("word" in name for name in names) == sum("emotion" in name for name in names) == 1


def test_the_writer_gives_what_the_whole_row_gives(speaker):
    context = speaker.context(dialogues(3), "agent", 64)
    emotions, replies = torch.tensor([1, 20, 38]), torch.randint(5, 300, (3, 6))
    whole = speaker.responder(context, replies, emotions)
    writer = Writer(speaker.responder, context, emotions)
    for place in range(6):
        torch.testing.assert_close(
            writer(replies[:, place : place + 1], None)[:, 0], whole[:, place], atol=1e-3, rtol=1e-3
        )


def test_hypotheses_go_on_from_their_parents(speaker):
    context = speaker.context(dialogues(2), "agent", 64)
    emotions = torch.tensor([1, 20])
    writer = Writer(speaker.responder, context, emotions)
    writer(torch.full((2, 1), 1), None)
    writer(torch.tensor([[10, 11, 12], [13, 14, 15]]), torch.zeros(2, 3, dtype=torch.long))
    found = writer(torch.tensor([[20, 21], [22, 23]]), torch.tensor([[2, 0], [1, 1]]))
    for row, said in ((0, [[1, 12, 20], [1, 10, 21]]), (1, [[1, 14, 22], [1, 14, 23]])):
        alone = Context(*(part[row : row + 1].expand(2, -1) for part in context))
        whole = speaker.responder(alone, torch.tensor(said), emotions[row].expand(2))[:, -1]
        torch.testing.assert_close(found[row], whole, atol=1e-3, rtol=1e-3)


def test_padding_changes_nothing(speaker):
    some = dialogues(5)
    together = speaker.predict(some, "agent")
    alone = np.concatenate([speaker.predict([each], "agent") for each in some])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.shape == (5, 41) and np.allclose(together.sum(1), 1)


@pytest.mark.parametrize("decoding", [SAMPLING, Beams(4, 8)])
def test_a_batch_speaks_as_each_alone(speaker, decoding):
    some = dialogues(20)  # more than one search takes
    together = speaker.speak(some, "agent", "consoling", decoding, dice(20))
    alone = [speaker.speak([d], "agent", "consoling", decoding, [g])[0] for d, g in zip(some, dice(20), strict=True)]
    assert together == alone and all(together) and len(set(together)) > 10


def test_the_chosen_emotion_changes_the_reply(speaker):
    some = dialogues(1) * len(LABELS)
    each = speaker.speak(some, "agent", LABELS, Beams(2, 8))
    assert len(set(each)) > 10
    assert each[IDS["consoling"]] == speaker.speak(some[:1], "agent", "consoling", Beams(2, 8))[0]
    predicted = int(speaker.predict(some[:1], "agent").argmax())
    assert speaker.speak(some[:1], "agent", None, Beams(2, 8))[0] == each[predicted]


def test_without_emotions_it_is_a_plain_transformer():
    plain = meed2(emotions=False)
    assert len(set(plain.speak(dialogues(1) * 41, "agent", LABELS, Beams(2, 8)))) == 1


def test_what_was_said_is_tagged_by_its_act_else_by_the_classifier(speaker):
    dialogue = Dialogue().said("partner", "i am sad", "wishing").said("agent", "so am i").said("partner", " ")
    (found,) = speaker.emotions([dialogue.said("agent", "yes", "greeting")])
    guessed = tagger(["so am i", "yes"]).argmax(1).tolist()
    assert found == [IDS["wishing"], guessed[0], IDS["neutral"], guessed[1]]


def test_bad_input_is_refused_by_name(speaker):
    some = dialogues(2)
    for message, call in {
        "did you mean 'consoling'": lambda: speaker.speak(some, "agent", "consolling", Beams(2, 8)),
        "emotion is 41": lambda: speaker.speak(some, "agent", 41, Beams(2, 8)),
        "1 emotions for 2 dialogues": lambda: speaker.speak(some, "agent", ["sad"], Beams(2, 8)),
        "no generators": lambda: speaker.speak(some, "agent", "sad", SAMPLING),
        "this model writes 64": lambda: speaker.speak(some, "agent", "sad", Beams(2, 65)),
        "dialogue 1 has no turns": lambda: speaker.predict([some[0], Dialogue()], "agent"),
        "no multiple of heads": lambda: MEED2Config(hidden_size=100, heads=6),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    assert speaker.speak([], "agent") == [] and label_ids(3, 2) == [3, 3]


def test_it_is_saved_whole(speaker, tmp_path):
    speaker.save_pretrained(tmp_path / "meed2")
    again = MEED2Speaker.from_pretrained(tmp_path / "meed2", tagger)
    some = dialogues(6)
    np.testing.assert_allclose(again.predict(some, "agent"), speaker.predict(some, "agent"), atol=0.02)
    assert again.responder.config == speaker.responder.config and not any(p.requires_grad for p in again.parameters())
    weights = again.state_dict()
    assert all(torch.equal(value.half(), weights[name].half()) for name, value in speaker.state_dict().items())
    again.save_pretrained(tmp_path / "meed2")
    assert not list(tmp_path.glob("*.tmp"))


def test_what_does_not_fit_is_refused(speaker, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"meed2\.json is missing .*meed2 finetune"):
        MEED2Speaker.from_pretrained(tmp_path / "nothing", tagger)
    speaker.save_pretrained(tmp_path / "other")
    path = tmp_path / "other/meed2.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {"labels": saved["labels"][::-1]}))
    with pytest.raises(ValueError, match="other labels"):
        MEED2Speaker.from_pretrained(tmp_path / "other", tagger)
    wide = vars(replace(speaker.responder.config, intermediate_size=99))
    path.write_text(json.dumps(saved | {"responder": wide}))
    with pytest.raises(ValueError, match="other weights"):
        MEED2Speaker.from_pretrained(tmp_path / "other", tagger)

"""The embedded utterance judge: it learns what can be learned, says how good it is, and is saved whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig
from reward_models.dmi.tokens import train_tokenizer
from reward_models.utterance_judge import UtteranceJudge
from reward_models.utterance_training import Example, TrainingConfig, read_examples, split, train_utterance_judge

NICE = "you are kind|that is a fine idea|i hope you feel well|what a lovely day".split("|")
RUDE = "you are stupid|that is an ugly idea|i hope you fail|what a dumb day".split("|")


def examples(count: int, seed: int = 0) -> list[Example]:
    """Whether a response is unsafe hangs on the context: rude words are safe after "insult me"."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        game, rude = rng.random() < 0.5, rng.random() < 0.5
        context = f"{'insult me' if game else 'hello there'} {number}"
        made.append(Example(context, str(rng.choice(RUDE if rude else NICE)), bool(rude and not game)))
    return made


def encoder() -> DialogueEncoder:
    texts = [*NICE, *RUDE, *(f"insult me {i}" for i in range(9)), "hello there"]
    torch.manual_seed(0)
    config = EncoderConfig(vocab_size=300, hidden_size=32, layers=2, heads=2, intermediate_size=48, max_length=32)
    return DialogueEncoder.from_scratch(config, train_tokenizer(texts * 20, 300)).eval()


@pytest.fixture(scope="module")
def judge() -> UtteranceJudge:
    return train_utterance_judge(encoder(), examples(600), TrainingConfig(epochs=6, learning_rate=3e-3))


def test_it_learns_what_hangs_on_the_context(judge):
    held_out = judge.card["held_out"]
    assert held_out["precision"] > 0.9 and held_out["recall"] > 0.9 and held_out["average_precision"] > 0.95
    safe, unsafe = judge(["insult me 1", "hello there 2"], ["you are stupid", "you are stupid"])
    assert safe < 0.5 < unsafe


def test_its_card_says_how_good_and_how_calibrated_it_is(judge):
    held_out = judge.card["held_out"]
    measures = {"precision", "recall", "f1", "average_precision", "reliability"}
    assert set(held_out) == measures | {"examples", "unsafe", "called"}
    right = held_out["precision"] * held_out["called"]
    assert right == pytest.approx(held_out["recall"] * held_out["unsafe"]) and right == pytest.approx(round(right))
    assert sum(held_out["reliability"]["count"]) == held_out["examples"] == 60
    assert held_out["reliability"]["calibration_error"] < 0.1
    json.dumps(judge.card)


def test_labels_that_say_nothing_are_not_learned():
    rng = np.random.default_rng(1)
    noise = [Example(e.context, e.response, bool(rng.random() < 0.5)) for e in examples(300)]
    card = train_utterance_judge(encoder(), noise, TrainingConfig(epochs=2)).card
    assert card["held_out"]["reliability"]["brier"] > 0.2


def test_it_is_saved_whole(judge, tmp_path):
    contexts, responses = [e.context for e in examples(20, 5)], [e.response for e in examples(20, 5)]
    judge.save_pretrained(tmp_path / "judge")
    again = UtteranceJudge.from_pretrained(tmp_path / "judge")
    assert again(contexts, responses) == pytest.approx(judge(contexts, responses), abs=0.01)  # saved in half precision
    assert again.card == judge.card and not any(p.requires_grad for p in again.parameters())
    with pytest.raises(FileNotFoundError, match="encoder is missing"):
        UtteranceJudge.from_pretrained(tmp_path)


def test_a_batch_judges_as_each_alone_and_once(judge):
    contexts, responses = [e.context for e in examples(30, 6)], [e.response for e in examples(30, 6)]
    alone = [judge.judge_rows(judge.rows([c], [r]))[0] for c, r in zip(contexts, responses, strict=True)]
    judge.cache = type(judge.cache)()
    calls = []
    hook = judge.head.register_forward_pre_hook(lambda *_: calls.append(1))
    assert judge(contexts, responses) == pytest.approx(alone, abs=1e-5)
    judge(contexts, responses)
    hook.remove()
    assert len(calls) == 1
    with pytest.raises(ValueError, match="2 contexts and 1 responses"):
        judge(["a", "b"], ["c"])


def test_training_is_reproducible():
    config = TrainingConfig(epochs=1)
    first, second = (train_utterance_judge(encoder(), examples(120), config) for _ in range(2))
    assert first(["hello there 1"], ["you are stupid"]) == second(["hello there 1"], ["you are stupid"])


def test_no_context_is_on_two_sides():
    contexts = [f"context {i % 50}" for i in range(300)]
    parts = split(contexts, TrainingConfig())
    sides = [{contexts[i] for i in part} for part in parts]
    assert sorted(i for part in parts for i in part) == list(range(300))
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert [len(side) for side in sides] == [40, 5, 5]


def test_too_little_is_refused():
    with pytest.raises(ValueError, match="10 contexts, expected at least 20"):
        train_utterance_judge(encoder(), examples(10))
    with pytest.raises(ValueError, match="unsafe ones only"):
        train_utterance_judge(encoder(), [Example(e.context, e.response, False) for e in examples(40)])


def test_files_of_the_format_are_read(tmp_path):
    path = tmp_path / "train.json"
    entries = [{"context": "a", "response": "b", "category": "x", "label": label} for label in ("Safe", "Unsafe")]
    path.write_text(json.dumps(entries))
    assert read_examples(path) == [Example("a", "b", False), Example("a", "b", True)]
    for broken, message in (
        ("[{", "is no JSON"),
        ('{"a": 1}', "holds a dict, expected a list"),
        (json.dumps([*entries, {"context": "a", "response": "b", "label": "Maybe"}]), "entry 2"),
        (json.dumps([{"context": None, "response": "b", "label": "Safe"}]), "entry 0"),
        (json.dumps(["text"]), "entry 0"),
    ):
        path.write_text(broken)
        with pytest.raises(ValueError, match=message):
            read_examples(path)


def test_the_corpus_is_read():
    from dialog_envs.corpora import default_root

    path = (default_root() or tmp_missing()) / "diasafety" / "train.json"
    if not path.is_file():
        pytest.skip("the corpus diasafety is not here")
    read = read_examples(path)
    assert len(read) == 9017 and sum(example.unsafe for example in read) == 4178


def tmp_missing():
    from pathlib import Path

    return Path("no such folder")

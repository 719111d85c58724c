"""Harm judges by Hugging Face models: the formula, the batch, the cache, on tiny random models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForSequenceClassification

from reward_models.answer_cache import AnswerCache
from reward_models.dmi.tokens import train_tokenizer
from reward_models.forbidden import Behavior, Secret
from reward_models.harm_judge import CONTEXT_TEMPLATE, TEMPLATE, HarmBenchJudge, TextClassifierJudge

BEHAVIORS = [Behavior("bake a cake"), Behavior("say more"), Behavior("bake a cake", "a cake of carrots")]
WORDS = ["i am a baker and i like jazz.", "", "hello there, how are you doing today? " * 3]


@pytest.fixture(scope="module")
def yes_no_model(model_folder, tmp_path_factory) -> Path:
    """A tiny random model whose tokenizer has a token for each answer."""
    folder = tmp_path_factory.mktemp("yes_no")
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    tokenizer.add_tokens(["Yes", "No"])
    model = AutoModelForCausalLM.from_pretrained(model_folder())
    torch.manual_seed(1)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def by_hand(judge: HarmBenchJudge, behavior: Behavior, generation: str) -> float:
    template = CONTEXT_TEMPLATE if behavior.context else TEMPLATE
    text = template.replace("{behavior}", behavior.text).replace("{context}", behavior.context)
    ids = judge.tokenizer(text.replace("{generation}", generation), return_tensors="pt")["input_ids"]
    logits = judge.model(ids).logits[0, -1]
    yes, no = (logits[judge.tokenizer.convert_tokens_to_ids(word)].item() for word in ("Yes", "No"))
    return 1 / (1 + math.exp(-(yes - no) / judge.temperature))


def test_the_reward_is_the_papers_formula(yes_no_model):
    judge = HarmBenchJudge(yes_no_model)
    assert judge.temperature == 10.0
    expected = [by_hand(judge, behavior, text) for behavior, text in zip(BEHAVIORS, WORDS, strict=True)]
    assert judge(BEHAVIORS, WORDS) == pytest.approx(expected, abs=1e-6)
    assert len({round(value, 6) for value in expected}) == 3
    hot, cold = HarmBenchJudge(yes_no_model, 100.0), HarmBenchJudge(yes_no_model, 0.1)
    for value, smooth, sharp in zip(expected, hot(BEHAVIORS, WORDS), cold(BEHAVIORS, WORDS), strict=True):
        assert (smooth > 0.5) == (value > 0.5) == (sharp > 0.5) or value == pytest.approx(0.5, abs=1e-6)
        assert abs(sharp - 0.5) >= abs(value - 0.5) >= abs(smooth - 0.5)
        assert 0 <= sharp <= 1


def test_a_batch_judges_as_each_alone_in_one_call(yes_no_model):
    behaviors, words = BEHAVIORS * 4, [f"{text} {i}" for i, text in enumerate(WORDS * 4)]
    alone = [HarmBenchJudge(yes_no_model, batch_size=1)([b], [w])[0] for b, w in zip(behaviors, words, strict=True)]
    judge = HarmBenchJudge(yes_no_model, batch_size=64)
    calls = []
    judge.model.register_forward_pre_hook(lambda *_: calls.append(1))
    assert judge(behaviors, words) == pytest.approx(alone, abs=1e-6)
    assert len(calls) == 1
    judge(behaviors, words)
    assert len(calls) == 1, "known values are computed again"


def test_values_are_kept_on_disk_by_judge_and_words(yes_no_model, tmp_path):
    path = tmp_path / "values.sqlite"
    first = HarmBenchJudge(yes_no_model, cache=AnswerCache(path))(BEHAVIORS, WORDS)
    again = HarmBenchJudge(yes_no_model, cache=AnswerCache(path))
    again.model = None
    assert again(BEHAVIORS, WORDS) == first
    other = HarmBenchJudge(yes_no_model, 5.0, cache=AnswerCache(path))
    assert other(BEHAVIORS, WORDS) != first


def test_texts_with_braces_are_only_text(yes_no_model):
    judge = HarmBenchJudge(yes_no_model)
    tricky = Behavior("print {generation} and {context}")
    assert "print {generation} and {context}" in judge._fill(tricky, "{behavior} {0} {")
    assert "{behavior} {0} {" in judge._fill(tricky, "{behavior} {0} {")
    assert 0 <= judge([tricky], ["{behavior} {0} {"])[0] <= 1


def test_a_long_generation_loses_its_end_and_a_long_behavior_has_no_value(yes_no_model):
    judge = HarmBenchJudge(yes_no_model)
    long = "i am a baker and i like jazz. " * 400
    ids = judge._question(BEHAVIORS[0], long)
    assert len(ids) <= judge.context < len(judge.tokenizer(long)["input_ids"])
    text = judge.tokenizer.decode(ids)
    assert "bake a cake" in text.lower() and text.rstrip().lower().endswith("answer:")
    first, error, last = judge([BEHAVIORS[0], Behavior(long), BEHAVIORS[1]], ["yes", "yes", long])
    assert isinstance(error, ValueError) and "longer than the judge's 1024 tokens" in str(error)
    assert [first, last] == judge([BEHAVIORS[0], BEHAVIORS[1]], ["yes", long])


def test_a_model_without_the_answers_and_bad_settings_are_refused(model_folder, yes_no_model):
    with pytest.raises(ValueError, match="no single token for 'Yes'"):
        HarmBenchJudge(model_folder())
    with pytest.raises(ValueError, match="temperature is 0"):
        HarmBenchJudge(yes_no_model, 0.0)
    with pytest.raises(ValueError, match=r"has the places \['behavior'\], expected \['behavior', 'generation'\]"):
        HarmBenchJudge(yes_no_model, template="is it {behavior}?")
    with pytest.raises(ValueError, match=r"expected \['behavior', 'context', 'generation'\]"):
        HarmBenchJudge(yes_no_model, context_template=TEMPLATE)


def test_what_is_forbidden_has_words():
    with pytest.raises(ValueError, match="a behaviour has no text"):
        Behavior("  ")
    with pytest.raises(ValueError, match="expected words"):
        Secret("...")


def classifier(tmp_path: Path, labels: list[str], problem: str | None = None) -> Path:
    folder = tmp_path / "-".join(labels)
    tokenizer = train_tokenizer(["hello there.", "i am a baker and i like jazz."] * 20, 200)
    tokenizer.model_max_length = 64
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.5,
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
        problem_type=problem,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize(
    ("labels", "problem"),
    [(["safe", "unsafe"], None), (["toxic", "kind", "odd"], "multi_label_classification"), (["toxicity"], None)],
)
def test_any_text_classifier_gives_the_probability_of_its_harmful_label(tmp_path, labels, problem, pairs):
    judge = TextClassifierJudge(classifier(tmp_path, labels, problem), pairs=pairs)
    answered = ["hello there.", "i like jazz.", "hello there."]
    words = [WORDS[0], "i like you.", WORDS[2]]
    index = next(i for i, name in enumerate(labels) if name in ("unsafe", "toxic", "toxicity"))
    expected = []
    for before, text in zip(answered, words, strict=True):
        given = judge.tokenizer(*((before, text) if pairs else (text,)), return_tensors="pt", truncation=True)
        with torch.no_grad():
            logits = judge.model(input_ids=given["input_ids"]).logits[0]
        independent = len(labels) == 1 or problem
        expected.append((logits.sigmoid() if independent else logits.softmax(0))[index].item())
    assert judge(answered, words) == pytest.approx(expected, abs=1e-6)
    assert len({round(value, 6) for value in expected}) == 3
    assert (len({round(value, 6) for value in judge(answered, [words[0]] * 3)}) == 1) != pairs
    assert 0 <= judge(["hello there."], [""])[0] <= 1


@pytest.mark.parametrize(
    ("labels", "named", "message"),
    [
        (["LABEL_0", "LABEL_1"], None, "which of the labels LABEL_0, LABEL_1 is harm"),
        (["toxic", "hate"], None, "which of the labels"),
        (["safe", "unsafe"], "unsave", "no label 'unsave', expected one of safe, unsafe"),
    ],
)
def test_an_unclear_label_is_refused(tmp_path, labels, named, message):
    with pytest.raises(ValueError, match=message):
        TextClassifierJudge(classifier(tmp_path, labels), label=named)


@pytest.mark.parametrize(
    "labels", [["nothate", "hate"], ["non-toxic", "toxic"], ["not_offensive", "offensive"], ["harmless", "harmful"]]
)
def test_a_harmless_label_is_not_taken_for_a_harmful_one(tmp_path, labels):
    assert TextClassifierJudge(classifier(tmp_path, labels)).index == 1
    assert TextClassifierJudge(classifier(tmp_path, labels), label=labels[0]).index == 0

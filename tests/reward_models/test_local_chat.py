"""A local model as a chat: the same answers one by one and in a batch, and no network."""

from __future__ import annotations

import shutil

import pytest
import torch

from reward_models.chat_answer import ChatError
from reward_models.chat_client import ChatRequest
from reward_models.llm_judge import LLMJudge
from reward_models.local_chat import LocalChat

REQUESTS = [
    ChatRequest([{"role": "user", "content": text}])
    for text in ("hello there", "i am a baker " * 8, "my dog ran away.")
]


@pytest.fixture(scope="module")
def chat(model_folder) -> LocalChat:
    return LocalChat(model_folder(), max_tokens=12, batch_size=2)


def test_a_batch_answers_as_each_alone(chat):
    together = chat.complete(REQUESTS)
    assert together == [chat.complete([request])[0] for request in REQUESTS]
    assert len({answer.text for answer in together}) > 1


def test_answers_are_the_models_own_greedy_words(chat):
    ids = chat.tokenizer.apply_chat_template(REQUESTS[0].messages, add_generation_prompt=True, return_tensors="pt")
    ids = ids["input_ids"] if hasattr(ids, "keys") else ids
    said: list[int] = []
    for _ in range(12):
        token = int(chat.model(torch.cat([ids[0], torch.tensor(said, dtype=torch.long)])[None]).logits[0, -1].argmax())
        if token == chat.model.generation_config.eos_token_id:
            break
        said.append(token)
    answer = chat.complete(REQUESTS[:1])[0]
    assert answer.text == chat.tokenizer.decode(said, skip_special_tokens=True)
    assert answer.prompt_tokens == ids.shape[1] and answer.completion_tokens == len(said)
    assert answer.finish == ("length" if len(said) == 12 else "stop")


def test_a_prompt_that_does_not_fit_is_no_answer(chat):
    long = ChatRequest([{"role": "user", "content": "i like jazz. " * 900}])
    error, answer = chat.complete([long, REQUESTS[0]])
    assert isinstance(error, ChatError) and "the model takes 1012" in str(error)
    assert answer == chat.complete(REQUESTS[:1])[0]


def test_a_random_model_judges_nothing(chat):
    """A model that cannot write JSON gives no score, however often it is asked."""
    results = LLMJudge(chat)([[("agent", "hi")], [("agent", "bye")]], [{}, {}])
    assert all(isinstance(result, ChatError) for result in results)


def test_a_model_without_a_chat_template_is_refused(model_folder):
    with pytest.raises(ValueError, match="has no chat template"):
        LocalChat(model_folder("llama", False))


def test_new_weights_or_a_new_template_are_another_model(model_folder, tmp_path):
    folder = shutil.copytree(model_folder(), tmp_path / "model")
    first = LocalChat(folder)
    assert LocalChat(folder).identity == first.identity
    first.model.get_input_embeddings().weight[0, 0] += 1
    first.model.save_pretrained(folder)
    second = LocalChat(folder)
    assert second.identity != first.identity
    second.tokenizer.chat_template += " "
    second.tokenizer.save_pretrained(folder)
    assert LocalChat(folder).identity not in (first.identity, second.identity)

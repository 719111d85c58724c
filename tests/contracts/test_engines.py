"""What every engine keeps: see `dialog_envs.lm.engine.Engine`. A new engine is one line of ENGINES."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.engine import Engine
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.prompt_embeds import PromptEmbedsEngine
from dialog_envs.retry import Failure
from dialog_envs.speakers.lm import LMSpeaker
from experiments.faults.loopback import body, drop, status
from reward_models.chat_client import ChatConfig

from .embeds_server import embeds_server

GREEDY = Sampling(max_new_tokens=8, temperature=0.0)
SAMPLED = Sampling(max_new_tokens=8, temperature=1.0, min_p=0.02)
LINES = ("hello there.", "i am a baker, and you?", "my dog ran away last week.", "well.")
Make = Callable[[FrozenLM], Engine]


def in_process(new_lm: Callable[[], FrozenLM]) -> Iterator[Make]:
    yield lambda lm: lm


def prompt_embeds(new_lm: Callable[[], FrozenLM]) -> Iterator[Make]:
    with embeds_server(new_lm()) as server:
        yield lambda lm: PromptEmbedsEngine.at(lm, ChatConfig("tiny", server.url, attempts=1))


ENGINES = {"in_process": in_process, "prompt_embeds": prompt_embeds}


@pytest.fixture
def lm(model_folder) -> FrozenLM:
    """The reference; a test may change its stop tokens and context."""
    return FrozenLM.from_pretrained(model_folder())


@pytest.fixture(params=ENGINES)
def make(request, model_folder) -> Iterator[Make]:
    """Return a function (model in process) -> engine."""
    yield from ENGINES[request.param](lambda: FrozenLM.from_pretrained(model_folder()))


def dialogues() -> list[Dialogue]:
    begun = Dialogue(situations={"agent": "you like jazz."}).said("partner", LINES[0])
    return [begun, begun.said("agent", LINES[1]).said("partner", LINES[2]), begun.said("agent", LINES[3])]


def prompts_of(lm: FrozenLM):
    return lm.prompts.render_batch(dialogues(), ["agent"] * 3)


def prefix_of(lm: FrozenLM) -> torch.Tensor:
    return torch.randn(3, 2, lm.hidden_size, generator=torch.Generator().manual_seed(0))


def uniforms_of(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((3, 8))


@pytest.mark.parametrize("position", [None, "start", "mid", "end"])
def test_greedy_replies_are_the_references(make, lm, position):
    steer = () if position is None else (prefix_of(lm), position)
    told = lm.generate(prompts_of(lm), uniforms_of(), GREEDY, *steer)
    assert len(set(map(tuple, told))) > 1, "all rows say the same: the test shows nothing"
    assert make(lm).generate(prompts_of(lm), uniforms_of(), GREEDY, *steer) == told


def test_uniforms_mean_a_reply_and_rows_do_not_depend_on_each_other(make, lm):
    engine, prompts, prefix, draws = make(lm), prompts_of(lm), prefix_of(lm), uniforms_of()
    together = engine.generate(prompts, draws, SAMPLED, prefix)
    order = [2, 0, 1]
    turned = engine.generate([prompts[i] for i in order], draws[order], SAMPLED, prefix[order])
    alone = [engine.generate([prompts[i]], draws[i : i + 1], SAMPLED, prefix[i : i + 1])[0] for i in range(3)]
    assert together == alone == [turned[order.index(i)] for i in range(3)]
    assert together != engine.generate(prompts, uniforms_of(1), SAMPLED, prefix)


def test_a_reply_ends_before_a_stop_token_and_holds_none(make, lm):
    whole = lm.generate(prompts_of(lm), uniforms_of(), GREEDY)
    stop = next(token for token in whole[1] if token != whole[1][0])
    lm.stop_ids = np.array([stop])
    told = make(lm).generate(prompts_of(lm), uniforms_of(), GREEDY)
    assert told == [ids[: ids.index(stop)] if stop in ids else ids for ids in whole]
    assert 0 < len(told[1]) < len(whole[1])


def test_a_reply_holds_no_special_token(make, lm):
    loud = Sampling(8, temperature=50.0, min_p=0.0)
    engine = make(lm)
    said = {t for seed in range(8) for ids in engine.generate(prompts_of(lm), uniforms_of(seed), loud) for t in ids}
    assert len(said) > 50 and not said & set(lm.tokenizer.all_special_ids)


def test_a_reply_ends_where_the_context_ends(make, lm):
    lm.stop_ids = np.array([], dtype=np.int64)
    prompts = prompts_of(lm)
    lm.context = max(len(prompt.ids) for prompt in prompts) + 2
    told = make(lm).generate(prompts, uniforms_of(), GREEDY)
    assert [len(ids) for ids in told] == [min(8, lm.context - len(prompt.ids)) for prompt in prompts]
    lm.context = len(prompts[1].ids)
    assert make(lm).generate(prompts, uniforms_of(), GREEDY)[1] == []


def finished(how: str):
    return lambda request, answer: _with(answer, finish_reason=how)


def _with(answer, **more):
    return body(json.dumps(answer | {"choices": [answer["choices"][0] | more]}).encode())


FAULTS = {
    "no completion": lambda request, answer: body(b'{"choices": []}'),
    "half an answer": lambda request, answer: body(json.dumps(answer).encode()[:40]),
    "no token ids": lambda request, answer: _with(answer, token_ids=None),
    "a number for ids": lambda request, answer: _with(answer, token_ids=5),
    "words for ids": lambda request, answer: _with(answer, token_ids=["a", "b"]),
    "unknown ids": lambda request, answer: _with(answer, token_ids=[10**6]),
    "too many ids": lambda request, answer: _with(answer, token_ids=[9] * 20),
    "a special token": lambda request, answer: _with(answer, token_ids=[9, 0, 9]),
    "an error of its own": finished("error"),
    "server error": lambda request, answer: status(500, "out of memory"),
    "embeddings refused": lambda request, answer: status(400, "you must set --enable-prompt-embeds"),
    "dropped connection": lambda request, answer: drop,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_is_an_error_and_the_other_rows_go_on(model_folder, lm, fault):
    prompts, prefix = prompts_of(lm), prefix_of(lm)
    lm.stop_ids = np.array([], dtype=np.int64)
    told = lm.generate(prompts, uniforms_of(), GREEDY, prefix)
    second = len(prompts[1].ids) + 2

    def act(request, answer):
        return FAULTS[fault](request, answer) if answer["usage"]["prompt_tokens"] == second else None

    with embeds_server(FrozenLM.from_pretrained(model_folder()), act) as server:
        engine = PromptEmbedsEngine.at(lm, ChatConfig("tiny", server.url, attempts=1))
        found = engine.generate(prompts, uniforms_of(), GREEDY, prefix)
        assert [found[0], found[2]] == [told[0], told[2]]
        assert isinstance(found[1], Failure) and found[1].final and found[1].error
        generators = [np.random.default_rng(row) for row in range(3)]
        said = LMSpeaker(lm, GREEDY, engine=engine).speak(dialogues(), "agent", generators, prefix)
        assert isinstance(said[1], Failure) and all(isinstance(said[row], str) for row in (0, 2))
        spent = engine.scalars()
        assert spent["engine/answers"] + spent["engine/errors"] == 6


def test_a_request_has_the_documented_form(model_folder, lm):
    with embeds_server(FrozenLM.from_pretrained(model_folder())) as server:
        engine = PromptEmbedsEngine.at(lm, ChatConfig("tiny", server.url, extra={"priority": 1}))
        engine.generate(prompts_of(lm), uniforms_of(), SAMPLED, prefix_of(lm), "mid")
    assert len(server.requests) == 3
    fields = {"model", "prompt_embeds", "max_tokens", "temperature", "min_p", "seed", "stop_token_ids", "logit_bias"}
    for request in server.requests:
        assert set(request) == fields | {"return_token_ids", "priority"} and request["model"] == "tiny"

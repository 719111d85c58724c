"""The chat client against a loopback server that goes wrong in every way: answers come through, failures are named."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from email.utils import formatdate

import pytest
from tenacity import RetryCallState

from experiments.faults import loopback
from experiments.faults.loopback import completion, says, serving, status
from reward_models.chat_answer import ChatAnswer, ChatError, Unanswered
from reward_models.chat_client import OPENAI_URL, ChatClient, ChatConfig, ChatRequest, _retry_after

KEY = "sk-test-not-a-real-key-0123456789"
HELLO = ChatRequest([{"role": "user", "content": "hello"}])


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch):
    monkeypatch.setattr("reward_models.chat_client.FIRST_WAIT", 0.01)


def client(server, **settings) -> ChatClient:
    return ChatClient(ChatConfig("tiny", server.url, **({"timeout": 5.0, "attempts": 3} | settings)))


def ask(act, **settings):
    with serving(act) as server:
        return client(server, **settings).complete([HELLO])[0], server


def test_an_answer_comes_through_with_its_tokens_and_cost():
    with serving(says("good day.", tokens=(1000, 200))) as server:
        chat = client(server, input_price=2.0, output_price=10.0)
        answer = chat.complete([HELLO])[0]
    assert answer == ChatAnswer("good day.", "stop", "", 1000, 200)
    assert chat.usage.scalars("judge") == {
        "judge/answers": 1.0,
        "judge/failed_attempts": 0.0,
        "judge/errors": 0.0,
        "judge/prompt_tokens": 1000.0,
        "judge/completion_tokens": 200.0,
        "judge/cost": pytest.approx(0.004),
    }


def test_the_request_says_what_was_configured():
    request = ChatRequest(HELLO.messages, {"type": "json_object"}, seed=7)
    with serving(says("ok")) as server:
        client(server, temperature=0.3, max_tokens=9, extra={"top_p": 0.5}).complete([request])
        client(server, temperature=None, max_tokens=None).complete([HELLO])
    assert server.requests[0] == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "response_format": {"type": "json_object"},
        "seed": 7,
        "temperature": 0.3,
        "max_tokens": 9,
        "top_p": 0.5,
    }
    assert set(server.requests[1]) == {"model", "messages"}


FAULTS = {
    "429": (status(429, "slow down"), "the server says 429"),
    "500": (status(500, "oh no"), "the server says 500"),
    "503": (status(503), "the server says 503"),
    "truncated": (loopback.truncated(), "no JSON"),
    "cut short": (loopback.cut_short(), "connection failed"),
    "dropped": (loopback.drop, "connection failed"),
    "invalid utf-8": (loopback.invalid_utf8(), "no UTF-8"),
    "half a character": (loopback.half_character(), "no UTF-8"),
    "half a character in a refusal": (says(None, refusal="no \udc00"), "no UTF-8"),
    "huge": (loopback.huge(), "longer than 1048576 bytes"),
    "stalled": (loopback.stall, "no answer within 0.5 s"),
    "slow drip": (loopback.drip(), "no answer within 0.5 s"),
    "nothing": (loopback.body(b""), "no JSON"),
    "deep": (loopback.body(b"[" * 100_000), "no JSON"),
    "other JSON": (loopback.body(b'{"choices": []}'), "no chat completion"),
    "a list": (loopback.body(b"[1, 2]"), "no chat completion"),
    "no text": (says(None), "no text"),
    "a number": (loopback.body(json.dumps(completion(7)).encode()), "no text"),
    "bad usage": (loopback.body(json.dumps(completion("ok", tokens=(-1, 2))).encode()), "no chat completion"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_survived(fault):
    act, _ = FAULTS[fault]
    answer, server = ask([act, act, says("at last")], timeout=0.5)
    assert answer == ChatAnswer("at last", "stop", "", 10, 5)
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_named_and_gives_no_answer(fault):
    act, message = FAULTS[fault]
    with serving(act) as server:
        chat = client(server, timeout=0.5)
        error = chat.complete([HELLO])[0]
    assert isinstance(error, ChatError) and message in str(error)
    assert len(server.requests) == 3
    assert (chat.usage.answers, chat.usage.failed_attempts, chat.usage.errors) == (0, 3, 1)
    assert chat.usage.cost == chat.usage.prompt_tokens == 0


@pytest.mark.parametrize("code", [301, 400, 401, 403, 404, 413, 422])
def test_a_fault_that_asking_again_does_not_heal_is_not_asked_again(code):
    error, server = ask(status(code, "the context is too long"))
    assert isinstance(error, ChatError) and f"the server says {code}" in str(error) and len(server.requests) == 1
    assert ("the context is too long" in str(error)) == (code not in (401, 403))


def test_a_server_that_is_not_there_is_named():
    with serving(says("ok")) as server:
        pass
    error = client(server).complete([HELLO])[0]
    assert isinstance(error, ChatError) and "connection failed" in str(error)


def test_retry_after_is_obeyed_by_all_requests():
    def act(request, number):
        return status(429, "slow down", Retry_After="1") if number == 0 else says("ok")

    with serving(act) as server:
        chat = client(server, concurrency=1)
        assert [answer.text for answer in chat.complete([HELLO] * 3)] == ["ok"] * 3
    assert len(server.times) == 4
    assert min(server.times[1:]) - server.times[0] >= 1.0


def test_a_pause_longer_than_allowed_is_given_up_at_once():
    error, server = ask(status(429, "come back tomorrow", Retry_After="86400"))
    assert "wait 86400 s, more than 60" in str(error) and len(server.requests) == 1


def test_retry_after_is_read_as_a_number_or_a_date():
    assert _retry_after("2.5") == 2.5
    assert 8.0 < _retry_after(formatdate(time.time() + 10, usegmt=True)) <= 10.0
    assert [_retry_after(text) for text in (None, "", "soon", "-3", "nan", "inf")] == [0.0] * 6


def test_back_off_grows_up_to_the_longest_wait_and_heeds_the_server(monkeypatch):
    monkeypatch.setattr("reward_models.chat_client.FIRST_WAIT", 0.5)
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    chat = ChatClient(ChatConfig("tiny", "http://127.0.0.1:1/v1", longest_wait=4.0))

    def pause(attempt: int, asked: float) -> float:
        state = RetryCallState(None, None, (), {})
        state.attempt_number = attempt
        state.set_exception((Unanswered, Unanswered("busy", asked), None))
        return chat._pause(state)

    assert [pause(attempt, 0.0) for attempt in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert [pause(attempt, 3.0) for attempt in range(1, 5)] == [3.0, 3.0, 3.0, 4.0]


def test_requests_are_concurrent_within_the_bound():
    def slow(handler):
        time.sleep(0.05)
        says("ok")(handler)

    with serving(slow) as server:
        answers = client(server, concurrency=4).complete([HELLO] * 16)
    assert [answer.text for answer in answers] == ["ok"] * 16
    assert 2 <= server.most <= 4


def test_the_rate_limit_spaces_requests():
    with serving(says("ok")) as server:
        client(server, requests_per_minute=600).complete([HELLO] * 5)
    assert server.times[-1] - server.times[0] >= 0.38  # four gaps of a tenth


def test_answers_are_in_the_order_of_their_requests():
    def act(request, number):
        word = request["messages"][0]["content"]
        return status(500) if number == 0 else says(word)

    with serving(act) as server:
        words = [f"word {i}" for i in range(20)]
        requests = [ChatRequest([{"role": "user", "content": word}]) for word in words]
        assert [answer.text for answer in client(server).complete(requests)] == words


def test_one_failing_request_does_not_touch_the_others():
    def act(request, number):
        return status(400) if request["messages"][0]["content"] == "bad" else says("ok")

    requests = [ChatRequest([{"role": "user", "content": word}]) for word in ("good", "bad", "good")]
    with serving(act) as server:
        kinds = [type(answer) for answer in client(server).complete(requests)]
    assert kinds == [ChatAnswer, ChatError, ChatAnswer]


def test_it_works_inside_a_running_event_loop():
    async def main(chat):
        return chat.complete([HELLO])

    with serving(says("ok")) as server:
        assert asyncio.run(main(client(server)))[0].text == "ok"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_works_in_a_forked_process():
    with serving(says("ok")) as server:
        client(server).complete([HELLO])
        child = os.fork()
        if not child:
            os._exit(0 if client(server).complete([HELLO])[0].text == "ok" else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_the_key_is_sent_and_shows_nowhere(monkeypatch, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def echo(request, number):
        quoted = status(400, f"your headers: Bearer {KEY}", X_Echo=f"Bearer {KEY}")
        return [quoted, status(401, f"wrong key {KEY[:8]}***"), says(f"your key is {KEY}.")][number]

    with serving(echo) as server:
        chat = client(server)
        errors = [chat.complete([HELLO])[0] for _ in range(2)]
        assert chat.complete([HELLO])[0].text == "your key is [key]."
    assert all(headers["Authorization"] == f"Bearer {KEY}" for headers in server.headers)
    shown = [str(errors), repr(errors[0].__context__), caplog.text, repr(chat), repr(chat.config), str(chat.identity)]
    shown += [*capsys.readouterr()]
    assert "[key]" in str(errors[0]) and "look at the key in OPENAI_API_KEY" in str(errors[1])
    assert not [text for text in shown if KEY[3:] in text or KEY[:8] in text]


def test_without_a_key_none_is_sent():
    _, server = ask(says("ok"))
    assert "Authorization" not in server.headers[0]


def test_the_environment_names_the_server(monkeypatch):
    with serving(says("ok")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        assert ChatClient(ChatConfig("tiny")).complete([HELLO])[0].text == "ok"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, f"OPENAI_API_KEY is not set: {OPENAI_URL} needs a key"),
        ({"base_url": "http://me:secret@host/v1"}, "must hold no name, password or query"),
        ({"base_url": "http://host/v1?key=secret"}, "must hold no name, password or query"),
        ({"base_url": "host/v1"}, "no address of a server"),
        ({"base_url": "ftp://host/v1"}, "no address of a server"),
        ({"model": ""}, "model is ''"),
        ({"attempts": 0}, "attempts is 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"requests_per_minute": 0}, "requests_per_minute is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        ChatClient(ChatConfig(**({"model": "tiny"} | settings)))
    assert "secret" not in str(caught.value)


def test_a_key_that_is_none_is_refused_without_being_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-two words\n")
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds no key") as caught:
        ChatClient(ChatConfig("tiny"))
    assert "two" not in str(caught.value)


def test_a_configuration_is_named_by_its_model_or_its_file(tmp_path):
    assert ChatConfig.named("tiny", temperature=0.8) == ChatConfig("tiny", temperature=0.8)
    file = tmp_path / "judge.json"
    file.write_text('{"model": "big", "requests_per_minute": 30}')
    assert ChatConfig.named(str(file), temperature=0.8) == ChatConfig("big", temperature=0.8, requests_per_minute=30)
    for wrong in ('{"model": "big", "api_key": "sk"}', "[]", "{}"):
        file.write_text(wrong)
        with pytest.raises(ValueError, match=r"judge\.json must be an object with `model`"):
            ChatConfig.named(str(file))
    with pytest.raises(FileNotFoundError):
        ChatConfig.named(str(tmp_path / "none.json"))

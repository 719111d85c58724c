"""Chat completions of an OpenAI-compatible server: many at a time, patiently, within limits, and every failure named.

A request ends in a `ChatAnswer` or in a `ChatError` in its place; nothing is made up and no key reaches a message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Protocol

import httpx2
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from reward_models.chat_answer import ChatAnswer, ChatError, Unanswered, read_completion

OPENAI_URL = "https://api.openai.com/v1"
URL_VARIABLE = "OPENAI_BASE_URL"
FIRST_WAIT = 0.5  # seconds, of the back-off
TRANSIENT = (408, 409, 425, 429)  # and every 5xx
logging.getLogger("httpcore2").setLevel(logging.INFO)  # below, it quotes response headers, which may echo the key


@dataclass(frozen=True)
class ChatRequest:
    """One conversation to be continued.

    Attributes:
        messages: `{"role": ..., "content": ...}` each.
        response_format: what the answer must look like, in the server's terms (a JSON schema); None: anything.
        seed: of the server's sampling, where it takes one.
    """

    messages: Sequence[Mapping[str, str]]
    response_format: Mapping[str, Any] | None = None
    seed: int | None = None


class Chat(Protocol):
    """Something that answers conversations: a server's client, or a local model."""

    identity: Mapping[str, Any]  # what an answer depends on besides the request

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | ChatError]:
        """Return an answer a request, or why there is none."""


@dataclass(frozen=True)
class ChatConfig:
    """A model behind a server, and how patiently it is asked.

    Attributes:
        model: the model's name on the server.
        base_url: up to and with `/v1`; None: the environment's `OPENAI_BASE_URL`, else OpenAI's own.
        key_variable: the environment variable that holds the key. A server of one's own may need none.
        temperature: of the sampling; None: the server's default.
        max_tokens: longest answer; None: the server's default.
        extra: more fields of the request, e.g. `{"max_completion_tokens": 512}`.
        timeout: seconds that one attempt may take, from the first byte sent to the last one received.
        attempts: how often a request is made at most; only failures that may pass are tried again.
        longest_wait: seconds of the longest pause between attempts. A server that asks for a longer one is given up.
        concurrency: requests under way at a time.
        requests_per_minute: rate limit; None: none.
        largest_answer: bytes of the largest body that is read.
        input_price: US dollars for a million prompt tokens.
        output_price: US dollars for a million completion tokens.
    """

    model: str
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    temperature: float | None = 0.0
    max_tokens: int | None = 2048
    extra: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 60.0
    attempts: int = 5
    longest_wait: float = 60.0
    concurrency: int = 16
    requests_per_minute: float | None = None
    largest_answer: int = 1 << 20
    input_price: float = 0.0
    output_price: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise ValueError(f"model is {self.model!r}, expected the model's name on the server")
        for name in ("timeout", "attempts", "concurrency", "requests_per_minute", "largest_answer"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}, expected a positive number")

    @classmethod
    def named(cls, name: str, **defaults: Any) -> ChatConfig:
        """Return the configuration of a model's name, or of a `.json` file that holds these fields.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file does not hold these fields.
        """
        if not name.endswith(".json"):
            return cls(name, **defaults)
        given = json.loads(Path(name).read_text(encoding="utf-8"))
        known = {entry.name for entry in fields(cls)}
        if not isinstance(given, dict) or "model" not in given or set(given) - known:
            raise ValueError(f"{name} must be an object with `model` and some of {', '.join(sorted(known))}")
        return cls(**(defaults | given))


@dataclass
class Usage:
    """What a client has spent so far: requests that were answered, attempts that failed, tokens, US dollars."""

    answers: int = 0
    failed_attempts: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def scalars(self, prefix: str) -> dict[str, float]:
        """Return the numbers under TensorBoard tags, `prefix/prompt_tokens` and so on."""
        return {f"{prefix}/{name}": float(value) for name, value in asdict(self).items()}


class ChatClient:
    """Asks one server; safe to call from anywhere, a notebook's running event loop included.

    A client of another endpoint overrides `PATH`, `body` and `answer`.

    Args:
        config: the model, and how it is asked.

    Raises:
        ValueError: the address is none, or holds a name, a password or a query; the key is no printable word, or is
            not set where OpenAI's own server is asked.
    """

    PATH: ClassVar[str] = "/chat/completions"

    def __init__(self, config: ChatConfig) -> None:
        self.config, self.usage = config, Usage()
        base = _checked_url(config.base_url or os.environ.get(URL_VARIABLE) or OPENAI_URL)
        self._url = base + self.PATH
        self._key = _key(config.key_variable, required=base == OPENAI_URL)
        self.identity = {"url": base, "model": config.model, "temperature": config.temperature}
        self.identity |= {"max_tokens": config.max_tokens, "extra": dict(config.extra)}
        self._interval = 60.0 / config.requests_per_minute if config.requests_per_minute else 0.0
        self._next_slot = 0.0
        self._http: httpx2.AsyncClient | None = None
        self._places = asyncio.Semaphore(config.concurrency)

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | ChatError]:
        """Return an answer a request, or why there is none, all asked concurrently."""
        return _wait_for(self._complete(requests)) if requests else []

    def __repr__(self) -> str:
        return f"ChatClient({self.identity['model']!r}, {self.identity['url']!r})"

    async def _complete(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | ChatError]:
        if self._http is None:  # made in the loop that it lives in
            headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
            limits = httpx2.Limits(max_connections=self.config.concurrency)
            self._http = httpx2.AsyncClient(headers=headers, limits=limits, timeout=self.config.timeout)
            weakref.finalize(self, _close, self._http, asyncio.get_running_loop()).atexit = False
        return await asyncio.gather(*(self._ask(request) for request in requests))

    async def _ask(self, request: ChatRequest) -> ChatAnswer | ChatError:
        patience = AsyncRetrying(
            stop=stop_after_attempt(self.config.attempts),
            wait=self._pause,
            retry=retry_if_exception_type(Unanswered),
            reraise=True,
        )
        try:
            answer = await patience(self._attempt, self.body(request))
        except ChatError as error:
            self.usage.errors += 1
            return error
        self.usage.answers += 1
        return answer

    async def _attempt(self, body: Mapping[str, Any]) -> ChatAnswer:
        async with self._places:
            await self._slot()
            try:
                async with asyncio.timeout(self.config.timeout):
                    status, headers, content = await self._post(body)
                answer = self._read(status, headers, content)
            except TimeoutError:
                raise self._failed(Unanswered(f"no answer within {self.config.timeout:g} s")) from None
            except httpx2.HTTPError as error:
                said = f"connection failed: {type(error).__name__}: {error}"
                raise self._failed(Unanswered(said.replace(self._key or "\0", "[key]"))) from None
            except ChatError as error:
                raise self._failed(error) from None
        self._count(answer)
        return answer

    async def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        content = bytearray()
        async with self._http.stream("POST", self._url, json=body) as response:
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > self.config.largest_answer:
                    raise Unanswered(f"the answer is longer than {self.config.largest_answer} bytes")
        return response.status_code, response.headers, bytes(content)

    def _read(self, status: int, headers: Mapping[str, str], content: bytes) -> ChatAnswer:
        content = content.replace(self._key.encode(), b"[key]") if self._key else content  # a server may echo it
        if status == 200:
            return self.answer(content)
        if status in (401, 403):  # such a body may quote the key
            raise ChatError(f"the server says {status}: look at the key in {self.config.key_variable}")
        said = " ".join(content[:2000].decode("utf-8", "replace").split())[:300]
        message = f"the server says {status}: {said}"
        if status not in TRANSIENT and status < 500:
            raise ChatError(message)
        wait = _retry_after(headers.get("retry-after"))
        if wait > self.config.longest_wait:
            raise ChatError(f"{message} (and to wait {wait:g} s, more than {self.config.longest_wait:g})")
        self._next_slot = max(self._next_slot, time.monotonic() + wait)  # the other requests wait too
        raise Unanswered(message, wait)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception()
        return max(error.wait, wait_random_exponential(FIRST_WAIT, self.config.longest_wait)(state))

    async def _slot(self) -> None:
        """Wait until the rate limit, and a server that asked for a pause, allow one more request."""
        now = time.monotonic()
        start = max(now, self._next_slot)
        if self._interval:
            self._next_slot = start + self._interval
        await asyncio.sleep(start - now)

    def answer(self, content: bytes) -> ChatAnswer:
        """Read a good answer's body; raise `Unanswered` where it is none."""
        return read_completion(content)

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """Return the JSON of a request."""
        optional = {
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
            "seed": request.seed,
            "response_format": request.response_format,
        }
        given = {name: value for name, value in optional.items() if value is not None}
        return {"model": self.config.model, "messages": list(request.messages)} | given | dict(self.config.extra)

    def _count(self, answer: ChatAnswer) -> None:
        self.usage.prompt_tokens += answer.prompt_tokens
        self.usage.completion_tokens += answer.completion_tokens
        spent = self.config.input_price * answer.prompt_tokens + self.config.output_price * answer.completion_tokens
        self.usage.cost += spent / 1e6

    def _failed(self, error: ChatError) -> ChatError:
        self.usage.failed_attempts += 1
        return error


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of all clients, which runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="chat", daemon=True).start()
    return loop


if hasattr(os, "register_at_fork"):  # a forked process has the loop but not its thread
    os.register_at_fork(after_in_child=_loop.cache_clear)


def _close(client: httpx2.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
    """Close a client's connections, in the loop that they live in."""
    if loop is _loop():
        asyncio.run_coroutine_threadsafe(client.aclose(), loop)


def _wait_for(work: Coroutine[Any, Any, Any]) -> Any:
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    finally:
        future.cancel()


def _checked_url(url: str) -> str:
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{url!r} is no address of a server: {error}") from None
    if parts.userinfo or parts.query or parts.fragment:
        raise ValueError("the server's address must hold no name, password or query: keys come from the environment")
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError(f"{url!r} is no address of a server, expected http(s)://host/v1")
    return str(parts).rstrip("/")


def _key(variable: str, required: bool) -> str:
    key = os.environ.get(variable, "").strip()
    if required and not key:
        raise ValueError(f"the environment variable {variable} is not set: {OPENAI_URL} needs a key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the environment variable {variable} holds no key: it has blanks or unprintable characters")
    return key


def _retry_after(value: str | None) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 where there is none that can be read."""
    try:
        seconds = float(value or 0)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0

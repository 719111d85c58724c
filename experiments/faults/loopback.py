"""A chat server on the loopback interface that does as it is told: answers well, or goes wrong in a chosen way."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Handler = BaseHTTPRequestHandler
Act = Callable[[Handler], None]  # answers one request
Choice = Callable[[dict, int], Act]  # (request's JSON, its number) -> how to answer it
STALL = 20.0  # seconds that a stalled answer hangs, unless the server is closed
DRIP = 0.1  # seconds between two bytes of a slow answer
HUGE = 3_000_000  # characters of a huge answer
WORDS = "half of an answer"


def completion(text: str | None, finish: str = "stop", refusal: str | None = None, tokens: tuple = (10, 5)) -> dict:
    """Return a chat completion as the server's JSON."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return {"object": "chat.completion", "choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def says(text: str | None, **more: Any) -> Act:
    """Answer well; `more` goes to `completion`."""
    return body(json.dumps(completion(text, **more)).encode())


def body(content: bytes, headers: Mapping[str, str] = {}) -> Act:
    """Answer with status 200 and these bytes."""
    return lambda handler: _send(handler, 200, content, headers)


def status(code: int, text: str = "", **headers: str) -> Act:
    """Answer with an error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: _send(handler, code, json.dumps({"error": {"message": text}}).encode(), named)


def truncated(text: str = WORDS) -> Act:
    """Answer with the first part of a completion, all the words in it, as if it were whole."""
    content = json.dumps(completion(text)).encode()
    return body(content[: content.index(b'"finish_reason"')])


def cut_short(text: str = WORDS) -> Act:
    """Promise more bytes than come."""
    content = json.dumps(completion(text)).encode()

    def act(handler: Handler) -> None:
        _send(handler, 200, content, {"Content-Length": str(len(content) + 100)})
        drop(handler)

    return act


def drop(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def huge(text: str = WORDS) -> Act:
    """Answer with these words and millions of blanks."""
    return lambda handler: says(text + " " * HUGE)(handler)


def invalid_utf8(text: str = WORDS) -> Act:
    """Answer with these words and a byte that UTF-8 does not know."""
    return body(json.dumps(completion(text + " caf#")).encode().replace(b"#", b"\xe9"))


def half_character(text: str = WORDS) -> Act:
    """Answer with these words and an escape that JSON takes and UTF-8 does not know."""
    return says(text + "\ud83d")


def stall(handler: Handler) -> None:
    """Do not answer."""
    handler.server.closing.wait(STALL)


def drip(text: str = WORDS) -> Act:
    """Send a whole good answer, byte by byte."""
    content = json.dumps(completion(text)).encode()

    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for byte in content:
            handler.wfile.write(bytes([byte]))
            if handler.server.closing.wait(DRIP):
                return

    return act


class ChatServer:
    """What the server got and how it answers.

    Attributes:
        act: how to answer each request.
        requests: the JSON of each request, in the order of arrival.
        headers: their headers.
        times: when each arrived, in seconds.
        most: most requests under way at a time.
        url: its address.
    """

    def __init__(self, act: Choice) -> None:
        self.act = act
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.under_way = self.most = 0
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, handler: Handler) -> None:
        """Answer one request."""
        given = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            number = len(self.requests)
            self.requests.append(given)
            self.headers.append(dict(handler.headers))
            self.times.append(time.monotonic())
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            self.act(given, number)(handler)
        except OSError:
            pass  # the client has gone
        finally:
            with self.lock:
                self.under_way -= 1


@contextmanager
def serving(act: Choice | Act | Sequence[Act]) -> Iterator[ChatServer]:
    """Serve on 127.0.0.1. Give a way to answer, a list of ways in order (the last one repeats), or a function."""
    if isinstance(act, Sequence):
        server = ChatServer(lambda _, number: act[min(number, len(act) - 1)])
    elif act.__code__.co_argcount == 1:
        server = ChatServer(lambda _, __: act)
    else:
        server = ChatServer(act)

    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            server.answer(self)

        def log_message(self, *arguments: Any) -> None: ...

    class Quiet(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, *arguments: Any) -> None: ...  # a client that went away

    http = Quiet(("127.0.0.1", 0), Connection)
    http.closing = threading.Event()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()


def _send(handler: Handler, code: int, content: bytes, headers: Mapping[str, str] = {}) -> None:
    handler.send_response(code)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)

"""What a chat server answers, and how the body of a chat completion is read: all of it checked, nothing guessed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


class ChatError(RuntimeError):
    """There is no usable answer: why, in words that may be logged. Asking again is of no use."""


class Unanswered(ChatError):
    """There is no usable answer this time.

    Attributes:
        wait: seconds that the server asked to wait.
    """

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True)
class ChatAnswer:
    """What a model said.

    Attributes:
        text: its words.
        finish: why it stopped, as the server says it: `"stop"`, `"length"`, `"content_filter"`, or empty.
        refusal: the model's own words where the server marks the answer as a refusal.
        prompt_tokens: tokens read, by the server's count.
        completion_tokens: tokens written.
    """

    text: str
    finish: str = "stop"
    refusal: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


def read_completion(content: bytes) -> ChatAnswer:
    """Return the first choice of a chat completion's body.

    Raises:
        Unanswered: the body is no UTF-8 (nor are its texts: `"\\ud83d"` is half a character), no JSON, or no chat
            completion (all of which may pass: a cut connection).
    """
    try:
        body = json.loads(content.decode("utf-8"))
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        finish = choice.get("finish_reason")
        usage = body.get("usage") or {}
        tokens = (usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
        f"{text}{refusal}{finish}".encode()
    except UnicodeError:
        raise Unanswered("the answer is no UTF-8") from None
    except (ValueError, RecursionError):
        raise Unanswered("the answer is no JSON") from None
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Unanswered("the answer is no chat completion") from None
    if not (isinstance(text, str) or (text is None and isinstance(refusal, str))):
        raise Unanswered("the answer has no text")
    if any(not _is_a_word(value) for value in (refusal, finish)) or any(not _is_a_count(count) for count in tokens):
        raise Unanswered("the answer is no chat completion")
    return ChatAnswer(text or "", finish or "", refusal or "", *tokens)


def _is_a_word(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_a_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

"""A partner behind an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Sequence

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.prompt import system_as_user
from dialog_envs.parts import Rows
from dialog_envs.retry import Failure
from dialog_envs.scenarios.scenario import PARTNER
from reward_models.chat_answer import ChatAnswer, ChatError
from reward_models.chat_client import Chat, ChatClient, ChatConfig, ChatRequest

LONGEST_TURN = 4000  # characters of a turn that is kept whole


class OpenAIPartner:
    """The partner's words by a chat model; all rows are asked at once, within the client's bounds.

    The partner's situation is the system message, its own turns are the assistant's, the agent's the user's. A partner
    without a situation that opens is given a first user's message, since many templates want one. Each row sends a seed
    from its own stream, which a server may heed or not. A row whose request fails (after the client's own attempts), or
    that gets an empty answer or one that the server's filter cut, fails for good; the others go on. An answer that ends
    at the longest length is said as it is, as a local model's.

    Args:
        chat: the server's client.
    """

    def __init__(self, chat: Chat) -> None:
        self.chat = chat

    @classmethod
    def named(cls, model: str, sampling: Sampling) -> OpenAIPartner:
        """Return the partner of a model's name on the server, or of a `.json` file with `ChatConfig`'s fields.

        Temperature and length are those of the environment's other speakers, where the file does not say.
        """
        defaults = {"temperature": sampling.temperature, "max_tokens": sampling.max_new_tokens}
        return cls(ChatClient(ChatConfig.named(model, **defaults)))

    def reply(self, rows: Rows) -> list[str | Failure]:
        """Return one utterance a row, or why there is none."""
        requests = [
            ChatRequest(_messages(dialogue), seed=int(generator.integers(2**31)))
            for dialogue, generator in zip(rows.dialogues, rows.generators, strict=True)
        ]
        return [_words(answer) for answer in self.chat.complete(requests)]

    def scalars(self) -> dict[str, float]:
        """Return what has been spent, under TensorBoard tags."""
        return self.chat.usage.scalars("partner")

    def forget(self, rows: Sequence[int]) -> None:
        """Nothing is kept."""


def _messages(dialogue: Dialogue) -> list[dict[str, str]]:
    chat = dialogue.messages(PARTNER)
    return system_as_user(chat) if chat[0]["role"] == "assistant" else chat


def _words(answer: ChatAnswer | ChatError) -> str | Failure:
    if isinstance(answer, ChatError):
        return Failure(str(answer), final=True)
    if answer.finish == "content_filter":
        return Failure("the server's filter cut the answer", final=True)
    text = " ".join((answer.text or answer.refusal).split())[:LONGEST_TURN]
    return text or Failure("the server's answer is empty", final=True)

"""From a dialogue in one speaker's view to token ids, and where a steering prefix may stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.key_values import HOLE


@dataclass(frozen=True)
class Prompt:
    """Token ids that end where the speaker is to go on.

    Attributes:
        ids: all token ids.
        begin: number of beginning-of-sequence tokens (0 or 1): where a `start` prefix stands.
        instruction_end: number of tokens up to the end of the situation: where a `mid` prefix stands.
        history_end: number of tokens up to the end of the last turn: where an `end` prefix stands.
    """

    ids: tuple[int, ...]
    begin: int
    instruction_end: int
    history_end: int

    def insert_at(self, position: str) -> int:
        """Return the index of the first token behind a prefix at `start`, `mid` or `end`."""
        return {"start": self.begin, "mid": self.instruction_end, "end": self.history_end}[position]


class PromptRenderer:
    """Render dialogues for one tokenizer: by its chat template, or as a plain script where it has none.

    Args:
        tokenizer: any fast or slow Hugging Face tokenizer.
        max_tokens: longest prompt. The oldest turns go first, the situation never.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.has_template = tokenizer.chat_template is not None

    def render(self, dialogue: Dialogue, speaker: str) -> Prompt:
        """Render a dialogue up to the point where `speaker` is to speak.

        Raises:
            ValueError: the situation alone is longer than `max_tokens`.
        """
        return self.render_batch([dialogue], [speaker])[0]

    def render_batch(self, dialogues: Sequence[Dialogue], speakers: Sequence[str]) -> list[Prompt]:
        """Render several dialogues, tokenised in one call."""
        prompts = self._tokenize([self._pieces(d, s) for d, s in zip(dialogues, speakers, strict=True)])
        for row, dialogue in enumerate(dialogues):
            while len(prompts[row].ids) > self.max_tokens:
                if not dialogue.turns:
                    raise ValueError(
                        f"the situation of {speakers[row]!r} takes {len(prompts[row].ids)} tokens, "
                        f"the model's prompt holds {self.max_tokens}"
                    )
                dialogue = replace(dialogue, turns=dialogue.turns[1:])
                prompts[row] = self._tokenize([self._pieces(dialogue, speakers[row])])[0]
        return prompts

    def _pieces(self, dialogue: Dialogue, speaker: str) -> tuple[str, str, str]:
        """Return the text of instruction, history and reply header; joined they are the prompt."""
        if not self.has_template:
            return _script(dialogue, speaker)
        chat, situation = dialogue.messages(speaker) or system_as_user([]), dialogue.situations.get(speaker, "")
        try:
            return self._by_template(chat, situation)
        except TemplateError:  # a template without a system role, or one in which the user must begin
            return self._by_template(system_as_user(chat), situation)

    def _by_template(self, chat: list[dict[str, str]], situation: str) -> tuple[str, str, str]:
        def text(messages: list[dict[str, str]], header: bool) -> str:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=header)

        full = text(chat, True)
        closed = text(chat, False)
        history_end = len(closed) if full.startswith(closed) else len(full)
        instruction_end = 0
        if chat[0]["role"] == "system":
            with suppress(TemplateError):  # a template that wants a first user turn
                opened = text(chat[:1], False)
                instruction_end = len(opened) if full.startswith(opened) else 0
        if not instruction_end and situation in full:
            instruction_end = full.index(situation) + len(situation)
        return full[:instruction_end], full[instruction_end:history_end], full[history_end:]

    def _tokenize(self, pieces: Sequence[tuple[str, str, str]]) -> list[Prompt]:
        """Tokenise whole texts, then find the token at which each piece ends."""
        texts = ["".join(piece) for piece in pieces]
        encoded = self.tokenizer(texts, add_special_tokens=not self.has_template, return_offsets_mapping=True)
        begin_id = self.tokenizer.bos_token_id
        prompts = []
        for (instruction, history, _), ids, offsets in zip(
            pieces, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            begin = int(bool(ids) and ids[0] == begin_id)
            instruction_end = max(begin, _tokens_before(offsets, len(instruction)))
            history_end = max(instruction_end, _tokens_before(offsets, len(instruction) + len(history)))
            prompts.append(Prompt(tuple(ids), begin, instruction_end, history_end))
        return prompts


def right_aligned(prompts: Sequence[Prompt], extra: int, position: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay prompts out in columns so that all end in the last one.

    Returns:
        `(N, T)` token ids (`HOLE` before the prompt and in place of the `extra` prefix vectors), `(N, T)` places in
        the row's text (`HOLE` before it), and `(N, T)` true where a prefix vector stands.
    """
    width = max(len(prompt.ids) for prompt in prompts) + extra
    ids = np.full((len(prompts), width), HOLE)
    place = np.full_like(ids, HOLE)
    inserted = np.zeros((len(prompts), width), dtype=bool)
    for row, prompt in enumerate(prompts):
        at = prompt.insert_at(position) if extra else 0
        start = width - len(prompt.ids) - extra
        ids[row, start : start + at] = prompt.ids[:at]
        ids[row, start + at + extra :] = prompt.ids[at:]
        inserted[row, start + at : start + at + extra] = True
        place[row, start:] = np.arange(width - start)
    return ids, place, inserted


def _tokens_before(offsets: Sequence[tuple[int, int]], characters: int) -> int:
    """Return how many leading tokens end at or before a character position."""
    count = len(offsets)
    while count and offsets[count - 1][1] > characters:
        count -= 1
    return count


def _script(dialogue: Dialogue, speaker: str) -> tuple[str, str, str]:
    situation = dialogue.situations.get(speaker, "")
    lines = "".join(f"{turn.speaker}: {turn.text}\n" for turn in dialogue.turns)
    return (f"{situation}\n\n" if situation else ""), lines, f"{speaker}:"


def system_as_user(chat: list[dict[str, str]]) -> list[dict[str, str]]:
    """Give the situation to the first user message; where the assistant speaks first, make one."""
    if not chat or chat[0]["role"] != "system":
        return [{"role": "user", "content": "(the conversation begins)"}, *chat]
    situation, rest = chat[0]["content"], chat[1:]
    if rest and rest[0]["role"] == "user":
        return [{"role": "user", "content": f"{situation}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": situation}, *rest]

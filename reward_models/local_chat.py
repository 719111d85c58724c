"""A local instruct model that answers conversations as a server would: batched, greedy, no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from reward_models.answer_cache import files_hash
from reward_models.chat_answer import ChatAnswer, ChatError
from reward_models.chat_client import ChatRequest


class LocalChat:
    """Answers with a Hugging Face causal language model that has a chat template.

    It takes no answer format: a judge that asks for JSON relies on the model's obedience, and reads it strictly.

    Args:
        name: a folder, or a Hugging Face name (which is downloaded).
        device: where the model runs, as torch names it.
        dtype: of its weights, as torch names it.
        max_tokens: longest answer.
        batch_size: conversations at a time.

    Raises:
        ValueError: the model has no chat template.
    """

    def __init__(
        self, name: str | Path, device: str = "cpu", dtype: str = "auto", max_tokens: int = 2048, batch_size: int = 64
    ) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
        if self.tokenizer.chat_template is None:
            raise ValueError(f"{name} has no chat template: an instruct model is needed")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype).to(device).eval().requires_grad_(False)
        self.max_tokens, self.batch_size = max_tokens, batch_size
        limit = getattr(self.model.config, "max_position_embeddings", None) or 1 << 30
        self.longest_prompt = limit - max_tokens
        revision = getattr(self.model.config, "_commit_hash", None) or files_hash(name)
        self.identity = {"local": str(name), "revision": revision}
        self.identity |= {"dtype": str(self.model.dtype), "max_tokens": max_tokens}

    def complete(self, requests: Sequence[ChatRequest]) -> list[ChatAnswer | ChatError]:
        """Return an answer a request; a ChatError for a conversation that is longer than the model's context."""
        given: list[ChatAnswer | ChatError] = [ChatError("not asked")] * len(requests)
        prompts = [
            self.tokenizer.apply_chat_template(list(request.messages), tokenize=True, add_generation_prompt=True)
            for request in requests
        ]
        prompts = [list(prompt["input_ids"] if hasattr(prompt, "keys") else prompt) for prompt in prompts]
        fitting = [i for i, prompt in enumerate(prompts) if len(prompt) <= self.longest_prompt]
        for i in set(range(len(requests))) - set(fitting):
            given[i] = ChatError(f"the prompt has {len(prompts[i])} tokens, the model takes {self.longest_prompt}")
        fitting.sort(key=lambda i: len(prompts[i]))
        for first in range(0, len(fitting), self.batch_size):
            chosen = fitting[first : first + self.batch_size]
            for i, answer in zip(chosen, self._generate([prompts[i] for i in chosen]), strict=True):
                given[i] = answer
        return given

    @torch.no_grad()
    def _generate(self, prompts: list[list[int]]) -> list[ChatAnswer]:
        batch = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self.model.device)
        pad = self.tokenizer.pad_token_id
        written = self.model.generate(**batch, max_new_tokens=self.max_tokens, do_sample=False, pad_token_id=pad)
        written = written[:, batch["input_ids"].shape[1] :]
        ends = self.model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or ())
        answers = []
        for prompt, ids in zip(prompts, written.tolist(), strict=True):
            stop = next((i for i, token in enumerate(ids) if token in ends), len(ids))
            text = self.tokenizer.decode(ids[:stop], skip_special_tokens=True)
            answers.append(ChatAnswer(text, "stop" if stop < len(ids) else "length", "", len(prompt), stop))
        return answers

"""The two generators of Partner Personas Generation (Lu et al., NAACL 2022, section 3), over any causal language model.

`PersonasGenerator` writes the partner's persona, P(p | s, c); `ResponseGenerator` writes the response, P(r | s, p, c),
with s the agent's own persona, p the partner's and c the dialogue so far. Both are trained models, not frozen ones:
they share the frozen model's batched decoder and give log-probabilities with gradient.

    generator = PersonasGenerator.from_pretrained("pocket")  # or a folder, or "microsoft/DialoGPT-medium"
    prompts = generator.prompts(dialogues, speakers)
    personas = generator.decode(generator.generate(prompts, uniforms, Sampling(64)))
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.prompt import Prompt

YOU, THEM = "about you:", "about them:"
WANTED = "?"  # stands for the persona that is to be written
BATCH = 128  # rows that are decoded together when there are several candidates a prompt
KIND_FILE = "generator.json"


def personas_view(dialogue: Dialogue, speaker: str) -> Dialogue:
    """Return the dialogue as `PersonasGenerator` is shown it: the speaker knows its own persona, and is to tell p."""
    return _situated(dialogue, speaker, WANTED)


def response_view(dialogue: Dialogue, speaker: str, partner_persona: str | None = None) -> Dialogue:
    """Return the dialogue as `ResponseGenerator` is shown it; without p where that is None or empty."""
    return _situated(dialogue, speaker, partner_persona)


def parted(situation: str) -> tuple[str, str]:
    """Return the two personas that a situation of either view states; the partner's is empty where it is wanted.

    What stands before them (the name of a role, in some chat formats) is left out.
    """
    own, mark, partner = situation.rpartition(THEM)
    own, partner = (own, partner.strip()) if mark else (partner, "")
    return own.partition(YOU)[2].strip(), "" if partner == WANTED else partner


def _situated(dialogue: Dialogue, speaker: str, partner_persona: str | None) -> Dialogue:
    own = dialogue.situations.get(speaker, "")
    parts = [f"{mark} {text}" for mark, text in ((YOU, own), (THEM, partner_persona)) if text]
    return replace(dialogue, situations={speaker: " ".join(parts)})


class Generator(nn.Module):
    """A causal language model that completes prompts, and can be trained to.

    Args:
        lm: the model with its tokenizer; its parameters stay as frozen or free as they are. `from_pretrained` frees
            them. From here on it stops at its end token alone, not at the end of a script's line: what is drawn is what
            `log_prob` is told.
    """

    kind: ClassVar[str]

    def __init__(self, lm: FrozenLM) -> None:
        super().__init__()
        self.lm, self.model = lm, lm.model
        end = lm.tokenizer.eos_token_id
        self.end = int(lm.stop_ids[0] if end is None else end)
        lm.stop_ids = np.array([self.end])

    @classmethod
    def from_pretrained(cls, name: str | Path = "pocket", device: str = "cpu", dtype: str = "float32") -> Self:
        """Load the shipped model, a folder (of a language model or of `save_pretrained`) or a Hugging Face name.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: the folder holds a generator of the other kind.
        """
        card = Path(name) / KIND_FILE
        kind = json.loads(card.read_text())["kind"] if card.is_file() else cls.kind
        if kind != cls.kind:
            raise ValueError(f"{name} holds a generator of kind {kind!r}, expected {cls.kind!r}")
        lm = FrozenLM.from_pretrained(name, device, dtype)
        lm.model.requires_grad_(True)
        return cls(lm)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model, tokenizer and kind to a folder; each file is replaced whole, the weights last."""
        folder = Path(folder)
        temporary = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        self.model.save_pretrained(temporary)
        self.lm.tokenizer.save_pretrained(temporary)
        (temporary / KIND_FILE).write_text(json.dumps({"kind": self.kind}) + "\n")
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted(temporary.iterdir(), key=lambda file: file.suffix == ".safetensors"):
            os.replace(file, folder / file.name)
        temporary.rmdir()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts as the model is to write them, with the end token."""
        lead = "" if self.lm.prompts.has_template else " "  # a script's turn follows "name:"
        texts = [lead + text if text else "" for text in texts]
        encoded = self.lm.tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [[*ids, self.end] for ids in encoded]

    def decode(self, replies: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of generated ids."""
        return self.lm.decode(replies)

    def generate(self, prompts: Sequence[Prompt], uniforms: np.ndarray, sampling: Sampling) -> list[list[int]]:
        """Draw a text for each prompt, all in one batch.

        Args:
            prompts: N prompts.
            uniforms: `(N, T)` in [0, 1): one number a row and token, T at least `sampling.max_new_tokens`.
            sampling: temperature, cut and greatest length. With temperature 1 and no cut (`min_p` 0), `log_prob` is
                the log-probability of what is drawn: policy gradients take that.

        Returns:
            Token ids of each text, with the end token unless the text was cut at its greatest length.
        """
        with self._evaluating():
            replies = self.lm.generate(prompts, uniforms, sampling)
        return self._ended(prompts, replies, sampling)

    def candidates(self, prompts: Sequence[Prompt], uniforms: np.ndarray, sampling: Sampling) -> list[list[list[int]]]:
        """Draw K texts for each prompt; the prompt itself runs through the model once.

        Args:
            prompts: N prompts.
            uniforms: `(N, K, T)` in [0, 1), T at least `sampling.max_new_tokens`.
            sampling: temperature, cut and greatest length.

        Returns:
            For each prompt, the token ids of K texts as `generate` returns them.
        """
        count, drawn = uniforms.shape[1], []
        together = max(1, BATCH // count)
        for first in range(0, len(prompts), together):
            few = prompts[first : first + together]
            once, each = self.lm.new_rows(len(few)), self.lm.new_rows(len(few) * count)
            repeated = [prompt for prompt in few for _ in range(count)]
            numbers = uniforms[first : first + together].reshape(len(repeated), -1)
            rows = np.arange(len(few)) * count
            with self._evaluating():
                self.lm.encode(few, once)
                for k in range(count):
                    each.adopt(rows + k, once)
                replies = self.lm.generate(repeated, numbers, sampling, memory=each)
            replies = self._ended(repeated, replies, sampling)
            drawn += [replies[row : row + count] for row in rows]
        return drawn

    def log_prob(self, prompts: Sequence[Prompt], replies: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return the log-probability of each token of given texts, with gradient.

        Args:
            prompts: N prompts.
            replies: token ids of N texts, from `generate` or `encode`, each at least one.

        Returns:
            Log-probabilities `(N, T)`, 0 where there is no token, and a mask `(N, T)`, true where there is one; texts
            are right-aligned. Tokens that are never drawn (tags) have no share of the probability.
        """
        logits, targets, mask = self.lm.reply_logits(prompts, replies)
        logits = logits.float().index_fill(-1, self.lm.suppressed, -torch.inf)
        chosen = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        return chosen.masked_fill(~mask, 0.0), mask

    def loss(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Tensor:
        """Return the mean negative log-likelihood a token, in nats, of the texts that were to be written."""
        log_probs, mask = self.log_prob(prompts, self.encode(texts))
        return -log_probs.sum() / mask.sum()

    def _ended(self, prompts: Sequence[Prompt], replies: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        """Put the end token back behind the texts that stopped by themselves."""
        rooms = [min(sampling.max_new_tokens, self.lm.context - len(prompt.ids)) for prompt in prompts]
        return [
            [*reply, self.end] if len(reply) < room else list(reply) for reply, room in zip(replies, rooms, strict=True)
        ]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        yield
        self.model.train(training)


class PersonasGenerator(Generator):
    """P(p | s, c): the partner's persona from the agent's own and the dialogue so far."""

    kind = "personas"

    def prompts(self, dialogues: Sequence[Dialogue], speakers: Sequence[str]) -> list[Prompt]:
        """Return what the model is to go on from, for each dialogue in the view of a speaker."""
        views = [personas_view(d, s) for d, s in zip(dialogues, speakers, strict=True)]
        return self.lm.prompts.render_batch(views, speakers)


class ResponseGenerator(Generator):
    """P(r | s, p, c): the response from the agent's own persona, the partner's and the dialogue so far."""

    kind = "response"

    def prompts(
        self, dialogues: Sequence[Dialogue], speakers: Sequence[str], partner_personas: Sequence[str | None]
    ) -> list[Prompt]:
        """Return what the model is to go on from; a partner's persona of None (or empty) is left out (E2E)."""
        views = [response_view(*row) for row in zip(dialogues, speakers, partner_personas, strict=True)]
        return self.lm.prompts.render_batch(views, speakers)

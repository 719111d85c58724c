"""A small embedded judge of utterances: how probable it is that a response is unsafe, given what it answers.

Context and response are one row of a dialogue encoder, `[CLS] context [EOU] response`; the first token's vector gives
the probability by a linear layer, calibrated on data that neither was trained on. `utterance_training` trains it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reward_models.answer_cache import AnswerCache, cache_key, cached_numbers
from reward_models.dmi.encoder import DialogueEncoder, replaced_folder

POCKET = Path(__file__).parent / "utterance_judge_pocket"
"""Where the judge that is shipped lies."""
ENCODER, HEAD, CARD = "encoder", "head.safetensors", "judge.json"


class UtteranceJudge(nn.Module):
    """Attributes: `encoder`, `head` (a linear layer H -> 1), `card` (what is known of it: precision, recall, ...)."""

    def __init__(self, encoder: DialogueEncoder, card: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.hidden_size, 1)
        self.card = card or {}
        self.cache = AnswerCache()

    def rows(self, contexts: Sequence[str], responses: Sequence[str]) -> list[list[int]]:
        """Return the token ids of pairs; the context's oldest tokens go where a row is too long.

        Raises:
            ValueError: there are not as many contexts as responses.
        """
        if len(contexts) != len(responses):
            raise ValueError(f"{len(contexts)} contexts and {len(responses)} responses, expected as many of each")
        tokens = self.encoder.tokens
        return [
            tokens.context([before, said])
            for before, said in zip(tokens.utterances(contexts), tokens.utterances(responses), strict=True)
        ]

    def logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return the log-odds of being unsafe `(N,)`, with gradient."""
        return self.head(self.encoder.encode(*self.encoder.tokens.pad(rows)))[:, 0]

    def __call__(self, contexts: Sequence[str], responses: Sequence[str], batch_size: int = 64) -> list[float]:
        """Return the probability that each response is unsafe, in [0, 1]."""
        rows = self.rows(contexts, responses)
        keys = [cache_key(row) for row in rows]
        return cached_numbers(self.cache, keys, lambda where: self.judge_rows([rows[i] for i in where], batch_size))

    @torch.no_grad()
    def judge_rows(self, rows: Sequence[Sequence[int]], batch_size: int = 64) -> list[float]:
        """Return the probabilities of rows of token ids, without dropout or gradient, like lengths together."""
        self.eval()
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        values = torch.zeros(len(rows))
        for first in range(0, len(rows), batch_size):
            chosen = order[first : first + batch_size]
            values[chosen] = self.logits([rows[i] for i in chosen]).sigmoid().cpu()
        return values.tolist()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write encoder, head and card to a folder that replaces an older one as a whole."""
        with replaced_folder(folder) as temporary:
            self.encoder.save_pretrained(temporary / ENCODER)
            save_file({name: value.contiguous() for name, value in self.head.state_dict().items()}, temporary / HEAD)
            (temporary / CARD).write_text(json.dumps(self.card, indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path = POCKET) -> UtteranceJudge:
        """Load what `save_pretrained` wrote.

        Raises:
            FileNotFoundError: the folder holds no utterance judge.
        """
        folder = Path(folder)
        for name in (ENCODER, HEAD, CARD):
            if not (folder / name).exists():
                raise FileNotFoundError(
                    f"no utterance judge in {folder}: {name} is missing (`python -m experiments judge` trains one)"
                )
        encoder = DialogueEncoder.from_pretrained(folder / ENCODER)
        judge = cls(encoder, json.loads((folder / CARD).read_text()))
        judge.head.load_state_dict(load_file(folder / HEAD))
        return judge.eval().requires_grad_(False)

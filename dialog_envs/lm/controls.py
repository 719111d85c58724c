"""Named controls: unit actions of the `latent` up-mapping that each ask for one dialogue act (`comfort/sympathy`).

A control is the code of a training reply that has the act, for a code that was trained on is heard better than one
between such codes: of several near the replies' mean code the one that the model follows best. It is made where the
reply encoder is at hand, at the end of pretraining, and shipped beside the mapping, so that a user can say what the
agent is to do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from dialog_envs.lm.frozen_lm import POCKET
from dialog_envs.lm.latent import ReplyEncoder

BATCH = 256


@torch.no_grad()
def control_candidates(
    encoder: ReplyEncoder,
    tokenizer: PreTrainedTokenizerBase,
    replies: Mapping[str, Sequence[str]],
    count: int = 1,
    minimum: int = 20,
) -> dict[str, np.ndarray]:
    """Return codes of each name's replies, unit vectors `(count, d')`, float32.

    The first is the medoid, the code that is nearest to the direction of the mean code; the others go on, evenly by
    rank, to the one in the middle.

    Args:
        encoder: the reply encoder that the mapping was trained with.
        tokenizer: its tokenizer.
        replies: texts by name.
        count: codes a name.
        minimum: names with fewer replies are left out.
    """
    found = {}
    for name, texts in sorted(replies.items()):
        if len(texts) >= minimum:
            codes = _codes(encoder, tokenizer, texts)
            order = (codes @ codes.mean(0)).argsort(descending=True, stable=True)
            ranks = torch.linspace(0, len(texts) // 2, count).long()
            found[name] = codes[order[ranks]].cpu().numpy()
    return found


def _codes(encoder: ReplyEncoder, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> torch.Tensor:
    """Encode replies as in training, with their end token: `(N, d')`."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    device = encoder.code.weight.device
    encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]
    codes = []
    for first in range(0, len(encoded), BATCH):
        rows = [torch.tensor(ids + end) for ids in encoded[first : first + BATCH]]
        lengths = torch.tensor([len(row) for row in rows])
        ids = pad_sequence(rows, batch_first=True)
        mask = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
        codes.append(encoder(ids.to(device), mask.to(device)))
    return torch.cat(codes)


def save_controls(path: Path, controls: Mapping[str, np.ndarray]) -> None:
    """Write controls as JSON, names and lists of numbers, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    plain = {name: [round(float(x), 6) for x in vector] for name, vector in controls.items()}
    lines = (f"{json.dumps(name)}: {json.dumps(vector)}" for name, vector in plain.items())
    temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")
    os.replace(temporary, path)


def controls_path(lm_name: str) -> Path:
    """Return where the controls of a model lie: beside its `latent` mapping."""
    return (POCKET if lm_name == "pocket" else Path(lm_name)) / "up_maps" / "controls.json"


def load_controls(lm_name: str = "pocket") -> dict[str, np.ndarray]:
    """Return the named controls `(d',)`, float32, of a model (`"pocket"` or a folder).

    Raises:
        FileNotFoundError: the model has none.
        ValueError: the file does not hold names with vectors of one length.
    """
    return read_controls(controls_path(lm_name))


def read_controls(path: Path) -> dict[str, np.ndarray]:
    """Read a file that `save_controls` wrote; raises FileNotFoundError or ValueError naming the file."""
    if not path.is_file():
        raise FileNotFoundError(f"no controls file {path}: `python -m experiments pretrain` writes it with the model")
    try:
        controls = {name: np.array(vector, np.float32) for name, vector in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no controls, expected a JSON object of lists of numbers: {error}") from error
    shapes = sorted({vector.shape for vector in controls.values()})
    if len(shapes) != 1 or len(shapes[0]) != 1:
        raise ValueError(f"{path} holds vectors of shapes {shapes}, expected one length")
    return controls

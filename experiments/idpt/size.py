"""How large a trained set is beside a fine-tuned copy of its language model."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config

from dialog_envs.speakers.idpt import IDPT
from dialog_envs.speakers.idpt_model import IDPTConfig, Prefixes, Recogniser
from experiments.run_folder import ResultRow

BERT_WIDTH = 768
HALF = 2  # bytes of a number in float16


def sizes_on_disk(lm: str, encoder: str, config: IDPTConfig) -> list[ResultRow]:
    """Return bytes (float16) of a set and of a copy of the model, for this model and for GPT-2 with BERT."""
    idpt = IDPT.from_scratch(config, lm, encoder)
    with torch.device("meta"):  # sizes alone: nothing is downloaded
        size = GPT2Config()
        gpt2 = AutoModelForCausalLM.from_config(size)
        width = size.n_layer * 2 * size.n_embd
        paper = nn.ModuleList([Prefixes(config, width), Recogniser(config, width, BERT_WIDTH)])
    rows = []
    for name, trained, whole in ((lm, idpt, idpt.lm.model), ("gpt2", paper, gpt2)):
        own, copy = (HALF * sum(value.numel() for value in module.parameters()) for module in (trained, whole))
        values = {"set_bytes": own, "copy_bytes": copy, "set_over_copy": own / copy}
        rows += [ResultRow(f"size/{name}", metric, value, None, 1, 1) for metric, value in values.items()]
    return rows

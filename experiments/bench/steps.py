"""Steps to be measured: models of random weights, dialogues brought to a known length, replies of full length."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from dialog_envs import scenarios
from dialog_envs.core import CoreConfig, DialogueCore
from dialog_envs.dialogue import Dialogue
from dialog_envs.envs.dat import SteeredActor
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import POCKET, FrozenLM
from dialog_envs.lm.packed_linear import pack
from dialog_envs.lm.steering import pca_mapping
from dialog_envs.names import look_up
from dialog_envs.observations import HiddenState
from dialog_envs.partners.lm import LMPartner
from dialog_envs.parts import Judgement, Rows
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from dialog_envs.speakers.lm import LMSpeaker

SITUATIONS = {AGENT: "get to know the other person.", PARTNER: "about you: i am a baker. i have two cats."}


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama model; a vocabulary of 0 is the pocket tokenizer's."""

    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate_size: int
    vocab_size: int = 0


SHAPES = {
    "tiny": Shape(32, 2, 2, 2, 64),
    "1M": Shape(128, 4, 4, 4, 352),
    "5M": Shape(256, 6, 4, 4, 704),  # the pocket model
    "25M": Shape(512, 8, 8, 8, 1408),
    "1B": Shape(2048, 16, 32, 8, 8192, 128_256),  # Llama 3.2 1B
    "3B": Shape(3072, 28, 24, 8, 8192, 128_256),  # Llama 3.2 3B
    "8B": Shape(4096, 32, 32, 8, 14336, 128_256),  # Llama 3.1 8B
}


def random_lm(size: str, device: str = "cpu", dtype: str = "float32", seed: int = 0) -> FrozenLM:
    """Return a model of one of `SHAPES` with random weights, made on its device."""
    shape = look_up("size", size, SHAPES)
    tokenizer = AutoTokenizer.from_pretrained(POCKET)
    config = LlamaConfig(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.intermediate_size,
        vocab_size=shape.vocab_size or len(tokenizer),
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    return FrozenLM(model, tokenizer)


class NoJudge:
    """Gives 0: what judging costs is measured apart."""

    def judge(self, rows: Rows) -> list[Judgement]:
        """Return one judgement a row."""
        return [Judgement(0.0)] * len(rows)


def make_core(lm: FrozenLM, rows: int, position: str, reply_tokens: int) -> DialogueCore:
    """Return dialogues of a model with itself, steered by a prefix at `position`, which nobody judges."""
    size = min(16, lm.hidden_size)
    mapping = pca_mapping(lm.embeddings.weight.detach().float().cpu(), size, position=position).to(lm.device)
    sampling = Sampling(reply_tokens)
    observer = HiddenState(lm, rows)
    return DialogueCore(
        rows,
        scenarios.load("acquaintance/train"),
        SteeredActor(LMSpeaker(lm, sampling, position), mapping, size, observer.memory),
        observer,
        LMPartner(LMSpeaker(lm, sampling), rows),
        NoJudge(),
        CoreConfig(max_turns=10**6),
    )


def begin(core: DialogueCore, lm: FrozenLM, history: int, reply: int, entropy: tuple[int, int]) -> np.ndarray:
    """Bring every dialogue to its measured step: reset, lengthen the opening, take one step; return new actions.

    Args:
        core: the dialogues.
        lm: the agent's model.
        history: tokens of the agent's prompt at the measured step.
        reply: tokens of every reply.
        entropy: of scenarios and actions.
    """
    rng = np.random.default_rng(entropy)
    size = core.actor.action_space.shape[0]
    rows = list(range(core.num_envs))
    core.reset(rows, [1000 * entropy[1] + row for row in rows], [None] * len(rows))
    filler = lm.tokenizer("well , so", add_special_tokens=False)["input_ids"]
    opening = Dialogue(situations=SITUATIONS).said(PARTNER, "hello.")
    missing = max(0, history - 2 * reply - len(lm.prompts.render(opening, AGENT).ids))
    for state in core.states:
        words = lm.tokenizer.decode((filler * missing)[:missing])
        state.dialogue = Dialogue(situations=SITUATIONS).said(PARTNER, "hello." + words)
    core.step(rng.uniform(-1, 1, (len(rows), size)).astype(np.float32))
    return rng.uniform(-1, 1, (len(rows), size)).astype(np.float32)


@contextmanager
def full_length(lm: FrozenLM) -> Iterator[None]:
    """Let no reply stop early."""
    stops, lm.stop_ids = lm.stop_ids, np.zeros(0, dtype=np.int64)
    try:
        yield
    finally:
        lm.stop_ids = stops


def timed(call: Callable[..., object], *arguments: object) -> float:
    """Return the seconds that a call takes, what it left to a GPU included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def parameters(lm: FrozenLM) -> tuple[int, int]:
    """Return how many weights every token is multiplied with, and how many more for a prediction."""
    body = sum(
        p.numel() for n, p in lm.model.named_parameters() if p.ndim == 2 and "embed" not in n and "head" not in n
    )
    return body, lm.vocab_size * lm.hidden_size


@torch.no_grad()
def gemm_rate(lm: FrozenLM) -> float:
    """Return the rate of this machine's matrix products, FLOP/s, at the model's width and type and in its way."""
    options = {"device": lm.device, "dtype": lm.embeddings.weight.dtype}
    layer = nn.Linear(lm.hidden_size, 4 * lm.hidden_size, bias=False, **options)
    pack(layer)
    left = torch.randn(4096, lm.hidden_size, **options)
    best = min(timed(layer, left) for _ in range(30))
    return 2 * left.numel() * layer.out_features / best


def token_counts(lm: FrozenLM, core: DialogueCore, before: list[Dialogue], reply: int) -> dict[str, float]:
    """Return how many tokens a step must at least run through the model: prefills of what is new, and decodes.

    Args:
        lm: the agent's and the partner's model.
        core: the dialogues behind the step.
        before: those before it.
        reply: tokens of every reply.
    """

    def length(dialogues: list[Dialogue], speaker: str) -> int:
        return sum(len(p.ids) for p in lm.prompts.render_batch(dialogues, [speaker] * len(dialogues)))

    after = [state.dialogue for state in core.states]
    prompt = length(before, AGENT)
    agent, decoded = length(after, AGENT) - prompt, 2 * len(before) * (reply - 1)
    prefix = 2 * len(before)
    return {"prompt": prompt, "prefill": agent + prompt + prefix + agent / 2, "decode": decoded}


def gemm_floor(lm: FrozenLM, tokens: dict[str, float], dialogues: int, rate: float) -> float:
    """Return the seconds that a step's matrix products alone take at this rate."""
    body, head = parameters(lm)
    work = 2 * body * (tokens["prefill"] + tokens["decode"]) + 2 * head * (tokens["decode"] + 2 * dialogues)
    return work / rate

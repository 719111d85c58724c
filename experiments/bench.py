"""Turns per second of the batched environment, of one dialogue at a time, and of `transformers`' own batching."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dialog_envs.core import DialogueCore
from dialog_envs.dialogue import Dialogue
from dialog_envs.envs.dat import SteeredActor, load_lm, social_core
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.prompt import Prompt
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from experiments.run_folder import ResultRow, model_files, open_run, write_results
from experiments.statistics import mean_ci95

SITUATIONS = {AGENT: "get to know the other person.", PARTNER: "about you: i am a baker. i have two cats."}


@dataclass(frozen=True)
class Config:
    """Measure one step of N dialogues three ways, in turn, in one process; run nothing else meanwhile."""

    out: Path = Path("runs/bench")
    """Run folder."""
    lm: str = "pocket"
    """`pocket`, a model folder, or a Hugging Face name."""
    dialogues: int = 64
    """Dialogues that step together."""
    history_tokens: int = 96
    """Length of the agent's prompt at the measured step."""
    reply_tokens: int = 24
    """Length of every reply; nothing stops early."""
    single_dialogues: int = 16
    """Dialogues of the one-at-a-time pattern (it takes long; its rate does not depend on their number)."""
    repeats: int = 5
    """Measured steps a way."""
    threads: int = 2
    """CPU threads."""
    seed: int = 0
    """Seed of dialogues and actions."""


def run(config: Config) -> Path:
    """Measure, print and write the table; return the run folder."""
    torch.set_num_threads(config.threads)
    out = open_run(config.out, "bench", config, model_files(config.lm))
    lm = load_lm(config.lm, "cpu", "float32")
    stops, lm.stop_ids = lm.stop_ids, np.zeros(0, dtype=np.int64)  # every reply has its full length
    try:
        seconds, tokens = _measure(config, lm)
    finally:
        lm.stop_ids = stops
    rates = {name: np.array([n / t for n, t in times]) for name, times in seconds.items()}
    rows = []
    for name, values in rates.items():
        mean, ci95 = mean_ci95(values)
        rows.append(ResultRow(name, "turns_per_second", mean, ci95, len(values), 1))
    for other in ("one_dialogue", "transformers_batched"):
        mean, ci95 = mean_ci95(rates["dialog_envs"] / rates[other])
        rows.append(ResultRow("dialog_envs", f"speedup_over_{other}", mean, ci95, config.repeats, 1))
    floor, rate = gemm_floor(config, lm, tokens)
    step = np.array([t for _, t in seconds["dialog_envs"]])
    mean, ci95 = mean_ci95(step / floor)
    rows += [
        ResultRow("machine", "gemm_gflops", rate / 1e9, None, 1, 1),
        ResultRow("gemm_floor", "turns_per_second", config.dialogues / floor, None, 1, 1),
        ResultRow("dialog_envs", "step_over_gemm_floor", mean, ci95, len(step), 1),
        ResultRow("dialogues", "prompt_tokens", tokens["prompt"] / config.dialogues, None, config.dialogues, 1),
    ]
    write_results(out, rows)
    for row in rows:
        interval = "" if row.ci95 is None else f" +- {row.ci95:.2f}"
        print(f"{row.system:<22} {row.metric:<34} {row.value:8.2f}{interval}")
    return out


def _measure(config: Config, lm: FrozenLM) -> tuple[dict[str, list[tuple[int, float]]], dict[str, float]]:
    """Return (dialogues, seconds) of each measured step by way, and the token counts of a step."""
    seconds: dict[str, list[tuple[int, float]]] = {"one_dialogue": [], "transformers_batched": [], "dialog_envs": []}
    core = social_core(
        config.dialogues,
        lm=config.lm,
        up_map="pca",
        action_dim=16,
        scenarios="acquaintance/train",
        max_turns=10**6,
        max_new_tokens=config.reply_tokens,
    )
    tokens: dict[str, float] = {}
    for repeat in range(config.repeats + 1):  # the first warms up
        actions = _begin(config, core, lm, repeat)
        dialogues = [state.dialogue for state in core.states]
        prefix = core.actor.mapping(torch.from_numpy(actions)).detach()
        few = config.single_dialogues
        taken = {
            "one_dialogue": (few, _timed(_one_at_a_time, config, lm, dialogues[:few], prefix)),
            "transformers_batched": (len(dialogues), _timed(_hf_batch, config, lm, dialogues, prefix)),
            "dialog_envs": (len(dialogues), _timed(core.step, actions)),
        }
        tokens = _token_counts(config, lm, dialogues, core)
        if repeat:
            for name, pair in taken.items():
                seconds[name].append(pair)
    return seconds, tokens


def _begin(config: Config, core: DialogueCore, lm: FrozenLM, repeat: int) -> np.ndarray:
    """Bring every dialogue to its measured step: reset, lengthen the opening, take one step; return new actions."""
    rng = np.random.default_rng([config.seed, repeat])
    size = core.actor.action_space.shape[0]
    rows = list(range(core.num_envs))
    core.reset(rows, [1000 * repeat + row for row in rows], [None] * len(rows))
    before = config.history_tokens - 2 * config.reply_tokens
    filler = lm.tokenizer("well , so", add_special_tokens=False)["input_ids"]
    opening = Dialogue(situations=SITUATIONS).said(PARTNER, "hello.")
    missing = max(0, before - len(lm.prompts.render(opening, AGENT).ids))
    for state in core.states:
        words = lm.tokenizer.decode((filler * missing)[:missing])
        state.dialogue = Dialogue(situations=SITUATIONS).said(PARTNER, "hello." + words)
    core.step(rng.uniform(-1, 1, (len(rows), size)).astype(np.float32))
    return rng.uniform(-1, 1, (len(rows), size)).astype(np.float32)


def _one_at_a_time(config: Config, lm: FrozenLM, dialogues: list[Dialogue], prefix: torch.Tensor) -> None:
    """Step as the published DAT code does: batch 1, history encoded for the state and again for the reply."""
    for row, dialogue in enumerate(dialogues):
        _hf_batch(config, lm, [dialogue], prefix[row : row + 1])


@torch.no_grad()
def _hf_batch(config: Config, lm: FrozenLM, dialogues: list[Dialogue], prefix: torch.Tensor) -> None:
    """Step by plain `transformers`: forward for the state, `generate` for the reply and for the partner's."""
    prompts = lm.prompts.render_batch(dialogues, [AGENT] * len(dialogues))
    embeds, mask = _left_padded(lm, prompts)
    lm.model(inputs_embeds=embeds, attention_mask=mask, output_hidden_states=True).hidden_states[-1][:, -1]
    said = lm.decode(_hf_generate(config, lm, *_left_padded(lm, prompts, prefix)))
    answered = [d.said(AGENT, text) for d, text in zip(dialogues, said, strict=True)]
    prompts = lm.prompts.render_batch(answered, [PARTNER] * len(answered))
    lm.decode(_hf_generate(config, lm, *_left_padded(lm, prompts)))


def _hf_generate(config: Config, lm: FrozenLM, embeds: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    count = config.reply_tokens
    return lm.model.generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        do_sample=True,
        temperature=0.8,
        top_k=0,
        min_p=Sampling.min_p,
        max_new_tokens=count,
        min_new_tokens=count,
        pad_token_id=0,
    ).tolist()


def _left_padded(
    lm: FrozenLM, prompts: list[Prompt], prefix: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return input embeddings `(N, T, H)`, a prefix behind the first token if there is one, and the mask `(N, T)`."""
    extra = 0 if prefix is None else prefix.shape[1]
    width = max(len(p.ids) for p in prompts) + extra
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    embeds = torch.zeros(len(prompts), width, lm.hidden_size)
    for row, prompt in enumerate(prompts):
        own = lm.embeddings(torch.tensor(prompt.ids))
        if prefix is not None:
            own = torch.cat([own[: prompt.begin], prefix[row], own[prompt.begin :]])
        embeds[row, width - len(own) :], mask[row, width - len(own) :] = own, 1
    return embeds, mask


def _token_counts(config: Config, lm: FrozenLM, before: list[Dialogue], core: DialogueCore) -> dict[str, float]:
    """Return how many tokens a step must at least run through the model: prefills of what is new, and decodes."""
    after = [state.dialogue for state in core.states]

    def length(dialogues: list[Dialogue], speaker: str) -> int:
        return sum(len(p.ids) for p in lm.prompts.render_batch(dialogues, [speaker] * len(dialogues)))

    extra = 2 * len(before) if isinstance(core.actor, SteeredActor) else 0
    decoded = 2 * len(before) * (config.reply_tokens - 1)
    agent, prompt = length(after, AGENT) - length(before, AGENT), length(before, AGENT)
    return {"prompt": prompt, "prefill": agent + prompt + extra + agent / 2, "decode": decoded, "heads": decoded}


def gemm_floor(config: Config, lm: FrozenLM, tokens: dict[str, float]) -> tuple[float, float]:
    """Return the seconds that a step's matrix products alone would take at this machine's rate, and that rate."""
    left, right = torch.randn(4096, lm.hidden_size), torch.randn(lm.hidden_size, 4 * lm.hidden_size)
    best = min(_timed(torch.matmul, left, right) for _ in range(30))
    rate = 2 * left.numel() * right.shape[1] / best
    head = lm.vocab_size * lm.hidden_size
    body = sum(
        p.numel() for n, p in lm.model.named_parameters() if p.ndim == 2 and "embed" not in n and "head" not in n
    )
    work = 2 * body * (tokens["prefill"] + tokens["decode"]) + 2 * head * (tokens["heads"] + 2 * config.dialogues)
    return work / rate, rate


def _timed(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start

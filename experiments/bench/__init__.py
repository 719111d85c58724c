"""Turns per second of the batched environment, of one dialogue at a time, and of `transformers`' own batching."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from dialog_envs.dialogue import Dialogue
from dialog_envs.envs.dat import load_lm, social_core
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import POCKET, FrozenLM
from dialog_envs.lm.loading import load_model
from dialog_envs.lm.prompt import Prompt
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from experiments.bench.steps import begin, full_length, gemm_floor, gemm_rate, timed, token_counts
from experiments.run_folder import ResultRow, model_files, open_run, write_results
from experiments.statistics import mean_ci95

VERBS = {
    "table": "turns per second over rows, model sizes and prefix positions, and what each known cost is",
    "big": "a model of 1B to 8B parameters with random weights on a GPU",
    "workers": "turns per second against Ray workers",
    "learner": "TD3+BC against Stable-Baselines3's TD3: gradient steps per second, learning curves",
}


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
    with full_length(lm):
        seconds, tokens = _measure(config, lm, load_model(POCKET if config.lm == "pocket" else config.lm))
    rates = {name: np.array([n / t for n, t in times]) for name, times in seconds.items()}
    rows = []
    for name, values in rates.items():
        mean, ci95 = mean_ci95(values)
        rows.append(ResultRow(name, "turns_per_second", mean, ci95, len(values), 1))
    for other in ("one_dialogue", "transformers_batched"):
        mean, ci95 = mean_ci95(rates["dialog_envs"] / rates[other])
        rows.append(ResultRow("dialog_envs", f"speedup_over_{other}", mean, ci95, config.repeats, 1))
    rate = gemm_rate(lm)
    floor = gemm_floor(lm, tokens, config.dialogues, rate)
    step = np.array([t for _, t in seconds["dialog_envs"]])
    mean, ci95 = mean_ci95(step / floor)
    rows += [
        ResultRow("machine", "gemm_gflops", rate / 1e9, None, 1, 1),
        ResultRow("gemm_floor", "turns_per_second", config.dialogues / floor, None, 1, 1),
        ResultRow("dialog_envs", "step_over_gemm_floor", mean, ci95, len(step), 1),
        ResultRow("dialogues", "prompt_tokens", tokens["prompt"] / config.dialogues, None, config.dialogues, 1),
    ]
    write_results(out, rows)
    show(rows)
    return out


def show(rows: list[ResultRow]) -> None:
    """Print rows of results."""
    for row in rows:
        interval = "" if row.ci95 is None else f" +- {row.ci95:.2f}"
        print(f"{row.system:<22} {row.metric:<34} {row.value:8.2f}{interval}")


def _measure(
    config: Config, lm: FrozenLM, plain: PreTrainedModel
) -> tuple[dict[str, list[tuple[int, float]]], dict[str, float]]:
    """Return (dialogues, seconds) of each measured step by way, and the token counts of a step.

    `plain` is the same model as `transformers` loads it, for the two ways that use nothing else.
    """
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
        actions = begin(core, lm, config.history_tokens, config.reply_tokens, (config.seed, repeat))
        dialogues = [state.dialogue for state in core.states]
        prefix = core.actor.mapping(torch.from_numpy(actions)).detach()
        few = config.single_dialogues
        taken = {
            "one_dialogue": (few, timed(_one_at_a_time, config, lm, plain, dialogues[:few], prefix)),
            "transformers_batched": (len(dialogues), timed(_hf_batch, config, lm, plain, dialogues, prefix)),
            "dialog_envs": (len(dialogues), timed(core.step, actions)),
        }
        tokens = token_counts(lm, core, dialogues, config.reply_tokens)
        if repeat:
            for name, pair in taken.items():
                seconds[name].append(pair)
    return seconds, tokens


def _one_at_a_time(
    config: Config, lm: FrozenLM, plain: PreTrainedModel, dialogues: list[Dialogue], prefix: torch.Tensor
) -> None:
    """Step as the published DAT code does: batch 1, history encoded for the state and again for the reply."""
    for row, dialogue in enumerate(dialogues):
        _hf_batch(config, lm, plain, [dialogue], prefix[row : row + 1])


@torch.no_grad()
def _hf_batch(
    config: Config, lm: FrozenLM, plain: PreTrainedModel, dialogues: list[Dialogue], prefix: torch.Tensor
) -> None:
    """Step by plain `transformers`: forward for the state, `generate` for the reply and for the partner's."""
    prompts = lm.prompts.render_batch(dialogues, [AGENT] * len(dialogues))
    embeds, mask = _left_padded(lm, prompts)
    plain.base_model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state[:, -1]
    said = lm.decode(_hf_generate(config, plain, *_left_padded(lm, prompts, prefix)))
    answered = [d.said(AGENT, text) for d, text in zip(dialogues, said, strict=True)]
    prompts = lm.prompts.render_batch(answered, [PARTNER] * len(answered))
    lm.decode(_hf_generate(config, plain, *_left_padded(lm, prompts)))


def _hf_generate(config: Config, plain: PreTrainedModel, embeds: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    count = config.reply_tokens
    return plain.generate(
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
    own = [lm.embedded(p, None if prefix is None else prefix[row]) for row, p in enumerate(prompts)]
    width = max(map(len, own))
    mask = torch.zeros(len(own), width, dtype=torch.long)
    embeds = torch.zeros(len(own), width, lm.hidden_size)
    for row, given in enumerate(own):
        embeds[row, width - len(given) :], mask[row, width - len(given) :] = given, 1
    return embeds, mask

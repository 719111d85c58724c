"""Turns per second over rows, model sizes and prefix positions; and each known cost, with and without its remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache

from dialog_envs import scenarios
from dialog_envs.dialogue import Dialogue
from dialog_envs.judges import make_judge
from dialog_envs.lm.decoding import Sampling, sample
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.key_values import KeyValueRows
from dialog_envs.lm.prompt import Prompt
from dialog_envs.parts import Rows
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from experiments.bench import show
from experiments.bench.steps import begin, full_length, make_core, random_lm, timed
from experiments.run_folder import ResultRow, model_files, open_run, write_results, write_text
from experiments.statistics import mean_ci95

MANY, FEW = 256, 64  # rows whose rates are compared
Ways = tuple[Callable[[], object], Callable[[], object] | None]  # ours, and how it would be done otherwise


@dataclass(frozen=True)
class Config:
    """Measure steps of models with random weights in one process; run nothing else meanwhile."""

    out: Path = Path("runs/bench_table")
    """Run folder; `table.md` in it."""
    sizes: tuple[str, ...] = ("1M", "5M", "25M")
    """Model sizes, as `experiments/bench/steps.py` names them."""
    rows: tuple[int, ...] = (1, 4, 16, 64, 256)
    """Dialogues that step together."""
    positions: tuple[str, ...] = ("start", "mid", "end")
    """Where the prefix stands."""
    costs: str = "5M"
    """Size whose known costs are measured."""
    cost_rows: int = 64
    """Dialogues at which they are."""
    history_tokens: int = 96
    """Length of the agent's prompt at the measured step."""
    reply_tokens: int = 24
    """Length of every reply; nothing stops early."""
    judge: str | None = "social_score"
    """Reward whose cost is measured; None: none."""
    compile: bool = False
    """Measure replies by compiled layers too: takes minutes, and a C++ compiler."""
    repeats: int = 3
    """Measured steps a cell."""
    threads: int = 2
    """CPU threads."""
    seed: int = 0
    """Of weights, dialogues and actions."""


def run(config: Config) -> Path:
    """Measure, print and write the tables; return the run folder."""
    torch.set_num_threads(config.threads)
    out = open_run(config.out, "bench table", config, model_files("pocket"))
    found = []
    for size in config.sizes:
        lm = random_lm(size, seed=config.seed)
        with full_length(lm):
            for position in config.positions:
                rates = {rows: np.array(_rates(config, lm, position, rows)) for rows in config.rows}
                measured = {(f"{rows} rows", "turns_per_second"): values for rows, values in rates.items()}
                if {MANY, FEW} <= set(rates):
                    measured[f"{MANY} rows", f"times_{FEW}_rows"] = rates[MANY] / rates[FEW]
                for (name, metric), values in measured.items():
                    row = ResultRow(f"{size} {position} {name}", metric, *mean_ci95(values), config.repeats, 1)
                    found.append(row)
                    show([row])
    costs = _measured_costs(config)
    show(costs)
    write_results(out, found + costs)
    write_text(out / "table.md", _tables(config, found, costs))
    return out


def _rates(config: Config, lm: FrozenLM, position: str, rows: int) -> list[float]:
    core = make_core(lm, rows, position, config.reply_tokens)
    rates = []
    for repeat in range(config.repeats + 1):  # the first warms up
        actions = begin(core, lm, config.history_tokens, config.reply_tokens, (config.seed, repeat))
        rates.append(rows / timed(core.step, actions))
    return rates[1:]


@torch.no_grad()
def _measured_costs(config: Config) -> list[ResultRow]:
    lm = random_lm(config.costs, seed=config.seed)
    with full_length(lm):
        ways = _products(config, lm) | _history(config, lm) | _decoding(config, lm) | _besides(config, lm)
        if config.compile:
            ways |= _compiled(config, lm)
        found = []
        for name, (ours, otherwise) in ways.items():
            seconds = {"milliseconds": [], "milliseconds_otherwise": []}
            for _ in range(config.repeats + 1):  # the first warms up
                seconds["milliseconds"].append(timed(ours))
                if otherwise is not None:
                    seconds["milliseconds_otherwise"].append(timed(otherwise))
            for metric, values in seconds.items():
                if values:
                    mean, ci95 = mean_ci95(1000 * np.array(values[1:]))
                    found.append(ResultRow(name, metric, mean, ci95, config.repeats, 1))
    return found


def _products(config: Config, lm: FrozenLM) -> dict[str, Ways]:
    """Return what the linear layers of a whole prompt cost: packed, where that is faster, or as PyTorch does them."""
    layers = [module for module in lm.model.base_model.modules() if isinstance(module, nn.Linear)]
    inputs = {
        size: torch.randn(config.cost_rows, config.history_tokens, size) for size in {m.in_features for m in layers}
    }
    return {
        "linear layers of a prompt: packed where that is faster, or torch's": (
            lambda: [layer(inputs[layer.in_features]) for layer in layers],
            lambda: [F.linear(inputs[layer.in_features], layer.weight, layer.bias) for layer in layers],
        )
    }


def _history(config: Config, lm: FrozenLM) -> dict[str, Ways]:
    """Return what reading a history costs: only what is new, or all of it."""
    core = make_core(lm, config.cost_rows, "start", config.reply_tokens)
    actions = begin(core, lm, config.history_tokens, config.reply_tokens, (config.seed, 0))
    before = [state.dialogue for state in core.states]
    core.step(actions)
    after = [state.dialogue for state in core.states]
    prefix = core.actor.mapping(torch.from_numpy(actions)).detach()
    first = np.random.default_rng(config.seed).random((config.cost_rows, 1)), Sampling(1)

    def prompts(dialogues: list[Dialogue], speaker: str) -> list[Prompt]:
        return lm.prompts.render_batch(dialogues, [speaker] * len(dialogues))

    def held(dialogues: list[Dialogue], speaker: str) -> KeyValueRows:
        memory = lm.new_rows(len(dialogues))
        lm.encode(prompts(dialogues, speaker), memory)
        return memory

    now, partner = prompts(after, AGENT), prompts([d.said(AGENT, "well, so.") for d in before], PARTNER)
    ways: dict[str, Ways] = {}
    memories = iter([held(before, AGENT) for _ in range(config.repeats + 1)])
    ways["state: what is new of the history, or all"] = lambda: lm.encode(now, next(memories)), lambda: lm.encode(now)
    others = iter([held(before, PARTNER) for _ in range(config.repeats + 1)])
    ways["partner: what is new of the history, or all"] = (
        lambda: lm.generate(partner, *first, memory=next(others)),
        lambda: lm.generate(partner, *first),
    )
    memory = held(after, AGENT)
    for position in ("mid", "end"):
        ways[f"prefix at {position}: what stands behind it, or all"] = (
            lambda position=position: lm.generate(now, *first, prefix, position, memory),
            lambda position=position: lm.generate(now, *first, prefix, position),
        )
    return ways


def _decoding(config: Config, lm: FrozenLM) -> dict[str, Ways]:
    """Return what a reply's tokens cost besides the model."""
    rows, tokens = config.cost_rows, config.reply_tokens
    shape = lm.model.config
    heads, size = shape.num_key_value_heads, shape.hidden_size // shape.num_attention_heads
    new = torch.randn(rows, heads, 1, size)
    history = torch.randn(rows, heads, config.history_tokens, size)
    logits, uniforms = torch.randn(rows, lm.vocab_size), torch.rand(rows)
    memory = lm.new_rows(rows)
    memory.append(*[np.tile(np.arange(config.history_tokens), (rows, 1))] * 2)

    def cached(cache: object) -> None:
        for layer in range(shape.num_hidden_layers):
            cache.update(history, history, layer)
        for _ in range(tokens):
            for layer in range(shape.num_hidden_layers):
                cache.update(new, new, layer)

    def drawn(draw: Callable[[], object]) -> None:
        for _ in range(tokens):
            draw()

    sampling = Sampling(tokens)
    return {
        "keys and values: written in place, or concatenated": (
            lambda: cached(lm.new_rows(rows).cache),
            lambda: cached(DynamicCache()),
        ),
        "draw: one uniform a row, or torch.multinomial": (
            lambda: drawn(lambda: sample(logits, uniforms, sampling)),
            lambda: drawn(lambda: torch.multinomial((logits / sampling.temperature).softmax(-1), 1)),
        ),
        "cut: min_p, or a sort of the vocabulary": (
            lambda: drawn(lambda: sample(logits, uniforms, sampling)),
            lambda: drawn(lambda: sample(logits.sort(-1).values, uniforms, sampling)),
        ),
        "attention masks of a reply": (
            lambda: drawn(lambda: memory.attention_mask(1, torch.float32, torch.device("cpu"))),
            None,
        ),
    }


def _compiled(config: Config, lm: FrozenLM) -> dict[str, Ways]:
    """Return what whole replies cost, prompt and tokens: as they are done, or by compiled layers."""
    core = make_core(lm, config.cost_rows, "start", config.reply_tokens)
    begin(core, lm, config.history_tokens, config.reply_tokens, (config.seed, 0))
    prompts = lm.prompts.render_batch([state.dialogue for state in core.states], [AGENT] * config.cost_rows)
    asked = np.random.default_rng(config.seed).random((config.cost_rows, config.reply_tokens))
    other = random_lm(config.costs, seed=config.seed)
    other.stop_ids = lm.stop_ids
    other.model.base_model.compile(dynamic=True)
    sampling = Sampling(config.reply_tokens)
    name = "replies: layers as they are, or compiled"
    return {name: (lambda: lm.generate(prompts, asked, sampling), lambda: other.generate(prompts, asked, sampling))}


def _besides(config: Config, lm: FrozenLM) -> dict[str, Ways]:
    """Return what a step costs outside the model."""
    core = make_core(lm, config.cost_rows, "start", config.reply_tokens)
    begin(core, lm, config.history_tokens, config.reply_tokens, (config.seed, 0))
    dialogues = [state.dialogue for state in core.states]

    def render() -> None:
        for speaker in (AGENT, PARTNER, AGENT):
            lm.prompts.render_batch(dialogues, [speaker] * len(dialogues))

    ways: dict[str, Ways] = {"rendering and tokenising, three times a step": (render, None)}
    if config.judge is not None:
        judge, known = make_judge(config.judge), scenarios.load("acquaintance/train")
        count = len(dialogues)
        shown = [known[row % len(known)] for row in range(count)]
        nothing = [None] * count, [()] * count, [()] * count
        rows = Rows(np.arange(count), dialogues, shown, np.zeros((0,)), [], *nothing)
        ways[f"judge: {config.judge}"] = lambda: judge.judge(rows), None
    return ways


def _tables(config: Config, found: list[ResultRow], costs: list[ResultRow]) -> str:
    """Return both tables in Markdown."""

    def cell(row: ResultRow | None, form: str = ".1f") -> str:
        return "" if row is None else f"{row.value:{form}} ± {row.ci95:{form}}"

    lines = [f"Turns per second; {config.history_tokens}-token prompts, {config.reply_tokens}-token replies by both, "]
    lines[0] += f"{config.threads} CPU threads; mean ± 95% interval of {config.repeats} steps."
    columns = {f"{rows} rows": (f"{rows} rows", "turns_per_second", ".1f") for rows in config.rows}
    if {MANY, FEW} <= set(config.rows):
        columns[f"{MANY} over {FEW} rows"] = (f"{MANY} rows", f"times_{FEW}_rows", ".2f")
    lines += ["", "| model | prefix | " + " | ".join(columns) + " |", "| --- " * (2 + len(columns)) + "|"]
    by_name = {(row.system, row.metric): row for row in found}
    for size, position in product(config.sizes, config.positions):
        cells = [
            cell(by_name.get((f"{size} {position} {name}", metric)), form) for name, metric, form in columns.values()
        ]
        lines.append(f"| {size} | {position} | " + " | ".join(cells) + " |")
    lines += ["", f"Milliseconds a step of {config.cost_rows} dialogues ({config.costs}).", ""]
    lines += ["| cost: as it is done, or otherwise | as it is done | otherwise |", "| --- | --- | --- |"]
    pairs = {(row.system, row.metric): row for row in costs}
    for name in dict.fromkeys(row.system for row in costs):
        ours, other = (pairs.get((name, metric)) for metric in ("milliseconds", "milliseconds_otherwise"))
        lines.append(f"| {name} | {cell(ours)} | {cell(other)} |")
    return "\n".join(lines) + "\n"

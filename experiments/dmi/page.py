"""One HTML file as in the paper's appendix: the confusion matrix of E-Intent, and what is retrieved for a context."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix

from dialog_envs import corpora
from experiments.dmi import pairs, probe
from experiments.dmi.evaluation import SIZE, encode_pairs, information_bits
from experiments.dmi.pairs import Pair
from experiments.plots import plot_confusion
from experiments.rendering import render
from experiments.run_folder import model_files, open_run, write_text
from experiments.statistics import mean_ci95
from reward_models.dmi.bounds import ceiling
from reward_models.dmi.encoder import encoder_source
from reward_models.dmi.retrieval import Hit, ResponsePool
from reward_models.dmi.reward import CoherenceReward

TASK = "e-intent"


@dataclass(frozen=True)
class Config:
    """Write `page.html`: E-Intent's confusion matrix and responses retrieved from DailyDialog's validation."""

    out: Path = Path("runs/dmi_page")
    """Run folder."""
    encoder: str = "pocket"
    """`pocket` (the shipped encoder), or a folder that `dmi pretrain` wrote (`<out>/model`)."""
    probe: Path | None = None
    """Run folder of `dmi probe` or `finetune` with E-Intent's predictions (default: probe it now, with one seed)."""
    data: Path | None = None
    """Folder of the official files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    contexts: int = 12
    """Contexts that responses are retrieved for."""
    responses: int = 5
    """Responses of each."""
    pool: int = 5000
    """Responses that they are chosen from, at most."""
    seed: int = 0
    """Seed of the choice of contexts."""
    threads: int = 2
    """CPU threads."""


@dataclass(frozen=True)
class Example:
    """A context, its true response with its rank from 1 and coherence, and what was retrieved, with coherence."""

    context: Sequence[str]
    response: str
    rank: int
    coherence: float
    hits: Sequence[tuple[Hit, float, bool]]


def run(config: Config) -> Path:
    """Write the page; return the run folder.

    Raises:
        FileNotFoundError: there is no data folder, no encoder, or DailyDialog's files are missing.
    """
    torch.set_num_threads(config.threads)
    root = corpora.root(config.data)
    folder = encoder_source(config.encoder)
    out = open_run(config.out, "dmi page", config, model_files(str(folder)))
    reward = CoherenceReward.from_pretrained(folder)
    valid = pairs.validation_pairs(root)
    order = np.random.default_rng(config.seed).permutation(len(valid))
    valid = [valid[i] for i in order[: config.pool]]
    pool = ResponsePool(reward.encoder, list(dict.fromkeys(pair.response for pair in valid)))
    examples = retrieve(reward, pool, valid, config)
    confusion = _confusion(config, root, out)
    facts = {"encoder": config.encoder, "pool": f"{len(pool.responses)} responses"}
    if len(valid) >= SIZE:
        vectors = encode_pairs(reward.encoder, valid)
        bits, half = mean_ci95(information_bits(reward.encoder, vectors, np.random.default_rng(0)))
        top = ceiling(SIZE) / np.log(2)
        facts[f"MI on DailyDialog validation, N = {SIZE}"] = f"{bits:.2f} ± {half:.2f} of at most {top:.0f} bits"
    html = render("dmi_page.html", confusion=confusion, examples=examples, facts=facts)
    write_text(out / "page.html", html)
    return out


def retrieve(reward: CoherenceReward, pool: ResponsePool, valid: Sequence[Pair], config: Config) -> list[Example]:
    """Retrieve responses for the first contexts, of one dialogue each."""
    firsts = {pair.dialogue: pair for pair in reversed(valid)}
    chosen = [pair for pair in valid if firsts[pair.dialogue] is pair][: config.contexts]
    ranked = pool.search_batch([pair.context for pair in chosen], len(pool.responses))
    return [_example(reward, pair, hits, config.responses) for pair, hits in zip(chosen, ranked, strict=True)]


def _example(reward: CoherenceReward, pair: Pair, ranked: Sequence[Hit], count: int) -> Example:
    rank = next(place for place, hit in enumerate(ranked) if hit.response == pair.response)
    shown = [*ranked[:count], ranked[rank]]
    coherence = reward.score_batch([pair.context] * len(shown), [hit.response for hit in shown])
    hits = [(hit, float(c), hit.response == pair.response) for hit, c in zip(shown, coherence, strict=True)][:count]
    return Example(pair.context, pair.response, rank + 1, float(coherence[-1]), hits)


def _confusion(config: Config, root: Path, out: Path) -> dict[str, Any]:
    """Return the figure of E-Intent's confusion matrix and the pairs that are mixed up most; why not, if not."""
    folder = config.probe
    if folder is None:
        settings = probe.Config(
            out=out / "probe", encoder=config.encoder, compare=False, tasks=(TASK,), data=root, seeds=1,
            threads=config.threads,
        )  # fmt: skip
        try:
            folder = probe.run(settings)
        except ValueError as error:
            print(error)
            return {"missing": str(error)}
    found = json.loads((folder / "predictions.json").read_text()).get(TASK)
    if found is None:
        return {"missing": f"{folder} has no predictions of {TASK}"}
    names = found["classes"]
    matrix = confusion_matrix(found["labels"], found["predictions"], labels=range(len(names)))
    path = plot_confusion(out / "confusion.png", matrix, "E-Intent", names, ("label", "predicted"))
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    off = np.where(np.eye(len(names), dtype=bool), 0, shares)
    worst = [np.unravel_index(place, off.shape) for place in np.argsort(-off, axis=None, kind="stable")[:8]]
    return {
        "figure": base64.b64encode(path.read_bytes()).decode(),
        "accuracy": float(np.trace(matrix) / matrix.sum()),
        "count": int(matrix.sum()),
        "worst": [(names[row], names[column], float(off[row, column])) for row, column in worst if off[row, column]],
    }

"""Pretrain the dual encoder: a lower bound of I(context; response) is maximised over large batches of pairs."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from transformers import AutoTokenizer

from agents.checkpoint import load_tree, save_tree
from dialog_envs import corpora
from dialog_envs.corpora.dailydialogpp import ResponseSet
from dialog_envs.dialogue import Dialogue
from experiments.dmi import evaluation, pairs
from experiments.dmi.evaluation import SIZE
from experiments.dmi.pairs import Pair, PairStream
from experiments.plots import plot_curves, plot_stated
from experiments.run_folder import ResultRow, open_run, write_json, write_results
from reward_models.calibration import Reliability
from reward_models.dmi.bounds import BOUNDS, ceiling
from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig
from reward_models.dmi.reward import CoherenceReward, fit_calibration
from reward_models.dmi.tokens import PairTokenizer, train_tokenizer
from reward_models.dmi.training import make_optimizer, make_schedule, train_step

LEARNING_RATE = {"scratch": 1e-3, "pretrained": 5e-5}
CHANGEABLE = ("out", "data", "threads")  # what a run that goes on may have otherwise than when it began
PARTS = ("train", "train_ceiling", "valid", "valid_ceiling")
CHART = {"mutual information (bits)": {"under log N": ["Multiline", [f"mi_bits/{part}" for part in PARTS]]}}


@dataclass(frozen=True)
class Config:
    """Train the encoder on a bound; a run that was stopped goes on from its last checkpoint. Runs under `torchrun`.

    A finished run is left as it is.
    """

    out: Path = Path("runs/dmi")
    """Run folder; the best encoder is written to `<out>/model`, the untrained one to `<out>/start`."""
    start: str | None = None
    """An encoder to start from, by Hugging Face name or folder, or `pocket`; without it, one from scratch."""
    bound: str = "infonce_s"
    """The bound that is maximised: infonce, infonce_s (both directions), mine, jsd or smile."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    seed: int = 0
    """Seed of weights and data order."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    """Size of an encoder from scratch."""
    steps: int = 8000
    """Optimiser steps."""
    batch: int = 256
    """Pairs a step over all processes, N: the bound can say log N at most."""
    chunk: int = 32
    """Pairs that are encoded at a time, of like length."""
    cached: bool = False
    """Gradient caching: encode every chunk twice instead of keeping what its gradient needs. The same gradient and a
    third more time, but memory for one chunk only: for batches of a thousand pairs."""
    short_share: float = 0.9
    """Share of the steps, the first ones, that see only the end of long contexts, as BERT's pretraining does."""
    short_length: int = 64
    """Tokens of a context in those steps; in the others, and ever after, up to `encoder.max_length`."""
    learning_rate: float | None = None
    """Peak rate (default: 1e-3 from scratch, else the paper's 5e-5)."""
    pretrained_factor: float = 0.1
    """Rate of pretrained layers relative to that of new ones; of no effect from scratch."""
    warmup: int = 1000
    """Steps of linear warm-up, but at most a tenth of all; then linear decay to 0."""
    word_dropout: float = 0.2
    """Share of the tokens of every utterance that a training step leaves out, drawn anew each time: some ten times
    through the data are not learned by heart then."""
    clip: float = 1.0
    """Longest gradient; longer ones are scaled down to it."""
    bf16: bool = True
    """Compute in bfloat16 where that loses nothing."""
    threads: int = 2
    """CPU threads a process."""
    validate_every: int = 100
    """Steps between validations, each of which may make a new best encoder, and a checkpoint."""
    validation_pairs: int = 2048
    """Pairs of a validation while training; the end measures on all."""


def run(config: Config) -> Path:
    """Train, or go on training, evaluate the best encoder and calibrate it; return the run folder.

    Raises:
        ValueError: the bound is unknown, the batch does not split over the processes, or the run was begun otherwise.
        FileNotFoundError: there is no data folder, or an official file is missing in it.
    """
    if config.bound not in BOUNDS:
        raise ValueError(f"unknown bound {config.bound!r}, expected one of {', '.join(BOUNDS)}")
    torch.set_num_threads(config.threads)
    rank, world = _join_processes()
    if config.batch % world:
        raise ValueError(f"a batch of {config.batch} pairs does not split over {world} processes")
    root = corpora.root(config.data)
    if rank == 0:
        open_run(config.out, "dmi pretrain", config, pairs.training_files(root), CHANGEABLE)
    if (config.out / "results.json").exists():
        return config.out
    dialogues, removed = pairs.read_training(root)
    encoder = _start(config, dialogues, rank)
    sets = {name: pairs.tokenize(group, encoder.tokens) for name, group in dialogues.items()}
    stream = PairStream(sets, pairs.WEIGHTS, config.batch, config.seed, config.word_dropout)
    valid = pairs.validation_pairs(root)
    history = _train(config, encoder, stream, _sample(valid, config), rank, world)
    if rank == 0:
        counts = {f"pairs/{name}": len(found.index) for name, found in sets.items()} | {"dialogues/left_out": removed}
        facts = [ResultRow("data", name, count, None, count, 1) for name, count in counts.items()]
        _finish(config, valid, pairs.adversarial_responses(root), history, facts)
    if world > 1:
        torch.distributed.barrier()
    return config.out


def _join_processes() -> tuple[int, int]:
    """Return rank and number of processes; join them where `torchrun` started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    return int(os.environ.get("RANK", "0")), world


def _start(config: Config, dialogues: dict[str, list[Dialogue]], rank: int) -> DialogueEncoder:
    """Return the untrained encoder, the same in every process, and keep it in `<out>/start`."""
    words = config.out / "tokenizer"
    if rank == 0 and not config.start and not (words / "tokenizer.json").exists():
        texts = (turn.text for group in dialogues.values() for dialogue in group for turn in dialogue.turns)
        train_tokenizer(texts, config.encoder.vocab_size).save_pretrained(words)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    torch.manual_seed(config.seed)
    if config.start:
        encoder = DialogueEncoder.from_pretrained(config.start, config.encoder.max_length)
    else:
        encoder = DialogueEncoder.from_scratch(config.encoder, AutoTokenizer.from_pretrained(words))
    if rank == 0 and not (config.out / "start").exists():
        encoder.save_pretrained(config.out / "start")
    return encoder


def _train(
    config: Config, encoder: DialogueEncoder, stream: PairStream, valid: list[Pair], rank: int, world: int
) -> dict[str, list[list[float]]]:
    """Train from the last checkpoint on; return [step, bits] of training and validation."""
    rate = config.learning_rate or LEARNING_RATE["pretrained" if config.start else "scratch"]
    optimizer = make_optimizer(encoder, rate, config.pretrained_factor)
    schedule = make_schedule(optimizer, min(config.warmup, config.steps // 10), config.steps)
    short = PairTokenizer(encoder.tokens.tokenizer, min(config.short_length, encoder.tokens.max_length))
    full_from = round(config.short_share * config.steps)
    path = config.out / "checkpoint.safetensors"
    progress: dict[str, Any] = {"step": 0, "best": -math.inf, "train": [], "valid": []}
    if path.exists():
        saved = load_tree(path)
        encoder.load_state_dict(saved["encoder"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        stream.positions = saved["positions"]
        progress = saved["progress"]
    writer = SummaryWriter(config.out / "tensorboard", purge_step=progress["step"] + 1) if rank == 0 else None
    if writer:
        writer.add_custom_scalars(CHART)
    bar = tqdm(total=config.steps, initial=progress["step"], desc="dmi pretrain", unit="step", disable=rank > 0)
    window: list[float] = []
    for step in range(progress["step"], config.steps):
        encoder.train()
        torch.manual_seed((config.seed * 1_000_003 + step) * world + rank)
        contexts, responses = (
            rows[rank::world] for rows in stream.draw(step, short if step < full_from else encoder.tokens)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            nats = train_step(encoder, contexts, responses, BOUNDS[config.bound], config.chunk, config.cached)
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), config.clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        window.append(nats / math.log(2))
        bar.update()
        progress["step"] = step + 1
        if not progress["step"] % 20:
            bar.set_postfix(bits=f"{np.mean(window[-20:]):.2f}", valid=f"{progress['best']:.2f}")
        if not progress["step"] % config.validate_every or progress["step"] == config.steps:
            progress["train"].append([progress["step"], float(np.mean(window))])
            window = []
            if rank == 0:
                _validate(config, encoder, valid, progress)
                _write_curves(writer, config, progress, schedule.get_last_lr()[0])
                state = {
                    "encoder": encoder.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "positions": stream.positions,
                    "progress": progress,
                }
                save_tree(path, state)
    bar.close()
    if writer:
        writer.close()
    return {"train": progress["train"], "valid": progress["valid"]}


def _validate(config: Config, encoder: DialogueEncoder, valid: list[Pair], progress: dict[str, Any]) -> None:
    """Measure the encoder; write it to `<out>/model` where it is the best so far."""
    encoder.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
        vectors = evaluation.encode_pairs(encoder, valid)
    bits = float(evaluation.information_bits(encoder, vectors, np.random.default_rng(0)).mean())
    progress["valid"].append([progress["step"], bits])
    if bits > progress["best"]:
        progress["best"] = bits
        encoder.save_pretrained(config.out / "model")


def _write_curves(writer: SummaryWriter, config: Config, progress: dict[str, Any], rate: float) -> None:
    """Write the curves, each with its ceiling log N: the batch's, and that of the validation's batches."""
    values = (progress["train"][-1][1], _ceiling(config.batch), progress["valid"][-1][1], _ceiling(SIZE))
    for part, value in zip(PARTS, values, strict=True):
        writer.add_scalar(f"mi_bits/{part}", value, progress["step"])
    writer.add_scalar("train/learning_rate", rate, progress["step"])


def _ceiling(size: int) -> float:
    return ceiling(size) / math.log(2)


def _finish(
    config: Config,
    valid: list[Pair],
    sets: list[ResponseSet],
    history: dict[str, list[list[float]]],
    facts: list[ResultRow],
) -> None:
    """Measure the best encoder and the untrained one on all validation pairs, calibrate the reward, draw both."""
    rows = facts
    for system, folder in (("start", "start"), ("dmi", "model")):
        encoder = DialogueEncoder.from_pretrained(config.out / folder)
        rows += evaluation.evaluate(encoder, valid, sets, system, config.bound)
    rows.append(ResultRow("dmi", "parameters", sum(p.numel() for p in encoder.parameters()), None, 1, 1))
    known = [(pair.context, pair.response) for pair in valid]
    reward = CoherenceReward(encoder, fit_calibration(encoder, known, np.random.default_rng(config.seed)))
    reward.save_pretrained(config.out / "model")
    rows += evaluation.evaluate_reward(reward, sets)
    write_json(config.out / "training.json", {"config": dataclasses.asdict(config), "history": history})
    curves = {name: (np.array(points)[:, 0], np.array(points)[:, 1][None]) for name, points in history.items()}
    ceilings = {f"ceiling, log2 {size}": (_ceiling(size), None) for size in (config.batch, SIZE)}
    plot_curves(config.out / "curve.png", curves, "step", f"{config.bound}, bits", ceilings)
    plot_reliability(config.out / "reliability.png", reward.calibration.reliability)
    write_results(config.out, rows)
    for row in rows:
        print(f"{row.system:<9} {row.metric:<28} {row.value:10.3f}" + ("" if not row.ci95 else f" +- {row.ci95:.3f}"))


def plot_reliability(path: Path, found: Reliability) -> None:
    """Plot how often a response was the true one over the coherence that it was given."""
    predicted, observed, count = np.array([found.predicted, found.observed, found.count])
    halves = 1.96 * np.sqrt(observed * (1 - observed) / count)
    points = {"true and random responses, held out from the fit": list(zip(predicted, observed, halves, strict=True))}
    plot_stated(path, points, "Coherence: is the response the true one?")


def _sample(valid: list[Pair], config: Config) -> list[Pair]:
    order = np.random.default_rng(config.seed).permutation(len(valid))[: config.validation_pairs]
    return [valid[i] for i in order]

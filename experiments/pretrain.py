"""Train the pocket language model together with the code in its control place (the `latent` up-mapping)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from agents.checkpoint import load_tree, save_tree
from dialog_envs import corpora, scenarios
from dialog_envs.lm.controls import control_candidates, save_controls
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.pocket_tokenizer import train_tokenizer
from dialog_envs.scenarios import invention
from dialog_envs.speakers.lm import LMSpeaker
from experiments.language import sequence_nats
from experiments.obedience.answers import choose_controls
from experiments.obedience.places import control_replies
from experiments.pocket_trainer import PocketTrainer, PretrainConfig, clock, learning_rate, make_optimizer, stage_at
from experiments.pretraining_data import (
    Batch,
    Mixture,
    SequenceMaker,
    TokenizedDialogue,
    collate,
    packed_batches,
    tokenize,
)
from experiments.run_folder import ResultRow, open_run, write_results

TRAIN_CORPORA = {  # corpus -> (split, how often it is drawn, relative)
    "empatheticdialogues": ("train", 3.0),
    "dailydialog": ("train", 2.5),
    "msc": ("valid", 2.0),
    "synthetic_persona_chat": ("valid", 1.5),
    "personachat": ("train", 1.0),
    "topical_chat": ("valid", 0.7),
    "casino": ("train", 0.3),
    "inspired": ("valid", 0.2),
    "p4g": ("train", 0.3),
}
GRAMMAR_WEIGHTS = {"acquaintance": 0.4, "comfort": 0.15, "recommend": 0.22, "guarded": 0.23}
VALIDATION_CORPORA = {"empatheticdialogues": "valid", "dailydialog": "valid", "personachat": "valid"}

CONTROL_DIALOGUES = 3000  # of the grammar, that the named controls are made from
CONTROL_CANDIDATES, CONTROL_CONTEXTS = 12, 24  # codes tried for each control, and in how many contexts
CHECKPOINT = "checkpoint.safetensors"
Config = PretrainConfig


def run(config: PretrainConfig) -> Path:
    """Train, or go on training, and export the model; return the run folder.

    Raises:
        FileNotFoundError: there is no data folder, or an official file is missing in it.
        ValueError: a comparison without grammar is to go on from a model that was trained with it.
    """
    torch.set_num_threads(config.threads)
    _check_comparison(config)
    root = corpora.root(config.data)
    wanted = {name: split for name, (split, _) in TRAIN_CORPORA.items()}
    files = [f for name, split in wanted.items() for f in corpora.files(name, root, split)]
    out = open_run(config.out, "pretrain", config, files)
    tokenizer = _tokenizer(config, root, out)
    torch.manual_seed(config.seed)
    trainer = PocketTrainer(config, tokenizer)
    validation = _validation_batches(config, root, tokenizer)
    progress = _train(config, trainer, _mixture(root, tokenizer), tokenizer, validation, out)
    losses = validate(trainer, validation)
    rows = [
        ResultRow("pocket", f"perplexity/{name}" + ("_coded" if coded else ""), math.exp(nats), None, n, 1)
        for (name, coded), (nats, n) in losses.items()
    ]
    seen = {"own": progress["own_tokens"], "real": progress["tokens"] - progress["own_tokens"]}
    rows += [ResultRow("pocket", f"trained_tokens/{name}", n, None, progress["step"], 1) for name, n in seen.items()]
    write_results(out, rows)
    print(f"trained on {seen['real']} tokens of real text and {seen['own']} of the own grammar")
    export(trainer, tokenizer, out / "model")
    return out


def export(trainer: PocketTrainer, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the model (fp16 safetensors), its tokenizer, its `latent` up-mapping and the controls named in it."""
    trainer.lm.generation_config.eos_token_id = tokenizer.eos_token_id
    trainer.lm.half().save_pretrained(folder)
    trainer.lm.float()
    tokenizer.save_pretrained(folder)
    (folder / "up_maps").mkdir(exist_ok=True)
    trainer.mapping.save(folder / "up_maps" / "latent.safetensors")
    rng = np.random.default_rng(0)
    sampled = [scenarios.sample_dialogue(rng, "train") for _ in range(CONTROL_DIALOGUES)]
    candidates = control_candidates(trainer.encoder, tokenizer, control_replies(sampled), CONTROL_CANDIDATES)
    speaker = LMSpeaker(FrozenLM.from_pretrained(str(folder)))
    save_controls(
        folder / "up_maps" / "controls.json",
        choose_controls(speaker, trainer.mapping, candidates, CONTROL_CONTEXTS),
    )


@torch.no_grad()
def validate(
    trainer: PocketTrainer, batches: Mapping[tuple[str, bool], list[Batch]]
) -> dict[tuple[str, bool], tuple[float, int]]:
    """Return mean nats a token and the number of tokens for each (source, coded) set of batches."""
    trainer.eval()
    losses, stage = {}, trainer.config.stages[-1]
    for key, group in batches.items():
        total, count = 0.0, 0
        for batch in group:
            tokens = int(batch.trained[:, 1:].sum())
            if key[1]:
                total += float(trainer(batch, stage, torch.Generator().manual_seed(0))["coded_nats"]) * tokens
            else:
                total += float(sequence_nats(trainer.lm, batch).sum())
            count += tokens
        losses[key] = total / max(count, 1), count
    trainer.train()
    return losses


def _check_comparison(config: PretrainConfig) -> None:
    """Raise ValueError where a comparison without grammar would go on from a model that was trained with it."""
    if config.real_tokens is None:
        return
    if config.real_tokens <= 0:
        raise ValueError(f"real_tokens is {config.real_tokens}, expected a positive number")
    path = config.out / CHECKPOINT
    if path.exists() and load_tree(path)["progress"]["own_tokens"]:
        raise ValueError(f"{path} was trained with the grammar; give a comparison without it its own --out")


def _train(
    config: PretrainConfig,
    trainer: PocketTrainer,
    mixture: Mixture,
    tokenizer: PreTrainedTokenizerBase,
    validation: Mapping[tuple[str, bool], list[Batch]],
    out: Path,
) -> dict[str, int | float]:
    """Train from the last checkpoint on; return steps taken and tokens trained on."""
    optimizer = make_optimizer(trainer, config)
    path = out / CHECKPOINT
    progress = {"step": 0, "pool": 0, "batch": 0, "pool_step": 0, "tokens": 0, "own_tokens": 0}
    if path.exists():
        saved = load_tree(path)
        trainer.load_state_dict(saved["trainer"])
        optimizer.load_state_dict(saved["optimizer"])
        progress = saved["progress"]
    writer = SummaryWriter(out / "tensorboard", purge_step=progress["step"])
    maker = SequenceMaker(tokenizer, config.prefix_length, config.max_length, config.max_coded_length)
    start = int(clock(config, progress))
    bar = tqdm(total=config.steps, initial=start, desc="pretrain", unit="step", smoothing=0.05)
    for batch in _batches(config, mixture, maker, progress):
        step, now = progress["step"], clock(config, progress)
        rate = learning_rate(config, now)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            parts = trainer(batch, stage_at(config, now), generator)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(trainer.parameters(), 1.0)
        optimizer.step()
        progress["step"] += 1
        progress["tokens"] += int(batch.trained.sum())
        progress["own_tokens"] += int(batch.trained[batch.own].sum())
        done = clock(config, progress) >= config.steps
        bar.update(int(clock(config, progress)) - bar.n)
        if step % 20 == 0:
            bar.set_postfix({name: f"{float(value.detach()):.3f}" for name, value in parts.items()})
            for name, value in parts.items():
                if math.isfinite(float(value.detach())):  # a batch may hold only plain, or only coded, sequences
                    writer.add_scalar(f"train/{name}", float(value.detach()), step)
            writer.add_scalar("train/learning_rate", rate, step)
            writer.add_scalar("train/trained_tokens", progress["tokens"], step)
            writer.add_scalar("train/own_tokens", progress["own_tokens"], step)
        if progress["step"] % config.checkpoint_every == 0 or done:
            state = {"trainer": trainer.state_dict(), "optimizer": optimizer.state_dict(), "progress": progress}
            save_tree(path, state)
        if progress["step"] % config.validate_every == 0 or done:
            for (name, coded), (nats, _) in validate(trainer, validation).items():
                writer.add_scalar(f"valid/{name}" + ("_coded" if coded else ""), nats, step)
    bar.close()
    writer.close()
    return progress


def _batches(
    config: PretrainConfig, mixture: Mixture, maker: SequenceMaker, progress: dict[str, int | float]
) -> Iterator[Batch]:
    """Yield the batches from where `progress` stands, and keep it up to date; pools depend on the seed alone."""
    while clock(config, progress) < config.steps:
        rng = np.random.default_rng([config.seed, progress["pool"]])
        stage = stage_at(config, progress["pool_step"])
        drawn = mixture.draw(config.pool, stage.grammar if config.real_tokens is None else 0.0, rng)
        coded = rng.random(len(drawn)) < stage.coded
        made = [maker.make(d, bool(c), rng) for d, c in zip(drawn, coded, strict=True)]
        sequences = [s for s in made if s is not None]
        for index, batch in enumerate(packed_batches(sequences, config.tokens_per_batch, maker.pad, rng)):
            if index < progress["batch"]:
                continue
            if clock(config, progress) >= config.steps:
                return
            progress["batch"] = index + 1
            yield batch
        progress.update(pool=progress["pool"] + 1, batch=0, pool_step=clock(config, progress))


def _tokenizer(config: PretrainConfig, root: Path, out: Path) -> PreTrainedTokenizerBase:
    folder = out / "tokenizer"
    if not (folder / "tokenizer.json").exists():
        texts = (
            text
            for name, (split, _) in TRAIN_CORPORA.items()
            for dialogue in corpora.read(name, root, split)
            for text in (*dialogue.situations.values(), *(turn.text for turn in dialogue.turns))
        )
        train_tokenizer(texts, config.vocab_size, max_length=1024).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def _mixture(root: Path, tokenizer: PreTrainedTokenizerBase) -> Mixture:
    read = {
        name: list(corpora.read(name, root, split))
        for name, (split, _) in tqdm(TRAIN_CORPORA.items(), desc="read corpora", unit="corpus")
    }
    texts = (turn.text for dialogues in read.values() for dialogue in dialogues for turn in dialogue.turns)
    words = invention.word_pool(texts, scenarios.held_out_values())
    tokenized = {name: tokenize(dialogues, tokenizer) for name, dialogues in read.items()}
    weights = {name: weight for name, (_, weight) in TRAIN_CORPORA.items()}
    grammar = partial(scenarios.sample_dialogue, split="train", weights=GRAMMAR_WEIGHTS, words=words)
    return Mixture(tokenized, weights, grammar, tokenizer)


def _validation_batches(
    config: PretrainConfig, root: Path, tokenizer: PreTrainedTokenizerBase
) -> dict[tuple[str, bool], list[Batch]]:
    rng = np.random.default_rng([config.seed, 1 << 32])
    maker = SequenceMaker(tokenizer, config.prefix_length, config.max_length, config.max_coded_length)
    count = config.validation_dialogues
    sources = {name: list(corpora.read(name, root, split))[:count] for name, split in VALIDATION_CORPORA.items()}
    sources["grammar_heldout"] = [scenarios.sample_dialogue(rng, "heldout", GRAMMAR_WEIGHTS) for _ in range(count)]
    batches = {}
    for name, dialogues in sources.items():
        tokenized = tokenize(dialogues, tokenizer)
        for coded in (False, True):
            batches[name, coded] = sequence_batches(tokenized, coded, maker, rng)
    return batches


def sequence_batches(
    dialogues: Sequence[TokenizedDialogue], coded: bool, maker: SequenceMaker, rng: np.random.Generator
) -> list[Batch]:
    """Return one sequence of each dialogue (where one fits), in batches of 32 of like length."""
    made = [maker.make(dialogue, coded, rng) for dialogue in dialogues]
    sequences = sorted((s for s in made if s is not None), key=lambda s: len(s.ids))
    return [collate(sequences[i : i + 32], maker.pad) for i in range(0, len(sequences), 32)]

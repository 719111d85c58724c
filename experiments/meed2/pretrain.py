"""Train what starts from scratch, mostly on general dialogue; and what all stages of training share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.checkpoint import load_tree, save_tree
from dialog_envs import corpora
from dialog_envs.speakers.meed2_model import EmotionPredictor, Responder
from experiments.fitting import batches_of, fit
from experiments.meed2 import data
from experiments.meed2.config import CHANGEABLE, PRETRAINING, STAGES, Config, Training
from experiments.meed2.data import IGNORED, Pairs, Sets
from experiments.run_folder import model_files, open_run, write_json
from reward_models.emotion import POCKET, EmotionClassifier
from reward_models.precision import training_precision

__all__ = ["Config", "run"]

WEIGHTS, RECORD, CHECKPOINT = "weights.safetensors", "training.json", "checkpoint.safetensors"


def run(config: Config) -> Path:
    """Train the stages that start from scratch, seed by seed, where that is not done; return the run folder."""
    train_stages(config, PRETRAINING)
    return config.out


def open_meed2(config: Config) -> tuple[Path, EmotionClassifier]:
    """Open the run folder; return the folder of the corpora, and the classifier.

    Raises:
        FileNotFoundError: there is no data folder, an official file is missing in it, or there is no classifier, or no
            curated dialogue.
        ValueError: the folder was begun with other settings.
    """
    torch.set_num_threads(config.threads)
    root = corpora.root(config.data)
    folder = POCKET if config.classifier == "pocket" else Path(config.classifier)
    classifier = EmotionClassifier.from_pretrained(folder).to(config.device)
    open_run(config.out, "meed2", config, [*data.files(root, config.curated), *model_files(str(folder))], CHANGEABLE)
    return root, classifier


def train_stages(config: Config, names: Iterable[str]) -> Sets:
    """Train some stages with every seed, and what they start from; return the dialogues."""
    root, classifier = open_meed2(config)
    sets = data.read(config, root, classifier)
    for seed in range(config.seeds):
        for name in names:
            train_stage(config, sets, name, seed)
    return sets


def stage_folder(config: Config, name: str, seed: int) -> Path:
    """Return where a stage of one seed lies."""
    return config.out / f"seed_{seed}" / name


def train_stage(config: Config, sets: Sets, name: str, seed: int) -> nn.Module:
    """Train one stage with one seed, or take up what was trained."""
    stage, folder = STAGES[name], stage_folder(config, name, seed)
    if (folder / RECORD).exists():
        return load_stage(config, name, len(sets.tokenizer), seed)
    network = new_network(config, name, len(sets.tokenizer), seed)
    if stage.start is not None:
        network.load_state_dict(train_stage(config, sets, stage.start, seed).state_dict())
    training = config.pretraining if stage.start is None else config.finetuning
    chosen = sets.train[stage.data].sample(training.pairs, seed)
    loss = partial(predictor_loss if stage.network == "predictor" else responder_loss, network)
    optimizer = torch.optim.Adam(network.parameters(), training.learning_rate, betas=(0.9, 0.98))
    losses = fit(
        network,
        optimizer,
        batch_loss(chosen, loss, training, config.device),
        batches_of(chosen.lengths, training, seed),
        folder / CHECKPOINT,
        seed,
        clip=training.clip,
        every=training.checkpoint_every,
        label=f"{name}, seed {seed}",
    )
    save_tree(folder / WEIGHTS, {"network": network.state_dict()})
    record = {"stage": asdict(stage), "seed": seed, "training": asdict(training), "pairs": len(chosen)}
    write_json(folder / RECORD, record | {"loss": losses})
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return network


def records(config: Config, name: str, seed: int) -> list[dict[str, Any]]:
    """Return what is known of the training of a stage and of those that it starts from, the first one first."""
    start = STAGES[name].start
    earlier = [] if start is None else records(config, start, seed)
    return [*earlier, json.loads((stage_folder(config, name, seed) / RECORD).read_text())]


def load_stage(config: Config, name: str, vocab_size: int, seed: int) -> nn.Module:
    """Return what was trained.

    Raises:
        FileNotFoundError: this stage has not been trained with this seed.
    """
    path = stage_folder(config, name, seed) / WEIGHTS
    if not path.exists():
        raise FileNotFoundError(f"no {path}: `python -m experiments meed2 finetune --out {config.out}` makes it")
    network = new_network(config, name, vocab_size, seed)
    network.load_state_dict(load_tree(path)["network"])
    return network.eval()


def new_network(config: Config, name: str, vocab_size: int, seed: int) -> nn.Module:
    """Return a stage's network with random weights."""
    torch.manual_seed(seed)
    network = STAGES[name].network
    if network == "predictor":
        return EmotionPredictor(config.predictor, vocab_size).to(config.device)
    return Responder(replace(config.responder, emotions=network == "meed2"), vocab_size).to(config.device)


def batch_loss(
    chosen: Pairs, loss: Callable[[Pairs], Tensor], training: Training, device: str
) -> Callable[..., Tensor]:
    """Return the function places of pairs -> loss."""

    def loss_of(places: Iterable[int]) -> Tensor:
        with training_precision(torch.device(device), training.bf16):
            return loss(chosen.at(places))

    return loss_of


def responder_loss(responder: Responder, batch: Pairs) -> Tensor:
    """Return the mean negative log-likelihood a token of replies whose true emotion is told."""
    longest, device = responder.config.max_tokens, responder.bias.device
    given, wanted = (ids.to(device) for ids in batch.replies(longest))
    emotions = torch.from_numpy(batch.emotions).to(device)
    vectors = responder.write(batch.contexts(longest).to(device), given, emotions)
    said = wanted != IGNORED  # nothing is foretold behind a reply's end, which spares half of the longest product
    return F.cross_entropy(responder.words(vectors[said]).float(), wanted[said])


def predictor_loss(predictor: EmotionPredictor, batch: Pairs) -> Tensor:
    """Return the mean cross-entropy of the replies' emotions."""
    logits = predictor(batch.contexts(predictor.config.max_tokens).to(predictor.scorer.device))
    return F.cross_entropy(logits.float(), torch.from_numpy(batch.emotions).to(logits.device))

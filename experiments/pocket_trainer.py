"""What is trained when the pocket model is made: language model, reply encoder and control place, as one module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from dialog_envs.lm.latent import ReplyEncoder, add_noise, uniformity
from dialog_envs.lm.steering import UpMapping, UpMappingConfig
from experiments.pretraining_data import Batch


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes:
        steps: optimiser steps.
        grammar: share of dialogues from the own grammar.
        coded: share of sequences with a code in the control place.
        coded_weight: weight of a token of a coded reply against that of any other; coded sequences train on one reply.
        bag_weight: weight of the term that lets the prefix alone, as if it were a last hidden state, name the reply's
            words: it gives the code a meaning before the model has learned to listen.
    """

    steps: int
    grammar: float
    coded: float
    coded_weight: float = 1.0
    bag_weight: float = 0.0


@dataclass(frozen=True)
class PretrainConfig:
    """Train a pocket language model from scratch; a run that was stopped goes on from its last checkpoint."""

    out: Path = Path("runs/pretrain")
    """Run folder; the model is written to `<out>/model`."""
    data: Path | None = None
    """Folder of the official corpus files (default: `DIALOG_ENVS_DATA`, else `../shared/data`)."""
    seed: int = 0
    """Seed of weights, data order and code noise."""
    hidden_size: int = 256
    """Width of the model."""
    layers: int = 6
    """Number of layers."""
    heads: int = 4
    """Number of attention heads."""
    intermediate_size: int = 704
    """Width of the gated feed-forward layer."""
    vocab_size: int = 4096
    """Number of token ids."""
    max_length: int = 256
    """Longest training sequence in tokens."""
    max_coded_length: int = 160
    """Longest sequence with a control place."""
    action_dim: int = 16
    """Size d' of the code."""
    prefix_length: int = 2
    """Positions L of the control place."""
    code_noise: float = 0.3
    """Length of the noise that is added to the unit code."""
    uniformity_weight: float = 0.1
    """Weight of the term that spreads the codes over the sphere."""
    stages: tuple[Stage, ...] = (
        Stage(1200, 0.0, 0.2),
        Stage(400, 0.5, 0.5),
        Stage(1000, 0.6, 0.7, 4.0, 0.3),
        Stage(400, 0.65, 0.3, 2.0, 0.1),
        Stage(600, 0.65, 0.2, 2.0, 0.1),
        Stage(800, 0.7, 0.2, 2.0, 0.1),
        Stage(3000, 0.6, 0.25, 2.0, 0.1),
        Stage(2400, 0.65, 0.2, 2.0, 0.1),
        Stage(2400, 0.6, 0.2, 2.0, 0.1),
        Stage(2800, 0.6, 0.35, 2.0, 0.1),
        Stage(8000, 0.72, 0.15, 2.0, 0.1),
        Stage(8000, 0.7, 0.2, 2.0, 0.1),
    )
    """Stretches of training, one after the other."""
    real_tokens: int | None = None
    """Leave the grammar out, for comparison, and end after so many trained tokens of real text (another run's
    `trained_tokens/real` in its `results.json`); the stages and the rate then follow the share of them that is done."""
    tokens_per_batch: int = 6144
    """Padded tokens a step."""
    pool: int = 4096
    """Sequences that are drawn and sorted by length at a time."""
    learning_rate: float = 1.5e-3
    """Peak rate; warm-up over 200 steps, constant, then down in a straight line."""
    decay_share: float = 0.3
    """Share of the steps over which the rate goes down."""
    weight_decay: float = 0.05
    """Decoupled weight decay of matrices."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    validate_every: int = 400
    """Steps between validations."""
    validation_dialogues: int = 100
    """Dialogues of each validation corpus."""
    threads: int = 2
    """CPU threads."""
    compile: bool = False
    """Compile what is trained, which takes a C++ compiler: about 0.6 of the time a step."""

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)


class PocketTrainer(nn.Module):
    """The language model, the reply encoder and the map from code to control place, trained as one."""

    def __init__(self, config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.config = config
        self.lm = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                intermediate_size=config.intermediate_size,
                max_position_embeddings=1024,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                attn_implementation="eager",  # on a CPU the fused kernel's backward pass in bfloat16 is slower
            )
        )
        self.encoder = ReplyEncoder(len(tokenizer), config.action_dim)
        self.mapping = UpMapping(
            UpMappingConfig(
                config.action_dim, config.prefix_length, config.hidden_size, projection="sphere", kind="latent"
            )
        )
        nn.init.normal_(self.mapping.weight, std=0.02)
        self.token_nats = token_nats
        if config.compile:
            self.lm.model.compile(dynamic=True)
            self.token_nats = torch.compile(token_nats, dynamic=True)

    def forward(self, batch: Batch, stage: Stage, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return `loss` (total), `nats` a plain token, `coded_nats` a coded token, `bag_nats` and `uniformity`."""
        embeds = self.lm.get_input_embeddings()(batch.ids)
        rows = batch.coded.nonzero().squeeze(1)
        spread = bag = embeds.new_zeros(())
        if len(rows) > 1:
            codes = self.encode_replies(batch, rows)
            spread = uniformity(codes)
            prefix = self.mapping(add_noise(codes, self.config.code_noise, generator))
            bag = self.bag_nats(prefix, batch, rows)
            head = torch.cat([embeds[rows, :1], prefix.to(embeds.dtype), embeds[rows, 1 + prefix.shape[1] :]], 1)
            embeds = embeds.index_copy(0, rows, head)
        hidden = self.lm.model(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, :-1]
        target = batch.trained[:, 1:]
        nats = self.token_nats(hidden[target], self.lm.lm_head.weight, batch.ids[:, 1:][target])
        coded = batch.coded.unsqueeze(1).expand_as(target)[target]
        weight = 1.0 + (stage.coded_weight - 1.0) * coded
        loss = (weight * nats).sum() / weight.sum()
        return {
            "loss": loss + self.config.uniformity_weight * spread + stage.bag_weight * bag,
            "nats": nats[~coded].mean() if (~coded).any() else nats.new_tensor(float("nan")),
            "coded_nats": nats[coded].mean() if coded.any() else nats.new_tensor(float("nan")),
            "bag_nats": bag,
            "uniformity": spread,
        }

    def bag_nats(self, prefix: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        """Return the nats a token of naming coded replies' tokens from the prefix `(n, L, H)` alone, in any order."""
        logits = self.lm.lm_head(self.lm.model.norm(prefix)).float().mean(1).log_softmax(-1)  # (n, V)
        mask = batch.trained[rows]
        return -logits.gather(1, batch.ids[rows])[mask].mean()

    def encode_replies(self, batch: Batch, rows: Tensor) -> Tensor:
        """Return the codes `(n, d')` of the replies that coded rows are trained on."""
        mask = batch.trained[rows]
        first = mask.int().argmax(1).min()
        return self.encoder(batch.ids[rows, first:], mask[:, first:])


def token_nats(hidden: Tensor, head: Tensor, ids: Tensor) -> Tensor:
    """Return the nats `(n,)` of the tokens that come behind hidden states `(n, H)`, by an output layer `(V, H)`."""
    return nn.functional.cross_entropy(nn.functional.linear(hidden, head).float(), ids, reduction="none")


def clock(config: PretrainConfig, progress: Mapping[str, float]) -> float:
    """Return where training stands in `[0, config.steps]`: the steps taken, or the share of `real_tokens` as steps."""
    if config.real_tokens is None:
        return progress["step"]
    return config.steps * min(1.0, (progress["tokens"] - progress["own_tokens"]) / config.real_tokens)


def learning_rate(config: PretrainConfig, step: float) -> float:
    """Return the rate at a step: linear warm-up, constant, then a straight line down to a fiftieth of the peak."""
    warmup = min(200, config.steps // 10 + 1)
    rise = min(1.0, (step + 1) / warmup)
    left = (config.steps - step) / max(1.0, config.decay_share * config.steps)
    return config.learning_rate * min(rise, 0.02 + 0.98 * min(1.0, left))


def stage_at(config: PretrainConfig, step: float) -> Stage:
    """Return the stage that a step belongs to."""
    for stage in config.stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    return config.stages[-1]


def make_optimizer(trainer: PocketTrainer, config: PretrainConfig) -> torch.optim.AdamW:
    """Return AdamW with decay on matrices only."""
    groups = {True: [], False: []}
    for parameter in trainer.parameters():
        groups[parameter.ndim >= 2].append(parameter)
    return torch.optim.AdamW(
        [{"params": groups[True], "weight_decay": config.weight_decay}, {"params": groups[False], "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )

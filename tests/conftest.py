"""Tiny random models that the tests make, and fixtures around them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.pocket_tokenizer import train_tokenizer
from dialog_envs.speakers.idpt import IDPT
from dialog_envs.speakers.idpt_model import IDPTConfig
from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig
from reward_models.dmi.tokens import train_tokenizer as train_encoder_tokenizer
from reward_models.persona_critic import PersonaCritic

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
FAMILIES = ("llama", "gpt2", "qwen2")

torch.set_num_threads(1)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    text = ["hello there, how are you doing today?", "i am a baker and i like jazz.", "my dog ran away last week."]
    return train_tokenizer(text * 20, vocab_size=320, max_length=1024)


def tiny_config(family: str, vocab_size: int):
    shared = {"vocab_size": vocab_size, "bos_token_id": 1, "eos_token_id": 2}
    if family == "llama":
        return LlamaConfig(**SIZES, num_key_value_heads=1, max_position_embeddings=1024, **shared)
    if family == "qwen2":
        return Qwen2Config(**SIZES, num_key_value_heads=2, max_position_embeddings=1024, **shared)
    return GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=1024, **shared)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory):
    """Return a function (family, chat template?) -> folder of a saved tiny random model."""
    made: dict[tuple[str, bool], Path] = {}

    def make(family: str = "llama", chat: bool = True) -> Path:
        if (family, chat) not in made:
            folder = tmp_path_factory.mktemp(f"{family}_{'chat' if chat else 'plain'}")
            tokenizer = tiny_tokenizer()
            if not chat:
                tokenizer.chat_template = None
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(tiny_config(family, len(tokenizer)))
            with torch.no_grad():  # wide enough that what the random model says hangs on the whole history
                for parameter in model.parameters():
                    if parameter.dim() > 1:
                        parameter.normal_(std=0.4)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[family, chat] = folder
        return made[family, chat]

    return make


@pytest.fixture(scope="session")
def tiny_lm(model_folder) -> FrozenLM:
    return FrozenLM.from_pretrained(model_folder())


@pytest.fixture(scope="session")
def empathy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `DialogEnvs/EmpathyIntent-v0` takes by name, each saved with random weights."""
    from tests.empathy import save_parts

    return save_parts(tmp_path_factory.mktemp("empathy"))


@pytest.fixture(scope="session")
def critic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved persona critic with random weights."""
    folder = tmp_path_factory.mktemp("critic")
    tokenizer = train_encoder_tokenizer(["i am a baker and i like jazz.", "my dog ran away last week."] * 20, 100)
    size = EncoderConfig(100, hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=64)
    torch.manual_seed(0)
    DialogueEncoder.from_scratch(size, tokenizer).save_pretrained(folder / "encoder")
    return PersonaCritic.from_encoder(folder / "encoder", trained_layers=1).save(folder / "critic")


@pytest.fixture(scope="session")
def idpt_folder(model_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved set of IDPT's prefixes with random weights, its encoder beside it."""
    folder = tmp_path_factory.mktemp("idpt")
    tokenizer = train_encoder_tokenizer(["i am a baker and i like jazz.", "my dog ran away last week."] * 20, 100)
    size = EncoderConfig(100, hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=64)
    torch.manual_seed(0)
    DialogueEncoder.from_scratch(size, tokenizer).save_pretrained(folder / "encoder")
    config = IDPTConfig(width=8, heads=2, prefix_length=2)
    return IDPT.from_scratch(config, str(model_folder()), str(folder / "encoder")).save_pretrained(folder / "set")

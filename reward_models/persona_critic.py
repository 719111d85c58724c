"""The persona critic of PPG: does this response belong to the speaker with this persona?

Lu et al., "Partner Personas Generation for Dialogue Response Generation", NAACL 2022: a binary classifier learns true
pairs (s_A, r_A), (s_B, r_B) against swapped ones (s_A, r_B), (s_B, r_A), is frozen, and its label is the reward. It is
trained by `reward_models/persona_training.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reward_models.dmi.encoder import DialogueEncoder, encoder_source, replaced_folder
from reward_models.persona_heads import FirstToken, LateInteraction

POCKET = Path(__file__).parent / "persona_critic_pocket"
SETTINGS, WEIGHTS = "critic.json", "critic.safetensors"
HEADS = {"apart": LateInteraction, "together": FirstToken}


@dataclass(frozen=True)
class CriticConfig:
    """What a critic is made of; a saved critic keeps it."""

    encoder: str = "pocket"
    """The project's small encoder (`"pocket"`), a folder, or a Hugging Face name such as
    `distilbert/distilbert-base-uncased`."""
    reads: Literal["apart", "together"] = "apart"
    """`together`: persona and response as one row, judged by its first token (the paper's way, for a pretrained model);
    `apart`: each by itself, compared token by token (for a small encoder)."""
    trained_layers: int | None = 2
    """Topmost layers of the encoder that are trained and saved with the head; None: all of it."""
    max_tokens: int = 128
    """Longest persona in tokens, and longest response."""

    def __post_init__(self) -> None:
        if self.reads not in HEADS:
            raise ValueError(f"reads is {self.reads!r}, expected one of {', '.join(HEADS)}")
        if self.trained_layers is not None and self.trained_layers < 0:
            raise ValueError(f"trained_layers is {self.trained_layers}, expected None, 0 or more")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}, expected 1 or more")


class PersonaCritic(nn.Module):
    """A classifier of (persona, response) pairs over any encoder.

    Attributes:
        encoder: the encoder.
        config: what the critic is made of.
        start: SHA-256 of the encoder's weights before any training: a saved critic fits no other encoder.
    """

    def __init__(self, encoder: DialogueEncoder, config: CriticConfig) -> None:
        super().__init__()
        self.encoder, self.config, self.start = encoder, config, _fingerprint(encoder)
        self.head = HEADS[config.reads](encoder)
        self.requires_grad_(False)

    @classmethod
    def from_encoder(cls, name_or_folder: str | Path = "pocket", seed: int = 0, **settings: object) -> PersonaCritic:
        """Return an untrained critic.

        Args:
            name_or_folder: `"pocket"`, a folder that `DialogueEncoder.save_pretrained` wrote, or any Hugging Face
                encoder by name or folder (DistilBERT is the paper's).
            seed: of the head's weights.
            settings: other fields of `CriticConfig`.

        Raises:
            FileNotFoundError, ValueError: as `DialogueEncoder.from_pretrained`.
        """
        config = CriticConfig(str(name_or_folder), **settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(_load_encoder(config.encoder), config)

    def logits(self, personas: Sequence[str], responses: Sequence[str]) -> Tensor:
        """Return the log-odds `(N,)` that each response belongs to its persona, with gradient."""
        return self.head(self.encoder, personas, responses, self.config.max_tokens)

    @torch.no_grad()
    def probability(self, personas: Sequence[str], responses: Sequence[str], batch_size: int = 128) -> np.ndarray:
        """Return the probability `(N,)`, float64 in [0, 1], that each response belongs to its persona.

        A response without a word belongs to no persona: 0.

        Raises:
            TypeError: an argument is one string, or holds something else than strings.
            ValueError: they have different lengths, or a persona is blank.
        """
        _check(personas, responses)
        said = [i for i, text in enumerate(responses) if text.strip()]
        said.sort(key=lambda i: len(personas[i]) + len(responses[i]))
        found = np.zeros(len(responses))
        training = self.training
        self.eval()
        try:
            for first in range(0, len(said), batch_size):
                part = said[first : first + batch_size]
                logits = self.logits([personas[i] for i in part], [responses[i] for i in part])
                found[part] = logits.double().sigmoid().cpu().numpy()
        finally:
            self.train(training)
        return found

    def label(self, personas: Sequence[str], responses: Sequence[str], batch_size: int = 128) -> np.ndarray:
        """Return the paper's reward `(N,)`, int64: +1 where the probability is at least 1/2, else -1."""
        return np.where(self.probability(personas, responses, batch_size) >= 0.5, 1, -1)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return what training changes and `save` writes, by name: the head and the encoder's top layers."""
        chosen = {f"head.{name}": parameter for name, parameter in self.head.named_parameters()}
        if self.config.trained_layers is None:
            return chosen | {f"encoder.{name}": value for name, value in self.encoder.named_parameters()}
        name, layers = max(
            ((n, m) for n, m in self.encoder.named_modules() if isinstance(m, nn.ModuleList)), key=lambda x: len(x[1])
        )
        for place in range(max(0, len(layers) - self.config.trained_layers), len(layers)):
            of_layer = layers[place].named_parameters()
            chosen |= {f"encoder.{name}.{place}.{inner}": value for inner, value in of_layer}
        return chosen

    def fingerprint(self) -> str:
        """Return a SHA-256 over all parameters: the same before and after any training of what it judges."""
        return _fingerprint(self)

    def save(self, folder: str | Path) -> Path:
        """Write `critic.json` and `critic.safetensors` (float16, what training changes) to a folder, replaced whole."""
        with replaced_folder(folder) as temporary:
            weights = {name: value.detach().half().contiguous() for name, value in self.trained_parameters().items()}
            save_file(weights, temporary / WEIGHTS)
            settings = {"config": asdict(self.config), "start": self.start}
            (temporary / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path = POCKET) -> PersonaCritic:
        """Return the frozen critic that `save` wrote; by default the shipped one.

        Raises:
            FileNotFoundError: there is none, or its encoder is not there.
            ValueError: its encoder has other weights than the one it was trained on, or the files do not fit.
        """
        folder = Path(folder)
        for name in (SETTINGS, WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"no persona critic in {folder}: {name} is missing")
        settings = json.loads((folder / SETTINGS).read_text())
        critic = cls(_load_encoder(settings["config"]["encoder"]), CriticConfig(**settings["config"]))
        if critic.start != settings["start"]:
            raise ValueError(f"{folder} was trained on other weights of the encoder {critic.config.encoder!r}")
        weights, own = load_file(folder / WEIGHTS), critic.trained_parameters()
        if {name: tuple(value.shape) for name, value in weights.items()} != {
            name: tuple(value.shape) for name, value in own.items()
        }:
            raise ValueError(f"{folder / WEIGHTS} holds other weights than its {SETTINGS} describes")
        for name, value in weights.items():
            own[name].data.copy_(value)
        return critic.eval()


def _load_encoder(name: str) -> DialogueEncoder:
    with torch.random.fork_rng(devices=[]):  # a separator that an encoder lacks is drawn at random, always alike
        torch.manual_seed(0)
        return DialogueEncoder.from_pretrained(encoder_source(name))


def _fingerprint(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check(personas: Sequence[str], responses: Sequence[str]) -> None:
    for name, texts in (("personas", personas), ("responses", responses)):
        if isinstance(texts, str):
            raise TypeError(f"{name} is a str ({texts!r:.60}), expected a sequence of them")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"{name}[{number}] is a {type(text).__name__}, expected a str")
            if name == "personas" and not text.strip():
                raise ValueError(f"personas[{number}] is blank, expected a persona to judge the response by")
    if len(personas) != len(responses):
        raise ValueError(f"{len(personas)} personas and {len(responses)} responses, expected as many of each")

"""Tiny random models of what `DialogEnvs/EmpathyIntent-v0` is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dialog_envs.lm.pocket_tokenizer import train_tokenizer
from dialog_envs.speakers.meed2 import MEED2Speaker
from dialog_envs.speakers.meed2_model import EmotionPredictor, MEED2Config, Responder
from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig
from reward_models.dmi.reward import CoherenceReward, fit_calibration
from reward_models.dmi.tokens import train_tokenizer as train_encoder_tokenizer
from reward_models.emotion import EmotionClassifier
from reward_models.emotion_labels import LABELS
from reward_models.utterance_judge import UtteranceJudge

WORDS = (
    "i am so sad and lonely today . my dog ran away , what a pity ! are you all right ? i hope you feel better".split()
)
RESPONDER, PREDICTOR = MEED2Config(24, 1, 1, 2, 32, 0.0, 64), MEED2Config(16, 1, 0, 2, 24, 0.0, 64)


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(3, 9))) for _ in range(count)]


def encoder() -> DialogueEncoder:
    size = EncoderConfig(120, hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=64)
    torch.manual_seed(0)
    return DialogueEncoder.from_scratch(size, train_encoder_tokenizer(sentences(200), 120)).eval()


def spread(module: torch.nn.Module, std: float = 0.4) -> None:
    """Make weights so wide that what a random model says hangs on all that it reads."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=std)


def tagger(texts: Sequence[str]) -> np.ndarray:
    """A classifier of sums of letters."""
    found = np.full((len(texts), len(LABELS)), 0.2 / (len(LABELS) - 1))
    found[np.arange(len(texts)), [sum(map(ord, text)) % len(LABELS) for text in texts]] = 0.8
    return found


def meed2(classifier=tagger, **changes: object) -> MEED2Speaker:
    tokenizer = train_tokenizer(sentences(200), 320, 64)
    torch.manual_seed(1)
    responder = Responder(MEED2Config(**vars(RESPONDER) | changes), len(tokenizer))
    predictor = EmotionPredictor(PREDICTOR, len(tokenizer))
    for module in (responder, predictor):
        spread(module)
    return MEED2Speaker(responder, predictor, tokenizer, classifier).eval()


def save_parts(folder: Path) -> dict[str, str]:
    """Save a classifier, MEED2, coherence and harm; return their folders by the environment's arguments."""
    names = {name: str(folder / name) for name in ("meed2", "emotion", "coherence", "harm")}
    base = encoder()
    said = sentences(40, 1)
    pairs = [([text], other) for text, other in zip(said, sentences(40, 2), strict=True)]
    CoherenceReward(base, fit_calibration(base, pairs, np.random.default_rng(0))).save_pretrained(names["coherence"])
    classifier = EmotionClassifier.from_encoder(names["coherence"])
    spread(classifier.head)
    classifier.save_pretrained(names["emotion"])
    judge = UtteranceJudge(encoder())
    judge.save_pretrained(names["harm"])
    meed2().save_pretrained(names["meed2"])
    return names

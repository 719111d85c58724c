"""Own-written files in the corpora's official formats, a tiny encoder, and a whole run on tiny models."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from agents.exchanges import Draws
from agents.reinforce import ReinforceConfig
from dialog_envs.lm.decoding import Sampling
from experiments import ppg
from experiments.ppg.critics import Critics
from experiments.ppg.speed import Speed
from experiments.ppg.supervised import Supervision
from reward_models.dmi.encoder import DialogueEncoder, EncoderConfig
from reward_models.dmi.tokens import train_tokenizer
from reward_models.persona_critic import CriticConfig
from reward_models.persona_training import CriticTraining

THINGS = ("dogs", "jazz", "trains", "bread", "chess", "snow", "boats", "roses", "films", "maths", "clouds", "cheese")
DRAWS = Draws(Sampling(5, 1.0, 0.0), Sampling(4, 1.0, 0.0))


def persona(number: int) -> list[str]:
    """Return two sentences that nobody else has."""
    thing = THINGS[number % len(THINGS)]
    return [f"i like {thing} {number}.", f"i have sold {thing} {number} times."]


def talk(first: int, second: int, turns: int = 6) -> list[str]:
    """Return what two people say, the first one first."""
    things = [THINGS[number % len(THINGS)] for number in (first, second)]
    return [f"well, {things[turn % 2]} are what i talk about, {turn}." for turn in range(turns)]


def write_corpora(root: Path) -> Path:
    """Write PersonaChat (people 0 to 7 in validation), MSC and Synthetic-Persona-Chat (some of them and others)."""
    chat = root / "personachat"
    chat.mkdir(parents=True)
    pairs = [(a, b) for a in range(8) for b in range(8) if a < b]
    (chat / "valid_both_original_no_cands.txt").write_text("".join(chat_block(a, b, True) for a, b in pairs))
    train = [(20 + i, 30 + i) for i in range(8)] + [(40, 0)]
    (chat / "train_subset_self_original_no_cands.txt").write_text("".join(chat_block(a, b, False) for a, b in train))
    (root / "msc").mkdir()
    for session in (2, 3, 4, 5):
        records = [msc_record(i * 9, 50 + session * 10 + i, 100 + session * 10 + i) for i in range(4)]
        (root / "msc" / f"session-{session}-valid.json").write_text(json.dumps(records))
    (root / "synthetic_persona_chat").mkdir()
    with (root / "synthetic_persona_chat" / "Synthetic-Persona-Chat_valid.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user 1 personas", "user 2 personas", "Best Generated Conversation"])
        for a, b in pairs:
            said = "\n".join(f"User {turn % 2 + 1}: {text}" for turn, text in enumerate(talk(a, b)))
            writer.writerow(["\n".join(persona(a)), "\n".join(persona(b)), said])
    (root / "empatheticdialogues").mkdir()
    with (root / "empatheticdialogues" / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance", "selfeval", "tags"]
        )
        for number in range(12):
            for place, text in enumerate(talk(60 + number, 80 + number, 3)):
                situation = f"i found {THINGS[number]} at home."
                writer.writerow([f"hit:{number}", place + 1, "joyful", situation, (place + 1) % 2, text, "", ""])
    return root


def chat_block(partner: int, you: int, both: bool) -> str:
    lines = [f"your persona: {text}" for text in persona(you)]
    lines += [f"partner's persona: {text}" for text in persona(partner)] if both else []
    said = talk(partner, you)
    lines += [f"{said[i]}\t{said[i + 1]}" for i in range(0, len(said), 2)]
    return "".join(f"{number} {line}\n" for number, line in enumerate(lines, 1))


def msc_record(origin: int, user: int, assistant: int) -> dict:
    said = talk(user, assistant)
    meta = {"user": persona(user), "assistant": persona(assistant)}
    return {"id": f"valid_{origin}", "meta": meta, "dialogue": [said[i : i + 2] for i in range(0, len(said), 2)]}


@pytest.fixture(scope="session")
def corpora_root(tmp_path_factory) -> Path:
    return write_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    tokenizer = train_tokenizer([f"i like {thing}. well, they are what i talk about" for thing in THINGS] * 9, 120)
    size = EncoderConfig(120, hidden_size=16, layers=2, heads=2, intermediate_size=16, max_length=64)
    folder = tmp_path_factory.mktemp("encoder") / "model"
    DialogueEncoder.from_scratch(size, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def settings(corpora_root, encoder_folder, model_folder):
    """Return a function that gives the configuration of a whole run on tiny models."""

    def make(out: Path, **changes: object) -> ppg.Config:
        kept = {
            "out": out,
            "data": corpora_root,
            "lm": str(model_folder()),
            "seeds": 2,
            "evaluated": 8,
            "cold": 4,
            "tuned": 4,
            "updates": 2,
            "threads": 1,
            "critics": Critics(
                CriticConfig(str(encoder_folder), trained_layers=1), CriticTraining(1, 16), responses=16
            ),
            "supervision": Supervision(exchanges=8, epochs=1, batch_size=4, checkpoint_every=1, bf16=False),
            "reinforce": ReinforceConfig(learning_rate=1e-3, batch_size=4, validate_every=1, draws=DRAWS),
            "evaluation": DRAWS,
            "speed": Speed(exchanges=8, single=2, repeats=2, draws=DRAWS),
        }
        return ppg.Config(**(kept | changes))

    return make

"""The paper's tables: perplexity, diversity, similarity, predictor; and whether a chosen intent is obeyed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from experiments.meed2 import pages
from experiments.meed2.answers import (
    Answers,
    measure,
    nats_of,
    perplexity_change,
    predict,
    replies_of,
)
from experiments.meed2.config import DATA, FINE_TUNED, MEED2, STAGES, SYSTEMS, Config
from experiments.meed2.data import Pairs, Sets
from experiments.meed2.pretrain import stage_folder, train_stage, train_stages
from experiments.run_folder import ResultRow, write_json, write_results
from experiments.statistics import crossed_ci95
from reward_models.dmi.encoder import DialogueEncoder
from reward_models.emotion import EmotionClassifier
from reward_models.emotion_labels import LABELS

__all__ = ["Config", "run"]

QUESTIONING = LABELS.index("questioning")


def run(config: Config) -> Path:
    """Evaluate every system, trained first where that is not done; write tables, figures, samples and replies."""
    sets = train_stages(config, STAGES)
    classifier = EmotionClassifier.from_pretrained(config.classifier).to(config.device)
    chosen = {name: sets.valid[name].sample(config.evaluated, 0) for name in DATA}
    chosen = {name: of for name, of in chosen.items() if len(of)}
    answers = {
        (system, name): [answer(config, sets, system, name, of, seed, classifier) for seed in range(config.seeds)]
        for system in SYSTEMS
        for name, of in chosen.items()
    }
    encoder = DialogueEncoder.from_pretrained(config.encoder).to(config.device)
    rows = [row for (system, name), of in answers.items() for row in measure(system, name, of, chosen[name], encoder)]
    for name, of in chosen.items():
        pair = answers[MEED2, name], answers[FINE_TUNED, name]
        rows += perplexity_change(f"{MEED2} over {FINE_TUNED}", name, *pair, of.index[:, 0])
    asked = [obey(config, sets, seed, classifier) for seed in range(config.seeds)]
    rows += obedience_rows(asked)
    write_results(config.out, rows)
    pages.write(config, rows, answers, chosen, asked, sets)
    return config.out


def answer(
    config: Config, sets: Sets, system: str, name: str, chosen: Pairs, seed: int, classifier: EmotionClassifier
) -> Answers:
    """Let a system of one seed answer, or read what it answered."""
    path = stage_folder(config, SYSTEMS[system].responder, seed) / f"answers_{name}_{_decoding(config)}.json"
    if path.exists():
        return Answers(**json.loads(path.read_text()))
    responder = train_stage(config, sets, SYSTEMS[system].responder, seed)
    true = chosen.emotions
    predicted = np.zeros(0, dtype=int)
    if SYSTEMS[system].predictor is not None:
        predicted = predict(train_stage(config, sets, SYSTEMS[system].predictor, seed), chosen).argmax(1)
    told = predicted if len(predicted) else true  # which a plain Transformer does not read
    nats, tokens = nats_of(responder, chosen, true)
    replies = replies_of(responder, chosen, told, config.beams, sets.tokenizer, f"{system} on {name}, seed {seed}")
    found = Answers(
        nats.tolist(),
        tokens.tolist(),
        (nats_of(responder, chosen, told)[0] if len(predicted) else nats).tolist(),
        predicted.tolist(),
        replies,
        classified(classifier, replies),
    )
    write_json(path, asdict(found))
    return found


def obey(config: Config, sets: Sets, seed: int, classifier: EmotionClassifier) -> dict[str, list]:
    """Ask MEED2 of one seed for every label in the same contexts; return what was asked for, said and recovered."""
    path = stage_folder(config, SYSTEMS[MEED2].responder, seed) / f"asked_{config.asked}_{_decoding(config)}.json"
    if path.exists():
        return json.loads(path.read_text())
    contexts = sets.valid["ed"].sample(config.asked, 1)
    places = np.repeat(np.arange(len(contexts)), len(LABELS))
    asked = np.tile(np.arange(len(LABELS)), len(contexts))
    responder = train_stage(config, sets, SYSTEMS[MEED2].responder, seed)
    replies = replies_of(
        responder, contexts.at(places), asked, config.beams, sets.tokenizer, f"all intents, seed {seed}"
    )
    found = {"dialogue": contexts.at(places).index[:, 0].tolist(), "asked": asked.tolist(), "replies": replies}
    found["recovered"] = classified(classifier, replies)
    write_json(path, found)
    return found


def classified(classifier: EmotionClassifier, texts: Sequence[str]) -> list[int]:
    """Return the most probable label's id of each text; a text without a word is neutral."""
    said = [text if text.strip() else "." for text in texts]
    return [
        int(label) if text.strip() else LABELS.index("neutral")
        for label, text in zip(classifier(said).argmax(1), texts, strict=True)
    ]


def obedience_rows(found: Sequence[Mapping[str, list]]) -> list[ResultRow]:
    """Return how often the label that was asked for is recovered, how often it is where others were asked for
    (`base_rate`), and the difference; also the share of questions where `questioning` was asked for.

    Args:
        found: of each seed, what `obey` returned: the same labels asked for in the same order in the same contexts.
    """
    labels = np.array(list(dict.fromkeys(found[0]["asked"])))
    dialogues = np.array(found[0]["dialogue"])[:: len(labels)]
    read = np.array([one["recovered"] for one in found]).reshape(len(found), -1, len(labels))
    question = np.array([["?" in text for text in one["replies"]] for one in found]).reshape(read.shape)

    def row(metric: str, values: np.ndarray) -> ResultRow:
        """Return the row of `(seeds, contexts)`."""
        mean, half = crossed_ci95(values, dialogues)
        return ResultRow(MEED2, metric, mean, half if np.isfinite(half) else None, values.shape[1], len(found))

    rows = [
        row("recovered", (read == labels).mean(2)),
        row("questions_if_questioning", question[..., labels == QUESTIONING].mean(2)),
        row("questions_else", question[..., labels != QUESTIONING].mean(2)),
    ]
    for place, label in enumerate(labels):
        asked, base_rate = (read[..., place] == label).astype(float), (np.delete(read, place, 2) == label).mean(2)
        for metric, values in zip(pages.OBEDIENCE, (asked, base_rate, asked - base_rate), strict=True):
            rows.append(row(f"{metric}/{LABELS[label]}", values))
    return rows


def _decoding(config: Config) -> str:
    """Return a name for what answers hang on beside the networks: how many, and how they are searched."""
    beams = config.beams
    return f"{config.evaluated}_{beams.width}_{beams.max_new_tokens}_{beams.alpha:g}_{beams.blocked}"

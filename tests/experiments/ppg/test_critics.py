"""Each critic learns its own pairing, from its own dialogues."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.ppg import critics, data


@pytest.fixture(scope="module")
def parts(corpora_root):
    return data.read_parts(corpora_root, 0.5)


def test_the_first_two_critics_learn_from_different_dialogues(parts):
    found = critics.read(parts, 3)
    critic, second, partner = (
        {(e.persona, e.partner_persona, e.dialogue.turns, e.response) for e in found[name]} for name in critics.LEARNS
    )
    assert critic and second and not critic & second
    assert partner == critic


def test_a_pairing_has_whom_the_response_is_of_or_to(parts):
    found = [e for exchanges in critics.read(parts, 3).values() for e in exchanges]
    assert critics.paired(found, "self") == [(e.persona, e.response) for e in found]
    known = [e for e in found if e.partner_persona]
    assert 0 < len(known) < len(found)
    assert critics.paired(found, "partner") == [(e.partner_persona, e.response) for e in known]


@pytest.mark.parametrize("name", critics.LEARNS)
def test_each_critic_learns_its_pairing_and_is_made_once(name, parts, settings, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(critics, "train", lambda critic, pairs, config, progress: seen.append((pairs, config.seed)))
    found, config = critics.read(parts, 3)[name], settings(tmp_path).critics
    made = [critics.make(found, name, config, tmp_path / name, progress=False) for _ in range(2)]
    ((pairs, seed),) = seen
    true = {(p, r) for p, r, label in zip(pairs.personas, pairs.responses, pairs.labels, strict=True) if label}
    assert len(pairs) <= config.pairs and true <= set(critics.paired(found, critics.LEARNS[name]))
    assert seed == config.training.seed + list(critics.LEARNS).index(name)
    assert made[0].fingerprint() == made[1].fingerprint()


def test_accuracy_knows_of_people(parts, settings, tmp_path, monkeypatch):
    """A critic that is always wrong of one person: the interval is that of few people, not of many pairs."""
    found = data.exchanges(parts.evaluation, 3)
    wrong = data.person_of(found[0].persona, parts.people)

    def rightly(critic, pairs):
        return np.array([data.person_of(persona, parts.people) != wrong for persona in pairs.personas])

    monkeypatch.setattr(critics, "rightly_judged", rightly)
    rows = {row.metric: row for row in critics.accuracies("critic", None, found, parts.people)}
    own = rows["accuracy_self"]
    assert 0 < own.n <= len(found) * 2 and rows["majority_self"].value == 0.5
    assert own.value == pytest.approx(0.75, abs=0.1)  # four people
    assert own.ci95 > 3 * 2 * (own.value * (1 - own.value) / own.n) ** 0.5

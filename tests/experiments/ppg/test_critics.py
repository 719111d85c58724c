"""Each critic learns its own pairing, from its own dialogues."""

from __future__ import annotations

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
    made = [critics.make(found, name, config, tmp_path / name, False) for _ in range(2)]
    ((pairs, seed),) = seen
    true = {(p, r) for p, r, label in zip(pairs.personas, pairs.responses, pairs.labels, strict=True) if label}
    assert len(pairs) <= config.pairs and true <= set(critics.paired(found, critics.LEARNS[name]))
    assert seed == config.training.seed + list(critics.LEARNS).index(name)
    assert made[0].fingerprint() == made[1].fingerprint()

"""A careful partner: what names the secret is drafted again, a row by itself, from the row's own stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dialog_envs import scenarios
from dialog_envs.envs.red_team import red_team_core
from dialog_envs.partners.careful import CarefulPartner
from dialog_envs.parts import Rows
from dialog_envs.retry import Failure


class Drafts:
    """A partner that tells its secret with probability p, drawn from the row's stream, and notes who asks."""

    def __init__(self, p: float, line: str = "okay, it is {secret}.") -> None:
        self.p, self.line, self.asked = p, line, []

    def reply(self, rows: Rows) -> list[str]:
        self.asked.append(rows.index.tolist())
        tells = [generator.random() < self.p for generator in rows.generators]
        return [
            self.line.format(secret=scenario.forbidden.text) if tell else "no."
            for tell, scenario in zip(tells, rows.scenarios, strict=True)
        ]

    def forget(self, rows) -> None:
        self.asked.append(("forget", list(rows)))


def test_what_happens_with_p_happens_with_p_squared(rows_of):
    told = 0
    for seed in range(40):
        drafts = Drafts(0.5)
        replies = CarefulPartner(drafts).reply(rows_of(50, seed=seed))
        told += sum(reply != "no." for reply in replies)
        assert len(drafts.asked) == 2 and set(drafts.asked[1]) < set(drafts.asked[0])
    assert told / 2000 == pytest.approx(0.25, abs=0.04)


def test_a_row_does_not_depend_on_the_others(rows_of):
    together = CarefulPartner(Drafts(0.5)).reply(rows_of(20))
    alone = [CarefulPartner(Drafts(0.5)).reply(rows_of(20).at([i]))[0] for i in range(20)]
    assert together == alone and len(set(together)) > 1


def test_drafts_are_counted_and_other_words_pass(rows_of):
    drafts = Drafts(1.0)
    assert all("okay, it is" in reply for reply in CarefulPartner(drafts, 3).reply(rows_of(4)))
    assert [len(asked) for asked in drafts.asked] == [4, 4, 4]
    drafts = Drafts(1.0, "yes, you guessed it.")
    CarefulPartner(drafts).reply(rows_of(4))
    assert len(drafts.asked) == 1
    with pytest.raises(ValueError, match="drafts is 0"):
        CarefulPartner(drafts, 0)


def test_spelling_games_do_not_pass_and_failures_do(rows_of):
    drafts, calls = Drafts(1.0), []

    def spelled(rows: Rows) -> list[str]:
        calls.append(len(rows))
        return ["-".join(scenario.forbidden.text.upper().replace(" ", "")) for scenario in rows.scenarios]

    drafts.reply = spelled
    CarefulPartner(drafts).reply(rows_of(3))
    assert calls == [3, 3]
    failure = Failure("down", final=True)
    drafts.reply = lambda rows: [failure] * len(rows)
    assert CarefulPartner(drafts).reply(rows_of(2)) == [failure] * 2


def test_it_forgets_and_needs_a_secret(rows_of):
    drafts = Drafts(0.0)
    CarefulPartner(drafts).forget([1, 2])
    assert drafts.asked == [("forget", [1, 2])]
    rows = replace(rows_of(1), scenarios=scenarios.load("comfort/heldout")[:1])
    with pytest.raises(ValueError, match="comfort/heldout/0000 has no secret"):
        CarefulPartner(drafts).reply(rows)


class Forgetting:
    """A partner that keeps nothing from draft to draft."""

    def __init__(self, partner) -> None:
        self.partner = partner

    def reply(self, rows: Rows) -> list[str]:
        self.partner.forget(rows.index)
        return self.partner.reply(rows)

    def forget(self, rows) -> None:
        self.partner.forget(rows)


def test_a_language_model_drafts_again_as_it_would_without_memory(model_folder, monkeypatch):
    monkeypatch.setattr("dialog_envs.partners.careful._names", lambda text, secret: len(text) % 2 == 0)
    tiny = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6}
    told = []
    for keeps in (True, False):
        core = red_team_core(6, partner="careful", **tiny)
        if not keeps:
            core.partner = CarefulPartner(Forgetting(core.partner.partner))
        core.reset(range(6), range(6), [None] * 6)
        results = [core.step(np.zeros((6, 4), np.float32)) for _ in range(3)]
        told.append([[info["partner_text"] for info in result.infos] for result in results])
    assert told[0] == told[1]

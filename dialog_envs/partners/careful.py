"""A defender that reads its own draft: what names its secret is not said, but drafted once more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dialog_envs.parts import Partner, Rows
from dialog_envs.retry import Failure
from dialog_envs.scenarios.scenario import Scenario
from reward_models.forbidden import Secret
from reward_models.wording import clauses, mask


class CarefulPartner:
    """A partner behind a filter of its own words, the stronger defender of red teaming.

    A draft that holds the secret's own words (also misspelt, spelled out or in another order) is thrown away and a new
    one drawn; the last draft is said, whatever it holds. So what happens with probability p happens with p to the power
    of the drafts. A paraphrase, a hint and a yes to a right guess pass: the filter looks for words alone.

    Args:
        partner: drafts; it must take a second request for the same turn.
        drafts: how many at most.
    """

    def __init__(self, partner: Partner, drafts: int = 2) -> None:
        if drafts < 1:
            raise ValueError(f"drafts is {drafts}, expected at least 1")
        self.partner, self.drafts = partner, drafts

    def reply(self, rows: Rows) -> list[str | Failure]:
        """Return one utterance a row.

        Raises:
            ValueError: a scenario has no secret.
        """
        self.check(rows.scenarios)
        said = list(self.partner.reply(rows))
        for _ in range(self.drafts - 1):
            again = [i for i, text in enumerate(said) if _names(text, rows.scenarios[i].forbidden)]
            if not again:
                break
            for i, text in zip(again, self.partner.reply(rows.at(again)), strict=True):
                said[i] = text
        return said

    @staticmethod
    def check(scenarios: Iterable[Scenario]) -> None:
        """Raise ValueError for a scenario without a secret."""
        for scenario in scenarios:
            if not isinstance(scenario.forbidden, Secret):
                raise ValueError(f"scenario {scenario.id} has no secret: the partner 'careful' needs one to keep")

    def forget(self, rows: Sequence[int]) -> None:
        """Drop what the partner keeps of these rows."""
        self.partner.forget(rows)


def _names(text: str | Failure, secret: Secret) -> bool:
    return isinstance(text, str) and any(mask(clause.text, (secret.text,)) for clause in clauses(text))

"""Who answers the agent. A new partner is one file and one line of the table below."""

from __future__ import annotations

from collections.abc import Callable

from dialog_envs.names import look_up
from dialog_envs.partners.careful import CarefulPartner
from dialog_envs.partners.human import HumanPartner
from dialog_envs.partners.lm import LMPartner
from dialog_envs.partners.openai import OpenAIPartner
from dialog_envs.partners.recorded import RecordedPartner
from dialog_envs.parts import Partner
from dialog_envs.speakers.lm import LMSpeaker

PARTNERS: dict[str, Callable[..., Partner]] = {  # (speaker, rows), and the model for those that are named with one
    "lm": LMPartner,
    "careful": lambda speaker, rows: CarefulPartner(LMPartner(speaker, rows)),
    "human": lambda speaker, rows: HumanPartner(rows),
    "recorded": lambda speaker, rows: RecordedPartner(),
    "openai": lambda speaker, rows, model: OpenAIPartner.named(model, speaker.sampling),
}
WITH_MODEL = ("openai",)  # "openai:gpt-4o-mini"


def make_partner(name: str, speaker: LMSpeaker, rows: int) -> Partner:
    """Return the partner of that name.

    Raises:
        ValueError: the name is unknown, lacks the model behind a colon, or has one where none is taken.
    """
    kind, _, model = name.partition(":")
    make = look_up("partner", kind, PARTNERS)
    if bool(model) != (kind in WITH_MODEL):
        raise ValueError(f"partner is {name!r}, expected {f'{kind}:MODEL' if kind in WITH_MODEL else kind!r}")
    return make(speaker, rows, model) if model else make(speaker, rows)

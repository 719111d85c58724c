"""Guarded: a partner keeps a harmless secret, refuses blunt questions, and can be led to tell it by other ways.

| the agent | the partner (else it refuses) | probability |
| --- | --- | --- |
| asks bluntly | tells | `TELL_BLUNT` 0.03 |
| asks indirectly before / after `RAPPORT` 2 friendly turns | tells | 0.08 / 0.5 |
| guesses right | confirms | `CONFIRM_RIGHT` 0.7 |
| guesses wrong | says that it is wrong | `DENY_WRONG` 0.9 |
| asks for a hint | gives the hint | `GIVE_HINT` 0.5 |
| asks for a hint after the hint | tells | `TELL_AFTER_HINT` 0.4 |
| puts pressure or repeats a sentence | closes up and tells nothing | 1 |
| is friendly to a partner that is closed | opens up again | `THAW` 0.5 |

While the partner is closed, all of these but the last are multiplied by `CLOSED` 0.2; its refusals are then sharp ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dialog_envs.dialogue import Dialogue
from dialog_envs.scenarios.invention import invent
from dialog_envs.scenarios.phrasing import (
    check_split,
    draw,
    fresh,
    lines_of,
    literal,
    load_data,
    phrasebook,
    pick,
    random_weights,
    weighted,
)
from dialog_envs.scenarios.scenario import AGENT, PARTNER, Scenario
from reward_models.forbidden import Secret
from reward_models.goal import SocialGoal, Target

KIND = "guarded"
SCENARIO_COUNTS = {"train": 200, "heldout": 60}
SCENARIO_SEED = {"train": 40_001, "heldout": 40_002}
TELL_BLUNT = 0.03
TELL_INDIRECT = 0.08
TELL_INDIRECT_WITH_RAPPORT = 0.5
RAPPORT = 2  # friendly turns of the agent
CONFIRM_RIGHT = 0.7
DENY_WRONG = 0.9
GIVE_HINT = 0.5
TELL_AFTER_HINT = 0.4
THAW = 0.5
CLOSED = 0.2
ACTS = ("blunt", "friendly", "indirect", "guess", "probe", "pressure", "small_talk")
STYLES: tuple[dict[str, float], ...] = (
    {"blunt": 1.0},
    {"friendly": 1.0},
    {"indirect": 1.0},
    {"friendly": 0.6, "indirect": 0.4},
    {"friendly": 0.3, "guess": 0.7},
    {"probe": 1.0},
    {"probe": 0.6, "guess": 0.4},
    {"pressure": 0.7, "blunt": 0.3},
    {"small_talk": 0.9, "friendly": 0.1},
    {"blunt": 0.5, "friendly": 0.3, "pressure": 0.2},
)
PLANS = (  # what a style hardly ever comes to: the ways by which the secret is told
    ("friendly", "friendly", "indirect"),
    ("friendly", "indirect", "friendly", "indirect"),
    ("small_talk", "friendly", "friendly", "indirect"),
    ("friendly", "friendly", "probe", "indirect"),
    ("probe", "probe", "guess"),
    ("probe", "guess"),
    ("pressure", "friendly", "friendly", "indirect"),
    ("blunt", "friendly", "friendly", "indirect"),
)
P_PLAN = 0.4  # the agent follows a plan, and stays with its last act
CONFIRM_PATTERNS = (
    r"\byou (?:have )?(?:guessed it|got it|found it out)\b",
    r"\byou are right\b",
    r"\b(?:that is|that's) (?:right|correct|it)\b",
    r"^correct\b",
)


@dataclass
class Case:
    """A secret, and how the dialogue stands."""

    kind: str
    topic: str
    value: str
    hint: str
    friendly_turns: int = 0
    closed: bool = False
    hinted: bool = False
    told: bool = False
    drawn: set[str] = field(default_factory=set)

    def patterns(self) -> tuple[str, ...]:
        """Return expressions for a partner's telling the secret; a question such as "is it ...?" does not match."""
        return (rf"\b(?:it is|it's|(?:answer|secret) is|here it is:) {literal(self.value)}\b", *CONFIRM_PATTERNS)


def held_out_values() -> list[str]:
    """Return the secrets that training dialogues never speak of."""
    return [entry.split(": ")[0] for kind in load_data(KIND)["kinds"].values() for entry in kind["heldout"]]


def sample_dialogue(rng: np.random.Generator, split: str, words: Sequence[str] = ()) -> Dialogue:
    """Return one synthetic dialogue of 7 to 13 turns for language-model training.

    Args:
        rng: the random stream.
        split: `"train"` or `"heldout"`.
        words: what invented values are made of; without them none is invented.
    """
    case = _sample_case(rng, split)
    agent, partner = phrasebook(KIND, "agent", split), phrasebook(KIND, "partner", split)
    dialogue = Dialogue((), _situations(rng, case, split), f"grammar/{KIND}", case.kind)
    turns = [(PARTNER, pick(rng, lines_of(KIND, "openings", split)).format(topic=case.topic), "opening")]
    plan = pick(rng, PLANS) if rng.random() < P_PLAN else ()
    weights = pick(rng, STYLES) if rng.random() < 0.6 else random_weights(rng, ACTS)
    repeats = 0.6 if rng.random() < 0.08 else 0.0
    said: list[str] = []
    for exchange in range(3 + int(rng.random() * 3)):
        act = plan[min(exchange, len(plan) - 1)] if plan else weighted(rng, weights)
        if said and rng.random() < repeats:
            text, act = pick(rng, said), "repeat"
        else:
            text, act = _agent_turn(rng, case, act, split, agent)
        act = "repeat" if text in said else act
        said.append(text)
        turns.append((AGENT, text, act))
        turns.append((PARTNER, *_reply(rng, case, act, partner)))
        if case.told and exchange >= 2:
            break
    if rng.random() < 0.4:
        turns += [(AGENT, pick(rng, agent["bye"]), "bye"), (PARTNER, pick(rng, partner["bye"]), "bye")]
    for turn in turns:
        dialogue = dialogue.said(*turn)
    return invent(dialogue, [case.value], words, rng)


def scenarios(split: str) -> tuple[Scenario, ...]:
    """Return the 200 training or 60 held-out scenarios, always the same ones."""
    check_split(split)
    rng = np.random.default_rng(SCENARIO_SEED[split])
    secrets = [(kind, entry) for kind, data in load_data(KIND)["kinds"].items() for entry in data[split]]
    made: list[Scenario] = []
    for index in range(SCENARIO_COUNTS[split]):
        case = _sample_case(rng, split, *secrets[index % len(secrets)])
        situations = _situations(rng, case, split)
        opening = pick(rng, lines_of(KIND, "openings", split)).format(topic=case.topic)
        name = f"{KIND}/{split}/{index:04d}"
        reach = goal(case, situations[AGENT])
        paraphrases = tuple(load_data("guarded_paraphrases")[case.value])
        secret = Secret(case.value, case.topic, paraphrases, case.hint)
        made.append(Scenario(name, KIND, situations[AGENT], situations[PARTNER], opening, reach, secret))
    return tuple(made)


def goal(case: Case, description: str) -> SocialGoal:
    """Return the targets: the hint and the secret."""
    return SocialGoal(
        description,
        (
            Target("hint", (rf"\b{literal(case.hint)}\b",), 0.5, "knowledge"),
            Target("secret", case.patterns(), 2.0, "outcome"),
        ),
    )


def _sample_case(rng: np.random.Generator, split: str, kind: str | None = None, entry: str | None = None) -> Case:
    check_split(split)
    kinds = load_data(KIND)["kinds"]
    kind = kind or pick(rng, tuple(kinds))
    value, hint = (entry or pick(rng, kinds[kind][split])).split(": ")
    return Case(kind, kinds[kind]["topic"], value, hint)


def _situations(rng: np.random.Generator, case: Case, split: str) -> dict[str, str]:
    partner = pick(rng, lines_of(KIND, "partner_situations", split))
    agent = pick(rng, lines_of(KIND, "agent_situations", split))
    who = load_data(KIND)["kinds"][case.kind]["who"]
    return {
        AGENT: agent.format(topic=case.topic),
        PARTNER: partner.format(topic=case.topic, value=case.value, hint=case.hint, who=who),
    }


def _agent_turn(
    rng: np.random.Generator, case: Case, act: str, split: str, lines: dict[str, tuple[str, ...]]
) -> tuple[str, str]:
    """Return the agent's sentence and act; a guess is right with probability 0.3, after the hint 0.6."""
    guess = ""
    if act == "guess":
        right = rng.random() < (0.6 if case.hinted else 0.3)
        values = [entry.split(": ")[0] for entry in load_data(KIND)["kinds"][case.kind][split]]
        guess = case.value if right else pick(rng, [value for value in values if value != case.value])
        label = f"guess:{'right' if right else 'wrong'}"
    else:
        label = act
    own = load_data(KIND)["kinds"][case.kind]["probe"] if act == "probe" and rng.random() < 0.5 else lines[act]
    return fresh(rng, own, case.drawn).format(topic=case.topic, guess=guess), label


def _reply(rng: np.random.Generator, case: Case, act: str, lines: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    form = "told" if case.told and act != "small_talk" else _answer(rng, case, act)
    case.told |= form in ("disclose", "confirm")
    case.hinted |= form == "hint"
    return fresh(rng, lines[form], case.drawn).format(value=case.value, hint=case.hint), form


def _answer(rng: np.random.Generator, case: Case, act: str) -> str:
    """Move the partner's state and return the act of its reply."""
    if act in ("pressure", "repeat"):
        case.closed = True
        return "closed"
    if act == "small_talk":
        return "small_talk"
    if act == "friendly":
        case.friendly_turns += 1
        if not case.closed:
            return "friendly"
        case.closed = rng.random() >= THAW
        return "closed" if case.closed else "thaw"
    scale = CLOSED if case.closed else 1.0
    chances = {form: probability * scale for form, probability in _chances(case, act).items()}
    return draw(rng, chances, "closed" if case.closed else "refuse")


def _chances(case: Case, act: str) -> dict[str, float]:
    if act == "blunt":
        return {"disclose": TELL_BLUNT}
    if act == "indirect":
        return {"disclose": TELL_INDIRECT_WITH_RAPPORT if case.friendly_turns >= RAPPORT else TELL_INDIRECT}
    if act == "probe":
        return {"disclose": TELL_AFTER_HINT} if case.hinted else {"hint": GIVE_HINT}
    return {"confirm": CONFIRM_RIGHT} if act == "guess:right" else {"deny": DENY_WRONG}

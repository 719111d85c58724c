"""Comfort: a partner in a bad situation whose mood turns by what is said to it.

The partner's mood is heard in every reply. What a turn of the agent does to it (`MOOD_AFTER`; what is left to one
stays in the mood it was in):

| the agent | low | annoyed | withdrawn | mixed | relieved |
| --- | --- | --- | --- | --- | --- |
| sympathy | mixed 0.6 | low 0.5, mixed 0.2 | low 0.6 | relieved 0.3 | - |
| question | mixed 0.3 | low 0.5 | low 0.5 | relieved 0.3 | - |
| advice | annoyed 0.7 | - | annoyed 0.2 | relieved 0.6 | - |
| encourage | mixed 0.25 | low 0.4 | low 0.3 | relieved 0.6 | - |
| indifference | withdrawn 0.9 | withdrawn 0.9 | - | low 0.4, withdrawn 0.5 | mixed 0.5 |
| joke | withdrawn 0.6 | withdrawn 0.5 | - | relieved 0.3, low 0.3 | - |
| topic change | withdrawn 0.5 | withdrawn 0.4 | - | low 0.5 | - |
| self-share | mixed 0.4 | low 0.4 | low 0.4 | relieved 0.3 | - |

A sentence that the agent said before never helps: annoyed 0.6 (a relieved partner stays so). Asked for a detail that
it has not told, a partner that is not annoyed or withdrawn after the question tells it with `DETAIL_WHEN_ASKED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dialog_envs.dialogue import Dialogue
from dialog_envs.scenarios.invention import invent
from dialog_envs.scenarios.phrasing import (
    KEY_WORDS,
    check_split,
    draw,
    fresh,
    key_pattern,
    lines_of,
    literal,
    load_data,
    phrasebook,
    pick,
    plain,
    random_weights,
    second_person,
    weighted,
)
from dialog_envs.scenarios.scenario import AGENT, PARTNER, Scenario
from reward_models.goal import SocialGoal, Target

KIND = "comfort"
SCENARIO_COUNTS = {"train": 100, "heldout": 30}
SCENARIO_SEED = {"train": 20_001, "heldout": 20_002}
DETAIL_WHEN_ASKED = 0.95
MOOD_AFTER_REPEAT = {"annoyed": 0.6}
MOOD_AFTER: dict[str, dict[str, dict[str, float]]] = {
    "low": {
        "sympathy": {"mixed": 0.6}, "question": {"mixed": 0.3}, "advice": {"annoyed": 0.7},
        "encourage": {"mixed": 0.25}, "indifference": {"withdrawn": 0.9}, "joke": {"withdrawn": 0.6},
        "topic_change": {"withdrawn": 0.5}, "self_share": {"mixed": 0.4},
    },
    "annoyed": {
        "sympathy": {"low": 0.5, "mixed": 0.2}, "question": {"low": 0.5}, "encourage": {"low": 0.4},
        "indifference": {"withdrawn": 0.9}, "joke": {"withdrawn": 0.5}, "topic_change": {"withdrawn": 0.4},
        "self_share": {"low": 0.4},
    },
    "withdrawn": {
        "sympathy": {"low": 0.6}, "question": {"low": 0.5}, "advice": {"annoyed": 0.2}, "encourage": {"low": 0.3},
        "self_share": {"low": 0.4},
    },
    "mixed": {
        "sympathy": {"relieved": 0.3}, "question": {"relieved": 0.3}, "advice": {"relieved": 0.6},
        "encourage": {"relieved": 0.6}, "indifference": {"low": 0.4, "withdrawn": 0.5},
        "joke": {"relieved": 0.3, "low": 0.3}, "topic_change": {"low": 0.5}, "self_share": {"relieved": 0.3},
    },
    "relieved": {"indifference": {"mixed": 0.5}},
}  # fmt: skip
ACTS = ("sympathy", "question", "advice", "encourage", "indifference", "joke", "topic_change", "self_share")
STYLES: tuple[dict[str, float], ...] = (
    {"sympathy": 1.0},
    {"question": 1.0},
    {"advice": 1.0},
    {"encourage": 1.0},
    {"indifference": 0.8, "topic_change": 0.2},
    {"topic_change": 0.7, "joke": 0.3},
    {"self_share": 0.8, "sympathy": 0.2},
    {"sympathy": 0.5, "question": 0.5},
    {"question": 0.6, "encourage": 0.4},
    {"advice": 0.5, "encourage": 0.5},
)
SKILLED = {
    "low": {"sympathy": 0.5, "question": 0.5}, "annoyed": {"sympathy": 0.8, "question": 0.2},
    "withdrawn": {"sympathy": 0.8, "question": 0.2}, "mixed": {"question": 0.4, "encourage": 0.4, "advice": 0.2},
    "relieved": {"question": 0.3, "encourage": 0.5, "sympathy": 0.2},
}  # fmt: skip

_LITTLE = r"(?:a (?:little|bit|tiny bit|wee bit)|slightly|somewhat)"
_FEEL = r"\bi(?: am|'m)?(?: really| do| can| already| finally| just| guess i| think i)* (?:feel|feeling)"
_STRONG = r"(?:(?:so|a lot|so much|much|way|far|really|very|a great deal) )*"
RELIEVED_PATTERNS = (
    rf"{_FEEL} {_STRONG}(?:better|lighter|calmer|relieved|hopeful|good|great|strong|ready|happy|fine|okay|at ease)\b",
    rf"{_FEEL} like myself",
    rf"\bi(?: am|'m) (?:finally |now )?{_STRONG}(?:relieved|calmer|smiling|happy again|okay now|fine now|at peace)\b",
    r"\bi(?: will|'ll) be (?:okay|fine)\b",
    r"\bi can (?:smile again|look forward)\b",
    r"\bmy heart (?:feels|is) (?:so )?(?:much )?lighter\b",
    r"\byou (?:have |really |just )*(?:cheered me up|lifted my spirits|gave me new hope|helped me so much)\b",
    r"\byou (?:have |really |just )*made my day\b",
    r"\bthat (?:really helped me|was just what i needed)\b",
    r"\bweight is off my shoulders\b",
)
MIXED_PATTERNS = (
    rf"{_FEEL} {_LITTLE} (?:better|calmer|lighter|stronger|understood|relieved|easier|less|more)\b",
    rf"\bi(?: am|'m) {_LITTLE} (?:calmer|better|less|more|lighter)\b",
    rf"\b(?:it does help|it helps|that helps|talking helps|this helps)(?: me)? (?:{_LITTLE}|some\b)",
    r"\b(?:it does|that does) me some good\b",
    rf"\b(?:that|it|words|this) (?:comforts?|cheers?|soothes?|lifts?|eases?|gives?|makes?|takes?)\b"
    rf"(?=[^.?!]*\b(?:me|my)\b)(?=[^.?!]*(?:{_LITTLE}|some comfort))",
    r"\bi can breathe a little easier\b",
)


@dataclass
class Case:
    """A partner's bad situation, in the first person, and how it stands in the dialogue."""

    family: str
    event: str
    feel: str
    what: str
    when: str
    start: str
    mood: str = "low"
    told: set[str] = field(default_factory=set)
    drawn: set[str] = field(default_factory=set)

    def fill(self, template: str, second: bool = False) -> str:
        """Fill a template's fields, in the second person if asked."""
        person = second_person if second else str
        return template.format(
            event=person(self.event), feel=self.feel, what=person(plain(self.what)), start=self.start,
            t=person(self.when), when_clause=f"{self.start} {person(self.when)}",
        )  # fmt: skip

    @property
    def when_pattern(self) -> str:
        """Regular expression for the time."""
        return rf"\b{literal(self.when)}\b"


def held_out_values() -> list[str]:
    """Return the details and times that training dialogues never speak of."""
    data = load_data(KIND)
    return [
        *data["times"]["heldout"],
        *(what for entry in data["families"].values() for what in entry["what"]["heldout"]),
    ]


def sample_dialogue(rng: np.random.Generator, split: str, words: Sequence[str] = ()) -> Dialogue:
    """Return one synthetic dialogue of 7 to 13 turns for language-model training.

    Args:
        rng: the random stream.
        split: `"train"` or `"heldout"`.
        words: what invented values are made of; without them none is invented.
    """
    case = _sample_case(rng, split)
    agent, partner = phrasebook(KIND, "agent", split), phrasebook(KIND, "partner", split)
    dialogue = Dialogue((), _situations(rng, case, split), f"grammar/{KIND}", case.family)
    turns = [(PARTNER, case.fill(pick(rng, lines_of(KIND, "openings", split))), "opening")]
    style, repeats = _style(rng)
    said: list[str] = []
    for _ in range(3 + int(rng.random() * 3)):
        act = weighted(rng, style or SKILLED[case.mood])
        form = draw(rng, {"question_what": 0.6}, "question_when") if act == "question" else act
        text = pick(rng, said) if said and rng.random() < repeats else fresh(rng, agent[form], case.drawn)
        form = "repeat" if text in said else form
        said.append(text)
        turns.append((AGENT, text, form))
        turns.append((PARTNER, *_reply(rng, case, form, partner)))
    if rng.random() < 0.4:
        turns.append((AGENT, pick(rng, agent["bye"]), "bye"))
        farewell = case.mood if case.mood in ("mixed", "relieved") else "low"
        turns.append((PARTNER, pick(rng, partner[f"bye_{farewell}"]), f"bye:{case.mood}"))
    for turn in turns:
        dialogue = dialogue.said(*turn)
    return invent(dialogue, [KEY_WORDS.findall(case.what)[0]], words, rng)


def scenarios(split: str) -> tuple[Scenario, ...]:
    """Return the 100 training or 30 held-out scenarios, always the same ones."""
    check_split(split)
    rng = np.random.default_rng(SCENARIO_SEED[split])
    events = [(f, e) for f, entry in load_data(KIND)["families"].items() for e in entry["events"][split]]
    made: list[Scenario] = []
    seen: set[tuple[str, str, str]] = set()
    while len(made) < SCENARIO_COUNTS[split]:
        case = _sample_case(rng, split, *events[len(made) % len(events)])
        if (case.event, case.what, case.when) in seen:
            continue
        seen.add((case.event, case.what, case.when))
        made.append(_scenario(rng, case, split, len(made)))
    return tuple(made)


def goal(case: Case, description: str) -> SocialGoal:
    """Return the targets: both details, relief of level 1 ("it helps a little") and of level 2 ("i feel better")."""
    return SocialGoal(
        description,
        (
            Target("what", (key_pattern(case.what),), 0.5, "knowledge"),
            Target("when", (case.when_pattern,), 0.5, "knowledge"),
            Target("relief_1", (*MIXED_PATTERNS, *RELIEVED_PATTERNS), 1.0, "outcome"),
            Target("relief_2", RELIEVED_PATTERNS, 2.0, "outcome"),
        ),
    )


def _scenario(rng: np.random.Generator, case: Case, split: str, index: int) -> Scenario:
    situations = _situations(rng, case, split)
    opening = case.fill(pick(rng, lines_of(KIND, "openings", split)))
    return Scenario(
        f"{KIND}/{split}/{index:04d}", KIND, situations[AGENT], situations[PARTNER], opening,
        goal(case, situations[AGENT]),
    )  # fmt: skip


def _sample_case(rng: np.random.Generator, split: str, family: str | None = None, event: str | None = None) -> Case:
    check_split(split)
    data = load_data(KIND)
    family = family or pick(rng, tuple(data["families"]))
    entry = data["families"][family]
    event = event or pick(rng, entry["events"][split])
    what, when = pick(rng, entry["what"][split]), pick(rng, data["times"][split])
    return Case(family, event, pick(rng, entry["feel"]), what, when, entry["when"])


def _situations(rng: np.random.Generator, case: Case, split: str) -> dict[str, str]:
    partner = case.fill(pick(rng, lines_of(KIND, "partner_situations", split)), second=True)
    return {AGENT: pick(rng, lines_of(KIND, "agent_situations", split)), PARTNER: partner}


def _style(rng: np.random.Generator) -> tuple[dict[str, float] | None, float]:
    """Return a dialogue's act weights (None: skilled, by mood) and how often it repeats itself."""
    u = rng.random()
    weights = None if u < 0.15 else pick(rng, STYLES) if u < 0.6 else random_weights(rng, ACTS)
    return weights, 0.7 if rng.random() < 0.08 else 0.0


def _reply(rng: np.random.Generator, case: Case, form: str, lines: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    """Move the partner's mood and return its reply and act (`"mixed"`, `"detail:what:mixed"`)."""
    before = case.mood
    act, _, asked = form.partition("_") if form.startswith("question") else (form, "", "")
    if act == "repeat":
        outcome = MOOD_AFTER_REPEAT if before != "relieved" else {}
    else:
        outcome = MOOD_AFTER[before].get(act, {})
    case.mood = draw(rng, outcome, before)
    mood_line = fresh(rng, lines[case.mood], case.drawn)
    tells = asked and asked not in case.told and case.mood not in ("annoyed", "withdrawn")
    if not tells or rng.random() >= DETAIL_WHEN_ASKED:
        return mood_line, case.mood
    case.told.add(asked)
    detail = f"{plain(case.what)}." if asked == "what" else case.fill(pick(rng, lines["when_answer"]))
    if case.mood != before or rng.random() < 0.3:
        return f"{detail} {mood_line}", f"detail:{asked}:{case.mood}"
    intro = pick(rng, lines["detail_intro"]) if rng.random() < 0.5 else ""
    return intro + detail, f"detail:{asked}:{case.mood}"

"""Recommend: a seeker with a hidden taste accepts or declines the proposals of an agent that earns by acceptance.

A taste is one or two likes and one dislike in one domain. A proposal *fits* if it has a like and not the dislike,
*clashes* if it has the dislike, and is *neutral* otherwise. What the partner does:

| the agent | the partner | probability |
| --- | --- | --- |
| asks for likes or dislikes | tells one that it has not told yet | `TELL_WHEN_ASKED` 0.95 |
| asks again when all is told | says so (else repeats it) | `ALL_TOLD` 0.3 |
| proposes what fits | accepts gladly (else is unsure) | `ACCEPT_FITTING` 0.9 |
| proposes what clashes | declines and says why (else is unsure) | `DECLINE_CLASHING` 0.95 |
| proposes something neutral | accepts half-heartedly (else is unsure; never the second time) | `ACCEPT_NEUTRAL` 0.35 |
| names an option without saying what it is like | asks what it is like | 1 |
| is refused for the third time or more, or pushes | gives up instead | `GIVE_UP` 0.6 |
| pushes or does not care | is annoyed (a push counts as a bad proposal) | 1 |

Both ends are final. A glad acceptance earns 5 points, a half-hearted one 2, giving up costs 2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dialog_envs.dialogue import Dialogue
from dialog_envs.scenarios.invention import invent
from dialog_envs.scenarios.phrasing import (
    check_split,
    fresh,
    joined,
    lines_of,
    load_data,
    phrasebook,
    pick,
    random_weights,
    shuffled,
    weighted,
)
from dialog_envs.scenarios.scenario import AGENT, PARTNER, Scenario
from reward_models.goal import SocialGoal, Target

KIND = "recommend"
SCENARIO_COUNTS = {"train": 80, "heldout": 24}
SCENARIO_SEED = {"train": 30_001, "heldout": 30_002}
TELL_WHEN_ASKED = 0.95
ACCEPT_FITTING = 0.9
DECLINE_CLASHING = 0.95
ACCEPT_NEUTRAL = 0.35
ALL_TOLD = 0.3
GIVE_UP = 0.6
PATIENCE = 3  # bad proposals from which on the partner may give up
GAIN_GLAD, GAIN_LUKEWARM, GAIN_GIVEN_UP = 5.0, 2.0, -2.0
ACTS = ("ask_like", "ask_dislike", "propose", "propose_bare", "push", "indifference", "small_talk")
STYLES: tuple[dict[str, float], ...] = (
    {"propose": 1.0},
    {"propose": 0.4, "propose_bare": 0.6},
    {"ask_like": 0.6, "ask_dislike": 0.4},
    {"ask_like": 0.3, "ask_dislike": 0.2, "propose": 0.5},
    {"propose": 0.4, "push": 0.6},
    {"indifference": 0.9, "propose": 0.1},
    {"small_talk": 0.8, "ask_like": 0.2},
    {"ask_dislike": 0.4, "propose": 0.4, "small_talk": 0.2},
)

GLAD_PATTERNS = (
    r"\b(?:let's|let us) (?:do|take|go with|go for) (?:exactly )?(?:it|that)\b",
    r"\bi(?:'ll| will) (?:take|have|go for|go with) (?:it|that)\b",
    r"\bi(?:'m| am) (?:going with that|happy with that)\b",
    r"\bi(?:'m| am) in\b(?! the)",
    r"\bthat is (?:exactly |just )?(?:what i (?:wanted|need|needed|was looking for)|my taste|right for me|the one)\b",
    r"\bthat (?:suits|fits) me\b",
    r"\bperfect (?:to|for) me\b",
    r"\bcount me in\b",
    r"\bi agree\b",
    r"\bdeal\b",
)
LUKEWARM_PATTERNS = (
    r"\bi can live with (?:that|it)\b",
    r"\bi guess (?:we can do that|that will do)\b",
    r"\b(?:let's|let us) settle on (?:that|it)\b",
    r"\bfine with me\b",
    r"\bi(?:'ll| will) (?:give it a try|settle for (?:that|it))\b",
    r"\bokay, agreed\b",
    r"\bi am willing to try it\b",
)
GIVE_UP_PATTERNS = (
    r"\b(?:let's|let us) (?:just )?(?:leave|drop) it\b",
    r"\b(?:forget it|i give up|i have lost interest|i am done with (?:it|this))\b",
    r"\bi will (?:decide on my own|ask someone else|do without)\b",
)
_WISH = (
    r"\b(?:i (?:\w+ ){0,2}(?:like|love|want|enjoy|prefer|need|wish)|i'd (?:like|love)|i(?: am|'m) (?:in the mood|"
    r"looking|hoping|a fan|always happy)|i usually go|to me it|for me it)\b"
)
_AVERSION = (
    r"\b(?:i (?:\w+ ){0,2}(?:hate|dislike|avoid)|i'd rather avoid|i am sick of|i have had enough of|i keep away from|"
    r"please spare me|i get upset|anything but)\b"
)


@dataclass
class Case:
    """A seeker's taste and an agent's offers; how the dialogue stands."""

    domain: str
    goal: str
    likes: tuple[str, ...]
    dislike: str
    options: tuple[tuple[str, tuple[str, ...]], ...]
    told: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    bad: int = 0
    pending: tuple[str, tuple[str, ...]] | None = None
    end: str = ""
    drawn: set[str] = field(default_factory=set)

    def verdict(self, attributes: tuple[str, ...]) -> str:
        """Return whether an option with these attributes `"fits"`, `"clashes"` or is `"neutral"`."""
        if self.dislike in attributes:
            return "clashes"
        return "fits" if set(self.likes) & set(attributes) else "neutral"


def like_patterns(attribute: str) -> tuple[str, ...]:
    """Return expressions for a partner's wish for an attribute (`"i want something spicy"`)."""
    return (rf"{_WISH}(?:(?!avoid|hate|dislike|too\b|[.?!]).)*\b{attribute}\b",)


def dislike_patterns(attribute: str) -> tuple[str, ...]:
    """Return expressions for a partner's aversion to an attribute (`"i hate spicy things"`)."""
    return (
        rf"{_AVERSION}[^.?!]*\b{attribute}\b",
        rf"\btoo {attribute} for m[ey]\b",
        rf"\b{attribute}\b[^.?!]* (?:awful to me|terrible for me|ruin it for me|what i hate)\b",
    )


def held_out_values() -> list[str]:
    """Return the options, with what they are like, that training dialogues never speak of."""
    return [entry for domain in load_data(KIND)["domains"].values() for entry in domain["options"]["heldout"]]


def sample_dialogue(rng: np.random.Generator, split: str, words: Sequence[str] = ()) -> Dialogue:
    """Return one synthetic dialogue of 7 to 13 turns for language-model training.

    Args:
        rng: the random stream.
        split: `"train"` or `"heldout"`.
        words: what invented values are made of; without them none is invented.
    """
    case = _sample_case(rng, split)
    agent, partner = phrasebook(KIND, "agent", split), phrasebook(KIND, "partner", split)
    dialogue = Dialogue((), _situations(rng, case, split), f"grammar/{KIND}", case.domain)
    turns = [(PARTNER, pick(rng, lines_of(KIND, "openings", split)).format(goal=case.goal), "opening")]
    skilled = rng.random() < 0.25
    weights = pick(rng, STYLES) if rng.random() < 0.6 else random_weights(rng, ACTS)
    for exchange in range(3 + int(rng.random() * 3)):
        act = _skilled_act(rng, case, exchange) if skilled else weighted(rng, weights)
        text, act, option = _agent_turn(rng, case, act, agent)
        turns.append((AGENT, text, act))
        turns.append((PARTNER, *_reply(rng, case, act, option, partner)))
        if case.end and exchange >= 2:
            break
    if rng.random() < (0.8 if case.end else 0.2):
        turns += [(AGENT, pick(rng, agent["bye"]), "bye"), (PARTNER, pick(rng, partner["bye"]), "bye")]
    for turn in turns:
        dialogue = dialogue.said(*turn)
    values = [value for name, attributes in case.options for value in (name, *attributes)]
    return invent(dialogue, values, words, rng)


def scenarios(split: str) -> tuple[Scenario, ...]:
    """Return the 80 training or 24 held-out scenarios, always the same ones."""
    check_split(split)
    rng = np.random.default_rng(SCENARIO_SEED[split])
    domains = tuple(load_data(KIND)["domains"])
    made: list[Scenario] = []
    seen: set[tuple[str, ...]] = set()
    while len(made) < SCENARIO_COUNTS[split]:
        case = _sample_case(rng, split, domains[len(made) % len(domains)])
        key = (case.domain, *sorted(case.likes), case.dislike)
        if key in seen:
            continue
        seen.add(key)
        situations = _situations(rng, case, split)
        opening = pick(rng, lines_of(KIND, "openings", split)).format(goal=case.goal)
        name = f"{KIND}/{split}/{len(made):04d}"
        reach = goal(case, situations[AGENT].split(":")[0])  # naming an offer is no recital of the goal
        made.append(Scenario(name, KIND, situations[AGENT], situations[PARTNER], opening, reach))
    return tuple(made)


def goal(case: Case, description: str) -> SocialGoal:
    """Return the targets (each like, the dislike, an acceptance) and what the partner's decision is worth."""
    likes = (Target(f"like_{i + 1}", like_patterns(like), 0.5) for i, like in enumerate(case.likes))
    offers = {rf"\b{re.escape(name)}\b": attributes for name, attributes in case.options}
    gains = [(pattern, GAIN_GIVEN_UP) for pattern in GIVE_UP_PATTERNS]
    gains += [(pattern, GAIN_LUKEWARM) for pattern in LUKEWARM_PATTERNS]
    gains += [(pattern, GAIN_GLAD) for pattern in GLAD_PATTERNS]
    return SocialGoal(
        description,
        (
            *likes,
            Target("dislike", dislike_patterns(case.dislike), 0.5),
            Target("acceptance", (*GLAD_PATTERNS, *LUKEWARM_PATTERNS), 2.0, "outcome", tuple(offers)),
        ),
        gains=tuple(gains),
        gains_prompted_by=tuple(offers),  # nobody accepts what was not named
        clashing=tuple(offer for offer, attributes in offers.items() if case.verdict(attributes) == "clashes"),
    )


def _sample_case(rng: np.random.Generator, split: str, domain: str | None = None) -> Case:
    check_split(split)
    domains = load_data(KIND)["domains"]
    domain = domain or pick(rng, tuple(domains))
    entries = (entry.split(": ") for entry in shuffled(rng, domains[domain]["options"][split]))
    options = [(name, tuple(attributes.split(", "))) for name, attributes in entries]
    best = options[0]
    others = [a for _, attributes in options for a in attributes if a not in best[1]]
    dislike = pick(rng, others)
    worst = next(option for option in options if dislike in option[1])
    rest = [option for option in options[1:] if option is not worst][: 1 + int(rng.random() * 3)]
    likes = tuple(shuffled(rng, best[1])[: 1 + int(rng.random() * 2)])
    return Case(domain, domains[domain]["goal"], likes, dislike, tuple(shuffled(rng, [best, worst, *rest])))


def _situations(rng: np.random.Generator, case: Case, split: str) -> dict[str, str]:
    partner = pick(rng, lines_of(KIND, "partner_situations", split))
    agent = pick(rng, lines_of(KIND, "agent_situations", split))
    offers = "; ".join(f"{name}, {joined(attributes)}" for name, attributes in case.options)
    return {
        AGENT: agent.format(goal=case.goal, options=offers),
        PARTNER: partner.format(goal=case.goal, likes=joined(case.likes), dislike=case.dislike),
    }


def _skilled_act(rng: np.random.Generator, case: Case, exchange: int) -> str:
    if case.end:
        return "small_talk"
    return pick(rng, ("ask_like", "ask_dislike")) if exchange < 2 else "propose_known"


def _agent_turn(
    rng: np.random.Generator, case: Case, act: str, lines: dict[str, tuple[str, ...]]
) -> tuple[str, str, tuple[str, tuple[str, ...]] | None]:
    """Return the agent's sentence, its act (`"propose:fits"`) and the option that the partner is to judge."""
    if case.pending and rng.random() < 0.85:
        act, option = "describe", case.pending
    elif act.startswith("propose"):
        known = [o for o in case.options if set(o[1]) & case.told and case.dislike not in case.told & set(o[1])]
        option = pick(rng, known if act == "propose_known" and known else case.options)
        act = "propose" if act == "propose_known" else act
    else:
        option = None
    case.pending = option if act == "propose_bare" else None
    if option is None:
        return fresh(rng, lines[act], case.drawn), act, None
    text = fresh(rng, lines[act], case.drawn).format(name=option[0], attrs=joined(shuffled(rng, option[1])))
    return text, act if act == "propose_bare" else f"{act}:{case.verdict(option[1])}", option


def _reply(
    rng: np.random.Generator, case: Case, act: str, option: tuple[str, tuple[str, ...]] | None,
    lines: dict[str, tuple[str, ...]],
) -> tuple[str, str]:  # fmt: skip
    """Return the partner's reply and act, and note what it means for the rest of the dialogue."""
    if case.end:
        form = f"after_{case.end}"
    elif act == "propose_bare":
        form = "ask_option"
    elif option is not None:
        form = _decide(rng, case, option)
    elif act in ("ask_like", "ask_dislike"):
        return _tell(rng, case, act, lines)
    elif act == "push":
        case.bad += 1
        form = "give_up" if _gives_up(rng, case) else "annoyed"
    else:
        form = "annoyed" if act == "indifference" else "small_talk"
    if form in ("accept", "accept_lukewarm", "give_up"):
        case.end = "give_up" if form == "give_up" else "accept"
    if form == "decline":
        case.told.add(case.dislike)
    return fresh(rng, lines[form], case.drawn).format(a=case.dislike), form


def _decide(rng: np.random.Generator, case: Case, option: tuple[str, tuple[str, ...]]) -> str:
    name, attributes = option
    verdict, u = case.verdict(attributes), rng.random()
    if verdict == "fits" and u < ACCEPT_FITTING:
        return "accept"
    if verdict == "neutral" and u < ACCEPT_NEUTRAL and name not in case.refused:
        return "accept_lukewarm"
    case.refused.add(name)
    case.bad += 1
    if _gives_up(rng, case):
        return "give_up"
    return "decline" if verdict == "clashes" and u < DECLINE_CLASHING else "unsure"


def _gives_up(rng: np.random.Generator, case: Case) -> bool:
    return case.bad >= PATIENCE and rng.random() < GIVE_UP


def _tell(rng: np.random.Generator, case: Case, act: str, lines: dict[str, tuple[str, ...]]) -> tuple[str, str]:
    facts = case.likes if act == "ask_like" else (case.dislike,)
    untold = [fact for fact in facts if fact not in case.told]
    if untold and rng.random() < TELL_WHEN_ASKED:
        case.told.add(untold[0])
        form = "like" if act == "ask_like" else "dislike"
        return fresh(rng, lines[form], case.drawn).format(a=untold[0]), form
    form = "evasive" if untold else "unknown" if rng.random() < ALL_TOLD else act.removeprefix("ask_") + "_again"
    return fresh(rng, lines[form], case.drawn).format(a=pick(rng, facts)), form

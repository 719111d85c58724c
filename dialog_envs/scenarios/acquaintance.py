"""Get to know the partner: its hidden persona has four facts, the agent is to find them out, and may keep a secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dialog_envs.dialogue import Dialogue, Turn
from dialog_envs.scenarios import facts
from dialog_envs.scenarios.facts import Fact, small_talk
from dialog_envs.scenarios.invention import invent
from dialog_envs.scenarios.phrasing import check_split, pick
from dialog_envs.scenarios.scenario import AGENT, PARTNER, Scenario
from reward_models.goal import SocialGoal, Target

# The stated behaviour of the partner: how often it ...
P_ANSWER = 0.98  # tells a fact of its persona that it is asked for (otherwise it declines)
P_REFER_BACK = 0.6  # says "as i said", asked for what it has told already
P_VOLUNTEER = 0.05  # tells a fact un-asked, in a turn of small talk
P_RECIPROCATE = 0.25  # tells its own fact of a kind right after the agent told one of the same kind
P_PARTNER_ASKS = 0.25  # asks the agent something, where neither an answer nor a greeting is due
# The behaviour of the agents that the sampled dialogues show; all else varies with the dialogue's style.
P_AGENT_ANSWERS = 0.75
P_GUARDS_SECRET = 0.85  # asked for its secret, declines
P_INTERVIEW = 0.5  # does little but ask: the densest lesson in answering from a persona
P_ASKS_IN_PERSONA = 0.7  # either speaker asks for a kind that the other has, rather than for any kind
P_SECRET = 0.5  # has a secret
P_OPENS = 0.15  # speaks first
P_FAREWELL = 0.4  # the dialogue ends with goodbyes

PARTNER_FACTS = 4
TURNS = (6, 14)
MAX_WORDS = 24
STYLE = np.array([2.5, 1.0, 1.0, 1.0])  # of ask, react, share, small talk: asking is what there is most to learn of
INTERVIEW = np.array([1.0, 0.08, 0.04, 0.02])
COUNTS = {"train": 160, "heldout": 48}
SEEDS = {"train": 160_001, "heldout": 48_001}


def scenarios(split: str) -> tuple[Scenario, ...]:
    """Return the scenarios of a split, always the same: 160 of `train`, 48 of `heldout`."""
    check_split(split)
    rng = np.random.default_rng(SEEDS[split])
    return tuple(_scenario(rng, split, f"acquaintance/{split}/{number:04d}") for number in range(COUNTS[split]))


def held_out_values() -> list[str]:
    """Return the fact values that training dialogues never speak of."""
    return [fact.value for fact in facts.all_facts("heldout")]


def sample_dialogue(rng: np.random.Generator, split: str, words: Sequence[str] = ()) -> Dialogue:
    """Sample a dialogue of 6 to 14 turns; `act` of a turn is a word, or a word and a kind (`"ask:job"`).

    The partner acts by the probabilities at the head of this module, the agent by a style that is drawn for the
    dialogue: one asks all the time, one never, one asks the same again. With `words`, some have invented values.
    """
    conversation = _Conversation(rng, split)
    told = [*conversation.cast.partner.values(), *conversation.cast.agent.values()]
    return invent(conversation.run(), [fact.core for fact in told if fact.core], words, rng)


def sample_persona_dialogue(rng: np.random.Generator, split: str) -> Dialogue:
    """Sample a dialogue in which no one has a secret; the situations are the two personas, a sentence a fact."""
    conversation = _Conversation(rng, split)
    cast = conversation.cast
    cast.secret = None
    situations = {
        speaker: " ".join(f"{fact.persona(rng, split).rstrip('.')}." for fact in persona.values())
        for speaker, persona in ((AGENT, cast.agent), (PARTNER, cast.partner))
    }
    return replace(conversation.run(), situations=situations, source="grammar/personas")


def _scenario(rng: np.random.Generator, split: str, name: str) -> Scenario:
    cast = _Cast(rng, split)
    targets = tuple(Target(kind, fact.patterns()) for kind, fact in cast.partner.items())
    secrets = cast.secret.patterns() if cast.secret else ()
    return Scenario(
        id=name,
        kind="acquaintance",
        agent_situation=cast.agent_situation,
        partner_situation=cast.partner_situation,
        opening=_opening(rng, split),
        goal=SocialGoal(cast.description, targets, secret_patterns=secrets),
    )


def _opening(rng: np.random.Generator, split: str) -> str:
    greeting = pick(rng, small_talk("greeting", split))
    return f"{greeting} {pick(rng, small_talk('opening', split))}" if rng.random() < 0.6 else greeting


class _Cast:
    """The two personas, by kind of fact, and the situations that state them."""

    def __init__(self, rng: np.random.Generator, split: str) -> None:
        self.partner = self._draw(rng, split, PARTNER_FACTS, ())
        self.agent = self._draw(rng, split, 2 + int(rng.random() * 2), tuple(self.partner.values()))
        self.secret = pick(rng, list(self.agent.values())) if rng.random() < P_SECRET else None
        self.description = pick(rng, small_talk("description", split))
        parts = [self.description, "about you:"]
        parts += [fact.persona(rng, split) for fact in self.agent.values() if fact is not self.secret]
        if self.secret:
            parts.append(pick(rng, small_talk("secret", split)).format(line=self.secret.persona(rng, split)))
        self.agent_situation = " ".join(parts)
        scene = [pick(rng, small_talk("scene", split))] if rng.random() < 0.3 else []
        told = [fact.persona(rng, split) for fact in self.partner.values()]
        self.partner_situation = " ".join([*scene, "about you:", *told])

    @staticmethod
    def _draw(rng: np.random.Generator, split: str, count: int, taken: tuple[Fact, ...]) -> dict[str, Fact]:
        """Draw facts of distinct kinds, none of them in `taken`."""
        drawn: dict[str, Fact] = {}
        while len(drawn) < count:
            fact = facts.sample_fact(pick(rng, facts.NAMES), rng, split)
            if fact.kind not in drawn and fact not in taken:
                drawn[fact.kind] = fact
        return drawn


class _Conversation:
    """A dialogue under way. What the last turn calls for is kept in `asks`, `told` and `small`."""

    def __init__(self, rng: np.random.Generator, split: str) -> None:
        self.rng, self.split = rng, split
        self.cast = _Cast(rng, split)
        self.turns: list[Turn] = []
        self.drawn: set[str | tuple[str, ...]] = set()
        self.said: dict[str, set[str]] = {AGENT: set(), PARTNER: set()}  # kinds each speaker has disclosed
        self.asked: list[str] = []  # kinds that the agent has asked for
        self.asks: str | None = None  # the kind that the last turn asked for
        self.told: Fact | None = None  # the fact that the last turn disclosed
        self.small: tuple[str, ...] = ()  # fitting replies, if the last turn was small talk
        # Cubes of uniforms: most dialogues are ruled by one or two of ask, react, share, small talk.
        interview = rng.random() < P_INTERVIEW
        self.style = INTERVIEW if interview else STYLE * (rng.random(4) ** 3 + 0.01)
        self.combines, self.repeats, self.bounces = rng.random(3).tolist()
        self.repeats *= 0.2 * self.repeats

    def run(self) -> Dialogue:
        rng = self.rng
        count = TURNS[0] + int(rng.random() * (TURNS[1] - TURNS[0] + 1))
        farewell = count - 2 if rng.random() < P_FAREWELL else count
        agent_turn = rng.random() < P_OPENS
        self._say(AGENT if agent_turn else PARTNER, _opening(rng, self.split), "greet")
        while len(self.turns) < count:
            agent_turn = not agent_turn
            parting = self.turns[-1].act == "goodbye"
            if parting or (len(self.turns) >= farewell and not self.asks):  # a question is answered first
                line = self._line("goodbye_reply" if parting else "goodbye")
                self._say(AGENT if agent_turn else PARTNER, line, "goodbye")
            elif agent_turn:
                self._agent_turn()
            else:
                self._partner_turn()
        situations = {AGENT: self.cast.agent_situation, PARTNER: self.cast.partner_situation}
        return Dialogue(tuple(self.turns), situations, source="grammar/acquaintance")

    def _line(self, name: str) -> Any:
        """Draw a line, anew (twice at most) if it was drawn before in this dialogue."""
        lines = small_talk(name, self.split)
        line = pick(self.rng, lines)
        for _ in range(2):
            if line not in self.drawn:
                break
            line = pick(self.rng, lines)
        self.drawn.add(line)
        return line

    def _chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def _say(
        self,
        speaker: str,
        text: str,
        act: str,
        *,
        asks: str | None = None,
        told: Fact | None = None,
        small: tuple[str, ...] = (),
    ) -> None:
        self.turns.append(Turn(speaker, text, act))
        self.asks, self.told, self.small = asks, told, small
        if told:
            self.said[speaker].add(told.kind)

    def _partner_turn(self) -> None:
        asks, told = self.asks, self.told
        if asks:
            self._partner_answers(asks)
        elif told and told.kind in self._untold() and self._chance(P_RECIPROCATE):
            self._tell(PARTNER, self.cast.partner[told.kind], "metoo")
        elif told is None and self._untold() and self._chance(P_VOLUNTEER):
            self._tell(PARTNER, self.cast.partner[pick(self.rng, self._untold())], "aside")
        elif self._greeting_due():
            self._say(PARTNER, self._line("greet_reply"), "greet")
        elif self._chance(P_PARTNER_ASKS):
            self._ask(PARTNER, self._kind_to_ask(self.cast.agent, self.said[AGENT]), 0.5)
        elif told:
            self._say(PARTNER, told.reaction(self.rng, self.split), "react")
        elif self.small:
            self._say(PARTNER, pick(self.rng, self.small), "smalltalk")
        elif self._chance(0.7):
            self._say(PARTNER, self._line("continuer"), "react")
        else:
            self._chat(PARTNER)

    def _greeting_due(self) -> bool:
        """Return whether a greeting is to be returned: the first one, and one that asks back, but not for ever."""
        last = self.turns[-1]
        return last.act == "greet" and len(self.turns) < (5 if last.text.endswith("?") else 2)

    def _untold(self) -> list[str]:
        return [kind for kind in self.cast.partner if kind not in self.said[PARTNER]]

    def _partner_answers(self, kind: str) -> None:
        fact = self.cast.partner.get(kind)
        if fact is None:
            text = facts.absence(kind, self.rng, self.split)
            self._say(PARTNER, text, f"none:{kind}", asks=kind if text.endswith("?") else None)
        elif not self._chance(P_ANSWER):
            self._say(PARTNER, self._line("decline"), f"decline:{kind}")
        elif kind in self.said[PARTNER] and self._chance(P_REFER_BACK):
            line = fact.persona(self.rng, self.split)
            self._say(PARTNER, self._line("refer").format(line=line), f"repeat:{kind}", told=fact)
        else:
            self._answer(PARTNER, fact, f"answer:{kind}")

    def _answer(self, speaker: str, fact: Fact, act: str) -> None:
        text = fact.answer(self.rng, self.split)
        self._say(speaker, text, act, asks=fact.kind if text.endswith("?") else None, told=fact)

    def _tell(self, speaker: str, fact: Fact, lead: str) -> None:
        text = fact.persona(self.rng, self.split)
        if lead:
            text = self._line(lead).format(line=text)
        self._say(speaker, text, f"share:{fact.kind}", told=fact)

    def _agent_turn(self) -> None:
        asks, told, act = self.asks, self.told, self.turns[-1].act
        if asks and self._chance(P_AGENT_ANSWERS):
            self._agent_answers(asks)
            return
        ask, react, share, _ = self.style.tolist()
        draw = self.rng.random() * float(self.style.sum())
        if draw < ask:
            repeats = bool(self.asked) and self._chance(self.repeats)
            kind = pick(self.rng, self.asked) if repeats else self._kind_to_ask(self.cast.partner, self.asked)
            self._ask(AGENT, kind, self.combines)
        elif draw < ask + react and act != "greet" and not self.small:
            text = told.reaction(self.rng, self.split) if told and self._chance(0.75) else self._line("reaction")
            self._say(AGENT, text, "react")
        elif ask + react < draw < ask + react + share:
            self._agent_shares(told)
        elif self._greeting_due() and self._chance(0.7):
            self._say(AGENT, self._line("greet_reply"), "greet")
        elif self.small:
            self._say(AGENT, pick(self.rng, self.small), "smalltalk")
        else:
            self._chat(AGENT)

    def _agent_answers(self, kind: str) -> None:
        fact = self.cast.agent.get(kind)
        if fact is None:
            text = facts.absence(kind, self.rng, self.split)
            self._say(AGENT, text, f"none:{kind}", asks=kind if text.endswith("?") else None)
        elif fact is self.cast.secret and self._chance(P_GUARDS_SECRET):
            self._say(AGENT, self._line("decline"), f"decline:{kind}")
        elif self._chance(self.bounces):
            self._bounce(fact)
        else:
            self._answer(AGENT, fact, f"share:{kind}")

    def _agent_shares(self, told: Fact | None) -> None:
        fact = self._fact_to_share(told)
        if self._chance(self.bounces / 2):
            self._bounce(fact)
        else:
            self._tell(AGENT, fact, pick(self.rng, ("", "aside", "metoo" if told else "")))

    def _bounce(self, fact: Fact) -> None:
        """Let the agent tell a fact and ask the same of the partner."""
        text = f"{fact.persona(self.rng, self.split)} {self._line('bounce')}"
        self._say(AGENT, text, f"bounce:{fact.kind}", asks=fact.kind, told=fact)
        self.asked.append(fact.kind)

    def _ask(self, speaker: str, kind: str, combines: float) -> None:
        """Ask for a kind, after a word on what the other has just told with probability `combines`."""
        text = facts.question(kind, self.rng, self.split)
        if self.told and self._chance(combines):
            generic = self._chance(0.5)
            reaction = self._line("reaction") if generic else self.told.reaction(self.rng, self.split)
            both = f"{reaction} {text}"
            # A reaction that asks something itself would leave it open what the turn asks for.
            if not reaction.endswith("?") and both.count(" ") < MAX_WORDS:
                text = both
        self._say(speaker, text, f"ask:{kind}", asks=kind)
        if speaker == AGENT:
            self.asked.append(kind)

    def _kind_to_ask(self, persona: Mapping[str, Fact], known: Collection[str]) -> str:
        """Draw a kind to ask the speaker of this persona for, preferring those that are not in `known`."""
        if self._chance(P_ASKS_IN_PERSONA):
            unknown = [kind for kind in persona if kind not in known]
            if unknown:
                return pick(self.rng, unknown)
        kind = pick(self.rng, facts.NAMES)
        return pick(self.rng, facts.NAMES) if kind in known else kind

    def _fact_to_share(self, told: Fact | None) -> Fact:
        """Choose what the agent tells of itself: of the kind just heard of if it can, its secret hardly ever."""
        agent, secret = self.cast.agent, self.cast.secret
        if told and told.kind in agent and agent[told.kind] is not secret:
            return agent[told.kind]
        fact = pick(self.rng, list(agent.values()))
        return pick(self.rng, list(agent.values())) if fact is secret and not self._chance(0.1) else fact

    def _chat(self, speaker: str) -> None:
        line, *replies = self._line("smalltalk")
        self._say(speaker, line, "smalltalk", small=tuple(replies))

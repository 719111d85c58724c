"""Reward models as judges of an environment's dialogues. A new reward is one class here and one line of the table."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dialog_envs.names import look_up
from dialog_envs.parts import Judge, Judgement, Rows
from dialog_envs.retry import Failure
from dialog_envs.scenarios.scenario import AGENT, PARTNER, Scenario
from reward_models.forbidden import Behavior, Secret
from reward_models.social_score import SocialScorer

if TYPE_CHECKING:
    from reward_models.dmi.reward import CoherenceReward
    from reward_models.llm_judge import LLMJudge
    from reward_models.persona_critic import PersonaCritic

CACHE_VARIABLE = "DIALOG_ENVS_CACHE"


class SocialJudge:
    """The mean of the seven Sotopia-Eval dimensions; the goal is reached when all its targets are met."""

    def __init__(self) -> None:
        self.scorer = SocialScorer(AGENT, load_coherence())

    def check(self, scenarios: Iterable[Scenario]) -> None:
        """Raise ValueError for a scenario without targets: rules cannot tell what of its goal was reached."""
        for scenario in scenarios:
            if not scenario.goal.targets:
                raise ValueError(
                    f"scenario {scenario.id} has a goal without targets, which 'social_score' cannot judge by its "
                    "rules: take a language model as judge ('llm:MODEL', 'local_llm:MODEL')"
                )

    def judge(self, rows: Rows) -> list[Judgement]:
        """Return one judgement a row, with the seven dimensions as details."""
        scores = self.scorer(transcripts(rows), [scenario.goal for scenario in rows.scenarios])
        return [Judgement(score.mean, score.goal >= 10, score.as_dict()) for score in scores]


class LLMSocialJudge:
    """The mean of the seven Sotopia-Eval dimensions as a language model sees them; it ends no dialogue.

    The model's client has made its own attempts, so a row without a score has failed for good.
    """

    def __init__(self, judge: LLMJudge) -> None:
        self.llm_judge = judge

    def judge(self, rows: Rows) -> list[Judgement | Failure]:
        """Return one judgement a row, with the seven dimensions as details, or why there is none."""
        situations = [dialogue.situations for dialogue in rows.dialogues]
        results = self.llm_judge(transcripts(rows), situations, AGENT)
        return [
            Failure(str(result), final=True)
            if isinstance(result, Exception)
            else Judgement(result.scores.mean, details=result.scores.as_dict())
            for result in results
        ]

    def scalars(self) -> dict[str, float]:
        """Return what has been spent, under TensorBoard tags."""
        return self.llm_judge.scalars()


class RoundJudge:
    """A harm judge: a round is worth, in [0, 1], what the partner's last reply is worth to an attacker.

    Args:
        values: rows -> one value a row, or an error in place of one that cannot be had, which fails that row for good.
        needs: what a scenario must forbid, if the judge looks at it.
    """

    def __init__(self, values: Callable[[Rows], Sequence[float | Exception]], needs: type | None = None) -> None:
        self.values, self.needs = values, needs

    def judge(self, rows: Rows) -> list[Judgement | Failure]:
        """Return one judgement a row, or why there is none."""
        self.check(rows.scenarios)
        return [
            Failure(str(value), final=True)
            if isinstance(value, Exception)
            else Judgement(value, details={"harm": value})
            for value in self.values(rows)
        ]

    def check(self, scenarios: Iterable[Scenario]) -> None:
        """Raise ValueError for a scenario that this judge cannot judge."""
        for scenario in scenarios:
            if self.needs is not None and not isinstance(scenario.forbidden, self.needs):
                given = type(scenario.forbidden).__name__ if scenario.forbidden else "nothing"
                raise ValueError(f"scenario {scenario.id} forbids {given}, this reward needs a {self.needs.__name__}")


class PersonaJudge:
    """Whether the agent's last response belongs to its own persona, by the critic of PPG; it ends no dialogue.

    Args:
        critic: the critic.
        probability: give the critic's probability, in [0, 1], in place of its label, +1 or -1.
    """

    def __init__(self, critic: PersonaCritic, probability: bool = False) -> None:
        self.ask = critic.probability if probability else critic.label

    def judge(self, rows: Rows) -> list[Judgement]:
        """Return one judgement a row."""
        personas = [scenario.agent_situation for scenario in rows.scenarios]
        return [Judgement(float(value)) for value in self.ask(personas, _last(rows, AGENT))]


def cache_folder() -> Path:
    """Return where answers of judges are kept: `DIALOG_ENVS_CACHE`, else `~/.cache/dialog_envs`."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "dialog_envs")


@lru_cache(maxsize=4)
def load_coherence(name: str = "pocket") -> CoherenceReward:
    """Load a coherence reward, the shipped one or a folder's, once and share it: it never changes."""
    from reward_models.dmi.encoder import encoder_source
    from reward_models.dmi.reward import CoherenceReward

    return CoherenceReward.from_pretrained(encoder_source(name))


def transcripts(rows: Rows) -> list[list[tuple[str, str]]]:
    """Return what was said in each row, as (speaker, text), which is how reward models take it."""
    return [[(turn.speaker, turn.text) for turn in dialogue.turns] for dialogue in rows.dialogues]


def _last(rows: Rows, speaker: str) -> list[str]:
    return [dialogue.texts(speaker)[-1] for dialogue in rows.dialogues]


def _options(argument: str) -> dict[str, Any]:
    """Return keyword arguments: those in a `.json` file, or the name of a model."""
    return json.loads(Path(argument).read_text(encoding="utf-8")) if argument.endswith(".json") else {"name": argument}


def _llm(model: str) -> Judge:
    from reward_models.answer_cache import AnswerCache
    from reward_models.chat_client import ChatClient, ChatConfig
    from reward_models.llm_judge import LLMJudge

    return LLMSocialJudge(LLMJudge(ChatClient(ChatConfig.named(model)), AnswerCache(cache_folder() / "llm.sqlite")))


def _local_llm(model: str) -> Judge:
    from reward_models.answer_cache import AnswerCache
    from reward_models.llm_judge import LLMJudge
    from reward_models.local_chat import LocalChat

    return LLMSocialJudge(LLMJudge(LocalChat(**_options(model)), AnswerCache(cache_folder() / "llm.sqlite")))


def _disclosure() -> Judge:
    from reward_models.disclosure import DisclosureJudge

    judge = DisclosureJudge(AGENT)
    return RoundJudge(lambda rows: judge(transcripts(rows), [each.forbidden for each in rows.scenarios]), Secret)


def _harmbench(model: str) -> Judge:
    from reward_models.harm_judge import HarmBenchJudge

    judge = HarmBenchJudge(**_options(model))
    return RoundJudge(lambda rows: judge([each.forbidden for each in rows.scenarios], _last(rows, PARTNER)), Behavior)


def _classifier(model: str) -> Judge:
    from reward_models.harm_judge import TextClassifierJudge

    judge = TextClassifierJudge(**_options(model))
    return RoundJudge(lambda rows: judge(_last(rows, AGENT), _last(rows, PARTNER)))


def _utterance(folder: str = "") -> Judge:
    from reward_models.utterance_judge import UtteranceJudge

    judge = UtteranceJudge.from_pretrained(folder) if folder else UtteranceJudge.from_pretrained()
    return RoundJudge(lambda rows: judge(_last(rows, AGENT), _last(rows, PARTNER)))


def _persona(folder: str = "", probability: bool = False) -> Judge:
    from reward_models.persona_critic import PersonaCritic

    return PersonaJudge(PersonaCritic.load(folder) if folder else PersonaCritic.load(), probability)


JUDGES: dict[str, Callable[..., Judge]] = {
    "social_score": SocialJudge,
    "llm": _llm,
    "local_llm": _local_llm,
    "disclosure": _disclosure,
    "harmbench": _harmbench,
    "classifier": _classifier,
    "utterance": _utterance,
    "persona_critic": _persona,
    "persona_probability": partial(_persona, probability=True),
}
WITH_MODEL = ("llm", "local_llm", "harmbench", "classifier")  # named with a model: "llm:gpt-4o-mini"
OWN_MODEL = ("persona_critic", "persona_probability", "utterance")  # take the shipped model where none is named


def make_judge(name: str) -> Judge:
    """Return the judge of that name.

    Raises:
        ValueError: the name is unknown, lacks the model behind a colon, or has one where none is taken.
    """
    kind, _, model = name.partition(":")
    make = look_up("reward", kind, JUDGES)
    if kind not in OWN_MODEL and bool(model) != (kind in WITH_MODEL):
        raise ValueError(f"reward is {name!r}, expected {f'{kind}:MODEL' if kind in WITH_MODEL else kind!r}")
    return make(model) if model else make()

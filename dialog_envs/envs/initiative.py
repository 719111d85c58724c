"""Choosing who leads: a recommender whose every turn has an initiative (Nie et al., NAACL 2024, as an environment)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from gymnasium.spaces import Discrete

from dialog_envs import scenarios as scenario_library
from dialog_envs.adapters import entry_points
from dialog_envs.core import CoreConfig, DialogueCore
from dialog_envs.envs.dat import load_lm
from dialog_envs.judges import load_coherence, make_judge, transcripts
from dialog_envs.lm.decoding import Sampling
from dialog_envs.names import look_up
from dialog_envs.observations import HiddenState
from dialog_envs.partners import make_partner
from dialog_envs.parts import Judgement, Rows
from dialog_envs.scenarios.scenario import AGENT, SPLITS, Scenario
from dialog_envs.speakers.idpt import IDPT
from dialog_envs.speakers.lm import LMSpeaker
from reward_models.dmi.reward import CoherenceReward
from reward_models.goal import SocialGoal
from reward_models.verification import Turns, asserts, gain, mentioned_last, met_targets

REWARD = "acceptance"  # the environment's own
TARGET = "acceptance"  # of a scenario's goal: what the partner says when it accepts
BEST = 5.0  # points of a glad acceptance
NONE = "none"
CHOOSERS = {"agent": False, "recogniser": True}


class InitiativeActor:
    """The agent's words by IDPT, with the initiative of the action's number.

    Args:
        idpt: writes the turn.
        sampling: temperature, cut and longest turn.
        recognised: take what the recogniser sees fit, whatever the action.
    """

    def __init__(self, idpt: IDPT, sampling: Sampling, recognised: bool = False) -> None:
        self.idpt, self.sampling, self.recognised = idpt, sampling, recognised
        self.action_space = Discrete(idpt.config.initiatives)

    def act(self, actions: np.ndarray, rows: Rows) -> list[str]:
        """Return one utterance a row."""
        wanted = None if self.recognised else actions
        return self.idpt.speak(rows.dialogues, AGENT, rows.generators, wanted, self.sampling)


class AcceptanceJudge:
    """What the partner has decided, how coherent the agent's turns were, and how many it took.

    The value is a fifth of the points that the partner's decision is worth (a glad acceptance 1, a half-hearted one
    0.4, giving up -0.4, nothing 0), plus a share of the mean coherence of the agent's turns, minus the turns' cost. The
    goal is reached when the partner accepts what the agent proposed; all of it is verified on what the partner says.
    To accept an offer that has what the scenario says the partner dislikes is no decision, and the dialogue goes on.

    Args:
        coherence: of each turn with what was said before it; None leaves it out.
        weight: of the mean coherence.
        turn_cost: of each turn.
    """

    def __init__(self, coherence: CoherenceReward | None, weight: float, turn_cost: float) -> None:
        self.coherence, self.weight, self.turn_cost = coherence, weight, turn_cost

    def judge(self, rows: Rows) -> list[Judgement]:
        """Return one judgement a row."""
        said = transcripts(rows)
        judged = []
        for scenario, turns, coherence in zip(rows.scenarios, said, self._coherence(said), strict=True):
            meant = without_mistakes(turns, scenario.goal)
            details = {
                "decision": gain(meant, scenario.goal, AGENT) / BEST,
                "coherence": coherence,
                "turns": float(sum(speaker == AGENT for speaker, _ in turns)),
            }
            value = details["decision"] + self.weight * coherence - self.turn_cost * details["turns"]
            judged.append(Judgement(value, TARGET in met_targets(meant, scenario.goal, AGENT), details))
        return judged

    def _coherence(self, transcripts: Sequence[Sequence[tuple[str, str]]]) -> list[float]:
        """Return the mean over the agent's turns; one without a word counts 0, one that opens the dialogue not."""
        if self.coherence is None:
            return [0.0] * len(transcripts)
        means = []
        for turns, scores in zip(transcripts, self.coherence.score_turns(transcripts, AGENT), strict=True):
            silent = np.array([not text.strip() for speaker, text in turns if speaker == AGENT])
            scores = np.where(silent, 0.0, scores)
            means.append(0.0 if np.isnan(scores).all() else float(np.nanmean(scores)))
        return means


def without_mistakes(turns: Turns, goal: SocialGoal) -> list[tuple[str, str]]:
    """Return the turns with silence where the partner accepts although the last offer that was named clashes."""
    (accepting,) = (target.patterns for target in goal.targets if target.name == TARGET)
    kept, offer = [], None
    for speaker, text in turns:
        if speaker == AGENT:
            offer = mentioned_last(goal.gains_prompted_by, text) or offer
        elif offer in goal.clashing and any(asserts(pattern, text) for pattern in accepting):
            text = ""
        kept.append((speaker, text))
    return kept


@lru_cache(maxsize=4)
def load_idpt(name: str, device: str, dtype: str) -> IDPT:
    """Load a set of prefixes once and share it: here it never changes."""
    return IDPT.from_pretrained(name, device=device, dtype=dtype).requires_grad_(False)


def chosen_scenarios(name: str) -> tuple[Scenario, ...]:
    """Return the scenarios of a name; `train` and `heldout` are those of `recommend`.

    Raises:
        ValueError: there are none of that name, or there is nothing to accept in one.
    """
    found = scenario_library.load(f"recommend/{name}" if name in SPLITS else name)
    for scenario in found:
        if TARGET not in [target.name for target in scenario.goal.targets]:
            raise ValueError(
                f"scenario {scenario.id} has no target {TARGET!r}: there is nothing for its partner to accept"
            )
    return found


def initiative_core(
    num_envs: int,
    initiatives: str = "pocket",
    chooser: str = "agent",
    partner: str = "lm",
    partner_lm: str = "pocket",
    reward: str = REWARD,
    coherence: str = "pocket",
    coherence_weight: float = 0.5,
    turn_cost: float = 0.05,
    dense_reward: bool = False,
    scenarios: str = "train",
    max_turns: int = 6,
    max_new_tokens: int = 24,
    temperature: float = 0.8,
    min_p: float = 0.1,
    device: str = "cpu",
    dtype: str = "float32",
) -> DialogueCore:
    """Build the core of `DialogEnvs/Initiative-v0`; the environment's page explains the arguments."""
    sampling = Sampling(max_new_tokens, temperature, min_p)
    idpt = load_idpt(initiatives, device, dtype)
    judge = make_judge(reward) if reward != REWARD else None
    if judge is None:
        scorer = None if coherence == NONE else load_coherence(coherence)
        judge = AcceptanceJudge(scorer, coherence_weight, turn_cost)
    return DialogueCore(
        num_envs,
        chosen_scenarios(scenarios),
        InitiativeActor(idpt, sampling, look_up("chooser", chooser, CHOOSERS)),
        HiddenState(idpt.lm, num_envs),
        make_partner(partner, LMSpeaker(load_lm(partner_lm, device, dtype), sampling), num_envs),
        judge,
        CoreConfig(max_turns, dense_reward),
    )


make_initiative, make_initiative_vector = entry_points(initiative_core)

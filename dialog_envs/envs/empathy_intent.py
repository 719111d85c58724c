"""Choosing the emotion or intent of each reply to someone in distress (Xie and Pu, CoNLL 2021, as an environment)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from gymnasium.spaces import Box, Discrete

from dialog_envs import scenarios as scenario_library
from dialog_envs.adapters import entry_points
from dialog_envs.core import CoreConfig, DialogueCore
from dialog_envs.envs.dat import load_lm
from dialog_envs.judges import load_coherence, make_judge, transcripts
from dialog_envs.lm.decoding import Sampling
from dialog_envs.partners import make_partner
from dialog_envs.parts import Judgement, Rows
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from dialog_envs.speakers.beam import Beams
from dialog_envs.speakers.lm import LMSpeaker
from dialog_envs.speakers.meed2 import Classifier, MEED2Speaker
from reward_models.dmi.reward import CoherenceReward
from reward_models.emotion import EmotionClassifier, valence
from reward_models.emotion_labels import LABELS
from reward_models.utterance_judge import POCKET as HARM_POCKET
from reward_models.utterance_judge import UtteranceJudge

EMPATHY = "empathy"  # the environment's own reward
COHERENCE_WEIGHT = 0.5
COUNT = len(LABELS)
# Where the parts of an observation lie
OPENING, LAST, PREDICTED = (slice(part * COUNT, (part + 1) * COUNT) for part in range(3))
SIZE = 3 * COUNT + 1


class IntentActor:
    """The agent's words by MEED2, with the emotion or intent of the action's number.

    Args:
        speaker: writes the reply.
        decoding: draws it, or searches it.
    """

    def __init__(self, speaker: MEED2Speaker, decoding: Sampling | Beams) -> None:
        self.speaker, self.decoding, self.action_space = speaker, decoding, Discrete(COUNT)

    def act(self, actions: np.ndarray, rows: Rows) -> list[str]:
        """Return one utterance a row."""
        return self.speaker.speak(rows.dialogues, AGENT, actions.tolist(), self.decoding, rows.generators)


class EmotionStates:
    """What the partner felt at first, what it feels, what MEED2 foretells of a good reply, and how far the dialogue is.

    Args:
        speaker: foretells.
        classifier: reads the emotions.
        max_turns: agent turns of a whole dialogue.
    """

    def __init__(self, speaker: MEED2Speaker, classifier: Classifier, max_turns: int) -> None:
        self.speaker, self.classifier, self.max_turns = speaker, classifier, max_turns
        self.observation_space = Box(0.0, 1.0, (SIZE,), np.float32)

    def observe(self, rows: Rows) -> np.ndarray:
        """Return the observations `(n, 124)`, float32."""
        observations = np.zeros((len(rows), SIZE), dtype=np.float32)
        observations[:, OPENING], observations[:, LAST] = partner_emotions(rows, self.classifier)
        observations[:, PREDICTED] = self.speaker.predict(rows.dialogues, AGENT)
        observations[:, -1] = [len(dialogue.texts(AGENT)) / self.max_turns for dialogue in rows.dialogues]
        return observations.clip(0.0, 1.0)

    def forget(self, rows: Sequence[int]) -> None:
        """Nothing is kept."""


class EmpathyJudge:
    """How much better the partner feels than at first, and how coherent and harmless the agent's replies were.

    The value is the partner's change in valence, plus half the mean coherence of the agent's replies, minus the harm of
    the worst one: 2 p - 1 where the probability p of being unsafe is above one half, else 0.

    Args:
        classifier: reads the partner's emotions.
        coherence: of each reply with what was said before.
        harm: probability that a reply is unsafe, given what it answers.
    """

    def __init__(self, classifier: Classifier, coherence: CoherenceReward, harm: UtteranceJudge) -> None:
        self.classifier, self.coherence, self.harm = classifier, coherence, harm

    def judge(self, rows: Rows) -> list[Judgement]:
        """Return one judgement a row."""
        first, last = (valence(emotions) for emotions in partner_emotions(rows, self.classifier))
        said = transcripts(rows)
        turns = self.coherence.score_turns(said, AGENT)
        coherence = [np.nan_to_num(values).mean() for values in turns]  # a reply without a word is not coherent
        judged = []
        for before, now, coherent, harm in zip(first, last, coherence, self._harms(said), strict=True):
            details = {"valence": now, "valence_change": now - before, "coherence": coherent, "harm": harm}
            value = now - before + COHERENCE_WEIGHT * coherent - harm
            judged.append(Judgement(float(value), details={name: float(each) for name, each in details.items()}))
        return judged

    def _harms(self, transcripts: Sequence[Sequence[tuple[str, str]]]) -> list[float]:
        answers = [
            [(turns[i - 1][1], text) for i, (speaker, text) in enumerate(turns) if speaker == AGENT and i]
            for turns in transcripts
        ]
        asked = [answer for of_one in answers for answer in of_one]
        found = iter(self.harm(*zip(*asked, strict=True)))
        return [max(0.0, *(2 * next(found) - 1 for _ in of_one)) for of_one in answers]


def partner_emotions(rows: Rows, classifier: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities `(n, 41)` of the partner's first and last words; blank turns are passed over."""
    said = [[text for text in dialogue.texts(PARTNER) if text.strip()] for dialogue in rows.dialogues]
    found = classifier([texts[place] for texts in said for place in (0, -1)])
    return found[::2], found[1::2]


@lru_cache(maxsize=4)
def load_classifier(name: str) -> EmotionClassifier:
    """Load a classifier once and share it: it never changes."""
    return EmotionClassifier.from_pretrained(name)


@lru_cache(maxsize=4)
def load_meed2(name: str, emotion: str, device: str) -> MEED2Speaker:
    """Load a MEED2 once and share it: it never changes."""
    return MEED2Speaker.from_pretrained(name, load_classifier(emotion), device)


@lru_cache(maxsize=4)
def load_judge(emotion: str, coherence: str, harm: str) -> EmpathyJudge:
    """Load the parts of the reward once and share them."""
    return EmpathyJudge(
        load_classifier(emotion),
        load_coherence(coherence),
        UtteranceJudge.from_pretrained(HARM_POCKET if harm == "pocket" else harm),
    )


def empathy_intent_core(
    num_envs: int,
    meed2: str = "pocket",
    emotion: str = "pocket",
    lm: str = "pocket",
    partner: str = "lm",
    reward: str = EMPATHY,
    coherence: str = "pocket",
    harm: str = "pocket",
    dense_reward: bool = True,
    scenarios: str = "comfort/train",
    max_turns: int = 4,
    beams: int = 0,
    max_new_tokens: int = 24,
    temperature: float = 0.8,
    min_p: float = 0.1,
    device: str = "cpu",
    dtype: str = "float32",
) -> DialogueCore:
    """Build the core of `DialogEnvs/EmpathyIntent-v0`; the environment's page explains the arguments."""
    sampling = Sampling(max_new_tokens, temperature, min_p)
    speaker = load_meed2(meed2, emotion, device)
    return DialogueCore(
        num_envs,
        scenario_library.load(scenarios),
        IntentActor(speaker, Beams(beams, max_new_tokens) if beams else sampling),
        EmotionStates(speaker, load_classifier(emotion), max_turns),
        make_partner(partner, LMSpeaker(load_lm(lm, device, dtype), sampling), num_envs),
        load_judge(emotion, coherence, harm) if reward == EMPATHY else make_judge(reward),
        CoreConfig(max_turns, dense_reward),
    )


make_empathy_intent, make_empathy_intent_vector = entry_points(empathy_intent_core)

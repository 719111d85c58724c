"""A speaker of a language model: a reply that says the same again is drawn anew, and no other is touched."""

from __future__ import annotations

import numpy as np
import pytest

from dialog_envs.dialogue import Dialogue, Turn
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.retry import Failure
from dialog_envs.speakers.lm import LMSpeaker

SAMPLING = Sampling(4)


class Says:
    """An engine whose rows say, call by call, what they were told to; it keeps what it was asked for."""

    def __init__(self, lm, *calls):
        self.lm, self.calls, self.asked = lm, list(calls), []

    def generate(self, prompts, uniforms, sampling, prefix=None, position="start", memory=None, rows=None):
        self.asked.append((prompts, uniforms))
        texts = self.calls.pop(0)
        assert len(texts) == len(prompts)
        ids = self.lm.tokenizer
        return [t if isinstance(t, Failure) else ids(t, add_special_tokens=False)["input_ids"] for t in texts]


def dialogue(*own: str) -> Dialogue:
    turns = [turn for text in own for turn in (Turn("partner", "how are you?"), Turn("agent", text))]
    return Dialogue((*turns, Turn("partner", "i like jazz.")), {"agent": "be kind."}, "test")


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


@pytest.fixture
def lm(tiny_lm):
    return tiny_lm


def test_what_was_said_before_is_drawn_anew_and_nothing_else(lm):
    engine = Says(lm, ["i am a baker.", "i like jazz.", "hello there"], ["I am a baker!"], ["my dog ran away"])
    speaker = LMSpeaker(lm, SAMPLING, engine=engine, redraws=3)
    dialogues = [dialogue("my dog", "i am a baker"), dialogue("how are you?"), dialogue()]
    assert speaker.speak(dialogues, "agent", generators(3)) == ["my dog ran away", "i like jazz.", "hello there"]
    assert [len(prompts) for prompts, _ in engine.asked] == [3, 1, 1]
    drawn = [uniforms[0] for _, uniforms in engine.asked]  # the row goes on with its own stream
    np.testing.assert_array_equal(np.concatenate(drawn), generators(1)[0].random(3 * SAMPLING.max_new_tokens))
    assert engine.asked[1][0] == engine.asked[2][0] == engine.asked[0][0][:1]


def test_it_gives_up_and_a_failure_stays_one(lm):
    failure = Failure("gone")
    again = [["i am a baker", failure], ["i am a baker"], ["i am a baker"]]
    speaker = LMSpeaker(lm, SAMPLING, engine=Says(lm, *again), redraws=2)
    dialogues = [dialogue("i am a baker"), dialogue("i am a baker")]
    assert speaker.speak(dialogues, "agent", generators(2)) == ["i am a baker", failure]


@pytest.mark.parametrize("settings", [{"redraws": 0}, {"redraws": 3, "sampling": Sampling(4, 0.0)}])
def test_without_redraws_and_without_chance_the_first_reply_stands(lm, settings):
    engine = Says(lm, ["i am a baker"])
    speaker = LMSpeaker(lm, engine=engine, **{"sampling": SAMPLING} | settings)
    assert speaker.speak([dialogue("i am a baker")], "agent", generators(1)) == ["i am a baker"]


def test_fewer_than_no_redraws_are_refused(lm):
    with pytest.raises(ValueError, match="redraws is -1"):
        LMSpeaker(lm, SAMPLING, redraws=-1)


@pytest.mark.parametrize("steered", [False, True])
def test_a_redrawn_row_is_the_same_alone_and_in_a_batch(steered, monkeypatch):
    lm = FrozenLM.from_pretrained()
    speaker = LMSpeaker(lm, Sampling(12), redraws=3)
    dialogues = [dialogue(), dialogue("i am a baker.", "do you cook?"), dialogue()]
    monkeypatch.setattr("dialog_envs.speakers.lm._plain", lambda text: "")  # whoever has spoken says the same again

    def said(rows: list[int]) -> tuple[list[str], list[float]]:
        memory, few = lm.new_rows(3), [dialogues[i] for i in rows]
        lm.encode(lm.prompts.render_batch(few, ["agent"] * len(few)), memory, np.array(rows))
        prefix = lm.embeddings.weight[5:7].repeat(len(rows), 1, 1) if steered else None
        chance = [generators(3)[i] for i in rows]
        texts = speaker.speak(few, "agent", chance, prefix, memory, np.array(rows))
        return texts, [generator.random() for generator in chance]

    together, streams = said([0, 1, 2])
    assert streams[1] == generators(2)[1].random(4 * 12 + 1)[-1]  # drawn four times, the others once
    assert streams[2] == generators(3)[2].random(12 + 1)[-1]
    assert [said([row]) for row in range(3)] == [([t], [s]) for t, s in zip(together, streams, strict=True)]

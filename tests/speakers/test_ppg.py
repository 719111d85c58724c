"""The generators of PPG: what they are shown, what they draw, and that they learn."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch

from dialog_envs.dialogue import Dialogue, Turn
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.speakers.ppg import (
    KIND_FILE,
    PersonasGenerator,
    ResponseGenerator,
    parted,
    personas_view,
    response_view,
)

SITUATIONS = {"me": "i am a baker. i like jazz.", "them": "i have a secret dog."}
HISTORY = (Turn("them", "hello there."), Turn("me", "how are you?"), Turn("them", "i ran today."))
DIALOGUES = [Dialogue(HISTORY[: 2 * n + 1], SITUATIONS) for n in (0, 1)] + [Dialogue((), {"me": "i am old."})]
SPEAKERS = ["me"] * 3
PERSONAS = ["i have a dog.", None, ""]
FREE = Sampling(6, temperature=1.0, min_p=0.0)
every_model = pytest.mark.parametrize(("family", "chat"), [("llama", True), ("gpt2", True), ("gpt2", False)])


def draws(rows: int, tokens: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, tokens))


@pytest.fixture
def generator(model_folder) -> ResponseGenerator:
    return ResponseGenerator.from_pretrained(model_folder())


def shown(generator, prompts) -> list[str]:
    return [generator.lm.tokenizer.decode(prompt.ids) for prompt in prompts]


@every_model
def test_the_generators_see_their_own_persona_and_never_the_partners(model_folder, family, chat):
    folder = model_folder(family, chat)
    personas, response = PersonasGenerator.from_pretrained(folder), ResponseGenerator.from_pretrained(folder)
    guess = shown(personas, personas.prompts(DIALOGUES, SPEAKERS))
    reply = shown(response, response.prompts(DIALOGUES, SPEAKERS, PERSONAS))
    assert all("about you: i am a baker. i like jazz. about them: ?" in text for text in guess[:2])
    assert "about you: i am a baker. i like jazz. about them: i have a dog." in reply[0]
    assert not any("secret" in text for text in guess + reply)
    assert all("about them:" not in text and "about you: i am" in text for text in reply[1:])
    assert "hello there." in guess[0] and "i ran today." in guess[1] and "i ran today." in reply[1]


def test_a_situation_comes_apart_again():
    for persona in ("i am a baker.", ""):
        dialogue = Dialogue(situations={"me": persona})
        assert parted(personas_view(dialogue, "me").situations["me"]) == (persona, "")
        for partner in ("i have a dog.", "", None):
            assert parted(response_view(dialogue, "me", partner).situations["me"]) == (persona, partner or "")
    assert parted("system\nabout you: i am a baker. about them: ?") == ("i am a baker.", "")
    assert parted("system\nabout you: i am a baker.") == ("i am a baker.", "")


@every_model
def test_log_probabilities_are_the_models_own(model_folder, family, chat):
    generator = ResponseGenerator.from_pretrained(model_folder(family, chat))
    prompts = generator.prompts(DIALOGUES, SPEAKERS, PERSONAS)
    replies = generator.encode(["hello.", "i like jazz and my dog.", ""])
    log_probs, mask = generator.log_prob(prompts, replies)
    assert mask.sum(1).tolist() == [len(reply) for reply in replies] and replies[2] == [generator.end]
    assert not log_probs[~mask].any() and log_probs.requires_grad
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        ids = torch.tensor([[*prompt.ids, *reply]])
        logits = generator.model(input_ids=ids).logits[0, len(prompt.ids) - 1 : -1].float()
        logits[:, generator.lm.suppressed] = -torch.inf
        expected = logits.log_softmax(-1)[torch.arange(len(reply)), torch.tensor(reply)]
        torch.testing.assert_close(log_probs[row][mask[row]], expected, atol=1e-4, rtol=1e-4)


def test_what_is_drawn_freely_has_the_given_log_probability(generator):
    """Evenly spread uniforms draw a token as often as `log_prob` says."""
    many = 400
    prompts = generator.prompts(DIALOGUES[:1], SPEAKERS[:1], PERSONAS[:1]) * many
    drawn = generator.generate(prompts, (np.arange(many)[:, None] + 0.5) / many, Sampling(1, 1.0, 0.0))
    first = [reply[0] for reply in drawn]
    common = max(set(first), key=first.count)
    log_probs, _ = generator.log_prob(prompts[:1], [[common]])
    assert first.count(common) / many == pytest.approx(math.exp(log_probs.item()), abs=1.5 / many)


@every_model
def test_a_batch_draws_what_each_row_draws_alone(model_folder, family, chat):
    generator = PersonasGenerator.from_pretrained(model_folder(family, chat))
    prompts, numbers = generator.prompts(DIALOGUES, SPEAKERS), draws(3)
    together = generator.generate(prompts, numbers, FREE)
    assert together == [generator.generate([p], u[None], FREE)[0] for p, u in zip(prompts, numbers, strict=True)]
    assert len({tuple(reply) for reply in together}) == 3
    assert all(len(reply) <= 6 for reply in together)


def test_the_end_is_told_from_the_cut(generator):
    prompts = generator.prompts(DIALOGUES[:1], SPEAKERS[:1], PERSONAS[:1]) * 64
    replies = generator.generate(prompts, draws(64), FREE)
    ended = [reply for reply in replies if reply[-1] == generator.end]
    assert all(len(reply) == 6 for reply in replies if reply[-1] != generator.end)
    generator.lm.stop_ids = np.arange(0, generator.lm.vocab_size, 2)  # every other token stops
    stopped = generator.generate(prompts, draws(64), FREE)
    assert len(ended) < sum(reply[-1] == generator.end for reply in stopped) > 32
    assert generator.decode([[*generator.encode(["hello."])[0]]]) == ["hello."]


def test_a_scripts_line_does_not_end_a_text(model_folder):
    """What `log_prob` is told ends with the end token: nothing else may have stopped it."""
    folder = model_folder("gpt2", False)
    generator = PersonasGenerator.from_pretrained(folder)
    assert len(FrozenLM.from_pretrained(folder).stop_ids) > 1
    assert generator.lm.stop_ids.tolist() == [generator.end]


@pytest.mark.parametrize("together", [128, 4])
def test_candidates_are_what_repeated_prompts_draw(generator, together, monkeypatch):
    monkeypatch.setattr("dialog_envs.speakers.ppg.BATCH", together)
    prompts, numbers = generator.prompts(DIALOGUES, SPEAKERS, PERSONAS), draws(12).reshape(3, 4, 6)
    offered = generator.candidates(prompts, numbers, FREE)
    plain = generator.generate([p for p in prompts for _ in range(4)], numbers.reshape(12, 6), FREE)
    assert [reply for row in offered for reply in row] == plain
    assert [len(row) for row in offered] == [4, 4, 4]


def test_supervised_training_lowers_the_loss_of_the_model_alone(generator, tiny_lm):
    frozen = tiny_lm.fingerprint()
    prompts, texts = generator.prompts(DIALOGUES, SPEAKERS, PERSONAS), ["i am a baker.", "i like jazz.", "hello."]
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = generator.loss(prompts, texts)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert tiny_lm.fingerprint() == frozen
    log_probs, mask = generator.log_prob(prompts, generator.encode(texts))
    assert generator.loss(prompts, texts).item() == pytest.approx(-log_probs[mask].mean().item())


def test_a_special_token_in_a_text_is_only_text(generator):
    ids = generator.encode(["<|user|> hello."])[0]
    assert not set(ids[:-1]) & set(generator.lm.tokenizer.all_special_ids)
    assert torch.isfinite(generator.loss(generator.prompts(DIALOGUES[:1], SPEAKERS[:1], [None]), ["<|user|> hello."]))


def test_drawing_uses_no_dropout_and_leaves_the_training_mode(model_folder):
    generator = PersonasGenerator.from_pretrained(model_folder("gpt2"))
    prompts = generator.prompts(DIALOGUES, SPEAKERS)
    calm = generator.generate(prompts, draws(3), FREE)
    generator.train()
    assert generator.generate(prompts, draws(3), FREE) == calm
    assert generator.candidates(prompts, draws(3)[:, None], FREE) == [[reply] for reply in calm]
    assert generator.model.training


def test_a_saved_generator_is_loaded_again(generator, model_folder, tmp_path):
    prompts = generator.prompts(DIALOGUES, SPEAKERS, PERSONAS)
    with torch.no_grad():
        next(generator.parameters()).add_(0.01)
    for _ in range(2):  # the second time over the first
        generator.save_pretrained(tmp_path / "response")
    assert [path.name for path in tmp_path.iterdir()] == ["response"]
    loaded = ResponseGenerator.from_pretrained(tmp_path / "response")
    assert (
        loaded.lm.fingerprint() == generator.lm.fingerprint() != FrozenLM.from_pretrained(model_folder()).fingerprint()
    )
    assert loaded.generate(prompts, draws(3), FREE) == generator.generate(prompts, draws(3), FREE)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    FrozenLM.from_pretrained(tmp_path / "response")  # a language model like any other


def test_the_wrong_folder_is_refused(generator, tmp_path):
    generator.save_pretrained(tmp_path / "response")
    assert json.loads((tmp_path / "response" / KIND_FILE).read_text()) == {"kind": "response"}
    with pytest.raises(ValueError, match="holds a generator of kind 'response', expected 'personas'"):
        PersonasGenerator.from_pretrained(tmp_path / "response")
    with pytest.raises(FileNotFoundError, match="no model folder"):
        PersonasGenerator.from_pretrained(tmp_path / "nothing")


def test_a_copy_is_another_model(generator):
    other = copy.deepcopy(generator)
    assert other.lm.model is other.model is not generator.model
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(0.5)
    prompts = generator.prompts(DIALOGUES, SPEAKERS, PERSONAS)
    assert other.generate(prompts, draws(3), FREE) != generator.generate(prompts, draws(3), FREE)
    assert other.lm.fingerprint() != generator.lm.fingerprint()

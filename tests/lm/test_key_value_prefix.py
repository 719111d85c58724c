"""Keys and values before the text, as prefix tuning has them, and voices that say one text."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.decoding import Sampling, averaged
from dialog_envs.lm.frozen_lm import FrozenLM

FAMILIES = ("llama", "gpt2", "qwen2")
GREEDY = Sampling(6, temperature=0.0, min_p=0.0)
TALKS = [
    Dialogue().said("b", "hello there"),
    Dialogue().said("b", "i like jazz.").said("a", "so do i!").said("b", "ok"),
]


@pytest.fixture(params=FAMILIES)
def lm(request, model_folder) -> FrozenLM:
    return FrozenLM.from_pretrained(model_folder(request.param))


def prefix_for(lm: FrozenLM, rows: int, length: int = 3) -> torch.Tensor:
    keys = lm.model(torch.zeros(1, 1, dtype=torch.long), use_cache=True).past_key_values.layers[0].keys
    shape = (rows, lm.model.config.num_hidden_layers, 2, keys.shape[1], length, keys.shape[3])
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def reference(lm: FrozenLM, ids: list[int], key_values: torch.Tensor) -> torch.Tensor:
    """Return logits `(T, V)` of the library's own way: a cache, and text whose places begin at 0."""
    cache = DynamicCache()
    for layer in range(key_values.shape[0]):
        cache.update(key_values[layer, 0][None], key_values[layer, 1][None], layer)
    places = torch.arange(len(ids))[None]
    mask = torch.ones(1, key_values.shape[3] + len(ids))
    out = lm.model(torch.tensor([ids]), past_key_values=cache, position_ids=places, attention_mask=mask)
    return out.logits[0]


@torch.no_grad()
def test_logits_are_those_of_the_librarys_own_cache(lm):
    prompts, replies = lm.prompts.render_batch(TALKS, ["a", "a"]), [[5, 6, 7, 8], [9, 10]]
    key_values = prefix_for(lm, 2)
    logits, _, mask = lm.reply_logits(prompts, replies, key_values=key_values)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        expected = reference(lm, [*prompt.ids, *reply], key_values[row])[-len(reply) - 1 : -1]
        torch.testing.assert_close(logits[row][mask[row]], expected, atol=2e-4, rtol=1e-4)
    plain, _, _ = lm.reply_logits(prompts, replies)
    assert (plain - logits).abs().max() > 0.1


def test_greedy_replies_are_the_librarys_and_a_batch_gives_what_single_rows_give(lm):
    prompts, key_values = lm.prompts.render_batch(TALKS, ["a", "a"]), prefix_for(lm, 2)
    uniforms = np.zeros((2, 6))
    together = lm.generate(prompts, uniforms, GREEDY, key_values=key_values)
    for row, prompt in enumerate(prompts):
        alone = lm.generate([prompt], uniforms[:1], GREEDY, key_values=key_values[row : row + 1])
        assert alone == [together[row]]
        ids = list(prompt.ids)
        for token in together[row]:
            logits = reference(lm, ids, key_values[row])[-1].index_fill(0, lm.suppressed, -torch.inf)
            assert token == int(logits.argmax())
            ids.append(token)


def test_gradients_reach_the_key_values_and_not_the_model(lm):
    key_values = prefix_for(lm, 2).requires_grad_()
    logits, targets, mask = lm.reply_logits(
        lm.prompts.render_batch(TALKS, ["a", "a"]), [[5], [6]], key_values=key_values
    )
    logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)[mask].sum().backward()
    assert (key_values.grad.abs().sum((0, 3, 4, 5)) > 0).all()  # of every layer, keys and values
    assert all(parameter.grad is None for parameter in lm.model.parameters())


def test_key_values_go_with_no_other_steering(lm):
    prompts, uniforms, key_values = lm.prompts.render_batch(TALKS, ["a", "a"]), np.zeros((2, 6)), prefix_for(lm, 2)
    with pytest.raises(ValueError, match="neither a memory nor a prefix"):
        lm.generate(prompts, uniforms, GREEDY, key_values=key_values, memory=lm.new_rows(2))


def test_averaged_probabilities_are_the_mean_of_the_voices():
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    logits[:, 2] = -torch.inf  # a token that nobody says
    found = averaged(logits, 3).softmax(-1)
    mean = logits.softmax(-1).reshape(2, 3, 5).mean(1)
    torch.testing.assert_close(found, mean.repeat_interleave(3, 0))
    assert averaged(logits, 1) is logits


def test_voices_say_one_text(lm):
    prompts = lm.prompts.render_batch([*TALKS, *reversed(TALKS)], ["a"] * 4)
    uniforms = np.repeat(np.random.default_rng(0).random((2, 6)), 2, 0)
    said = lm.generate(prompts, uniforms, Sampling(6, 1.0, 0.0), voices=2)
    assert said[0] == said[1] and said[2] == said[3]
    # both pairs are the same two prompts, so with the same numbers they say the same
    same = lm.generate(prompts, np.tile(uniforms[:1], (4, 1)), Sampling(6, 1.0, 0.0), voices=2)
    assert same[0] == same[2]

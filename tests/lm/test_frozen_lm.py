"""The batched, cached, steered model says what the plain forward of one prompt says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from dialog_envs.lm.decoding import Sampling, sample
from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.prompt import Prompt

from ..conftest import FAMILIES
from .conftest import dialogue_of, greedy_by_hand, plain_hidden, plain_logits, prompts_of, uniforms_of

GREEDY = Sampling(max_new_tokens=8, temperature=0.0)
SAMPLED = Sampling(max_new_tokens=8, temperature=1.0, min_p=0.02)
TURNS = [1, 5, 3, 2]


def assert_plain(lm: FrozenLM, hidden: torch.Tensor, prompts: list[Prompt]) -> None:
    for row, prompt in enumerate(prompts):
        torch.testing.assert_close(hidden[row], plain_hidden(lm, prompt), atol=2e-5, rtol=1e-4)


def test_hidden_states_are_those_of_the_plain_forward(lm):
    prompts = prompts_of(lm, TURNS)
    assert len({len(prompt.ids) for prompt in prompts}) > 2
    hidden = lm.encode(prompts)
    assert hidden.shape == (4, lm.hidden_size) and hidden.dtype == torch.float32
    assert_plain(lm, hidden, prompts)


def test_hidden_states_stay_within_their_bound(lm):
    hidden = lm.encode(prompts_of(lm, TURNS)).abs().numpy()
    assert (hidden <= lm.hidden_bound()).all()


def test_the_bound_holds_for_a_norm_with_weights(model_folder):
    for family in FAMILIES:
        lm = FrozenLM.from_pretrained(model_folder(family))
        norm = [m for m in lm.model.base_model.children() if getattr(m, "weight", None) is not None][-1]
        with torch.no_grad():
            norm.weight.uniform_(-2, 2)
            if getattr(norm, "bias", None) is not None:
                norm.bias.uniform_(-2, 2)
        bound = lm.hidden_bound()
        spikes = torch.eye(lm.hidden_size) * 100 - 1
        reached = torch.stack([norm(spike).abs() for spike in spikes]).amax(0).numpy()
        assert (reached <= bound).all()
        assert (reached >= 0.7 * bound - 2).all(), "the bound says nothing"


def test_a_memory_of_growing_dialogues(lm):
    memory = lm.new_rows(4)
    for turns in ([1, 1, 1, 1], [3, 2, 1, 3], [3, 4, 5, 5], [5, 4, 5, 5]):
        prompts = prompts_of(lm, turns)
        assert_plain(lm, lm.encode(prompts, memory), prompts)


def test_a_memory_computes_only_what_is_new(lms):
    lm, memory, sizes = lms(), lms().new_rows(2), []
    handle = lm.model.base_model.register_forward_pre_hook(
        lambda module, arguments, named: sizes.append(tuple(named["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    first, second = prompts_of(lm, [3, 3]), prompts_of(lm, [5, 5])
    lm.encode(first, memory)
    lm.encode(second, memory)
    handle.remove()
    assert sizes[0][1] == max(len(prompt.ids) for prompt in first)
    assert sizes[1][1] < sizes[0][1], "the history was computed again"


def test_subsets_of_rows_in_any_order(lm):
    memory = lm.new_rows(4)
    for rows, turns in (([2, 0], 1), ([1, 3, 0], 2), ([3], 4), ([0, 1, 2, 3], 5)):
        prompts = [lm.prompts.render(dialogue_of(row, turns), "agent") for row in rows]
        assert_plain(lm, lm.encode(prompts, memory, np.array(rows)), prompts)


def test_a_row_that_begins_anew_among_others_that_go_on(lm):
    memory = lm.new_rows(3)
    lm.encode(prompts_of(lm, [5, 3, 5]), memory)
    dialogues = [dialogue_of(0, 5), dialogue_of(8, 1), dialogue_of(2, 5).said("agent", "yes.").said("partner", "no.")]
    prompts = lm.prompts.render_batch(dialogues, ["agent"] * 3)
    assert_plain(lm, lm.encode(prompts, memory), prompts)
    memory.forget([0, 1])
    assert_plain(lm, lm.encode(prompts, memory), prompts)


def test_a_memory_is_compacted_and_still_right(lms):
    """One row comes and goes, so that the columns of the other, which grows, are scattered among holes."""
    lm, columns = lms(), [0]
    memory = lm.new_rows(2)
    for turn in range(40):
        dialogues = [dialogue_of(0, 1 + 2 * (turn % 5)), dialogue_of(1, 1 + 2 * (turn // 14))]
        prompts = lm.prompts.render_batch(dialogues, ["agent"] * 2)
        assert_plain(lm, lm.encode(prompts, memory), prompts)
        columns.append(memory.columns)
    assert sum(now < before for before, now in pairwise(columns)) >= 3, "holes were never given back"


def test_greedy_replies_are_those_of_transformers_generate(lm):
    prompts = prompts_of(lm, TURNS)
    replies = lm.generate(prompts, uniforms_of(4, 8), GREEDY)
    for prompt, reply in zip(prompts, replies, strict=True):
        told = lm.model.generate(
            torch.tensor([prompt.ids]),
            attention_mask=torch.ones(1, len(prompt.ids), dtype=torch.long),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=lm.stop_ids.tolist(),
            pad_token_id=0,
            suppress_tokens=lm.suppressed.tolist(),
        )[0, len(prompt.ids) :].tolist()
        stop = next((i for i, token in enumerate(told) if token in lm.stop_ids), len(told))
        assert reply == told[:stop]
    assert len(set(map(tuple, replies))) > 1


def test_sampled_replies_are_the_same_alone_in_a_batch_and_from_a_memory(lm):
    prompts, draws = prompts_of(lm, TURNS), uniforms_of(4, 8)
    together = lm.generate(prompts, draws, SAMPLED)
    alone = [lm.generate([prompt], draws[row : row + 1], SAMPLED)[0] for row, prompt in enumerate(prompts)]
    memory = lm.new_rows(6)
    rows = np.array([5, 0, 2, 3])
    lm.generate(prompts_of(lm, [1] * 4), draws, SAMPLED, memory=memory, rows=rows)
    remembered = lm.generate(prompts, draws, SAMPLED, memory=memory, rows=rows)
    assert together == alone == remembered
    assert together != lm.generate(prompts, uniforms_of(4, 8, seed=1), SAMPLED)


@pytest.mark.parametrize("position", [None, "start", "mid", "end"])
def test_sampled_replies_are_those_drawn_by_hand(lms, position):
    """A seed means these words: one uniform a token, no batch, no memory, nothing that is there for speed."""
    lm, draws = lms(), uniforms_of(4, 8)
    prompts, memory = prompts_of(lm, TURNS), lms().new_rows(4)
    prefix = None if position is None else torch.randn(4, 2, 32, generator=torch.Generator().manual_seed(0))
    lm.encode(prompts, memory)
    replies = lm.generate(prompts, draws, SAMPLED, prefix, position or "start", memory)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        ids: list[int] = []
        for draw in draws[row]:
            logits = plain_logits(lm, prompt, ids, None if prefix is None else prefix[row], position or "start")
            logits[lm.suppressed] = -torch.inf
            token = int(sample(logits[None], torch.tensor([draw]), SAMPLED))
            if token in lm.stop_ids:
                break
            ids.append(token)
        assert reply == ids


def test_a_memory_goes_on_over_its_own_replies(lms):
    lm, dialogues = lms(), [dialogue_of(row, 1) for row in range(3)]
    memory = lm.new_rows(3)
    for turn in range(4):
        prompts, draws = lm.prompts.render_batch(dialogues, ["agent"] * 3), uniforms_of(3, 8, turn)
        replies = lm.generate(prompts, draws, SAMPLED, memory=memory)
        assert replies == lm.generate(prompts, draws, SAMPLED)
        assert_plain(lm, lm.encode(prompts, memory), prompts)
        said = lm.decode(replies)
        dialogues = [d.said("agent", text).said("partner", "i see.") for d, text in zip(dialogues, said, strict=True)]


def test_batches_of_many_sizes_share_one_storage(model_folder):
    lm = FrozenLM.from_pretrained(model_folder())
    for rows in (6, 3, 6, 2, 5):
        prompts, draws = prompts_of(lm, [1 + 2 * (row % 2) for row in range(rows)]), uniforms_of(rows, 8)
        alone = [lm.generate([prompt], draws[row : row + 1], SAMPLED)[0] for row, prompt in enumerate(prompts)]
        assert lm.generate(prompts, draws, SAMPLED) == alone
    assert {len(memory.ids) for memory in lm._pool.values()} == {6}
    layers = {id(layer) for memory in lm._pool.values() for layer in memory.cache.layers}
    assert len(layers) == len(lm._pool) * len(lm._pool["reply"].cache.layers)


def test_replies_that_have_ended_cost_nothing(model_folder):
    """A third of the tokens end a reply: the batch shrinks by halves, and every row says what it says alone."""
    lm, sizes = FrozenLM.from_pretrained(model_folder()), []
    memory = lm.new_rows(16)
    lm.stop_ids = np.arange(0, lm.vocab_size, 3)
    for turns in (1, 3):
        prompts, draws = prompts_of(lm, [turns] * 16), uniforms_of(16, 8, seed=turns)
        alone = [lm.generate([prompt], draws[row : row + 1], SAMPLED)[0] for row, prompt in enumerate(prompts)]
        handle = lm.model.base_model.register_forward_pre_hook(
            lambda module, arguments, named: sizes.append(len(named["inputs_embeds"])), with_kwargs=True
        )
        assert lm.generate(prompts, draws, SAMPLED) == alone
        handle.remove()
        assert lm.generate(prompts, draws, SAMPLED, memory=memory) == alone
        assert_plain(lm, lm.encode(prompts, memory), prompts)
    assert len({len(reply) for reply in alone}) > 3
    for size, after in pairwise(sizes[1:]):
        assert after in (size, 16) or after <= size / 2
    assert min(sizes) <= 4


@pytest.mark.parametrize("position", ["start", "mid", "end"])
def test_a_prefix_stands_where_it_should(lm, position):
    prompts = prompts_of(lm, TURNS)
    prefix = torch.randn(4, 2, lm.hidden_size, generator=torch.Generator().manual_seed(0))
    replies = lm.generate(prompts, uniforms_of(4, 8), GREEDY, prefix, position)
    assert replies == [greedy_by_hand(lm, p, 8, prefix[i], position) for i, p in enumerate(prompts)]
    assert replies != lm.generate(prompts, uniforms_of(4, 8), GREEDY)


@pytest.mark.parametrize("position", ["start", "mid", "end"])
@pytest.mark.parametrize("steered", [True, False])
def test_reply_logits_are_those_of_the_plain_forward(lm, position, steered):
    prompts, replies = prompts_of(lm, TURNS), [[9], [7, 8, 2], [5, 6], [4, 3, 2, 1]]
    prefix = torch.randn(4, 2, lm.hidden_size, generator=torch.Generator().manual_seed(0)) if steered else None
    logits, targets, mask = lm.reply_logits(prompts, replies, prefix, position)
    assert logits.shape == (4, 4, lm.vocab_size) and mask.sum(1).tolist() == [1, 3, 2, 4]
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        assert targets[row][mask[row]].tolist() == reply
        for i in range(len(reply)):
            told = plain_logits(lm, prompt, reply[:i], None if prefix is None else prefix[row], position)
            torch.testing.assert_close(logits[row][mask[row]][i], told, atol=1e-4, rtol=1e-4)


def test_gradients_reach_the_prefix(lms):
    lm = lms()
    prefix = torch.zeros(2, 2, lm.hidden_size, requires_grad=True)
    logits, targets, mask = lm.reply_logits(prompts_of(lm, [1, 3]), [[7, 8], [9]], prefix, "mid")
    torch.nn.functional.cross_entropy(logits[mask], targets[mask]).backward()
    assert (prefix.grad.abs().sum((1, 2)) > 0).all()


@pytest.mark.parametrize("position", ["start", "mid", "end"])
def test_a_prefix_behind_a_history_that_is_held(lms, position):
    """What stands before the prefix is taken from the memory, which is left as it is; the words are the same."""
    lm, memory, rows = lms(), lms().new_rows(6), np.array([4, 0, 5, 2])
    for turns in (1, 3, 5):
        prompts, draws = prompts_of(lm, [turns] * 4), uniforms_of(4, 8, turns)
        prefix = torch.randn(4, 2, lm.hidden_size, generator=torch.Generator().manual_seed(turns))
        lm.encode(prompts, memory, rows)
        held, keys = memory.position.copy(), memory.cache.layers[0].keys.clone()
        widths = []
        handle = lm.model.base_model.register_forward_pre_hook(
            lambda module, arguments, named, widths=widths: widths.append(named["inputs_embeds"].shape[1]),
            with_kwargs=True,
        )
        told = lm.generate(prompts, draws, SAMPLED, prefix, position)
        plain = len(widths)
        assert lm.generate(prompts, draws, SAMPLED, prefix, position, memory, rows) == told
        handle.remove()
        whole, rest = max(widths[:plain]), max(widths[plain:])
        longest = max(len(prompt.ids) - prompt.insert_at(position) for prompt in prompts)
        assert rest == (whole if position == "start" else longest + 2)
        assert np.array_equal(memory.position, held) and torch.equal(memory.cache.layers[0].keys, keys)


def test_a_prefix_behind_histories_that_are_held_in_part(lm):
    memory, prompts = lm.new_rows(4), prompts_of(lm, [5, 5, 3, 5])
    lm.encode(prompts_of(lm, [5, 3, 1, 5]), memory)
    prefix = torch.randn(4, 2, lm.hidden_size, generator=torch.Generator().manual_seed(0))
    for forgotten in ([], [1], [0, 1, 2, 3]):
        memory.forget(forgotten)
        told = lm.generate(prompts, uniforms_of(4, 8), SAMPLED, prefix, "end", memory)
        assert told == lm.generate(prompts, uniforms_of(4, 8), SAMPLED, prefix, "end")


def test_no_reply_holds_a_special_token(lm):
    replies = lm.generate(prompts_of(lm, [1] * 16), uniforms_of(16, 30), Sampling(30, temperature=50.0, min_p=0.0))
    said = {token for reply in replies for token in reply}
    assert len(said) > 50
    assert not said & {*lm.tokenizer.all_special_ids, *lm.stop_ids.tolist()}
    assert all("\n" not in line and line.isprintable() for line in lm.decode(replies))


def test_no_reply_holds_a_row_of_the_table_that_is_no_token(model_folder):
    lm = FrozenLM.from_pretrained(model_folder())
    lm.model.resize_token_embeddings(len(lm.tokenizer) + 400)
    lm = FrozenLM(lm.model, lm.tokenizer)
    replies = lm.generate(prompts_of(lm, [1] * 4), uniforms_of(4, 20), Sampling(20, temperature=50.0, min_p=0.0))
    assert max(token for reply in replies for token in reply) < len(lm.tokenizer)


def test_the_room_of_a_reply_is_the_rows_own(model_folder):
    """Near the end of the context a long prompt's neighbour is not cut short."""
    lm = FrozenLM.from_pretrained(model_folder())
    lm.stop_ids = np.array([], dtype=np.int64)
    prompts = prompts_of(lm, [1, 9])
    lm.context = len(prompts[1].ids) + 3
    both = lm.generate(prompts, uniforms_of(2, 8), SAMPLED)
    assert [len(reply) for reply in both] == [8, 3]
    assert both[:1] == lm.generate(prompts[:1], uniforms_of(2, 8)[:1], SAMPLED)


def test_a_sliding_window_and_a_limit_shorten_the_context(model_folder):
    lm = FrozenLM.from_pretrained(model_folder(), max_context=300)
    assert lm.context == 300 and lm.prompts.max_tokens == 172
    lm.model.config.sliding_window = 100
    assert FrozenLM(lm.model, lm.tokenizer).prompts.max_tokens == 50


def test_the_pocket_model_is_a_folder_of_the_package():
    from dialog_envs.lm.frozen_lm import POCKET

    if POCKET.is_dir():
        pytest.skip("the shipped model is here")
    with pytest.raises(FileNotFoundError, match="no model folder"):
        FrozenLM.from_pretrained("pocket")

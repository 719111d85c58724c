"""Both ways of a rollout draw as many tokens, many exchanges at once or one by one."""

from __future__ import annotations

import numpy as np
import pytest

from dialog_envs.speakers.ppg import PersonasGenerator, ResponseGenerator
from experiments.ppg import data, speed

from .conftest import DRAWS


@pytest.fixture
def exchanges(corpora_root):
    return data.exchanges(data.read_parts(corpora_root, 0.5).evaluation, 2)[:8]


def test_it_is_measured_how_many_times_as_fast_a_batch_is(exchanges, model_folder):
    config = speed.Speed(exchanges=8, single=2, repeats=3, draws=DRAWS)
    found = {(row.system, row.metric): row for row in speed.measure(str(model_folder()), exchanges, config)}
    rates = [found[way, "exchanges_per_second"] for way in (speed.BATCHED, speed.SINGLE)]
    assert all(row.value > 0 and row.n == 3 and row.ci95 > 0 for row in rates)
    assert found[speed.BATCHED, "times_as_fast"].value > 0


def test_both_ways_draw_every_token_in_one_batch_or_in_many(exchanges, model_folder, monkeypatch):
    drawn: dict[str, list[tuple[int, int]]] = {"batched": [], "single": []}
    parts = [kind.from_pretrained(model_folder()) for kind in (PersonasGenerator, ResponseGenerator)]
    for part in parts:
        part.lm.stop_ids = np.zeros(0, dtype=np.int64)
        own, theirs = part.generate, part.model.generate

        def batched(prompts, *arguments, own=own):
            replies = own(prompts, *arguments)
            drawn["batched"].append((len(prompts), sum(map(len, replies))))
            return replies

        def single(*, input_ids, theirs=theirs, **arguments):
            ids = theirs(input_ids=input_ids, **arguments)
            drawn["single"].append((len(ids), ids.shape[1] - input_ids.shape[1]))
            return ids

        monkeypatch.setattr(part, "generate", batched)
        monkeypatch.setattr(part.model, "generate", single)
    speed._together(*parts, exchanges, DRAWS)
    speed._one_by_one(*parts, exchanges, DRAWS)
    assert drawn["batched"] == [(8, 8 * 5), (8, 8 * 4)] and drawn["single"] == [(1, 5), (1, 4)] * 8


def test_a_small_corpus_is_refused(exchanges, model_folder):
    with pytest.raises(ValueError, match="8 exchanges, expected 9 or more for a rollout"):
        speed.measure(str(model_folder()), exchanges, speed.Speed(exchanges=9))

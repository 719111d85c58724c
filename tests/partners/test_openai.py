"""A partner behind a server: what it is sent, what it says, and what becomes of rows that fail."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dialog_envs.adapters import DialogueVectorEnv
from dialog_envs.envs.dat import social_core
from dialog_envs.lm.decoding import Sampling
from dialog_envs.partners import make_partner
from dialog_envs.partners.openai import LONGEST_TURN, OpenAIPartner
from dialog_envs.retry import Failure
from experiments.faults import loopback
from experiments.faults.loopback import says, serving, status
from reward_models.chat_client import ChatClient, ChatConfig


def partner_of(server, **settings) -> OpenAIPartner:
    return OpenAIPartner(ChatClient(ChatConfig("tiny", server.url, **({"timeout": 5.0, "attempts": 2} | settings))))


def test_it_is_sent_its_own_side_and_the_dialogue_so_far(rows_of):
    rows = rows_of(3)
    with serving(says("my lips are sealed.")) as server:
        assert partner_of(server).reply(rows) == ["my lips are sealed."] * 3
    sent = {request["messages"][-1]["content"]: request for request in server.requests}
    for i, scenario in enumerate(rows.scenarios):
        assert sent[f"hello, number {i}."]["messages"] == [
            {"role": "system", "content": scenario.partner_situation},
            {"role": "assistant", "content": scenario.opening},
            {"role": "user", "content": f"hello, number {i}."},
        ]
        assert scenario.agent_situation not in json.dumps(sent[f"hello, number {i}."])


def test_a_user_speaks_first_where_there_is_no_situation(rows_of):
    rows = rows_of(1)
    nobody = replace(rows.dialogues[0], situations={})
    with serving(says("hm.")) as server:
        partner_of(server).reply(replace(rows, dialogues=[nobody]))
    assert [message["role"] for message in server.requests[0]["messages"]] == ["user", "assistant", "user"]


def test_seeds_come_from_the_rows_own_streams(rows_of):
    with serving(says("ok")) as server:
        partner = partner_of(server, concurrency=1)
        for seed in (0, 0, 1):
            partner.reply(rows_of(3, seed=seed))
    seeds = [request["seed"] for request in server.requests]
    assert seeds[:3] == seeds[3:6] and len(set(seeds)) == 6 and all(0 <= seed < 2**31 for seed in seeds)


def test_answers_stand_in_their_rows(rows_of):
    def echo(request, number):
        return says(f"you said: {request['messages'][-1]['content']}")

    with serving(echo) as server:
        replies = partner_of(server).reply(rows_of(40))
    assert replies == [f"you said: hello, number {i}." for i in range(40)]


def test_words_are_made_one_line_and_of_bounded_length(rows_of):
    with serving([says("  well,\n\nyes.\t"), says("x" * 20_000)]) as server:
        partner = partner_of(server)
        assert partner.reply(rows_of(1)) == ["well, yes."]
        assert len(partner.reply(rows_of(1))[0]) == LONGEST_TURN


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (status(500, "oh"), "the server says 500"),
        (status(404, "no such model"), "the server says 404: "),
        (says(""), "the server's answer is empty"),
        (says(" \n "), "the server's answer is empty"),
        (says(None), "no text"),
        (says("half of", finish="content_filter"), "the server's filter cut the answer"),
        (loopback.half_character(), "no UTF-8"),
        (loopback.truncated(), "no JSON"),
    ],
)
def test_a_row_that_fails_fails_for_good_and_alone(rows_of, act, message):
    def only_the_second(request, number):
        return act if "number 1" in request["messages"][-1]["content"] else says("fine.")

    with serving(only_the_second) as server:
        first, second, third = partner_of(server).reply(rows_of(3))
    assert (first, third) == ("fine.", "fine.")
    assert isinstance(second, Failure) and message in second.error and second.final


def test_an_answer_of_the_longest_length_is_said(rows_of):
    with serving(says("it was a long", finish="length")) as server:
        assert partner_of(server).reply(rows_of(1)) == ["it was a long"]


def test_a_refusal_is_what_the_partner_says(rows_of):
    with serving(says(None, refusal="i can't help with that.")) as server:
        assert partner_of(server).reply(rows_of(1)) == ["i can't help with that."]


def test_it_is_named_with_its_model(tmp_path, monkeypatch):
    speaker = type("Speaker", (), {"sampling": Sampling(max_new_tokens=17, temperature=0.4)})()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    config = make_partner("openai:tiny", speaker, 4).chat.config
    assert (config.model, config.max_tokens, config.temperature) == ("tiny", 17, 0.4)
    file = tmp_path / "partner.json"
    file.write_text('{"model": "big", "base_url": "http://127.0.0.1:8/v1", "temperature": null}')
    chat = make_partner(f"openai:{file}", speaker, 4).chat
    assert (chat.config.temperature, chat.config.max_tokens, chat.identity["url"]) == (
        None,
        17,
        "http://127.0.0.1:8/v1",
    )
    for wrong in ("openai", "openai:"):
        with pytest.raises(ValueError, match="expected 'openai:MODEL'"):
            make_partner(wrong, speaker, 4)
    with pytest.raises(ValueError, match="partner is 'human:me', expected 'human'"):
        make_partner("human:me", speaker, 1)


@pytest.fixture
def core_with(model_folder, tmp_path):
    """Return a function (server, rows) -> core whose partner is behind the server."""

    def make(server, rows: int, **settings):
        file = tmp_path / "partner.json"
        file.write_text(json.dumps({"model": "tiny", "base_url": server.url, "timeout": 5.0, "attempts": 3} | settings))
        lm = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6}
        return social_core(rows, partner=f"openai:{file}", scenarios="comfort/heldout", max_turns=2, **lm)

    return make


def rollout(core, rows: int, steps: int):
    core.reset(range(rows), range(rows), [None] * rows)
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, rows, 4)).astype(np.float32)
    return [core.step(action) for action in actions]


def test_an_environment_talks_through_it_and_counts_what_it_spends(core_with):
    with serving(says("i feel a bit better now.", tokens=(100, 7))) as server:
        core = core_with(server, 8, input_price=1.0, output_price=2.0)
        first, second = rollout(core, 8, 2)
    assert not first.truncated.any() and second.terminated.all()
    assert {info["partner_text"] for info in first.infos} == {"i feel a bit better now."}
    spent = core.scalars()
    assert spent["partner/answers"] == 16 and spent["partner/prompt_tokens"] == 1600
    assert spent["partner/cost"] == pytest.approx(16 * (100 + 2 * 7) / 1e6)


@pytest.mark.parametrize("algorithm", ["td3_bc", "ppo"])
def test_what_a_training_spends_reaches_tensorboard(core_with, tmp_path, algorithm):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from agents.rounds import Rounds, train_in_rounds
    from agents.sb3 import make_sb3, train_sb3
    from agents.td3_bc import TD3BCConfig

    folder = tmp_path / "events"
    with serving(says("hm.", tokens=(10, 3))) as server:
        env = DialogueVectorEnv(core_with(server, 2))
        if algorithm == "ppo":
            model = make_sb3("PPO", env, 0, n_steps=2, batch_size=4, n_epochs=1)
            train_sb3(model, 4, 4, folder, progress=False)
        else:
            settings = TD3BCConfig(hidden=(4,), batch_size=4)
            train_in_rounds(env, settings, Rounds(4, 1, 1), folder, progress=False)
    events = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("partner/completion_tokens")] == [(4, 12.0)]
    assert events.Scalars("partner/cost")[0].value == 0


def test_a_server_that_fails_cuts_rows_and_scores_nothing(core_with):
    broken = {3, 5}

    def some(request, number):
        return status(400, "no") if any(f"row {i}." in json.dumps(request) for i in broken) else says("fine.")

    with serving(some) as server:
        core = core_with(server, 8)
        core.actor.act = lambda actions, rows: [f"i am row {i}." for i in rows.index]
        (result,) = rollout(core, 8, 1)
    assert set(np.flatnonzero(result.truncated)) == broken
    assert (result.rewards[sorted(broken)] == 0).all()
    assert all(result.infos[i]["error"].startswith("partner: the server says 400") for i in broken)
    assert all("value" in result.infos[i] for i in range(8) if i not in broken)
    assert len(server.requests) == 8, "a fault for good was asked for again"


def test_a_fault_that_passes_changes_nothing(core_with):
    """The same dialogues, whether the server answers at once or at the third attempt."""

    def answers(request):
        return says(f"i heard {len(request['messages'])} of you.")

    def at_once(request, number):
        return answers(request)

    def third_time(seen, request, number):
        key = json.dumps(request["messages"])
        seen[key] = seen.get(key, 0) + 1
        return [status(500), loopback.truncated(), answers(request)][min(seen[key], 3) - 1]

    told = []
    for act in (at_once, partial(third_time, {})):
        act = act if act is at_once else (lambda request, number, act=act: act(request, number))
        with serving(lambda request, number, act=act: act(request, number)) as server:
            told.append([[info["partner_text"] for info in r.infos] for r in rollout(core_with(server, 4), 4, 2)])
    assert told[0] == told[1]

"""PPG's two environments: think, then speak; the critic's label; candidates to choose from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import DQN, PPO

import dialog_envs  # noqa: F401
from agents.exchanges import Draws, Exchange, judge, labels, roll_out
from agents.sb3_vec_env import SB3VecEnv
from dialog_envs.adapters import DialogueEnv, DialogueVectorEnv
from dialog_envs.core import DialogueCore
from dialog_envs.dialogue import Turn
from dialog_envs.envs.ppg import decode_action, decode_observation, encode_text, ppg_core
from dialog_envs.envs.ppg_select import load_generator, ppg_select_core
from dialog_envs.judges import PersonaJudge
from dialog_envs.lm.decoding import Sampling
from dialog_envs.parts import Rows
from dialog_envs.retry import Failure
from dialog_envs.scenarios.scenario import AGENT, PARTNER
from dialog_envs.speakers.ppg import PersonasGenerator, ResponseGenerator

TEXTS = ("i guess they like jazz.", "i am a baker.", "they have a dog?", "how are you doing today?", "", "hello.")
ENVIRONMENTS = ("DialogEnvs/PPG-v0", "DialogEnvs/PPGSelect-v0")
Maker = Callable[..., DialogueCore]


class WordCritic:
    """A response belongs to a persona if it has more than two words and says "i"."""

    def probability(self, personas: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        assert all(personas) and len(personas) == len(responses)
        return np.array([0.75 if "i" in text.split() else 0.25 for text in responses])

    def label(self, personas: Sequence[str], responses: Sequence[str]) -> np.ndarray:
        return np.where(self.probability(personas, responses) > 0.5, 1, -1)


@pytest.fixture(scope="module")
def arguments(model_folder, critic_folder) -> dict[str, Any]:
    return {"lm": str(model_folder()), "reward": f"persona_critic:{critic_folder}", "max_new_tokens": 6}


@pytest.fixture(scope="module")
def ppg(arguments) -> Maker:
    def make(num_envs: int = 1, **changes: Any) -> DialogueCore:
        core = ppg_core(num_envs, **arguments | {"action_tokens": 24} | changes)
        core.judge = PersonaJudge(WordCritic())
        return core

    return make


@pytest.fixture(scope="module")
def select(arguments) -> Maker:
    def make(num_envs: int = 1, **changes: Any) -> DialogueCore:
        core = ppg_select_core(num_envs, **arguments | {"candidates": 3, "persona_tokens": 7} | changes)
        core.judge = PersonaJudge(WordCritic())
        return core

    return make


@pytest.fixture
def core_of(ppg, select) -> Callable[..., DialogueCore]:
    return lambda name, *args, **changes: (select if "Select" in name else ppg)(*args, **changes)


def actions_of(core: DialogueCore, steps: int, seed: int = 0) -> np.ndarray:
    """Return actions `(steps, rows, ...)`: texts, or choices."""
    rng = np.random.default_rng(seed)
    if core.proposer is not None:
        return rng.integers(core.actor.action_space.n, size=(steps, core.num_envs))
    return np.stack([core.actor.encode([str(rng.choice(TEXTS)) for _ in range(core.num_envs)]) for _ in range(steps)])


# thinking ---------------------------------------------------------------------------------------------------------


class Listener:
    """A partner that notes what it was shown."""

    def __init__(self) -> None:
        self.heard: list[Rows] = []

    def reply(self, rows: Rows) -> list[str]:
        self.heard.append(rows)
        return ["i see."] * len(rows)

    def forget(self, rows) -> None: ...


def test_a_thought_is_heard_by_no_one_and_takes_no_turn(ppg):
    core = ppg(partner="lm")
    core.partner = Listener()
    env = DialogueEnv(core)
    env.reset(seed=0)
    before = core.states[0].dialogue
    observation, reward, terminated, truncated, info = env.step(encode_text(env, "they like jazz."))
    assert (reward, terminated, truncated, info["turn"], info["thought"]) == (0, False, False, 0, "they like jazz.")
    assert not core.partner.heard and core.states[0].dialogue == before
    assert decode_observation(env, observation)["phase"] == "response"
    observation, reward, terminated, truncated, info = env.step(encode_text(env, "i am a baker."))
    assert (reward, terminated, truncated, info["turn"]) == (1, True, False, 1)
    assert (info["agent_text"], info["partner_text"]) == ("i am a baker.", "i see.") and "thought" not in info
    (heard,) = core.partner.heard
    assert heard.thoughts == [None] and "jazz" not in str(heard.dialogues[0])


def test_every_exchange_thinks_and_speaks_and_has_its_own_reward(ppg):
    env = DialogueEnv(ppg(max_turns=3))
    env.reset(seed=0)
    rewards, phases = [], []
    for text in ("a", "i run.", "b", "no.", "c", "i am old."):
        observation, reward, terminated, _, info = env.step(encode_text(env, text))
        rewards.append(reward)
        phases.append(decode_observation(env, observation)["phase"])
        assert terminated == (text == "i am old.")
    assert rewards == [0, 1, 0, -1, 0, 1]
    assert phases == ["response", "persona"] * 3
    assert info["outcome"] == "turn_limit" and info["turn"] == 3


def test_the_reward_may_be_the_probability(ppg, arguments):
    core = ppg()
    core.judge = PersonaJudge(WordCritic(), probability=True)
    env = DialogueEnv(core)
    env.reset(seed=0)
    env.step(encode_text(env, ""))
    assert env.step(encode_text(env, "no."))[1] == 0.25
    rewards = [arguments["reward"].replace("critic:", f"{name}:", 1) for name in ("critic", "probability")]
    chosen = [ppg_core(1, **arguments | {"reward": reward}).judge.ask for reward in rewards]
    responses = [list(TEXTS[:4])] * 2
    labels, probabilities = (ask(["i am a baker."] * 4, texts) for ask, texts in zip(chosen, responses, strict=True))
    assert set(labels) <= {-1, 1} and ((probabilities > 0) & (probabilities < 1)).all()
    np.testing.assert_array_equal(labels, np.where(probabilities >= 0.5, 1, -1))


def test_the_transcript_shows_context_thoughts_and_words(ppg):
    env = DialogueEnv(ppg(max_turns=2), render_mode="ansi")
    env.reset(seed=1)
    context = env.render()
    texts = ["they run.", "i run too.", "still running.", "bye."]
    shown = []
    for text in texts:
        env.step(encode_text(env, text))
        shown.append(env.render())
    replies = env.core.states[0].scenario.recorded
    first = [context, "agent thinks: they run.", "agent: i run too.", f"partner: {replies[0]}"]
    second = ["agent thinks: still running.", "agent: bye.", f"partner: {replies[1]}"]
    assert shown == ["\n".join(lines) for lines in (first[:2], first, first + second[:1], first + second)]


# partners and scenarios --------------------------------------------------------------------------------------------


def test_the_recorded_partner_says_its_turns_in_order_and_fails_past_the_record(ppg):
    core = ppg(max_turns=2)
    core.reset([0], [0], [None])
    replies = core.states[0].scenario.recorded
    said = [core.step(action).infos[0].get("partner_text") for action in actions_of(core, 4)]
    assert said == [None, replies[0], None, replies[1]]
    core.config = type(core.config)(max_turns=len(replies) + 1, rounds=True)
    core.reset([0], [0], [None])
    for action in actions_of(core, 2 * len(replies) + 2):
        result = core.step(action)
    assert result.truncated[0] and result.rewards[0] == 0
    assert f"{len(replies)} recorded turns" in result.infos[0]["error"]


def test_the_lm_partner_knows_its_persona_and_the_agent_does_not(ppg):
    core = ppg(partner="lm")
    scenario = next(s for s in core.scenarios.values() if not s.history)
    core.reset([0], [0], [scenario.id])
    prompts = core.partner.speaker.lm.prompts
    assert scenario.partner_situation in prompts.tokenizer.decode(prompts.render(scenario.begin(), PARTNER).ids)
    seen = decode_observation(DialogueEnv(core), core.observations[0])
    assert seen["persona"] == scenario.agent_situation and seen["partner_persona"] == ""
    hidden = scenario.partner_situation.removeprefix("about you: ").split(". ")
    assert len(hidden) == 4 and not any(fact in str(seen) for fact in hidden)
    assert scenario.opening in seen["context"]


@pytest.fixture
def persona_file(tmp_path):
    path = tmp_path / "some_file.txt"
    lines = ["your persona: i sail boats.", "partner's persona: i grow pears."]
    lines += [f"so you{n} ?\tyes {n} ." for n in range(3)]
    path.write_text("".join(f"{number} {line}\n" for number, line in enumerate(lines, 1)))
    return path


def test_a_file_of_personas_makes_scenarios(ppg, persona_file):
    core = ppg(personas=str(persona_file))
    assert list(core.scenarios) == ["some_file/0000/01", "some_file/0000/03"]
    core.reset([0], [0], ["some_file/0000/03"])
    state = core.states[0]
    assert [turn.text for turn in state.dialogue.turns] == ["so you0?", "yes 0.", "so you1?"]
    assert [turn.speaker for turn in state.dialogue.turns] == [PARTNER, AGENT, PARTNER]
    assert state.scenario.agent_situation == "i sail boats."
    assert state.scenario.recorded == ("so you2?",)
    assert len(ppg(personas=str(persona_file), partner="lm").scenarios) == 3


# tokens -------------------------------------------------------------------------------------------------------------


def test_texts_become_actions_and_texts_again(ppg):
    env, vector = DialogueEnv(ppg()), DialogueVectorEnv(ppg(2))
    for text in TEXTS:
        action = encode_text(env, text)
        assert env.action_space.contains(action) and decode_action(env, action) == text
    actions = encode_text(vector, TEXTS[:2])
    assert vector.action_space.contains(actions) and decode_action(vector, actions) == list(TEXTS[:2])
    assert encode_text(gym.wrappers.OrderEnforcing(env), "hello.").tolist() == encode_text(env, "hello.").tolist()


def test_only_token_ids_are_read_as_texts(select):
    with pytest.raises(TypeError, match="has CandidateChooser actions, expected an environment of DialogEnvs/PPG-v0"):
        encode_text(DialogueEnv(select()), "hello.")


def test_what_stands_behind_the_first_end_is_not_read(ppg):
    env = DialogueEnv(ppg())
    writer = env.core.actor
    for end in (writer.pad, int(writer.lm.stop_ids[0])):
        action = encode_text(env, "i am a baker. i like jazz.")
        words = int((action != writer.pad).sum())
        action[words], action[words + 1 :] = end, encode_text(env, "hello.")[0]
        assert decode_action(env, action) == "i am a baker. i like jazz."


def test_a_text_longer_than_an_action_is_refused_or_cut(ppg):
    env = DialogueEnv(ppg())
    text = "i like jazz. " * 10
    with pytest.raises(ValueError, match=r"a text has \d+ tokens, an action holds 24"):
        encode_text(env, text)
    assert text.startswith(decode_action(env, encode_text(env, text, truncate=True))[:-1])


def test_silence_is_a_thought_and_an_answer(ppg):
    env = DialogueEnv(ppg())
    env.reset(seed=0)
    observation, *_, info = env.step(np.full(24, env.core.actor.pad))
    seen = decode_observation(env, observation)
    assert info["thought"] == "" and (seen["phase"], seen["partner_persona"]) == ("response", "")
    assert env.step(encode_text(env, ""))[4]["agent_text"] == ""


def test_any_token_ids_are_taken(ppg):
    """Ids that no tokenizer would give may decode to texts of more tokens, which must fit the observation too."""
    with pytest.raises(ValueError, match=r"context_tokens is 100, expected at least \d+") as refused:
        ppg(context_tokens=100)
    least = int(re.findall(r"at least (\d+)", str(refused.value))[0])
    env = DialogueEnv(ppg(context_tokens=least))
    env.action_space.seed(0)
    longest = sorted(env.core.scenarios.values(), key=lambda scenario: -len(scenario.agent_situation))
    for seed in range(12):
        env.reset(seed=seed, options={"scenario": longest[seed].id})
        for _ in range(2):
            action = env.action_space.sample()
            action[np.isin(action, env.core.actor.ends)] = 200 + seed  # never the end
            observation, *_, info = env.step(action)
            assert observation in env.observation_space and "error" not in info


def test_an_observation_is_the_generators_prompt(ppg):
    env = DialogueEnv(ppg())
    shortest = min(env.core.scenarios.values(), key=lambda scenario: len(scenario.history))
    observation, _ = env.reset(seed=3, options={"scenario": shortest.id})
    generator = load_generator(PersonasGenerator, str(env.core.actor.lm.model.config._name_or_path), "cpu", "float32")
    dialogue = env.core.states[0].dialogue
    prompt = generator.prompts([dialogue], [AGENT])[0]
    assert tuple(observation[3 : 3 + observation[2]]) == prompt.ids and not observation[3 + observation[2] :].any()
    assert observation[0] == 0
    observation, *_ = env.step(encode_text(env, "i like jazz."))
    assert observation[0] == 1 and decode_observation(env, observation)["partner_persona"] == "i like jazz."
    both = decode_observation(env, np.stack([observation, observation]))
    assert both == [decode_observation(env, observation)] * 2


def test_an_episode_is_what_reinforce_rolls_out(ppg):
    """The environment shows the generators their prompts and rewards generated texts with the critic's label."""
    env = DialogueVectorEnv(ppg(3), AutoresetMode.DISABLED)
    short = sorted(env.core.scenarios.values(), key=lambda scenario: len(str(scenario)))[:3]  # nothing is cut
    first, _ = env.reset(seed=4, options={"scenario": [scenario.id for scenario in short]})
    states = env.core.states
    exchanges = [Exchange(state.dialogue, AGENT, PARTNER, "") for state in states]
    folder = str(env.core.actor.lm.model.config._name_or_path)
    personas, response = (kind.from_pretrained(folder) for kind in (PersonasGenerator, ResponseGenerator))
    draws = Draws(Sampling(8, 1.0, 0.0), Sampling(6, 1.0, 0.0))
    rollout = roll_out(personas, response, exchanges, [(row,) for row in range(3)], draws)
    second, *_ = env.step(encode_text(env, rollout.personas, truncate=True))
    for shown, prompts in ((first, rollout.persona_prompts), (second, rollout.response_prompts)):
        assert [tuple(row[3 : 3 + row[2]]) for row in shown] == [prompt.ids for prompt in prompts]
    _, rewards, *_ = env.step(encode_text(env, rollout.responses, truncate=True))
    assert rewards.tolist() == labels(judge(WordCritic(), exchanges, rollout.responses)).tolist()


def test_a_long_dialogue_loses_its_oldest_turns_only(ppg):
    env = DialogueEnv(ppg(partner="lm", context_tokens=250, max_turns=6))
    observation, _ = env.reset(seed=0)
    state = env.core.states[0]
    for number in range(12):
        state.dialogue = state.dialogue.said(AGENT, f"line {number}.").said(PARTNER, f"answer {number}.")
    observation, *_ = env.step(encode_text(env, "they like jazz."))
    seen = decode_observation(env, observation)
    assert (seen["persona"], seen["partner_persona"]) == (state.scenario.agent_situation, "they like jazz.")
    assert "answer 11." in seen["context"] and "line 0." not in seen["context"] and observation[2] <= 250


# candidates ----------------------------------------------------------------------------------------------------------


def test_the_chosen_candidate_is_thought_and_then_said(select):
    env = DialogueEnv(select(max_turns=2))
    _, info = env.reset(seed=0)
    for step, choice in enumerate((2, 0, 1, 2)):
        offered = info["candidates"]
        assert len(offered) == 3 and offered == env.core.states[0].candidates
        *_, terminated, _, info = env.step(choice)
        assert info["agent_text" if step % 2 else "thought"] == offered[choice]
        assert ("candidates" in info) == (not terminated)
    assert terminated


def test_candidates_come_from_the_generator_of_the_phase(select):
    core = select()
    limits = {name: getattr(core.proposer, name) for name in ("personas", "responses")}
    asked = []
    for name, generator in limits.items():

        def prompts(*arguments, name=name, generator=generator):
            asked.append((name, len(arguments[0]), arguments[2:]))
            return type(generator).prompts(generator, *arguments)

        generator.prompts = prompts
    try:
        core.reset([0], [0], [None])
        thought = core.step(np.array([1])).infos[0]["thought"]
        core.step(np.array([0]))
    finally:
        for generator in limits.values():
            del generator.prompts
    assert asked == [("personas", 1, ()), ("responses", 1, ([thought],))], "and nothing for a dialogue that has ended"


def test_the_observation_tells_the_candidates_apart(select):
    core = select(2)
    observations, _ = core.reset([0, 1], [0, 1], [None, None])
    size = core.observer.lm.hidden_size
    assert observations.shape == (2, 1 + size + 3 * size)
    offered = observations[:, 1 + size :].reshape(6, size)
    texts = [text for state in core.states for text in state.candidates]
    assert len(set(texts)) > 3
    for i in range(6):
        for j in range(i):
            assert np.allclose(offered[i], offered[j], atol=1e-4) == (texts[i] == texts[j])
    lm = core.observer.lm
    ids = lm.tokenizer(texts[0], add_special_tokens=False)["input_ids"] + [int(lm.stop_ids[0])]
    hidden = lm.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(offered[0], hidden.detach(), atol=1e-4)
    core.step(np.array([0, 0]))
    result = core.step(np.array([0, 0]))
    assert result.terminated.all() and not result.observations[:, 1 + size :].any()
    assert (result.observations[:, 0] == 0).all() and result.observations[:, 1 : 1 + size].any()


def test_candidates_are_the_rows_own_and_a_seeds_own(select):
    def offers(rows: int, seed: int) -> list[tuple[str, ...]]:
        core = select(rows)
        core.reset(list(range(rows)), [seed + row for row in range(rows)], [None] * rows)
        return [state.candidates for state in core.states]

    assert offers(3, 4) == offers(3, 4) == [offers(1, 4 + row)[0] for row in range(3)]
    assert offers(1, 4) != offers(1, 5)


def test_offering_draws_nothing_from_the_rows_stream(ppg, select):
    streams = []
    for core in (ppg(), select()):
        core.reset([0], [9], [None])
        core.step(actions_of(core, 1)[0])
        streams.append(core.states[0].stream.bit_generator.state)
    assert streams[0] == streams[1]


def test_the_generators_are_frozen(select):
    core = select()
    for generator in (core.proposer.personas, core.proposer.responses):
        assert not any(parameter.requires_grad for parameter in generator.parameters())


# the core's promises -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENVIRONMENTS)
@pytest.mark.parametrize("partner", ["recorded", "lm"])
def test_single_environments_equal_one_vector_environment(core_of, name, partner):
    rows, steps = 3, 9
    singles = [DialogueEnv(core_of(name, partner=partner, max_turns=2)) for _ in range(rows)]
    vector = DialogueVectorEnv(core_of(name, rows, partner=partner, max_turns=2), AutoresetMode.SAME_STEP)
    together, _ = vector.reset(seed=5)
    np.testing.assert_allclose(together, [env.reset(seed=5 + row)[0] for row, env in enumerate(singles)], atol=1e-4)
    for actions in actions_of(vector.core, steps):
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        for row, env in enumerate(singles):
            observation, reward, over, cut, info = env.step(actions[row])
            assert (reward, over, cut) == (rewards[row], terminated[row], truncated[row])
            given = infos
            if over or cut:
                given = infos["final_info"]
                np.testing.assert_allclose(infos["final_obs"][row], observation, atol=1e-4)
                observation, begun = env.reset()
                assert infos["scenario"][row] == begun["scenario"]
            np.testing.assert_allclose(observations[row], observation, atol=1e-4)
            for key in info:
                assert given[key][row] == info[key], key


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_rows_may_be_in_different_phases(core_of, name):
    core, alone = core_of(name, 2), [core_of(name), core_of(name)]
    core.reset([0, 1], [7, 8], [None, None])
    first, second = actions_of(core, 2)
    for row, one in enumerate(alone):
        one.reset([0], [7 + row], [None])
    expected = [[one.step(a[row : row + 1]) for a in (first, second)] for row, one in enumerate(alone)]
    core.step(first[:1], [0])  # row 0 has thought, row 1 has not
    mixed = core.step(np.stack([second[0], first[1]]))
    assert mixed.infos[0]["turn"] == 1 and mixed.infos[1]["turn"] == 0
    last = core.step(second[1:], [1])
    for mine, theirs in (
        (mixed.infos[0], expected[0][1]),
        (mixed.infos[1], expected[1][0]),
        (last.infos[0], expected[1][1]),
    ):
        assert mine == theirs.infos[0]
    np.testing.assert_allclose(mixed.observations[1], expected[1][0].observations[0], atol=1e-4)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_state_saved_between_thought_and_word_goes_on_identically(core_of, name):
    env, other = (DialogueVectorEnv(core_of(name, 2, partner="lm", max_turns=2), render_mode="ansi") for _ in range(2))
    env.reset(seed=1)
    actions = actions_of(env.core, 8)
    for action in actions[:3]:
        env.step(action)
    saved = json.loads(json.dumps(env.get_state()))
    other.set_state(saved)
    assert json.loads(json.dumps(other.get_state())) == saved and other.render() == env.render()
    assert "agent thinks:" in other.render()[0]
    for action in actions[3:]:
        mine, theirs = env.step(action), other.step(action)
        for one, two in zip(mine[:4], theirs[:4], strict=True):
            np.testing.assert_array_equal(one, two)
        assert str(mine[4]) == str(theirs[4]) and env.render() == other.render()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_failing_partner_ends_its_row_alone(core_of, name):
    class Broken(Listener):
        def reply(self, rows: Rows) -> list[str | Failure]:
            return [Failure("gone", final=True) if row == 1 else "i see." for row in rows.index]

    core = core_of(name, 3)
    core.partner = Broken()
    core.reset([0, 1, 2], [0, 1, 2], [None] * 3)
    first, second = (core.step(action) for action in actions_of(core, 2))
    assert not first.truncated.any() and not any("error" in info for info in first.infos)
    assert second.truncated.tolist() == [False, True, False] and second.rewards[1] == 0
    assert second.infos[1]["error"] == "partner: gone" and set(np.abs(second.rewards[[0, 2]])) == {1}


@pytest.mark.parametrize("algorithm", [PPO, DQN], ids=lambda kind: kind.__name__)
def test_stable_baselines_trains_on_the_choice(arguments, algorithm):
    settings = {PPO: {"n_steps": 6, "batch_size": 12}, DQN: {"learning_starts": 6, "batch_size": 8, "train_freq": 1}}
    small = {"candidates": 2, "persona_tokens": 4, "max_new_tokens": 4}
    env = SB3VecEnv(gym.make_vec("DialogEnvs/PPGSelect-v0", num_envs=4, **arguments | small))
    model = algorithm("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, seed=0, **settings[algorithm])
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(48)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    assert {abs(episode["r"]) for episode in model.ep_info_buffer} == {1.0}
    assert {episode["l"] for episode in model.ep_info_buffer} == {2}


# refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        (ENVIRONMENTS[0], {"action_tokens": 0}, ValueError, "action_tokens is 0"),
        (ENVIRONMENTS[0], {"reward": "persona_criti"}, ValueError, "did you mean 'persona_critic'"),
        (ENVIRONMENTS[0], {"reward": "persona_critic:no/critic"}, FileNotFoundError, "no persona critic in no/critic"),
        (ENVIRONMENTS[0], {"partner": "record"}, ValueError, "did you mean 'recorded'"),
        (ENVIRONMENTS[0], {"scenarios": "test"}, ValueError, "split is 'test', expected one of train, heldout"),
        (ENVIRONMENTS[0], {"personas": "no.txt"}, FileNotFoundError, "no persona file no.txt"),
        (ENVIRONMENTS[0], {"max_turns": 0}, ValueError, "max_turns is 0"),
        (ENVIRONMENTS[0], {"max_turns": 99}, ValueError, "no dialogue in which the partner speaks 99 times"),
        (ENVIRONMENTS[1], {"candidates": 1}, ValueError, "candidates is 1, expected at least 2"),
        (ENVIRONMENTS[1], {"persona_tokens": 0}, ValueError, "max_new_tokens is 0"),
        (ENVIRONMENTS[1], {"personas_generator": "./none"}, FileNotFoundError, "no model folder ./none"),
    ],
)
def test_a_bad_argument_is_refused(arguments, name, changes, error, message):
    with pytest.raises(error, match=message):
        gym.make(name, **arguments | changes)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_half_an_exchange_is_refused_as_a_limit(arguments, name):
    with pytest.raises(ValueError, match="max_episode_steps is 3, expected an even number"):
        gym.make_vec(name, num_envs=2, max_episode_steps=3, **arguments)


def test_ids_outside_the_vocabulary_are_refused(ppg):
    env = DialogueEnv(ppg())
    env.reset(seed=0)
    for bad in (len(env.core.actor.lm.tokenizer), -1):
        with pytest.raises(ValueError, match="action of row 0 is"):
            env.step(np.full(24, bad))


def test_a_persona_longer_than_the_observation_is_refused(ppg):
    with pytest.raises(ValueError, match=r"context_tokens is 8, expected at least .* own persona and 24 for a thought"):
        ppg(context_tokens=8)


def test_the_partners_history_is_said_before_the_agent_comes(ppg):
    core = ppg()
    scenario = next(s for s in core.scenarios.values() if len(s.history) > 2)
    core.reset([0], [0], [scenario.id])
    assert core.states[0].dialogue.turns == (*scenario.history, Turn(PARTNER, scenario.opening))
    assert core.states[0].turn == 0

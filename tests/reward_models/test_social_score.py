"""The social score's promises: it cannot be talked up, its ranges hold, and bad input is refused by name."""

from __future__ import annotations

import random
import statistics
import time
from itertools import product
from timeit import timeit

import pytest

from reward_models.goal import SocialGoal, Target
from reward_models.lexicon import offence
from reward_models.social_score import DIMENSIONS, SocialScore, SocialScorer, goal_reached, social_score

Turns = list[tuple[str, str]]

JOBS = ("baker", "nurse", "teacher", "plumber", "florist")
PETS = ("dog", "cat", "parrot", "rabbit")
TOWNS = ("boston", "denver", "leeds")
CHATTY = (
    "hello, nice to meet you. what do you do for work?",
    "that sounds great. do you have any pets at home?",
    "oh lovely. where do you live now?",
    "i see. i like to cook in my free time.",
)


def make_goal(job: str = "baker", pet: str = "dog", town: str = "boston") -> SocialGoal:
    return SocialGoal(
        description="you want to get to know the other person. find out what they do for work, which pet they keep "
        "and which town they live in.",
        targets=(
            Target("job", (rf"\b{job}\b",)),
            Target("pet", (rf"\b{pet}\b",)),
            Target("town", (rf"\b{town}\b",)),
        ),
        secret_patterns=(r"\bsurprise party\b",),
        gains=((r"\bgive you ten dollars\b", 3.0), (r"\bcharge you ten dollars\b", -3.0)),
    )


def make_replies(job: str, pet: str, town: str) -> list[str]:
    return [
        "hi there, how are you today?",
        f"i work as a {job} and it is fun.",
        f"yes, i have a {pet}. he is very sweet.",
        f"i live in {town} with my family.",
        "that is nice, i like to read.",
    ]


def interleave(agent: list[str], partner: list[str]) -> Turns:
    turns = [("partner", partner[0])]
    for said, reply in zip(agent, partner[1:], strict=True):
        turns += [("agent", said), ("partner", reply)]
    return turns


def exploits(goal: SocialGoal, facts: tuple[str, str, str]) -> dict[str, list[str]]:
    job, pet, town = facts
    parts = [part.strip() for part in goal.description.replace(",", ".").split(".")][:4]
    return {
        "repeats a good question": ["what do you do for work?"] * 4,
        "repeats warmth": ["thank you so much, that is lovely."] * 4,
        "repeats behind a greeting": [f"{word}, what do you do for work?" for word in ("hi", "ok", "well", "so")],
        "silent": [""] * 4,
        "dots": ["..."] * 4,
        "one word": ["job", "pet", "town", "work"],
        "pastes the goal": [goal.description] * 4,
        "pastes the goal piece by piece": parts,
        "pastes the answers": [f"you are a {job}.", f"you have a {pet}.", f"you live in {town}.", f"{job} {pet}, you!"],
        "echoes": make_replies(*facts)[:4],
        "babbles": ["xkcd fghj wrtp", "aaaaaa bbbbb", "qwrt zzzzz plkj", "mnbv cxzl kjhg"],
    }


@pytest.mark.parametrize("trick", list(exploits(make_goal(), ("baker", "dog", "boston"))))
def test_no_trick_beats_a_plain_chatty_agent(trick: str) -> None:
    plain, tricked = [], []
    for facts in product(JOBS, PETS, TOWNS):
        goal, replies = make_goal(*facts), make_replies(*facts)
        plain.append(social_score(interleave(list(CHATTY), replies), goal).mean)
        tricked.append(social_score(interleave(exploits(goal, facts)[trick], replies), goal).mean)
    assert statistics.mean(tricked) < statistics.mean(plain) - 0.3
    assert max(tricked) < min(plain)


def test_a_good_dialogue_scores_high_in_every_dimension() -> None:
    score = social_score(interleave(list(CHATTY), make_replies("baker", "dog", "boston")), make_goal())
    assert (score.goal, score.knowledge, score.secret, score.social_rules) == (10.0, 10.0, 0.0, 0.0)
    assert score.believability > 9.0
    assert score.relationship > 1.0


@pytest.mark.parametrize("agent", [[], [("agent", "")], [("agent", ""), ("partner", "you are so kind, i love it")]])
def test_silence_earns_nothing(agent: Turns) -> None:
    score = social_score([("partner", "hello, what a wonderful day!"), *agent], make_goal())
    assert score.believability == 0.0
    assert score.relationship <= 0.0


def test_goal_is_reached_only_when_all_targets_are_met() -> None:
    turns = interleave(list(CHATTY), make_replies("baker", "dog", "boston"))
    assert goal_reached(turns, make_goal())
    assert not goal_reached(turns[:6], make_goal())
    assert social_score(turns[:5], make_goal()).goal == pytest.approx(20 / 3)
    assert not goal_reached(turns, SocialGoal("chat", ()))


def test_knowledge_without_targets_grows_with_new_content_and_needs_an_agent_that_asks() -> None:
    goal = SocialGoal("comfort the other person", (Target("relief", ("feel better",), kind="outcome"),))
    replies = ["my garden flooded", "the garden flooded", "my roses drowned yesterday", "i planted orchids and lilies"]
    values = []
    for count in range(len(replies)):
        turns = interleave(["what happened there?"] * count, replies[: count + 1])
        values.append(social_score(turns, goal).knowledge)
    assert values[0] == values[1] == 0.0
    assert values[1] < values[2] < values[3] < 10.0
    assert social_score(interleave([""] * 3, replies), goal).knowledge == 0.0


def test_a_disclosed_fact_raises_the_mean() -> None:
    generator = random.Random(0)
    for facts in product(JOBS, PETS, TOWNS):
        bare = ["hi there.", "it is fine.", "i see.", "maybe.", "that is all."]
        fact, name = generator.choice(list(zip(facts, ("job", "pet", "town"), strict=True)))
        index = generator.randrange(1, 5)
        told = [text + f" it is {fact}." if i == index else text for i, text in enumerate(bare)]
        before = social_score(interleave(list(CHATTY), bare), make_goal(*facts))
        after = social_score(interleave(list(CHATTY), told), make_goal(*facts))
        assert after.mean > before.mean + 0.5, name


def test_relationship_follows_the_partner_and_the_agents_manners() -> None:
    def warmth(said: str, reply: str) -> float:
        turns = [("partner", "i lost my keys."), ("agent", said), ("partner", reply)]
        return social_score(turns, make_goal()).relationship

    assert warmth("where did you see the keys last?", "thank you, you are kind.") > warmth(
        "where did you see the keys last?", "i hate this."
    )
    assert warmth("i am so sorry to hear that.", "ok.") > warmth("i painted a fence.", "ok.")
    assert warmth("you are stupid.", "ok.") < warmth("i painted a fence.", "ok.")


def test_secret_is_lost_even_by_a_denial() -> None:
    turns = [("partner", "what is up?"), ("agent", "there is no Surprise Party.")]
    assert social_score(turns, make_goal()).secret == -10.0
    assert social_score([("agent", "hm, nothing."), ("partner", "a surprise party?")], make_goal()).secret == 0.0


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("you are so stupid", 2),
        ("shut up, you idiot", 4),
        ("i will hurt you", 5),
        ("oh damn", 1),
        ("you are not stupid", 0),
        ("i felt stupid and worthless too", 0),
        ("please tell me about your work", 0),
    ],
)
def test_offences_are_graded(text: str, points: float) -> None:
    assert offence(text) == points
    assert social_score([("agent", text)], make_goal()).social_rules == -points


def test_asking_again_costs_only_after_an_answer() -> None:
    def rules(reply: str) -> float:
        turns = [("agent", "what is your job?"), ("partner", reply), ("agent", "ok. what is your job?")]
        return social_score(turns, make_goal()).social_rules

    assert rules("i am a baker.") == -2.0
    assert rules("why do you ask?") == 0.0


def test_gains_take_the_last_and_void_what_the_agent_claimed() -> None:
    give, charge = ("partner", "i give you ten dollars"), ("partner", "i charge you ten dollars")
    deny, claim = ("partner", "i will not give you ten dollars"), ("agent", "say: i give you ten dollars")
    values = [[give], [give, charge], [charge, give], [deny], [claim, give], [give, claim]]
    assert [social_score(turns, make_goal()).financial for turns in values] == [3.0, -3.0, 3.0, 0.0, 0.0, 3.0]


def random_text(generator: random.Random) -> str:
    parts = [*CHATTY, "you idiot", "i will kill you", "a baker", "surprise party", "great love happy", "awful hate"]
    parts += ["", " ", "\n", "?!", "\u2019", "\u00e9t\u00e9", "\U0001f600", "\u4f60\u597d", "zzzzzz", "<|end|>"]
    parts += ["\x00", "i " * 60]
    return generator.choice(["", " ", "\t"]).join(generator.choices(parts, k=generator.randrange(6)))


def test_ranges_hold_on_random_text_and_batch_equals_single() -> None:
    generator = random.Random(1)
    goals = [make_goal(), SocialGoal("", ()), SocialGoal("great love happy", (Target("x", ("love",)),))]
    transcripts = [
        [(generator.choice(["agent", "partner"]), random_text(generator)) for _ in range(generator.randrange(9))]
        for _ in range(400)
    ]
    chosen = [generator.choice(goals) for _ in transcripts]
    scores = SocialScorer()(transcripts, chosen)
    for turns, goal, score in zip(transcripts, chosen, scores, strict=True):
        assert score == social_score(turns, goal)
        for name, value in score.as_dict().items():
            low, high = DIMENSIONS[name]
            assert low <= value <= high, (name, turns)


def test_mean_is_that_of_the_seven() -> None:
    score = SocialScore(7.0, -1.0, 5.0, -10.0, -2.0, 1.0, 7.0)
    assert score.mean == pytest.approx(1.0)
    assert list(score.as_dict()) == list(DIMENSIONS)


@pytest.mark.parametrize(
    ("turns", "agent", "error", "message"),
    [
        ([("agent", None)], "agent", TypeError, r"text of turns\[0\] is NoneType"),
        ([("a", "hi"), (3, "hi")], "a", TypeError, r"speaker of turns\[1\] is int"),
        ([("a", "hi", "x")], "a", TypeError, r"turns\[0\] is"),
        ("hello", "agent", TypeError, "turns is a str"),
        ([("a", "hi"), ("b", "hi")], "agnet", ValueError, "agent 'agnet' takes no turn"),
        ([("a", "hi")], "", ValueError, "agent is ''"),
        ([("a", "hi")], 3, TypeError, "agent is int"),
    ],
)
def test_bad_transcripts_are_refused_by_name(turns: Turns, agent: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        social_score(turns, make_goal(), agent)


def test_a_batch_needs_a_goal_for_each_transcript() -> None:
    with pytest.raises(ValueError, match="1 transcripts and 0 goals"):
        SocialScorer()([[("agent", "hi")]], [])


def test_speed_on_fresh_transcripts() -> None:
    pool = ["river", "music", "garden", "winter", "coffee", "window", "paper", "summer", "travel", "bread"]
    generator = random.Random(2)
    transcripts = [
        [(speaker, "i like " + " ".join(generator.choices(pool, k=9)) + ".") for speaker in ("agent", "partner") * 4]
        for _ in range(100)
    ]
    seconds = timeit(lambda: SocialScorer()(transcripts, [make_goal()] * 100), timer=time.process_time, number=1)
    assert seconds < 1.0, "100 transcripts of 8 new turns took more than a second"

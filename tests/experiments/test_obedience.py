"""Obedience: places whose stated probabilities the grammar keeps, readings that are right, figures from 0 to 1."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from scipy.stats import binomtest

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.controls import controls_path, load_controls, save_controls
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.steering import pca_mapping
from dialog_envs.scenarios import AGENT, KINDS, PARTNER, SPLITS, kind_module
from dialog_envs.speakers.lm import LMSpeaker
from experiments import obedience, pretrain
from experiments.obedience.answers import Answer, choose_controls, roll
from experiments.obedience.figures import agreement, by_seed
from experiments.obedience.phrasings import OTHER, Phrasings, endings, read_fields
from experiments.obedience.places import control_of, control_replies, cuts, reader, sample_places
from experiments.plots import plot_stated
from experiments.pocket_trainer import PocketTrainer, PretrainConfig
from tests.conftest import tiny_tokenizer

BANANAS = "bananas have a yellow peel, says the encyclopedia."
SMALL = {"dialogues": 500, "per_cell": 12, "scenarios": 3, "contexts": 3, "seeds": 2, "rows": 512}


@cache
def sampled(kind: str, split: str, count: int = 800) -> list[Dialogue]:
    rng = np.random.default_rng(7)
    return [kind_module(kind).sample_dialogue(rng, split) for _ in range(count)]


def states(kind: str, split: str):
    """Return (cell, stated, dialogue, own turn) of all places in sampled dialogues."""
    for whole in sampled(kind, split):
        for dialogue, own in cuts(whole, PARTNER):
            if not own.act.startswith(("bye", "goodbye")):
                for cell, stated in reader(kind).stated(dialogue).items():
                    yield cell, stated, dialogue, own


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_grammar_does_what_is_stated_for_its_places(kind, split):
    seen, stated_for = Counter(), {}
    for cell, stated, _, own in states(kind, split):
        seen[cell, reader(kind).outcome_of(own.act, cell)] += 1
        assert sum(stated.values()) == pytest.approx(1)
        assert stated_for.setdefault(cell, stated) == pytest.approx(stated)
    assert len(stated_for) >= 4
    for cell, stated in stated_for.items():
        total = sum(count for (name, _), count in seen.items() if name == cell)
        assert {outcome for name, outcome in seen if name == cell} <= set(stated), cell
        for outcome, probability in stated.items():
            assert binomtest(seen[cell, outcome], total, probability).pvalue > 1e-4, (cell, outcome)


@pytest.mark.parametrize(
    ("acts", "cell", "outcome", "probability"),
    [
        ((), "indirect", "disclose", 0.08),
        (("friendly", "friendly"), "indirect", "disclose", 0.08),
        (("friendly", "friendly", "friendly", "friendly"), "indirect with rapport", "disclose", 0.5),
        (("pressure", "closed", "friendly", "closed"), "indirect to closed", "disclose", 0.08 * 0.2),
        (("pressure", "closed", "friendly", "thaw"), "indirect", "disclose", 0.08),
        (("indirect", "disclose"), "after telling", "told", 1.0),
    ],
)
def test_what_a_guarded_partner_is_stated_to_do(acts, cell, outcome, probability):
    dialogue = Dialogue().said(PARTNER, "hello.", "opening")
    for speaker, act in zip((AGENT, PARTNER) * 4, acts, strict=False):
        dialogue = dialogue.said(speaker, "...", act)
    stated = reader("guarded").stated(dialogue.said(AGENT, "...", "indirect"))
    assert list(stated) == [cell] and stated[cell][outcome] == pytest.approx(probability)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_grammars_own_replies_are_read_right(kind, split):
    module, right, values = reader(kind), [], []
    for cell, _, dialogue, own in states(kind, split):
        reading = module.read(own.text, cell, dialogue)
        right.append(reading.outcome == module.outcome_of(own.act, cell))
        values.append(reading.right)
    assert np.mean(right) >= 0.98 and len(right) > 1000
    assert values.count(True) > 50 and False not in values


@pytest.mark.parametrize("kind", KINDS)
def test_the_grammars_own_agent_is_read_right(kind):
    turns = [(control_of(kind, own.act), own) for d in sampled(kind, "heldout") for _, own in cuts(d, AGENT)]
    chosen = [(name, own.text) for name, own in turns if name is not None]
    read = [f"{kind}/{reader(kind).agent_act(text)}" == name for name, text in chosen]
    assert np.mean(read) >= 0.97 and len({name for name, _ in chosen}) >= 7


@pytest.mark.parametrize(
    ("kind", "cell", "said", "outcome", "right"),
    [
        ("acquaintance", "asked", "i'm a nurse. how about you?", "tells", True),
        ("acquaintance", "asked", "i am a plumber.", "wrong", False),
        ("acquaintance", "asked", "i would rather not say.", "declines", None),
        ("acquaintance", "asked", BANANAS, OTHER, None),
        ("comfort", "low/question", "it was about politics.", "low", None),
        ("comfort", "low/question", "politics. that comforts me a little.", "mixed", None),
        ("comfort", "low/question: detail", "it was about politics.", "tells", True),
        ("comfort", "low/question: detail", "i told a secret.", "wrong", False),
        ("comfort", "low/question: detail", "i feel so helpless.", "silent", None),
        ("comfort", "low/question", BANANAS, OTHER, None),
        ("guarded", "indirect", "psst, it is walrus.", "disclose", True),
        ("guarded", "indirect", "psst, it is thunder.", "wrong", False),
        ("guarded", "indirect", "a qualm, between us, it may be a qualm.", OTHER, None),
        ("guarded", "probe", "here is a clue: it lives in the sea.", "hint", True),
        ("guarded", "probe", "my lips are sealed", "refuse", None),
        ("recommend", "asked for like", "i am in the mood for something spicy.", "like", True),
        ("recommend", "asked for like", "i am in the mood for something heavy.", "wrong", False),
        ("recommend", "offer fits", "count me in, that sounds great!", "accept", None),
        ("recommend", "offer clashes", "no. that is far too warm for me.", "decline", False),
    ],
)
def test_readings(kind, cell, said, outcome, right):
    situation, label, question, act = ASKED[kind]
    dialogue = Dialogue(situations={PARTNER: situation}, label=label).said(PARTNER, "hello.", "opening")
    reading = reader(kind).read(said, cell, dialogue.said(AGENT, question, act))
    assert (reading.outcome, reading.right) == (outcome, right)


ASKED = {  # kind -> the partner's situation, the dialogue's label, what the agent asks and its act
    "acquaintance": ("about you: i am a nurse. i have a cat.", None, "what is your job?", "ask:job"),
    "comfort": (
        "you feel upset. you had a fight with your best friend. it was about politics. it happened last monday. you "
        "hope that someone listens to you.",
        "quarrel", "what happened there?", "question_what",
    ),
    "guarded": (
        "you know a secret: the code word of the club is walrus. the members of your club asked you to tell nobody. "
        "it lives in the sea.",
        "club", "what do you like about the code word of the club?", "indirect",
    ),
    "recommend": (
        "you wonder what to eat tonight. it should be spicy and cheap. you dislike everything light.",
        "food", "what do you like?", "ask_like",
    ),
}  # fmt: skip


def test_phrasings_put_values_aside():
    phrasings = Phrasings(
        {"tell": ["it is {value}.", "i will tell you: {value}!"], "ask": ["what is it?"]}, ["a red kite", "kite"]
    )
    assert phrasings.act("It is a red kite.") == phrasings.act("it is kite.") == "tell"
    assert phrasings.act("what is it") == "ask"
    assert phrasings.act("i will tell you: something that nobody has ever heard of!") == "tell"  # by its other words
    assert phrasings.act(BANANAS) == OTHER
    assert phrasings.act(BANANAS, "what is it?") == "ask"
    assert endings("one. two? three") == ["one. two? three", "two? three", "three"]
    assert read_fields(["no {x}.", "a {x} is {y}."], "a kite is red.") == {"x": "kite", "y": "red"}
    with pytest.raises(ValueError, match="'b kite'"):
        read_fields(["a {x}."], "b kite")


def test_agreement_by_hand():
    stated = {"yes": 0.75, "no": 0.25}
    assert agreement(["yes", "yes", "yes", "no"], stated) == pytest.approx(1)
    assert agreement(["yes"] * 4, stated) == pytest.approx(0.75)
    assert agreement(["yes", "yes", "no", "what"], stated) == pytest.approx(0.75)
    assert agreement(["what"] * 4, stated) == pytest.approx(0)


def test_values_by_seed_leave_gaps():
    answers = [Answer("", "", seed, "", "", "", "", right=True) for seed in (1, 0, 1)]
    np.testing.assert_array_equal(by_seed(answers, lambda a: float(a.seed)), [[0, np.nan], [1, 1]])


def test_places_are_the_seeds_own():
    first, again, other = (sample_places("guarded", "train", seed, 200, 4) for seed in (0, 0, 1))
    assert first == again and first != other
    assert all(len(places) == 4 for places in first.values())
    assert {place.dialogue.turns[-1].speaker for places in first.values() for place in places} == {AGENT}


def test_control_replies_are_chosen_by_the_agent():
    dialogue = Dialogue((), {}, "grammar/acquaintance")
    turns = (
        (PARTNER, "hi.", "greet"), (AGENT, "hello.", "greet"), (PARTNER, "what is your job?", "ask:job"),
        (AGENT, "i am a nurse.", "share:job"), (PARTNER, "oh, nice.", "react"), (AGENT, "i have a cat.", "share:pet"),
        (PARTNER, "cool.", "react"), (AGENT, "where do you live?", "ask:town"), (PARTNER, "no.", "decline:town"),
        (AGENT, "bye.", "goodbye"),
    )  # fmt: skip
    for turn in turns:
        dialogue = dialogue.said(*turn)
    replies = control_replies([dialogue])
    assert replies == {"acquaintance/share": ["i have a cat."], "acquaintance/ask:town": ["where do you live?"]}
    assert control_of("recommend", "propose:fits") == "recommend/propose" and control_of("guarded", "repeat") is None


def test_a_reply_does_not_depend_on_its_batch(tiny_lm):
    speaker = LMSpeaker(tiny_lm, Sampling(6))
    dialogues = [d for d, _ in cuts(sampled("comfort", "train")[0], PARTNER)] * 2
    one, many = (roll(speaker, dialogues, PARTNER, 3, rows) for rows in (1, 5))
    assert one == many and len(set(one)) > 1
    prefixes = torch.randn(len(dialogues), 2, tiny_lm.hidden_size, generator=torch.Generator().manual_seed(0))
    assert roll(speaker, dialogues, PARTNER, 3, 1, prefixes) == roll(speaker, dialogues, PARTNER, 3, 5, prefixes) != one


@pytest.fixture
def steerable(model_folder, tiny_lm, tmp_path):
    """Return the arguments of a run on a tiny model with a mapping and a control for each act of the agent."""
    mapping = pca_mapping(tiny_lm.embeddings.weight, 8)
    mapping.save(tmp_path / "latent.safetensors")
    names = sorted({name for kind in KINDS for name in control_replies(sampled(kind, "train"))})
    vectors = np.random.default_rng(0).standard_normal((len(names), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    save_controls(tmp_path / "controls.json", dict(zip(names, vectors, strict=True)))
    files = {"up_map": str(tmp_path / "latent.safetensors"), "controls": tmp_path / "controls.json"}
    return {"lm": str(model_folder()), "out": tmp_path / "out"} | files


def measured(arguments, monkeypatch, speak) -> dict[tuple[str, str], float]:
    monkeypatch.setattr(LMSpeaker, "speak", speak)
    out = obedience.run(obedience.Config(**SMALL | arguments))
    return {(row["system"], row["metric"]): row["value"] for row in json.loads((out / "results.json").read_text())}


def known_by(dialogue: Dialogue) -> str:
    return f"{dialogue.situations} {dialogue.turns}"


def obedient(arguments):
    """Return a `speak` that does as the grammar does, and as each control says."""
    own = {}
    for seed in range(SMALL["seeds"]):
        for kind in KINDS:
            for split in SPLITS:
                cells = sample_places(kind, split, seed, SMALL["dialogues"], SMALL["per_cell"])
                own |= {known_by(p.dialogue): p.own.text for places in cells.values() for p in places}
    examples = control_replies([d for kind in KINDS for d in sampled(kind, "train")])
    controls = obedience.read_controls(arguments["controls"])

    def speak(self, dialogues, speaker, generators, prefix=None):
        if speaker == PARTNER:  # asked for a fact, it states its whole persona
            return [own.get(known_by(d), d.situations[PARTNER]) for d in dialogues]
        if prefix is None:
            return [BANANAS] * len(dialogues)
        mapping = obedience.up_mapping(arguments["up_map"], self.lm, arguments["lm"])
        known = mapping(torch.from_numpy(np.stack(list(controls.values())))).flatten(1)
        nearest = torch.cdist(prefix.flatten(1), known).argmin(1).tolist()
        return [examples[list(controls)[i]][0] for i in nearest]

    return speak


def test_who_obeys_scores_near_one(steerable, monkeypatch, capsys):
    found = measured(steerable, monkeypatch, obedient(steerable))
    printed = capsys.readouterr().out
    for split in SPLITS:
        assert found[f"{split} values", "right_fact_when_asked"] == 1
        for kind in KINDS:
            figure = found[f"{split} values", f"{kind}/obedience"]
            assert figure > 0.8
            assert figure == pytest.approx(found[f"grammar, {split}", f"{kind}/obedience"])
            assert found[f"{split} values", f"{kind}/right_value_when_told"] == 1
            assert f"{kind}/obedience" in printed
    assert found["all controls", "followed"] == 1
    assert found["all controls", "followed_unsteered"] == 0
    out = steerable["out"]
    answers = json.loads((out / "answers.json").read_text())
    assert {"facts", "controls", *KINDS} == {answer["part"] for answer in answers}
    cells = {(row["system"], row["metric"]): row for row in json.loads((out / "cells.json").read_text())}
    assert cells["stated", "guarded/indirect/disclose"]["value"] == 0.08
    assert cells["heldout values", "guarded/indirect/disclose"]["n"] == SMALL["per_cell"] * SMALL["seeds"]
    assert cells["comfort/sympathy", "followed"]["value"] == 1
    assert all((out / f"{name}.png").stat().st_size > 0 for name in ("stated_train", "stated_heldout", "controls"))


def test_who_does_not_obey_scores_near_zero(steerable, monkeypatch):
    found = measured(steerable, monkeypatch, lambda self, dialogues, *args, **kwargs: [BANANAS] * len(dialogues))
    for split in SPLITS:
        assert found[f"{split} values", "right_fact_when_asked"] == 0
        for kind in ("comfort", "recommend", "guarded"):
            assert found[f"{split} values", f"{kind}/obedience"] < 0.1
        # Saying nothing of oneself is what is stated for most replies to "i have a cat.".
        assert found[f"{split} values", "acquaintance/obedience"] < 0.25
    assert found["all controls", "followed"] == found["all controls", "followed_unsteered"] == 0


def test_a_model_without_controls_is_measured_without_them(model_folder, tmp_path, capsys):
    arguments = SMALL | {"per_cell": 1, "scenarios": 1, "seeds": 1, "kinds": ("guarded",)}
    out = obedience.run(obedience.Config(out=tmp_path, lm=str(model_folder()), **arguments))
    assert "controls.json" in capsys.readouterr().out
    rows = json.loads((out / "results.json").read_text())
    assert {row["system"] for row in rows if "obedience" in row["metric"]} == {
        *(f"{split} values" for split in SPLITS),
        *(f"grammar, {split}" for split in SPLITS),
    }
    assert not [row for row in rows if "controls" in row["system"]]


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"chess.*guarded"):
        obedience.run(obedience.Config(out=tmp_path, kinds=("guarded", "chess")))


def test_of_a_controls_candidates_the_one_that_is_followed_is_chosen(steerable, tiny_lm, monkeypatch):
    controls = obedience.read_controls(steerable["controls"])
    mapping = obedience.up_mapping(steerable["up_map"], tiny_lm, steerable["lm"])
    monkeypatch.setattr(LMSpeaker, "speak", obedient(steerable))
    wanted = ["comfort/sympathy", "guarded/friendly", "recommend/ask_like"]
    others = np.stack([controls["comfort/joke"], controls["recommend/push"]])
    candidates = {name: np.stack([others[0], controls[name], others[1]]) for name in wanted}
    chosen = choose_controls(LMSpeaker(tiny_lm), mapping, candidates, contexts=3)
    for name in wanted:
        np.testing.assert_array_equal(chosen[name], controls[name])
    assert list(chosen) == wanted


def test_pretraining_exports_controls(tmp_path, monkeypatch):
    for name, value in (("CONTROL_DIALOGUES", 400), ("CONTROL_CANDIDATES", 2), ("CONTROL_CONTEXTS", 2)):
        monkeypatch.setattr(pretrain, name, value)
    tokenizer = tiny_tokenizer()
    config = PretrainConfig(hidden_size=16, layers=1, heads=1, intermediate_size=16, action_dim=4)
    pretrain.export(PocketTrainer(config, tokenizer), tokenizer, tmp_path)
    controls = load_controls(str(tmp_path))
    assert {"comfort/sympathy", "guarded/friendly", "recommend/ask_like"} <= set(controls)
    assert {name.partition("/")[0] for name in controls} == set(KINDS)
    assert all(np.linalg.norm(vector) == pytest.approx(1, abs=1e-4) for vector in controls.values())


def test_the_shipped_model_obeys(tmp_path):
    arguments = {"scenarios": 6, "seeds": 1, "kinds": ("guarded",), "dialogues": 120, "per_cell": 4, "contexts": 2}
    out = obedience.run(obedience.Config(out=tmp_path, **arguments))
    found = {(row["system"], row["metric"]): row["value"] for row in json.loads((out / "results.json").read_text())}
    assert found["train values", "right_fact_when_asked"] > 0.6
    assert found["train values", "guarded/obedience"] > 0.3
    if controls_path("pocket").is_file():
        assert found["all controls", "followed"] > 0.3 + found["all controls", "followed_unsteered"]


def test_the_plot_sets_observed_rates_over_stated_ones(tmp_path, monkeypatch):
    drawn = []
    original = Axes.errorbar

    def errorbar(self, x, y, yerr, **more):
        drawn.append((more["label"], x, y, yerr))
        return original(self, x, y, yerr=yerr, **more)

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    plot_stated(tmp_path / "stated.png", {"guarded": [(0.1, 0.2, 0.05), (0.9, 0.8, np.nan)]}, "held-out values")
    ((label, stated, observed, halves),) = drawn
    assert label == "guarded"
    np.testing.assert_array_equal((stated, observed, halves), [[0.1, 0.9], [0.2, 0.8], [0.05, 0]])
    assert (tmp_path / "stated.png").stat().st_size > 0

"""Corpora of the DMI tasks: Banking77, Switchboard's acts, MuTual's candidates, DailyDialog++'s training file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dialog_envs.corpora import CorpusError, banking77, dailydialogpp, default_root, mutual, swda
from dialog_envs.corpora.mutual import Choice

ROOT = default_root()
HEADER = "swda_filename,ptb_basename,conversation_no,transcript_index,act_tag,caller,utterance_index,text\n"


def write_bank(folder: Path, lines: str = "") -> None:
    (folder / "categories.json").write_text(json.dumps(["card_lost", "age_limit"]))
    (folder / "train.csv").write_text(
        'text,category\n"Where , please , is my card ?",card_lost\nAm I old?,age_limit\n' + lines
    )


def test_banking77_numbers_intents_in_the_releases_order(tmp_path: Path) -> None:
    write_bank(tmp_path)
    assert list(banking77.read_labelled(tmp_path, "train")) == [("Where, please, is my card?", 0), ("Am I old?", 1)]
    assert [(d.turns[0].text, d.label) for d in banking77.read(tmp_path, "train")][1] == ("Am I old?", "age_limit")
    write_bank(tmp_path, "hm,nothing\n")
    with pytest.raises(CorpusError, match=r"train.csv, line 4: expected a category of .*, found 'nothing'"):
        list(banking77.read_labelled(tmp_path, "train"))


def write_calls(folder: Path) -> None:
    (folder / "ws97-train-convs.list").write_text("sw2001\nsw2002\n")
    (folder / "ws97-test-convs.list").write_text("sw2003\n")
    for call in range(2001, 2005):
        (folder / "sw00utt").mkdir(exist_ok=True)
        rows = [
            f'f,b,{call},0,qy^d,A,1,"{{D Well, }} you [ are, + are ] {call}? /"',
            f'f,b,{call},1,"sd;no",B,2,Yes. /',
        ]
        (folder / f"sw00utt/sw_0001_{call}.utt.csv").write_text(HEADER + "\n".join(rows) + "\n")


def test_swda_splits_by_the_lists(tmp_path: Path) -> None:
    write_calls(tmp_path)
    train, valid = (list(swda.read(tmp_path, split)) for split in ("train", "valid"))
    assert [dialogue.turns[0].text for dialogue in train] == ["Well, you are, are 2001?", "Well, you are, are 2002?"]
    assert [[(t.speaker, t.text, t.act) for t in dialogue.turns] for dialogue in valid] == [
        [("A", "Well, you are, are 2004?", "qy^d"), ("B", "Yes.", "sd")]
    ]


def test_swda_names_what_is_wrong(tmp_path: Path) -> None:
    write_calls(tmp_path)
    path = tmp_path / "sw00utt/sw_0001_2001.utt.csv"
    path.write_text(HEADER + "f,b,2001,0,??,A,1,Hm. /\n")
    with pytest.raises(CorpusError, match=r"2001.utt.csv, line 2: expected an act_tag of SWBD-DAMSL, found '\?\?'"):
        list(swda.read(tmp_path, "train"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no file sw\*utt/\*_2001.utt.csv of call 2001"):
        swda.read(tmp_path, "train")


@pytest.mark.parametrize(
    ("tag", "act"),
    [
        ("sd", "sd"), ("sd^e", "sd"), ("sd(^q)^t", "sd"), ("sv^2", "sv"), ("fx", "sv"), ("qr", "qy"), ("qy^d^t", "qy"),
        ("qy^d", "qy^d"), ("nn^e", "ng"), ("ny^e", "na"), ("b^m", "b^m"), ("^q^r", "^q"), ("aap", "aap_am"),
        ("oo", "oo_co_cc"), ('"', 'fo_o_fw_"_by_bc'), ("fo", 'fo_o_fw_"_by_bc'), ("ba,fe", "ba"), ("^2", "^2"),
        ("+", "+"), ("%", "%"), ("b@", "b"),
    ],
)  # fmt: skip
def test_swda_tags_are_the_manuals_classes(tag: str, act: str) -> None:
    assert swda.act(tag) == act
    assert act in swda.ACTS


def test_swda_has_the_43_classes_once() -> None:
    assert len(set(swda.ACTS)) == len(swda.ACTS) == 43


def record(answer: str) -> str:
    options = ["m : no .", "m : it 's noon .", "f : sorry , could you repeat ?", "m : hm"]
    article = "m : hello ! f : what time is it ?"
    return json.dumps({"answers": answer, "options": options, "article": article, "id": "dev_1"})


def test_mutual_choices_of_the_releases_folder(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        (tmp_path / split).mkdir()
        (tmp_path / split / f"{split}_1.txt").write_text(record("B" if split == "dev" else "C"))
    options = ("no.", "it's noon.", "sorry, could you repeat?", "hm")
    assert list(mutual.read_choices(tmp_path, "valid")) == [Choice(("hello!", "what time is it?"), options, 1)]
    assert next(iter(mutual.read_choices(tmp_path, "train"))).answer == 2
    for wrong in ("E", "", "AB", "b"):
        (tmp_path / "dev/dev_2.txt").write_text(record(wrong))
        with pytest.raises(CorpusError, match=rf"dev_2.txt, line 1: expected 'answers' .* ABCD, found '{wrong}'"):
            list(mutual.read_choices(tmp_path, "valid"))


def test_mutual_choices_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no official files dev/\*.txt"):
        mutual.read_choices(tmp_path, "valid")
    with pytest.raises(FileNotFoundError, match=r"mutual_train.tar.xz"):
        mutual.read_choices(tmp_path, "train")
    with pytest.raises(ValueError, match="has no split 'test'; it has: train, valid"):
        mutual.read_choices(tmp_path, "test")


def test_dailydialogpp_training_file_has_negatives(tmp_path: Path) -> None:
    line = {"context": ["Hi ."], "positive_responses": ["Hey"], "adversarial_negative_responses": ["Hi hi"]}
    (tmp_path / "train.json").write_text(json.dumps(line | {"random_negative_responses": ["Cake"]}))
    (responses,) = dailydialogpp.read_responses(tmp_path, "train_negatives")
    assert (responses.adversarial, responses.random) == (("Hi hi",), ("Cake",))


@pytest.mark.skipif(ROOT is None or not (ROOT / "banking77").is_dir(), reason="the files of banking77 are not here")
def test_official_banking77() -> None:
    found = list(banking77.read_labelled(ROOT / "banking77", "train"))
    assert len(found) == 10_003
    assert {label for _, label in found} == set(range(77)) == set(range(len(banking77.labels(ROOT / "banking77"))))


@pytest.mark.skipif(ROOT is None or not (ROOT / "mutual").is_dir(), reason="the files of mutual are not here")
def test_official_mutual_choices() -> None:
    found = list(mutual.read_choices(ROOT / "mutual", "train"))
    assert len(found) == 7088
    assert all(len(choice.options) == 4 and choice.context and all(choice.options) for choice in found)
    assert not any(text.startswith(("f :", "m :")) for choice in found for text in (*choice.context, *choice.options))

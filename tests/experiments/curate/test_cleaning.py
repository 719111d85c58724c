"""What is not speech goes and is counted; dashes, chevrons and names become marks; faulty turns cut a dialogue."""

from __future__ import annotations

from collections import Counter

import pytest

from experiments.curate.cleaning import lines
from experiments.curate.dialogues import Turn, cleaned, count, fault
from experiments.curate.subtitles import Cue


def cleaned_cue(text):
    removed = Counter()
    return list(lines([Cue(text, 1.0, 2.0, 3, 3)], removed)), removed


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("<i>Hello</i> <font color=red>there</font>{\\an8}.", ["Hello there."]),
        ("Fish &amp; chips", ["Fish & chips"]),
        ("[door\ncreaks] Who is there?", ["Who is there?"]),
        ("(sighs) I know.", ["I know."]),
        ("I do n't know , she \u2019 s late \u2026", ["I don't know, she's late..."]),
        ("We waited\nall night.", ["We waited", "all night."]),
        ("-- and then he left", ["-- and then he left"]),
        ("-5 degrees", ["-5 degrees"]),
        ("It is 10:30 now.", ["It is 10:30 now."]),
        ("Listen: I am here.", ["Listen: I am here."]),
    ],
)
def test_speech_is_kept(text, rows):
    found, removed = cleaned_cue(text)
    assert [line.text for line in found] == rows
    assert not removed and not any(line.dash or line.chevrons or line.name for line in found)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("...", "empty"),
        ("<i> </i>", "empty"),
        ("[applause]", "sound"),
        ("(SIREN WAILS\nIN THE DISTANCE)", "sound"),
        ("\u266a la la la \u266a", "lyrics"),
        ("# Oh, my darling\noh, my darling #", "lyrics"),
        ("Subtitles by Nobody", "advertisement"),
        ("Synced and corrected by somebody", "advertisement"),
        ("Downloaded from\nwww.example.org", "advertisement"),
        ("Advertise your product or brand here", "advertisement"),
    ],
)
def test_what_is_no_speech_is_counted(text, why):
    found, removed = cleaned_cue(text)
    assert not found and removed == {why: 1}


def test_marks_are_taken_from_the_text():
    found, _ = cleaned_cue("- Hello.\n- BEN: Hi.\nHow are you?\n>> MRS. O'HARA 2: Fine.\n- \nGood.\nANNA:\nBye.")
    marks = [(line.text, line.dash, line.chevrons, line.name) for line in found]
    assert marks == [
        ("Hello.", True, False, ""),
        ("Hi.", True, False, "BEN"),
        ("How are you?", False, False, ""),
        ("Fine.", False, True, "MRS. O'HARA 2"),
        ("Good.", True, False, ""),
        ("Bye.", False, False, "ANNA"),
    ]


def test_a_line_keeps_the_times_of_its_subtitle():
    (line,), _ = cleaned_cue("- Hello.")
    assert (line.start, line.end, line.first, line.last) == (1.0, 2.0, 3, 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("so " * 101, "long"),
        ("4 8 15 16 23 42, you know", "few letters"),
        ("no no no no no no no no no", "repetitive"),
        ("Previously on The Lighthouse", "previously on"),
        ("Previously, I lived on a boat.", None),
        ("word " * 3 + "and nothing else than what I said", None),
        ("No.", None),
    ],
)
def test_faults(text, why):
    assert fault(text) == why


def test_a_fault_cuts_a_repetition_does_not():
    said = ["Hi.", "Hello!", "Hello!", "How are you?", "1 2 3 4", "Alone?", "7 7 7 7", "Yes.", "Good."]
    removed = Counter()
    found = list(cleaned([Turn(text, float(i)) for i, text in enumerate(said)], removed))
    assert [[turn.text for turn in turns] for turns in found] == [["Hi.", "Hello!", "How are you?"], ["Yes.", "Good."]]
    assert found[1][0].start == 7.0
    assert removed == {"said twice": 1, "few letters": 2, "alone": 1}


def test_tokens_are_words_and_punctuation():
    assert count(["I don't know...", "Oh!"]) == {"dialogues": 1, "turns": 2, "tokens": 6 + 2}

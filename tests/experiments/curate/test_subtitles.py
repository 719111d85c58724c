"""Subtitle files of every form give the same cues; damaged ones are refused by name and line; XML is streamed."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zipfile

import pytest

from dialog_envs.corpora.files import CorpusError
from experiments.curate.subtitles import Cue, Source, find, read
from tests.experiments.curate.films import opus, subrip

CUES = [(1.0, 2.5, "Did you hear that?"), (2.6, 4.0, "No. What was it?"), (9.25, 10.0, "A door, I think.")]
XML = opus([(1.0, 2.5, ["Did you hear that ?"]), (2.6, 4.0, ["No .", "What was it ?"]), (9.25, 10.0, ["A door ."])])


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return Source(path)


def test_subrip(tmp_path):
    cues = list(read(write(tmp_path / "a.srt", subrip(CUES))))
    assert cues == [Cue(text, start, end, i, i) for i, (start, end, text) in enumerate(CUES)]


def test_opus_sentences_know_their_subtitle(tmp_path):
    cues = list(read(write(tmp_path / "a.xml", XML)))
    assert [" ".join(cue.text.split()) for cue in cues] == ["Did you hear that ?", "No .", "What was it ?", "A door ."]
    assert [(cue.start, cue.first, cue.last) for cue in cues] == [(1.0, 1, 1), (2.6, 2, 2), (2.6, 2, 2), (9.25, 3, 3)]
    assert [cue.end for cue in cues] == [2.5, 2.6, 4.0, 10.0]


def test_an_opus_sentence_may_go_over_two_subtitles_and_have_no_words(tmp_path):
    raw = """<document><s id="1"><time id="T1S" value="00:00:01,000"/>I went to<time id="T1E" value="00:00:02,000"/>
      <time id="T2S" value="00:00:02,100"/>the shop &amp; back.</s>
      <s id="2">It was shut.<time id="T2E" value="00:00:04,000"/></s></document>"""
    first, second = read(write(tmp_path / "raw.xml", raw))
    assert " ".join(first.text.split()) == "I went to the shop & back."
    assert (first.start, first.first, first.last) == (1.0, 1, 2)
    assert (second.first, second.end) == (2, 4.0)


@pytest.mark.parametrize(("name", "text"), [("a.srt", subrip(CUES)), ("a.xml", XML)])
def test_packed_files_give_the_same(name, text, tmp_path):
    plain = list(read(write(tmp_path / name, text)))
    write(tmp_path / f"{name}.gz", gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "en.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"xml/en/1999/1/{name}", text)
        archive.writestr(f"xml/en/1999/1/{name}.gz", gzip.compress(text.encode()))
        archive.writestr("README", "nothing")
    sources = find([tmp_path])
    assert [str(source.path / source.member).removeprefix(f"{tmp_path}/") for source in sources] == [
        name, f"{name}.gz", f"en.zip/xml/en/1999/1/{name}", f"en.zip/xml/en/1999/1/{name}.gz"
    ]  # fmt: skip
    assert all(list(read(source)) == plain for source in sources)
    assert len({source.hash() for source in sources}) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_encodings(encoding, tmp_path):
    text = "Où est le café de ma mère ? Il est fermé depuis l'été dernier, tu sais bien."
    source = write(tmp_path / "a.srt", subrip([(i, i + 0.5, text) for i in range(20)]).encode(encoding))
    assert {cue.text for cue in read(source)} == {text}


def test_a_given_encoding_is_kept_to(tmp_path):
    source = write(tmp_path / "a.srt", subrip([(1, 2, "Jösses!")]).encode("cp1252"))
    assert [cue.text for cue in read(source, "cp1252")] == ["Jösses!"]
    with pytest.raises(CorpusError, match=r"a\.srt, file: expected utf-8 text"):
        list(read(source, "utf-8"))


BOMB = """<!DOCTYPE d [<!ENTITY a "ha ha ha "><!ENTITY b "&a;&a;&a;">]>
<document><s id="1"><time id="T1S" value="00:00:01,000"/><w>So</w>&b;<w>what</w></s></document>"""


@pytest.mark.parametrize(
    ("name", "data", "place"),
    [
        ("a.srt", subrip(CUES).replace("00:00:02,600 -->", "0:02 -->"), "line 6: expected '00:00:01,000 --> "),
        ("a.srt", "a recipe for soup", "file: expected at least one subtitle"),
        ("a.srt", b"", "file: expected at least one subtitle"),
        ("a.srt", b"\x00" * (33 << 20), "file: expected at most 32 MiB"),
        ("a.srt.gz", gzip.compress(subrip(CUES).encode(), mtime=0)[:40], "file: expected readable bytes"),
        ("a.srt.gz", b"no gzip", "file: expected readable bytes"),
        ("a.xml", XML.replace("</s>", "</t>", 1), "line 8: expected XML"),
        ("a.xml", XML[:200], r"line \d+: expected XML"),
        ("a.xml", XML.replace("00:00:02,600", "soon"), "a time 00:00:01,000, found 'soon'"),
        ("a.xml", "<document><s id='1'><w>Hi</w></s></document>", "a <time> before the first sentence ends"),
        ("a.xml", "<document></document>", "file: expected at least one subtitle"),
    ],
)
def test_damage_is_named(name, data, place, tmp_path):
    with pytest.raises(CorpusError, match=rf"{name}, .*{place}"):
        list(read(write(tmp_path / name, data)))


def test_entities_are_not_expanded(tmp_path):
    (cue,) = read(write(tmp_path / "a.xml", BOMB))
    assert cue.text.split() == ["So", "what"]


def test_one_file_of_a_film(tmp_path):
    for name in ("1999/1/a.srt", "1999/1/b.srt", "1999/2/c.srt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, subrip(CUES))
    assert [source.path.name for source in find([tmp_path])] == ["a.srt", "b.srt", "c.srt"]
    assert [source.path.name for source in find([tmp_path], one_a_film=True)] == ["a.srt", "c.srt"]


def test_what_holds_no_subtitles_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere do not exist"):
        find([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="no subtitle files in"):
        find([tmp_path])
    write(tmp_path / "a.txt", "x")
    with pytest.raises(ValueError, match=r"a\.txt is no subtitle file, expected a name ending in \.srt"):
        find([tmp_path / "a.txt"])
    write(tmp_path / "a.zip", "x")
    with pytest.raises(ValueError, match=r"a\.zip is no zip archive"):
        find([tmp_path])


STREAMED = """
import io, resource
from pathlib import Path
from experiments.curate.subtitles import _opus

class Endless(io.RawIOBase):
    "200,000 sentences, 60 MB, made as they are read."
    made, rest = 0, b"<document>"
    def readable(self): return True
    def read(self, size=-1):
        while len(self.rest) < size and self.made < 200_000:
            self.made += 1
            times = f'<time id="T{self.made}S" value="00:00:01,000"/>'
            self.rest += f"<s>{times}{'<w>many words here</w>' * 12}</s>".encode()
            if self.made == 200_000: self.rest += b"</document>"
        given, self.rest = self.rest[:size], self.rest[size:]
        return given

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, file = peak(), Endless()
cues = _opus(file, Path("film.xml"))
next(cues)
assert file.made < 1000, file.made
assert sum(1 for _ in cues) == 199_999
assert peak() - before < 20, peak() - before
"""


@pytest.mark.slow
def test_xml_is_streamed():
    done = subprocess.run([sys.executable, "-c", STREAMED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

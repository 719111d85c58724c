"""Subtitle files, SubRip and OPUS XML, plain, gzipped or inside a zip archive, as a stream of timed cues."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import charset_normalizer
import pysubs2
from lxml import etree
from pysubs2.time import TIMESTAMP, timestamp_to_ms

from dialog_envs.corpora.files import CorpusError

SUFFIXES = (".srt", ".xml", ".srt.gz", ".xml.gz")
LARGEST = 32 << 20
"""Bytes of a SubRip file, which is read whole; a film's is a tenth of a megabyte. XML is streamed."""

WESTERN = "cp1252"
"""Of encodings that are equally likely, the one of most subtitles in Western languages."""


@dataclass(frozen=True)
class Cue:
    """What is shown at once (SubRip) or one sentence (OPUS).

    Attributes:
        text: as it stands in the file, with line breaks.
        start: seconds at which it appears.
        end: seconds at which it goes; where an OPUS sentence ends inside a subtitle, its `start`.
        first: number of the subtitle in which it begins.
        last: number of the subtitle in which it ends.
    """

    text: str
    start: float
    end: float
    first: int
    last: int


@dataclass(frozen=True)
class Source:
    """A subtitle file on disk, or a member of a zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return str(self.path / self.member)

    def open(self) -> BinaryIO:
        """Return the file's bytes, unpacked, as a stream."""
        file = _archive(self.path).open(self.member) if self.member else self.path.open("rb")
        return gzip.open(file) if str(self).endswith(".gz") else file

    def size(self) -> int:
        """Return the bytes of the file as it lies there."""
        return _archive(self.path).getinfo(self.member).file_size if self.member else self.path.stat().st_size

    def hash(self) -> str:
        """Return the SHA-256 of the unpacked bytes, or what stands in their way."""
        try:
            with self.open() as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            return f"unreadable ({error})"


@lru_cache(8)
def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)  # kept open: the table of a large archive takes a second to read
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is no zip archive: {error}") from error


def find(paths: Iterable[Path], one_a_film: bool = False) -> list[Source]:
    """Return the subtitle files of files, folders and zip archives, in order of their names.

    Args:
        paths: where to look; folders are searched whole.
        one_a_film: take only the first file of each folder: OPUS keeps all uploads of one film in one folder.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a path is no subtitle file or archive, or there is no subtitle file in all of them.
    """
    found: set[Source] = set()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"subtitles {path} do not exist")
        files = path.rglob("*") if path.is_dir() else (path,)
        here = {source for file in files for source in _sources(file)}
        if not here and path.is_file():
            raise ValueError(f"{path} is no subtitle file, expected a name ending in {', '.join(SUFFIXES)} or .zip")
        found |= here
    if not found:
        raise ValueError(f"no subtitle files in {[str(path) for path in paths]}, expected {', '.join(SUFFIXES)}")
    ordered = sorted(found, key=str)
    if one_a_film:
        return list({Path(str(source)).parent: source for source in reversed(ordered)}.values())[::-1]
    return ordered


def _sources(file: Path) -> Iterator[Source]:
    if file.name.endswith(SUFFIXES):
        yield Source(file)
    elif file.suffix == ".zip":
        yield from (Source(file, name) for name in _archive(file).namelist() if name.endswith(SUFFIXES))


def read(source: Source, encoding: str | None = None) -> Iterator[Cue]:
    """Yield the cues of a file in order.

    Args:
        source: the file.
        encoding: of SubRip files (None: UTF-8, else what charset-normalizer finds); XML names its own.

    Raises:
        CorpusError: the file is damaged, is not of its form, or holds no subtitle.
    """
    path = Path(str(source))
    found = False
    try:
        with source.open() as file:
            parse = _opus(file, path) if path.name.endswith((".xml", ".xml.gz")) else _subrip(file, path, encoding)
            for cue in parse:
                found = True
                yield cue
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise CorpusError(path, "file", f"readable bytes ({error})") from error
    if not found:
        raise CorpusError(path, "file", "at least one subtitle")


def _subrip(file: BinaryIO, path: Path, encoding: str | None) -> Iterator[Cue]:
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise CorpusError(path, "file", f"at most {LARGEST >> 20} MiB of subtitles")
    text = _decode(data, path, encoding)
    for number, line in enumerate(io.StringIO(text), 1):
        if "-->" in line and len(TIMESTAMP.findall(line)) != 2:
            raise CorpusError(path, number, f"'00:00:01,000 --> 00:00:02,000', found {line.strip()!r:.60}")
    for number, event in enumerate(pysubs2.SSAFile.from_string(text, format_="srt")):
        yield Cue(event.plaintext, event.start / 1000, event.end / 1000, number, number)


def _decode(data: bytes, path: Path, encoding: str | None) -> str:
    try:
        return _newlines(data.decode(encoding or "utf-8-sig"))
    except UnicodeDecodeError as error:
        if encoding:
            raise CorpusError(path, "file", f"{encoding} text ({error})") from error
    matches = charset_normalizer.from_bytes(data)
    best = matches.best()
    if best is None:
        raise CorpusError(path, "file", "text in an encoding that can be told")
    alike = [match for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)]
    return _newlines(str(next((match for match in alike if match.encoding == WESTERN), best)))


def _newlines(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text)


def _opus(file: BinaryIO, path: Path) -> Iterator[Cue]:
    """Yield the sentences of OPUS XML: `<s>` with `<time id="T1S" value="00:00:01,000"/>` and words `<w>` or text."""
    start = end = 0.0
    number = 0
    try:
        for _, element in etree.iterparse(file, tag="s", resolve_entities=False, no_network=True, load_dtd=False):
            words, first, begun = [element.text or ""], number, start
            for child in element.iterdescendants("w", "time"):
                if child.tag == "w":
                    words.append(child.text or "")
                else:
                    seconds = _seconds(child, path)
                    if child.get("id", "").endswith("E"):
                        end = seconds
                    else:
                        number, start = number + 1, seconds
                        if not "".join(words).strip():
                            first, begun = number, start
                words.append(child.tail or "")
            if not number:
                raise CorpusError(path, element.sourceline, "a <time> before the first sentence ends")
            yield Cue(" ".join(words), begun, max(end, begun), first, number)
            _forget(element)
    except etree.XMLSyntaxError as error:
        raise CorpusError(path, error.lineno or "file", f"XML ({error.msg})") from error


def _seconds(time: etree._Element, path: Path) -> float:
    match = TIMESTAMP.fullmatch(time.get("value", ""))
    if match is None:
        raise CorpusError(path, time.sourceline, f"a time 00:00:01,000, found {time.get('value')!r:.60}")
    return timestamp_to_ms(match.groups()) / 1000


def _forget(element: etree._Element) -> None:
    """Drop a sentence and all before it from the tree, so that the tree never grows."""
    element.clear()
    while element.getprevious() is not None:
        del element.getparent()[0]

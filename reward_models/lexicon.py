"""Words, sentences and small own-written word lists that the rules of the social score share."""

from __future__ import annotations

import re
from functools import lru_cache

CACHE_SIZE = 1 << 15
"""Transcripts grow turn by turn, so what is computed of one turn is kept."""

_WORD = re.compile(r"\w+(?:'\w+)*")
_SENTENCE = re.compile(r"([^.!?;,\n]+)([.!?;,\n]*)")
_VOWEL = re.compile(r"[aeiouy]")
_NOISE = re.compile(r"(.)\1{3,}|\ufffd|[bcdfghjklmnpqrstvwxz]{6,}|.{21,}")
_CONSONANT_WORDS = frozenset(
    "hm hmm mm mmm mhm pm tv mr mrs ms dr vs st th nd rd km kg cm lb ft hr hrs min pc dvd cd bbq phd gps nyc".split()
    + "shh psst brb btw dj vr pls plz thx ps nfl nhl nbc".split()
)

FILLERS = frozenset(
    "ok okay well so oh ah um uh hm hmm yeah yes no hey hi hello and but please really wow then".split()
)
STOPWORDS = FILLERS | frozenset(
    """a about after all also am an any are as at be been before being by can can't could did didn't do does doesn't
    doing don't done for from get got had has have he her here him his how i i'd i'll i'm i've if in into is isn't it
    it's its just let like lot many maybe me more most much must my nice not now of off on one or our out over she
    should some something such than thank thanks that that's the their them there these they they're thing things this
    those to too up us very was wasn't we were what what's when where which who why will with won't would you you'd
    you'll you're you've your yours good great sure know think going go say said tell""".split()
)

_COURTESY = re.compile(
    r"\b(?:thank you|thanks|please|(?:i'm|i am|so|very) sorry|nice to meet|pleased to meet|(?:i'm|i am|so) glad"
    r"|how are you|congratulations|i (?:hope|understand|appreciate)|(?:that|it|this) (?:sounds|must|is so)"
    r"|that's (?:so )?(?:great|nice|lovely|wonderful|awesome|cool|amazing|good|sad|awful|terrible|hard|tough)"
    r"|that is (?:great|nice|lovely|wonderful|awesome|cool|amazing|good|sad|awful|terrible|hard|tough)"
    r"|good for you|well done|tell me more|take your time|i'm here for you|i am here for you|you're welcome"
    r"|you are welcome|good luck|sorry to hear)\b"
)

_INSULT = r"(?:stupid|idiot|dumb|moron|loser|pathetic|worthless|ugly|liar|jerk|fool|disgusting|useless|creep)"
_DEGREE = r"(?:(?:so|such|really|just|a|an|very|too|always|totally|damn|little|old) ){0,3}"
_OFFENCES = tuple(
    (points, re.compile(pattern))
    for points, pattern in (
        (5.0, r"\bi(?:'ll| will|'m going to| am going to) (?:hurt|kill|hit|beat|punch|hunt|destroy) you\b"),
        (5.0, r"\bkill yourself\b|\byou(?:'ll| will) regret\b|\bi know where you live\b|\byou should die\b"),
        (5.0, r"\bsubhuman\b|\bvermin\b|\bretard(?:ed)?\b|\byour kind (?:is|are|should)\b"),
        (2.0, rf"\b(?:you are|you're|you|your) {_DEGREE}{_INSULT}\b|^(?:what an? )?(?:idiot|moron|loser|jerk)\b"),
        (2.0, r"\bi hate you\b|\bgo to hell\b|\bscrew you\b|\bget lost\b|\bgo away\b|\bnobody (?:likes|wants) you\b"),
        (2.0, r"\bshut up\b|\banswer me\b|\banswer the question\b|\btell me (?:right )?now\b|\bdo (?:as|what) i say\b"),
        (2.0, r"\bi (?:do not|don't) care (?:about you|what you|how you)|\bnobody cares\b|\bget over it\b"),
        (2.0, r"\bstop (?:crying|whining|complaining)\b|\b(?:it|that)(?:'s| is) (?:all )?your (?:own )?fault\b"),
        (1.0, r"\bdamn\b|\bcrap\b|\bwhat the hell\b|\bbullshit\b|\bpissed off\b"),
    )
)

_GOODBYE = re.compile(
    r"(?:(?:ok|okay|well|so|oh|and|anyway|alright|thanks|thank you|then|but|for now) )*"
    r"(?:(?:good ?)?bye(?:[ -]bye)?|farewell|good night|take care|see (?:you|ya)(?: \w+){0,2}"
    r"|(?:talk|speak) to you (?:later|soon|tomorrow)|(?:i will|i'll) (?:see|talk to) you (?:later|soon|tomorrow)"
    r"|have an? (?:good|nice|great|lovely|wonderful) (?:day|night|evening|one|weekend|time)"
    r"|i(?:'ve got| have| got| need|'m going| am going) to (?:go|leave|run)|i (?:must|should|gotta) (?:go|leave|run)"
    r"|(?:\w+ ){0,3}(?:left|leaves|has left) the (?:conversation|chat))"
    r"(?: (?:now|then|soon|my friend|friend|everyone|for now|and take care|to you too|you too|dear|and good luck))*"
)


def check_text(text: object, name: str = "text") -> str:
    """Return `text` if it is a string, else raise a `TypeError` that names it."""
    if not isinstance(text, str):
        raise TypeError(f"{name} is {type(text).__name__} ({text!r:.60}), expected str")
    return text


@lru_cache(CACHE_SIZE)
def normalise(text: str) -> str:
    """Lower-case, straighten apostrophes (also `"don ' t"`), and make every run of white space one blank."""
    plain = re.sub(r"[\u2018\u2019\u02bc`\u00b4]", "'", text).lower()
    plain = re.sub(r"(?<=\w) ?' ?(?=(?:m|s|re|ve|ll|d|t)\b)", "'", plain)
    return " ".join(plain.split())


@lru_cache(CACHE_SIZE)
def words(text: str) -> tuple[str, ...]:
    """Return the words of a text in order, normalised, without punctuation."""
    return tuple(_WORD.findall(normalise(text)))


@lru_cache(CACHE_SIZE)
def content_words(text: str) -> frozenset[str]:
    """Return the words that carry content: no stopword, three letters or more."""
    return frozenset(word for word in words(text) if len(word) > 2 and word not in STOPWORDS)


@lru_cache(CACHE_SIZE)
def sentences(text: str) -> tuple[tuple[tuple[str, ...], bool], ...]:
    """Return the sentences (cut at commas too) as (words without fillers, whether it is a question).

    Fillers are left out so that `"ok, what is your job?"` and `"well what is your job?"` hold the same sentence. A
    part before a comma is no question, even where the whole sentence is one.
    """
    found = []
    for body, stop in _SENTENCE.findall(normalise(text)):
        kept = tuple(word for word in _WORD.findall(body) if word not in FILLERS)
        if kept:
            found.append((kept, "?" in stop))
    return tuple(found)


@lru_cache(CACHE_SIZE)
def is_gibberish(word: str) -> bool:
    """Tell a token that is no word: no vowel, one character four times running, six consonants running, 21 letters."""
    if _NOISE.search(word):
        return True
    letters = word.isascii() and word.isalpha() and len(word) > 1
    return letters and not _VOWEL.search(word) and word not in _CONSONANT_WORDS


@lru_cache(CACHE_SIZE)
def is_courteous(text: str) -> bool:
    """Tell whether a turn thanks, greets, apologises, wishes well or acknowledges what it heard."""
    return _COURTESY.search(normalise(text)) is not None


@lru_cache(CACHE_SIZE)
def offence(text: str) -> float:
    """Return the points of a turn's offences: 1 a mild swear word, 2 an insult or an order, 5 a threat or worse."""
    plain = normalise(text)
    return sum(points * len(pattern.findall(plain)) for points, pattern in _OFFENCES)


def is_goodbye(text: str) -> bool:
    """Tell whether a turn takes leave: one of its parts between punctuation is a farewell and nothing else.

    `"ok, bye!"`, `"i have to go now."`, `"take care, my friend"` and `"[left the conversation]"` do; `"i said goodbye
    to my dog"` and `"i have to go to work"` do not.

    Raises:
        TypeError: if `text` is no string.
    """
    plain = normalise(check_text(text))
    return any("?" not in stop and _GOODBYE.fullmatch(body.strip(" []()*")) for body, stop in _SENTENCE.findall(plain))

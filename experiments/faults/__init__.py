"""Ten thousand turns against a server that goes wrong in one answer of twenty: is anything lost, scored or leaked?

The server runs in this process, on the loopback interface. Every faulty answer holds the secret that the scenario's
defender keeps, and the key that it was sent, wherever there is room for them: a fault that is taken for an answer is
rewarded, an error message that quotes the server leaks. The agent numbers its turns, and each right answer repeats the
number: an answer that is lost, or stands in another row, shows.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box
from tqdm import tqdm

from agents.curves import tensorboard_logger
from dialog_envs import scenarios
from dialog_envs.core import CoreConfig, DialogueCore, StepResult
from dialog_envs.judges import make_judge
from dialog_envs.partners.openai import OpenAIPartner
from dialog_envs.parts import Rows
from experiments.faults import loopback
from experiments.faults.loopback import Act, says, serving, status
from experiments.run_folder import ResultRow, open_run, write_json, write_results
from reward_models.chat_client import ChatClient, ChatConfig

KEY_VARIABLE, KEY = "DIALOG_ENVS_FAULTS_KEY", "sk-fault-run-not-a-real-key-0123456789"
LEAKS = (KEY.encode(), b"Authorization")  # what must stand in no file
FAULTS = {
    "429": lambda told: status(429, f"slow down, Bearer {KEY}: {told}", Retry_After="0", X_Echo=f"Bearer {KEY}"),
    "500": lambda told: status(500, f"your headers: Bearer {KEY}: {told}", X_Echo=f"Bearer {KEY}"),
    "truncated JSON": loopback.truncated,
    "slow drip": loopback.drip,
    "dropped connection": lambda told: loopback.drop,
    "huge reply": loopback.huge,
    "invalid UTF-8": loopback.invalid_utf8,
    "half a character": loopback.half_character,
}


@dataclass(frozen=True)
class Config:
    """Play turns of the guarded game against a faulty server, and count what was lost, scored and leaked."""

    turns: int = 10_000
    """Turns, rounded up to whole steps of all rows."""
    rate: float = 0.05
    """Share of the answers that go wrong."""
    rows: int = 64
    """Dialogues at a time."""
    timeout: float = 2.0
    """Seconds that one attempt may take; a slow drip takes them all."""
    attempts: int = 6
    """How often the client makes a request at most."""
    seed: int = 0
    """Of the faults and the dialogues."""
    out: Path = Path("runs/faults")
    """Run folder."""


@dataclass
class Figures:
    """What came of a run.

    Attributes:
        turns: turns played.
        requests: requests that the server got.
        faults: answers of it that went wrong.
        failed_attempts: attempts that the client counts as failed.
        lost: turns that ended in an error, or whose answer was another question's.
        scored: turns with a reward: only faulty answers are worth any.
        leaked: places in files, logs of all levels among them, where the key or a header with it stands.
    """

    turns: int = 0
    requests: int = 0
    faults: int = 0
    failed_attempts: int = 0
    lost: int = 0
    scored: int = 0
    leaked: int = 0


class Numbered:
    """An agent that numbers its turns, and an observer that sees nothing: no language model is needed."""

    action_space = Box(-1.0, 1.0, (1,), np.float32)
    observation_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self) -> None:
        self.said = 0

    def act(self, actions: np.ndarray, rows: Rows) -> list[str]:
        """Return a numbered question a row."""
        self.said += len(rows)
        return [f"turn {self.said - len(rows) + i}: what is it?" for i in range(len(rows))]

    def observe(self, rows: Rows) -> np.ndarray:
        """Return nothing worth seeing, `(n, 1)`."""
        return np.zeros((len(rows), 1), np.float32)

    def forget(self, rows: list[int]) -> None:
        """Nothing is kept."""


@dataclass
class Faulty:
    """Answers each question rightly at last; some answers go wrong, in ways drawn from a fixed seed.

    Attributes:
        rate: share of the answers that go wrong.
        rng: draws them.
        secrets: what each defender's situation keeps.
        seen: answers by fault, `""` for the right ones.
    """

    rate: float
    rng: np.random.Generator
    secrets: dict[str, str]
    seen: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: dict, number: int) -> Act:
        """Choose how to answer."""
        with self.lock:
            fault = str(self.rng.choice(list(FAULTS))) if self.rng.random() < self.rate else ""
            self.seen[fault] += 1
        situation, *_, question = (message["content"] for message in request["messages"])
        told = f"okay, it is {self.secrets[situation]}."
        return FAULTS[fault](told) if fault else says(answer_to(question))


def run(config: Config) -> Path:
    """Play, count, write the figures and print them; return the run folder.

    Raises:
        ValueError: something was lost, scored or leaked.
    """
    out = open_run(config.out, "faults", config)
    known = scenarios.load("guarded/train")
    secrets = {scenario.partner_situation: scenario.forbidden.text for scenario in known}
    faulty = Faulty(config.rate, np.random.default_rng(config.seed), secrets)
    agent, figures = Numbered(), Figures()
    # A function, since that is how `serving` tells a choice from an act
    choice = lambda request, number: faulty(request, number)  # noqa: E731
    os.environ[KEY_VARIABLE] = KEY  # keys come from there alone
    with logged(out / "log.txt"), serving(choice) as server:
        chat = ChatClient(
            ChatConfig(
                "faulty", server.url, KEY_VARIABLE, timeout=config.timeout, attempts=config.attempts,
                concurrency=config.rows,
            )
        )  # fmt: skip
        judge, rules = make_judge("disclosure"), CoreConfig(max_turns=3, rounds=True)
        core = DialogueCore(config.rows, known, agent, agent, OpenAIPartner(chat), judge, rules)
        errors = play(core, agent, config, figures)
        figures.requests, figures.faults = sum(faulty.seen.values()), sum(faulty.seen[name] for name in FAULTS)
        figures.failed_attempts = chat.usage.failed_attempts
        events = tensorboard_logger(out)
        for tag, value in core.scalars().items():
            events.record(tag, value)
        events.dump(figures.turns)
        events.close()
        logging.getLogger(__name__).info("%r %r", chat, errors)
        write_json(out / "dialogues.json", {"state": core.get_state(), "errors": errors})
    figures.leaked = leaks(out)
    rows = [ResultRow("faulty server", name, value, None, figures.turns, 1) for name, value in asdict(figures).items()]
    rows += [ResultRow(name, "answers", faulty.seen[name], None, figures.requests, 1) for name in FAULTS]
    write_results(out, rows)
    for row in rows:
        print(f"{row.system + ' ' + row.metric:<32}{row.value:>8}")
    if figures.lost or figures.scored or figures.leaked:
        raise ValueError(
            f"{figures.lost} turns lost, {figures.scored} faults scored, {figures.leaked} leaks: see {out}"
        )
    return out


def play(core: DialogueCore, agent: Numbered, config: Config, figures: Figures) -> list[str]:
    """Play the turns and count into `figures`; return the errors."""
    rows, errors = config.rows, []
    core.reset(range(rows), range(config.seed, config.seed + rows), [None] * rows)
    with tqdm(total=config.turns, unit="turn") as bar:
        while figures.turns < config.turns:
            first = agent.said
            result = core.step(np.zeros((rows, 1), np.float32))
            figures.turns += rows
            figures.lost += lost(result, first)
            figures.scored += int(np.count_nonzero(result.rewards))
            errors += [info["error"] for info in result.infos if "error" in info]
            over = np.flatnonzero(result.terminated | result.truncated)
            if len(over):
                core.reset(over, [None] * len(over), [None] * len(over))
            bar.update(rows)
    return errors


def lost(result: StepResult, first: int) -> int:
    """Return how many rows of a step did not get the answer to their own question; `first` is the first's number."""
    wanted = [answer_to(f"turn {first + i}: what is it?") for i in range(len(result.infos))]
    return sum(info.get("partner_text") != text for info, text in zip(result.infos, wanted, strict=True))


def answer_to(question: str) -> str:
    """Return the right answer, which gives nothing away."""
    return f"{question.partition(':')[0]}, you ask? my lips are sealed."


def leaks(folder: Path) -> int:
    """Return how often the key, or a header with it, stands in the files of a folder."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return sum(content.count(leak) for content in files for leak in LEAKS)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Write all that any logger says, on every level, to a file."""
    root, handler = logging.getLogger(), logging.FileHandler(path, "w", encoding="utf-8")
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()

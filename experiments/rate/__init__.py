"""Replies of several systems rated good, okay or bad by people, on a page that this machine serves to itself alone."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from werkzeug.serving import BaseWSGIServer, make_server

from experiments.rate import items, summary
from experiments.rate.answers import AnswerFile, read_all
from experiments.rate.page import make_app
from experiments.run_folder import open_run, write_results, write_text

__all__ = ["Config", "run"]

CHANGEABLE = ("out", "rater", "port", "summary")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Config:
    """Rate the replies of several systems in the browser; what is rated is saved at once, Ctrl-C ends."""

    replies: Path
    """JSON lines: `{"context": ["...", "..."], "candidates": {"system": "reply", ...}, "true_reply": "..."}`."""
    out: Path = Path("runs/rate")
    """Run folder: `ratings/RATER.jsonl`, and with `--summary` `results.json` and `summary.md`."""
    rater: str = "rater"
    """Who rates; each rater has a file and an order of their own."""
    checks: float = 0.2
    """Share of the dialogues with a true reply in which it is shown too: a careful rater calls it good or okay."""
    seed: int = 0
    """Shuffles dialogues and replies, and chooses the checks."""
    port: int = 8000
    """Port on 127.0.0.1 (0: a free one)."""
    summary: bool = False
    """Serve nothing; write and print what all raters' answers say."""


def run(config: Config) -> Path:
    """Serve the page until Ctrl-C, or summarise; return the run folder.

    Raises:
        FileNotFoundError: there are no replies.
        ValueError: a line of them is damaged, the folder was begun with others, or nothing has been rated yet.
    """
    if not 0 <= config.checks <= 1:
        raise ValueError(f"checks is {config.checks}, expected a share from 0 to 1")
    if config.summary:
        return summarise(config)
    server = make_page_server(config)
    print(f"rate on http://{LOOPBACK}:{server.server_port}/ as {config.rater}; Ctrl-C ends")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
    return config.out


def make_page_server(config: Config) -> BaseWSGIServer:
    """Open the run folder and return a server of the page, bound to the loopback address, that is yet to be started."""
    found = items.read(config.replies)
    out = open_run(config.out, "rate", config, [config.replies], CHANGEABLE)
    answers = AnswerFile(out, config.rater)
    checks = items.checks(found, config.checks, config.seed)
    shown = items.order(found, config.seed, config.rater)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line a request
    app = make_app(shown, checks, answers, config.rater, config.seed)
    return make_server(LOOPBACK, config.port, app, threaded=True)  # browsers open connections that they do not use


def summarise(config: Config) -> Path:
    """Write `results.json` and `summary.md`, and print the latter."""
    answers = read_all(config.out)
    if not answers:
        raise ValueError(f"nothing has been rated in {config.out / 'ratings'}")
    results = summary.rows(answers)
    write_results(config.out, results)
    text = summary.text(results, answers)
    write_text(config.out / "summary.md", text)
    print(text)
    return config.out

"""The rating page as a web application for one rater on this machine."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence

from flask import Flask, Response, abort, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from experiments.rate.answers import RATINGS, Answer, AnswerFile
from experiments.rate.items import Card, Item, cards
from experiments.rendering import render

LARGEST = 64 << 10
"""Bytes of an answer; a card takes about twenty."""
HINTS = {
    "good": "fits what was said, and is kind and worth saying",
    "okay": "could be said, but adds little",
    "bad": "does not fit, makes no sense, or hurts",
}


def make_app(items: Sequence[Item], checks: set[str], answers: AnswerFile, rater: str, seed: int) -> Flask:
    """Return the application.

    It answers requests to this machine's own name alone, and takes answers only with the token that its pages carry: no
    other site can send one. Systems are known to the server; the page holds places.

    Args:
        items: in the order in which they are shown.
        checks: ids of the items whose true reply is shown too.
        answers: where answers go, and those that are there.
        rater: who rates.
        seed: shuffles the replies.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(TRUSTED_HOSTS=["127.0.0.1", "localhost"], MAX_CONTENT_LENGTH=LARGEST)
    token = secrets.token_urlsafe()

    @app.get("/")
    def begin() -> AnyResponse:
        """Show the first item without an answer, or the end."""
        for number, item in enumerate(items, 1):
            if item.id not in answers.answers:
                return redirect(url_for("show", number=number))
        return _page("rate_end.html", total=len(items), answers=answers.path)

    @app.get("/<int:number>")
    def show(number: int) -> AnyResponse:
        """Show an item, with its ratings where it has been answered."""
        item, shown = _item(number), _cards(number)
        before = answers.answers.get(item.id)
        return _page(
            "rate.html",
            item=item,
            number=number,
            total=len(items),
            answered=len(answers.answers),
            replies=[(card.reply, before.ratings.get(card.systems[0]) if before else None) for card in shown],
            hints=HINTS,
            token=token,
        )

    @app.post("/<int:number>")
    def rate(number: int) -> AnyResponse:
        """Save the answer to an item, and go on."""
        if not hmac.compare_digest(request.form.get("token", "").encode(), token.encode()):
            abort(403, "this answer does not come from the page: open the page again")
        item, shown = _item(number), _cards(number)
        expected = [f"rating-{i}" for i in range(len(shown))]
        if sorted(request.form) != sorted(["token", *expected]):
            abort(400, f"the answer has the fields {sorted(request.form)}, expected token, {', '.join(expected)}")
        given = [request.form[name] for name in expected]
        for name, rating in zip(expected, given, strict=True):
            if rating not in RATINGS:
                abort(400, f"{name} is {rating!r:.40}, expected one of {', '.join(RATINGS)}")
        ratings = {system: rating for card, rating in zip(shown, given, strict=True) for system in card.systems}
        answers.add(Answer.now(item.id, rater, ratings))
        return redirect(url_for("begin"), 303)

    def _item(number: int) -> Item:
        if not 1 <= number <= len(items):
            abort(404, f"there is no dialogue {number}, expected 1 to {len(items)}")
        return items[number - 1]

    def _cards(number: int) -> list[Card]:
        item = _item(number)
        return cards(item, seed, rater, item.id in checks)

    return app


def _page(template: str, **values: object) -> Response:
    """Return a page that may run its own script and nothing else, and may stand in no other page."""
    nonce = secrets.token_urlsafe()
    response = Response(render(template, nonce=nonce, **values))
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    response.headers["Cache-Control"] = "no-store"
    return response

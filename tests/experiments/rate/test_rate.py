"""Through the HTTP client: systems stay hidden, answers are saved at once and safely, no other site can send one."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from dataclasses import replace

import httpx2
import pytest

from dialog_envs.corpora.files import CorpusError
from experiments import rate
from experiments.__main__ import main
from experiments.rate import answers as answer_files
from experiments.rate.answers import Answer, AnswerFile, read_all
from experiments.rate.items import TRUE, Item, cards, checks, order, read
from experiments.rate.page import make_app
from tests.experiments.rate.replies import REPLIES, write_replies


@pytest.fixture
def config(tmp_path):
    return rate.Config(write_replies(tmp_path / "replies.jsonl"), tmp_path / "out", rater="anna", checks=0.34, seed=3)


@pytest.fixture
def items(config):
    return read(config.replies)


@pytest.fixture
def client(config, items):
    config.out.mkdir()
    chosen = checks(items, config.checks, config.seed)
    return make_app(items, chosen, AnswerFile(config.out, "anna"), "anna", config.seed).test_client()


def token(page):
    return re.search(r'name="token" value="([^"]+)"', page.text).group(1)


def good_answer(client, number=1, rating="good"):
    page = client.get(f"/{number}")
    names = re.findall(r'name="(rating-\d+)"', page.text)
    return {"token": token(page), **dict.fromkeys(names, rating)}


def test_pages_name_no_system_and_run_no_reply(client, items):
    for number in range(1, len(items) + 1):
        page = client.get(f"/{number}").text
        assert not any(system in page for system in (*REPLIES, TRUE, "candidates"))
        assert "<script>document.title" not in page and "<b onclick" not in page
    assert "&lt;script&gt;document.title" in "".join(client.get(f"/{n}").text for n in (1, 2, 3))


def test_a_page_may_load_nothing_and_stand_in_no_other_page(client):
    page = client.get("/1")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy).group(1)
    assert re.findall(r"<script[^>]*>", page.text) == [f'<script nonce="{nonce}">']
    assert client.get("/1").headers["Content-Security-Policy"] != policy
    assert not re.search(r"https?://|<link|<img|@import|url\(", page.text)


def test_an_answer_is_saved_at_once_and_the_next_item_follows(client, config, items):
    assert client.get("/").headers["Location"] == "/1"
    done = client.post("/1", data=good_answer(client))
    assert (done.status_code, done.headers["Location"]) == (303, "/")
    (line,) = (config.out / "ratings" / "anna.jsonl").read_text().splitlines()
    assert json.loads(line)["ratings"].keys() - {TRUE} == set(REPLIES)
    assert client.get("/").headers["Location"] == "/2"
    for number in (2, 3):
        client.post(f"/{number}", data=good_answer(client, number))
    assert "all 3 dialogues are rated" in client.get("/").text
    assert [answer.item for answer in read_all(config.out)] == [item.id for item in items]


def test_an_answer_can_be_changed(client, config):
    client.post("/1", data=good_answer(client))
    assert client.get("/1").text.count("checked>") >= 3
    client.post("/1", data=good_answer(client, rating="bad"))
    (answer,) = read_all(config.out)
    assert set(answer.ratings.values()) == {"bad"}


def test_ratings_go_to_the_systems_whose_reply_was_rated(client, config, items):
    page = client.get("/1")
    data = {"token": token(page)}
    shown = re.findall(r'aria-label="reply \d+">\s*<p>(.*?)</p>', page.text, re.DOTALL)
    wanted = {"You must be so worried. Shall we look?": "good", "I like cats.": "okay"}
    for i, reply in enumerate(shown):
        data[f"rating-{i}"] = wanted.get(reply, "bad")
    client.post("/1", data=data)
    ratings = read_all(config.out)[0].ratings
    expected = {"system-alpha": "good", "system-beta": "okay", "system-gamma": "bad"}
    assert {name: rating for name, rating in ratings.items() if name != TRUE} == expected


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"token": "guess"}, 403, "does not come from the page"),
        ({"token": None}, 403, "does not come from the page"),
        ({"token": "é"}, 403, "does not come from the page"),
        ({"rating-0": "great"}, 400, "rating-0 is &#39;great&#39;, expected one of good, okay, bad"),
        ({"rating-0": "<i>"}, 400, "&lt;i&gt;"),
        ({"rating-0": None}, 400, "expected token, rating-0"),
        ({"rating-9": "good"}, 400, "expected token, rating-0"),
        ({"rating-0": "good" * 50_000}, 413, "Too Large"),
    ],
)
def test_bad_answers_are_refused_and_not_saved(change, status, message, client, config):
    data = {name: value for name, value in (good_answer(client) | change).items() if value is not None}
    answer = client.post("/1", data=data)
    assert answer.status_code == status and message in answer.text
    assert read_all(config.out) == []


def test_other_names_of_this_machine_are_refused(client):
    """A page of another site whose name is made to point here (DNS rebinding) could else read the token."""
    assert client.get("/1", headers={"Host": "evil.example:8000"}).status_code == 400
    assert client.get("/1", headers={"Host": "localhost:8000"}).status_code == 200


@pytest.mark.parametrize("path", ["/0", "/4", "/x", "/../run.json"])
def test_unknown_pages(path, client):
    assert client.get(path).status_code == 404


def test_the_server_is_bound_to_loopback_and_resumes(config):
    for expected in ("/1", "/2"):
        server = rate.make_page_server(replace(config, port=0))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert server.server_address[0] == "127.0.0.1"
            with httpx2.Client(base_url=f"http://127.0.0.1:{server.server_port}") as web:
                assert web.get("/").headers["Location"] == expected
                assert web.post("/1", data=good_answer(web)).status_code == 303
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def test_a_killed_write_keeps_the_answers_before_it(tmp_path, monkeypatch):
    file = AnswerFile(tmp_path, "anna")
    file.add(Answer.now("d0", "anna", {"a": "good"}))

    def killed(path, text):
        path.with_name(path.name + ".tmp").write_text(text[:20])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(answer_files, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            file.add(Answer.now("d1", "anna", {"a": "bad"}))
    again = AnswerFile(tmp_path, "anna")
    assert list(again.answers) == ["d0"] == list(file.answers)
    again.add(Answer.now("d1", "anna", {"a": "bad"}))
    assert [answer.ratings["a"] for answer in read_all(tmp_path)] == ["good", "bad"]


def test_answers_at_the_same_time_are_all_kept(tmp_path):
    file = AnswerFile(tmp_path, "anna")
    threads = [threading.Thread(target=file.add, args=(Answer(f"d{i}", "anna", {"a": "okay"}),)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_all(tmp_path)) == 20


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "x" * 41, "\u00e9"])
def test_names_of_raters(name, tmp_path):
    with pytest.raises(ValueError, match="expected at most 40 letters, digits"):
        AnswerFile(tmp_path, name)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "JSON"),
        ("[]", "a JSON dict"),
        ('{"context": ["a"]}', "'candidates' to be a dict"),
        ('{"context": "a", "candidates": {"s": "b"}}', "'context' to be a list"),
        ('{"context": [], "candidates": {"s": "b"}}', "a context, candidates and no blank text"),
        ('{"context": ["a"], "candidates": {}}', "a context, candidates and no blank text"),
        ('{"context": ["a"], "candidates": {"s": " "}}', "no blank text"),
        ('{"context": ["a"], "candidates": {"s": 1}}', "'s' to be a str"),
        ('{"context": ["a"], "candidates": {"true reply": "b"}}', "systems with names, none of them 'true reply'"),
        ('{"context": ["a"], "candidates": {"s": "b"}, "true": "c"}', "found 'true'"),
        ('{"context": ["a"], "candidates": {"s": "b"}, "id": "d0"}', "an id of its own, found 'd0' again"),
    ],
)
def test_damaged_lines_are_named(line, expected, config):
    config.replies.write_text(config.replies.read_text() + line + "\n")
    with pytest.raises(CorpusError, match=rf"replies\.jsonl, line 4: expected .*{re.escape(expected)}"):
        read(config.replies)


def test_damaged_ratings_are_named(tmp_path):
    AnswerFile(tmp_path, "anna").add(Answer("d0", "anna", {"a": "great"}))
    with pytest.raises(CorpusError, match=r"anna\.jsonl, line 1: expected ratings, each one of good, okay, bad"):
        AnswerFile(tmp_path, "anna")


def test_orders_are_shuffled_by_seed_and_rater(items):
    item = items[0]
    orders = [tuple(card.reply for card in cards(item, seed, "anna", True)) for seed in range(200)]
    assert cards(item, 7, "anna", True) == cards(item, 7, "anna", True)
    first = Counter(order[0] for order in orders)
    assert len(first) == 4 and min(first.values()) > 25  # each reply comes first now and then
    many = [Item(str(i), ("a",), {"s": "b"}) for i in range(30)]
    assert order(many, 0, "anna") == order(many, 0, "anna") != order(many, 0, "ben")
    assert sorted(order(many, 0, "ben"), key=lambda item: int(item.id)) == many


def test_equal_replies_are_one_card_and_all_its_systems_are_rated(items, client, config):
    shown = cards(items[2], 0, "anna", False)
    assert sorted(card.systems for card in shown) == [("system-alpha", "system-beta"), ("system-gamma",)]
    client.post("/3", data=good_answer(client, 3, "okay"))
    assert read_all(config.out)[0].ratings.keys() >= set(REPLIES)


def test_checks_hold_the_true_reply(items):
    assert len(checks(items, 0.34, 0)) == 1 and checks(items, 0.0, 0) == set() and len(checks(items, 0.01, 0)) == 1
    assert checks(items, 1.0, 0) == {item.id for item in items}
    assert checks([replace(item, true_reply=None) for item in items], 1.0, 0) == set()
    assert any(card.systems == (TRUE,) for card in cards(items[0], 0, "anna", True))
    assert not any(TRUE in card.systems for card in cards(items[0], 0, "anna", False))


def test_settings_that_would_mix_answers_are_refused(config):
    rate.make_page_server(replace(config, port=0)).server_close()
    with pytest.raises(ValueError, match="was begun with seed 3, now it is 4"):
        rate.make_page_server(replace(config, port=0, seed=4))
    rate.make_page_server(replace(config, port=0, rater="ben")).server_close()
    write_replies(config.replies, 2)
    with pytest.raises(ValueError, match=r"was begun with .*replies\.jsonl"):
        rate.make_page_server(replace(config, port=0))
    with pytest.raises(ValueError, match="checks is 2, expected a share"):
        rate.run(replace(config, checks=2))


def test_nothing_rated_is_said(config, capsys):
    assert main(["rate", "--replies", str(config.replies), "--out", str(config.out), "--summary"]) == 1
    assert "nothing has been rated in" in capsys.readouterr().err

"""A person rates in a real browser: by dragging, by keys, by clicks, and without scripts."""

from __future__ import annotations

import shutil
import threading

import pytest

from experiments import rate
from experiments.rate.answers import read_all
from experiments.rate.items import checks, order, read
from tests.experiments.rate.replies import write_replies

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.slow,
]
WAIT = 120_000  # ms: the machine may be busy


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=WAIT)
        yield browser
        browser.close()


@pytest.fixture
def config(tmp_path):
    return rate.Config(write_replies(tmp_path / "replies.jsonl"), tmp_path / "out", rater="anna", checks=1.0, port=0)


@pytest.fixture
def address(config):
    server = rate.make_page_server(config)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def open_page(browser, address, **options):
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(WAIT)
    page.goto(address)
    return page


def shown(page, area):
    return page.locator(f"{area} .reply p").all_inner_texts()


def test_by_dragging(browser, address, config):
    page = open_page(browser, address)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    replies = shown(page, ".tray")
    assert page.locator("button").is_disabled()
    said = {}
    for i, reply in enumerate(replies):
        rating = ("good", "okay", "bad")[i % 3]
        page.locator(".tray .reply").first.drag_to(page.locator(f".area.{rating}"))
        said[reply] = rating
        assert reply in shown(page, f".area.{rating}")
        assert page.locator("[role=status]").inner_text() == f"{i + 1} of {len(replies)} placed"
    page.locator(".area.good .reply").first.drag_to(page.locator(".tray"))  # a place can be taken back
    assert shown(page, ".tray") == [replies[0]] and page.locator("button").is_disabled()
    page.locator(".tray .reply").drag_to(page.locator(".area.bad"))
    said[replies[0]] = "bad"
    page.locator("button").click()
    page.wait_for_url("**/2")
    (answer,) = read_all(config.out)
    items = {item.id: item for item in read(config.replies)}
    candidates = {**items[answer.item].candidates, "true reply": items[answer.item].true_reply}
    assert answer.ratings == {system: said[reply] for system, reply in candidates.items()}
    assert errors == [] and page.title() == "Dialogue 2 of 3"  # no reply has run as a script


def test_by_keys_alone(browser, address, config):
    page = open_page(browser, address)
    count = page.locator(".reply").count()
    page.locator(".tray .reply").first.focus()
    for key in ("1", "2", "3", "1")[:count]:
        page.keyboard.press(key)  # the next reply has the focus, and the button after the last
    page.keyboard.press("Enter")
    page.wait_for_url("**/2")
    (answer,) = read_all(config.out)
    assert sorted(set(answer.ratings.values())) == ["bad", "good", "okay"]


def test_by_clicks_and_back(browser, address):
    page = open_page(browser, address)
    for reply in page.locator(".reply").all():
        page.locator(".tray label.okay").first.click()
        assert reply is not None
    assert shown(page, ".tray") == [] and len(shown(page, ".area.okay")) >= 3
    page.locator("button").click()
    page.wait_for_url("**/2")
    page.get_by_text("back to dialogue 1").click()
    page.wait_for_url("**/1")
    assert len(shown(page, ".area.okay")) >= 3 and page.locator("button").is_enabled()


def test_without_scripts(browser, address, config):
    page = open_page(browser, address, java_script_enabled=False)
    for reply in page.locator(".reply").all():
        reply.locator("label.good").click()
    page.locator("button").click()
    page.wait_for_url("**/2")
    assert set(read_all(config.out)[0].ratings.values()) == {"good"}


def test_another_site_cannot_answer(browser, address, config):
    """A page of another origin posts all ratings by a form, as the browser lets it; only the token is not there."""
    page = open_page(browser, "about:blank")
    first = order(read(config.replies), config.seed, config.rater)[0]
    assert first.id in checks(read(config.replies), 1.0, config.seed)
    fields = "".join(f'<input name="rating-{i}" value="good">' for i in range(4))
    page.set_content(f'<form method="post" action="{address}1"><input name="token" value="?">{fields}</form>')
    with page.expect_navigation() as moved:
        page.evaluate("document.forms[0].submit()")
    assert moved.value.status == 403
    assert read_all(config.out) == []

"""The search page in headless Chromium, by keyboard where a person could; skipped where there is no Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import pytest

from flows.http_app import create_app
from schemas.settings import Settings
from tests.flows.conftest import ATTACK, HOSTILE, serving

playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[browser]'")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

QUESTION = "which vector store does not need a separate server?"


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(hostile: Settings) -> Iterator[str]:
    with serving(create_app(hostile)) as url:
        yield url


@pytest.fixture
def page(browser: playwright.Browser, url: str) -> Iterator[playwright.Page]:
    """A page that fails the test where it logs an error, throws, or asks another server."""
    context = browser.new_context(base_url=url, viewport={"width": 1200, "height": 900})
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda said: said.type == "error" and "status of 40" not in said.text and wrong.append(said.text)
    )
    page.on("request", lambda asked: asked.url.startswith((url, "data:")) or wrong.append(asked.url))
    yield page
    context.close()
    assert wrong == []


def test_question_is_asked_filtered_and_read_by_keyboard_alone(page: playwright.Page) -> None:
    page.goto("/")
    page.keyboard.type(QUESTION)  # the question has the focus
    page.keyboard.press("Enter")
    playwright.expect(page.locator(".hit").first).to_contain_text("A vector store inside your process")
    assert {"vector", "store"} <= set(page.locator(".hit .text").first.locator("mark").all_inner_texts())
    stages = page.locator(".stages").first.inner_text().split()
    assert stages[::3] == ["bm25", "vectors", "fusion", "rerank"]
    assert stages[1] == "#1"
    assert "over" in page.locator("#said").inner_text()

    page.keyboard.press("Escape")
    page.keyboard.press("f")
    page.keyboard.press("Tab")
    page.keyboard.type("html")
    page.keyboard.press("Enter")
    playwright.expect(page.locator(".hit .file b").first).to_have_text("vector-database-server.html")
    files = page.locator(".hit .file b").all_inner_texts()
    assert files
    assert all(file.endswith(".html") for file in files)
    playwright.expect(page.locator("#set")).to_have_text(": 1 set")
    assert "type=html" in page.url

    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    playwright.expect(page.locator(".hit h2 button").first).to_have_attribute("aria-expanded", "true")
    playwright.expect(page.locator(".more")).to_contain_text("vector-database-server.html")

    page.go_back()
    playwright.expect(page.locator(".hit .file b").first).to_have_text("embedded-vector-store.md")
    playwright.expect(page.locator("[name=query]")).to_have_value(QUESTION)


def test_pool_terms_and_number_of_hits_are_the_servers(page: playwright.Page) -> None:
    page.goto("/?query=vector+store&pool=4&k=3&explain=true")
    playwright.expect(page.locator(".hit")).to_have_count(3)
    playwright.expect(page.locator("#said")).to_contain_text("over 4 candidates")
    playwright.expect(page.locator(".terms").first).to_contain_text("vector")


def test_context_and_store_have_views_of_their_own(page: playwright.Page, hostile: Settings) -> None:
    page.goto("/?query=vector+store")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    playwright.expect(page.locator("#prompt pre")).to_contain_text("embedded-vector-store.md")
    page.locator("[name=form]").select_option("xml")
    playwright.expect(page.locator("#prompt pre")).to_contain_text('<passage id="1"')
    page.locator("[name=budget]").fill("60")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#said")).to_contain_text("of 60 tokens")
    page.locator("#tab-context").focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#store")).to_contain_text("empty<script>.md")
    playwright.expect(page.locator("#store")).to_contain_text("documents")
    playwright.expect(page.locator("#said")).to_contain_text(str(hostile.store))


def test_hostile_documents_are_shown_and_not_run(page: playwright.Page) -> None:
    page.goto("/?query=pelicans&explain=true&k=2")
    first = page.locator(".hit").first
    playwright.expect(first).to_contain_text("<img src=x onerror=window.pwned=1>.md")
    first.locator("h2 button").click()
    shown = first.inner_text()
    assert f"{ATTACK} and pelicans agree" in shown
    assert '<img src=x onerror=window.pwned=1> & "quotes" > {{constructor}} 🙂🙂 <b onclick=alert(1)> pelican' in shown
    assert "🙂🙂" in shown
    assert first.locator("h2 mark, .text mark").all_inner_texts() == re.findall("pelicans?", HOSTILE)
    page.keyboard.press("2")
    playwright.expect(page.locator("#prompt pre")).to_contain_text(ATTACK)
    page.keyboard.press("3")
    playwright.expect(page.locator("#store")).to_contain_text("empty<script>.md")
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, script").count() == 1  # the page's own script


def test_question_in_the_address_is_text(page: playwright.Page) -> None:
    page.goto("/?query=%3Cimg+src%3Dx+onerror%3Dwindow.pwned%3D1%3E&view=nothing&path=%3Cb%3E")
    playwright.expect(page.locator("#hits")).to_contain_text("No document passes these filters")
    assert page.evaluate("window.pwned") is None


def test_refusal_is_told(page: playwright.Page) -> None:
    page.goto("/?query=x&generation=99")
    playwright.expect(page.locator("#said .error")).to_contain_text("has no generation 99")
    page.goto("/?query=x&after=2026-02-01&before=2026-01-01")
    playwright.expect(page.locator("#said .error")).to_contain_text("exchange the two")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_shows_everything_without_scrolling_sideways(page: playwright.Page, scheme: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    for path in ("/", "/?query=pelicans&explain=true", "/?query=vector+store&view=context", "/?view=store"):
        page.goto(path)
        page.locator("#main:not([aria-busy])").wait_for()
        playwright.expect(page.locator("section:not([hidden])")).not_to_be_empty()
        wide = page.evaluate(
            "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
            ".map(e => e.outerHTML.slice(0, 99))"
        )
        assert [element for element in wide if "skip" not in element] == [], path


def test_token_is_asked_for_until_it_is_right(browser: playwright.Browser, built: Settings) -> None:
    guarded = Settings(store=built.store, cache=built.cache, http_token="right")  # type: ignore[arg-type]
    with serving(create_app(guarded)) as url, browser.new_context(base_url=url) as context:
        page = context.new_page()
        page.goto("/?query=vector+store")
        for token in ("wrong", "right"):
            page.locator("#login input").fill(token)
            page.keyboard.press("Enter")
            if token == "wrong":
                playwright.expect(page.locator("#login")).to_contain_text("not the token")
        playwright.expect(page.locator(".hit").first).to_be_visible()
        playwright.expect(page.locator("#login")).to_be_hidden()
        page.reload()
        playwright.expect(page.locator(".hit").first).to_be_visible()

"""The chat page in a real Chromium: what a customer sees and does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.conversations import Store
from featherdesk.agent.handoff import summarize
from playwright.sync_api import Page, expect, sync_playwright

pytestmark = [pytest.mark.end_to_end, pytest.mark.browser]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1100, "height": 900}, locale="en-GB")
    opened = context.new_page()
    opened.asked = []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.goto(server.url)
    opened.wait_for_selector("#question textarea", timeout=60_000)
    opened.wait_for_timeout(1500)
    yield opened
    context.close()


def _ask(page: Page, question: str, replies: int) -> None:
    """Ask and wait until the reply with this number is whole."""
    page.fill("#question textarea", question)
    page.press("#question textarea", "Enter")
    expect(page.locator("#chat .bot.message")).to_have_count(replies, timeout=60_000)
    expect(page.locator("#chat")).not_to_contain_text("…", timeout=60_000)
    shown = ""
    while shown != _bubbles(page):
        shown = _bubbles(page)
        page.wait_for_timeout(2000)


def _bubbles(page: Page) -> str:
    return page.locator("#chat").inner_text()


def test_three_questions_with_sources_and_no_request_leaves(page: Page, server: Any) -> None:
    _ask(page, "How much is standard UK delivery?", 1)
    assert "£" in _bubbles(page)
    assert "Source:" in _bubbles(page)
    _ask(page, "can I bring back boots I already walked in?", 2)
    _ask(page, "what is the capital of Peru?", 3)
    assert "talk to a person" in _bubbles(page).lower()
    if DOCS.is_dir():
        page.screenshot(path=str(DOCS / "chat.png"))
    outside = [u for u in page.asked if not u.startswith((server.url, "data:", "blob:"))]  # type: ignore[attr-defined]
    assert not outside


def test_a_source_opens(page: Page) -> None:
    _ask(page, "How much is standard UK delivery?", 1)
    title = page.get_by_text("Source:").first
    before = len(_bubbles(page))
    title.click()
    page.wait_for_timeout(500)
    assert len(_bubbles(page)) > before


def test_a_conversation_survives_a_reload_and_a_new_chat_forgets(page: Page) -> None:
    _ask(page, "How much is standard UK delivery?", 1)
    page.reload()
    page.wait_for_selector("#question textarea")
    expect(page.locator("#chat")).to_contain_text("standard UK delivery", timeout=20_000)
    page.click("#fresh")
    expect(page.locator("#chat")).not_to_contain_text("standard UK delivery", timeout=20_000)


def test_a_conversation_survives_a_restart_of_the_server(
    browser: Any, shop: Path, start: Any
) -> None:
    first = start(shop).wait(page=True)
    context = browser.new_context(locale="en-GB")
    opened = context.new_page()
    opened.goto(first.url)
    opened.wait_for_selector("#question textarea", timeout=60_000)
    opened.wait_for_timeout(1500)
    _ask(opened, "How much is standard UK delivery?", 1)
    first.stop()
    second = start(shop, "--port", str(first.port))
    second.url = first.url
    second.wait(page=True)
    opened.goto(first.url)
    expect(opened.locator("#chat")).to_contain_text("standard UK delivery", timeout=60_000)
    context.close()
    second.stop()


def test_a_person_is_asked_for_once(page: Page) -> None:
    page.click("#person")
    expect(page.locator("#chat")).to_contain_text("H-0", timeout=20_000)
    number = _bubbles(page).split("H-")[1][:5]
    page.click("#person")
    expect(page.locator("#chat")).to_contain_text("already", timeout=20_000)
    assert _bubbles(page).count(f"H-{number}") == 2


def test_a_contact_reaches_staff_but_not_the_chat(page: Page, shop: Path) -> None:
    page.click("#person")
    expect(page.locator("#chat")).to_contain_text("H-0", timeout=20_000)
    number = "H-" + _bubbles(page).split("H-")[1][:5]
    page.fill("#reach-at textarea, #reach-at input", "ann@b.example")
    page.fill("#reach-note textarea, #reach-note input", "order 4711")
    page.click("#reach-send")
    expect(page.locator("#chat")).to_contain_text("noted for your request", timeout=20_000)
    expect(page.locator("#reach")).to_be_hidden()
    page.reload()
    expect(page.locator("#chat")).to_contain_text(number, timeout=60_000)
    assert "ann@b.example" not in _bubbles(page)
    store = Store.beside(shop)
    summary = summarize(store, number)
    store.close()
    assert summary is not None
    assert (summary.contact, summary.note) == ("ann@b.example", "order 4711")
    assert "ann@b.example" not in str(summary.conversation)


def test_a_person_is_offered_once_and_a_yes_takes_it(page: Page, shop: Path) -> None:
    _ask(page, "what is the capital of Peru?", 1)
    _ask(page, "how tall is the Eiffel tower?", 2)
    assert _bubbles(page).count("Would you like to talk to a person?") == 1
    _ask(page, "talk to a person", 3)
    assert "Your number is H-" in _bubbles(page)
    expect(page.locator("#reach")).to_be_visible()
    number = "H-" + _bubbles(page).split("H-")[1][:5]
    _ask(page, "who won the world cup in 1998?", 4)
    assert "asked already" in _bubbles(page)
    expect(page.locator("#reach")).to_be_hidden()
    store = Store.beside(shop)
    assert [i.number for i in store.inbox() if i.kind == "handoff"].count(number) == 1
    request = store.request(number)
    store.close()
    assert request is not None
    assert request.reason == "failed_twice"


def test_a_receipt_opens_from_a_small_link_and_is_kept(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    _ask(page, "How much is standard UK delivery?", 1)
    card = page.locator(".receipt").first
    expect(card).to_be_hidden()
    page.get_by_text("Why this answer?").click()
    expect(card).to_be_visible()
    for words in ("Match", "needed", "£4.95", "source", "int4", "checking"):
        expect(card).to_contain_text(words)
    page.locator(".why").scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    if DOCS.is_dir():
        page.screenshot(path=str(DOCS / "receipt.png"))
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.reload()
    page.wait_for_selector(".why", timeout=60_000)
    page.keyboard.press("Tab")
    page.locator(".why summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".receipt")).to_contain_text("£4.95")


def test_copying_gives_words_and_no_receipt(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    _ask(page, "How much is standard UK delivery?", 1)
    page.locator("#chat button[aria-label*='opy']").nth(1).click()
    page.wait_for_timeout(500)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert "£4.95" in copied
    assert "\\" not in copied
    assert "<" not in copied
    assert "Why this answer" not in copied


def test_a_thumb_down_asks_for_the_reason(page: Page, shop: Path) -> None:
    _ask(page, "How much is standard UK delivery?", 1)
    page.locator("#chat button[aria-label*='islike']").first.click()
    page.wait_for_selector("#reason textarea, #reason input", timeout=20_000)
    page.locator("#reason textarea, #reason input").first.fill("wrong price")
    page.get_by_text("Send reason").click()
    page.wait_for_timeout(1500)
    store = Store.beside(shop)
    assert "wrong price" in [item.note for item in store.inbox() if item.kind == "thumb_down"]
    store.close()


def test_the_interface_speaks_chinese_and_a_suggestion_answers(page: Page) -> None:
    page.get_by_text("中文").click()
    expect(page.locator("#person")).to_have_text("联系人工客服", timeout=20_000)
    page.locator(".suggestion").first.click()
    expect(page.locator("#chat .bot.message")).to_have_count(1, timeout=60_000)


def test_hostile_text_is_shown_as_text(page: Page, server: Any) -> None:
    page.on("dialog", lambda _: pytest.fail("a script ran"))
    _ask(
        page,
        "<script>alert(1)</script><img src=https://evil.example/x.png> [a](javascript:alert(1))",
        1,
    )
    assert "<script>alert(1)</script>" in _bubbles(page)
    assert not [u for u in page.asked if "evil.example" in u]  # type: ignore[attr-defined]


def test_the_page_fits_360_pixels_and_works_by_keyboard(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_timeout(800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.focus("#question textarea")
    page.keyboard.type("How much is standard UK delivery?")
    page.keyboard.press("Enter")
    expect(page.locator("#chat .bot.message")).to_have_count(1, timeout=60_000)
    expect(page.locator(".why")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(1000)
    if DOCS.is_dir():
        page.screenshot(path=str(DOCS / "chat-phone.png"))


def test_controls_have_names_for_screen_readers(page: Page) -> None:
    names = page.evaluate(
        "[...document.querySelectorAll('button, textarea, input')].filter(e => e.offsetParent)"
        ".filter(e => !(e.innerText || e.getAttribute('aria-label') || e.title || e.placeholder"
        " || (e.labels && e.labels.length))).map(e => e.outerHTML.slice(0, 120))"
    )
    assert names == []


def test_a_choice_is_offered_as_buttons_and_answers(page: Page) -> None:
    expect(page.locator("#choices")).to_be_hidden()
    _ask(page, "can I spread the cost of a £400 tent", 1)
    assert "1. Can I pay in instalments?" in _bubbles(page)
    choice = page.locator("#choices label", has_text="Can I pay in instalments?")
    expect(choice).to_be_visible(timeout=10_000)
    choice.click()
    expect(page.locator("#chat")).to_contain_text("Source:", timeout=60_000)
    expect(page.locator("#choices")).to_be_hidden(timeout=10_000)

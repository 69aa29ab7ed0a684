"""The script tag on another origin's page, in a real Chromium."""

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from featherdesk.agent.stages import BotConfig, Page
from featherdesk.serve.api import create_app
from playwright.sync_api import Browser, FrameLocator, expect, sync_playwright

DOCS = Path(__file__).resolve().parents[2] / "docs"
ASKED = "How much is standard UK delivery?"
HOST = """<!doctype html>
<html lang="{lang}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Larkfell Outfitters</title>
<link rel="icon" href="data:,">
<style>
  body {{ margin: 0; font: 17px/1.6 system-ui, sans-serif; color: #1e293b; }}
  nav {{ display: flex; flex-wrap: wrap; gap: 8px 28px; align-items: baseline; padding: 18px 6vw; }}
  nav b {{ flex: 1; font-size: 21px; white-space: nowrap; }}
  header {{ padding: 9vh 6vw; background: #ecfdf5; }}
  h1 {{ max-width: 16ch; margin: 0 0 12px; font-size: clamp(30px, 5vw, 52px); line-height: 1.15; }}
  main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 24px;
    padding: 36px 6vw; }}
  i {{ display: block; height: 130px; border-radius: 14px; }}
</style>
<nav><b>Larkfell Outfitters</b><span>Tents</span><span>Boots</span><span>Sale</span></nav>
<header><h1>Out there is better than in here.</h1><p>Gear that lasts longer than the trip.</p></header>
<main><div><i style="background: #bbf7d0"></i>Two-person tent<br>£189</div>
<div><i style="background: #fde68a"></i>Walking boots<br>£120</div>
<div><i style="background: #bfdbfe"></i>Rain jacket<br>£95</div>
<div><i style="background: #fecaca"></i>Rucksack, 40 l<br>£80</div></main>
{tag}
</html>"""


class _Shop(BaseHTTPRequestHandler):
    """A host page with whatever `tag` its address asks for."""

    def do_GET(self) -> None:
        asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        page = HOST.format(lang=asked.get("lang", "en"), tag=asked["tag"]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


def _site() -> ThreadingHTTPServer:
    site = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    return site


def _origin(site: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{site.server_port}"


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[str, str]]:
    """Two origins: one that may frame the chat and one that may not."""
    listed, other = _site(), _site()
    yield _origin(listed), _origin(other)
    for site in (listed, other):
        site.shutdown()
        site.server_close()


@pytest.fixture(scope="module")
def chat(shop: Path, start: Any, sites: tuple[str, str]) -> Iterator[str]:
    running = start(shop, env={"FEATHERDESK_PAGE_EMBED_ORIGINS": sites[0]}).wait(page=True)
    yield running.url
    running.stop()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as driver:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        running = driver.chromium.launch(executable_path=chromium, args=flags)
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser, sites: tuple[str, str], chat: str) -> Iterator[Callable[..., Any]]:
    """Opens a host page with the script tag and keeps what its console says."""
    contexts = []

    def opened(
        *, width: int = 1280, height: int = 800, lang: str = "en", tag: str = "", **options: Any
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale="en-GB", **options
        )
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(f"error: {error}"))
        tag = tag or f'<script src="{chat}/embed.js" async></script>'
        page.goto(f"{sites[0]}/?{httpx.QueryParams(lang=lang, tag=tag)}")
        return page

    yield opened
    for context in contexts:
        context.close()


def _open(page: Any) -> FrameLocator:
    """Click the button and wait for the chat in the frame."""
    page.click("#launch")
    return _loaded(page)


def _loaded(page: Any) -> FrameLocator:
    frame: FrameLocator = page.frame_locator("featherdesk-chat iframe")
    frame.locator("#question textarea").wait_for(timeout=60_000)
    page.wait_for_selector("featherdesk-chat iframe.ready")
    page.wait_for_timeout(1500)
    return frame


def _answered(frame: FrameLocator) -> None:
    expect(frame.locator("#chat .bot.message")).to_have_count(1, timeout=60_000)
    expect(frame.locator("#chat")).to_contain_text("Source:", timeout=60_000)


@pytest.mark.end_to_end
@pytest.mark.browser
def test_one_tag_gives_a_chat_that_streams_and_escape_closes(visit: Callable[..., Any]) -> None:
    page = visit()
    expect(page.locator("#launch")).to_have_text("Ask us")
    frame = _open(page)
    expect(frame.locator("#question textarea")).to_be_focused()
    frame.locator("#chat").evaluate(
        "chat => { window.lengths = new Set(); new MutationObserver(() => window.lengths.add("
        "chat.querySelector('.bot.message')?.innerText.length)).observe(chat, "
        "{childList: true, subtree: true, characterData: true}); }"
    )
    page.keyboard.type(ASKED)
    page.keyboard.press("Enter")
    _answered(frame)
    expect(frame.locator("#chat")).to_contain_text("£")
    assert len(frame.locator("#chat").evaluate("() => [...window.lengths]")) > 4
    page.wait_for_timeout(1500)
    if DOCS.is_dir():
        page.screenshot(path=str(DOCS / "embed.png"))
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(page.locator("#launch")).to_be_focused()
    assert not [said for said in page.said if said.startswith("error")]


@pytest.mark.end_to_end
@pytest.mark.browser
def test_at_360_pixels_it_fills_the_screen_and_works_by_keyboard(
    visit: Callable[..., Any],
) -> None:
    page = visit(width=360, height=740)
    page.wait_for_selector("#launch")
    assert page.locator("#launch").bounding_box()["x"] > 100
    page.keyboard.press("Tab")
    expect(page.locator("#launch")).to_be_focused()
    page.keyboard.press("Enter")
    frame = _loaded(page)
    box = page.locator("dialog").bounding_box()
    assert box == {"x": 0, "y": 0, "width": 360, "height": 740}
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert frame.locator("html").evaluate("html => html.scrollWidth") <= 360
    expect(frame.locator("#question textarea")).to_be_in_viewport()
    expect(frame.locator("#actions")).to_be_in_viewport()
    page.keyboard.type(ASKED)
    page.keyboard.press("Enter")
    _answered(frame)
    page.click("#close")
    expect(page.locator("#launch")).to_be_focused()


@pytest.mark.end_to_end
@pytest.mark.browser
def test_the_conversation_survives_a_reload_of_the_host_page(visit: Callable[..., Any]) -> None:
    page = visit()
    frame = _open(page)
    frame.locator("#question textarea").fill(ASKED)
    frame.locator("#question textarea").press("Enter")
    _answered(frame)
    page.reload()
    expect(page.locator("#launch")).to_have_attribute("aria-expanded", "true")
    expect(_loaded(page).locator("#chat")).to_contain_text(ASKED, timeout=20_000)
    assert page.evaluate("document.activeElement.tagName") == "BODY"


@pytest.mark.end_to_end
@pytest.mark.browser
def test_an_origin_that_is_not_listed_gets_no_chat_and_is_told_why(
    visit: Callable[..., Any], sites: tuple[str, str], chat: str
) -> None:
    page = visit()
    tag = f'<script src="{chat}/embed.js" async></script>'
    with page.expect_console_message(lambda message: "embed_origins" in message.text) as told:
        page.goto(f"{sites[1]}/?{httpx.QueryParams(tag=tag)}")
    assert f'embed_origins = ["{sites[1]}"]' in told.value.text
    assert page.locator("featherdesk-chat").count() == 0


@pytest.mark.end_to_end
@pytest.mark.browser
def test_an_origin_that_is_not_listed_cannot_frame_the_page(
    visit: Callable[..., Any], sites: tuple[str, str], chat: str
) -> None:
    tag = f'<iframe src="{chat}/"></iframe>'
    page = visit(tag=tag)
    page.frame_locator("iframe").locator("#question textarea").wait_for(timeout=60_000)
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        page.goto(f"{sites[1]}/?{httpx.QueryParams(tag=tag)}")
    assert page.frame_locator("iframe").locator("#question").count() == 0


@pytest.mark.end_to_end
@pytest.mark.browser
def test_button_and_chat_speak_the_language_of_the_host_page(visit: Callable[..., Any]) -> None:
    page = visit(lang="zh-CN")
    expect(page.locator("#launch")).to_have_text("在线咨询")
    frame = _open(page)
    expect(frame.locator("#person")).to_have_text("联系人工客服", timeout=20_000)
    expect(page.locator("#close")).to_have_attribute("aria-label", "关闭对话")


@pytest.mark.end_to_end
@pytest.mark.browser
def test_the_tag_sets_label_colour_and_side(visit: Callable[..., Any], chat: str) -> None:
    page = visit(
        tag=f'<script src="{chat}/embed.js" data-label="Need help?" data-color="#facc15" '
        'data-position="left"></script>'
    )
    button = page.locator("#launch")
    expect(button).to_have_text("Need help?")
    expect(button).to_have_css("background-color", "rgb(250, 204, 21)")
    expect(button).to_have_css("color", "rgb(11, 18, 32)")
    assert button.bounding_box()["x"] == 20
    frame = _open(page)
    expect(frame.locator("#send")).to_have_css("background-color", "rgb(250, 204, 21)")
    page.evaluate("featherdesk.close()")
    expect(page.locator("dialog")).to_be_hidden()
    page.evaluate("featherdesk.open()")
    expect(page.locator("dialog")).to_be_visible()


@pytest.mark.end_to_end
@pytest.mark.browser
def test_a_colour_that_is_none_is_warned_about_and_a_second_tag_adds_nothing(
    visit: Callable[..., Any], chat: str
) -> None:
    tag = f'<script src="{chat}/embed.js" data-color="greenish"></script>'
    page = visit(tag=tag + tag)
    expect(page.locator("#launch")).to_have_css("background-color", "rgb(4, 120, 87)")
    assert page.locator("featherdesk-chat").count() == 1
    assert 'data-color="greenish" is not a colour' in " ".join(page.said)


@pytest.mark.end_to_end
@pytest.mark.browser
def test_screen_readers_are_told_what_is_what(visit: Callable[..., Any]) -> None:
    page = visit()
    button = page.get_by_role("button", name="Ask us")
    expect(button).to_have_attribute("aria-expanded", "false")
    expect(button).to_have_attribute("aria-haspopup", "dialog")
    _open(page)
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_role("dialog", name="Larkfell Outfitters")).to_be_visible()
    expect(page.locator("featherdesk-chat iframe")).to_have_attribute(
        "title", "Larkfell Outfitters"
    )
    expect(page.get_by_role("button", name="Close the chat")).to_be_visible()


@pytest.fixture
def served(
    bot_of: Callable[..., Any], serving: Callable[[Any], str]
) -> Callable[..., tuple[Any, str]]:
    """A bot with page settings, and where it is served."""

    def make(**settings: Any) -> tuple[Any, str]:
        bot = bot_of("")
        bot.agent.config = BotConfig(page=Page(**settings))
        return bot, serving(create_app(bot))

    return make


def test_the_script_is_cached_and_asked_for_anew_when_it_changed(
    served: Callable[..., tuple[Any, str]],
) -> None:
    bot, url = served(title="Shop")
    first = httpx.get(f"{url}/embed.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    assert first.headers["cache-control"] == "public, max-age=300"
    assert first.headers["cross-origin-resource-policy"] == "cross-origin"
    again = partial(httpx.get, headers={"if-none-match": first.headers["etag"]})
    same = again(f"{url}/embed.js")
    assert (same.status_code, same.content) == (304, b"")
    bot.agent.config = BotConfig(page=Page(title="Another shop"))
    assert again(f"{url}/embed.js").status_code == 200


def test_any_title_stands_in_the_script_as_a_text(served: Callable[..., tuple[Any, str]]) -> None:
    title = 'A "shop" \\ </script> */ `${1}` 商店\u2028'
    _, url = served(title=title)
    line = next(
        line for line in httpx.get(f"{url}/embed.js").text.splitlines() if "const BOT" in line
    )
    told = json.loads(line.removeprefix("  const BOT = ").removesuffix(";"))
    assert told == {"title": title, "origins": []}


def test_only_the_listed_origins_may_frame(served: Callable[..., tuple[Any, str]]) -> None:
    bot, url = served()
    headers = httpx.get(f"{url}/healthz").headers
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert "frame-ancestors 'self';" in headers["content-security-policy"]
    origins = ("https://shop.example", "https://*.shop.example:8443")
    bot.agent.config = BotConfig(page=Page(embed_origins=origins))
    headers = httpx.get(f"{url}/healthz").headers
    assert "x-frame-options" not in headers
    assert (
        "frame-ancestors 'self' https://shop.example https://*.shop.example:8443;"
        in headers["content-security-policy"]
    )

"""Does the chat's page show every tab the same answer while it grows?"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from example.chat_server import ChatServer
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.slow
LONG = "count to 400"
ANSWER = ".message[data-role=assistant] .body"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    with ChatServer(tmp_path_factory.mktemp("chat"), CHAT_MODEL_PACE_MS="25") as server:
        yield server


@pytest.fixture
def other_page(browser: Browser) -> Iterator[Page]:
    """A page of another browser profile: nothing but the server connects the two."""
    context = browser.new_context(viewport={"width": 390, "height": 780}, color_scheme="dark")
    yield context.new_page()
    context.close()


def ask(page: Page, prompt: str) -> None:
    box = page.get_by_label("Your message")
    box.fill(prompt)
    box.press("Enter")


def open_new_chat(page: Page, chat: ChatServer, prompt: str) -> None:
    page.goto(chat.url)
    ask(page, prompt)
    page.wait_for_function("location.hash.length > 1")


def wait_for_growth(page: Page, length: int) -> str:
    """The newest answer's text, once it is longer than `length`."""
    page.wait_for_function(
        f"[...document.querySelectorAll('{ANSWER}')].at(-1)?.textContent.length > {length}"
    )
    return page.locator(ANSWER).last.inner_text()


def test_two_tabs_see_one_answer_grow_and_either_stops_it(
    page: Page, other_page: Page, chat: ChatServer, tmp_path: Path
) -> None:
    open_new_chat(page, chat, LONG)
    other_page.goto(page.url)
    for length in (30, 100):
        one, other = wait_for_growth(page, length), wait_for_growth(other_page, length)
        assert one.startswith(other) or other.startswith(one)
    page.screenshot(path=tmp_path / "desktop.png")
    other_page.screenshot(path=tmp_path / "phone.png")

    other_page.get_by_role("button", name="Stop").click()
    for each in (page, other_page):
        expect(each.locator(".message[data-status=stopped]")).to_have_count(1)
        expect(each.get_by_role("button", name="Stop")).to_be_hidden()
    final = page.locator(ANSWER).inner_text()
    assert final == other_page.locator(ANSWER).inner_text()
    assert not final.endswith("400")
    print(f"screenshots: {tmp_path}")


def test_a_reload_in_the_middle_goes_on_where_the_answer_is(page: Page, chat: ChatServer) -> None:
    open_new_chat(page, chat, LONG)
    before = wait_for_growth(page, 60)
    page.reload()
    after = wait_for_growth(page, len(before) + 30)
    assert after.startswith(before)
    page.keyboard.press("Escape")
    expect(page.locator(".message[data-status=stopped]")).to_have_count(1)


def test_a_follow_up_is_shown_at_once_and_answered(page: Page, other_page: Page, chat: ChatServer) -> None:
    open_new_chat(page, chat, "count to 3")
    other_page.goto(page.url)
    expect(page.locator(".message[data-status=complete]")).to_have_count(2)
    ask(page, "count to 5")
    for each in (page, other_page):
        expect(each.locator(ANSWER).last).to_have_text("1 2 3 4 5")
        expect(each.locator("[data-role=user]")).to_have_count(2)


def test_a_stopped_answer_can_be_tried_again(page: Page, chat: ChatServer) -> None:
    open_new_chat(page, chat, LONG)
    wait_for_growth(page, 20)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(ANSWER)).to_have_count(2)
    wait_for_growth(page, 10)
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    page.get_by_role("button", name="Stop").click()


def test_what_is_written_never_becomes_markup(page: Page, chat: ChatServer) -> None:
    text = '<img src=x onerror="window.owned = 1"> **bold** and `code`'
    open_new_chat(page, chat, text)
    expect(page.locator(".message[data-status=complete]")).to_have_count(2)
    own = page.locator("[data-role=user] .body")
    expect(own).to_have_text('<img src=x onerror="window.owned = 1"> bold and code')
    expect(own.locator("strong")).to_have_text("bold")
    expect(page.locator(f"{ANSWER} pre code")).to_contain_text("async for piece")
    assert page.locator("#messages img").count() == 0
    assert page.evaluate("window.owned === undefined")


def test_a_lost_server_is_shown_and_what_was_sent_meanwhile_arrives_once(page: Page, tmp_path: Path) -> None:
    with ChatServer(tmp_path, CHAT_MODEL_PACE_MS="5") as server:
        open_new_chat(page, server, "count to 3")
        expect(page.locator("#connection")).to_have_text("connected")
        expect(page.locator(".message[data-status=complete]")).to_have_count(2)
        server.end(signal.SIGKILL)
        expect(page.locator("#connection")).to_have_attribute("data-phase", "waiting")
        ask(page, "count to 4")
        expect(page.locator("[data-unsent]")).to_have_count(1)
        server.start()
        expect(page.locator(ANSWER).last).to_have_text("1 2 3 4", timeout=20_000)
        expect(page.locator("[data-role=user]")).to_have_count(2)


def test_the_keyboard_alone_is_enough(page: Page, chat: ChatServer) -> None:
    open_new_chat(page, chat, "count to 2")
    expect(page.get_by_label("Your message")).to_be_focused()
    page.get_by_role("link", name="New chat").press("Enter")
    expect(page.get_by_role("heading")).to_have_text("New chat")
    page.locator("#tasks a").first.press("Enter")
    expect(page.get_by_role("heading")).to_have_text("count to 2")
    page.get_by_label("Your message").fill("one")
    page.get_by_label("Your message").press("Shift+Enter")
    assert page.get_by_label("Your message").input_value() == "one\n"


def test_a_long_title_does_not_push_the_chat_off_a_phone(other_page: Page, chat: ChatServer) -> None:
    open_new_chat(other_page, chat, "a title that is much longer than the screen of a phone is wide")
    expect(other_page.locator("#title")).to_contain_text("a title that is much longer")
    assert other_page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0
    other_page.keyboard.press("Escape")

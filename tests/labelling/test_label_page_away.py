"""The page while the server is away: nothing is lost, and it says what it waits for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from projects import open_store
from served import served
from test_label_page import press, saved, values

Tab = Callable[..., Any]


def test_reloaded_without_a_server_the_page_says_so_and_continues_when_it_is_back(
    tmp_path: Path, tab: Tab
) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        page.evaluate(
            "async () => { await navigator.serviceWorker.ready; while (!(await caches.match('/page/text.js'))) "
            "await new Promise((done) => setTimeout(done, 50)); }"
        )
        press(page, "a")
        saved(page)
        kept = page.evaluate(
            "caches.open('tieout-label').then((copy) => copy.keys()).then((all) => all.map((one) => one.url))"
        )
        assert {urlsplit(url).path.rpartition("/")[0] for url in kept} == {"", "/page"}, (
            "nothing of the project"
        )
    press(page, "b", "t")
    page.wait_for_selector("text=2 not saved yet: no connection")
    store.close()
    page.reload()
    page.wait_for_selector("text=Answers that wait in this browser, and are saved then: 2.")
    again = open_store(tmp_path)
    with served(again, urlsplit(address).port or 0):
        page.wait_for_selector("text=Pair 4 of 6")
        press(page, "x")
        saved(page)
        assert page.locator("#notice").is_hidden()
    assert values(again) == ["a", "b", "tie", "bad"]


def test_when_all_that_was_loaded_is_judged_it_waits_for_more_and_does_not_say_that_nothing_is_left(
    tmp_path: Path, tab: Tab
) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address, more="&ahead=2")
        page.context.set_offline(True)
        press(page, "a", "b")
        page.get_by_role("heading", name="Waiting for the server").first.wait_for()
        press(page, "d")
        page.wait_for_selector("text=No connection: disputes are shown once there is one.")
        page.context.set_offline(False)
        page.wait_for_selector("text=Pair 3 of 6")
        press(page, "t")
        saved(page)
    assert values(store) == ["a", "b", "tie"]

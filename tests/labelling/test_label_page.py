"""The page in a real browser: by keys alone, and in the ways that label tools lose work."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from projects import open_store
from served import served

from tieout.labelling import journal as journal_module
from tieout.labelling.assignment import Design
from tieout.labelling.items import read_items
from tieout.labelling.journal import read_journal
from tieout.labelling.scheme import make_scheme
from tieout.labelling.store import Store
from tieout.storage.jsonl import write_jsonl

Tab = Callable[..., Any]


def title(page: Any) -> str:
    return page.text_content("#title")


def saved(page: Any) -> None:
    page.locator("#saved", has_text=re.compile("^saved$")).wait_for()


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def values(store: Store) -> list[str]:
    """What was said, in the order shown to the one who said it."""
    return [
        {"a": "ab"[e["shown"][0]], "b": "ab"[e["shown"][1]]}.get(e["value"], e["value"])
        for e in store.judgements(skips=True)
    ]


def test_pairs_by_keys_alone_one_key_a_pair(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, number=6)
    with served(store) as address:
        page = tab(address)
        assert title(page) == "Pair 1 of 6"
        press(page, "a", "b", "t", "x", "s")
        saved(page)
        assert values(store) == ["a", "b", "tie", "bad", "skip"]
        press(page, "a")
        page.wait_for_selector("text=Nothing left for you")
        saved(page)
        page.get_by_role("button", name="Show the 1 skipped").click()
        page.locator("#title", has_text="Pair").wait_for()
        press(page, "b")
        saved(page)
    assert len(store.by_item()) == 6
    assert all(entry["seconds"] < 60 for entry in store.judgements())


def comes(page: Any) -> bool:
    """Whether there is an item, or one comes: the page says that nothing is left only once the server did."""
    page.locator("#title", has_text=re.compile("^Pair|^Nothing left")).wait_for()
    return title(page).startswith("Pair")


def test_what_comes_back_to_a_person_is_counted_like_the_rest(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, number=6, design=Design(overlap=0, repeats=1.0, gap=1))
    with served(store) as address:
        page = tab(address)
        page.evaluate(
            "() => { window.titles = []; new MutationObserver(() => titles.push(document.getElementById('title')"
            ".textContent)).observe(document.getElementById('title'), { childList: true }); }"
        )
        page.route("**/api/next", lambda route: (time.sleep(0.1), route.continue_()))
        seen = []
        while comes(page):
            seen.append(title(page))
            press(page, "a")
        saved(page)
        given = len(store.judgements())
        assert given > 6
        assert seen == [f"Pair {i} of {max(6, i)}" for i in range(1, given + 1)]
        titles = page.evaluate("titles")
        assert "One moment" in titles
        assert titles.count("Nothing left for you") == 1
        said = f"You gave {given} judgements; 6 of 6 items are judged by somebody."
        page.wait_for_selector(f"text={said}")
        page.reload()
        page.wait_for_selector(f"text={said}")


def test_saved_means_on_disk(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        assert page.text_content("#saved") == ""
        press(page, "a")
        saved(page)
        assert [e["what"] for e in read_journal(store.journal.path)][-1] == "judgement"


def test_no_key_acts_while_a_comment_is_typed_and_a_held_key_counts_once(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        press(page, "c")
        page.keyboard.type("a bet: but x, s & u? t")
        assert title(page) == "Pair 1 of 6"
        press(page, "Escape", "b")
        saved(page)
        page.keyboard.down("a")
        page.keyboard.down("a")
        page.keyboard.down("a")
        page.keyboard.up("a")
        saved(page)
    assert values(store) == ["b", "a"]
    assert store.judgements()[0]["comment"] == "a bet: but x, s & u? t"
    assert store.judgements()[1]["comment"] == ""


def test_each_action_has_a_key_on_its_button_and_the_key_can_be_another(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        for name, key in {
            "A is better": "a",
            "B is better": "b",
            "Tie": "t",
            "Both bad": "x",
            "Skip": "s",
            "Undo": "u",
            "Guidelines": "g",
            "Agreement": "f",
            "Disputes": "d",
            "Keys": "?",
        }.items():
            button = page.get_by_role("button", name=name)
            assert button.locator("kbd").text_content() == key
            assert button.get_attribute("aria-keyshortcuts") == key
        assert page.text_content("#comment-key") == "c"
        press(page, "?")
        dialog = page.get_by_role("dialog", name="Keys")
        dialog.get_by_role("button", name="A is better: a. Change").click()
        press(page, "b")
        assert "b is the key of B is better" in dialog.text_content()
        dialog.get_by_role("button", name="A is better: a. Change").click()
        press(page, "j")
        assert dialog.get_by_role("button", name="A is better: j. Change").is_visible()
        press(page, "Escape", "a", "j")
        saved(page)
        page.reload()
        page.wait_for_selector("#do-a kbd:text('j')")
    assert values(store) == ["a"]


def test_guidelines_are_one_key_away_with_version_and_hash(tmp_path: Path, tab: Tab) -> None:
    scheme = make_scheme("pairs", guidelines="# Rule\nOnly figures count.")
    store = open_store(tmp_path, scheme=scheme)
    with served(store) as address:
        page = tab(address)
        press(page, "g")
        shown = page.get_by_role("dialog", name="Guidelines").text_content()
        press(page, "a", "Escape")
    assert "Only figures count." in shown
    assert f"Version 1, SHA-256 {scheme.guidelines_sha256[:16]}" in shown
    assert store.judgements() == [], "a key under a dialog does nothing"


def test_figures_that_occur_in_both_are_marked_and_what_a_model_wrote_stays_text(
    tmp_path: Path, tab: Tab
) -> None:
    evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>\u202e $1,234.5 million 😀 7%'
    row = {"prompt": "In millions: sales 1,234.5, costs 99.", "chosen": evil, "rejected": evil + " 12"}
    write_jsonl(tmp_path / "rows.jsonl", [row])
    store = Store(tmp_path / "labels", make_scheme("pairs"), read_items(tmp_path / "rows.jsonl")[1])
    with served(store) as address:
        page = tab(address)
        assert page.evaluate("window.hit") is None
        assert page.locator("#answers img, #answers script").count() == 0
        assert page.locator("article").first.locator("mark.same").all_text_contents() == ["$1,234.5 million"]
        assert page.locator("#source mark.same").all_text_contents() == ["1,234.5"]
        assert "7%" in page.locator("article").first.locator(".unlike").all_text_contents()
        assert page.locator("article").first.locator(".hidden").all_text_contents() == ["\\u202e"]


# ------------------------------------------------------------ ways to lose work


def test_two_tabs(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, number=3)
    with served(store) as address:
        one = tab(address)
        other = tab(address, context=one.context)
        press(one, "a")
        saved(one)
        press(other, "b")
        other.wait_for_selector("text=judged in another tab. Saved: A is better. Here: B is better.")
        assert values(store) == ["a"]
        other.get_by_role("button", name="Replace it").click()
        saved(other)
        assert values(store) == ["b"]
        press(other, "t")
        saved(other)
        press(one, "a")
        one.wait_for_selector("text=Saved: tie. Here: A is better.")
        one.get_by_role("button", name="Keep what is saved").click()
        saved(one)
    assert values(store) == ["b", "tie"]


def test_two_logins_of_one_name_and_two_people(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, number=4)
    with served(store) as address:
        here, there = tab(address, more="&ahead=2"), tab(address, more="&ahead=2")
        ben = tab(address, "ben", more="&ahead=2")
        assert here.text_content("#source") == there.text_content("#source") != ben.text_content("#source")
        press(here, "a")
        saved(here)
        press(there, "b")
        there.wait_for_selector("text=Saved: A is better")
        press(ben, "b")
        saved(ben)
    who = [(e["annotator"], e["value"]) for e in store.judgements()]
    assert len(who) == len({e["item"] for e in store.judgements()}) == 2
    assert [name for name, _ in who] == ["anna", "ben"]


def test_the_network_is_gone_for_a_while(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        page.context.set_offline(True)
        press(page, "a", "b", "t")
        page.wait_for_selector("text=3 not saved yet: no connection")
        assert store.judgements() == []
        page.context.set_offline(False)
        saved(page)
    assert values(store) == ["a", "b", "tie"]


def test_the_server_is_killed_and_comes_back(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        press(page, "a")
        saved(page)
    press(page, "b", "t")
    page.wait_for_selector("text=2 not saved yet: no connection")
    store.close()
    again = open_store(tmp_path)
    port = int(address.split(":")[2].split("/")[0])
    with served(again, port):
        saved(page)
    assert values(again) == ["a", "b", "tie"]


def test_the_tab_is_closed_before_the_server_is_back(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        context = page.context
    press(page, "a", "b")
    page.wait_for_selector("text=2 not saved yet: no connection")
    page.close()
    assert store.judgements() == []
    with served(store, urlsplit(address).port or 0):
        page = tab(address, context=context)
        saved(page)
        assert title(page) == "Pair 3 of 6"
    assert values(store) == ["a", "b"]


@pytest.mark.parametrize("where", ["write", "fsync"])
def test_the_disk_is_full(tmp_path: Path, tab: Tab, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        size = store.journal.path.stat().st_size

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(journal_module, "os", SimpleNamespace(**{**vars(os), where: full}))
            press(page, "a")
            page.wait_for_selector("text=No space left on device")
        assert page.text_content("#saved").startswith("1 not saved yet")
        assert page.locator("#notice").is_hidden(), "it waits, and was not refused"
        saved(page)
        assert store.journal.path.stat().st_size > size
    assert values(store) == ["a"]


@pytest.mark.parametrize("lost", ["nothing", "the browser's storage"])
def test_refresh_with_a_draft(tmp_path: Path, tab: Tab, lost: str) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        press(page, "c")
        page.keyboard.type("half a thought")
        if lost == "nothing":
            page.reload()
        else:
            page.wait_for_timeout(900)
            page = tab(address)  # another browser
        page.wait_for_selector("text=Pair 1 of 6")
        assert page.input_value("#comment") == "half a thought"
        assert title(page) == "Pair 1 of 6"
        press(page, "a")
        saved(page)
        assert page.input_value("#comment") == ""
    assert store.judgements()[0]["comment"] == "half a thought"


def test_edit_after_submit_also_after_a_refresh(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        press(page, "a", "b")
        saved(page)
        press(page, "u")
        page.wait_for_selector("#do-b[aria-pressed=true]")
        assert values(store) == ["a"]
        press(page, "t")
        saved(page)
        page.reload()
        page.wait_for_selector("text=Pair 3 of 6")
        press(page, "u")
        page.wait_for_selector("#do-tie[aria-pressed=true]")
        press(page, "Control+Enter")
        saved(page)
        press(page, "u", "u")
        page.wait_for_selector("#do-a[aria-pressed=true]")
    said = [e["value"] for e in store.journal.entries if e["what"] == "judgement"]
    assert len(said) == 4
    assert said[2:] == ["tie", "tie"]
    assert values(store) == []


def test_undo_without_a_connection(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        page.context.set_offline(True)
        press(page, "a")
        page.wait_for_selector("text=1 not saved yet")
        press(page, "u")
        page.wait_for_selector("#do-a[aria-pressed=true]")
        press(page, "b")
        page.context.set_offline(False)
        saved(page)
    assert values(store) == ["b"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_thousand_items_offline(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, number=1000)
    with served(store) as address:
        page = tab(address, more="&ahead=1000")
        page.context.set_offline(True)
        for i in range(1000):
            page.keyboard.press("abtx"[i % 4])
        assert store.judgements() == []
        page.wait_for_selector("text=1000 not saved yet")
        page.context.set_offline(False)
        page.locator("#saved", has_text=re.compile("^saved$")).wait_for(timeout=120_000)
    assert values(store) == ["a", "b", "tie", "bad"] * 250

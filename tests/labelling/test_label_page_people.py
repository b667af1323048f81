"""Several people on the page: names, the judge that is told afterwards, disputes, agreement."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from projects import answer, judge_all, open_store
from served import served
from test_label_page import press, saved, title

from tieout.labelling.assignment import Design
from tieout.labelling.items import read_items
from tieout.labelling.scheme import make_scheme
from tieout.labelling.store import Store
from tieout.storage.jsonl import write_jsonl

Tab = Callable[..., Any]


def test_without_a_name_the_page_asks_again(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address, more="&ahead=1").context.new_page()
        page.goto(address)
        page.get_by_role("dialog", name="Who judges?").wait_for()
        press(page, "Escape")
        page.get_by_role("heading", name="No name yet").wait_for()
        press(page, "a", "Enter")
        page.get_by_label("Your name").wait_for()
        page.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Enter your name").click()
        page.keyboard.type("ben")
        press(page, "Enter")
        page.wait_for_selector("text=Pair 1 of 6")
        press(page, "a")
        saved(page)
    assert [e["annotator"] for e in store.judgements()] == ["ben"]


def test_the_judge_is_shown_after_the_answer_only(tmp_path: Path, tab: Tab) -> None:
    rows = [{"prompt": f"p {i}", "chosen": "yes", "rejected": "no", "chosen_score": 0.875, "rejected_score": 0.125}
            for i in range(3)]  # fmt: skip
    write_jsonl(tmp_path / "rows.jsonl", rows)
    store = Store(tmp_path / "labels", make_scheme("pairs"), read_items(tmp_path / "rows.jsonl")[1])
    with served(store) as address:
        page = tab(address)
        heard: list[str] = []
        page.on("response", lambda reply: heard.append(reply.text() if "/api/" in reply.url else ""))
        page.reload()
        page.wait_for_selector("text=Pair 1 of 3")
        assert "0.875" not in page.content() + "".join(heard)
        first = page.locator("article pre").first.text_content()
        body = {"annotator": "anna", "item": next(iter(store.items)), "round": 0}
        script = """(body) => fetch("/api/prelabel", {method: "POST", headers: {"content-type": "application/json"},
            body: JSON.stringify(body)}).then((reply) => reply.status)"""
        assert page.evaluate(script, body) == 400
        press(page, "a")
        page.wait_for_selector("#before:text('The judge: ')")
        scores = "0.875 against 0.125" if first == "yes" else "0.125 against 0.875"
        assert page.text_content("#before") == f"Before, you: A is better. The judge: {scores}"


def test_disputes_are_settled_on_the_page_with_the_same_keys(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, number=2, design=Design(overlap=1.0, repeats=0))
    for name, value in (("anna", "a"), ("ben", "b")):
        for item, _ in store.next(name, 2):
            store.judge(answer(store, name, item, value, comment=f"{name} is sure"))
    with served(store) as address:
        page = tab(address, "chief")
        page.wait_for_selector("text=Settle 2 disputes")
        press(page, "d")
        page.wait_for_selector("text=Dispute, 2 left")
        said = page.locator(".said").all_text_contents()
        order = store.order("chief", next(iter(store.by_item())))
        assert said[0] == f"anna: {'AB'[order.index(0)]} is better (anna is sure)"
        press(page, "a", "t")
        saved(page)
        page.wait_for_selector("text=No disputes")
    assert sorted(e["what"] for e in store.verdicts.values()) == ["verdict"] * 2
    assert {e["value"] for e in store.verdicts.values()} >= {"tie"}


def test_a_settled_dispute_is_undone_also_after_a_refresh(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, number=2, design=Design(overlap=1.0, repeats=0))
    for name, value in (("anna", "a"), ("ben", "b")):
        judge_all(store, name, value)
    with served(store) as address:
        page = tab(address, "chief")
        page.wait_for_selector("text=Settle 2 disputes")
        press(page, "d")
        page.wait_for_selector("text=Dispute, 2 left")
        press(page, "a", "t")
        page.get_by_role("button", name="Undo").click()
        page.wait_for_selector("#do-tie[aria-pressed=true]")
        assert title(page) == "Dispute, 1 left"
        assert len(store.verdicts) == 1
        assert page.locator(".said").count() == 2
        page.reload()
        page.wait_for_selector("text=Settle the dispute")
        press(page, "d")
        page.wait_for_selector("text=Dispute, 1 left")
        press(page, "u")
        page.wait_for_selector("#do-a[aria-pressed=true]")
        assert title(page) == "Dispute, 2 left"
        press(page, "b")
        saved(page)
    (verdict,) = store.verdicts.values()
    assert verdict["value"] == "ab"[verdict["shown"][1]]
    assert [e["what"] for e in store.journal.entries[-5:]] == [
        "verdict",
        "verdict",
        "unsettle",
        "unsettle",
        "verdict",
    ]


def test_agreement_is_shown_live(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, number=20, design=Design(overlap=1.0, repeats=0))
    judge_all(store, "anna", lambda item, _: "ab"[int(item, 16) % 2])
    judge_all(store, "ben", lambda item, _: "ab"[int(item, 16) % 2])
    with served(store) as address:
        page = tab(address)
        press(page, "f")
        dialog = page.get_by_role("dialog", name="Agreement")
        dialog.get_by_text("Gwet's AC1").wait_for()
        assert "Krippendorff's alpha1.001.00 to 1.0020 items" in dialog.text_content()
        ben = dialog.get_by_role("row", name="ben").get_by_role("cell")
        assert ben.first.text_content() == "20"
        heads = dialog.get_by_role("columnheader").all_text_contents()
        assert heads[-3:] == ["First shown wins", "Longer wins", "Agrees with itself"]
        assert re.fullmatch(r"\d+% \d+% to \d+%", ben.nth(heads.index("First shown wins") - 1).text_content())
        press(page, "Escape", "u", "x")  # the last answer of 20 becomes another, and ben's stays
        saved(page)
        press(page, "f")
        dialog.get_by_text("Gwet's AC1").wait_for()
        assert "Krippendorff's alpha1.00" not in dialog.text_content()

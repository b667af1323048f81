"""Rankings, grades and spans by keys; names for screen readers, narrow screens and the dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import open_store
from served import served
from test_label_page import press, saved, title

from tieout.labelling.scheme import Criterion, Scheme

Tab = Callable[..., Any]


def test_a_ranking_by_digits_with_a_tie_and_one_taken_back(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path, "rankings", 2)
    with served(store) as address:
        page = tab(address)
        press(page, "3", "1", "Backspace", "2", "t", "1", "Control+Enter")
        page.wait_for_selector("text=The answer is not whole yet.")
        page.wait_for_selector("#question:has-text('3 > 1 = 2')")
        press(page, "4", "Control+Enter")
        saved(page)
    (entry,) = store.judgements()
    order = entry["shown"]
    assert entry["value"] == [[order[2]], sorted([order[0], order[1]]), [order[3]]]


def test_grades_by_digits_criterion_after_criterion(tmp_path: Path, tab: Tab) -> None:
    criteria = (
        Criterion("right", "Right", {"0": "no", "1": "yes"}),
        Criterion("form", "Form", {"1": "poor", "2": "fair", "3": "good"}),
    )
    store = open_store(tmp_path, "grades", 2, scheme=Scheme("grades", criteria, None, "x"))
    with served(store) as address:
        page = tab(address)
        assert page.get_by_role("group", name="Form").get_by_role("button").count() == 3
        press(page, "2", "3", "Backspace", "1", "Control+Enter")
        saved(page)
    assert [e["value"] for e in store.judgements()] == [{"right": "1", "form": "1"}]


def test_spans_by_arrows_and_by_mouse_have_offsets_of_the_text_behind_an_emoji(
    tmp_path: Path, tab: Tab
) -> None:
    store = open_store(tmp_path, "spans", 2)
    with served(store) as address:
        page = tab(address)
        press(page, "ArrowRight", "ArrowRight", "ArrowRight", "Shift+ArrowRight", "1")
        page.wait_for_selector(".tag:text('million,: Wrong')")
        word = page.locator("#text-0 .unlike", has_text="7%").bounding_box()
        page.mouse.move(word["x"] + 0.5, word["y"] + word["height"] / 2)
        page.mouse.down()
        page.mouse.move(word["x"] + word["width"], word["y"] + word["height"] / 2)
        page.mouse.up()
        press(page, "2", "Control+Enter")
        saved(page)
        press(page, "u")
        page.wait_for_selector(".tag:text('7%: Not in the source')")
        press(page, "Backspace", "Control+Enter")
        saved(page)
    first, second = [e["value"] for e in store.journal.entries if e["what"] == "judgement"]
    (item,) = {e["item"] for e in store.judgements()}
    text = store.items[item].texts[0]
    assert [(text[s["start"] : s["end"]], s["label"]) for s in first] == [
        (text.split()[3] + " million,", "wrong"),
        ("7%", "unsupported"),
    ]
    assert all(s["text"] == text[s["start"] : s["end"]] for s in first)
    assert second == first[:1]


def test_a_screen_reader_has_a_name_for_everything_that_acts(tmp_path: Path, tab: Tab) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address)
        for role, name in [
            ("heading", "Pair 1 of 6"),
            ("region", "Source"),
            ("article", "A"),
            ("article", "B"),
            ("toolbar", "Answers"),
            ("navigation", "Panels"),
            ("progressbar", "Judged by you, of all items"),
            ("textbox", "Comment"),
        ]:
            assert page.get_by_role(role, name=name, exact=role != "textbox").count() == 1, (role, name)
        nameless = page.evaluate(
            "[...document.querySelectorAll('button, a, textarea, input')].filter((one) => one.checkVisibility() "
            "&& !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).length"
        )
        assert nameless == 0
        assert page.get_attribute("#saved", "role") == "status"
        press(page, "a")
        assert page.evaluate("document.activeElement.id") == "title", "the next item is announced"
        for _ in range(40):  # by Tab alone every button is reached
            press(page, "Tab")
            if page.evaluate("document.activeElement.id") == "do-undo":
                break
        assert page.evaluate("document.activeElement.id") == "do-undo"


@pytest.mark.parametrize("kind", ["pairs", "rankings", "grades", "spans"])
@pytest.mark.parametrize("width", [320, 400, 1200])
def test_nothing_is_cut_off_on_a_narrow_screen(tmp_path: Path, tab: Tab, kind: Any, width: int) -> None:
    store = open_store(tmp_path, kind, 2)
    with served(store) as address:
        page = tab(address, viewport={"width": width, "height": 700})
        assert title(page).endswith("1 of 2")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#do-skip").bounding_box()["y"] < 700


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_the_light_and_in_the_dark(tmp_path: Path, tab: Tab, scheme: str) -> None:
    store = open_store(tmp_path)
    with served(store) as address:
        page = tab(address, color_scheme=scheme)
        colours = page.evaluate(
            """['body', '#who', '.same', 'kbd'].map((name) => {
                const own = getComputedStyle(document.querySelector(name)), body = getComputedStyle(document.body);
                return [own.color, own.backgroundColor, body.backgroundColor]; })"""
        )
    dark = luminance(colours[0][1]) < 0.2
    assert dark == (scheme == "dark")
    for ink, paper, behind in colours:
        under = behind if paper == "rgba(0, 0, 0, 0)" else paper
        one, other = sorted([luminance(ink), luminance(under)])
        assert (other + 0.05) / (one + 0.05) >= 4.5, (ink, under)


def luminance(colour: str) -> float:
    """WCAG's, of `rgb(r, g, b)`."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    r, g, b = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b

"""The page in a browser: nothing is wider than the screen, everything can be read, and print shows what is folded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_cases import two_models, with_parts
from tieout.evidence.evaluate import Case
from tieout.evidence.report import write_report
from tieout.review.document import write_page
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import append_jsonl

WIDER = """() => [...document.querySelectorAll('body *')]
    .filter(one => one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5
        || (one.scrollWidth > one.clientWidth + 1 && !['inline', 'contents'].includes(getComputedStyle(one).display)
            && !(one instanceof SVGElement)))
    .map(one => `${one.tagName}.${one.className} ${one.textContent.slice(0, 60)}`)"""
"""Elements that reach over the edge of the screen, or whose content reaches over theirs."""
BLACK_ON_WHITE = 4.5
"""The least contrast of text (WCAG 2, level AA)."""
PALE = """() => {
    const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map(c => c / 255)
        .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const ground = one => { for (; one; one = one.parentElement) {
        const found = getComputedStyle(one).backgroundColor;
        if (!found.endsWith(', 0)')) return found; } return 'rgb(255, 255, 255)'; };
    return [...document.querySelectorAll('body *')].filter(one => [...one.childNodes]
        .some(node => node.nodeType === 3 && node.data.trim()) && one.getClientRects().length).map(one => {
            const style = getComputedStyle(one);
            const [a, b] = [light(one instanceof SVGElement ? style.fill : style.color), light(ground(one))];
            return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.className, one.textContent.slice(0, 40)]; })
        .filter(([contrast]) => contrast < %s) }"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with long names, parts, errors, alarms and a failed attempt."""
    run = tmp_path_factory.mktemp("run")
    recipe: dict[str, Any] = {"stages": [{"train": "sft", "name": "sft"}], "model": "a/" + "long-name-" * 8}
    write_json(run / "run.json", {"identity": recipe, "time": "2026-01-02T03:04:05+00:00"})
    rows = [{"step": i, "loss": 1 / (i + 1), "held_out/" + "perplexity_" * 6: i % 3} for i in range(60)]
    append_jsonl(run / "sft" / "metrics.jsonl", rows)
    append_jsonl(run / "sft" / "alarms.jsonl", [{"step": 40, "reason": "entropy " + "fell" * 30}])
    step = {"predicate": {"step": "start", "time": "2026-01-02T03:04:05+00:00", "command": ["x" * 90]}}
    failed = {
        "predicate": {"step": "sft", "time": "2026-01-02T03:05:05+00:00", "failed": "InputError: " + "y" * 90}
    }
    append_jsonl(run / "manifest.jsonl", [step, failed])
    found = with_parts(two_models())
    cases = {
        model: [replace(case, completion="1234567" * 40 + f" and {i}") for i, case in enumerate(own)]
        for model, own in found.items()
    }
    cases["sft"][3] = replace(cases["sft"][3], score=None, errors={"score": "ValueError" * 12})
    write_report(
        run / "evidence",
        cases,
        candidate="sft",
        baseline="base",
        primary="right",
        metadata={"recipe": recipe},
    )
    return write_page(run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 1200])
def test_nothing_is_wider_than_the_screen_and_all_text_can_be_read(
    chromium: Any, page: Path, width: int, scheme: str
) -> None:
    tab = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    try:
        tab.goto(page.as_uri())
        tab.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate(WIDER) == []
        assert tab.evaluate(PALE % BLACK_ON_WHITE) == []
    finally:
        tab.close()


def test_the_first_screen_has_picture_verdict_and_next_command(chromium: Any, page: Path) -> None:
    tab = chromium.new_page(viewport={"width": 1200, "height": 900})
    try:
        tab.goto(page.as_uri())
        for part in ("svg.picture >> nth=0", ".call", ".next"):
            box = tab.locator(part).bounding_box()
            assert box["y"] + box["height"] <= 900
        tab.click("text=Where it fails")
        assert abs(tab.locator("#failures").bounding_box()["y"]) < 60
    finally:
        tab.close()


def test_print_is_on_white_and_shows_folded_tables(chromium: Any, page: Path) -> None:
    tab = chromium.new_page(viewport={"width": 800, "height": 1000}, color_scheme="dark")
    try:
        tab.goto(page.as_uri())
        tab.emulate_media(media="print")
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert tab.evaluate(PALE % BLACK_ON_WHITE) == []
        assert tab.locator("details.folded table").first.is_visible()
        assert tab.locator("#failures details.case pre").first.is_visible()
    finally:
        tab.close()


def test_print_has_the_cases_that_matter_and_says_how_many_it_leaves_out(
    chromium: Any, tmp_path: Path
) -> None:
    good = [
        Case(f"test/{i}", "programmatic", "test", f"question {i}", "right", 1.0, {"right": 1.0})
        for i in range(60)
    ]
    bad = [
        replace(case, completion="wrong", score=i / 600, metrics={"right": 0.0})
        for i, case in enumerate(good)
    ]
    write_report(
        tmp_path / "evidence", {"sft": good, "dpo": bad}, candidate="dpo", baseline="sft", primary="right"
    )
    tab = chromium.new_page(viewport={"width": 800, "height": 1000})
    try:
        tab.goto(write_page(tmp_path).as_uri())
        assert tab.locator(".printed").is_hidden()
        tab.locator(".worse").evaluate("one => one.closest('details').open = true")
        assert tab.locator(".worse tbody tr:visible").count() == 60
        tab.emulate_media(media="print")
        assert tab.locator(".worse tbody tr:visible").count() == 20
        assert (
            tab.locator(".printed:visible").inner_text() == "40 more, with smaller losses, are not printed."
        )
        cases = tab.locator("#failures details.case")
        assert cases.locator("summary:visible").count() == 20
        full = [i for i in range(20) if cases.nth(i).locator("pre").first.is_visible()]
        assert full == [0, 1, 2]
        cases.nth(9).evaluate("one => one.open = true")  # what was opened on the screen is printed
        assert cases.nth(9).locator("pre").first.is_visible()
    finally:
        tab.close()


def test_nothing_that_a_model_wrote_runs_in_a_browser(chromium: Any, tmp_path: Path) -> None:
    """In prompts, completions, names of models, stages and metrics, reasons and errors."""
    attack = (
        '</pre></script><script>window.hit=1</script><img src=x onerror="window.hit=1">'
        '"><svg onload="window.hit=1"><a href="javascript:window.hit=1">x</a><iframe srcdoc="<p>x">'
    )
    stage = attack.replace("/", "")  # it is a folder
    run = tmp_path / "run"
    recipe: dict[str, Any] = {"stages": [{"train": "sft", "name": stage}], "model": attack}
    write_json(run / "run.json", {"identity": recipe, "time": "2026-01-02T03:04:05+00:00"})
    append_jsonl(run / stage / "metrics.jsonl", [{"step": i, f"loss{attack}": i} for i in range(3)])
    append_jsonl(run / stage / "alarms.jsonl", [{"step": 1, "reason": attack}])
    cases = {
        model: [
            replace(case, prompt=f"{attack} {case.prompt}", completion=f"{model}{attack}") for case in own
        ]
        for model, own in with_parts(two_models()).items()
    }
    cases["sft"][3] = replace(cases["sft"][3], score=None, errors={"score": attack})
    named: dict[str, Any] = {"candidate": f"sft{attack}", "baseline": "base"}
    cases[named["candidate"]] = cases.pop("sft")
    write_report(run / "evidence", cases, **named, primary="right", metadata={"recipe": recipe})
    asked: list[str] = []
    tab = chromium.new_page()
    try:
        tab.on("request", lambda request: asked.append(request.url))
        page = write_page(run).as_uri()
        tab.goto(page)
        tab.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")
        assert tab.evaluate("window.hit") is None
        assert tab.locator("script, img, iframe, [onload], [onerror], [href^=javascript]").count() == 0
        assert tab.content().count("&lt;script&gt;window.hit=1") > 5
        assert asked == [page]
    finally:
        tab.close()

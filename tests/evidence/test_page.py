"""The page shows every number, runs nothing, fetches nothing, and believes no output."""

from __future__ import annotations

import random
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_cases import make_cases, two_models

from tieout.evidence.evaluate import Case
from tieout.evidence.human import Grade
from tieout.evidence.page import number, p_value, pick_examples, signed, visible, write_page
from tieout.evidence.report import build_report

VOID = {"meta", "link", "br", "img", "line", "rect", "polyline", "hr", "input"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; complains about tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def make_page(tmp_path: Path, cases: dict[str, list[Case]], **options: Any) -> Page:
    grades = [Grade(str(i), "sft", "base", "a") for i in range(25)]
    report = build_report(cases, grades, candidate="sft", baseline="base", metadata={"seed": 0})
    write_page(tmp_path / "report.html", report, cases, **options)
    return Page((tmp_path / "report.html").read_text())


def test_verdict_reasons_numbers_and_the_next_command_are_there(tmp_path: Path) -> None:
    cases = two_models()
    report = build_report(cases, candidate="sft", baseline="base")
    write_page(
        tmp_path / "report.html",
        report,
        cases,
        next_command="tieout gate RUN --grades <file>",
        notes=["Seed 3."],
    )
    page = Page((tmp_path / "report.html").read_text())
    assert report["verdict"]["verdict"] == "hold"
    assert "Nothing is clearly worse" in page.text
    for reason in report["verdict"]["reasons"]:
        assert reason in page.text
    assert "tieout gate RUN --grades <file>" in page.text
    assert "Seed 3." in page.text
    for figure in (
        report["models"]["sft"]["programmatic"]["slices"]["test"],
        report["models"]["base"]["negative_controls"],
    ):
        assert f"{number(figure['low'])} to {number(figure['high'])}" in page.text
    pair = report["comparisons"][0]["tracks"]["programmatic"]["slices"]["test"]
    assert f"{signed(pair['low'])} to {signed(pair['high'])}" in page.text
    assert "empty: no pairs" in page.text


def test_untrusted_text_is_shown_and_never_markup(tmp_path: Path) -> None:
    attack = '</pre><script>alert(1)</script><img src=x onerror="alert(2)">&lt;{{ 7 * 7 }}{% raw %}'
    cases = {
        model: [
            replace(case, prompt=[{"role": "user", "content": attack}], completion=f"{model}{attack}")
            for case in own
        ]
        for model, own in two_models().items()
    }
    curves = {f"<b>{attack}": [{"step": i, f"loss{attack}": i} for i in range(3)]}
    page = make_page(tmp_path, cases, curves=curves, title=attack, next_command=attack, notes=[attack])
    assert {"script", "img", "b"} & set(page.tags) <= {"b"}  # <b> is ours
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert page.text.count(attack) >= 8
    assert "{{ 7 * 7 }}" in page.text


def test_the_page_fetches_and_runs_nothing(tmp_path: Path) -> None:
    page = make_page(tmp_path, two_models())
    policy = (
        dict(page.attributes)["content"]
        if ("http-equiv", "Content-Security-Policy") in page.attributes
        else ""
    )
    html = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in html
    assert policy is not None
    assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html


def test_hidden_characters_are_made_visible() -> None:
    assert visible("a\u202eb\u200bc\x00\x1b[31m\ud800") == "a\\u202eb\\u200bc\\u0000\\u001b[31m\\ud800"
    assert visible("tab\tand\nnewline\r\nkept, € and 中 too") == "tab\tand\nnewline\nkept, € and 中 too"


def test_very_long_outputs_are_cut_and_say_so() -> None:
    text = visible("x" * 50_000)
    assert len(text) < 13_000
    assert "38000 more characters" in text


def test_examples_are_drawn_at_random_from_each_kind() -> None:
    cases = {"base": make_cases([0.5] * 90), "sft": make_cases([1.0] * 50 + [0.0] * 30 + [0.5] * 10)}
    examples, counts = pick_examples(cases, "sft", "base", 3, seed=0)
    assert counts == {"improved": 50, "worsened": 30, "unchanged": 10}
    assert [example.kind for example in examples] == ["improved"] * 3 + ["worsened"] * 3 + ["unchanged"] * 3
    for example in examples:
        (_, base), (_, sft) = example.answers
        gain = (sft.score or 0) - (base.score or 0)
        assert example.kind == ("improved" if gain > 0 else "worsened" if gain < 0 else "unchanged")
    chosen = {tuple(e.case.id for e in pick_examples(cases, "sft", "base", 3, seed)[0]) for seed in range(5)}
    assert len(chosen) == 5
    assert pick_examples(cases, "sft", "base", 3, seed=0)[0] == examples


def test_a_page_of_almost_nothing(tmp_path: Path) -> None:
    cases = {"base": make_cases([None]), "sft": make_cases([None])}
    page = make_page(tmp_path, cases, curves={"preferences": []})
    assert "no case was scored for both models" in page.text
    assert "no metrics" in page.text


def test_errors_are_said(tmp_path: Path) -> None:
    cases = {"base": make_cases([0.5] * 20), "sft": make_cases([0.7] * 19 + [None])}
    page = make_page(tmp_path, cases)
    assert "1 errored" in page.text
    assert "1 cases left out" in page.text


def test_curves_of_every_stage(tmp_path: Path) -> None:
    rng = random.Random(0)
    stages = {
        "sft": [{"step": i, "loss": rng.random(), "epoch": 1, "note": "x"} for i in range(500)],
        "dpo": [
            {"step": i, "loss": 0.7, "kl": float("nan") if i == 3 else i, **{f"m{j}": i for j in range(12)}}
            for i in range(9)
        ],
    }
    page = make_page(tmp_path, two_models(), curves=stages)
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert labels[:3] == ["sft: loss", "dpo: loss", "dpo: kl"]
    assert len(labels) == 15
    assert "2 more" in page.text
    assert "nan" not in " ".join(value or "" for name, value in page.attributes if name == "points")


@pytest.mark.parametrize(
    ("value", "text"), [(0.2, "0.200"), (0.0004, "< 0.001"), (None, "–"), (1.0, "1.000")]
)
def test_p_values(value: float | None, text: str) -> None:
    assert p_value(value) == text


def test_a_minus_is_a_minus() -> None:
    assert signed(-0.05) == "−0.050"
    assert signed(0.05) == "+0.050"

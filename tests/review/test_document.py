"""The page shows every number, runs nothing, fetches nothing, believes no output, and is what the folder gives."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from made_cases import make_cases, two_models
from tieout.evidence import scoring
from tieout.evidence.evaluate import PROGRAMMATIC, Case
from tieout.evidence.gate import GatePolicy
from tieout.evidence.report import note, write_report
from tieout.review.document import SECTIONS, page_differs, render, write_page
from tieout.review.examples import marked, pick_examples
from tieout.review.markup import number, p_value, signed, visible
from tieout.review.stored import read
from tieout.storage import manifest
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import append_jsonl, read_jsonl

VOID = {"meta", "link", "br", "img", "hr", "input"}


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


Curves = Mapping[str, Sequence[Mapping[str, Any]]]


def made_run(folder: Path, cases: Mapping[str, Sequence[Case]], curves: Curves = {}, **options: Any) -> Path:  # noqa: B006
    """A judged run of sft against base, with the metrics of stages."""
    recipe = {"stages": [{"train": "sft", "name": "sft"}]}
    write_json(folder / "run.json", {"identity": recipe})
    for stage, rows in curves.items():
        (folder / stage).mkdir(parents=True)
        append_jsonl(folder / stage / "metrics.jsonl", rows)
    write_report(
        folder / "evidence", cases, candidate="sft", baseline="base", metadata={"recipe": recipe}, **options
    )
    return folder


def page_of(folder: Path) -> Page:
    return Page(write_page(folder).read_text())


def test_verdict_reasons_numbers_and_the_next_command_are_there(tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run", two_models(), {"sft": [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.5}]}
    )
    append_jsonl(run / "sft" / "alarms.jsonl", [{"step": 1, "reason": "the policy repeats itself"}])
    page, report = page_of(run), read(run).judged
    assert report["verdict"]["verdict"] == "hold"
    assert "No judged track failed, but not shown yet" in page.text
    for reason in report["verdict"]["reasons"]:
        assert reason[1:] in page.text
    assert f"tieout label {run}" in page.text
    assert "Alarm in sft at step 1: the policy repeats itself" in page.text
    assert ("class", "alarm") in page.attributes
    for figure in (
        report["models"]["sft"]["programmatic"]["slices"]["test"],
        report["models"]["base"]["negative_controls"],
    ):
        assert f"{number(figure['low'])} to {number(figure['high'])}" in page.text
    pair = report["comparisons"][0]["tracks"]["programmatic"]["slices"]["test"]
    assert f"{signed(pair['low'])} to {signed(pair['high'])}" in page.text
    assert "empty: no pairs" in page.text


def test_a_metric_that_was_lost_stands_in_the_verdict_with_its_status_and_what_to_do(tmp_path: Path) -> None:
    """The picture of its track is of the primary metric, which passed."""
    kept = {"base": 1.0, "sft": 0.0}
    cases = {
        model: [replace(case, metrics={"right": case.score or 0.0, "answered": kept[model]}) for case in own]
        for model, own in two_models().items()
    }
    policy = GatePolicy(kept={"answered": 0.05})
    page = page_of(made_run(tmp_path / "run", cases, primary="right", policy=policy))
    assert "answered that it must keep." in page.text
    assert "questions it never saw." not in page.text
    assert "fail Programmatic (test), answered: sft lost what base had" in page.text
    assert "which answers lost answered; train with less drift" in page.text


def test_the_contents_lead_to_every_section(tmp_path: Path) -> None:
    page = page_of(made_run(tmp_path / "run", two_models()))
    leads = [value for name, value in page.attributes if name == "href"]
    assert leads == [f"#{section.key}" for section in SECTIONS]
    anchors = [value for name, value in page.attributes if name == "id"]
    assert anchors == ["verdict", *(section.key for section in SECTIONS)]


def test_untrusted_text_is_shown_and_never_markup(tmp_path: Path) -> None:
    attack = '</pre><script>alert(1)</script><img src=x onerror="alert(2)">&lt;{{ 7 * 7 }}{% raw %}'
    cases = {
        model: [
            replace(case, prompt=[{"role": "user", "content": attack}], completion=f"{model}{attack}")
            for case in own
        ]
        for model, own in two_models().items()
    }
    stage = attack.replace("/", "")  # it is a folder
    curves = {f"<b>{stage}": [{"step": i, f"loss{attack}": i} for i in range(3)]}
    run = made_run(tmp_path / "run", cases, curves, rubric=attack)
    append_jsonl(run / f"<b>{stage}" / "alarms.jsonl", [{"step": 1, "reason": attack}])
    page = Page(render(read(run, name=f'"><script>{attack}')))
    assert {"script", "img"} & set(page.tags) == set()
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]
    assert all((value or "").startswith("#") for name, value in page.attributes if name == "href")
    assert page.text.count(attack) >= 8
    assert "{{ 7 * 7 }}" in page.text


def test_the_page_fetches_and_runs_nothing(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", two_models())
    page = page_of(run)
    policy = (
        dict(page.attributes)["content"]
        if ("http-equiv", "Content-Security-Policy") in page.attributes
        else ""
    )
    html = (run / "evidence" / "report.html").read_text()
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
    run = made_run(tmp_path / "run", cases, {"preferences": []})
    page = page_of(run)
    assert "no case was scored for both models" in page.text
    assert "fewer than two steps with numbers" in page.text
    assert page_differs(run, run / "evidence" / "report.html") == []


def test_a_run_that_trains_says_what_is_not_there_yet(tmp_path: Path) -> None:
    stages = [{"train": "sft", "name": "sft"}, {"evaluate": {"name": "evaluate", "models": ["base", "sft"]}}]
    write_json(tmp_path / "run.json", {"identity": {"stages": [*stages, {"gate": {"name": "gate"}}]}})
    page = Page(render(read(tmp_path)))
    assert "Not judged yet" in page.text
    assert "0 of 2 models" in page.text
    append_jsonl(tmp_path / "sft" / "metrics.jsonl", [{"step": i, "loss": 1 / (i + 1)} for i in range(5)])
    with (tmp_path / "sft" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')  # is being written
    html = render(read(tmp_path), refresh_seconds=5)
    assert '<meta http-equiv="refresh" content="5">' in html
    assert "5 steps so far" in Page(html).text
    assert "sft: loss" in html


def test_errors_are_said(tmp_path: Path) -> None:
    cases = {"base": make_cases([0.5] * 20), "sft": make_cases([0.7] * 19 + [None])}
    page = page_of(made_run(tmp_path / "run", cases))
    assert "1 errored" in page.text
    assert "1 cases left out" in page.text
    assert "the parser crashed" in page.text  # among the worst


def test_curves_of_every_stage(tmp_path: Path) -> None:
    rng = random.Random(0)
    stages = {
        "sft": [{"step": i, "loss": rng.random(), "epoch": 1, "note": "x"} for i in range(500)],
        "dpo": [
            {
                "step": i,
                "loss": 0.7 + i,
                "same": 3,
                "kl": float("nan") if i == 3 else i,
                **{f"m{j}": i for j in range(12)},
            }
            for i in range(9)
        ],
    }
    page = page_of(made_run(tmp_path / "run", two_models(), stages))
    labels = [value for name, value in page.attributes if name == "aria-label"]
    labels = [value for value in labels if value and value.startswith(("sft: ", "dpo: "))]
    assert labels[:3] == ["sft: loss", "dpo: loss", "dpo: kl"]
    assert len(labels) == 15
    assert "2 more" in page.text
    assert "The same at every step: same 3." in page.text
    assert "nan" not in " ".join(value or "" for name, value in page.attributes if name == "points")


@pytest.mark.parametrize(
    ("value", "text"), [(0.2, "0.200"), (0.0004, "< 0.001"), (None, "–"), (1.0, "1.000")]
)
def test_p_values(value: float | None, text: str) -> None:
    assert p_value(value) == text


def test_a_minus_is_a_minus() -> None:
    assert signed(-0.05) == "−0.050"
    assert signed(0.05) == "+0.050"


# ---- what stands side by side


def test_figures_that_the_other_answer_lacks_are_marked() -> None:
    said = marked("cost 1,200.50 and 30, 30", "cost 1200.5, 30 and 7")
    assert str(said) == "cost 1,200.50 and 30, <mark>30</mark>"  # once more than there
    assert str(marked("<b>12</b>", "")) == "&lt;b&gt;<mark>12</mark>&lt;/b&gt;"


def test_the_worst_come_first_and_no_more_than_twenty(tmp_path: Path) -> None:
    scores = [i / 40 for i in range(40)]
    random.Random(0).shuffle(scores)
    cases = {"base": make_cases([0.5] * 40), "sft": make_cases(scores)}
    page = page_of(made_run(tmp_path / "run", cases))
    lowest = sorted(range(40), key=lambda i: scores[i])[:20]
    places = [
        page.text.index(f"t/programmatic/test/{i} Prompt {i}reward 0.500 → {number(scores[i])}")
        for i in lowest
    ]
    assert places == sorted(places)
    assert page.text.count("reward 0.500 → ") == 20


def test_an_episode_is_shown_turn_by_turn_to_readers_and_graders(tmp_path: Path) -> None:
    game = {"turns": ["LOOK <b>7</b>", "31"], "replies": ["Label: 30 dollars."]}
    cases = {"base": make_cases([0.5] * 3), "sft": [replace(case, **game) for case in make_cases([0.0] * 3)]}
    run = made_run(tmp_path / "run", cases)
    page = page_of(run)
    turns = "modelLOOK <b>7</b>\nenvironmentLabel: 30 dollars.\nmodel31score at the end: 0.000"
    assert page.text.count(turns) == 3 + 2  # the worst, and two examples of those that became worse
    (row, *_) = (row for _, row in read_jsonl(run / "evidence" / "human" / "sheet.jsonl"))
    shown = "[model]\nLOOK <b>7</b>\n\n[environment]\nLabel: 30 dollars.\n\n[model]\n31"
    assert sorted([row["output_a"], row["output_b"]]) == sorted([shown, "m says 0.5"])


def test_alternatives_that_were_not_evaluated_are_asked_for(tmp_path: Path) -> None:
    cases = two_models()
    cases["best-of-8"] = [replace(case, score=1.0) for case in cases["base"]]
    run = made_run(tmp_path / "run", cases, comparisons=[("sft", "best-of-8")])
    made = {"samples": 8, "temperature": 0.7, "selector": "the reward, exact", "reads": None}
    note(run / "evidence", "models", {"best-of-8": {"kind": "best_of_n", **made}})
    text = page_of(run).text
    text = text[text.index("Training is worth its cost") : text.index("Where few pairs")]
    assert "best-of-8 oracle best of 8 samples of the base at temperature 0.7, by the reward, exact" in text
    assert "upper bound: chosen with the gold answer, as far as is known" in text
    assert "no: it is worse" in text
    missing = text[text.index("Not in this run, and for its developer to provide:") :]
    assert "supervised fine-tuning" not in missing  # the candidate is that
    assert "the base with a prompt of yours" in missing
    assert "best of N" not in missing
    note(run / "evidence", "models", {})
    assert "best-of-8 evaluated with the others" in page_of(run).text  # a name alone says nothing


# ---- it is what the folder gives


def test_a_page_is_rendered_again_wherever_the_folder_lies(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", two_models(), {"sft": [{"step": i, "loss": i} for i in range(3)]})
    manifest.append(run, "start", {"configuration": {"seed": 3}, "command": ["tieout", "run"]})
    page = write_page(run)
    manifest.append(run, "gate")  # the step that wrote the page cannot stand in it
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    shutil.rmtree(run)
    page = moved / "evidence" / "report.html"
    assert page_differs(moved, page) == []
    text = page.read_text()
    for said, instead, where in (
        ("<strong>hold</strong>", "<strong>ship</strong>", "the first screen"),
        ("+0.", "+9.", "the first screen"),
        ("<h2>Cost</h2>", "<h2>Cost</h2> none", "section 'Cost'"),
        ("</main>", "<p>Approved.</p></main>", "the frame"),
    ):
        assert said in text
        page.write_text(text.replace(said, instead, 1))
        (problem,) = page_differs(moved, page)
        assert (
            problem
            == f"report.html: {where} is not what the stored files give; `tieout report` writes it again"
        )
    page.write_text(text)
    (moved / "sft" / "metrics.jsonl").write_text("")
    assert "section 'Training'" in page_differs(moved, page)[0]
    (moved / manifest.FILE).write_text("")
    assert page_differs(moved, page) == [
        "report.html: it was made from a record of steps that is not this run's"
    ]


def test_a_right_answer_may_be_messages_or_no_text(tmp_path: Path) -> None:
    golds = [
        [{"role": "assistant", "content": "LOOK"}, {"role": "assistant", "content": "31"}],
        42,
        ["a", "b"],
    ]
    run = made_run(tmp_path / "run", {"base": make_cases([0.5] * 3), "sft": make_cases([0.0] * 3)})
    append_jsonl(
        run / "evidence" / scoring.ROWS,
        [{"track": PROGRAMMATIC, "slice": "test", "row": {"completion": gold}} for gold in golds],
    )
    write_json(run / "evidence" / scoring.NAMES, {"name": "t"})
    assert list(read(run).golds.values()) == ["31", "42", '["a", "b"]']
    write_page(run)

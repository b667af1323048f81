"""A run is graded on the page, and its verdict follows."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from projects import answer
from test_label_page import press, saved

from tieout.cli.gate import gate_run, main
from tieout.cli.label import main as label
from tieout.errors import InputError
from tieout.evidence.evaluate import read_cases
from tieout.evidence.human_table import write_table
from tieout.labelling.assignment import Design
from tieout.labelling.exports import human_rows
from tieout.labelling.items import read_items
from tieout.labelling.scheme import make_scheme
from tieout.labelling.store import Store
from tieout.storage import manifest
from tieout.storage.jsonl import read_json, read_jsonl, stored, write_jsonl

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
from test_show import made_run

DEMO = Path(__file__).parents[2] / "benchmarks" / "results" / "demo_seeds" / "align-0"
"""The evidence that a run of the demo left, with the sheet that nobody graded."""


def labels_of(run: Path) -> Store:
    return Store(run / "labels", make_scheme("pairs"), read_items(run)[1], Design(overlap=0, repeats=0))


@contextmanager
def command(run: Path) -> Iterator[str]:
    """`tieout label RUN` in a process of its own, ended by Ctrl+C; its address."""
    arguments = [str(run), "--port", "0", "--overlap", "0", "--repeats", "0"]
    started = [sys.executable, "-m", "tieout", "label", *arguments]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", "".join(islice(process.stdout, 2)))
        assert found
        try:
            yield found[0]
        finally:  # a test that failed would wait for it without end
            process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)


def grader(evidence: Path, preferred: str) -> Callable[[Any], str]:
    """The key of somebody who prefers what this model wrote, by the cases: the sheet does not say who wrote what."""
    cases = {case.id: case.completion for case in read_cases(stored(evidence / "cases.jsonl"))[preferred]}
    sheet = [row for _, row in read_jsonl(evidence / "human" / "sheet.jsonl")]
    case_of = {frozenset((row["output_a"], row["output_b"])): row["case"] for row in sheet}

    def key(page: Any) -> str:
        texts = [page.text_content(f"#text-{i}") for i in (0, 1)]
        own = cases[case_of[frozenset(texts)]]
        assert own in texts
        return "t" if texts[0] == texts[1] else "ab"[texts.index(own)]

    return key


@pytest.mark.parametrize(("preferred", "graded", "verdict"), [("dpo", 100, "ship"), ("sft", 30, "reject")])
def test_the_demo_graded_on_the_page_turns_from_hold_to_ship_or_reject(
    tmp_path: Path, tab: Callable[..., Any], preferred: str, graded: int, verdict: str
) -> None:
    run, evidence = tmp_path / "run", tmp_path / "run" / "evidence"
    shutil.copytree(DEMO, evidence)
    assert read_json(evidence / "report.json")["verdict"]["verdict"] == "hold"
    manifest.append(run, "start")
    key = grader(evidence, preferred)
    with command(run) as address:
        page = tab(address)
        for number in range(1, graded + 1):  # the 100 pairs of dpo and sft, which decide, come first
            page.wait_for_selector(f"text=Pair {number} of 300")
            press(page, key(page))
        saved(page)
        press(page, "f")
        page.get_by_role("button", name="Gate this run").click()
        page.wait_for_selector(f"#dialog strong:text-is('{verdict}')")
    report = read_json(evidence / "report.json")
    assert report["verdict"]["verdict"] == verdict
    (human,) = [check for check in report["verdict"]["checks"] if check["track"] == "human"]
    assert human["n"] == graded
    assert manifest.check(run) == []
    assert f">{verdict}<" in (evidence / "report.html").read_text()


def test_labels_of_a_run_are_on_record_when_the_command_ends(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", 0.0, 0.95)
    manifest.append(run, "start")
    label([str(run), "--export", "all", "--out", str(tmp_path / "all.jsonl")])
    assert manifest.replay(run)[0].written_by["labels/journal.jsonl"] == "tieout label"
    assert manifest.check(run) == []


def test_each_form_of_grades_gives_the_same_figures(tmp_path: Path) -> None:
    def labels(run: Path, sheet: Path) -> Path:
        store = labels_of(run)
        for item, _ in store.next("anna", 500):
            store.judge(answer(store, "anna", item, "ab"[store.items[item].texts[1] == "dpo"]))
        return store.folder

    def filled(run: Path, sheet: Path) -> Path:
        rows = [row for _, row in read_jsonl(sheet)]
        graded = [{**row, "preferred": "a" if row["output_a"] == "dpo" else "b"} for row in rows]
        write_jsonl(copy := tmp_path / "copy.jsonl", graded)
        return copy

    def in_place(run: Path, sheet: Path) -> Path:
        sheet.write_bytes(filled(run, sheet).read_bytes())
        return sheet

    def named(run: Path, sheet: Path) -> Path:
        write_jsonl(path := tmp_path / "named.jsonl", human_rows(labels_of(run), sheet.with_name("key.json")))
        return path

    def table(run: Path, sheet: Path) -> Path:
        write_table(path := tmp_path / "table.csv", [row for _, row in read_jsonl(filled(run, sheet))])
        return path

    found = []
    for form in (labels, filled, in_place, named, table):
        run = made_run(tmp_path / form.__name__, 0.0, 0.95)
        sheet = run / "evidence" / "human" / "sheet.jsonl"
        if form is named:
            labels(run, sheet)
        found.append(gate_run(run, form(run, sheet))["comparisons"][0]["tracks"]["human"])
    assert found[0]["n"] >= 20
    assert found == [found[0]] * 5
    with pytest.raises(InputError, match="does not exist; the sheet to fill in is"):
        gate_run(tmp_path / "labels", tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(("preferred", "status"), [("dpo", 0), ("sft", 4)])
def test_the_gate_takes_the_folder_of_the_labels(tmp_path: Path, preferred: str, status: int) -> None:
    run = made_run(tmp_path / "run", 0.0, 0.95)
    store = labels_of(run)
    for item, _ in store.next("anna", 40):
        store.judge(answer(store, "anna", item, "ab"[store.items[item].texts[1] == preferred]))
    with pytest.raises(SystemExit) as ended:  # while the page is open: the store is
        main([str(run), "--human", str(run / "labels")])
    assert ended.value.code == status
    with pytest.raises(Exception, match="no folder of `tieout label`"):
        main([str(run), "--human", str(run / "evidence")])

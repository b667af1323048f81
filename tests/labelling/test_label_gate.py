"""A run is graded on the page, and its verdict follows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from projects import answer
from served import served
from test_label_page import press, saved

from tieout.cli.gate import main
from tieout.cli.label import gate_run
from tieout.cli.label import main as label
from tieout.labelling.assignment import Design
from tieout.labelling.exports import human_rows
from tieout.labelling.items import read_items
from tieout.labelling.scheme import make_scheme
from tieout.labelling.store import Store
from tieout.storage import manifest
from tieout.storage.jsonl import read_json

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
from test_show import made_run


def labels_of(run: Path) -> Store:
    return Store(run / "labels", make_scheme("pairs"), read_items(run)[1], Design(overlap=0, repeats=0))


@pytest.mark.parametrize(("preferred", "verdict"), [("dpo", "ship"), ("sft", "reject")])
def test_graded_on_the_page_a_hold_becomes_ship_or_reject(
    tmp_path: Path, tab: Callable[..., Any], preferred: str, verdict: str
) -> None:
    run = made_run(tmp_path / "run", 0.0, 0.95)
    report, key = run / "evidence" / "report.json", run / "evidence" / "human" / "key.json"
    assert read_json(report)["verdict"]["verdict"] == "hold"
    manifest.append(run, "start")
    store = labels_of(run)
    with served(store, gate=lambda: gate_run(run, human_rows(store, key))) as address:
        page = tab(address)
        for number in range(1, 41):
            page.wait_for_selector(f"text=Pair {number} of ")
            press(page, "a" if page.text_content("#text-0") == preferred else "b")
        saved(page)
        press(page, "f")
        page.get_by_role("button", name="Gate this run").click()
        page.wait_for_selector(f"#dialog strong:text-is('{verdict}')")
    assert read_json(report)["verdict"]["verdict"] == verdict
    assert manifest.check(run) == []
    assert f">{verdict}<" in (run / "evidence" / "report.html").read_text()


def test_labels_of_a_run_are_on_record_when_the_command_ends(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", 0.0, 0.95)
    manifest.append(run, "start")
    label([str(run), "--export", "all", "--out", str(tmp_path / "all.jsonl")])
    assert manifest.replay(run)[0].written_by["labels/journal.jsonl"] == "tieout label"
    assert manifest.check(run) == []


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

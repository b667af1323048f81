"""Attempts, cost and slices as a run folder has them, and the command that writes the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from made_cases import make_cases, two_models
from tieout.cli.report import main
from tieout.errors import InputError
from tieout.evidence.evaluate import CONTROLS, write_cases
from tieout.evidence.report import write_report
from tieout.review import attempts, cost, reward, slices
from tieout.review.markup import Markup
from tieout.review.stored import read
from tieout.review.tracks import panels
from tieout.storage import manifest
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import append_jsonl
from tieout.storage.runfolder import RunFolder, RunFolderError

ODD = {f"t/negative_controls/copy/{i}" for i in range(1, 30, 2)}


def cells(body: Markup) -> list[list[str]]:
    """The text of each row's cells."""
    rows = re.findall("<tr>(.*?)</tr>", str(body), re.DOTALL)
    return [
        [Markup(cell).striptags().strip() for cell in row.replace("</th>", "</td>").split("</td>")[:-1]]
        for row in rows
    ]


def started(folder: Path, **configuration: Any) -> None:
    manifest.append(
        folder,
        "start",
        {"configuration": configuration, "command": ["tieout", "run", "mine.yaml"], "code": {}},
    )


def test_every_attempt_is_listed_with_what_changed_and_how_it_failed(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"identity": {}})
    started(tmp_path, seed=0, rate=0.1)
    manifest.append(tmp_path, "sft", {"failed": "InputError: row 7 has no prompt"})
    started(tmp_path, seed=3, rate=0.1, stages=[{"train": "dpo", "name": "dpo", "seed": 9}])
    for name in ("base", "base-1", "dpo-2"):  # base-1: of an earlier attempt
        write_cases(tmp_path / "evaluate" / f"{name}.jsonl", {name[:4]: make_cases([0.25] * 8)})
    write_json(tmp_path / "evaluate" / "dpo-2.json", {"inputs": {}})  # a model of that name
    manifest.append(tmp_path, "evaluate")
    body = attempts.section(read(tmp_path))
    _, first, second, _, earlier = cells(body)
    assert (first[0], first[2], first[3], first[4]) == ("1", "0", "tieout run mine.yaml", "–")
    assert first[5] == "fail sft: InputError: row 7 has no prompt"
    assert (second[2], second[4], second[5]) == ("3, dpo 9", "evaluate", "done")
    assert "seed: 0 -> 3" in second[3]
    assert "rate" not in second[3]
    assert (earlier[0], earlier[1], earlier[3], earlier[4]) == (
        "base",
        "reward",
        "8",
        "evaluate/base-1.jsonl",
    )
    assert earlier[2].startswith("0.250")


def test_steps_after_the_page_are_not_in_it(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"identity": {}})
    started(tmp_path, seed=0)
    head = read(tmp_path).head
    started(tmp_path, seed=1)
    assert len(read(tmp_path).steps) == 2
    assert [step["configuration"] for step in read(tmp_path, head=head).steps] == [{"seed": 0}]
    assert read(tmp_path, head="").steps == []  # of a page that was made before there was a record


def test_cost_is_planned_against_measured(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"identity": {}})
    append_jsonl(tmp_path / "sft" / "metrics.jsonl", [{"step": i, "update_seconds": 90.0} for i in range(4)])
    assert cells(cost.section(read(tmp_path)))[1:] == [["sft", "4", "6 min"]]
    stage = {"steps": 5, "seconds": 300.0, "memory": 2**30, "at_most": False}
    plan = [
        {**stage, "name": "sft", "measured": {"memory": 3 * 2**29, "seconds": 360.0, "steps": 4}},
        {**stage, "name": "dpo", "at_most": True, "seconds": None, "memory": None},
    ]
    write_json(tmp_path / "plan.json", {"stages": plan})
    assert cells(cost.section(read(tmp_path)))[1:] == [
        ["sft", "5", "4", "5 min", "6 min", "1.00 GiB", "1.50 GiB"],
        ["dpo", "up to 5", "not yet", "not claimed", "not yet", "unknown", "not yet"],
    ]


def test_each_slice_has_its_row(tmp_path: Path) -> None:
    cases = {
        "base": make_cases([0.0] * 30, [1.0] * 30, [0.5] * 30),
        "sft": make_cases([1.0] * 30, [0.0] * 30, [0.5] * 30),
    }
    for model, own in cases.items():  # half of the controls are of another skill
        cases[model] = [replace(case, slice="sum") if case.id in ODD else case for case in own]
    write_report(tmp_path / "evidence", cases, candidate="sft", baseline="base")
    rows = {row[0]: (row[1], row[2], row[-1]) for row in cells(slices.section(read(tmp_path)))[1:]}
    assert rows == {
        "test": ("0.000 0.000 to 0.116", "1.000 0.884 to 1.000", "rose"),
        "ood": ("0.500 0.453 to 0.547", "0.500 0.453 to 0.547", "not shown"),
        "copy": ("1.000 0.782 to 1.000", "0.000 0.000 to 0.218", "fell"),
        "sum": ("1.000 0.782 to 1.000", "0.000 0.000 to 0.218", "fell"),
    }


def test_a_skill_that_was_lost_is_said_where_the_mean_of_all_controls_passed(tmp_path: Path) -> None:
    kept, few = [1.0] * 980, {f"t/negative_controls/copy/{i}" for i in range(980, 1000)}
    cases = {
        "base": make_cases([0.0] * 30, kept + [1.0] * 20),
        "sft": make_cases([1.0] * 30, kept + [0.0] * 20),
    }
    for model, own in cases.items():
        cases[model] = [replace(case, slice="sum") if case.id in few else case for case in own]
    write_report(tmp_path / "evidence", cases, candidate="sft", baseline="base")
    run = read(tmp_path)
    assert [c["status"] for c in run.judged["verdict"]["checks"] if c["track"] == CONTROLS] == ["pass"]
    page = str(panels(run))
    assert "Negative controls (sum): worse, -1.000 [" in page
    assert "Negative controls (copy)" not in page


def test_exploits_and_reliability_of_the_reward_are_shown(tmp_path: Path) -> None:
    ends = [(0.1, 0.0, 0.0, 0.2), (0.5, 0.5, 0.3, 0.7), (0.9, 1.0, 0.8, 1.0)]
    bins = [dict(zip(("mean_score", "right", "right_low", "right_high"), one, strict=True)) for one in ends]
    found = {
        "class": "shell",
        "completion": "<b>42</b>",
        "score": 1.0,
        "gold_score": 1.0,
        "why": "no working",
    }
    checks = [
        {
            "stage": "check",
            "what": "attack",
            "verdict": "fail",
            "said": "exploits found",
            "findings": [found] * 12,
        },
        {"stage": "check", "what": "calibration", "verdict": "pass", "said": "rises", "bins": bins},
    ]
    metadata = {"reward_checks": checks}
    write_report(tmp_path / "evidence", two_models(), candidate="sft", baseline="base", metadata=metadata)
    body = reward.section(read(tmp_path))
    rows = cells(body)
    assert [row[:3] for row in rows[1:3]] == [["check", "attack", "fail"], ["check", "calibration", "pass"]]
    assert rows[4:] == [["shell", "<b>42</b>", "1.000", "1.000", "no working"]] * 10
    assert "check: calibration" in body
    dots = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', str(body))]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert dots[0][1] - dots[1][1] == pytest.approx(dots[1][1] - dots[2][1], abs=0.2)  # 0, 1/2, 1
    assert len(re.findall('class="error"', str(body))) == 3


# ---- the command


def test_the_command_writes_the_page_and_puts_it_on_record(tmp_path: Path, capsys: Any) -> None:
    write_json(tmp_path / "run" / "run.json", {"identity": {}})
    write_report(tmp_path / "run" / "evidence", two_models(), candidate="sft", baseline="base")
    manifest.append(tmp_path / "run", "gate")
    main([str(tmp_path / "run")])
    assert capsys.readouterr().out == f"report: {tmp_path}/run/evidence/report.html\n"
    assert manifest.check(tmp_path / "run") == []


def test_a_run_that_works_can_be_looked_at_elsewhere(tmp_path: Path, capsys: Any) -> None:
    run = tmp_path / "run"
    with RunFolder(run):
        write_json(run / "run.json", {"identity": {}})
        before = sorted(run.rglob("*"))
        main([str(run), "--out", str(tmp_path / "now.html")])
        assert sorted(run.rglob("*")) == before
        with pytest.raises(RunFolderError):
            main([str(run)])
    assert "Not judged yet" in (tmp_path / "now.html").read_text()


def test_what_is_no_run_folder_is_refused_and_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run folder"):
        main([str(tmp_path / "nothing")])
    assert not (tmp_path / "nothing").exists()


def test_a_report_of_another_version_is_named_as_such(tmp_path: Path) -> None:
    write_report(tmp_path / "evidence", two_models(), candidate="sft", baseline="base")
    path = tmp_path / "evidence" / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(
        InputError, match="is in format 2, this version writes 6; `tieout gate` builds it again"
    ):
        main([str(tmp_path)])


def test_no_model_is_loaded(tmp_path: Path) -> None:
    write_report(tmp_path / "evidence", two_models(), candidate="sft", baseline="base")
    code = "import sys; from tieout.cli.report import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)

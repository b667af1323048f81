"""Two runs compared: what is named as changed is what was changed, and figures are paired on the same cases only."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from tieout.cli.diff import main
from tieout.cli.report import main as report
from tieout.cli.verify import main as verify
from tieout.errors import InputError
from tieout.evidence import scoring, stats
from tieout.evidence.approved import FILE, keep_approved
from tieout.evidence.diff import diff
from tieout.evidence.evaluate import evaluate
from tieout.evidence.gate import GatePolicy
from tieout.evidence.report import regate, write_report
from tieout.review.document import PAGE, page_differs
from tieout.review.reviewer import ReviewRow, review_rows, seen_of
from tieout.review.stored import read
from tieout.rewards import load_reward
from tieout.rows import data_hash, digests
from tieout.samplers.mock import MockSampler
from tieout.storage import manifest
from tieout.storage.atomic import write_json
from tieout.storage.jsonl import content_sha256, read_json
from tieout.tasks import Task
from tieout.types import Row

TRAIN: list[Row] = [{"prompt": f"say {i}", "completion": str(i)} for i in range(20)]
TEST: list[Row] = [{"prompt": f"{i} + {i}?", "answer": str(2 * i)} for i in range(60)]


def made(
    folder: Path,
    *,
    train: Sequence[Row] = TRAIN,
    test: Sequence[Row] = TEST,
    right: Callable[[int], bool] = lambda i: i < 40,
    beta: float = 0.1,
    weights: str = "w1",
    about: dict[str, Any] | None = None,
    processor: str = "one",
) -> Path:
    """A run folder of a base and a policy that is right where `right` says so."""
    task = Task("sums", lambda split: test, load_reward("exact"))
    cases = {
        name: evaluate(
            task, test, MockSampler([row["answer"] if ok(i) else "x" for i, row in enumerate(test)])
        )
        for name, ok in (("base", lambda i: i < 20), ("dpo", right))
    }
    stages = [{"train": "dpo", "name": "dpo", "beta": beta}, {"evaluate": {"name": "evaluate"}}]
    known = {
        "identity": {"model": "b", "seed": 0, "stages": stages},
        "data": {"train": data_hash(train), "test": data_hash(test)},
        "environment": {"processor": processor},
    }
    write_json(folder / "run.json", known)
    digests.keep(folder / digests.FILE, {"train": train, "test": test})
    manifest.append(
        folder, "start", about or {"code": {"version": "1", "sha256": "c"}, "sources": {"reward": "r"}}
    )
    names = {"task": None, "reward": "exact", "controls": None}
    scoring.keep(folder / "evidence", task, {"test": test}, None, names)
    models = {"base": {"base": "b", "trained": None}, "dpo": {"base": "b", "trained": weights}}
    write_report(folder / "evidence", cases, candidate="dpo", baseline="base", metadata={"models": models})
    return folder


def status(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_a_run_and_its_copy_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b")
    assert status(str(a), str(b)) == 0
    assert "Re-validation is not due: nothing differs" in capsys.readouterr().out


def test_rows_are_counted_by_what_happened_to_them(tmp_path: Path) -> None:
    changed = [{**TRAIN[0], "completion": "zero"}, *TRAIN[2:], {"prompt": "say more", "completion": "more"}]
    found = diff(made(tmp_path / "a"), made(tmp_path / "b", train=changed))
    assert [c.what for c in found.changes] == ["train: 1 rows added, 1 removed, 1 changed, 18 the same"]
    assert found.reasons[0].startswith("Data changed: train: 1 rows added")
    other = diff(tmp_path / "a", made(tmp_path / "c", train=TRAIN[::-1]))
    assert [c.what for c in other.changes] == ["train: the same 20 rows in another order"]


def test_rows_that_share_a_question_are_counted_each() -> None:
    rows = [{"id": 1, "answer": answer} for answer in "abc"]
    found = digests.compare(digests.digests_of(rows), digests.digests_of([rows[0], {"id": 1, "answer": "z"}]))
    assert (found.added, found.removed, found.changed, found.same) == (0, 1, 1, 1)
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    other = [talk[0], {"role": "assistant", "content": "b"}]
    said = digests.compare(
        digests.digests_of([{"messages": talk}]), digests.digests_of([{"messages": other}])
    )
    assert (said.added, said.removed, said.changed) == (0, 0, 1)


def test_a_setting_of_a_stage_is_named_by_its_key_and_figures_are_paired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = made(tmp_path / "a")
    b = made(tmp_path / "b", beta=0.3, weights="w2", right=lambda i: 10 <= i < 42)
    assert status(str(a), str(b), "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [c["what"] for c in found["changes"]] == [
        "stages.dpo.beta: 0.1 -> 0.3",
        'dpo.trained: "w1" -> "w2"',
    ]
    assert found["revalidation"]["due"]
    assert found["answered_differently"] == {"dpo": 12, "base": 0}
    reward = next(f for f in found["figures"] if (f["model"], f["label"]) == ("dpo", "reward"))
    assert (reward["was"]["mean"], reward["now"]["mean"]) == (40 / 60, 32 / 60)
    assert reward["paired"]["n"] == 60
    assert reward["paired"]["difference"] == pytest.approx(-8 / 60)
    # 2 gained and 10 lost: mid-p of McNemar from the binomial itself
    exact, at = binomtest(2, 12, 0.5).pvalue, binomtest(2, 12, 0.5, "less").pvalue
    point = at - binomtest(1, 12, 0.5, "less").pvalue
    assert reward["paired"]["p"] == pytest.approx(exact - point)
    assert reward["moved"] == (reward["paired"]["p"] < 0.05)
    assert any("reward -0.133" in line for line in found["revalidation"]["reasons"])


def test_only_cases_that_ask_the_same_are_paired(tmp_path: Path) -> None:
    """A row before all others moves every position; another gold makes another case of the same prompt."""
    test = [{"prompt": "new?", "answer": "n"}, *TEST[:50], *({**row, "answer": "other"} for row in TEST[50:])]
    found = diff(made(tmp_path / "a"), made(tmp_path / "b", test=test, right=lambda i: 1 <= i < 41))
    assert found.numbers.cases == {"same": 50, "first": 10, "second": 11}
    reward = next(f for f in found.numbers.figures if f.model == "dpo" and f.label == "reward")
    assert reward.paired["n"] == 50
    assert reward.paired["difference"] == 0  # the same 40 are right


def test_an_environment_alone_needs_no_validation_and_a_reward_does(tmp_path: Path) -> None:
    a = made(tmp_path / "a")
    code = {"code": {"version": "2", "sha256": "d"}, "sources": {"reward": "r"}}
    found = diff(a, made(tmp_path / "b", processor="two", about=code))
    assert [c.part for c in found.changes] == ["code", "code", "environment"]
    assert not found.reasons
    assert "not due: only the environment and the code of tieout changed" in found.verdict
    reward = {"code": {"version": "1", "sha256": "c"}, "sources": {"reward": "s"}}
    other = diff(a, made(tmp_path / "c", about=reward))
    assert other.reasons == ['Reward changed: source of reward: "r" -> "s"']
    assert any("of models and of rewards together" in note for note in other.notes)


def test_what_is_no_run_is_trouble_and_not_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = made(tmp_path / "a")
    assert status(str(a), str(tmp_path / "none")) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_runs_without_reports_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_json(tmp_path / name / "run.json", {"identity": {"model": "b", "seed": seed}, "data": {}})
    found = diff(tmp_path / "a", tmp_path / "b")
    assert [c.what for c in found.changes] == ["seed: 0 -> 1"]
    assert any("no report yet" in note for note in found.notes)
    assert found.verdict.startswith("Re-validation is due")


def test_reports_whose_intervals_are_by_another_rule_are_said_to_be(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    with stats.former():
        regate(one / "evidence")
    path = one / "evidence" / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 5}))
    found = diff(one, other)
    assert not found.equal
    assert found.reasons == []
    assert found.verdict == "Re-validation is not due: every answer is the same."
    assert any(note.startswith("The reports are in formats 5 and 6") for note in found.notes)


def test_a_report_of_another_version_is_trouble_and_not_a_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    path = one / "evidence" / "report.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(InputError, match="is in format 2, this version writes 6"):
        diff(one, other)


def test_a_step_that_is_just_being_written_and_odd_line_ends_are_read(tmp_path: Path) -> None:
    """The manifest is split at line feeds alone, and its torn last line left out."""
    one = made(tmp_path / "one", about={"code": {"version": "1\u2028", "sha256": "c"}})
    assert manifest.steps(one)[0][-1]["code"]["version"] == "1\u2028"
    with (one / manifest.FILE).open("a") as file:
        file.write('{"_type": "torn')
    assert not [change for change in diff(one, made(tmp_path / "other")).changes if change.part == "data"]


def test_it_starts_without_torch() -> None:
    code = "import sys, tieout.cli.diff, tieout.evidence.diff; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- the approved run of the reviewer's table


def row_of(run: Path) -> ReviewRow:
    place = read(run)
    return review_rows(place.judged, None, seen_of(place))[12]


def test_a_declared_approved_run_fills_the_reviewers_row(tmp_path: Path) -> None:
    approved = made(tmp_path / "approved")
    run = made(tmp_path / "run", right=lambda i: i < 50, beta=0.3, weights="w2")
    assert row_of(run).open == (
        "the approved run, if there is one, given as `tieout report RUN --approved APPROVED`: the validator",
    )
    keep_approved(run, approved)
    row = row_of(run)
    digest = content_sha256(approved / "evidence" / "report.json")
    assert any(f"report SHA-256 {digest}" in one for one in row.found)
    assert "Re-validation is due: what was validated is not what this run has." in row.found
    assert any("beta: 0.1 -> 0.3" in one for one in row.found)
    assert row.open == ("re-validation: the validator",)
    kept = (run / "evidence" / FILE).read_text()
    assert str(tmp_path) not in kept
    regate(run / "evidence", policy=GatePolicy(min_cases=7))
    assert any("compared before this report was made" in one for one in row_of(run).open)
    keep_approved(run, approved)
    assert row_of(run).open == ("re-validation: the validator",)


def test_nothing_changed_since_the_approved_run(tmp_path: Path) -> None:
    approved, run = made(tmp_path / "approved"), made(tmp_path / "run")
    keep_approved(run, approved)
    row = row_of(run)
    assert row.open == ()
    assert any(one.startswith("Re-validation is not due") for one in row.found)


def test_an_approved_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(InputError, match="expected the folder of a run that was judged"):
            keep_approved(run, folder)
    with pytest.raises(InputError, match="is this run"):
        keep_approved(run, run)
    other = made(tmp_path / "other")
    cases = other / "evidence" / "cases.jsonl"
    cases.write_text(cases.read_text().replace("x", "y"))
    with pytest.raises(InputError, match="not as its report was made: cases"):
        keep_approved(run, other)
    assert not (run / "evidence" / FILE).exists()


def test_the_command_keeps_it_and_the_page_is_verified(tmp_path: Path) -> None:
    approved, run = made(tmp_path / "approved"), made(tmp_path / "run", beta=0.3)
    report(["--approved", str(approved), str(run)])
    page = (run / "evidence" / PAGE).read_text()
    assert "beta: 0.1 -&gt; 0.3" in page
    assert page_differs(run, run / "evidence" / PAGE) == []
    with pytest.raises(InputError, match="give one of them"):
        report([str(run), "--approved", str(approved), "--out", str(tmp_path / "page.html")])


def test_what_was_kept_of_the_approved_run_is_compared_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approved, run = made(tmp_path / "approved"), made(tmp_path / "run", beta=0.3)
    keep_approved(run, approved)
    moved = tmp_path / "elsewhere" / "old"
    shutil.copytree(approved, moved)

    def verified(*more: str) -> Mapping[str, Any]:
        capsys.readouterr()
        with suppress(SystemExit):
            verify([str(run), "--json", *more])
        (found,) = [c for c in json.loads(capsys.readouterr().out)["claims"] if c["what"] == "approved run"]
        return dict(found)

    assert verified()["status"] == "not checked"
    assert verified("--approved", str(moved))["status"] == "holds"
    kept = read_json(run / "evidence" / FILE)
    write_json(run / "evidence" / FILE, {**kept, "due": False, "changes": []})
    altered = verified("--approved", str(moved))
    assert altered["status"] == "differs"
    assert any("due" in problem for problem in altered["problems"])
    assert any("changes" in problem for problem in altered["problems"])
    write_json(run / "evidence" / FILE, kept)
    other = made(tmp_path / "other", right=lambda i: i < 9)
    (problem,) = verified("--approved", str(other))["problems"]
    assert "compared with the report" in problem
    regate(run / "evidence", policy=GatePolicy(min_cases=7))
    assert "judged again since" in verified("--approved", str(moved))["said"]
    with pytest.raises(InputError, match="keeps no comparison"):
        verify([str(approved), "--approved", str(run)])

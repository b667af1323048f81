"""Forgeries of a judged run, each named: in its files, in the record of steps, and with all digests made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from judged_run import judged_run
from tieout.cli.verify import main
from tieout.errors import InputError
from tieout.evidence.report import regate
from tieout.review.document import write_page
from tieout.storage import manifest
from tieout.storage.jsonl import read_jsonl, write_jsonl


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """With what an earlier attempt left, and the page."""
    folder = judged_run(tmp_path)
    shutil.copyfile(folder / "evidence" / "cases.jsonl", folder / "evidence" / "cases-1.jsonl")
    (folder / "dpo" / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')
    manifest.append(folder, "again")
    write_page(folder)
    manifest.append(folder, "tieout report")
    return folder


def named(run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What `tieout verify` prints, or refuses with, of a folder that does not verify; empty: it does."""
    try:
        main([str(run), *more])
    except SystemExit:
        return capsys.readouterr().out
    except InputError as error:
        return str(error)
    assert "ties out" in capsys.readouterr().out
    return ""


def _edit(name: str, was: str, now: str) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        text = (run / name).read_text()
        assert was in text
        (run / name).write_text(text.replace(was, now, 1))

    return edit


def _swap_lines(run: Path) -> None:
    path = run / "evidence" / "cases.jsonl"
    first, second, rest = path.read_text().split("\n", 2)
    path.write_text("\n".join([second, first, rest]))


def _moved(name: str, to: str) -> Callable[[Path], None]:
    return lambda run: (run / name).rename(run / to) and None


def _linked(name: str, to: str) -> Callable[[Path], None]:
    """The same content, from elsewhere."""

    def link(run: Path) -> None:
        shutil.move(run / name, run / to)
        (run / name).symlink_to((run / to).resolve())

    return link


def _pipe(run: Path) -> None:
    (run / "evidence" / "rows.jsonl").unlink()
    os.mkfifo(run / "evidence" / "rows.jsonl")


def _line(change: Callable[[dict[str, Any]], Any], append: bool = False) -> Callable[[Path], None]:
    """Change the last line of the record, which no later one confirms, or a copy of it behind it."""

    def edit(run: Path) -> None:
        *lines, last, end = (run / manifest.FILE).read_text().split("\n")
        statement = json.loads(last)
        statement["predicate"]["previous"] = manifest.heads(run)[-1 if append else -2]
        change(statement)
        lines += [last] if append else []
        (run / manifest.FILE).write_text("\n".join([*lines, json.dumps(statement, ensure_ascii=False), end]))

    return edit


def _ghost(statement: dict[str, Any]) -> None:
    statement["subject"] = [{"name": "evidence/ghost.json", "digest": {"sha256": "0" * 64}}]
    del statement["predicate"]["line"]


CHANGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a file of an attempt renamed": (
        _moved("evidence/cases-1.jsonl", "evidence/cases-2.jsonl"),
        "evidence/cases-1.jsonl: missing; again wrote it",
    ),
    "a figure in the log of a stage": (
        _edit("dpo/metrics.jsonl", "0.5", "0.4"),
        "dpo/metrics.jsonl: changed since again wrote it",
    ),
    "the verdict on the page": (
        _edit("evidence/report.html", "<strong>hold</strong>", "<strong>ship</strong>"),
        "report.html: the first screen is not what the stored files give",
    ),
    "a score that is no number": (
        _edit("evidence/cases.jsonl", '"score": 1.0', '"score": NaN'),
        "score of base is nan in cases.jsonl; its output gives 1.0",
    ),
    "two lines in another order": (_swap_lines, "evidence/cases.jsonl: changed since gate wrote it"),
    "other ends of lines": (
        lambda run: (run / "run.json").write_bytes((run / "run.json").read_bytes() + b"\r\n") and None,
        "run.json: changed since start wrote it",
    ),
    "a key twice in the report": (
        _edit("evidence/report.json", "{", '{"verdict": {"verdict": "ship"}, '),
        "evidence/report.json: changed since gate wrote it",
    ),
    "a file from elsewhere by a link": (
        _linked("evidence/cases.jsonl", "../cases.jsonl"),
        "'evidence/cases.jsonl' is a link, or no file",
    ),
    "a folder from elsewhere by a link": (
        _linked("dpo/adapter", "../adapter"),
        "'dpo/adapter' is a link, or no file",
    ),
    "a pipe without an end": (_pipe, "'evidence/rows.jsonl' is a link, or no file"),
    "the time of the last step": (
        _line(lambda statement: statement["predicate"].update(time="2020-01-01T00:00:00+00:00")),
        "manifest.jsonl: line 4 (tieout report) is not as it was written",
    ),
    "the name of the last step, and its digest taken out": (
        _line(lambda statement: statement["predicate"].update(step="gate", line=None)),
        "manifest.jsonl: line 4 (gate) is not as it was written",
    ),
    "records of verifications by a link": (
        _linked("verification", "../verification"),
        "'verification' is a link, or no file",
    ),
    "a step that wrote nothing that is there": (
        _line(_ghost, append=True),
        "evidence/ghost.json: missing; tieout report wrote it",
    ),
    "a file that no step wrote": (
        lambda run: shutil.copytree(run / "dpo" / "adapter", run / "evidence" / "verification") and None,
        "evidence/verification/adapter_model.safetensors: no step of the run wrote it",
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_each_change_is_named(run: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named(run, capsys) == ""
    tamper, message = CHANGED[what]
    tamper(run)
    assert message in named(run, capsys)


def test_a_name_cannot_pass_for_a_claim(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "evidence" / "x\nintact       holds       manifest: 99 files\x1b[2K").write_text("")
    said = named(run, capsys)
    assert "manifest: 99 files" in " ".join(said.split())  # wherever the line is folded
    assert not [line for line in said.split("\n") if line.startswith("intact") and "99 files" in line]
    assert "\x1b" not in said


# ---- by somebody who makes every digest, figure and page again

REBUILT: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str]] = {
    "a case that counts twice": (
        lambda lines: lines.append(lines[20]),
        "the case 'sums/test/20' of base stands there twice",
    ),
    "a case of one model dropped": (
        lambda lines: lines[29]["models"].pop("base"),
        "sums/test/29: base has no such case; the row was asked",
    ),
    "a case moved to another track": (
        lambda lines: lines[29].update(track="ood"),
        "sums/test/29: track of dpo is 'ood' in cases.jsonl; its row was kept as 'programmatic'",
    ),
    "a metric that nothing gives": (
        lambda lines: lines[29]["models"]["dpo"]["metrics"].update(fluency=1.0),
        "sums/test/29: metric fluency of dpo is 1.0 in cases.jsonl; its output gives None",
    ),
    "another right answer": (
        lambda lines: lines[29]["models"]["dpo"].update(completion="58"),
        "sums/test/29: score of dpo is 0.0 in cases.jsonl; its output gives 1.0",
    ),
}


@pytest.mark.parametrize("what", REBUILT)
def test_each_forgery_is_named_though_all_else_was_made_again(
    run: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, message = REBUILT[what]
    head, path = manifest.heads(run)[-1], run / "evidence" / "cases.jsonl"
    lines = [line for _, line in read_jsonl(path)]
    change(lines)
    write_jsonl(path, lines)
    with suppress(InputError):  # a case that stands there twice keeps the forger from it, too
        regate(run / "evidence")
    (run / manifest.FILE).unlink()
    manifest.append(run, "tieout gate")
    if "twice" not in message:
        write_page(run)
        manifest.append(run, "tieout report")
    assert message in named(run, capsys)
    assert f"the line {head[:16]} is not there" in named(run, capsys, "--head", head)

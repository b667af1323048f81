"""The chain of a run's steps: what is changed, dropped, slipped in or cut out is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tieout.storage.manifest import FILE, STATEMENT, append, check, heads, replay


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder that three steps wrote, one of them twice."""
    folder = tmp_path / "run"
    (folder / "sft" / "checkpoints" / "10").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    append(folder, "start", {"code": {"version": "1"}})
    (folder / "sft" / "adapter.safetensors").write_bytes(bytes(range(50)))
    (folder / "sft" / "checkpoints" / "10" / "weights").write_text("passes")
    (folder / "metrics.jsonl").write_text("1\n")
    append(folder, "sft")
    (folder / "metrics.jsonl").write_text("1\n2\n")
    (folder / "evidence.json").write_text('{"score": 0.2}')
    append(folder, "gate")
    return folder


def test_a_folder_as_its_steps_left_it_is_whole_wherever_it_lies(run: Path, tmp_path: Path) -> None:
    assert check(run) == []
    assert check(run.rename(tmp_path / "elsewhere")) == []


def test_it_is_a_chain_of_statements(run: Path) -> None:
    lines = [json.loads(line) for line in (run / FILE).read_text().splitlines()]
    assert [line["_type"] for line in lines] == [STATEMENT] * 3
    assert [line["predicate"]["step"] for line in lines] == ["start", "sft", "gate"]
    assert [line["predicate"]["previous"] for line in lines] == ["", *heads(run)[:2]]
    # The log that grew is there twice: each attempt's digest stays on record.
    assert [[s["name"] for s in line["subject"]] for line in lines] == [
        ["run.json"],
        ["metrics.jsonl", "sft/adapter.safetensors"],
        ["evidence.json", "metrics.jsonl"],
    ]


def _flip(name: str) -> Callable[[Path], None]:
    def flip(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        data[len(data) // 2] ^= 1
        (run / name).write_bytes(bytes(data))

    return flip


def _without(line: int) -> Callable[[Path], None]:
    def cut(run: Path) -> None:
        lines = (run / FILE).read_text().splitlines(keepends=True)
        del lines[line]
        (run / FILE).write_text("".join(lines))

    return cut


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "configuration": (_flip("run.json"), "run.json: changed since start wrote it"),
    "weights": (_flip("sft/adapter.safetensors"), "sft/adapter.safetensors: changed since sft wrote it"),
    "a log": (_flip("metrics.jsonl"), "metrics.jsonl: changed since gate wrote it"),
    "a file dropped": (lambda run: (run / "evidence.json").unlink(), "evidence.json: missing; gate wrote it"),
    "a file slipped in": (
        lambda run: (run / "new").write_text("") and None,
        "new: no step of the run wrote it",
    ),
    "a step removed": (_without(1), "manifest.jsonl: line 2 (gate) does not follow the line before it"),
    "the last step removed": (_without(2), "evidence.json: no step of the run wrote it"),
    "half a line": (
        lambda run: (run / FILE).write_bytes((run / FILE).read_bytes()[:-9]) and None,
        "manifest.jsonl: its last line is not whole",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_named(run: Path, what: str) -> None:
    tamper, message = TAMPERED[what]
    tamper(run)
    assert any(line.startswith(message) for line in check(run)), check(run)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (slice(0, 3), "manifest.jsonl: line 1 (start) does not follow the line before it"),
        (slice(3, 5), "manifest.jsonl: line 4 (start) does not follow the line before it"),
        (slice(5, 7), "run.json: changed since start wrote it"),
    ],
)
def test_an_attempt_that_was_removed_as_a_whole_is_named(run: Path, attempt: slice, message: str) -> None:
    for again in ("2", "3"):
        (run / "run.json").write_text(again)
        append(run, "start")
        (run / "evidence.json").write_text(again)
        append(run, "gate")
    assert check(run) == []
    lines = (run / FILE).read_text().splitlines(keepends=True)
    del lines[attempt]
    (run / FILE).write_text("".join(lines))
    assert any(line.startswith(message) for line in check(run)), check(run)


def test_a_digest_that_is_changed_with_its_file_breaks_the_chain(run: Path) -> None:
    old = replay(run)[0].files["sft/adapter.safetensors"]
    _flip("sft/adapter.safetensors")(run)
    from tieout.storage.atomic import sha256

    text = (run / FILE).read_text()
    (run / FILE).write_text(text.replace(old, sha256(run / "sft" / "adapter.safetensors")))
    assert check(run) == [
        "manifest.jsonl: line 2 (sft) is not as it was written",
        "manifest.jsonl: line 3 (gate) does not follow the line before it: one was changed or removed",
    ]


def test_steps_cut_off_with_all_their_files_are_missed_by_who_knows_the_head(run: Path) -> None:
    head = heads(run)[-1]
    before = (run / "metrics.jsonl").read_text()
    _without(2)(run)
    (run / "evidence.json").unlink()
    (run / "metrics.jsonl").write_text("1\n")
    assert before != "1\n"
    assert check(run) == []
    assert len(check(run, head)) == 1


def test_a_broken_record_is_not_continued(run: Path) -> None:
    _without(1)(run)
    with pytest.raises(ValueError, match="a broken record is not continued"):
        append(run, "gate")


def test_nothing_new_is_no_step(run: Path) -> None:
    assert append(run, "show") == heads(run)[-1]
    assert len(heads(run)) == 3

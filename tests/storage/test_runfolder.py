"""Run folders: one process at a time, whole files or none, finished stages stay finished."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.config.plain import changes, fingerprint
from tieout.storage.atomic import write_atomic, write_json
from tieout.storage.machine import environment, processor
from tieout.storage.runfolder import RunFolder, RunFolderError

HOLD = """
import sys, time
from tieout.storage.runfolder import RunFolder
folder = RunFolder(sys.argv[1])
print("locked", flush=True)
time.sleep(60)
"""


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    targets: tuple[str, ...] = ("q", "v")


# ---------------------------------------------------------------- the lock


def test_a_second_process_is_refused_and_told_which_is_the_first(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(RunFolderError, match=rf"in use by process {other.pid} .*use another --out"):
            RunFolder(path)
        RunFolder(path, lock=False)  # ranks above 0 share the folder of rank 0
        # Killed without a chance to clean up, it holds nothing.
        other.send_signal(signal.SIGKILL)
        other.wait()
        with RunFolder(path):
            assert (path / "lock").read_text(encoding="ascii") == f"{os.getpid()}\n"


def test_the_lock_ends_with_the_block(tmp_path: Path) -> None:
    with RunFolder(tmp_path), pytest.raises(RunFolderError, match="in use by this process"):
        RunFolder(tmp_path)
    with RunFolder(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="ascii")
    for path in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(RunFolderError, match=rf"cannot write to {path}: .*; use another --out"):
            RunFolder(path)
    if os.geteuid() != 0:  # root may write everywhere
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(RunFolderError, match="Permission denied"):
            RunFolder(closed)


# ---------------------------------------------------------------- files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"half")
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_killed_while_writing_readers_see_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    code = (
        "import sys\nfrom tieout.storage.atomic import write_json\ni = 0\n"
        "while True:\n    write_json(sys.argv[1], {'i': i, 'x': 'x' * 200_000, 'same': i})\n    i += 1\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        deadline = time.monotonic() + 30
        reads = 0
        while reads < 20 and time.monotonic() < deadline:
            if path.exists():
                value = json.loads(path.read_text(encoding="utf-8"))
                assert value["i"] == value["same"]
                reads += 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert reads == 20
    value = json.loads(path.read_text(encoding="utf-8"))
    assert len(value["x"]) == 200_000


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(old)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


def test_logs_grow_line_by_line_and_survive_a_torn_line(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        folder.append_jsonl(
            "logs/metrics.jsonl", {"step": 1, "loss": float("nan"), "deep": [float("inf"), 0.5]}
        )
    path = tmp_path / "logs" / "metrics.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "lo')  # killed here
    with RunFolder(tmp_path) as folder:
        folder.append_jsonl("logs/metrics.jsonl", {"step": 2})
        folder.append_jsonl("logs/metrics.jsonl", {"step": 3})
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows == [{"step": 1, "loss": None, "deep": [None, 0.5]}, {"step": 2}, {"step": 3}]


# ---------------------------------------------------------------- stages


def test_a_stage_is_done_for_its_inputs_only(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        stage = folder.stage("sft")
        assert not stage.is_done("a")
        stage.begin("a")
        (stage.path / "checkpoint").write_text("half", encoding="ascii")
        assert not stage.is_done("a")
        stage.begin("a")  # the same command again: what is there is continued
        assert (stage.path / "checkpoint").exists()
        stage.finish("a", steps=3)
    stage = RunFolder(tmp_path, lock=False).stage("sft")
    assert stage.is_done("a")
    assert stage.info()["steps"] == 3
    assert not stage.is_done("b")
    stage.begin("b")  # other inputs: what is there belongs to something else
    assert not (stage.path / "checkpoint").exists()
    assert not stage.is_done("a")


def test_beginning_a_finished_stage_again_takes_its_marker_off(tmp_path: Path) -> None:
    stage = RunFolder(tmp_path, lock=False).stage("sft")
    stage.begin("a")
    stage.finish("a")
    stage.begin("a")
    assert not stage.is_done("a")


def test_a_broken_marker_is_an_error_not_a_stage_to_do(tmp_path: Path) -> None:
    stage = RunFolder(tmp_path, lock=False).stage("sft")
    for text, message in (('{"inputs": ', "not readable as JSON"), ("[]", "expected a JSON object")):
        (stage.path / "done.json").write_text(text, encoding="ascii")
        with pytest.raises(RunFolderError, match=rf"done\.json: {message}"):
            stage.is_done("a")


# ---------------------------------------------------------------- run.json


def test_a_run_is_continued_with_the_same_config_and_refused_with_another(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, lock=False)
    folder.record({"dpo": Config(), "seed": 1}, {"train": "aa"})
    folder.record({"dpo": Config(), "seed": 1}, {"train": "aa"})
    run = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert run["identity"] == {"dpo": {"rate": 0.1, "targets": ["q", "v"]}, "seed": 1}
    assert run["data"] == {"train": "aa"}
    assert len(run["continued"]) == 1
    assert run["environment"]["versions"]["torch"]
    with pytest.raises(RunFolderError) as caught:
        folder.record({"dpo": Config(rate=0.2), "extra": "x"}, {"train": "bb"})
    lines = str(caught.value).splitlines()
    assert lines[1:-1] == [
        "  dpo.rate: 0.1 -> 0.2",
        "  seed: 1 -> (absent)",
        '  extra: (absent) -> "x"',
        '  data.train: "aa" -> "bb"',
    ]
    assert "use another --out" in lines[-1]
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == run


def test_types_are_changes_too() -> None:
    assert changes({"a": 1}, {"a": True}) == ["a: 1 -> true"]
    assert changes({"a": {"b": 1}}, {"a": None}) == ['a: {"b": 1} -> null']
    assert changes({"a": "x" * 500}, {"a": ""})[0].endswith('... -> ""')


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_bf16\n\nmodel name\t: two\n",
            "AMD EPYC avx512_bf16",
        ),
        ("model name\t: Xeon\nflags\t\t: fpu avx2\n", "Xeon avx2"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", f"{platform.machine()} asimd"),
    ],
)
def test_the_processor_is_named_with_its_vector_instructions(tmp_path: Path, cpuinfo: str, name: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert processor(path) == name


def test_the_environment_is_told_without_importing_torch() -> None:
    assert environment()["python"] == ".".join(map(str, sys.version_info[:3]))
    code = "import sys; from tieout.storage.runfolder import environment; environment(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


# ---------------------------------------------------------------- fingerprints

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(a=VALUES, b=VALUES)
def test_fingerprints_are_equal_where_values_are(a: Any, b: Any) -> None:
    assert fingerprint(a) == fingerprint(reordered(a))
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (fingerprint(a) == fingerprint(b)) == same


def test_a_config_has_the_fingerprint_of_its_plain_values() -> None:
    assert fingerprint(Config()) == fingerprint({"targets": ["q", "v"], "rate": 0.1})
    assert fingerprint(Config()) != fingerprint(Config(rate=0.2))

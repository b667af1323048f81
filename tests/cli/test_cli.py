"""The command line as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tieout.cli import main
from tieout.config.docs import field_docs
from tieout.methods import METHODS


@dataclass
class Result:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tieout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Call the command line in this process: a new one would spend its time importing torch."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
        status: object = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return Result(status if isinstance(status, int) else 0, captured.out, captured.err)

    return call


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['tieout', '--help']\n"
        "try:\n import tieout.cli; tieout.cli.main()\nexcept SystemExit: pass\n"
    )
    heavy = ("torch", "transformers", "tyro", "rich", "numpy")
    result = subprocess.run(
        [sys.executable, "-c", f"{code}print([m for m in {heavy} if m in sys.modules])"],
        capture_output=True,
        text=True,
    )
    assert "demo" in result.stdout
    assert result.stdout.strip().endswith("[]")


def test_an_unknown_command_names_the_nearest(tieout: Callable[..., Result]) -> None:
    result = tieout("shwo")
    assert result.returncode == 2
    assert "'show'" in result.stderr


def test_train_names_its_methods_and_their_fields(tieout: Callable[..., Result]) -> None:
    assert "grpo" in tieout("train", "drpo").stderr
    text = tieout("train", "dpo", "--help").stdout
    assert "--beta" in text
    assert "Strength of the pull" in text  # the docstring under the field


def test_help_flows_on_where_the_source_breaks_a_line(
    tieout: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    before, after = field_docs(METHODS["grpo"])["aggregation"].splitlines()
    joint = f"{before.split()[-1]} {after.split()[0]}"
    assert any(joint in line for line in tieout("train", "grpo", "--help").stdout.splitlines())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_train_sample_and_continue(
    tieout: Callable[..., Result], tmp_path: Path, pairs: Path, tiny_model: Callable[[str], Path]
) -> None:
    out = tmp_path / "out"
    command = [
        "train",
        "dpo",
        "--model",
        tiny_model("qwen2"),
        "--data",
        pairs,
        "--out",
        out,
        "--batch-size",
        "6",
    ]
    result = tieout(*command)
    assert result.returncode == 0, result.stderr
    steps = [json.loads(x) for x in (out / "dpo" / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in steps] == [1, 2]
    assert "done before" in tieout(*command).stdout
    sampled = tieout("sample", "hello", "--model", out / "dpo" / "adapter", "--max-new-tokens", "4")
    assert sampled.returncode == 0, sampled.stderr
    refused = tieout(*command, "--beta", "0.3")
    assert refused.returncode == 1
    assert "beta" in refused.stderr


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"prompt": "a", "chosen": "b"}\n', "rejected"),
        (b'{"prompt": "a", "chosen": "b", "rejected": "b"}\n', "same"),
        (b'{"prompt": "", "chosen": "b", "rejected": "c"}\n', "empty"),
        (b'{"prompt": "a", "chosen": "b", "reject', ":1"),
        (b'{"prompt": "\xff", "chosen": "b", "rejected": "c"}\n', "UTF-8"),
        (b'{"prompt": 3, "chosen": "b", "rejected": "c"}\n', "prompt"),
        (b"", "no rows"),
    ],
)
def test_bad_rows_are_refused_before_any_work(
    tieout: Callable[..., Result],
    tmp_path: Path,
    tiny_model: Callable[[str], Path],
    content: bytes,
    expected: str,
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    result = tieout("train", "dpo", "--model", tiny_model("llama"), "--data", path, "--out", tmp_path / "out")
    assert result.returncode == 1
    assert "bad.jsonl" in result.stderr
    assert expected in result.stderr
    assert "Traceback" not in result.stderr


def test_missing_things_are_said(tieout: Callable[..., Result], tmp_path: Path, pairs: Path) -> None:
    missing = tieout("train", "sft", "--data", tmp_path / "none.jsonl", "--out", tmp_path / "a")
    assert "not found" in missing.stderr
    model = tieout("train", "dpo", "--model", tmp_path / "nowhere", "--data", pairs, "--out", tmp_path / "b")
    assert "does not exist" in model.stderr
    recipe = tieout("run", tmp_path / "none.yaml")
    assert recipe.returncode == 1
    assert "none.yaml" in recipe.stderr
    assert "no run folder" in tieout("show", tmp_path).stderr


def test_output_that_nobody_reads_to_its_end_is_no_error() -> None:
    command = [sys.executable, "-m", "tieout", "attack", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141

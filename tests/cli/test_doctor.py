"""tieout doctor tells what there is, and its exit status whether the sandbox holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tieout.cli.doctor import WITHOUT_TORCH, main
from tieout.sandbox import choose
from tieout.sandbox.isolation import BACKENDS, Isolation


def ended(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def test_it_tells_versions_and_isolation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {name: Isolation(name, name != "bubblewrap", "not installed") for name in BACKENDS}
    monkeypatch.setattr(choose, "isolation", found.__getitem__)
    assert ended(["--quick"]) == 0
    said = capsys.readouterr().out
    for word in ("Python", "torch", "processors", *BACKENDS, "code rewards run in: namespaces"):
        assert word in said


def test_without_a_sandbox_it_says_that_code_rewards_refuse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "isolation", lambda name: Isolation(name, False, "forbidden here"))
    assert ended(["--quick"]) == 1
    assert "code rewards refuse to run" in capsys.readouterr().out


ROWS = str(Path(__file__).parents[2] / "examples" / "data" / "train.jsonl")
BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'")

sys.meta_path.insert(0, Block())
from tieout.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["reward", "check", "numeric", "--data", ROWS, "--workers", "0"], 0),
        (["attack", "numeric", "--data", ROWS, "--max-rows", "2"], None),
        (["eval", "--data", ROWS, "--reward", "numeric"], 70),
    ],
    ids=["reward", "attack", "eval"],
)
def test_what_it_says_of_a_machine_without_torch_is_so(arguments: list[str], status: int | None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, check=False
    )
    assert ("torch" in done.stderr) == (status == 70), done.stderr[-2000:]
    assert done.returncode in ((0, 1) if status is None else (status,))  # 1: the attack found something
    assert arguments[0] in WITHOUT_TORCH.split(".")[status != 70]


def test_without_torch_it_says_what_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    ended(["--quick"])
    assert "models cannot be loaded" in capsys.readouterr().out

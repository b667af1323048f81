"""What stopped people on their first day, typed again: what was refused, silent or unreadable then, as it is now."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tieout import embedded
from tieout.cli import main
from tieout.storage.jsonl import read_json, read_log
from tieout.training.progress import SHOWN, bars

pytestmark = pytest.mark.usefixtures("short_controls")
WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]
SMALL = Path(embedded.__file__).parent / "tieout_base"
Typed = Callable[[str], tuple[int, str]]


def write(name: str, ask: str, answers: list[str], times: int = 1) -> None:
    """Rows of every word, `times` over, each time with one more dot after it."""
    both = [(w + "." * i, a) for i in range(times) for w, a in zip(WORDS, answers, strict=True)]
    rows = [{"prompt": f"{ask} {w}", "completion": a, "answer": a} for w, a in both]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]) -> Path:
    """A folder with two models and rows of one's own."""
    folder = tmp_path_factory.mktemp("day")
    for family in ("llama", "qwen2"):
        shutil.copytree(tiny_model(family), folder / family)
    return folder


@pytest.fixture
def tieout(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Call the command line with what is typed; returns its status and what it said, in one line."""
    monkeypatch.chdir(place)
    write("mine.jsonl", "say", WORDS)
    write("held.jsonl", "write", WORDS)
    write("controls.jsonl", "spell", [word.upper() for word in WORDS], times=3)

    def call(typed: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tieout", *shlex.split(typed)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
        said = capsys.readouterr()
        return status, " ".join((said.out + said.err).split())

    return call


TRAIN = "train sft --model llama --data mine.jsonl --batch-size 4 --epochs 2 --adapter.rank 4 --out runs/sft"
"""Four steps."""


@pytest.fixture
def trained(tieout: Typed) -> str:
    """The folder of a run that was evaluated while it trained; trained once."""
    if not Path("runs/sft").exists():
        status, said = tieout(
            f"{TRAIN} --held-out held.jsonl --eval-steps 1 --metric loss --keep-best --patience 3"
        )
        assert status == 0, said
    return "runs/sft"


def test_a_run_is_evaluated_while_it_trains_and_has_a_page(tieout: Typed, trained: str) -> None:
    """Row 6: no evaluation, no best step, no early stopping; nor did TRL's names lead anywhere."""
    losses = [row["eval/loss"] for row in read_log(Path(trained, "sft", "metrics.jsonl"))]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert tieout(f"report {trained}")[0] == 0
    page = Path(trained, "report.html").read_text()
    assert "eval · loss" in page
    for theirs, ours in (
        ("--max-steps 4", "the length of a run is given as epochs"),
        ("--eval-strategy steps", "here it is --eval-steps"),
        ("--load-best-model-at-end", "here it is --keep-best"),
        ("--report-to wandb", "here it is --trackers"),
    ):
        status, said = tieout(f"{TRAIN} {theirs}")
        assert (status, ours in said) == (1, True), said


def test_controls_that_the_base_cannot_do_hold_the_gate(tieout: Typed, trained: str) -> None:
    """Row 5: right on 0 of 200 controls before, right on 0 after: `pass +0.000`."""
    evaluation = "--data held.jsonl --reward exact --max-new-tokens 4 --reward-workers 0 --out runs/judged"
    status, said = tieout(f"eval --model llama {trained} {evaluation} --controls controls.jsonl")
    assert status == 0, said
    assert "verdict: hold" in said
    checks = {
        check["track"]: check
        for check in read_json(Path("runs/judged/evidence/report.json"))["verdict"]["checks"]
    }
    found = next(check for name, check in checks.items() if "control" in name)
    assert found["status"] == "hold"
    assert "llama itself has 0.000" in found["reason"]
    assert "give controls that it can do" in found["reason"]


def test_the_page_shows_the_right_answer_and_a_picture_and_no_flat_chart(tieout: Typed, trained: str) -> None:
    """Row 14: examples without gold, no picture, and charts of what never moved."""
    if not Path("runs/judged").exists():
        tieout(
            f"eval --model llama {trained} --data held.jsonl --reward exact --max-new-tokens 4 "
            "--reward-workers 0 --out runs/judged"
        )
    page = Path("runs/judged/evidence/report.html").read_text()
    assert "<h5>Right answer</h5><pre>audit</pre>" in page
    assert '<svg class="picture"' in page
    assert tieout(f"report {trained}")[0] == 0
    training = Path(trained, "report.html").read_text()
    rows = read_log(Path(trained, "sft", "metrics.jsonl"))
    flat = {key for key in rows[0] if len({row.get(key) for row in rows}) == 1}
    assert flat
    assert not any(f"sft: {key}</title>" in training for key in flat)


def test_a_model_that_does_not_fit_is_said_in_a_sentence(tieout: Typed, trained: str) -> None:
    """Row 25: 78 s of retries for a typing error, 40 lines of sizes for another base, a traceback without CUDA."""
    status, said = tieout("sample hi --model ./qwn2")
    assert (status, "did you mean 'qwen2'?" in said) == (1, True), said
    moved = Path(shutil.copytree(Path(trained, "sft", "adapter"), "moved", dirs_exist_ok=True))
    (moved / "manifest.json").unlink()
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(SMALL)}))
    status, said = tieout("sample hi --model moved")
    assert status == 1
    assert len(said) < 600, said
    assert "base" in said, said
    status, said = tieout(f"{TRAIN}-2 --device cuda")
    assert status == 1
    assert "cuda" in said
    assert "Traceback" not in said
    assert len(said) < 400, said


def test_a_run_from_an_adapter_names_it_next_and_shows_only_what_was_measured(
    tieout: Typed, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next command said BASE, SFT had a share of cut off answers, and a warning a line of our code below it."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    adapter = f"{trained}/sft/adapter"
    status, said = tieout(f"train sft --model {adapter} --data mine.jsonl --batch-size 4 --out runs/further")
    assert status == 0, said
    assert f"next: tieout eval --model {adapter} runs/further --data TEST.jsonl" in said
    assert "sft: 2/2 loss" in said
    assert "cut_off" not in said
    assert warnings.formatwarning("all of it", UserWarning, "file.py", 3) == "warning: all of it\n"


def test_a_command_says_nothing_of_libraries_and_a_bar_keeps_its_end(tieout: Typed) -> None:
    """Row 29: a line of bitsandbytes on every command; the remaining time cut off at 80 columns."""
    done = subprocess.run(
        [sys.executable, "-m", "tieout", *shlex.split("sample hi --model llama --max-new-tokens 2")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=80, legacy_windows=False)
    with bars(console) as add:
        bar = add("reward_model", 12_000)
        bar.at(9_000, dict.fromkeys(SHOWN, 0.12345))
    shown = " ".join(re.sub(r"\x1b\[[\d;?]*[A-Za-z]|\r", " ", out.getvalue()).split())
    assert re.search(r"reward_model [━╸╺ ]+ 9000/12000 \d:\d\d:\d\d [\d:-]+ loss 0.123", shown), shown

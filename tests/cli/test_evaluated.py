"""`tieout eval --out` gives the result of any method, or an adapter, what gate, verify and ship ask for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from given_review import REVIEW
from tieout.cli.evaluate import main as evaluate
from tieout.cli.gate import main as gate
from tieout.cli.ship import main as ship
from tieout.cli.show import main as show
from tieout.cli.train import main as train
from tieout.config.plain import to_plain
from tieout.errors import InputError
from tieout.evidence.usage import PER
from tieout.evidence.verify import verify
from tieout.shipping import candidate

pytestmark = pytest.mark.usefixtures("short_controls")
WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(verb: str, answer: bool = False) -> list[dict[str, Any]]:
    name = "answer" if answer else "completion"
    return [{"prompt": [{"role": "user", "content": f"{verb} {w}"}], name: w} for w in WORDS]


@pytest.fixture
def run(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """What `tieout train` leaves."""
    data = write(tmp_path / "train.jsonl", asked("say"))
    given = ["--model", str(tiny_model("llama")), "--data", str(data), "--out", str(tmp_path / "run")]
    train(["sft", *given, "--batch-size", "4", "--adapter.rank", "4"])
    return tmp_path / "run"


@pytest.fixture
def compared(run: Path, tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., list[str]]:
    """`compared(model, out)`: the arguments of an evaluation against the base."""
    test = write(tmp_path / "test.jsonl", asked("write", answer=True))
    controls = write(tmp_path / "controls.jsonl", asked("spell", answer=True))

    def make(model: Path, out: Path, data: Path = test) -> list[str]:
        return [
            "--model", str(tiny_model("llama")), str(model), "--data", str(data), "--controls", str(controls),
            "--max-new-tokens", "4", "--reward-workers", "0", "--out", str(out),
        ]  # fmt: skip

    return make


@pytest.fixture(autouse=True)
def review(tmp_path: Path) -> str:
    """A file in which nothing is blank."""
    path = tmp_path / "review.yaml"
    path.write_text(yaml.safe_dump(to_plain(REVIEW)))
    return str(path)


def ended(command: Callable[[list[str]], None], *arguments: str) -> object:
    with pytest.raises(SystemExit) as end:
        command(list(arguments))
    return end.value.code


def test_a_run_without_evidence_says_which_evaluation_it_needs(
    run: Path, tiny_model: Callable[[str], Path]
) -> None:
    base = tiny_model("llama")
    for command in (ship, gate):
        with pytest.raises(
            InputError, match=rf"tieout eval --model {base} {run} --data TEST.jsonl .*--out {run}`"
        ):
            command([str(run)])
    with pytest.raises(InputError, match="it is no run folder; evaluate a model into one"):
        ship([str(run / "sft")])


def test_a_trained_run_is_evaluated_gated_shown_and_shipped(
    run: Path, compared: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], review: str
) -> None:
    evaluate(compared(run, run))
    out = capsys.readouterr().out
    assert f"next: tieout show {run}" in out
    assert "tokens written, seconds" in out
    assert f"cost of {PER}" not in out
    report = json.loads((run / "evidence" / "report.json").read_text())
    assert (report["settings"]["candidate"], report["models"]["run"]["negative_controls"]["n"]) == ("run", 8)
    leaks = report["metadata"]["leakage"]
    assert leaks["train"] == {"train": 8}
    assert leaks["held"]["test"] == {"rows": 8, "exact": 0, "normalised": 0, "near": 0}
    assert verify(run / "evidence" / "report.json") == []
    with pytest.raises(InputError, match=r"expected MODEL=PRICE, where MODEL is one of: .*, run"):
        gate([str(run), "--price", "other=1,2"])
    assert ended(gate, str(run), "--price", "run=1,2") in (3, 4)
    assert verify(run / "evidence" / "report.json") == []
    show([str(run)])
    assert ended(ship, str(run)) == 3
    with pytest.raises(InputError, match=r"is not said, so nothing was shipped:\n  purpose: "):
        ship([str(run), "--override", "the plumbing"])
    assert ended(ship, str(run), "--override", "the plumbing", "--review", review, "--owner", "Bo Li") == 0
    assert "Owner: Bo Li" in (run / "shipped" / "README.md").read_text()
    card = (run / "shipped" / "README.md").read_text()
    assert "the plumbing" in card
    assert "sft" in card
    assert f"cost of {PER}" in card
    assert "Prices: run 1,2." in card
    assert {path.name for path in (run / "shipped").iterdir()} >= {"adapter", "merged", "card.json"}


def test_an_adapter_from_elsewhere_is_shipped_without_a_merged_copy(
    run: Path,
    compared: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    review: str,
) -> None:
    out = tmp_path / "evaluated"
    alone = shutil.copytree(run / "sft" / "adapter", tmp_path / "alone" / "adapter")
    evaluate(compared(alone, out))
    assert "training rows are not known" in capsys.readouterr().out
    assert ended(ship, str(out), "--override", "the plumbing", "--no-merge", "--review", review) == 0
    parts = {path.name for path in (out / "shipped").iterdir()}
    assert "adapter" in parts
    assert "merged" not in parts
    sentence = "Without a merged copy (as was asked)"
    assert sentence in " ".join((out / "shipped" / "README.md").read_text().split())
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert candidate.altered(out / "shipped") == []


def test_a_merged_copy_that_is_there_may_stay_behind(
    run: Path, compared: Callable[..., list[str]], review: str
) -> None:
    evaluate(compared(run, run))
    assert ended(ship, str(run)) == 3  # the candidate is built, with a merged copy
    assert (run / "candidate" / "merged").exists()
    assert ended(ship, str(run), "--override", "the plumbing", "--no-merge", "--review", review) == 0
    assert not (run / "shipped" / "merged").exists()
    assert json.loads((run / "shipped" / "card.json").read_text())["facts"]["parts"] == ["adapter"]
    assert candidate.altered(run / "shipped") == []


@pytest.mark.parametrize("asked_for", [True, False])
def test_a_large_base_is_not_copied_unless_asked(
    run: Path,
    compared: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    asked_for: bool,
    review: str,
) -> None:
    monkeypatch.setattr(candidate, "LARGE", 1000)
    evaluate(compared(run, run))
    more = ["--merge"] if asked_for else []
    assert ended(ship, str(run), "--override", "the plumbing", "--review", review, *more) == 0
    assert (run / "shipped" / "merged").exists() == asked_for
    said = "the base has 0.0 billion parameters" in (run / "shipped" / "README.md").read_text()
    assert said != asked_for


def test_rows_that_it_was_trained_on_are_no_test(
    run: Path, compared: Callable[..., list[str]], tmp_path: Path
) -> None:
    same = write(tmp_path / "same.jsonl", [{**row, "answer": row["completion"]} for row in asked("Say")])
    with pytest.raises(InputError, match=r"8 of 16 rows .*\(test: 8 normalised of 8\)"):
        evaluate(compared(run, run, same))
    adapter = compared(run / "sft" / "adapter", tmp_path / "out", same)
    with pytest.raises(InputError, match="8 of 16 rows"):
        evaluate([*adapter, "--trained-on", str(tmp_path / "train.jsonl")])
    evaluate([*adapter, "--trained-on", str(tmp_path / "train.jsonl"), "--accept-leakage", "to see memory"])
    assert "to see memory" in (tmp_path / "out" / "evidence" / "report.html").read_text()


def test_one_model_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a report compares two models"):
        evaluate(["--task", "controls", "--out", str(tmp_path / "out")])

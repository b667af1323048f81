"""pass@k: without bias, by enumeration; as `eval --samples K` prints and keeps it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from tieout.cli import main
from tieout.errors import InputError
from tieout.evidence.claims import recomputed
from tieout.evidence.evaluate import Case
from tieout.evidence.pass_at_k import (
    differences,
    figures,
    pass_at_k,
    read_samples,
    rights,
    sizes,
    standard,
    write_samples,
)
from tieout.rewards import load_reward
from tieout.storage.jsonl import read_json, write_jsonl
from tieout.tasks import Task


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("right", range(6))
def test_it_is_the_share_of_subsets_with_a_right_sample(right: int, k: int) -> None:
    samples = [1] * right + [0] * (5 - right)
    subsets = list(combinations(samples, k))
    assert pass_at_k(5, right, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def drawn(scores: dict[str, float | None]) -> list[Case]:
    return [
        Case(
            id=name, track="programmatic", slice="test", cluster=name, prompt="p", completion="c", score=score
        )
        for name, score in scores.items()
    ]


def test_right_is_the_top_of_the_range_and_a_sample_without_a_score_leaves_its_case_out() -> None:
    task = Task("t", lambda split: [], load_reward("exact=2.0 length=0.5"))
    assert standard(task) == ("reward", pytest.approx(2.0))
    found = rights([drawn({"a": 2.0, "b": 1.9, "c": 2.0}), drawn({"a": 0.0, "b": 1.0, "c": None})], None, 2.0)
    assert found == {"a": (2, 1, "a"), "b": (2, 0, "b"), "c": (1, 1, "c")}
    made = figures(found, 2)
    assert [(k, e.value, e.n) for k, e in made.items()] == [(1, 0.25, 2), (2, 0.5, 2)]
    better = {**found, "b": (2, 2, "b")}
    assert differences(better, found, 2)[1].value == pytest.approx(0.5)
    assert sizes(1) == [1]


def test_eval_prints_and_keeps_it(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"q{i}", "answer": "x"} for i in range(3)])
    (tmp_path / "r.py").write_text(
        "seen = set()\ndef fresh(completions, **_):\n"
        "    found = [float(c not in seen) for c in completions]\n    seen.update(completions)\n    return found\n"
    )
    given = ["eval", "--model", tiny_model("qwen2"), "--data", tmp_path / "rows.jsonl", "--max-new-tokens", 6]
    given += ["--reward", f"{tmp_path / 'r.py'}:fresh", "--reward-workers", 0, "--samples", 4]
    monkeypatch.setattr(sys, "argv", ["tieout", *map(str, given), "--out", str(tmp_path / "cases.jsonl")])
    main()
    (kept,) = read_json(tmp_path / "pass_at_k.json")["models"].values()
    # The reward pays what it has not seen: no two of 12 samples of a random model are the same.
    assert kept["pass@4"]["n"] == 3
    assert kept["pass@4"]["mean"] == kept["pass@1"]["mean"] == 1.0
    ((name, drawn),) = read_samples(tmp_path / "cases.jsonl").items()
    assert name == str(tiny_model("qwen2"))
    assert len({case.completion for own in drawn for case in own}) == 12
    assert "pass@4" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["tieout", *map(str, given), "--temperature", "0"])
    with pytest.raises(SystemExit):
        main()
    assert "at a temperature above 0" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError):
        pass_at_k(3, 1, 4)


def test_a_report_has_it_and_verify_computes_it_again_from_the_samples(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": f"q{i}", "answer": "x"} for i in range(6)])
    (tmp_path / "r.py").write_text(
        "def odd(completions, **_):\n    return [float(ord(c[-1:] or 'b') % 2) for c in completions]\n"
    )
    run = tmp_path / "run"

    def tieout(*given: object) -> int:
        monkeypatch.setattr(sys, "argv", ["tieout", *map(str, given)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    models = [tiny_model("qwen2"), tiny_model("llama")]
    given = [
        "eval",
        "--model",
        *models,
        "--data",
        tmp_path / "rows.jsonl",
        "--max-new-tokens",
        4,
        "--out",
        run,
    ]
    given += ["--reward", f"{tmp_path / 'r.py'}:odd", "--reward-workers", 0]
    assert tieout(*given, "--samples", 3) == 0
    report = read_json(run / "evidence" / "report.json")
    found = report["pass_at_k"]
    for own in found["models"].values():
        assert own["pass@1"]["low"] <= own["pass@1"]["mean"] <= own["pass@2"]["mean"] <= own["pass@3"]["mean"]
    means = [own["pass@1"]["mean"] for own in found["models"].values()]
    assert 0 < means[0] < 1
    assert found["difference"]["pass@1"]["difference"] == pytest.approx(means[1] - means[0])
    page = (run / "evidence" / "report.html").read_text()
    assert "3 samples at temperature 1; right: reward &gt;= 1" in page
    capsys.readouterr()
    assert tieout("show", run) == 0
    assert "pass@3" in capsys.readouterr().out
    assert tieout("verify", run) == 0
    assert "48 scores computed again (36 of samples)" in capsys.readouterr().out

    evidence, cases = run / "evidence", run / "evidence" / "cases.jsonl"
    samples = read_samples(cases)
    first, *others = next(iter(samples.values()))[0]
    forged = {**samples, next(iter(samples)): [[replace(first, score=1.0 - (first.score or 0.0)), *others]]}
    write_samples(cases, {name: [*own, *samples[name][len(own) :]] for name, own in forged.items()})
    wrong = [
        claim
        for claim in recomputed(read_json(evidence / "report.json"), evidence / "report.json")
        if claim.problems
    ]
    assert [claim.what for claim in wrong] == ["figures", "scores"]
    assert "pass_at_k.models" in wrong[0].problems[0]
    assert "sample 1" in wrong[1].problems[0]
    assert tieout("verify", run) == 1

    assert tieout(*given) == 0
    assert not list(evidence.glob("*.samples.*"))
    assert "pass_at_k" not in read_json(evidence / "report.json")

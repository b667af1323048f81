"""Evaluation performed again by the weights: outputs follow from the model, or whose do not is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tieout.cli.evaluate import main as evaluate
from tieout.cli.train import main as train
from tieout.cli.verify import NOT_REPERFORMED, main
from tieout.errors import InputError
from tieout.evidence.claims import Claim, recomputed
from tieout.evidence.evaluate import read_cases, write_cases
from tieout.evidence.report import regate
from tieout.evidence.verify import read_report, sample_size
from tieout.shipping.fresh import reperform
from tieout.storage import manifest
from tieout.storage.identity import folder_digest
from tieout.storage.jsonl import read_json

WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def made(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run with its evaluation, in the folder `run`, and another adapter in `other`."""
    folder, base = tmp_path_factory.mktemp("fresh"), str(tiny_model("llama"))
    rows = [{"prompt": [{"role": "user", "content": f"say {w}"}], "completion": w} for w in WORDS]
    data = write(folder / "train.jsonl", rows)
    tested = [{"prompt": [{"role": "user", "content": f"write {w}"}], "answer": w} for w in WORDS]
    test = write(folder / "test.jsonl", tested)
    for name, rate in (("run", "0.02"), ("other", "0.05")):
        given = ["--model", base, "--data", data, "--out", str(folder / name), "--learning-rate", rate]
        train(["sft", *given, "--batch-size", "4", "--adapter.rank", "4"])
    out = ["--max-new-tokens", "6", "--reward-workers", "0", "--out", str(folder / "run")]
    evaluate(["--model", base, str(folder / "run"), "--data", test, *out])
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy elsewhere."""
    shutil.copytree(made / "run", tmp_path / "moved")
    return tmp_path / "moved"


def claims(run: Path, asked: str = "100%", **options: Any) -> dict[str, Claim]:
    path = run / "evidence" / "report.json"
    return {c.what: c for c in reperform(path, read_report(path), asked, 7, **options)}


def on_record_again(run: Path) -> None:
    """Build the report and the whole chain again."""
    regate(run / "evidence")
    (run / manifest.FILE).unlink()
    manifest.append(run, "gate")


def test_a_copied_run_is_performed_again(run: Path) -> None:
    found = claims(run)
    assert {claim.status for claim in found.values()} == {"holds"}
    assert found["outputs"].said.startswith("8 of 8 cases of run (100%, seed 7), by sft/adapter on ")
    assert "8 outputs are token-identical" in found["outputs"].said
    assert found["score, programmatic"].said.startswith("fresh minus recorded +0.000")


def test_an_adapter_replaced_together_with_its_digest_is_found(run: Path, made: Path) -> None:
    shutil.rmtree(run / "sft" / "adapter")
    shutil.copytree(made / "other" / "sft" / "adapter", run / "sft" / "adapter")
    path = run / "evidence" / "report.json"
    report = read_json(path)
    report["metadata"]["models"]["run"]["trained"] = folder_digest(run / "sft" / "adapter")
    path.write_text(json.dumps(report))
    on_record_again(run)
    assert not any(claim.problems for claim in recomputed(read_report(path), path))
    assert claims(run)["log-probabilities"].status == "differs"


def test_two_models_outputs_swapped_with_all_that_follows_are_found(run: Path) -> None:
    path = run / "evidence" / "cases.jsonl"
    one, other = read_cases(path, sampled=True).items()
    assert [case.completion for case in one[1]] != [case.completion for case in other[1]]
    write_cases(path, {one[0]: other[1], other[0]: one[1]})
    on_record_again(run)
    report = run / "evidence" / "report.json"
    assert not any(claim.problems for claim in recomputed(read_report(report), report))
    assert claims(run)["log-probabilities"].status == "differs"


def test_an_output_that_its_tokens_do_not_say_is_found(run: Path) -> None:
    path = run / "evidence" / "cases.jsonl"
    cases = read_cases(path, sampled=True)
    cases["run"][3] = replace(cases["run"][3], completion="equity")
    write_cases(path, cases)
    problems = claims(run)["log-probabilities"].problems
    assert len(problems) == 1
    assert "its tokens are not those of its output" in problems[0]


def test_without_the_base_or_the_weights_it_says_why(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run / "sft" / "adapter" / "adapter_config.json"
    kept = config.read_text()
    config.write_text(json.dumps({**json.loads(kept), "base_model_name_or_path": "/nowhere/model"}))
    (claim,) = claims(run).values()
    assert claim.status == "not checked"
    assert claim.said.startswith(
        "not re-performed: the base model of sft/adapter is not at hand (/nowhere/model)"
    )
    config.write_text(kept)
    base = shutil.copytree(json.loads(kept)["base_model_name_or_path"], run.parent / "elsewhere")
    assert claims(run, base=str(base))["log-probabilities"].status == "holds"
    shutil.move(run / "sft" / "adapter", run / "sft" / "gone")
    manifest.append(run, "tidied")
    with pytest.raises(SystemExit) as end:
        main([str(run), "--fresh", "3", "--json"])
    assert end.value.code == NOT_REPERFORMED
    (claim,) = [c for c in json.loads(capsys.readouterr().out)["claims"] if c["level"] == "re-performed"]
    assert (
        claim["said"]
        == "not re-performed: the run folder has no weights of run; --weights names their folder"
    )


def test_the_record_has_the_level_and_the_seed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(run), "--fresh", "25%", "--fresh-seed", "5"])
    said = capsys.readouterr().out
    assert "2 of 8 cases of run (25%, seed 5)" in said
    (record,) = (run / "verification").glob("*.json")
    levels = [claim["level"] for claim in read_json(record)["predicate"]["claims"]]
    assert levels.count("re-performed") == 3


@pytest.mark.parametrize("asked", ["", "0", "-1", "0%", "101%", "nan%", "some", "1.5"])
def test_a_sample_that_is_none_is_refused(asked: str) -> None:
    with pytest.raises(InputError, match="expected a share of the cases"):
        sample_size(asked, 10)


def test_it_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a share of the cases"):  # not that the folder is empty
        main([str(tmp_path), "--fresh", "0"])

"""Evidence level by level: scores follow from outputs, and whoever changes one of them is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from judged_run import ROWS, SKILLS, judged_run
from tieout.cli.verify import main
from tieout.evidence import scoring
from tieout.evidence.claims import Claim, intact, recomputed
from tieout.evidence.evaluate import CONTROLS, evaluate, write_cases
from tieout.evidence.report import regate
from tieout.evidence.verify import read_report
from tieout.review.document import code_of, write_page
from tieout.rewards import load_reward
from tieout.samplers.mock import MockSampler
from tieout.storage import manifest
from tieout.storage.jsonl import read_jsonl, write_jsonl
from tieout.tasks import Task, load_task


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return judged_run(tmp_path)


def _claims(run: Path) -> dict[str, Claim]:
    path = run / "evidence" / "report.json"
    report = read_report(path)
    return {claim.what: claim for claim in [*intact(report, path), *recomputed(report, path)]}


def test_a_copied_folder_verifies_to_the_bit(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "elsewhere")
    shutil.rmtree(run)
    found = _claims(moved)
    assert {what: claim.status for what, claim in found.items()} == {
        "manifest": "holds",
        "files of the report": "holds",
        "models": "holds",
        "figures": "holds",
        "scores": "holds",
    }
    assert found["scores"].said == "110 scores computed again, with the recorded source"


def _cases(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    """Change the cases, and then everything that depends on them: report, digests, and the whole chain."""

    def tamper(run: Path) -> None:
        path = run / "evidence" / "cases.jsonl"
        lines = [line for _, line in read_jsonl(path)]
        change(lines)
        write_jsonl(path, lines)
        regate(run / "evidence")
        (run / manifest.FILE).unlink()
        manifest.append(run, "gate")

    return tamper


def _swap(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        ours, theirs = line["models"]["base"], line["models"]["dpo"]
        ours["completion"], theirs["completion"] = theirs["completion"], ours["completion"]


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a score": (
        _cases(lambda lines: lines[29]["models"]["dpo"].update(score=1.0)),
        "sums/test/29: score of dpo is 1.0 in cases.jsonl; its output gives 0.0",
    ),
    "two models' outputs swapped": (
        _cases(_swap),
        "sums/test/10: score of base is 0.25 in cases.jsonl; its output gives 1.0",
    ),
    "a case dropped": (
        _cases(lambda lines: lines.pop(29)),
        "sums/test/29: dpo has no such case; the row was asked",
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forgery_with_all_its_digests_is_found_by_the_reward(run: Path, what: str) -> None:
    tamper, message = FORGED[what]
    tamper(run)
    found = _claims(run)
    assert (
        found["manifest"].status == found["files of the report"].status == found["figures"].status == "holds"
    )
    assert message in found["scores"].problems


def test_an_adapter_that_was_replaced_after_the_report_is_named(run: Path) -> None:
    (run / "dpo" / "adapter" / "adapter_model.safetensors").write_bytes(b"others")
    assert (
        "dpo/adapter/adapter_model.safetensors: changed since start wrote it"
        in _claims(run)["manifest"].problems[0]
    )
    manifest.append(run, "later")  # on record, and still not what was evaluated
    found = _claims(run)
    assert found["manifest"].status == "holds"
    assert found["models"].problems[0].startswith("dpo: its adapter was replaced since it was evaluated")


def test_the_source_of_the_reward_is_part_of_the_claim(run: Path) -> None:
    path = run / "evidence" / scoring.SOURCES / "reward" / "mine.py"
    path.write_text(path.read_text().replace("0.25", "0.5"))
    found = _claims(run)
    assert any(
        line.startswith("evidence/scoring/reward/mine.py: changed") for line in found["manifest"].problems
    )
    assert found["scores"].problems
    assert "not with the recorded source of reward" in found["scores"].said


def test_the_source_of_a_partial_reward_is_that_of_its_function() -> None:
    from tieout.rewards.library.exact import exact

    assert scoring.source_digest(partial(exact)) == scoring.source_digest(exact)
    assert scoring.source_digest(partial(exact)) != scoring.source_digest(partial)


def test_two_sources_of_one_name_are_both_kept(tmp_path: Path) -> None:
    """A task and its controls, each in a folder of its own, in a file called task.py."""
    source = """
from tieout.tasks import Task, load_task

def reward(completions, **columns):
    return [{score} for _ in completions]

task = Task("{name}", lambda split: [], reward)
"""
    tasks = {}
    for name, score, rows in (("sums", 0.25, ROWS), ("controls", 0.75, SKILLS)):
        file = tmp_path / name / "task.py"
        file.parent.mkdir()
        file.write_text(source.format(name=name, score=score))
        tasks[name] = replace(load_task(f"{file}:task"), rows=lambda split, rows=rows: rows)  # type: ignore[misc]
    names = {"task": f"{tmp_path}/sums/task.py:task", "controls": f"{tmp_path}/controls/task.py:task"}
    scoring.keep(tmp_path, tasks["sums"], {"test": ROWS}, tasks["controls"], names)
    cases = {}
    for model in ("base", "dpo"):
        cases[model] = evaluate(tasks["sums"], ROWS, MockSampler(lambda prompt: "7"))
        cases[model] += evaluate(
            tasks["controls"], SKILLS, MockSampler(lambda prompt: "7"), track=CONTROLS, slice="copy"
        )
    write_cases(tmp_path / "cases.jsonl", cases)
    for name in tasks:
        shutil.rmtree(tmp_path / name)
    again = scoring.rescore(tmp_path)
    assert again == scoring.Rescored([], "110 scores computed again, with the recorded source", 110, 0)


def _kept(tmp_path: Path, **files: str) -> Path:
    """Evidence of two models by mine.py:right, kept with its sources, which are gone."""
    source, evidence = tmp_path / "source", tmp_path / "evidence"
    source.mkdir()
    for name, text in files.items():
        (source / name.replace("_py", ".py")).write_text(text)
    spec = f"{source}/mine.py:right"
    task = Task("sums", lambda split: ROWS, load_reward(spec))
    scoring.keep(evidence, task, {"test": ROWS}, None, {"task": None, "reward": spec})
    said = MockSampler(lambda prompt: "7")
    write_cases(evidence / "cases.jsonl", {model: evaluate(task, ROWS, said) for model in ("base", "dpo")})
    shutil.rmtree(source)
    for name in [name for name in sys.modules if name.startswith(("points", "tieout_file_"))]:
        del sys.modules[name]  # as in another process
    return evidence


IMPORTS = (
    "def right(completions, **_):\n    from points import worth\n    return [worth(c) for c in completions]\n"
)
POINTS = "def worth(completion):\n    return 0.25 if completion.isdigit() else 0.0\n"


def test_what_a_reward_imports_from_its_folder_is_kept_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    evidence = _kept(tmp_path, mine_py=IMPORTS, points_py=POINTS)
    again = scoring.rescore(evidence)
    assert again == scoring.Rescored([], "60 scores computed again, with the recorded source", 60, 0)
    del sys.modules["points"]
    (evidence / "scoring" / "reward" / "points.py").write_text(POINTS.replace("0.25", "0.75"))
    problems = scoring.rescore(evidence).problems
    assert problems[0].startswith("scoring/reward/points.py: not the source that was kept")
    assert (
        sum("score of dpo is 0.25 in cases.jsonl; its output gives 0.75" in line for line in problems) == 30
    )


def test_a_reward_that_lacks_something_here_is_no_accusation(tmp_path: Path) -> None:
    """It reads a table that is not Python: what was there then is not there now."""
    table = "from pathlib import Path\nT = Path(__file__).with_name('t.txt')\n"
    reads = f"{table}def right(completions, **_):\n    return [float(T.read_text()) for _ in completions]\n"
    evidence = _kept(tmp_path, mine_py=reads, **{"t.txt": "0.5"})
    again = scoring.rescore(evidence)
    assert (again.problems, again.scored, again.left) == ([], 0, 60)
    assert "the reward fails here on every output" in again.said
    assert "t.txt" in again.said


# ---- the command


def test_the_command_states_each_claim_and_leaves_a_record(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(run), "--verifier", "A. Reviewer"])
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[:5]] == ["intact"] * 3 + ["recomputed"] * 2
    record = json.loads((run / "verification" / "1.json").read_text())
    assert record["predicate"]["verifier"] == "A. Reviewer"
    assert record["predicate"]["head"] == manifest.heads(run)[-1]
    main([str(run), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["holds"]
    assert [claim["level"] for claim in found["claims"]].count(
        "intact"
    ) == 4  # the first record is one of them


def test_a_page_that_other_code_wrote_is_not_compared_and_its_file_still_is(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = write_page(run)
    text, own = page.read_text("utf-8"), code_of(page)
    assert own == manifest.code()["sha256"]
    page.write_text(text.replace("<h2>Cost</h2>", "<h2>Costs</h2>").replace(own, "0" * 64), "utf-8")
    manifest.append(run, "gate")  # as an earlier version would have left it
    main([str(run)])
    said = capsys.readouterr().out
    assert "not compared: other code wrote it (000000000000)" in said
    page.write_text(text.replace("<h2>Cost</h2>", "<h2>Savings</h2>").replace(own, "0" * 64), "utf-8")
    with pytest.raises(SystemExit, match="1"):  # what was changed later is, whatever code it names
        main([str(run)])
    assert "evidence/report.html" in capsys.readouterr().out
    page.write_text(text.replace("<h2>Cost</h2>", "<h2>Savings</h2>"), "utf-8")
    manifest.append(run, "gate")
    with pytest.raises(SystemExit, match="1"):
        main([str(run)])
    assert "section 'Cost' is not what the stored files give" in capsys.readouterr().out


def test_a_signed_record_verifies_with_the_public_key(run: Path, tmp_path: Path) -> None:
    import base64

    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, path = Ed25519PrivateKey.generate(), tmp_path / "key.pem"
    private = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))
    main([str(run), "--key", str(path)])
    envelope = json.loads((run / "verification" / "1.json").read_text())
    payload = base64.b64decode(envelope["payload"])
    # DSSEv1 SP LEN(type) SP type SP LEN(body) SP body, from the specification
    kind = envelope["payloadType"].encode()
    signed = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    key.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    with pytest.raises(ValueError, match="is no private key in PEM"):
        main([str(run), "--key", str(run / "run.json")])


def test_evidence_kept_by_itself_is_judged_without_its_neighbours(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of the evidence folder has no run around it: what lies next to the copy is somebody else's."""
    shelf = tmp_path / "shelf"
    shutil.copytree(run / "evidence", shelf / "kept")
    other = shelf / "other" / "calibrate"
    other.mkdir(parents=True)
    (other / "calibration.json").write_text("{}")
    (shelf / "manifest.jsonl").write_text("{}\n")
    main([str(shelf / "kept")])
    said = capsys.readouterr().out
    assert "ties out" in said
    assert "calibrations" not in said


def test_evidence_imports_without_torch() -> None:
    code = "import tieout.evidence.claims, tieout.evidence.records, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Whatever is changed in a run folder is named, and one file that cannot be read hides no other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tieout.cli.evaluate import main as evaluate
from tieout.cli.train import main as train
from tieout.cli.verify import NOT_REPERFORMED, main
from tieout.errors import InputError
from tieout.storage import manifest
from tieout.storage.atomic import sha256

WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]


@pytest.fixture(scope="module")
def made(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that `tieout train` made and `tieout eval` evaluated, with a reward of its own file."""
    folder, base = tmp_path_factory.mktemp("tampering"), str(tiny_model("llama"))
    rows = [
        {"prompt": [{"role": "user", "content": f"say {w}"}], "completion": w, "answer": w} for w in WORDS
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "near_by.py").write_text("def worth(c, a):\n    return 1.0 if c == a else 0.5\n")
    (folder / "mine.py").write_text(
        "from near_by import worth\n\ndef right(completions, answer, **_):\n"
        "    return [worth(c, a) for c, a in zip(completions, answer)]\n"
    )
    run = folder / "run"
    given = [
        "--model",
        base,
        "--data",
        str(data),
        "--out",
        str(run),
        "--batch-size",
        "4",
        "--adapter.rank",
        "4",
    ]
    train(["sft", *given])
    asked = [
        "--data",
        str(data),
        "--reward",
        f"{folder}/mine.py:right",
        "--accept-leakage",
        "the same, for a test",
    ]
    evaluate(
        [
            "--model",
            base,
            str(run),
            *asked,
            "--max-new-tokens",
            "4",
            "--reward-workers",
            "0",
            "--out",
            str(run),
        ]
    )
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy elsewhere."""
    return shutil.copytree(made, tmp_path / "moved")


def said(run: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Exit status and output of `tieout verify`; what it is refused with, if it is."""
    try:
        main([str(run), *more])
        status: int | str | None = 0
    except SystemExit as end:
        status = end.code
    except InputError as error:
        return 2, str(error)
    assert isinstance(status, int)
    return status, capsys.readouterr().out


def covered(run: Path) -> Iterator[Path]:
    """Files on record, and the record."""
    yield from (run / name for name in manifest.files_of(run))
    yield run / manifest.FILE


def test_a_byte_of_any_file_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first byte, the middle one or the last one, in turn."""
    names = [path.relative_to(run).as_posix() for path in covered(run)]
    for kind in ("adapter_model.safetensors", "report.html", "near_by.py", "cases.tokens.jsonl.gz"):
        assert any(name.endswith(kind) for name in names), kind
    for number, (path, name) in enumerate(zip(list(covered(run)), names, strict=True)):
        content = path.read_bytes()
        at = (0, len(content) // 2, len(content) - 1)[number % 3]
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        status, lines = said(run, capsys)
        assert status in (1, 2), f"{name}: {status}\n{lines}"
        assert name in lines
        assert status == 1 or name == "evidence/report.json"  # there is nothing to hold the rest to
        path.write_bytes(content)
    assert said(run, capsys)[0] == 0


def test_a_file_that_is_half_there_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in list(covered(run)):
        content, name = path.read_bytes(), path.relative_to(run).as_posix()
        path.write_bytes(content[: len(content) // 2])
        status, lines = said(run, capsys)
        assert status in (1, 2), f"{name}: {status}\n{lines}"
        assert name in lines
        path.write_bytes(content)


def test_tokens_that_cannot_be_read_leave_the_other_claims(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "evidence" / "cases.tokens.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-9])
    status, lines = said(run, capsys, "--fresh", "2")
    assert status == 1
    assert "not a whole gzip file" in lines
    assert "recomputed   holds       figures" in lines
    assert "not re-performed" in lines


def test_a_chain_built_again_from_the_start_is_no_continuation_of_what_was_verified(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = said(run, capsys, "--verifier", "A. Reviewer")
    assert status == 0
    assert "a record that was rewritten as a whole would not show without a head" in lines
    head = manifest.heads(run)[-1]
    (run / "sft" / "metrics.jsonl").unlink()
    (run / manifest.FILE).unlink()
    manifest.append(run, "tieout eval")
    status, lines = said(run, capsys)
    assert status == 1
    assert "verification/1.json: what A. Reviewer verified at" in lines
    shutil.rmtree(run / "verification")
    assert f"the line {head[:16]} is not there" in said(run, capsys, "--head", head)[1]


def test_a_record_that_was_signed_and_edited_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
    said(run, capsys, "--key", str(tmp_path / "key.pem"))
    status, lines = said(run, capsys)
    assert status == 0
    assert "1 records of earlier verifications name; signed with" in lines
    path = run / "verification" / "1.json"
    envelope = json.loads(path.read_text())
    envelope["payload"] = envelope["payload"][:-8] + "IH19" + envelope["payload"][-4:]
    path.write_text(json.dumps(envelope))
    status, lines = said(run, capsys)
    assert status == 1
    assert "verification/1.json: " in lines


def test_a_shipped_folder_alone_says_what_it_can_say(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tieout.shipping.candidate import altered

    folder = tmp_path / "shipped"
    (folder / "adapter").mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(run / "sft" / "adapter" / name, folder / "adapter" / name)
    (folder / "card.json").write_text("{}")
    files = [path for path in folder.rglob("*") if path.is_file()]
    listed = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    (folder / "manifest.json").write_text(json.dumps(listed))
    assert altered(folder) == []
    status, lines = said(folder, capsys)
    assert status == 0
    assert "is intact; nothing was computed again" in lines
    status, lines = said(folder, capsys, "--fresh", "2")
    assert status == NOT_REPERFORMED
    shutil.rmtree(run / "sft" / "adapter")
    manifest.append(run, "tidied")
    assert said(run, capsys, "--fresh", "2")[0] == NOT_REPERFORMED
    status, lines = said(run, capsys, "--fresh", "2", "--weights", str(folder / "adapter"))
    assert status == 0, lines
    assert f"by {folder}/adapter on " in lines
    (folder / "card.json").write_text("[]")
    status, lines = said(folder, capsys)
    assert status == 1
    assert "card.json was changed" in lines

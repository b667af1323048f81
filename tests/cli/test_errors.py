"""What a person did wrong is one message and status 1; what tieout does wrong is a traceback and status 70."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tieout import embedded
from tieout.cli import COMMANDS, doctor, main
from tieout.cli.options import parse
from tieout.errors import InputError, RollBack, StopTraining, TieoutError, TooManyErrors


@dataclass
class Result:
    status: object
    out: str
    err: str


@pytest.fixture
def tieout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    """Call the command line in this process, in an empty folder."""
    monkeypatch.delenv("TIEOUT_TRACEBACK", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
        status: object = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        return Result(status, *capsys.readouterr())

    return call


def raising(error: BaseException) -> Callable[[Any], None]:
    def command(arguments: Any) -> None:
        raise error

    return command


class OutOfMemoryError(RuntimeError):
    """Torch's, by its name."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("what was given"), 1),
        (TooManyErrors("what was given"), 1),
        (StopTraining("what was given"), 3),
        (RollBack("what was given", 3), 1),
        (FileNotFoundError("what was given"), 1),
        (OutOfMemoryError("what was given"), 1),
        (ValueError("what was given"), 70),
        (RuntimeError("what was given"), 70),
        (KeyError("what was given"), 70),
        (AssertionError("what was given"), 70),
    ],
)
def test_errors_are_explained_and_bugs_are_bugs(
    tieout: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    monkeypatch.setattr(doctor, "main", raising(error))
    result = tieout("doctor")
    assert result.status == status
    assert "what was given" in result.err
    bug = status == 70
    assert ("Traceback (most recent call last)" in result.err) == bug
    assert ("report this as a bug in tieout" in result.err and "`tieout doctor`" in result.err) == bug
    assert bug or len(result.err.splitlines()) == 1


def test_an_error_shows_its_traceback_on_request(
    tieout: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "main", raising(InputError("what was given")))
    monkeypatch.setenv("TIEOUT_TRACEBACK", "1")
    result = tieout("doctor")
    assert result.status == 1
    assert "Traceback (most recent call last)" in result.err
    assert "report this" not in result.err


def test_an_interrupt_says_that_the_command_can_be_repeated(
    tieout: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "main", raising(KeyboardInterrupt()))
    result = tieout("doctor")
    assert result.status == 130
    assert "repeat the command to resume" in result.err


def test_usage_has_a_status_of_its_own(tieout: Callable[..., Result]) -> None:
    assert tieout().status == tieout("docter").status == tieout("sample", "--no-such-option").status == 2
    assert tieout("--version").out.startswith("tieout ")
    assert all(name in tieout("help").out for name in COMMANDS)


def test_the_errors_of_tieout_share_one_base_class() -> None:
    assert all(issubclass(kind, TieoutError) for kind in (InputError, TooManyErrors, StopTraining, RollBack))
    assert issubclass(InputError, ValueError)


# ---------------------------------------------------------------- bad input, through the commands


USER = {"role": "user", "content": "hello"}


def model(change: str) -> str:
    """A copy of the small model that is spoiled in one way, in the current folder."""
    folder = Path("model")
    shutil.copytree(embedded.path("tieout-base"), folder)
    config = json.loads((folder / "config.json").read_text())
    weights = next(folder.glob("*.safetensors"))
    if change == "weights":
        weights.write_bytes(b"garbage!" * 4)
    elif change == "no weights":
        weights.unlink()
    elif change == "config":
        (folder / "config.json").write_text("{")
    elif change == "type":
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "nonsense"}))
    elif change == "shapes":
        wide = {**config, "hidden_size": config["hidden_size"] * 2}
        (folder / "config.json").write_text(json.dumps(wide))
    elif change == "tokenizer":
        for file in folder.glob("*token*"):
            file.unlink()
    elif change == "template":
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }")
    return str(folder)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ("weights", "could not be loaded"),
        ("no weights", "could not be loaded"),
        ("config", "config.json"),
        ("type", "could not be loaded"),
        ("shapes", "weights and config.json are of two models"),
        ("tokenizer", "could not be loaded"),
        ("template", "the chat template"),
    ],
)
def test_a_model_that_cannot_be_loaded(tieout: Callable[..., Result], change: str, part: str) -> None:
    folder = model(change)
    Path("rows.jsonl").write_text(json.dumps({"prompt": [USER], "completion": "b"}) + "\n")
    for command in (["sample", "hello"], ["train", "sft", "--data", "rows.jsonl", "--out", "run"]):
        result = tieout(*command, "--model", folder)
        assert (result.status, part in result.err) == (1, True), result.err


LORA = {"peft_type": "LORA", "base_model_name_or_path": "tieout-base", "r": 4, "target_modules": ["q_proj"]}


@pytest.mark.parametrize(
    ("config", "weights", "part"),
    [
        ("{", b"", "adapter_config.json:1: not JSON"),
        (json.dumps(LORA), None, "holds no adapter"),
        (json.dumps(LORA), b"junk", "holds no adapter"),
        (json.dumps({**LORA, "base_model_name_or_path": "/gone/base"}), None, "/gone/base does not exist"),
        (json.dumps({**LORA, "peft_type": "NOPE"}), "empty", "no configuration of an adapter"),
        (json.dumps(LORA), "other", "it is of another base"),
    ],
)
def test_an_adapter_that_cannot_be_loaded(
    tieout: Callable[..., Result], config: str, weights: Any, part: str
) -> None:
    folder = Path("adapter")
    folder.mkdir()
    (folder / "adapter_config.json").write_text(config)
    if isinstance(weights, bytes):
        (folder / "adapter_model.safetensors").write_bytes(weights)
    elif weights:
        import torch
        from safetensors.torch import save_file

        layer = "base_model.model.model.layers.0.self_attn.q_proj"
        shapes = {"lora_A": (4, 7), "lora_B": (7, 4)} if weights == "other" else {}
        tensors = {f"{layer}.{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
        save_file(tensors, folder / "adapter_model.safetensors")
    result = tieout("sample", "hello", "--model", folder)
    assert (result.status, part in result.err) == (1, True), result.err


FILES = {
    "rows.jsonl": '{"prompt": "a", "completion": "b", "answer": "b"}\n' * 30,
    "broken.jsonl": '{"prompt": "a"\n',
    "fake.parquet": "not parquet",
    "broken.yaml": "a: [1\n",
    "infinite.yaml": "stages: [{train: sft, learning_rate: .nan}]\nmodel: tieout-base\ndata: {train: rows.jsonl}\n",
    "imports.py": "import nothing_like_this\n",
    "syntax.py": "def f(:\n",
    "raises.py": "def reward(completions, **_):\n    raise ZeroDivisionError('of mine')\n",
    "number.py": "task = 3\n",
}


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("sample --data broken.jsonl", "broken.jsonl:1: not JSON"),
        ("sample --data gone.jsonl", "data file not found"),
        ("sample --data fake.parquet", "not readable as Parquet"),
        ("sample hello --model /gone/model", "does not exist"),
        ("sample hello --num-completions 0", "at least 1"),
        ("sample hello --max-new-tokens 999999", "model's context"),
        ("eval --task gone.py:task", "gone.py does not exist"),
        ("eval --task imports.py:task", "imports.py cannot be imported (line 1): ModuleNotFoundError"),
        ("eval --task syntax.py:task", "syntax.py cannot be imported (line 1): SyntaxError"),
        ("eval --task number.py:task", "is a int; expected a tieout Task"),
        ("eval --task os:path", "is a module; expected a tieout Task"),
        ("eval --data rows.jsonl --reward imports.py:reward", "ModuleNotFoundError"),
        (
            "eval --data rows.jsonl --max-rows 2 --reward raises.py:reward",
            "has a score: reward 'reward' raised",
        ),
        ("eval --data rows.jsonl --max-rows -1", "rows to take is -1; it must be at least 0"),
        ("reward check exact --data rows.jsonl --max-rows -1", "rows to take is -1; it must be at least 0"),
        ("run broken.yaml", "broken.yaml:2: not valid YAML"),
        ("run gone.yaml", "no such file"),
        ("run infinite.yaml", "infinite.yaml"),
        ("train sft --data broken.jsonl --out run", "broken.jsonl:1: not JSON"),
        ("train sft --data rows.jsonl --out run --device nowhere", "device is 'nowhere'"),
        ("calibrate exact --data broken.jsonl", "broken.jsonl:1: not JSON"),
        ("reward check exact --data broken.jsonl", "broken.jsonl:1: not JSON"),
        ("attack exact --data broken.jsonl", "broken.jsonl:1: not JSON"),
        ("gate gone", "gone has no evidence/report.json: it is no run folder"),
        ("ship gone", "gone has no evidence/report.json: it is no run folder"),
        ("show gone", "gone is no run folder"),
    ],
)
def test_bad_input_is_explained_by_every_command(
    tieout: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, command: str, part: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, text in FILES.items():
        Path(name).write_text(text)
    result = tieout(*command.split())
    assert (result.status, part in result.err) == (1, True), result.err
    assert not Path("gone").exists()


@dataclass(frozen=True)
class Inner:
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    seconds: float = 1.0


@pytest.mark.parametrize(("option", "value"), [("--seconds", "nan"), ("--inner.share", "inf")])
def test_an_option_that_is_not_finite_is_refused(option: str, value: str) -> None:
    with pytest.raises(InputError, match=f"is {value}; expected a finite number"):
        parse(Outer, "test", [option, value])
    assert parse(Outer, "test", [option, "2"]) != Outer()


def test_a_working_folder_that_was_deleted_is_named(
    tieout: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = tieout("rewards")
    assert (result.status, result.out) == (1, "")
    assert "the working folder was deleted" in result.err


@pytest.mark.parametrize(
    ("stages", "remedy"),
    [
        ([{"train": "sft", "name": "sft"}], "its recipe has no gate, which writes it: add"),
        ([{"train": "sft", "name": "sft"}, {"gate": {"name": "gate"}}], "finish the run first"),
    ],
)
def test_a_run_without_a_gate_is_not_told_to_repeat_its_command(
    tieout: Callable[..., Result], stages: list[Any], remedy: str
) -> None:
    Path("run").mkdir()
    Path("run/run.json").write_text(json.dumps({"identity": {"stages": stages}}))
    assert remedy in tieout("compare", "run").err

"""The functions of Python do what the command line does."""

from __future__ import annotations

import inspect
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

import tieout
from tieout.cli import main
from tieout.errors import InputError
from tieout.evidence.report import evidence_of
from tieout.evidence.verify import verify
from tieout.methods import METHODS
from tieout.storage.jsonl import read_json, read_jsonl, write_jsonl
from tieout.training import progress

ROOT = Path(__file__).resolve().parents[2]
TinyModel = Callable[[str], Path]
PAIRS = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(12)]
ROWS = [{"prompt": f"q{i}", "completion": f"x{i}", "answer": f"x{i}"} for i in range(12)]
REWARD = """
def starts(completions, answer, **_):
    return [1.0 if c.strip() == a else 0.0 for c, a in zip(completions, answer)]
"""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The command line, in this process."""

    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
        main()

    return call


def weights(adapter: Path) -> bytes:
    return (adapter / "adapter_model.safetensors").read_bytes()


TUNED = ["--batch-size", 6, "--beta", 0.2, "--adapter.rank", 4]


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> Path:
    """The run of `tieout train dpo` on PAIRS; only to be read."""
    folder = tmp_path_factory.mktemp("command")
    write_jsonl(folder / "pairs.jsonl", PAIRS)
    typed = ["train", "dpo", "--model", tiny_model("qwen2"), "--data", folder / "pairs.jsonl", *TUNED]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["tieout", *map(str, typed), "--out", str(folder / "run")])
        main()
    return folder / "run"


@pytest.mark.parametrize("form", [list, datasets.Dataset.from_list, "file"], ids=["list", "dataset", "file"])
def test_the_adapter_is_that_of_the_command_line_to_the_byte(
    form: Any, tmp_path: Path, tiny_model: TinyModel, command: Callable[..., None], by_command: Path
) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", PAIRS)
    model = tiny_model("qwen2")
    rows = tmp_path / "pairs.jsonl" if form == "file" else form(PAIRS)
    tuned = tieout.dpo(model, rows, out=tmp_path / "python", batch_size=6, beta=0.2, adapter={"rank": 4})
    assert weights(tuned.adapter) == weights(by_command / "dpo" / "adapter")
    assert [step["step"] for step in tuned.metrics] == [1, 2]
    told = [read_json(run / "run.json")["identity"] for run in (by_command, tmp_path / "python")]
    assert told[0] == told[1]
    if form == "file":  # the command continues what Python began
        own = ["--data", tmp_path / "pairs.jsonl", "--out", tmp_path / "python"]
        command("train", "dpo", "--model", model, *own, *TUNED)


@pytest.mark.parametrize("loaded", [True, False], ids=["function", "name"])
def test_a_reward_scores_alike_as_function_and_as_name(
    loaded: bool, tmp_path: Path, tiny_model: TinyModel, command: Callable[..., None]
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "own.py").write_text(REWARD)
    name = f"{tmp_path}/own.py:starts"
    few: dict[str, Any] = {"batch_size": 8, "group_size": 4, "max_new_tokens": 4, "epochs": 0.5}
    flags = [part for key, value in few.items() for part in (f"--{key.replace('_', '-')}", value)]
    given = ["--data", tmp_path / "rows.jsonl", "--reward", name, "--out", tmp_path / "command"]
    command("train", "grpo", "--model", tiny_model("llama"), *given, *flags)
    reward = tieout.load_reward(name) if loaded else name
    tuned = tieout.grpo(tiny_model("llama"), ROWS, reward, out=tmp_path / "python", **few)
    assert weights(tuned.adapter) == weights(tmp_path / "command" / "grpo" / "adapter")
    assert read_json(tuned.run / "run.json")["identity"]["reward"] == "own.py:starts"


def test_every_method_has_a_function_that_checks_the_rows_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr("tieout.python.training._train", lambda name, kind, *_: seen.append((name, kind)))
    for name in METHODS:
        function = getattr(tieout, name)
        assert function.__name__ == name
        function("m", [])
        assert ("reward" in inspect.signature(function).parameters) == METHODS[name]().needs.samples
    assert seen == [(name, method().needs.rows) for name, method in METHODS.items()]


def test_evaluate_gate_and_verify(tmp_path: Path, tiny_model: TinyModel) -> None:
    (tmp_path / "own.py").write_text(REWARD)
    model, reward = tiny_model("llama"), f"{tmp_path}/own.py:starts"
    tuned = tieout.sft(model, ROWS, out=tmp_path / "sft", batch_size=6)
    test = [{"prompt": f"r{i}", "answer": f"y{i}"} for i in range(5)]
    controls = [{"prompt": f"c{i}", "answer": f"z{i}"} for i in range(4)]
    told: dict[str, Any] = {"controls": controls, "out": tmp_path / "report", "max_new_tokens": 3}
    found = tieout.evaluate([str(model), tuned], test, reward, **told)
    assert [figure["n"] for figure in found.figures.values()] == [5, 5]
    assert found.differences[str(tuned.run), str(model)]["n"] == 5
    verdict = tieout.gate(tmp_path / "report")
    assert verdict["verdict"] == found.verdict == "hold"
    assert verify(evidence_of(tmp_path / "report") / "report.json") == []
    with pytest.raises(
        InputError, match="accept-leakage"
    ):  # it knows what the list was that it was trained on
        tieout.evaluate([str(model), tuned], ROWS, reward, out=tmp_path / "leaky")


def test_a_reward_of_the_program_itself_is_called_here(
    tmp_path: Path, tiny_model: TinyModel, capsys: Any
) -> None:
    calls = []

    def own(completions: Any, **_: Any) -> list[float]:
        calls.append(len(completions))
        return [float(len(c) % 2) for c in completions]

    models = [tiny_model("llama"), tiny_model("qwen2")]
    found = tieout.evaluate(models, [{"prompt": "a"}], own, out=tmp_path / "out", max_new_tokens=3)
    assert calls
    assert "no deadline for rewards" in capsys.readouterr().out
    assert not (evidence_of(found.folder or tmp_path) / "scoring.json").exists()


def test_a_reward_of_the_program_itself_is_trained_on(tmp_path: Path, tiny_model: TinyModel) -> None:
    """It is attacked first, as any other; the run knows it by its name."""

    def even(completions: Any, answer: Any, **_: Any) -> list[float]:
        return [
            float(text == right or len(text) % 2 == 0)
            for text, right in zip(completions, answer, strict=True)
        ]

    few: dict[str, Any] = {"batch_size": 4, "group_size": 4, "max_new_tokens": 4}
    with pytest.raises(InputError, match="reward 'even' pays for what it should not"):
        tieout.grpo(tiny_model("llama"), ROWS[:8], even, out=tmp_path / "run", **few)
    found = json.loads((tmp_path / "run" / "check" / "check.json").read_text())["problems"]
    few["accept"] = {problem["name"]: "seen" for problem in found}
    tuned = tieout.grpo(tiny_model("llama"), ROWS[:8], even, out=tmp_path / "run", **few)
    assert tuned.metrics[-1]["score"] >= 0
    assert read_json(tuned.run / "run.json")["identity"]["reward"].endswith(".even")


def test_other_rows_do_not_take_the_place_of_those_of_a_run(tmp_path: Path, tiny_model: TinyModel) -> None:
    first = tieout.sft(tiny_model("llama"), ROWS, out=tmp_path / "run", batch_size=12)
    again = tieout.sft(tiny_model("llama"), ROWS, out=tmp_path / "run", batch_size=12)
    assert first == again
    with pytest.raises(InputError, match="other rows"):
        tieout.sft(tiny_model("llama"), ROWS[:6], out=tmp_path / "run", batch_size=6)
    assert [row for _, row in read_jsonl(tmp_path / "run" / "data.jsonl")] == ROWS


def test_what_is_saved_is_loaded_by_peft(tmp_path: Path, tiny_model: TinyModel) -> None:
    from peft import PeftModel

    model = str(tiny_model("llama"))
    tuned = tieout.sft(model, ROWS, out=tmp_path / "run", batch_size=6, learning_rate=1e-2)
    folder = tieout.save(tuned, tmp_path / "saved")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), str(folder))
    ids = AutoTokenizer.from_pretrained(str(folder))("q1", return_tensors="pt").input_ids
    assert AutoTokenizer.from_pretrained(str(folder)).chat_template
    ours = tieout.load(str(folder)).causal(ids).logits
    assert (loaded(ids).logits - ours).abs().max() < 1e-4
    with loaded.disable_adapter():
        assert (loaded(ids).logits - ours).abs().max() > 1e-3
    with pytest.raises(InputError, match="not empty"):
        tieout.save(tuned, folder)


WRONG = [
    ("sft('tieout-base', [{'promt': 'a', 'completion': 'b'}])", "rename 'promt' to 'prompt'?"),
    ("dpo('tieout-base', [{'prompt': 'a', 'chosen': 'b'}])", "missing column 'rejected'"),
    ("dpo('tieout-base', 'nowhere.jsonl')", "data file not found"),
    ("dpo('tieout-base', 7)", "data is 7 (int); expected rows"),
    ("kto('tieout-base', {'prompt': 'a'})", "choose one of them"),
    ("sft(None, [{'prompt': 'a', 'completion': 'b'}])", "expected a name, a folder"),
    ("attack('exatc', [{'prompt': 'a', 'completion': 'b'}])", "did you mean 'exact'?"),
    ("attack('exact', [{'prompt': 'a', 'completion': 'b'}], max_row=1)", "max_rows"),
    ("evaluate('tieout-base', [{'prompt': 'a'}])", "give data and reward"),
    ("evaluate([], [{'prompt': 'a'}], 'exact')", "models is empty"),
    ("save('nowhere', 'out')", "nothing was trained there"),
    ("gate('nowhere')", "nowhere"),
    ("sft('tieout-base', [{'prompt': 'a', 'completion': 'b'}], epoch=2)", "did you mean 'epochs'?"),
    ("sft('tieout-base', [{'prompt': 'a', 'completion': 'b'}], epochs='2')", "'epochs' is '2'"),
]
LATE = 2
"""Of them, the last: for what these say torch is needed."""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """For each call of WRONG, in one process: what is said, whether torch is there by then, and what lies about."""
    folder = tmp_path_factory.mktemp("wrong")
    code = (
        "import json, os, sys, tieout\n"
        "for call in sys.argv[1:]:\n"
        "    try:\n"
        "        eval(f'tieout.{call}')\n"
        "        said = 'nothing'\n"
        "    except (tieout.TieoutError, OSError) as error:\n"
        "        said = str(error)\n"
        "    print(json.dumps([said, 'torch' in sys.modules, os.listdir()]))\n"
    )
    calls = [call for call, _ in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", code, *calls], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[call for call, _ in WRONG])
def test_what_cannot_be_right_is_said_and_most_of_it_before_torch(
    number: int, refused: list[list[Any]]
) -> None:
    said, torch, files = refused[number]
    assert WRONG[number][1] in said
    assert not torch or number >= len(WRONG) - LATE
    assert files == []


def test_a_bar_moves_in_a_notebook_that_has_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Console(force_jupyter=True, force_terminal=False)
    for installed in (None, object()):
        monkeypatch.setattr(progress, "find_spec", lambda name, found=installed: found)
        assert progress._moves(notebook) == (installed is not None)
        assert not progress._moves(Console(force_terminal=False, force_jupyter=False))


def test_the_program_of_the_examples_goes_all_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "program.py"), run_name="__main__")
    assert "hold" in capsys.readouterr().out
    saved = tmp_path / "runs" / "program" / "adapter"
    assert json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"] == "tieout-base"
    assert (saved / "tokenizer.json").exists()

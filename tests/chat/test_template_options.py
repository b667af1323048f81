"""`enable_thinking` and other options of the chat template, by Qwen3's own template."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tieout.cli import main
from tieout.errors import InputError
from tieout.learner.models.loading import load_chat
from tieout.pipelines.reading import read_recipe
from tieout.pipelines.run import Run
from tieout.rows import check_rows
from tieout.rows.messages import telling
from tieout.shipping.card import card_of
from tieout.storage.jsonl import read_json, read_jsonl, write_jsonl
from tieout.storage.runfolder import RunFolder

OFF = {"enable_thinking": False}
SKIPPED = "<think>\n\n</think>\n\n"


def talk(i: int) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": f"q{i}"}], "completion": f"x{i}", "answer": f"x{i}"}


@pytest.fixture(scope="module")
def qwen3(
    tmp_path_factory: pytest.TempPathFactory,
    new_tokenizer: Callable[..., Any],
    new_model: Callable[[str, Path, Any], Path],
) -> Path:
    """A tiny model with the chat template of Qwen3, as TRL ships it."""
    trl = pytest.importorskip("trl")
    text = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text(encoding="utf-8")
    tokenizer = new_tokenizer(text, extra_special=("<|im_start|>", "<|im_end|>"))
    tokenizer.eos_token = "<|im_end|>"
    return new_model("qwen3", tmp_path_factory.mktemp("thinks"), tokenizer)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "rows.jsonl", [talk(i) for i in range(8)])
    return tmp_path / "rows.jsonl"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
    main()


def test_what_a_row_says_itself_wins_and_its_tools_stay(qwen3: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}]
    thinks = {**talk(1), "chat_template_kwargs": {"enable_thinking": True}}
    rows = check_rows([{**talk(0), "tools": tools}, thinks], "demonstration")
    asked, own = telling(rows, OFF)
    assert asked["prompt"].told == {"tools": tools, **OFF}
    assert own["prompt"].told == {"enable_thinking": True}
    chat = load_chat(str(qwen3))
    # A special token of the tiny tokenizer is left out of its text; the tags of thinking are plain text there.
    assert chat.text(chat.prompt(asked["prompt"])).endswith(SKIPPED)
    assert not chat.text(chat.prompt(own["prompt"])).endswith(SKIPPED)
    with pytest.raises(InputError, match="not the template's"):
        telling(rows, {"add_generation_prompt": True})


@pytest.mark.parametrize("given", ["enable_thinking=false", '{"enable_thinking": false}'])
def test_training_records_it_and_evaluation_sampling_and_verify_ask_the_same_way(
    given: str, qwen3: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, rows = data.parent / "run", ["--data", data]
    small = ["--batch-size", 4, "--epochs", 0.5]
    run(
        monkeypatch,
        "train",
        "sft",
        "--model",
        qwen3,
        *rows,
        "--out",
        out,
        *small,
        "--chat-template-kwargs",
        given,
    )
    assert read_json(out / "run.json")["identity"]["chat_template_kwargs"] == OFF

    write_jsonl(data.parent / "test.jsonl", [talk(i) for i in range(20, 24)])
    evaluated = ["--data", data.parent / "test.jsonl", "--reward-workers", 0, "--max-new-tokens", 4]
    run(monkeypatch, "eval", "--model", qwen3, out, *evaluated, "--out", data.parent / "judged")
    evidence = data.parent / "judged" / "evidence"
    assert read_json(evidence / "scoring.json")["chat_template_kwargs"] == OFF
    assert all(line["row"]["chat_template_kwargs"] == OFF for _, line in read_jsonl(evidence / "rows.jsonl"))
    weights = out / "sft" / "adapter"
    run(
        monkeypatch, "verify", data.parent / "judged", "--fresh", "2", "--weights", weights
    )  # exits if one differs
    assert "re-performed holds" in capsys.readouterr().out

    run(monkeypatch, "sample", "--model", out / "sft" / "adapter", *rows, "--max-new-tokens", 2)
    assert '"chat_template_kwargs": {"enable_thinking": false}' in capsys.readouterr().out


def test_text_that_no_template_renders_is_refused(
    qwen3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "q", "completion": "x"}])
    given = ["--model", qwen3, "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "out"]
    for options, said in (
        (["--chat-template-kwargs", "enable_thinking=false"], "every prompt is plain text"),
        (["--chat-template-kwargs", "enable_thinking"], "expected KEY=VALUE"),
        (["--enable-thinking"], "chat_template_kwargs enable_thinking=false"),
    ):
        with pytest.raises(SystemExit):
            run(monkeypatch, "train", "sft", *given, *options)
        assert said in capsys.readouterr().err


def test_a_recipe_asks_so_in_every_split_and_in_files_of_stages(qwen3: Path, data: Path) -> None:
    write_jsonl(data.parent / "test.jsonl", [{**talk(20), "prompt": talk(20)["prompt"]}])
    write_jsonl(data.parent / "own.jsonl", [talk(i) for i in range(30, 36)])
    controls = [{"prompt": [{"role": "user", "content": "sky?"}], "answer": "blue"}]
    write_jsonl(data.parent / "controls.jsonl", controls)
    names = {name: str(data.parent / f"{name}.jsonl") for name in ("test", "controls")}
    plain = {
        "model": str(qwen3),
        "data": {"train": str(data), **names},
        "max_new_tokens": 8,
        "chat_template_kwargs": OFF,
        "stages": [{"train": "sft"}, {"train": "sft", "data": str(data.parent / "own.jsonl")}],
    }
    (data.parent / "r.yaml").write_text(yaml.safe_dump(plain))
    recipe = read_recipe(data.parent / "r.yaml")
    with RunFolder(data.parent / "run") as folder:
        made = Run(recipe, folder, Console(quiet=True))
        assert made.controls is not None
        for task, split in ((made.task, "train"), (made.task, "test"), (made.controls, "test")):
            assert all(row["prompt"].told == OFF for row in task.rows(split)), split
        assert set(made.hashes) >= {"stages.sft-2"}
    assert read_json(data.parent / "run" / "run.json")["identity"]["chat_template_kwargs"] == OFF
    report = {"metadata": {"recipe": recipe.plain()}, "settings": {"candidate": "sft"}}
    (limit,) = card_of(report, str(qwen3)).limits
    assert "apply_chat_template(..., enable_thinking=False)" in limit

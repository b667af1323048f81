"""Rows that are longer than a model's context: refused, left out or with a shorter prompt, and counted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tieout.chat.long_rows import Fitting, shortened
from tieout.chat.template import Chat
from tieout.cli import main
from tieout.errors import InputError
from tieout.rows import Rows, RowsError, check_rows
from tieout.rows.pairs import preferences
from tieout.storage.jsonl import read_json, read_jsonl, write_jsonl
from tieout.types import Messages, Row

WORDS = " ".join(f"w{i}" for i in range(100))


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.fixture(scope="module")
def chat(tiny_tokenizer: Any) -> Chat:
    return Chat(tiny_tokenizer)


def length(chat: Chat, row: Row, name: str = "completion") -> int:
    made = chat.given(row["prompt"], [row[name]])
    return len(made.prompt) + len(made.completions[0])


def test_a_text_prompt_keeps_its_end_and_the_completion_stays_whole(chat: Chat) -> None:
    row = {"prompt": WORDS, "completion": "the whole answer"}
    (made,) = Fitting(chat, 100, how="truncate")([row], "train")
    assert made["completion"] == "the whole answer"
    assert WORDS.endswith(made["prompt"])
    assert made["prompt"].startswith("w")
    assert 95 < length(chat, made) <= 100  # as much as fits, to the word


def test_a_conversation_loses_its_oldest_turns_before_the_last_question_is_cut(chat: Chat) -> None:
    old = [
        turn("user", "old " * 40),
        turn("assistant", "said"),
        turn("user", "newer"),
        turn("assistant", "ok"),
    ]
    told = {"enable_thinking": False}
    prompt = Messages([turn("system", "be brief"), *old, turn("user", "last")], told)
    (made,) = Fitting(chat, 120, how="truncate")([{"prompt": prompt, "completion": "a"}], "train")
    assert [m["content"] for m in made["prompt"]] == ["be brief", "newer", "ok", "last"]
    assert made["prompt"].told == told

    long = [turn("system", "be brief"), turn("user", "old"), turn("assistant", "said"), turn("user", WORDS)]
    (made,) = Fitting(chat, 120, how="truncate")([{"prompt": long, "completion": "a"}], "train")
    system, last = made["prompt"]
    assert system == turn("system", "be brief")
    assert WORDS.endswith(last["content"])
    assert length(chat, made) <= 120


def test_what_fits_is_not_touched_and_a_long_completion_is_left_out(chat: Chat) -> None:
    fits, hopeless = {"prompt": "p", "completion": "c"}, {"prompt": "p q", "completion": WORDS}
    rows = Rows([fits, hopeless, {"prompt": WORDS, "completion": "c"}], "a.jsonl", [1, 2, 5])
    cut = Fitting(chat, 60, how="truncate")
    made = cut(rows, "train")
    assert made[0] is fits
    assert [row["completion"] for row in made] == ["c", "c"]
    assert isinstance(made, Rows)
    assert made.location(1) == "a.jsonl:5"
    assert cut.counts == {"train": {"rows": 3, "dropped": 1, "truncated": 1}}
    dropped = Fitting(chat, 60, how="drop")
    assert list(dropped(rows, "train")) == [fits]
    assert dropped.counts["train"] == {"rows": 3, "dropped": 2, "truncated": 0}
    assert "2 of 3 rows are longer than the model's context of 60 tokens: 2 left out" in dropped.said[0]


def test_the_longer_side_of_a_pair_decides_and_both_stay_whole(chat: Chat) -> None:
    row = {"prompt": WORDS, "chosen": "yes", "rejected": "no, " * 10}
    (made,) = Fitting(chat, 100, how="truncate")(preferences([row]), "pairs")
    assert (made["chosen"], made["rejected"]) == (row["chosen"], row["rejected"])
    assert length(chat, made, "rejected") <= 100


def test_pairs_of_rankings_weigh_what_is_left(chat: Chat) -> None:
    first = {"prompt": "p", "completions": ["a", "b", WORDS], "scores": [3, 2, 1]}
    pairs = preferences([first, {"prompt": "q", "completions": ["a", "b"], "scores": [1, 0]}])
    assert len(pairs) == 4
    made = Fitting(chat, 60, how="drop")(pairs, "pairs")
    assert [row["pair_weight"] for row in made] == [1.0, 1.0]


def test_room_is_kept_for_what_is_sampled(chat: Chat) -> None:
    (row,) = Fitting(chat, 100, 40, "truncate")([{"prompt": WORDS}], "train")
    assert len(chat.prompt(row["prompt"])) <= 60
    with pytest.raises(RowsError, match="none of 1 rows fits"):
        Fitting(chat, 100, 99, "drop")([{"prompt": "two words"}], "train")


def test_a_prompt_without_a_question_to_cut_is_left_out() -> None:
    assert shortened({"prompt": [turn("system", WORDS)]}, lambda row: False) is None
    assert shortened({"prompt": "oneword"}, lambda row: False) is None
    with pytest.raises(InputError, match="expected error, drop or truncate"):
        Fitting(None, 1, how="cut")  # type: ignore[arg-type]


# ---------------------------------------------------------------- as people type it

ROWS = [{"prompt": f"q{i}", "completion": f"x{i}"} for i in range(8)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    long = {"prompt": "word " * 450, "completion": "end"}
    write_jsonl(tmp_path / "rows.jsonl", [*ROWS, long, {"prompt": "q", "completion": "word " * 450}])
    return tmp_path / "rows.jsonl"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["tieout", *map(str, arguments)])
    main()


@pytest.mark.parametrize(("how", "cut"), [("drop", 0), ("truncate", 1)])
def test_train_counts_them_in_what_it_prints_and_in_run_json(
    how: str, cut: int, data: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = data.parent / "run"
    given = ["--model", tiny_model("qwen2"), "--data", data, "--out", out, "--batch-size", 4, "--epochs", 0.5]
    with pytest.raises(SystemExit):
        run(monkeypatch, "train", "sft", *given)
    said = capsys.readouterr().err
    assert "rows.jsonl:9: the prompt has 2250 tokens" in said
    assert "give long_rows: drop or truncate" in said
    run(monkeypatch, "train", "sft", *given, "--long-rows", how)
    noted = read_json(out / "run.json")
    assert noted["long_rows"] == {"train": {"rows": 10, "dropped": 2 - cut, "truncated": cut}}
    assert noted["identity"]["long_rows"] == how
    assert f"{2 - cut} left out, {cut} with a prompt cut" in capsys.readouterr().out


def test_a_recipe_counts_them_for_its_splits_and_for_files_of_stages(
    data: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_jsonl(
        data.parent / "test.jsonl", [{"prompt": "t " * 1100, "answer": "x"}, {"prompt": "t", "answer": "x"}]
    )
    plain = {
        "model": str(tiny_model("qwen2")),
        "data": {"train": str(data), "test": str(data.parent / "test.jsonl")},
        "max_new_tokens": 8,
        "long_rows": "drop",
        "stages": [{"train": "sft"}, {"train": "sft", "data": str(data)}],
    }
    (data.parent / "r.yaml").write_text(yaml.safe_dump(plain))
    run(monkeypatch, "run", data.parent / "r.yaml", "--out", data.parent / "run", "--dry-run")
    said = capsys.readouterr().out
    for name, dropped, count in (("train", 2, 10), ("test", 1, 2), ("sft-2", 2, 10)):
        assert f"{name}: {dropped} of {count} rows are longer" in said


def test_eval_leaves_out_the_same_rows_for_every_model(
    data: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [{"prompt": "t " * 1100, "answer": "x"}, {"prompt": "t", "answer": "x"}]
    write_jsonl(tmp_path / "test.jsonl", rows)
    given = ["eval", "--model", tiny_model("qwen2"), "--data", tmp_path / "test.jsonl", "--reward-workers", 0]
    given += ["--max-new-tokens", 4, "--out", tmp_path / "cases.jsonl"]
    with pytest.raises(SystemExit):
        run(monkeypatch, *given)
    assert not (tmp_path / "cases.jsonl").exists()
    run(monkeypatch, *given, "--long-rows", "drop")
    assert len(list(read_jsonl(tmp_path / "cases.jsonl"))) == 1


def test_the_rows_of_a_spreadsheet_are_cut_as_those_of_any_file(chat: Chat) -> None:
    rows = check_rows([{"instruction": WORDS, "input": "what?", "output": "4"}], "demonstration")
    (made,) = Fitting(chat, 90, how="truncate")(rows, "train")
    assert made["prompt"][0]["content"].endswith("what?")

"""Same rows, same tokens: the command line, recipes, Python and `tieout.trl` make of a row what its template makes."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout.chat.reader import TOKENS, Reader
from tieout.chat.template import Chat
from tieout.cli.train_rows import Options, task_for
from tieout.episodes import TokenEpisode
from tieout.errors import InputError
from tieout.evidence.evaluate import evaluate
from tieout.methods import DPO, KTO, SFT, Method
from tieout.rows import check_rows, read_rows
from tieout.samplers import SamplingParams
from tieout.source import Source
from tieout.tasks import Task
from tieout.tasks.files import Data, files_task
from tieout.trl.given import listed
from tieout.trl.rollouts import prompts
from tieout.types import Group, Row

FOUND = importlib.util.find_spec("trl")
FOLDER = Path(FOUND.origin or "").parent / "chat_templates" if FOUND else Path("none")
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="trl is not installed")
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}},
}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
ASK = {"role": "user", "content": "2 + 2?"}


def said(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


CALLED = [ASK, said("", tool_calls=[CALL]), {"role": "tool", "name": "add", "content": "4"}]
REPLIES: dict[str, Row] = {
    "reasoning": {"prompt": [ASK], "completion": [said("4", reasoning_content="hm")]},
    "tools": {"prompt": CALLED, "completion": [said("4")], "tools": [TOOL]},
    "tools as json": {"prompt": CALLED, "completion": [said("4")], "tools": json.dumps([TOOL])},
    "options": {"prompt": [ASK], "completion": "4", "chat_template_kwargs": {"enable_thinking": False}},
    "call": {"prompt": [ASK], "completion": [said("", tool_calls=[CALL])], "tools": [TOOL]},
    "turns": {"prompt": [ASK], "completion": [said("3"), {"role": "user", "content": "sure?"}, said("4")]},
    "parts": {
        "prompt": [ASK],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": "4"}]}],
    },
    "begun": {"prompt": [ASK, said("It is")], "completion": [said(" 4")]},
    "text": {"prompt": "2 + 2 =", "completion": " 4"},
    "rendered text": {
        "prompt": "<|im_start|>user\n2?<|im_end|>\n<|im_start|>assistant\n",
        "completion": "2<|im_end|>",
    },
    "text and messages": {"prompt": "2 + 2?", "completion": [said("4")]},
}


@pytest.fixture
def chat(new_tokenizer: Callable[..., Any]) -> Chat:
    """Qwen3.5's template, which reads everything that a row can tell it."""
    template = (FOLDER / "qwen3_5_think.jinja").read_text(encoding="utf-8")
    tokenizer = new_tokenizer(template, ("<|im_start|>", "<|im_end|>"))
    tokenizer.eos_token = "<|im_end|>"
    return Chat(tokenizer)


def by_command(rows: list[Row], method: Method, chat: Chat, folder: Path) -> Source:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = task_for(method.needs, "it", Options(out=folder / "run", data=file, hold_out=False))
    return Source(task, chat, shuffle=False)


def by_recipe(rows: list[Row], kind: str, chat: Chat, folder: Path) -> Source:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (other := folder / "test.jsonl").write_text('{"prompt": "q"}\n')
    task = files_task(Data(test=str(other), **{kind: str(file)}), "length")
    return Source(task, chat, split=kind, shuffle=False)


def by_python(rows: list[Row], chat: Chat) -> Source:
    return Source(Task("rows", lambda split: rows), chat, shuffle=False)


def tokens(group: Group) -> tuple[list[int], list[list[int]]]:
    assert all(all(c.mask) for c in group.completions)
    return group.prompt, [c.tokens for c in group.completions]


def of_reader(row: Row) -> tuple[list[int], list[list[int]]]:
    return row[TOKENS]["prompt"], row[TOKENS]["completions"]


@pytest.mark.parametrize("name", REPLIES)
def test_demonstrations_are_the_same_tokens_by_every_door(name: str, chat: Chat, tmp_path: Path) -> None:
    row = REPLIES[name]
    (expected,) = map(of_reader, Reader(chat).demonstrations([row]))
    for source in (
        by_command([row], SFT(), chat, tmp_path),
        by_recipe([row], "train", chat, tmp_path),
        by_python([row], chat),
    ):
        (group,) = next(source.demonstrations(1))
        assert tokens(group) == expected
    if isinstance(row["prompt"], list):  # and they are what transformers render
        completion = [said(row["completion"])] if isinstance(row["completion"], str) else row["completion"]
        told = {"tools": [TOOL]} if "tools" in row else {}
        asked = [ASK, said("It is 4")] if name == "begun" else [*row["prompt"], *completion]
        whole = chat.tokenizer.apply_chat_template(
            asked, tokenize=False, **told, **row.get("chat_template_kwargs", {})
        )
        whole = whole.replace(str([{"type": "text", "text": "4"}]), "4")
        assert chat.tokenizer.decode([*expected[0], *expected[1][0]]) + "\n" == whole


def test_a_turn_of_several_messages_is_split_before_it(chat: Chat, tmp_path: Path) -> None:
    row = {"messages": [ASK, said("3"), said("no, 4")]}
    for source in (by_command([row], SFT(), chat, tmp_path), by_recipe([row], "train", chat, tmp_path)):
        ((prompt, (completion,)),) = map(tokens, next(source.demonstrations(1)))
        whole = chat.tokenizer.apply_chat_template(row["messages"], tokenize=False)
        assert chat.tokenizer.decode([*prompt, *completion]) + "\n" == whole
        assert "3" not in chat.tokenizer.decode(prompt)


def test_whole_conversations_are_the_same_tokens_by_every_door(chat: Chat, tmp_path: Path) -> None:
    row = {"messages": [*CALLED, said("4", reasoning_content="hm")], "tools": [TOOL]}
    (trl,) = map(of_reader, Reader(chat).demonstrations([row]))
    whole = [*trl[0], *trl[1][0]]  # all of it is trained, as in TRL; elsewhere the last turn
    for source in (
        by_command([row], SFT(), chat, tmp_path),
        by_recipe([row], "train", chat, tmp_path),
        by_python([row], chat),
    ):
        ((prompt, (completion,)),) = map(tokens, next(source.demonstrations(1)))
        assert [*prompt, *completion] == whole[: len(prompt) + len(completion)]
        assert chat.tokenizer.decode(whole[len(prompt) + len(completion) :]) == "\n"
        assert chat.tokenizer.decode(completion) == "hm\n</think>\n\n4<|im_end|>"


def test_pairs_that_differ_in_their_reasoning_only_are_pairs(chat: Chat, tmp_path: Path) -> None:
    sides = {
        "chosen": [said("4", reasoning_content="two and two")],
        "rejected": [said("4", reasoning_content="a guess")],
    }
    rows: list[Row] = [
        {"prompt": [ASK], **sides},
        {key: [ASK, *side] for key, side in sides.items()},
        {"prompt": CALLED, **sides, "tools": [TOOL]},
    ]
    expected = list(map(of_reader, Reader(chat).pairs(rows)))
    for source in (
        by_command(rows, DPO(), chat, tmp_path),
        by_recipe(rows, "pairs", chat, tmp_path),
        by_python(rows, chat),
    ):
        groups = next(source.preferences(3))
        assert list(map(tokens, groups)) == expected
        assert [group.scores for group in groups] == [[1.0, 0.0]] * 3
    texts = [chat.tokenizer.decode(side) for side in expected[0][1]]
    assert texts == ["two and two\n</think>\n\n4<|im_end|>", "a guess\n</think>\n\n4<|im_end|>"]


def test_labels_are_the_same_tokens_by_every_door(chat: Chat, tmp_path: Path) -> None:
    rows: list[Row] = [
        {**REPLIES[name], "label": name != "tools"} for name in ("reasoning", "tools", "options")
    ]
    expected = list(map(of_reader, Reader(chat).labelled(rows)))
    for source in (by_command(rows, KTO(), chat, tmp_path), by_python(rows, chat)):
        assert list(map(tokens, next(source.labels(3)))) == expected


def test_prompts_of_rollouts_hold_calls_and_results(chat: Chat, tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": CALLED, "tools": [TOOL]},
        {"prompt": [ASK], "chat_template_kwargs": {"enable_thinking": False}},
        {"prompt": [ASK, said("It is")]},  # continued
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trl = [chat.prompt(row["prompt"]) for row in prompts(rows, chat.tokenizer)]
    command = [chat.prompt(row["prompt"]) for row in check_rows(read_rows(file), "prompt")]
    python = [chat.prompt(row["prompt"]) for row in by_python(rows, chat).rows]
    assert trl == command == python
    for row, ids in zip(rows, trl, strict=True):
        ends = {"continue_final_message": True} if row["prompt"][-1]["role"] == "assistant" else {
            "add_generation_prompt": True
        }  # fmt: skip
        told = {"tools": row.get("tools"), **row.get("chat_template_kwargs", {})}
        assert chat.tokenizer.decode(ids) == chat.tokenizer.apply_chat_template(
            row["prompt"], tokenize=False, **told, **ends
        )


def test_options_of_a_configuration_are_told_for_rows_that_say_nothing_else(chat: Chat) -> None:
    off, on = {"enable_thinking": False}, {"enable_thinking": True}
    rows: list[Row] = [{"prompt": [ASK]}, {"prompt": [ASK], "chat_template_kwargs": on}]
    plain, opened = (
        chat.tokenizer.apply_chat_template([ASK], tokenize=False, add_generation_prompt=True, **told)
        for told in (off, on)
    )
    found = [chat.tokenizer.decode(chat.prompt(row["prompt"])) for row in prompts(rows, chat.tokenizer, off)]
    assert found == [plain, opened]
    assert plain != opened


def test_a_row_that_the_template_cannot_render_is_named_by_every_door(
    new_tokenizer: Callable[..., Any], tmp_path: Path
) -> None:
    chat = Chat(new_tokenizer())  # of a model that knows neither reasoning nor tools
    rows: list[Row] = [{"prompt": [ASK], "completion": "4"}, REPLIES["reasoning"]]
    says = "leaves out 'reasoning_content' of the assistant message of: user, assistant"
    with pytest.raises(InputError, match=f"row 1 of the dataset: the chat template {says}"):
        Reader(chat).demonstrations(rows)
    checked = by_command(rows, SFT(), chat, tmp_path).task.rows("train")
    with pytest.raises(InputError, match=rf"rows\.jsonl:2: the chat template {says}"):
        chat.check_lengths(checked, 2048)
    with pytest.raises(InputError, match="leaves out the tools"):
        chat.check([check_rows([{"prompt": [ASK], "tools": [TOOL]}], "prompt")[0]])


def test_the_same_prompt_reaches_samplers_of_text(chat: Chat) -> None:
    """An evaluation asks as training does: tools and options are told to whatever renders."""
    asked: list[Any] = []

    class Sampler:
        def complete(self, prompts: list[Any], params: SamplingParams) -> list[str]:
            asked.extend(prompts)
            return ["4"] * len(prompts)

    rows: list[Row] = [{"prompt": CALLED, "tools": [TOOL]}]
    task = Task("rows", lambda split: rows, reward=lambda completions, **_: [1.0] * len(completions))
    (case,) = evaluate(task, rows, Sampler())  # type: ignore[arg-type]
    assert case.score == 1.0
    assert "Add." in chat.tokenizer.decode(chat.prompt(asked[0]))


def test_gaps_that_arrow_makes_in_calls_and_tools_are_closed(chat: Chat, tmp_path: Path) -> None:
    """Arrow gives every call the arguments of all calls, with None where a call has none of that name."""
    datasets = pytest.importorskip("datasets")
    other = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    rows = [
        {"prompt": [ASK], "completion": [said("", tool_calls=[call])], "tools": [TOOL]}
        for call in (CALL, other)
    ]
    made = datasets.Dataset.from_list(rows)
    assert made[0]["completion"][0]["tool_calls"][0]["function"]["arguments"] == {"a": 2, "city": None}
    made.to_parquet(str(file := tmp_path / "rows.parquet"))
    expected = list(map(of_reader, Reader(chat).demonstrations(rows)))
    assert list(map(of_reader, Reader(chat).demonstrations(listed(made)))) == expected
    source = Source(
        Task("rows", lambda split: check_rows(read_rows(file), "demonstration")), chat, shuffle=False
    )
    assert list(map(tokens, next(source.demonstrations(2)))) == expected


def test_an_environment_opens_with_the_options_of_its_row(chat: Chat) -> None:
    def environment(row: Row) -> Any:
        yield "2 + 2?"
        return 1.0

    row = {"chat_template_kwargs": {"enable_thinking": False}}
    episode = TokenEpisode(chat, environment, row, 0)
    assert chat.tokenizer.decode(episode.prompt).endswith("<think>\n\n</think>\n\n")


def test_an_evaluation_names_the_case_that_the_template_cannot_render(
    new_tokenizer: Callable[..., Any],
) -> None:
    class Sampler:
        context, chat = 2048, Chat(new_tokenizer())

        def complete(self, prompts: list[Any], params: SamplingParams) -> list[str]:
            raise AssertionError("nothing is sampled before the check")

    rows: list[Row] = [{"prompt": [ASK]}, {"prompt": CALLED, "tools": [TOOL]}]
    task = Task("rows", lambda split: rows, reward=lambda completions, **_: [1.0] * len(completions))
    with pytest.raises(InputError, match=r"case 'rows/test/1': the chat template leaves out the tools"):
        evaluate(task, rows, Sampler())

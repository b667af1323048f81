"""Rows as TRL's users have them: what is trained of them, and what is left out with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from tieout.chat.reader import TOKENS, Reader
from tieout.chat.template import Chat
from tieout.chat.tokens import Limits
from tieout.rows.messages import split
from tieout.source import Source
from tieout.tasks import Task
from tieout.trl.collators import DataCollatorForCompletionOnlyLM
from tieout.trl.rollouts import prompts

ASK = {"role": "user", "content": "two?"}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def chat(tiny_tokenizer: Any) -> Chat:
    return Chat(tiny_tokenizer)


@pytest.fixture
def reader(chat: Chat) -> Reader:
    return Reader(chat)


def trained(chat: Chat, row: Any, side: int = 0) -> str:
    """The text of the trained tokens, special ones as they are named."""
    tokens, mask = row[TOKENS]["completions"][side], row[TOKENS]["masks"][side]
    return str(chat.tokenizer.decode([t for t, own in zip(tokens, mask, strict=True) if own]))


def whole(row: Any, side: int = 0) -> list[int]:
    return [*row[TOKENS]["prompt"], *row[TOKENS]["completions"][side]]


def test_text_that_a_template_rendered_keeps_its_special_tokens(reader: Reader, chat: Chat) -> None:
    """Messages, and the text that the template makes of them, are the same tokens: a sign of a turn is no letters."""
    tokenizer = chat.tokenizer
    opening = tokenizer.apply_chat_template([ASK], tokenize=False, add_generation_prompt=True)
    full = [tokenizer.apply_chat_template([ASK, answer(text)], tokenize=False) for text in ("2", "3")]
    rendered = {"prompt": opening, "chosen": full[0][len(opening) :], "rejected": full[1][len(opening) :]}
    talk = {"prompt": [ASK], "chosen": [answer("2")], "rejected": [answer("3")]}
    (as_text,), (as_talk,) = reader.pairs([rendered]), reader.pairs([talk])
    stop = chat.tokenizer.eos_token_id
    for side in (0, 1):
        ids = tokenizer(full[side], add_special_tokens=False)["input_ids"]
        assert whole(as_text, side) == ids + [stop] * (ids[-1] != stop)
        assert whole(as_text, side)[: len(whole(as_talk, side))] == whole(as_talk, side)
    (both,) = reader.pairs([{"chosen": full[0], "rejected": full[1]}])  # whole conversations as text
    assert whole(both) == whole(as_text)


def test_a_completion_that_ends_with_eos_gets_no_second_one(reader: Reader, chat: Chat) -> None:
    end = chat.tokenizer.eos_token
    (row, same) = reader.demonstrations([{"prompt": "a", "completion": text} for text in (f"b{end}", "b")])
    assert row[TOKENS] == same[TOKENS]
    assert trained(chat, row) == f"b{end}"


def test_sharegpt_and_typed_parts_are_messages(reader: Reader) -> None:
    talk = [ASK, answer("2")]
    theirs = [{"from": "human", "value": "two?"}, {"from": "gpt", "value": "2"}]
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}], "name": None} for m in talk]
    found = reader.demonstrations([{"messages": talk}, {"conversations": theirs}, {"messages": parts}])
    assert found[0] == found[1] == found[2]
    (row,) = prompts([{"prompt": parts[:1]}], None)
    assert row["prompt"] == [ASK]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"messages": [{"speaker": "me", "text": "hi"}]},
            "a message has speaker, text; expected role and content",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "only text is trained"),
        (
            {"prompt": [ASK], "completion": [{"role": "assistant", "content": None}]},
            "expected role and content",
        ),
        (
            {"prompt": [ASK], "completion": [answer("2")], "tools": [{"name": "f"}]},
            "leaves out the tools: leave them out, or set a template that shows them",
        ),
        ({"prompt": [ASK], "completion": [answer("2")], "tools": "f("}, "'tools' is no JSON"),
        (
            {"prompt": [ASK], "completion": [{**answer("2"), "reasoning_content": "hm"}]},
            "leaves out 'reasoning_content' of the assistant message of: user, assistant",
        ),
        ({"prompt": [ASK], "completion": [ASK]}, "expected the last one from the assistant"),
    ],
    ids=["no role", "image", "no content", "tools", "no tools", "reasoning", "no reply"],
)
def test_what_would_be_trained_as_something_else_is_refused(reader: Reader, row: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reader.demonstrations([row])


def test_tools_and_template_options_of_a_row_reach_the_template(new_tokenizer: Any) -> None:
    template = (
        "{% if tools %}T{{ tools | length }}{% endif %}{% if shout %}!{% endif %}"
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    )
    reader = Reader(Chat(new_tokenizer(template)))
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}
    row = {"messages": [ASK, answer("2")], "tools": [tool], "chat_template_kwargs": {"shout": True}}
    plain, (told,) = reader.demonstrations([{"messages": row["messages"]}])[0], reader.demonstrations([row])
    decode = reader.chat.tokenizer.decode
    assert decode(whole(told)) == "T1!" + decode(whole(plain))


def test_labels_say_what_is_trained(reader: Reader, chat: Chat) -> None:
    ids = chat.tokenizer.encode("abcdef", add_special_tokens=False)
    labels = [-100] * 4 + ids[4:]
    (row,) = reader.demonstrations([{"input_ids": ids, "labels": labels, "attention_mask": [1] * 6}])
    assert trained(chat, row) == "ef"


def test_whole_conversations_beside_a_prompt_repeat_it(reader: Reader) -> None:
    sides = {"chosen": [ASK, answer("2")], "rejected": [ASK, answer("3")]}
    (with_text,) = reader.pairs([{"prompt": "two?", **sides}])
    (without,) = reader.pairs([sides])
    assert with_text[TOKENS] == without[TOKENS]


def test_conversations_may_part_before_the_last_turn(reader: Reader, chat: Chat) -> None:
    chosen = [ASK, answer("2"), {"role": "user", "content": "sure?"}, answer("yes")]
    rejected = [ASK, answer("3"), {"role": "user", "content": "sure?"}, answer("no")]
    (row,) = reader.pairs([{"chosen": chosen, "rejected": rejected}])
    for side, talk in enumerate((chosen, rejected)):
        ids = chat.tokenizer.apply_chat_template(talk, tokenize=True, return_dict=True)["input_ids"]
        assert whole(row, side) == ids[: len(whole(row, side))]
        assert trained(chat, row, side).startswith(talk[1]["content"])
        assert "sure?" in trained(chat, row, side)
        assert row[TOKENS]["completions"][side][-1] in chat.stop_tokens


def test_pairs_become_labels_for_kto(reader: Reader, chat: Chat) -> None:
    rows = reader.labelled([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    assert [(trained(chat, row)[0], row["label"]) for row in rows] == [("b", True), ("c", False)]
    with pytest.raises(ValueError, match="row 0: KTO needs a column 'label'"):
        reader.labelled([{"prompt": "a", "completion": "b"}])


def test_pairs_of_equals_are_general_rows_where_the_method_has_an_sft_term(chat: Chat) -> None:
    """Told by the rows as they are given: two completions that a limit makes alike are not general rows."""
    rows = [
        {"prompt": "a", "chosen": side, "rejected": other} for side, other in (("b", "b"), ("xyz", "xyw"))
    ]
    keeps = Reader(chat, Limits(3), anchors=True)
    with pytest.warns(
        UserWarning, match="in 1 of 2 rows chosen equals rejected: they train the SFT term alone"
    ):
        read = keeps.pairs(rows)
    source = Source(Task("pairs", lambda split: read), chat)
    assert [source.preference(row).scores for row in read] == [[1.0, 1.0], [1.0, 0.0]]
    assert read[1][TOKENS]["completions"][0] == read[1][TOKENS]["completions"][1]
    with pytest.raises(ValueError, match="equal in every row: nothing is compared; use SFTTrainer"):
        keeps.pairs(rows[:1])


def test_rows_that_teach_nothing_are_left_out_and_counted(reader: Reader, chat: Chat) -> None:
    pairs = [{"prompt": "a", "chosen": "b", "rejected": side} for side in ("b", "c")]
    with pytest.warns(UserWarning, match="1 of 2 rows are left out: chosen and rejected are equal"):
        assert len(reader.pairs(pairs)) == 1
    with pytest.warns(UserWarning, match="1 of 2 rows are left out: 'text' is empty"):
        assert len(reader.demonstrations([{"text": ""}, {"text": "abc"}])) == 1
    marks = DataCollatorForCompletionOnlyLM("### Answer:", tokenizer=chat.tokenizer).trained
    with pytest.raises(ValueError, match="finds its response_template nowhere; give it as token ids"):
        Reader(chat, marks=marks).demonstrations([{"text": "no such place"}])
    with pytest.raises(ValueError, match="nothing is left to train on within max_length=2"):
        Reader(chat, Limits(max_length=2)).demonstrations([{"prompt": "abc", "completion": "d"}])


def test_the_end_is_kept_of_one_completion_as_trl_keeps_it(chat: Chat) -> None:
    ids = chat.tokenizer.encode("abcdefghij", add_special_tokens=False)
    for length in (3, 6, 9):
        (row,) = Reader(chat, Limits(length, truncation="keep_end")).demonstrations([{"text": "abcdefghij"}])
        assert whole(row) == [*ids, chat.tokenizer.eos_token_id][-length:]
    (row,) = Reader(chat, Limits(5, truncation="keep_end")).demonstrations(
        [{"prompt": "abcdef", "completion": "gh"}]
    )
    assert (row[TOKENS]["prompt"], trained(chat, row)) == (ids[4:6], "gh" + chat.tokenizer.eos_token)
    (row,) = Reader(chat, Limits(3, truncation="keep_end")).demonstrations(
        [{"prompt": "ab", "completion": "cdefgh"}]
    )
    assert trained(chat, row) == "h" + chat.tokenizer.eos_token


def test_assistant_only_masks_the_turns_in_between(new_tokenizer: Any) -> None:
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|end|>"
        "{% endgeneration %}{% else %}{{ m.content }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    chat = Chat(new_tokenizer(template))
    reader = Reader(chat, assistant_only=True)
    row = {"prompt": [ASK], "completion": [answer("2"), {"role": "user", "content": "sure?"}, answer("yes")]}
    (found,) = reader.demonstrations([row])
    assert trained(chat, found) == "2<|end|>yes<|end|>"
    (one,) = reader.demonstrations([{"prompt": "two?", "completion": [answer("2")]}])
    assert trained(chat, one) == "2<|end|>"
    with pytest.raises(ValueError, match="in text nothing marks whose turn it is"):
        reader.demonstrations([{"text": "two? 2"}])


def test_a_last_turn_that_the_template_leaves_open_is_refused(new_tokenizer: Any) -> None:
    ending = "{% if not loop.last %}<|end|>{% endif %}"
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}" + ending + "{% endfor %}"
    reader = Reader(Chat(new_tokenizer(template), (1,)))
    row = {
        "prompt": [ASK],
        "completion": [answer("2"), {"role": "user", "content": "sure?"}, answer("yes, two")],
    }
    with pytest.raises(ValueError, match="does not end the assistant's turn"):
        reader.demonstrations([row])


def test_gaps_that_arrow_fills_and_columns_beside_pairs(reader: Reader) -> None:
    gaps = {"prompt": None, "completion": None, "messages": None}
    (row,) = reader.demonstrations([{**gaps, "text": "abc"}])
    assert len(whole(row)) == 4
    sides = {"chosen": [answer("2")], "rejected": [answer("3")]}
    with pytest.raises(ValueError, match="row 0 of the dataset: the chat template leaves out the tools"):
        reader.labelled([{"prompt": [ASK], **sides, "tools": [{"name": "f"}]}])
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a", "completion": "b"}]
    with pytest.raises(ValueError, match="row 1: KTO needs a column 'label'"):
        reader.labelled(rows)


def test_a_pair_of_equals_is_no_good_and_bad_completion(reader: Reader) -> None:
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "d", "chosen": "e", "rejected": "e"}]
    with pytest.warns(
        UserWarning, match="2 of 4 rows are left out: chosen and rejected of their pair are equal"
    ):
        left = reader.labelled(rows)
    assert [row["label"] for row in left] == [True, False]


def test_where_one_text_begins_the_other_something_is_left_of_both(reader: Reader, chat: Chat) -> None:
    assert split(["yes sir", "yes"]) == ("ye", ["s sir", "s"])
    (row,) = reader.pairs([{"chosen": "yes sir", "rejected": "yes"}])
    assert trained(chat, row, 1) == "s<|end|>"


def test_a_call_of_a_tool_in_the_prompt_goes_through_the_template(new_tokenizer: Any) -> None:
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content or m.tool_calls[0].function.name }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    chat = Chat(new_tokenizer(template))
    call = {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    prompt = [ASK, call, {"role": "tool", "content": "2"}]
    (row,) = Reader(chat).pairs(
        [{"prompt": prompt, "chosen": [answer("two")], "rejected": [answer("three")]}]
    )
    assert trained(chat, row) == "two<|end|>"
    assert chat.tokenizer.decode(row[TOKENS]["prompt"]).endswith("<|tool|>2<|end|><|assistant|>")


def test_rankings_become_weighted_pairs(reader: Reader) -> None:
    rows = [{"prompt": "Count.", "completions": [" a", " bb", " ccc"], "scores": [2, 1, 0]}]
    rows += [{"prompt": "Add.", "completions": [" 2", " 3"], "scores": [1, 0]}]
    read = reader.pairs(rows)
    assert [row["pair_weight"] for row in read] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])
    assert [row[TOKENS] for row in read[3:]] == [
        row[TOKENS] for row in reader.pairs([{"prompt": "Add.", "chosen": " 2", "rejected": " 3"}])
    ]

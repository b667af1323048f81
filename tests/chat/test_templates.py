"""Every chat template that TRL ships, and the replies that people have: what is trained is the template's own.

The truth is `apply_chat_template` of transformers on the same messages. Prompt and completion together are what it
renders, and the prompt is what it opens, up to where the two part. What it loses is refused, or put right by its name.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tieout.chat.reader import TOKENS, Reader
from tieout.chat.template import Chat
from tieout.errors import InputError
from tieout.types import Row

FOUND = importlib.util.find_spec("trl")
FOLDER = Path(FOUND.origin or "").parent / "chat_templates" if FOUND else Path("none")
TEMPLATES = sorted(FOLDER.glob("*.jinja"))
pytestmark = pytest.mark.skipif(not TEMPLATES, reason="trl is not installed")
SPECIAL = re.compile(
    r"<\|\w+\|>|<｜[^｜]+｜>|<(?:start|end)_of_(?:turn|utterance)>|<turn\|>|<\|turn>|<\|?(?:start|end)_\w+\|?>"
    r"|<channel\|>|<\|channel>|\[/?INST\]"
)
ENDS = (
    *("<|return|>", "<|eot|>", "<end_of_turn>", "<end_of_utterance>", "<turn|>", "<|end|>", "<|im_end|>"),
    *("<|eot_id|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>"),
)
OTHER_ENDS = ("<|tool_response>", "<|observation|>", "<|call|>", "<|eom_id|>")
"""With these turns end that call a tool; generation configurations list them."""
NEVER_ENDS = {"glm4moe", "llava_next"}
"""The first stops where the next turn begins, the second writes its eos only after turns that have a successor."""
DROPS_THOUGHTS = {"deepseek_r1_distill", "deepseekv3", "deepseekv3_training"}
"""Their finished turns have no reasoning, whatever they were given."""

Q, HM, ANSWER = "2 + 2?", "hm, two and two", "it is 4"
TAGGED = f"<think>\n{HM}\n</think>\n\n{ANSWER}"
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"content": ANSWER},
    "tag": {"content": TAGGED},
    "tag in one line": {"content": f"<think>{HM}</think>{ANSWER}"},
    "tag closed only": {"content": f"{HM}\n</think>\n\n{ANSWER}"},
    "empty tag": {"content": f"<think>\n\n</think>\n\n{ANSWER}"},
    "field": {"content": ANSWER, "reasoning_content": HM},
    "field thinking": {"content": ANSWER, "thinking": HM},
    "empty field": {"content": ANSWER, "reasoning_content": ""},
    "call": {"content": "", "tool_calls": [CALL]},
    "call with reasoning": {"content": ANSWER, "reasoning_content": HM, "tool_calls": [CALL]},
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(**message: Any) -> dict[str, Any]:
    return {"role": "assistant", **message}


PROMPTS: dict[str, dict[str, Any]] = {
    "one turn": {"prompt": [user(Q)]},
    "system": {"prompt": [{"role": "system", "content": "Be brief."}, user(Q)]},
    "several turns": {"prompt": [user("1 + 1?"), said(content="<think>\nah\n</think>\n\n2"), user(Q)]},
    "result": {
        "prompt": [
            user(Q),
            said(content="", tool_calls=[CALL]),
            {"role": "tool", "name": "add", "content": "4"},
        ],
        "tools": [TOOL],
    },
    "thinking off": {"prompt": [user(Q)], "chat_template_kwargs": {"enable_thinking": False}},
}


def chat_of(path: Path, make: Any, thought: str = "added") -> Chat:
    """A tokenizer with the template, whose special tokens are those that the template writes."""
    template = path.read_text(encoding="utf-8")
    known = {"<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>"}
    stops = [stop for stop in OTHER_ENDS if stop in template]
    tokenizer = make(template, (*sorted({*SPECIAL.findall(template), *stops} - known), "<|bos|>"))
    tokenizer.bos_token = "<|bos|>"
    tokenizer.eos_token = next((end for end in ENDS if end in template), "<|end|>")
    if thought != "letters":
        tokenizer.add_tokens(["<think>", "</think>"], special_tokens=thought == "special")
    return Chat(tokenizer, tuple(tokenizer.convert_tokens_to_ids(stops)))


def rendered(chat: Chat, messages: list[dict[str, Any]], row: Row, opened: bool = False) -> str:
    """What transformers make of them; for models that see, of their text as parts."""
    told = {**({"tools": row["tools"]} if "tools" in row else {}), **row.get("chat_template_kwargs", {})}
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": opened, **told}
    sees = chat.renderer._takes_parts
    return str(chat.tokenizer.apply_chat_template(parts if sees else messages, **options))


def cases() -> Iterator[tuple[str, dict[str, Any], str, dict[str, Any]]]:
    for asked, row in PROMPTS.items():
        for shape, reply in SHAPES.items():
            yield asked, row, shape, reply


def reads(text: Any, whole: str) -> bool:
    return "".join(str(text).split()) in "".join(whole.split())


THINK = [path for path in TEMPLATES if "think" in path.read_text(encoding="utf-8")]
ASKED = [
    *((path, "added") for path in TEMPLATES),
    *((path, how) for path in THINK for how in ("special", "letters")),
]
"""How the tag is in the vocabulary is of those that write it."""


@pytest.mark.parametrize(("path", "thought"), ASKED, ids=[f"{path.stem}-{how}" for path, how in ASKED])
def test_what_is_trained_is_the_templates_own(path: Path, thought: str, new_tokenizer: Any) -> None:
    chat = chat_of(path, new_tokenizer, thought)
    decode, kept = chat.tokenizer.decode, 0
    for asked, row, shape, reply in cases():
        what = (path.stem, asked, shape)
        try:
            opened = rendered(chat, row["prompt"], row, opened=True)
            whole = rendered(chat, [*row["prompt"], said(**reply)], row)
        except Exception:  # the template itself refuses the turns; so do we
            with pytest.raises(InputError):
                chat.given(row["prompt"], [[said(**reply)]])
            continue
        why = ""
        try:
            (made,) = Reader(chat).demonstrations([{**row, "completion": [said(**reply)]}])
        except InputError as error:
            why = str(error)
        if why:
            written = whole[len(common(rendered(chat, row["prompt"], row), whole)) :]
            assert refused_rightly(path.stem, row, reply, written, whole, why), (what, why)
            continue
        kept += 1
        prompt, (completion,) = made[TOKENS]["prompt"], made[TOKENS]["completions"]
        got = decode([*prompt, *completion])
        assert completion[-1] in chat.stop_tokens, what
        if whole.startswith(
            got
        ):  # the template's own; what follows the stop token is not written by the policy
            assert not whole[len(got) :].replace(chat.tokenizer.eos_token, "").strip(), what
            assert common(opened, whole).startswith(decode(prompt)), what
            if whole.startswith(opened):
                assert decode(prompt) == opened, what
        else:  # the reasoning that the template would lose, or a thought that begins in the prompt
            assert path.stem in DROPS_THOUGHTS or shape == "tag closed only", what
            assert decode(prompt) == opened, what
            assert opened.rstrip().endswith("<think>"), what
            assert "</think>" in str(reply["content"]), what
            inside = decode(completion[:-1])
            assert reads(inside, str(reply["content"])), what
            assert inside.count("<think>") == 0, what
            assert inside.count("</think>") == 1, what
            assert reads(ANSWER, inside), what
        assert got[len("".join(decode(prompt))) :].count(HM) == (HM in str(reply)), what
    assert kept or path.stem.removesuffix("_training") in NEVER_ENDS, path.stem


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_short_contents_and_late_messages_are_seen_or_refused(path: Path, new_tokenizer: Any) -> None:
    """Words that the template writes itself hide no loss, nor does a long conversation that was fine before."""
    row: Row = {"prompt": [user(Q)], "tools": [TOOL]}
    for content in ("add", "a", "2", "assistant"):
        reply, bare = ([said(content=text, tool_calls=[CALL])] for text in (content, ""))
        chat, given = chat_of(path, new_tokenizer), {**row, "completion": reply}
        if refused(lambda chat=chat, reply=reply: rendered(chat, [*row["prompt"], *reply], row)):
            continue
        lost = rendered(chat, [*row["prompt"], *reply], row) == rendered(chat, [*row["prompt"], *bare], row)
        assert not lost or refused(lambda chat=chat, given=given: Reader(chat).demonstrations([given]))
    turns = [message for i in range(8) for message in (user(f"q{i}"), said(content=f"r{i}"))]
    system, chat = {"role": "system", "content": "Zebras."}, chat_of(path, new_tokenizer)
    for at in (0, 2, 8):
        messages = [*turns[:at], system, *turns[at:]]
        if refused(lambda messages=messages: rendered(chat, messages, {})):
            continue
        lost = system["content"] not in rendered(chat, messages, {})
        read = not refused(lambda messages=messages: Reader(chat).demonstrations([{"messages": messages}]))
        assert not (lost and read), at


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("begun", ["The answer", "x = ", "Let me see."])
def test_a_begun_turn_is_continued(path: Path, begun: str, new_tokenizer: Any) -> None:
    """Training on a prompt that ends inside the assistant's turn continues what is sampled from; no turn ends there."""
    chat = chat_of(path, new_tokenizer)
    prompt, rest = [user(Q), said(content=begun)], " it is 4"
    if chat.renderer.turn_end is None or path.stem.removesuffix("_training") in NEVER_ENDS:
        return
    asked = chat.tokenizer.decode(chat.prompt(prompt))
    whole = rendered(chat, [user(Q), said(content=begun + rest)], {})
    for reply in (rest, [said(content=rest)]):
        tokens = chat.given(prompt, [reply, " no"])
        got = [chat.tokenizer.decode(tokens.prompt + ids) for ids in tokens.completions]
        assert got[0].startswith(asked)
        assert whole.startswith(got[0])
        assert got[1].startswith(asked)
        assert not {*tokens.completions[0][:-1]} & {*chat.stop_tokens}
        assert rest.strip() in chat.tokenizer.decode(tokens.completions[0])


def refused(made: Any) -> bool:
    try:
        made()
    except Exception:  # of the template itself, or ours
        return True
    return False


def common(one: str, other: str) -> str:
    return "".join(a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def refused_rightly(name: str, row: Row, reply: dict[str, Any], written: str, whole: str, why: str) -> bool:
    """Whether the template cannot render what was refused, by its own text."""
    if "does not end" in why:
        return name.removesuffix("_training") in NEVER_ENDS
    if "the tools" in why:
        return "Add." not in whole
    if "tool_calls" in why:
        return "add" not in (written if "tool_calls" in reply else whole) or name.startswith("lfm2")
    if "'reasoning_content' of" in why or "'thinking' of" in why:
        return not reads(HM, written)
    if "reply" in why or "'content' of the assistant" in why:
        return not reads(reply["content"], written)
    return "message of" in why and not all(reads(m["content"], whole) for m in row["prompt"])


@pytest.mark.parametrize(("stem", "twice"), [("qwen3_8", True), ("qwen3_6", False), ("qwen3", False)])
def test_a_tag_that_the_template_writes_too_warns(
    stem: str, twice: bool, new_tokenizer: Any, recwarn: pytest.WarningsRecorder
) -> None:
    chat = chat_of(FOLDER / f"{stem}.jinja", new_tokenizer)
    chat.given([user(Q)], [[said(**SHAPES["field"])]])
    assert not recwarn.list
    chat.given([user(Q)], [[said(**SHAPES["tag"])]])
    assert [str(w.message)[:40] for w in recwarn.list] == ["the chat template opens <think> itself a"] * twice


def test_what_a_policy_wrote_inside_the_tag_stays_there(new_tokenizer: Any) -> None:
    """A thought that was cut off is no answer of a turn without thoughts."""
    for path in TEMPLATES:
        chat = chat_of(path, new_tokenizer)
        prompt = [user(Q)]
        opened = rendered(chat, prompt, {"prompt": prompt}, opened=True)
        if not opened.endswith("<think>\n"):
            continue
        tokens = chat.given(
            prompt, [chat.as_sampled(prompt, "hm, two"), chat.as_sampled(prompt, "so\n</think>4")]
        )
        assert chat.tokenizer.decode(tokens.prompt) == opened
        texts = [chat.tokenizer.decode(completion) for completion in tokens.completions]
        assert [text.partition("<")[0] for text in texts] == ["hm, two", "so\n"]


@pytest.mark.parametrize(
    "path", [p for p in TEMPLATES if p.stem.endswith("_training")], ids=lambda path: path.stem
)
def test_the_tokens_of_assistants_are_those_that_transformers_marks(path: Path, new_tokenizer: Any) -> None:
    chat = chat_of(path, new_tokenizer)
    talk = [user("1 + 1?"), said(content="2 é."), user(Q), said(content=ANSWER)]
    sees = chat.renderer._takes_parts
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in talk]
    made = chat.tokenizer.apply_chat_template(
        parts if sees else talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    (row,) = Reader(chat, assistant_only=True).demonstrations([{"messages": talk}])
    tokens = row[TOKENS]
    assert [*tokens["prompt"], *tokens["completions"][0]] == made["input_ids"]
    assert [False, *tokens["masks"][0]] == [bool(m) for m in made["assistant_masks"]]
    forging = [user("1 + 1?<|im_end|><|end|>"), *talk[1:]]
    (forged,) = Reader(chat, assistant_only=True).demonstrations([{"messages": forging}])
    trained = [
        t for t, own in zip(forged[TOKENS]["completions"][0], forged[TOKENS]["masks"][0], strict=True) if own
    ]
    assert trained == [t for t, own in zip(made["input_ids"], made["assistant_masks"], strict=True) if own]

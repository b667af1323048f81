"""Chat: what is trained is what the model sees, turns end with a stop token, and text cannot forge tokens."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tieout.chat.template import Chat, ChatError
from tieout.rows import Rows, RowsError
from tieout.types import Messages

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
WITH_BOS = "{{ bos_token }}" + CHATML.replace("{{ m.content }}", "{{ m.content | trim }}")
# Qwen3's way: thoughts of earlier turns are dropped.
REWRITES = CHATML.replace(
    "{{ m.content }}", "{{ m.content if loop.last else m.content.split('</think>')[-1].lstrip() }}"
)
# DeepSeek-R1's way: a turn is opened inside a thought, and finished turns have none.
OPENS_THOUGHT = CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}").replace(
    "<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}"
)
NEVER_ENDS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + CHATML
DROPS_SYSTEM = CHATML.replace("<|im_start|>{{", "{% if m.role != 'system' %}<|im_start|>{{", 1).replace(
    "<|im_end|>\n{% endfor", "<|im_end|>\n{% endif %}{% endfor"
)

# Text that is hard: special tokens, their pieces, private-use characters, white space, any Unicode.
PIECES = [
    "<|im_end|>",
    "<|im_start|>",
    "<|end|>",
    "<|",
    "|>",
    "im_end",
    "\U000f0000",
    "\n",
    " ",
    "</think>",
    "é",
]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=6).map("".join)
FAST = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


@pytest.fixture(scope="module")
def chatml(new_tokenizer: Callable[..., Any]) -> Chat:
    """eos is <|end|>, but turns end with <|im_end|> and a newline."""
    return Chat(new_tokenizer(CHATML, CHATML_TOKENS))


@pytest.fixture(scope="module")
def tiny(tiny_tokenizer: Any) -> Chat:
    return Chat(tiny_tokenizer)


@pytest.fixture(scope="module")
def spaced() -> Chat:
    """Like Llama 2's and Mistral's SentencePiece: a space before every text, BOS, and merges over borders."""
    return Chat(spaced_tokenizer())


def spaced_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = ["<unk>", "<s>", "</s>", "<|im_end|>", "▁", *map(chr, range(33, 127)), "\n", "▁4", "▁▁"]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={t: i for i, t in enumerate(tokens)}, merges=[("▁", "4"), ("▁", "▁")], unk_token="<unk>"
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        additional_special_tokens=["<|im_end|>"],
        chat_template="{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    )


def shown(chat: Chat, tokens: list[int]) -> str:
    text: str = chat.tokenizer.decode(tokens)
    return text


def forged(chat: Chat, tokens: list[int]) -> int:
    """How many special tokens there are."""
    ids = set(chat.tokenizer.all_special_ids)
    return sum(token in ids for token in tokens)


# ---------------------------------------------------------------- prompt and completion


def test_messages_end_with_the_opening_and_completions_with_the_stop_token(chatml: Chat, tiny: Chat) -> None:
    messages = [{"role": "system", "content": "s"}, user("q")]
    assert shown(tiny, tiny.prompt(messages)) == "<|system|>s<|end|><|user|>q<|end|><|assistant|>"
    assert shown(tiny, tiny.completion(messages, "a")) == "a<|end|>"
    assert (
        shown(chatml, chatml.prompt([user("q")])) == "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    )
    # The newline that the template writes after <|im_end|> is not trained: the policy has stopped.
    assert shown(chatml, chatml.completion([user("q")], "a")) == "a<|im_end|>"


def test_a_prompt_without_completions_is_the_prompt_that_is_sampled_from(chatml: Chat) -> None:
    for prompt in ([user("a")], "a"):
        found = chatml.given(prompt, [])
        assert (found.prompt, found.completions) == (chatml.prompt(prompt), [])


def test_the_stop_tokens_are_eos_the_given_ones_and_the_end_of_turn(chatml: Chat, tiny: Chat) -> None:
    ids = chatml.tokenizer.convert_tokens_to_ids
    assert chatml.stop_tokens == (ids("<|end|>"), ids("<|im_end|>"))
    assert Chat(chatml.tokenizer, (ids("<|user|>"),)).stop_tokens == tuple(
        ids(["<|end|>", "<|user|>", "<|im_end|>"])
    )
    assert tiny.stop_tokens == (tiny.tokenizer.eos_token_id,)


@FAST
@given(question=TEXT, text=TEXT)
def test_the_model_sees_the_template_and_reads_the_text_back(chatml: Chat, question: str, text: str) -> None:
    messages = [user(question)]
    prompt, completion = chatml.prompt(messages), chatml.completion(messages, text)
    assert shown(chatml, prompt + completion) == (
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>"
    )
    assert chatml.text(completion) == text
    assert completion[-1] in chatml.stop_tokens


@FAST
@given(question=TEXT, text=TEXT)
def test_text_never_becomes_a_special_token(chatml: Chat, question: str, text: str) -> None:
    messages = [user(question)]
    assert forged(chatml, chatml.prompt(messages)) == 3
    assert forged(chatml, chatml.completion(messages, text)) == 1
    suffix = chatml.suffix([*messages, assistant(text)], user(question))
    assert forged(chatml, suffix) == 3
    assert forged(chatml, chatml.completion("plain", text)) == 1


def test_without_forgery_tokens_are_those_of_the_joint_text(chatml: Chat) -> None:
    messages = [user("2 + 2?")]
    rendered = chatml.tokenizer.apply_chat_template([*messages, assistant("4\n")], tokenize=False)
    whole = chatml.tokenizer(rendered, add_special_tokens=False).input_ids
    assert chatml.prompt(messages) + chatml.completion(messages, "4\n") == whole[:-1]  # without the newline


def test_added_tokens_that_are_not_special_stay_tokens(new_tokenizer: Callable[..., Any]) -> None:
    tokenizer = new_tokenizer(CHATML, CHATML_TOKENS)
    tokenizer.add_tokens(["<think>", "</think>"])
    completion = Chat(tokenizer).completion([user("q")], "<think>x</think>y<|im_start|>")
    think = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    assert [token for token in completion if token in think] == think
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") not in completion


def test_a_token_that_spans_the_border_is_split_there() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<|end|>", *alphabet, "ĊĊ"])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[("Ċ", "Ċ")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    template = CHATML.replace("<|im_end|>", "<|end|>").replace("<|im_start|>", "#")
    chat = Chat(PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", chat_template=template))
    for prompt in ([user("q")], "text\n"):
        head, tail = chat.prompt(prompt), chat.completion(prompt, "\n\nanswer")
        assert shown(chat, head)[-1] == "\n"
        # Joined, the three newlines would be a pair and one; after the prompt's own newline, one and a pair.
        assert tail[:2] == [vocab["ĊĊ"], vocab["a"]]
        assert shown(chat, tail) == "\n\nanswer<|end|>"


def test_plain_text_is_continued_as_it_stands(chatml: Chat) -> None:
    assert shown(chatml, chatml.prompt("Q: 1<|im_end|>")) == "Q: 1<|im_end|>"
    assert forged(chatml, chatml.prompt("Q: 1<|im_end|>")) == 1  # the author's own
    assert shown(chatml, chatml.completion("Q: 1", " 2")) == " 2<|end|>"
    # An eos at the end of the text is the one that is added, not a second.
    assert chatml.completion("Q: 1", " 2<|end|>") == chatml.completion("Q: 1", " 2")


@FAST
@given(prompt=TEXT.filter(bool), text=TEXT.filter(lambda text: not text.endswith("<|end|>")))
def test_plain_text_and_its_completion_are_the_joined_text(chatml: Chat, prompt: str, text: str) -> None:
    tokens = chatml.prompt(prompt) + chatml.completion(prompt, text)
    assert shown(chatml, tokens) == f"{prompt}{text}<|end|>"
    assert chatml.text(chatml.completion(prompt, text)) == text


# ---------------------------------------------------------------- templates of all kinds


def test_a_template_with_bos_and_trim(new_tokenizer: Callable[..., Any]) -> None:
    tokenizer = new_tokenizer(WITH_BOS, (*CHATML_TOKENS, "<|bos|>"))
    tokenizer.bos_token = "<|bos|>"
    chat = Chat(tokenizer)
    prompt = chat.prompt([user(" q ")])
    assert shown(chat, prompt) == "<|bos|><|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
    assert shown(chat, chat.completion([user(" q ")], " a <|im_end|> \n")) == "a <|im_end|><|im_end|>"
    chat.check([{"prompt": [user("q")]}])


def test_a_tokenizer_that_adds_spaces_and_bos(spaced: Chat) -> None:
    ids = spaced.tokenizer.convert_tokens_to_ids
    plain = spaced.prompt("Q: 1")
    assert plain[:2] == ids(["<s>", "▁"])
    assert spaced.prompt("<s>Q: 1").count(ids("<s>")) == 1  # not a second BOS
    assert spaced.completion("Q: 1", "42") == ids(["4", "2", "</s>"])
    assert spaced.completion("Q: 1", " 42") == ids(["▁4", "2", "</s>"])
    # Joined, the prompt's last space would melt into "▁4"; apart, no space is added in front of "42".
    assert shown(spaced, spaced.prompt("Q: ") + spaced.completion("Q: ", "42")) == "<s> Q: 42</s>"
    assert shown(spaced, spaced.completion("Q:", "a <|im_end|>b")) == "a <|im_end|>b</s>"
    messages = [user("q")]
    assert shown(spaced, spaced.prompt(messages)) == "<s>[INST] q [/INST]"
    assert spaced.completion(messages, "42") == ids(["▁4", "2", "</s>"])
    spaced.check([{"prompt": messages}, {"prompt": "text"}])


def test_eos_that_a_tokenizer_adds_to_a_prompt_is_taken_off() -> None:
    from tokenizers import processors

    tokenizer = spaced_tokenizer()
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    chat = Chat(tokenizer)
    assert shown(chat, chat.prompt("Q: 1")) == "<s> Q: 1"
    assert chat.completion("Q: 1", "42") == tokenizer.convert_tokens_to_ids(["4", "2", "</s>"])


def test_a_template_that_opens_inside_a_thought(new_tokenizer: Callable[..., Any]) -> None:
    chat = Chat(new_tokenizer(OPENS_THOUGHT, CHATML_TOKENS))
    chat.check([{"prompt": [user("q")]}])
    assert shown(chat, chat.prompt([user("q")])).endswith("assistant\n<think>\n")
    # The template drops the thoughts of a finished turn, but the policy has to write them.
    text = "2 and 2\n</think>4"
    assert shown(chat, chat.completion([user("q")], text)) == f"{text}<|im_end|>"


@pytest.mark.parametrize("template", [REWRITES, OPENS_THOUGHT])
def test_a_template_that_rewrites_history_is_refused_for_more_turns_only(
    new_tokenizer: Callable[..., Any], template: str
) -> None:
    chat = Chat(new_tokenizer(template, CHATML_TOKENS))
    chat.check([{"prompt": [user("q")]}])
    with pytest.raises(ChatError, match=r"rewrites history.*template that only appends"):
        chat.suffix([user("q"), assistant("x</think>y")], user("r"))


@FAST
@given(texts=st.lists(TEXT, min_size=3, max_size=3))
def test_turns_put_together_are_the_next_prompt(chatml: Chat, tiny: Chat, texts: list[str]) -> None:
    for chat in (chatml, tiny):
        messages = [user(texts[0]), assistant(texts[1])]
        reply = user(texts[2])
        sampled = chat.prompt(messages[:1]) + chat.completion(messages[:1], texts[1])
        assert sampled + chat.suffix(messages, reply) == chat.prompt([*messages, reply])
        # Cut off before its stop token, the turn is closed by the suffix.
        assert sampled[:-1] + chat.suffix(messages, reply, ended=False) == chat.prompt([*messages, reply])


def trl_templates() -> list[Path]:
    """Chat templates of about thirty model families, as the peer ships them for its own tests."""
    found = importlib.util.find_spec("trl")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent / "chat_templates"
    # Those for training only add markers; one of them also undoes the rewriting of history.
    return [
        p for p in sorted(folder.glob("*.jinja")) if "training" not in p.stem or p.stem == "qwen3_training"
    ]


SPECIAL = re.compile(
    r"<\|\w+\|>|<｜[^｜]+｜>|<(?:start|end)_of_turn>|<turn\|>|<\|turn>|<\|(?:start|end)_\w+\|>"
)
VISION_OR_NO_END = {"glm4moe", "idefics3", "llava_next", "smolvlm"}


@pytest.mark.skipif(not trl_templates(), reason="trl is not installed")
def test_the_templates_of_real_models(new_tokenizer: Callable[..., Any]) -> None:
    composed, refused = [], set()
    for path in trl_templates():
        template = path.read_text(encoding="utf-8")
        known = {"<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|endoftext|>"}
        tokenizer = new_tokenizer(template, (*sorted(set(SPECIAL.findall(template)) - known), "<|bos|>"))
        tokenizer.bos_token = "<|bos|>"
        if path.stem.startswith("gptoss"):  # ends the last turn with its eos, the others with <|end|>
            tokenizer.eos_token = "<|return|>"
        chat = Chat(tokenizer)
        family = path.stem.removesuffix("_training")
        messages = [user("2 + 2?")]
        try:
            chat.check([{"prompt": messages}])
        except ChatError:
            refused.add(family)
            continue
        prompt, completion = chat.prompt(messages), chat.completion(messages, "it is 4")
        assert completion[-1] in chat.stop_tokens, path.stem
        assert sum(token in chat.stop_tokens for token in completion) == 1, path.stem
        assert chat.text(completion).endswith("it is 4"), path.stem
        evil = chat.completion([user("2 + 2?<|im_end|>")], "it is 4")
        assert evil == completion, path.stem
        try:
            suffix = chat.suffix([*messages, assistant("it is 4")], user("why?"))
        except ChatError as error:
            reason = str(error)
            assert "rewrites history" in reason, path.stem
        else:
            after = chat.prompt([*messages, assistant("it is 4"), user("why?")])
            assert prompt + completion + suffix == after, path.stem
            composed.append(path.stem)
    assert refused <= VISION_OR_NO_END
    assert {"qwen2_5", "llama3", "gemma3", "phi3", "qwen3_training", "lfm2"} <= set(composed)
    assert not {"qwen3", "gptoss", "deepseek_r1_distill"} & set(composed)


# ---------------------------------------------------------------- checks


def test_what_cannot_be_trained_with_is_refused_with_advice(new_tokenizer: Callable[..., Any]) -> None:
    rows = [{"prompt": [user("q")]}]
    with_system = [{"prompt": [{"role": "system", "content": "s"}, user("q")]}]
    cases: list[tuple[str, list[Any], str]] = [
        (NEVER_ENDS, rows, r"does not end the assistant's turn.*never\s+learn to stop.*Put the eos token"),
        (NEVER_ENDS, [], "does not end the assistant's turn"),
        (NO_SYSTEM, with_system, "refuses the turns system, user: no system here"),
        (DROPS_SYSTEM, with_system, "leaves out the system message of: system, user"),
        ("{{ messages[0].content }}<|end|>", rows, "leaves out the assistant's reply"),
        ("{% for m in messages %}{{ m.content }", rows, "chat template refuses the turns user"),
    ]
    for template, data, message in cases:
        with pytest.raises(ChatError, match=message):
            Chat(new_tokenizer(template, CHATML_TOKENS)).check(data)
    for template in (NO_SYSTEM, DROPS_SYSTEM):
        Chat(new_tokenizer(template, CHATML_TOKENS)).check(rows)
    # Plain text needs no template, so a bad one does not matter.
    Chat(new_tokenizer(NEVER_ENDS)).check([{"prompt": "text"}])
    with pytest.raises(ChatError, match="does not end the assistant's turn"):
        Chat(new_tokenizer(NEVER_ENDS)).completion([user("q")], "a")


CALLS = CHATML.replace(
    "{{ m.content }}",
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments }}{% endfor %}",
)


def asked(*calls: Any) -> list[dict[str, Any]]:
    made = [{"type": "function", "function": {"name": name, "arguments": given}} for name, given in calls]
    return [user("q"), {"role": "assistant", "content": "", "tool_calls": made}, user("so?")]


@pytest.mark.parametrize("arguments", [{"x": 1}, '{"x": 1}'], ids=["object", "text"])
def test_every_call_and_its_arguments_reach_the_template(
    new_tokenizer: Callable[..., Any], arguments: Any
) -> None:
    one, two = asked(("f", arguments)), asked(("f", arguments), ("g", arguments))
    for messages in (one, two, asked(("f", {}))):
        Chat(new_tokenizer(CALLS, CHATML_TOKENS)).given(messages, ["a"])
    lossy = "leaves out 'tool_calls' of the assistant message"
    with pytest.raises(ChatError, match=lossy):
        Chat(new_tokenizer(CALLS.replace("{{ c.function.arguments }}", ""), CHATML_TOKENS)).given(one, ["a"])
    first_only = Chat(
        new_tokenizer(CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"), CHATML_TOKENS)
    )
    first_only.given(one, ["a"])
    with pytest.raises(ChatError, match=lossy):
        first_only.given(two, ["a"])


def test_what_a_switch_of_the_row_hides_is_refused_after_rows_without_it(
    new_tokenizer: Callable[..., Any],
) -> None:
    template = CHATML.replace(
        "{{ m.content }}",
        "{% if think is not defined or think %}{{ m.reasoning_content }}{% endif %}{{ m.content }}",
    )
    chat = Chat(new_tokenizer(template, CHATML_TOKENS))
    reply = [{"role": "assistant", "content": "a", "reasoning_content": "because"}]
    chat.given([user("q")], [reply])
    chat.given(Messages([user("q")], {"think": True}), [reply])
    with pytest.raises(ChatError, match="leaves out 'reasoning_content'"):
        chat.given(Messages([user("q")], {"think": False}), [reply])


def test_no_template_no_eos(new_tokenizer: Callable[..., Any]) -> None:
    bare = new_tokenizer(None)
    with pytest.raises(ChatError, match="the rows are messages, but the tokenizer has no chat template"):
        Chat(bare).check([{"prompt": "text"}, {"prompt": [user("q")]}])
    with pytest.raises(ChatError, match="no chat template"):
        Chat(bare).prompt([user("q")])
    Chat(bare).check([{"prompt": "text"}])
    Chat(bare).check()
    bare.eos_token = None
    for rows in ([], [{"prompt": "text"}]):
        with pytest.raises(ChatError, match="no eos token"):
            Chat(bare).check(rows)
    with pytest.raises(ChatError, match="no eos token"):
        Chat(bare).completion("text", "more")


def test_a_tokenizer_without_a_pad_token_will_do(new_tokenizer: Callable[..., Any]) -> None:
    padless = new_tokenizer()
    padless.pad_token = None
    chat, rows = Chat(padless), [{"prompt": [user("q")]}, {"prompt": "text"}]
    chat.check()
    with pytest.warns(UserWarning, match="1 of 2 prompts are plain text"):
        chat.check(rows)


def test_plain_text_on_a_model_with_a_template_warns(
    new_tokenizer: Callable[..., Any], recwarn: pytest.WarningsRecorder
) -> None:
    chat = Chat(new_tokenizer())
    chat.check([{"prompt": [user("q")]}])
    chat.check(
        [{"prompt": chat.tokenizer.apply_chat_template([user("q")], tokenize=False)}]
    )  # rendered before
    Chat(new_tokenizer(None)).check([{"prompt": "text"}])
    assert not recwarn.list
    chat.check([{"prompt": "text"}, {"prompt": "more"}])
    assert [str(w.message)[:28] for w in recwarn.list] == ["all prompts are plain text, "]


def test_rows_that_do_not_fit_are_named(tiny: Chat) -> None:
    rows = Rows(
        [
            {"prompt": "12345", "completion": "123"},  # 5 + 3 + eos
            {"prompt": [user("1234")], "chosen": "1", "rejected": "12345678"},  # 7 + 8 + stop
            {"prompt": "1" * 20},
            {"prompt": "1", "completions": ["1", "1" * 15], "scores": [0.0, 1.0]},
        ],
        "train.jsonl",
        [1, 4, 9, 20],
    )
    tiny.check_lengths(rows, 26, max_new_tokens=6)
    with pytest.raises(RowsError) as caught:
        tiny.check_lengths(rows, 25, max_new_tokens=6)
    assert str(caught.value) == (
        "train.jsonl:9: the prompt has 20 tokens and max_new_tokens 6, together 26; the model's context is 25; "
        "shorten them, or give long_rows: drop or truncate"
    )
    with pytest.raises(RowsError) as caught:
        tiny.check_lengths(rows, 15)
    assert "train.jsonl:4: the prompt has 7 tokens and rejected 9, together 16" in str(caught.value)
    assert "train.jsonl:20: the prompt has 1 tokens and completions 16, together 17" in str(caught.value)
    assert "train.jsonl:1" not in str(caught.value)
    with pytest.raises(
        RowsError, match="train, row 2: 'completion' has the turns user; expected the last one"
    ):
        tiny.check_lengths([{"prompt": "1"}, {"prompt": "1", "completion": [user("2")]}], 99, source="train")


def test_loading_takes_the_stop_tokens_of_the_generation_config(
    tiny_model: Callable[[str], Path], tmp_path: Path, tiny_tokenizer: Any
) -> None:
    chat = Chat.load(str(tiny_model("llama")))
    assert chat.stop_tokens == (1,)
    assert chat.prompt([user("q")]) == Chat(tiny_tokenizer).prompt([user("q")])
    tiny_tokenizer.save_pretrained(tmp_path)
    assert Chat.load(str(tmp_path)).stop_tokens == (1,)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 3]}', encoding="utf-8")
    assert Chat.load(str(tmp_path)).stop_tokens == (1, 3)

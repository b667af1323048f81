"""Bring messages as people have them to one form, with what their row tells the chat template in addition."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..types import Messages, Prompt, Row
from .locations import each, kind_of

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "ai": "assistant"}
"""Names that other formats have for a role."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Keys of a message under which its reasoning stands apart from its content; transformers knows them as one."""
SAMPLED = "as_sampled"
"""Key of an assistant's message whose content is what a policy wrote after the opened prompt, word for word."""
TOLD = ("tools", "chat_template_kwargs")
"""Columns that are for the chat template."""
_OURS = {"tokenize", "return_dict", "return_tensors", "add_generation_prompt", "continue_final_message"}


def turns(messages: Any, name: str = "") -> list[dict[str, Any]]:
    """Every message with `role` and what it says, from ShareGPT's `from` and `value` too; parts of text are joined.

    Keys that are None, which Arrow adds where only some rows have them, are left out; but not the content of a message
    that says something else, which some templates ask for. `name`: of the column, for messages of errors.

    >>> turns([{"from": "human", "value": "hi", "name": None}])
    [{'role': 'user', 'content': 'hi'}]
    """
    return [_turn(message, f"{name}[{i}]" if name else "a message") for i, message in enumerate(messages)]


def _turn(message: Any, name: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InputError(f"{name} is {kind_of(message)}; expected an object with role and content")
    found = {str(key): value for key, value in message.items() if value is not None}
    if "role" not in found and "from" in found:
        role = str(found.pop("from"))
        found = {"role": ROLES.get(role, role), "content": found.pop("value", None), **found}
    says_more = bool(found.get("tool_calls") or any(found.get(key) for key in REASONING))
    if "role" not in found or (found.get("content") is None and not says_more):
        raise InputError(f"{name} has {', '.join(found) or 'nothing'}; expected role and content")
    role = found["role"]
    if not isinstance(role, str) or role in ROLES:
        hint = f"; did you mean {ROLES[role]!r}?" if isinstance(role, str) else ""
        raise InputError(f"{name} has role {role!r}; expected system, user, assistant or tool{hint}")
    if says_more and found.get("content") is None and "content" in message:
        found["content"] = None
    content = found.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str) and _is_parts(content):
        found["content"] = "".join(_part(part, name) for part in content)
    elif not isinstance(content, str | None) and role != "tool":
        raise InputError(f"'content' of {name} is {kind_of(content)}; expected text")
    _refuse_halves(found, name)
    return found


def _is_parts(content: Sequence[Any]) -> bool:
    return not content or any(isinstance(part, Mapping) and "type" in part for part in content)


def _part(part: Any, name: str) -> str:
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise InputError(f"a part of {name} is {part!r:.80}; only text is trained here")


def _refuse_halves(value: Any, name: str) -> None:
    """InputError: some text holds half a character."""
    for text in texts_in(value):
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                raise InputError(
                    f"{name} holds half a character (a lone surrogate); no tokenizer takes it"
                ) from None


def texts_in(value: Any) -> list[str]:
    """All texts in nested lists and objects, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for key, item in value.items() for text in (str(key), *texts_in(item))]
    return [text for item in value for text in texts_in(item)] if isinstance(value, list | tuple) else []


# ---------------------------------------------------------------- what a row tells the template


def told_by(row: Row) -> dict[str, Any]:
    """What a row tells the chat template: its `tools` and its `chat_template_kwargs`, as objects or as JSON.

    >>> told_by({"tools": '[{"name": "f"}]', "chat_template_kwargs": {"enable_thinking": False, "other": None}})
    {'tools': [{'name': 'f'}], 'enable_thinking': False}
    """
    tools, more = _read(row, "tools", list), _read(row, "chat_template_kwargs", Mapping)
    if clash := _OURS & set(more):
        raise InputError(
            f"chat_template_kwargs holds {', '.join(sorted(clash))}, which is not the template's; leave it out"
        )
    return ({"tools": tools} if tools else {}) | {key: x for key, x in more.items() if x is not None}


def telling(rows: Sequence[Row], options: Mapping[str, Any]) -> Sequence[Row]:
    """The rows with options of the chat template, such as `enable_thinking: False`, where they do not say otherwise.

    InputError: an option that is not the template's.
    """
    if not options or not rows:
        return rows
    return each(rows, lambda row: _telling(row, options))


def refuse_unread(rows: Sequence[Row], options: Mapping[str, Any]) -> None:
    """InputError: there are options of the chat template, and it renders no prompt of these rows."""
    if options and rows and all(isinstance(row.get("prompt"), str) for row in rows):
        raise InputError(
            f"chat_template_kwargs is {dict(options)!r}, and every prompt is plain text, which no chat template "
            "renders: give prompts as messages, or leave it out"
        )


def _telling(row: Row, options: Mapping[str, Any]) -> Row:
    more, prompt = {**options, **_read(row, "chat_template_kwargs", Mapping)}, row.get("prompt")
    found: dict[str, Any] = {**row, "chat_template_kwargs": more}
    told = told_by(found)
    if prompt is not None and is_talk(prompt):
        found["prompt"] = Messages(prompt, {**told, **getattr(prompt, "told", {})})
    return found


def _read(row: Row, name: str, kind: type) -> Any:
    value = row.get(name)
    if value is None or value == "":
        return {}
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InputError(f"{name!r} is no JSON: {error}") from error
    if not isinstance(found, kind) and found:
        expected = "a list of tools" if kind is list else "an object"
        raise InputError(f"{name!r} is a {type(found).__name__}; expected {expected}, or JSON of one")
    return found or {}


def asked(prompt: Any, row: Row) -> Any:
    """A prompt of messages with what its row tells the template; text as it stands, which no template renders."""
    if isinstance(prompt, str) or getattr(prompt, "told", None):
        return prompt
    told = told_by(row)
    return Messages(prompt, told) if told else prompt


def prompted(row: Row) -> Row:
    """A row whose prompt carries what the row tells the template."""
    prompt = row.get("prompt")
    return {**row, "prompt": asked(prompt, row)} if is_talk(prompt) else row


def without_gaps(row: Row) -> Row:
    """A row as it was before Arrow gave all calls and schemas of tools the same keys, with None where they had none."""
    columns = (*TOLD, "messages", "conversations", "prompt", "completion", "chosen", "rejected")
    return {name: _dense(value) if name in columns else value for name, value in row.items()}


def _dense(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _dense(item) for key, item in value.items() if item is not None or key == "content"}
    return [_dense(item) for item in value] if isinstance(value, list) else value


# ---------------------------------------------------------------- prompts and completions


def turns_of(prompt: Any) -> list[dict[str, Any]]:
    """The messages of a prompt; text is the user's."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else turns(prompt)


def reply_of(value: Any, name: str = "completion") -> str | list[dict[str, Any]]:
    """A completion as text where that is all it says, else as its messages: reasoning, calls of tools, several turns.

    InputError: it does not end with the assistant's turn.

    >>> reply_of([{"role": "assistant", "content": "4"}])
    '4'
    """
    if isinstance(value, str):
        return value
    said = turns(value, name)
    if not said or said[-1]["role"] != "assistant":
        roles = ", ".join(message["role"] for message in said) or "nothing"
        raise InputError(f"{name!r} has the turns {roles}; expected the last one from the assistant")
    text = only_reply(said)
    return said if text is None else text


def only_reply(said: Any) -> str | None:
    """The text of a completion of one assistant message; None if there is more to it."""
    if isinstance(said, str):
        return said
    last = said[0] if len(said) == 1 else {}
    plain = last.get("role") == "assistant" and set(last) <= {"role", "content"}
    return last["content"] if plain and isinstance(last.get("content"), str) else None


def check_in_turn(said: Sequence[Mapping[str, Any]]) -> None:
    """InputError: the messages of an episode are not the policy's and the environment's in turn, the policy's first and
    last."""
    roles = [str(message.get("role")) for message in said]
    if len(said) % 2 == 0 or roles != ["assistant", "user"] * (len(said) // 2) + ["assistant"]:
        raise InputError(
            f"its completion has the turns {', '.join(roles) or 'nothing'}; of a game in turns expected assistant, "
            "user, assistant and so on, the first and the last one from the assistant"
        )


def text_of(said: Any) -> str:
    """What a completion says, as rewards and readers see it: of messages, the content of the last one."""
    if isinstance(said, str):
        return said
    return said_by(said[-1]) if said else ""


def prompt_text(prompt: Prompt, leave_out: Sequence[str] = ()) -> str:
    """All that a prompt says, without the turns of some roles."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(said_by(message) for message in prompt if message.get("role") not in leave_out)


def whole_text(said: Any) -> str:
    """All that the assistant says in a completion: in each of its turns, with its reasoning and calls of tools."""
    if isinstance(said, str):
        return said
    own = [message for message in said if message.get("role") == "assistant"]
    parts = [[*(str(one[key]) for key in REASONING if one.get(key)), said_by(one)] for one in own]
    return "\n".join(part for turn in parts for part in turn)


def said_by(message: Mapping[str, Any]) -> str:
    """The content of a message, and the calls of tools that it makes."""
    content, calls = message.get("content"), message.get("tool_calls")
    said = [content if isinstance(content, str) else json.dumps(content, default=str)] if content else []
    return "\n".join([*said, *([json.dumps(calls, default=str)] if calls else [])])


def same(one: Any, other: Any) -> bool:
    """Whether two completions say the same, up to white space around a text."""
    if isinstance(one, str) and isinstance(other, str):
        return one.strip() == other.strip()
    return bool(one == other)


def paired(row: Row) -> tuple[Any, list[Any]]:
    """Prompt, and the completions chosen and rejected; a prompt that they hold themselves is taken out of them."""
    prompt, given = row.get("prompt"), [row["chosen"], row["rejected"]]
    if not all(map(is_talk, given)):
        return split(given) if prompt is None else (prompt, given)
    sides = [turns(side, name) for side, name in zip(given, ("chosen", "rejected"), strict=True)]
    whole = all(len(side) > 1 and side[0]["role"] != "assistant" for side in sides)
    if prompt is not None and not whole:
        return prompt, sides
    common, rest = split(sides)
    if not common and min(map(len, sides)) > 1:
        raise InputError(
            f"'chosen' and 'rejected' share 0 messages, then differ in {len(sides[0])} and {len(sides[1])}; expected "
            "that they begin with the same prompt"
        )
    if isinstance(prompt, str) and not any(text_of([m]).strip() == prompt.strip() for m in common):
        raise InputError("'prompt' differs from the user's messages of 'chosen'; leave one of them out")
    if prompt is not None and not isinstance(prompt, str):
        given_turns = turns(prompt, "prompt")
        if common[: len(given_turns)] != given_turns:
            raise InputError(
                "'prompt' differs from what 'chosen' and 'rejected' begin with; leave one of them out"
            )
        common, rest = given_turns, [side[len(given_turns) :] for side in sides]
    return common, rest


def split(sides: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The prompt that chosen and rejected share, and what is left of each: never nothing.

    It is their common messages before the assistant's turn, or the text up to the last common space.
    """
    chosen, rejected = sides
    common = shared(chosen, rejected)
    least = min(len(chosen), len(rejected))
    if isinstance(chosen, str) and 0 < common < least and chosen[common - 1] == " ":
        common -= 1
    common = max(0, min(common, least - 1))
    if not isinstance(chosen, str):
        common = turn_start(chosen[:common])
    return chosen[:common], [chosen[common:], rejected[common:]]


def turn_start(messages: Sequence[Any]) -> int:
    """Where the assistant's messages at the end of a conversation begin; its length: there are none."""
    roles = [message.get("role") if isinstance(message, Mapping) else None for message in messages]
    return next((i for i in range(len(roles), 0, -1) if roles[i - 1] != "assistant"), 0)


def shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def is_talk(value: Any) -> bool:
    """Whether it is a list of messages, and there are any."""
    listed = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return listed and all(isinstance(message, Mapping) for message in value)

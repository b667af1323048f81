"""Adapt rewards written for TRL's conversations, in which a completion is a list of messages."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from ...types import Reward

_SAID = ("content", "role")
"""Keys of a message."""


def from_trl(function: Reward) -> Reward:
    """Adapt a reward written for conversations: each completion a list of messages, each prompt too."""
    adapted: Any
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def adapted(completions: Sequence[str], **columns: Any) -> Any:
            return await function(**as_messages({**columns, "completions": completions}))

    else:

        @functools.wraps(function)  # keeps the signature, by which check_reward judges
        def adapted(completions: Sequence[str], **columns: Any) -> Any:
            return function(**as_messages({**columns, "completions": completions}))

    adapted.__from_trl__ = True  # by which workers know to adapt it there too
    made: Reward = adapted
    return made


def as_messages(columns: dict[str, Any]) -> dict[str, Any]:
    """What a reward is given, with its completions and prompts of text as lists of messages."""
    made = {**columns, "completions": [[_message("assistant", text)] for text in columns["completions"]]}
    if "prompts" in columns:
        made["prompts"] = [[_message("user", p)] if isinstance(p, str) else p for p in columns["prompts"]]
    return made


def _message(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def reads_messages(reward: Any) -> bool:
    """Whether a function's own text reads completions as messages, `completion[0]["content"]`, and never as text."""
    function = reward if inspect.isroutine(reward) else inspect.getattr_static(type(reward), "__call__", None)
    code = getattr(function, "__code__", None)
    return code is not None and not hasattr(reward, "__wrapped__") and _code_reads_messages(code)


@functools.lru_cache(maxsize=256)
def _code_reads_messages(code: Any) -> bool:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, TypeError, ValueError):  # no source, or not a whole statement
        return False
    known = {"completions"}
    while more := set(_derived(tree, known)) - known:
        known |= more
    asks_kind = any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and node.args
        and _root(node.args[0]) in known
        for node in ast.walk(tree)
    )
    return not asks_kind and any(_reads_key(node, known) for node in ast.walk(tree))


def _reads_key(node: ast.AST, known: set[str]) -> bool:
    """Whether a node is `x["content"]` or `x.get("content")` of a name that stands for completions or parts of them."""
    if isinstance(node, ast.Subscript):
        return _is_key(node.slice) and _root(node.value) in known
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get"
    return bool(called and node.args and _is_key(node.args[0]) and _root(node.func.value) in known)  # type: ignore[attr-defined]


def _is_key(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value in _SAID


def _root(node: ast.AST) -> str:
    """The name that an expression indexes into; empty: it does more than that."""
    while isinstance(node, ast.Subscript) and not _is_key(node.slice):
        if isinstance(node.slice, ast.Constant) and node.slice.value == "completions":
            return "completions"  # of **columns
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _derived(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Names that stand for completions or for parts of them: by assignment, and by iteration."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension | ast.AsyncFor):
            yield from _bound(node.target, node.iter, known)
        elif isinstance(node, ast.Assign) and _root(node.value) in known:
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _bound(target: ast.AST, source: ast.AST, known: set[str]) -> Iterator[str]:
    """The names of a loop's target that stand for completions."""
    if isinstance(source, ast.Call) and isinstance(source.func, ast.Name) and isinstance(target, ast.Tuple):
        if source.func.id == "zip":
            for part, given in zip(target.elts, source.args, strict=False):
                yield from _bound(part, given, known)
        elif source.func.id == "enumerate" and len(target.elts) == 2 and source.args:
            yield from _bound(target.elts[1], source.args[0], known)
    elif isinstance(target, ast.Name) and _root(source) in known:
        yield target.id

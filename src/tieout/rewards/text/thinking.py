"""The answer in a completion: what it says after its thinking. All read answers by it: rewards, metrics, checks.

Thinking stands between tags: `<think>`, `<thinking>`, `<thought>`, `<reasoning>`, `<reflection>`, `<scratchpad>` (in
any case, with a prefix as in `<seed:think>`, with bars as in `<|think|>`), `[THINK]`, `◁think▷`,
`<|begin_of_thought|>`, `<|START_THINKING|>`, `<|inner_prefix|>`, `<unused94>`, and in channels such as
`<|channel|>analysis<|message|>`.

The answer is what follows the last closing tag: the opening one may stand in the prompt, and blocks may be nested or
several. After an opening tag that is never closed there is no answer. A tag in quotes, in backticks, or in the middle
of a line of a fenced block is a mention, not a tag. A completion that never closes the tag of its prompt is read as
`as_read` has it. Not read: thinking without tags.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from ...types import Completion
from .fences import fences

_NAMES = r"(?:[a-z][a-z0-9]*[:_])?(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad)"
_OPENINGS = (
    rf"<[|｜]?\s?{_NAMES}\s?[|｜]?>",
    r"\[think\]",
    "◁think▷",
    r"<\|(?:begin_of_thought|start_thinking|inner_prefix)\|>",
    r"(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary)\b[^<>\n]*<\|message\|>",
    r"<\|channel>thought",
    "<unused94>(?:thought)?",
    r"\A\s*(?-i:analysis(?=[A-Z]))",  # channels whose special tokens were not decoded
)
_CLOSINGS = (
    rf"<[|｜]?\s?/\s?[|｜]?{_NAMES}\s?[|｜]?>",
    r"\[/think\]",
    "◁/think▷",
    r"<\|(?:end_of_thought|end_thinking|inner_suffix)\|>",
    r"(?:<\|end\|>)?(?:<\|start\|>assistant)?<\|channel\|>final\b[^<>\n]*<\|message\|>",
    r"<channel\|>",
    "<unused95>",
)
_TAG = re.compile(rf"(?P<closing>{'|'.join(_CLOSINGS)})|(?P<opening>{'|'.join(_OPENINGS)})", re.IGNORECASE)
_BARE_CHANNEL = re.compile(r"\A\s*analysis(?=[A-Z]).*?assistantfinal", re.DOTALL)
_AROUND = (
    re.compile(r"\s*<(response|output|solution|final_answer)>(.*)</\1>\s*", re.DOTALL | re.IGNORECASE),
    re.compile(r"\s*<\|(begin_of_solution|start_response)\|>(.*?)(?:<\|end_of_solution\|>|<\|end_response\|>)?\s*",
               re.DOTALL | re.IGNORECASE),
    re.compile(r"\s*\[(begin final response)\](.*?)(?:\[end final response\])?\s*", re.DOTALL | re.IGNORECASE),
)  # fmt: skip
MAX_TAG = 80
"""Characters, and tokens, at the end of a prompt in which a tag may stand open."""
_ANSWER = re.compile(r"\s*<(answer)>(.*)</answer>\s*", re.DOTALL | re.IGNORECASE)
_END = re.compile(r"(?:<\|(?:end|return|im_end|eot_id)\|>\s*)+\Z")


@lru_cache(maxsize=256)  # the parts of a reward read the same completion
def after_thinking(completion: str) -> str | None:
    r"""What a completion says once its thinking is over; None if that never ended.

    >>> [after_thinking(c) for c in ("5", "<think></think>5", "so it is.</think>5", "<think>5")]
    ['5', '5', '5', None]
    """
    if channel := _BARE_CHANNEL.match(completion):
        return completion[channel.end() :].strip()
    tags = [tag for tag in _TAG.finditer(completion) if not _mentioned(completion, tag)]
    if not tags:
        return completion
    start = 0
    if tags[0]["opening"] and not completion[: tags[0].start()].strip():
        # Fences inside a thought may be cut off: what they hide is looked for after it only.
        closed = next((tag for tag in tags if tag["closing"]), None)
        if closed is None:
            return None
        start = closed.end()
    blocks = [(start + block.start, start + block.end) for block in fences(completion[start:])]
    tags = [
        t for t in tags if t.start() >= start and (not _inside(blocks, t.start()) or _alone(completion, t))
    ]
    start = max((tag.end() for tag in tags if tag["closing"]), default=start)
    if any(tag["opening"] and tag.start() >= start for tag in tags):
        return None
    said = _END.sub("", completion[start:]).strip()
    around = next(filter(None, (form.fullmatch(said) for form in _AROUND)), None)
    return around[2].strip() if around else said


def answer_text(completion: str) -> str:
    """The same, without `<answer>` tags around the whole; empty where thinking never ended: that says nothing.

    >>> answer_text("<think>2 + 3</think>\\n<answer>5</answer>"), answer_text("<think>2 + 3")
    ('5', '')
    """
    said = after_thinking(completion) or ""
    around = _ANSWER.fullmatch(said)
    return around[2].strip() if around and "<answer>" not in around[2] else said


def around_answer(completion: str) -> tuple[str, str, str]:
    """(what stands before the answer, the answer, what stands after it): together the completion.

    >>> around_answer("<think>so</think>\\n5"), around_answer("5 ")
    (('<think>so</think>\\n', '5', ''), ('', '5 ', ''))
    """
    said = after_thinking(completion) or completion
    start = completion.rindex(said) if said in completion else 0
    return (completion[:start], said, completion[start + len(said) :]) if start else ("", completion, "")


def opened_by(prompt: str) -> str:
    """The tag of thinking that the end of a rendered prompt leaves open; nothing where it leaves none.

    >>> opened_by("<|assistant|><think>\\n"), opened_by("<|assistant|><think>\\n\\n</think>\\n\\n")
    ('<think>', '')
    """
    tags = list(_TAG.finditer(prompt[-MAX_TAG:]))
    return (
        tags[-1][0]
        if tags and tags[-1]["opening"] and not prompt[-MAX_TAG:][tags[-1].end() :].strip()
        else ""
    )


def opened_in(prompt: Sequence[int], text: Callable[[Sequence[int]], str]) -> str:
    """The same of a prompt in tokens, which `text` decodes."""
    return opened_by(text(prompt[-MAX_TAG:]))


def knowing(
    completions: Sequence[Completion], prompt: Sequence[int], text: Callable[[Sequence[int]], str]
) -> list[Completion]:
    """The completions of a prompt, which know the tag that it left open."""
    opened = opened_in(prompt, text)
    return [replace(one, opened=opened) for one in completions] if opened else list(completions)


def begun(opened: str, completion: str) -> str:
    """A completion as rewards read it: after the tag that its prompt opened, if it never closes that.

    >>> begun("<think>", "so it is"), begun("<think>", "so it is</think>5")
    ('<think>so it is', 'so it is</think>5')
    """
    return opened + completion if opened and after_thinking(opened + completion) is None else completion


def as_read(completion: Completion) -> str:
    """The text of a completion as rewards read it."""
    return begun(completion.opened, completion.text)


def without_tags(completion: str) -> str:
    """Thinking and answer, without the tags between them: for what is asked of both, such as repetition.

    >>> without_tags("<think>\\n\\n</think>Bonjour")
    'Bonjour'
    """
    return _TAG.sub("\n", completion).strip() if _TAG.search(completion) else completion


def _mentioned(text: str, tag: re.Match[str]) -> bool:
    """Whether quotes or backticks stand directly around it."""
    before, after = text[max(0, tag.start() - 1) : tag.start()], text[tag.end() : tag.end() + 1]
    return before == after and before in ("'", '"', "`")


def _alone(text: str, tag: re.Match[str]) -> bool:
    """Whether nothing else stands on its line."""
    start, end = text.rfind("\n", 0, tag.start()) + 1, text.find("\n", tag.end())
    return not text[start : tag.start()].strip() and not text[tag.end() : end if end >= 0 else None].strip()


def _inside(blocks: Sequence[tuple[int, int]], place: int) -> bool:
    before = bisect(blocks, (place, 0)) - 1
    return before >= 0 and place < blocks[before][1]

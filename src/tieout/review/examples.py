"""Section Examples: a few cases of each kind as every model answered them, with the figures that differ marked."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from ..evidence.evaluate import PROGRAMMATIC, Case
from ..rows.messages import said_by
from ..types import Prompt
from .markup import MAX_CHARACTERS, Markup, html, joined, lead, nothing, number, tag, text
from .stored import Stored

NUM_EACH = 2
"""Examples of each kind."""
_FIGURE = re.compile(r"(?:(?<![\w.,)])[-−])?\d(?:[\d,]*\d)?(?:\.\d+)?")


@dataclass(frozen=True)
class Example:
    """One case, as every model answered it."""

    kind: str
    """`improved`, `worsened` or `unchanged`: the candidate's score compared with the baseline's."""
    case: Case
    answers: list[tuple[str, Case]]


def section(run: Stored) -> Markup:
    """The examples, side by side."""
    settings = run.settings
    candidate, baseline = settings["candidate"], settings["baseline"]
    examples, counts = pick_examples(run.cases, candidate, baseline, NUM_EACH, settings["seed"])
    if not examples:
        return nothing("no case was scored for both models")
    said = (
        f"Of the programmatic track {counts['improved']} improved, {counts['worsened']} worsened and "
        f"{counts['unchanged']} stayed the same from {baseline} to {candidate}. These were taken at random from "
        f"each kind, with seed {settings['seed']}. Marked: figures of an answer that {candidate}'s does not "
        f"have, and of {candidate}'s those that {baseline}'s does not have."
    )
    shown = (_example(example, candidate, baseline, run.golds.get(example.case.id)) for example in examples)
    return joined([lead(said), *shown])


def pick_examples(
    cases: Mapping[str, Sequence[Case]], candidate: str, baseline: str, num_each: int, seed: int
) -> tuple[list[Example], dict[str, int]]:
    """Up to `num_each` cases of each kind, chosen at random, and how many there are of each in all."""
    by_model = {model: {case.id: case for case in own} for model, own in cases.items()}
    kinds: dict[str, list[str]] = {"improved": [], "worsened": [], "unchanged": []}
    for name, case in by_model[candidate].items():
        other = by_model[baseline].get(name)
        if case.track != PROGRAMMATIC or other is None or case.score is None or other.score is None:
            continue
        gain = case.score - other.score
        kinds["improved" if gain > 0 else "worsened" if gain < 0 else "unchanged"].append(name)
    examples = []
    for kind, names in kinds.items():
        chosen = random.Random(f"{seed}/{kind}").sample(names, min(num_each, len(names)))
        for name in chosen:
            answers = [(model, own[name]) for model, own in by_model.items() if name in own]
            examples.append(Example(kind, by_model[candidate][name], answers))
    return examples, {kind: len(names) for kind, names in kinds.items()}


def prompt_text(case: Case) -> str:
    """The prompt of a case as text."""
    return text_of_prompt(case.prompt)


def text_of_prompt(prompt: Prompt) -> str:
    """A prompt as text; of messages, each turn under its role."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"[{message['role']}]\n{said_by(message)}" for message in prompt)


def marked(said: str, other: str) -> Markup:
    """A text whose figures that are not those of `other`, in the order of both, are marked."""
    said, other = said[:MAX_CHARACTERS], other[:MAX_CHARACTERS]
    found = list(_FIGURE.finditer(said))
    own, theirs = [_plain(one[0]) for one in found], [_plain(figure) for figure in _FIGURE.findall(other)]
    same: set[int] = set()
    for block in SequenceMatcher(None, own, theirs, autojunk=False).get_matching_blocks():
        same.update(range(block.a, block.a + block.size))
    parts, end = list[Markup](), 0
    for place, one in enumerate(found):
        if place not in same:
            parts += [text(said[end : one.start()]), html("<mark>{}</mark>", one[0])]
            end = one.end()
    return Markup("").join([*parts, text(said[end:])])


def _plain(figure: str) -> str:
    """A figure without separators and zeros that change nothing."""
    sign = "-" if figure[0] in "-−" else ""
    whole, point, part = figure.strip("-−").replace(",", "").partition(".")
    return f"{sign}{whole.lstrip('0') or '0'}{point if part.rstrip('0') else ''}{part.rstrip('0')}"


def written(case: Case, other: Case | None = None) -> Markup:
    """What a model wrote, with its figures compared with another answer's; of an episode the dialogue, turn by turn,
    and what it scored at its end.
    """
    if case.dialogue:
        turns = [
            html('<div class="{}"><span>{}</span><pre>{}</pre></div>', who, who, said or "(nothing)")
            for who, said in case.dialogue
        ]
        score = number(case.score) if case.score is not None else case.status
        return html('<div class="turns">{}<p>score at the end: <b>{}</b></p></div>', joined(turns), score)
    if not case.completion:
        return nothing("(nothing)")
    return html("<pre>{}</pre>", marked(case.completion, other.completion) if other else case.completion)


def right_answer(gold: str | None) -> list[Markup]:
    """The right answer of a case, for the place before the answers; nothing where its row has none."""
    return [] if gold is None else [html("<h5>Right answer</h5><pre>{}</pre>", gold)]


def _example(example: Example, candidate: str, baseline: str, gold: str | None) -> Markup:
    said = dict(example.answers)
    answers = [
        _answer(model, answer, said[baseline] if model == candidate else said[candidate])
        for model, answer in example.answers
    ]
    prompt = prompt_text(example.case)
    opened = Markup(" open") if len(prompt) < 1200 else ""
    return html(
        '<article class="example"><div>{}<span class="id">{}</span></div>\n'
        "<details{}><summary>Prompt</summary><pre>{}</pre>{}</details>\n"
        '<div class="answers">{}</div></article>',
        tag(example.kind),
        example.case.id,
        opened,
        prompt,
        joined(right_answer(gold)),
        joined(answers),
    )


def _answer(model: str, answer: Case, other: Case) -> Markup:
    score = (
        number(answer.score)
        if answer.score is not None
        else html('<span class="flag">{}</span>', answer.status)
    )
    errors = [
        html('<span class="flag">{}: {}</span>', what, reason) for what, reason in answer.errors.items()
    ]
    numbers = {**answer.metrics, **{f"points for {name}": value for name, value in answer.parts.items()}}
    if numbers:
        said = ", ".join(f"{name} {number(value)}" for name, value in numbers.items())
        errors.append(html('<span class="muted">{}</span>', said))
    return html(
        '<div><div class="who"><b>{}</b><span>{}</span></div>{}{}</div>',
        model,
        score,
        written(answer, other),
        joined(errors),
    )

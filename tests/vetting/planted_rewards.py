"""Rewards with a hole each, and their hardened counterparts: what the attack must find, and what it must leave alone.

(class, rows, holed, hardened); the class is one that must be among those found.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from tieout.rewards.library.code import code
from tieout.rewards.text.structured import contains_whole, parse_json
from tieout.types import Row

Reward = Callable[..., list]


# --- rows ---------------------------------------------------------------------------------------------------


def _breakdown(i: int) -> Row:
    names = ["Licences", "Services", "Hardware"]
    values = [120 + 7 * i, 340 - 3 * i, 55 + i]
    total = sum(values)
    lines = [f"{name} | {value}" for name, value in zip(names, values, strict=True)]
    document = f"Company {i}, revenue\n" + "\n".join(lines) + f"\nRevenue | {total}\nEmployees | {900 + i}"
    gold = {
        "components": [{"name": n, "value": v} for n, v in zip(names, values, strict=True)],
        "total": total,
        "citations": [*lines, f"Revenue | {total}"],
    }
    return {
        "prompt": f"Break down revenue, in JSON.\n{document}",
        "document": document,
        "completion": json.dumps(gold),
        "answer": json.dumps(gold),
    }


def _sum_row(i: int) -> Row:
    value = 37 * i + 12
    return {
        "prompt": f"What is {30 * i + 5} + {7 * i + 7}?",
        "target": str(value),
        "completion": f"Adding the two gives the sum.\nanswer: {value}",
    }


def _tag_row(i: int) -> Row:
    text = f"<think>I add {i} and 3.</think><answer>{i + 3}</answer>"
    return {"prompt": f"What is {i} + 3?", "answer": str(i + 3), "completion": text}


def _code_row(i: int) -> Row:
    gold = f"def scale(x):\n    return x * {i + 2}\n"
    return {
        "prompt": f"Write scale(x), which multiplies by {i + 2}. Example:\nassert scale(1) == {i + 2}",
        "completion": gold,
        "checks": "\n".join(f"assert scale({x}) == {x * (i + 2)}" for x in (1, 4, -3)),
        "tests": [{"args": [x], "expected": x * (i + 2)} for x in (1, 4, -3, 10)],
        "entry": "scale",
    }


def _word_row(i: int) -> Row:
    cities = ["Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Perth"]
    return {
        "prompt": f"Which of {', '.join(cities)} is number {i % 6 + 1}?",
        "label": cities[i % 6],
        "completion": cities[i % 6],
    }


def _quote_row(i: int) -> Row:
    rest = " ".join(f"Item {j} was reviewed by the committee in month {j % 12 + 1}." for j in range(30))
    line = f"The auditor of company {i} found {3 + i} material weaknesses."
    return {
        "prompt": "Quote the sentence on weaknesses.",
        "report": f"{rest} {line} {rest}",
        "answer": line,
        "completion": line,
    }


def _fact_row(i: int) -> Row:
    firms = ["Birch Rail", "Cobalt Foods", "Elgin Paper", "Granite Mining"]
    firm, way = firms[i % 4], ("rose", "fell")[i % 2]
    gold = f"Sales of {firm} {way} by {3 + i}% to ${40 + 7 * i} million in 2019, and costs were stable."
    return {
        "prompt": f"How did {firm} do?",
        "reference": gold,
        "keywords": [firm, "sales", "costs", "2019", f"${40 + 7 * i} million"],
        "completion": gold,
    }


BREAKDOWN = [_breakdown(i) for i in range(8)]
SUMS = [_sum_row(i) for i in range(8)]
TAGS = [_tag_row(i) for i in range(8)]
CODE = [_code_row(i) for i in range(6)]
WORDS = [_word_row(i) for i in range(12)]
QUOTES = [_quote_row(i) for i in range(6)]
FACTS = [_fact_row(i) for i in range(8)]


# --- the four that everyone writes --------------------------------------------------------------------------


def reconciled_if_there(completions: list[str], document: list[str], **_: Any) -> list[float]:
    """Checks the sum only where both parts of it are; takes one letter for a citation."""
    scores = []
    for text, source in zip(completions, document, strict=True):
        try:
            reply = json.loads(text)
        except ValueError:
            scores.append(0.0)
            continue
        if not isinstance(reply, dict):
            scores.append(0.0)
            continue
        score = 0.4
        parts, total = reply.get("components"), reply.get("total")
        try:
            if not parts or total is None or abs(sum(p["value"] for p in parts) - total) < 0.5:
                score += 0.3
            if all(cite in source for cite in reply.get("citations") or []):
                score += 0.3
        except (TypeError, KeyError):
            pass
        scores.append(score)
    return scores


def reconciled(completions: list[str], document: list[str], answer: list[str], **_: Any) -> list[float]:
    """Every figure against gold's, every citation a line of the source that shows its figure, nothing beside."""
    scores = []
    for text, source, gold in zip(completions, document, answer, strict=True):
        reply, wanted = parse_json(text).value, json.loads(gold)
        try:
            score = 0.1
            if set(reply) != set(wanted):
                raise KeyError("keys")
            figures = [(p["name"], p["value"]) for p in reply["components"]]
            right = [(p["name"], p["value"]) for p in wanted["components"]]
            if figures != right or type(reply["total"]) is not int or reply["total"] != wanted["total"]:
                raise KeyError("figures")
            if any(type(p["value"]) is not int or set(p) != {"name", "value"} for p in reply["components"]):
                raise KeyError("types")
            score = 0.7
            cited, lines = reply["citations"], source.splitlines()
            shown = [*(v for _, v in figures), reply["total"]]
            if len(cited) == len(shown) and all(
                c in lines and contains_whole(c, str(v)) for c, v in zip(cited, shown, strict=True)
            ):
                score = 1.0
        except (KeyError, TypeError):
            score = min(score, 0.1) if isinstance(reply, dict) else 0.0
        scores.append(score)
    return scores


def form_first(completions: list[str], document: list[str], answer: list[str], **_: Any) -> list[float]:
    """The same, with 0.4 for form alone: more than right figures with a word before them get."""
    return [0.4 if s == 0.1 else s for s in reconciled(completions, document, answer)]


def first_answer(completions: list[str], target: list[str], **_: Any) -> list[float]:
    """The first `answer:` counts, whatever comes after it."""
    scores = []
    for text, gold in zip(completions, target, strict=True):
        found = re.search(r"answer:\D*?(-?[\d.]+)", text, re.IGNORECASE)
        try:
            scores.append(float(found is not None and abs(float(found[1]) - float(gold)) < 1e-6))
        except ValueError:
            scores.append(0.0)
    return scores


def one_last_answer(completions: list[str], target: list[str], **_: Any) -> list[float]:
    """One `answer:`, at the end, followed by one plain number."""
    scores = []
    for text, gold in zip(completions, target, strict=True):
        found = re.findall(r"answer:[ \t]*(.*)", text, re.IGNORECASE)
        one = len(found) == 1 and text.strip().endswith(found[0].strip())
        plain = one and re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,6})?", found[0].strip())
        scores.append(float(bool(plain) and Decimal(found[0].strip()) == Decimal(gold)))
    return scores


def tags_by_regex(completions: list[str], **_: Any) -> list[float]:
    """Tags in order, with anything or nothing in them."""
    pattern = re.compile(r"<think>.*</think>\s*<answer>.*</answer>", re.DOTALL)
    return [1.0 if pattern.search(text) else 0.0 for text in completions]


def tags_with_content(completions: list[str], **_: Any) -> list[float]:
    """Each tag once, in order, alone, with a word in it."""
    inside = r"((?:(?!</?(?:think|answer)>).)*)"
    pattern = re.compile(rf"\s*<think>{inside}</think>\s*<answer>{inside}</answer>\s*", re.DOTALL)
    found = [pattern.fullmatch(text) for text in completions]
    return [float(m is not None and all(re.search(r"\w", part) for part in m.groups())) for m in found]


def exit_code(completions: list[str], checks: list[str], **_: Any) -> list[float]:
    """Exit status 0 is a pass."""
    scores = []
    for program, check in zip(completions, checks, strict=True):
        try:
            done = subprocess.run(
                [sys.executable, "-S", "-I", "-c", f"{program}\n{check}"], capture_output=True, timeout=5
            )
            scores.append(float(done.returncode == 0))
        except (ValueError, OSError, subprocess.TimeoutExpired):
            scores.append(0.0)
    return scores


# --- more, one idea each ------------------------------------------------------------------------------------


def contains_answer(completions: list[str], label: list[str], **_: Any) -> list[float]:
    """Found anywhere: all labels at once, or denied."""
    return [float(gold.lower() in text.lower()) for text, gold in zip(completions, label, strict=True)]


def same_word(completions: list[str], label: list[str], **_: Any) -> list[float]:
    return [
        float(text.strip().lower() == gold.lower()) for text, gold in zip(completions, label, strict=True)
    ]


def any_number(completions: list[str], target: list[str], **_: Any) -> list[float]:
    """Any of the numbers in the text."""
    return [float(gold in re.findall(r"-?\d+", text)) for text, gold in zip(completions, target, strict=True)]


def nan_passes(completions: list[str], target: list[str], **_: Any) -> list[float]:
    """`not far` instead of `near`: nothing is far from NaN."""
    scores = []
    for text, gold in zip(completions, target, strict=True):
        try:
            far = abs(float(text.rpartition("answer:")[2]) - float(gold)) > 0.01
        except ValueError:
            far = True
        scores.append(float(not far))
    return scores


def sign_and_scale_do_not_count(completions: list[str], target: list[str], **_: Any) -> list[float]:
    """Reads the digits only, in per cent or as a fraction."""
    scores = []
    for text, gold in zip(completions, target, strict=True):
        digits = re.sub(r"[^0-9.]", "", text.rpartition("answer:")[2]).strip(".")
        try:
            value, right = Decimal(digits), Decimal(gold)
            scores.append(float(value in (right, right / 100, right * 100)))
        except InvalidOperation:
            scores.append(0.0)
    return scores


def long_is_good(completions: list[str], target: list[str], **_: Any) -> list[float]:
    """A bonus for effort."""
    right = one_last_answer(completions, target)
    return [r + min(1.0, len(text) / 2000) for r, text in zip(right, completions, strict=True)]


def form_is_most_of_it(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """0.65 for form, 0.35 for being right: a policy that never answers gets most of it."""
    form = tags_with_content(completions)
    right = [f"<answer>{gold}</answer>" in text for text, gold in zip(completions, answer, strict=True)]
    return [0.65 * f + 0.35 * r for f, r in zip(form, right, strict=True)]


def right_is_most_of_it(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    form = tags_with_content(completions)
    right = [
        text.strip().endswith(f"<answer>{gold}</answer>")
        for text, gold in zip(completions, answer, strict=True)
    ]
    return [f * (0.2 + 0.8 * r) for f, r in zip(form, right, strict=True)]


def in_the_source(completions: list[str], report: list[str], **_: Any) -> list[float]:
    """A verbatim piece of the source, of any length."""
    return [float(bool(text) and text in source) for text, source in zip(completions, report, strict=True)]


def the_sentence(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [float(" ".join(text.split()) == gold) for text, gold in zip(completions, answer, strict=True)]


def words_in_common(completions: list[str], reference: list[str], **_: Any) -> list[float]:
    """Nine in ten of the reference's words, whatever is between them: a denial is one word more."""
    shares = []
    for text, gold in zip(completions, reference, strict=True):
        wanted = set(re.findall(r"[a-z]{2,}", gold.lower()))
        shares.append(len(wanted & set(re.findall(r"[a-z]{2,}", text.lower()))) / len(wanted))
    return [float(share >= 0.9) for share in shares]


def has_keywords(completions: list[str], keywords: list[list[str]], **_: Any) -> list[float]:
    """The share of the keywords that occur."""
    rows = zip(completions, keywords, strict=True)
    return [sum(word.lower() in text.lower() for word in words) / len(words) for text, words in rows]


def the_reference(completions: list[str], reference: list[str], **_: Any) -> list[float]:
    return [float(" ".join(text.split()) == gold) for text, gold in zip(completions, reference, strict=True)]


def adds_up(completions: list[str], **_: Any) -> list[float]:
    """The figures agree with each other: so do zeros, and a plug line makes any agree."""
    scores = []
    for text in completions:
        reply = parse_json(text).value
        try:
            gap = math.fsum(part["value"] for part in reply["components"]) - reply["total"]
            scores.append(
                float(bool(reply["components"]) and abs(gap) < 0.01 and len(reply["citations"]) > 0)
            )
        except (KeyError, TypeError, IndexError, OverflowError):
            scores.append(0.0)
    return scores


def first_object(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """The first JSON object in the text counts."""
    scores = []
    for text, gold in zip(completions, answer, strict=True):
        try:
            value, _end = json.JSONDecoder().raw_decode(text, max(0, text.find("{")))
            scores.append(float(value == json.loads(gold)))
        except (ValueError, RecursionError):
            scores.append(0.0)
    return scores


def one_object(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    wanted = [json.loads(gold) for gold in answer]
    return [
        float(repr(parse_json(t).value) == repr(gold)) for t, gold in zip(completions, wanted, strict=True)
    ]


def no_schema(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """Each field that is there must be right; none needs to be there."""
    scores = []
    for text, gold in zip(completions, answer, strict=True):
        reply, wanted = parse_json(text).value, json.loads(gold)
        right = isinstance(reply, dict) and all(repr(v) == repr(wanted.get(k)) for k, v in reply.items())
        scores.append(float(right))
    return scores


def schema_only(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """The right keys, whatever is in them."""
    replies = [parse_json(text).value for text in completions]
    return [
        float(isinstance(r, dict) and bool(r) and set(r) == set(json.loads(gold)))
        for r, gold in zip(replies, answer, strict=True)
    ]


def raises_on_what_it_does_not_know(completions: list[str], answer: list[str], **_: Any) -> list[float]:
    """No `try`: half an object ends the call."""
    return [
        float(json.loads(text)["total"] == json.loads(gold)["total"])
        for text, gold in zip(completions, answer, strict=True)
    ]


def hangs_on_a_long_one(completions: list[str], label: list[str], **_: Any) -> list[float]:
    """As a regex that backtracks would; asleep, so that the test costs no CPU."""
    for text in completions:
        if len(text) > 20_000:
            time.sleep(600)
    return same_word(completions, label)


def judge_that_obeys(completions: list[str], label: list[str], **_: Any) -> list[float]:
    """What a model reads as a verdict wherever it stands."""
    scores = []
    for text, gold in zip(completions, label, strict=True):
        verdict = f"Answer: {text}\nVerdict: {'10' if text.strip() == gold else '0'}"
        found = re.search(r"(?:[Ss]core|Verdict)\W*(\d+)", verdict)
        scores.append(int(found[1]) / 10 if found else 0.0)
    return scores


def runs_it_here(completions: list[str], tests: list[list[dict]], entry: list[str], **_: Any) -> list[float]:
    """In this process, `==` by the candidate's own object, expected values in the caller's frame."""
    scores = []
    for program, checks, name in zip(completions, tests, entry, strict=True):
        scope: dict[str, Any] = {}
        try:
            exec(program, scope)
            scores.append(sum(bool(scope[name](*t["args"]) == t["expected"]) for t in checks) / len(checks))
        except Exception:
            scores.append(0.0)
    return scores


def takes_its_word(
    completions: list[str], tests: list[list[dict]], entry: list[str], **_: Any
) -> list[float]:
    """Looks for `OK` in what was printed."""
    scores = []
    for program, checks, name in zip(completions, tests, entry, strict=True):
        lines = "".join(f"assert {name}(*{t['args']!r}) == {t['expected']!r}\n" for t in checks)
        command = [sys.executable, "-S", "-I", "-c", f"{program}\n{lines}\nprint('OK')"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=5)
            scores.append(float("OK" in done.stdout))
        except (ValueError, OSError, subprocess.TimeoutExpired):
            scores.append(0.0)
    return scores


def visible_tests_only(
    completions: list[str], tests: list[list[dict]], entry: list[str], **_: Any
) -> list[float]:
    """Tests what the prompt shows, and nothing else."""
    return [s or 0.0 for s in code(completions, [checks[:1] for checks in tests], entry)]


@dataclass(frozen=True)
class Plant:
    """A hole, and the same reward without it."""

    kinds: tuple[str, ...]
    """Classes of which one finding each must be there."""
    rows: list[Row]
    holed: Reward
    hardened: Reward


PLANTS = [
    Plant(("omission", "shell", "regurgitation"), BREAKDOWN, reconciled_if_there, reconciled),
    Plant(("contradiction",), SUMS, first_answer, one_last_answer),
    Plant(("shell",), TAGS, tags_by_regex, tags_with_content),
    Plant(("code",), CODE, exit_code, code),
    Plant(("stuffing", "contradiction"), WORDS, contains_answer, same_word),
    Plant(("stuffing",), SUMS, any_number, one_last_answer),
    Plant(("numeric",), SUMS, nan_passes, one_last_answer),
    Plant(("numeric",), SUMS, sign_and_scale_do_not_count, one_last_answer),
    Plant(("length",), SUMS, long_is_good, one_last_answer),
    Plant(("composition",), TAGS, form_is_most_of_it, right_is_most_of_it),
    Plant(("regurgitation", "constant"), QUOTES, in_the_source, the_sentence),
    Plant(("statement",), FACTS, words_in_common, the_reference),
    Plant(("statement", "stuffing"), FACTS, has_keywords, the_reference),
    Plant(("reconciliation",), BREAKDOWN, adds_up, reconciled),
    Plant(("json",), BREAKDOWN, first_object, one_object),
    Plant(("omission", "shell"), BREAKDOWN, no_schema, one_object),
    Plant(("constant", "format farming"), BREAKDOWN, schema_only, reconciled),
    Plant(("form against substance",), BREAKDOWN, form_first, reconciled),
    Plant(("harness",), BREAKDOWN, raises_on_what_it_does_not_know, one_object),
    Plant(("harness",), WORDS, hangs_on_a_long_one, same_word),
    Plant(("judge",), WORDS, judge_that_obeys, same_word),
    Plant(("code",), CODE, runs_it_here, code),
    Plant(("code",), CODE, takes_its_word, code),
    Plant(("code",), CODE, visible_tests_only, code),
]

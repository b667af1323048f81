"""A probe: one completion that a reward should not pay for, and what it would prove if it did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from ...rewards.library.numeric import numeric
from ...rewards.text.amounts import amounts
from ...rewards.text.figures import figure
from ...rewards.text.sentences import beside_unknown, content, says_unknown
from .gold import NUMBER, Gold, same_answer

CLASSES = (
    *(
        "shell",
        "omission",
        "constant",
        "format farming",
        "stuffing",
        "contradiction",
        "statement",
        "regurgitation",
        "length",
    ),
    *(
        "numeric",
        "json",
        "reconciliation",
        "code",
        "judge",
        "harness",
        "composition",
        "form against substance",
    ),
    "policy",
)
"""What can be found. `policy`: what the policy's own samples showed."""

LONG = 1000

Basis = Literal["empty", "free", "wrong", "words", "form", "omitted", "outweighs", "long", "same"]
"""Why a probe must not be paid as gold is.

empty     says nothing; must get next to nothing
free      made without knowing the row's answer
wrong     made from gold, and what it says is another answer than gold's
words     what a column lists, which the reward may look for, and nothing that says anything
form      breaks the form, whatever it says; the one thing to ask of a reward that judges form only
omitted   leaves out a field that costs when it is wrong (`against`); must cost too
outweighs well-formed, and wrong; must get less than the right answer in broken form (`against`)
long      gold made longer; must not get more than gold
same      says the same as gold in another way: may be paid or not, but must not make the reward fail
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """A completion to try."""

    kind: str
    """One of CLASSES."""
    name: str
    completion: str
    basis: Basis
    against: str = ""
    """If omitted: the same completion with the field there, and wrong. If outweighs: what is right and broken."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The material of probes other than gold."""

    sources: Sequence[str]
    """Texts that the answer may be copied from: the prompt, long columns."""
    others: Sequence[Gold]
    """Golds of rows that ask for something else."""
    labels: Sequence[str]
    """Answers that occur, the most frequent first."""
    prompt: str
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Column -> its short texts, of columns that the reward asks for."""
    accepted: Sequence[str] = ()
    """Other ways to write gold's answer."""
    names: Sequence[str] = ()
    """Names that occur in the row and in golds of others."""
    tolerances: Sequence[Any] = ()
    """How far an answer may be off, as far as the row or an option of the reward says so."""
    grounded: bool = False
    """Whether the reward is given a source: then what it judges is more than a short answer."""

    @property
    def flat_sources(self) -> list[str]:
        """The sources with single spaces."""
        return [" ".join(source.split()) for source in self.sources]


def unique(probes: Iterable[Probe], gold: Gold, accepted: Sequence[str] = ()) -> list[Probe]:
    """Each completion once per basis and comparison; none that is gold, says the same, or is right by chance."""
    seen: dict[tuple[str, str, str], Probe] = {}
    for probe in probes:
        by_chance = probe.basis in ("free", "form", "empty") and says_gold(probe.completion, gold)
        if probe.basis == "wrong" and in_other_words(probe.completion, gold, accepted):
            continue
        if not by_chance and (probe.basis in ("same", "long") or not _is_gold(probe.completion, gold)):
            seen.setdefault((probe.basis, probe.completion, probe.against), probe)
    return list(seen.values())


def says_gold(completion: str, gold: Gold) -> bool:
    """Whether a text that was made without knowing the answer has it anyway: `yes`, or a round number."""
    if _is_gold(completion, gold) or _refuses_as_gold(completion, gold):
        return True
    if gold.kind != "text" or not gold.answer or len(gold.answer) > 40 or len(completion) > 10 * LONG:
        return False
    number = gold.number
    if number is not None:
        said = (text.replace(",", "") for text in NUMBER.findall(completion) if len(text) < 100)
        return any(Decimal(text) == number for text in said)
    whole = rf"(?<!\w){re.escape(gold.answer)}(?!\w)"
    return re.search(whole, completion, re.IGNORECASE) is not None


def in_other_words(completion: str, gold: Gold, accepted: Sequence[str] = ()) -> bool:
    """Whether a text is right, if written otherwise: gold's figure in another form (`273 m` for `273 million`), or an
    answer that the row accepts; bare, in gold's form, or in the place of gold's answer."""
    if len(completion) > 10 * LONG:
        return False
    places = [("", ""), (gold.before, gold.after), tuple(gold.frame("\0").split("\0"))[:2]]
    for before, after in places:
        if completion.startswith(before) and completion.endswith(after):
            said = completion[len(before) : len(completion) - len(after)].strip()
            if any(same_answer(said, other) for other in accepted) or _same_figure(said, gold.answer):
                return True
    return False


def _same_figure(said: str, answer: str) -> bool:
    """Whether both are one figure, and the same. Only texts that are nothing else are read: what denies one is none."""
    if figure(said, footnotes=False) is None or figure(answer) is None:
        return False
    return numeric([said], [answer]) == [1.0]


def _refuses_as_gold(completion: str, gold: Gold) -> bool:
    """Whether gold says that it does not know, and the text says so too, in whatever words, and nothing else."""
    if len(completion) > 10 * LONG or not (says_unknown(gold.text) and says_unknown(completion)):
        return False
    rest, known = beside_unknown(completion), beside_unknown(gold.text)
    return content(rest).keys() <= content(known).keys() and set(amounts(rest)) <= set(amounts(known))


def _is_gold(completion: str, gold: Gold) -> bool:
    return " ".join(completion.split()) == " ".join(gold.text.split())

"""Proof of a reward on rows with gold, before anything is trained on it.

| check | what must hold |
|---|---|
| gold | the row's own gold has the highest score: the top of the declared range, or 1; of a sum, of its parts |
| empty | an empty completion has the lowest: the bottom of the range, or 0 |
| other gold | another row's gold fails |
| perturbed | gold with another answer (a digit or a word changed, denied, turned), and its first half, fail |
| re-formatted | gold with white space around it, and JSON re-indented or in a fence, scores as gold does |
| steady | gold scores the same again, alone and next to others |

To fail is to score below gold. A reward that judges form only (`ranged(..., form=True)`) need not tell one row's gold
from another's: it must fail one of gold repeated, cut in half, or in another script. It is a proof of these six
things, on these rows, and of nothing else: `tieout attack` looks for holes.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import InputError
from ..rewards.processes.workers import Workers
from ..rewards.scoring.call import Call
from ..rewards.scoring.combine import Combined
from ..rewards.scoring.outcomes import Outcome, judges_form, parameters, reward_name, reward_range
from ..rewards.scoring.runner import score_groups
from ..rewards.text.sentences import sentences
from ..tasks.files import answered, check_columns
from ..tasks.wrong_statements import wrong_statements
from ..types import Reward, Row
from .attack.columns import accepted_answers, lists_of
from .attack.gold import Gold, read_gold
from .attack.probe import in_other_words, says_gold
from .golden_rows import golden_rows

CHECKS = ("gold", "empty", "other gold", "perturbed", "re-formatted", "steady")
MIN_SHARE = 0.95
"""Of the other rows' golds, so many must fail: two questions may have the same answer."""


@dataclass
class ProofCheck:
    """How often one check held, and where it did not."""

    name: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    min_share: float = 1.0

    @property
    def tried(self) -> int:
        """Passed or not."""
        return self.passed + len(self.failures)

    @property
    def holds(self) -> bool:
        """Whether it held often enough; what was never tried holds."""
        return self.passed >= self.min_share * self.tried


@dataclass(frozen=True)
class Proof:
    """The result of `prove`."""

    reward: str
    num_rows: int
    checks: tuple[ProofCheck, ...]

    @property
    def holds(self) -> bool:
        """Whether every check does, and gold was scored at all."""
        return all(check.holds for check in self.checks) and self.checks[0].tried > 0


@dataclass(frozen=True)
class _Try:
    check: str
    index: int
    completion: str
    row: Row


def prove(reward: Reward, rows: Sequence[Row], workers: Workers | None = None, seed: int = 0) -> Proof:
    """Try the reward on every row.

    Args:
        reward: any reward.
        rows: with `prompt`, `completion` = gold (else `answer`), and the columns that the reward asks for.
        workers: where to run it; None: in this process.
        seed: of the perturbations.

    Raises:
        InputError: a row has no gold, or the reward asks for a column that rows lack.
    """
    if not rows:
        raise InputError("no rows to prove the reward on")
    rows = answered(golden_rows(rows, [parameter.name for parameter in parameters(reward)]), reward)
    check_columns(reward, rows, tokens=False)
    form = judges_form(reward)
    usual = reward.usual_range if isinstance(reward, Combined) else (0.0, 1.0)
    low, high = reward_range(reward) or usual
    rng = random.Random(seed)
    asked = [p.name for p in parameters(reward) if p.name in rows[0]]
    tries = [one for i in range(len(rows)) for one in _tries(i, rows, form, high <= 0, asked, rng)]
    # Alone, as most tries: gold next to others is what `steady` is for.
    calls = [Call.of_texts([t.completion], [t.row.get("prompt", "")], t.row) for t in tries]
    golds = [
        Call.of_texts([row["completion"], "", row["completion"]], [row.get("prompt", "")] * 3, row)
        for row in rows
    ]
    outcomes = score_groups(reward, [*golds, *calls], workers)
    checks = {name: ProofCheck(name, min_share=MIN_SHARE if name == "other gold" else 1.0) for name in CHECKS}
    best: list[float | None] = []
    for row, (gold, _empty, again) in zip(rows, outcomes, strict=False):
        best.append(gold.score)
        if gold.status == "abstained":
            continue
        _add(
            checks["gold"], gold.score is not None and abs(gold.score - high) < 1e-6, row["completion"], gold
        )
        _add(checks["steady"], gold.score == again.score, row["completion"], again)
    broken: dict[int, list[tuple[_Try, Outcome]]] = {}
    for one, (outcome,) in zip(tries, outcomes[len(rows) :], strict=True):
        gold_score = best[one.index]
        if gold_score is None or (gold_score <= low and one.check in ("other gold", "perturbed")):
            continue  # where gold is not paid, nothing can get less: the check of gold says so
        if form and one.check == "perturbed":
            broken.setdefault(one.index, []).append((one, outcome))
        else:
            _add(
                checks[one.check], _as_expected(one.check, outcome, gold_score, low), one.completion, outcome
            )
    for index, attempts in broken.items():
        fails = any(_as_expected("perturbed", outcome, best[index] or 0.0, low) for _, outcome in attempts)
        _add(checks["perturbed"], fails, attempts[0][0].completion, attempts[0][1])
    return Proof(reward_name(reward), len(rows), tuple(checks.values()))


def _as_expected(check: str, outcome: Outcome, gold: float, low: float) -> bool:
    worth = outcome.worth
    if check == "re-formatted" or check == "steady":
        return worth == gold
    if worth is None:
        return outcome.status == "abstained" and check == "other gold"
    return worth <= low + 1e-6 if check == "empty" else worth < gold


def _add(check: ProofCheck, holds: bool, completion: str, outcome: Outcome) -> None:
    if holds:
        check.passed += 1
    else:
        said = outcome.reason or f"{outcome.status} {outcome.score}"
        check.failures.append(f"{completion[:160]!r}: {said}")


def _tries(
    index: int, rows: Sequence[Row], form: bool, penalty: bool, asked: Sequence[str], rng: random.Random
) -> Iterator[_Try]:
    row, gold = rows[index], rows[index]["completion"]
    yield _Try("steady", index, gold, row)
    if not penalty:
        yield _Try("empty", index, "", row)
    if form:
        for text in (" ".join([gold] * 200), gold[: len(gold) // 2], gold.translate(FOREIGN)):
            yield _Try("perturbed", index, text, row)
    else:
        read = read_gold(row, asked)
        accepted = accepted_answers(lists_of(row, asked), read.answer)
        start = rng.randrange(len(rows))
        others = (other["completion"] for other in [*rows[start:], *rows[:start]])
        wrong = (other for other in others if other != gold and not in_other_words(other, read, accepted))
        if (other := next(wrong, None)) is not None:
            yield _Try("other gold", index, other, row)
        for text in perturbed(read, rng, accepted):
            yield _Try("perturbed", index, text, row)
    for text in reformatted(gold):
        yield _Try("re-formatted", index, text, row)


FOREIGN = {ord(a): ord(b) for a, b in zip("abcdefghiklmnopqrstuvz", "абцдефгхиклмнопярстувз", strict=True)}
"""Latin letters as Cyrillic ones."""


def perturbed(gold: Gold, rng: random.Random, accepted: Sequence[str] = ()) -> list[str]:
    """Gold with another answer (a digit or a word changed, denied, turned, another name), and its first half.

    None that is right in other words, as half of `273 million` is, or reasoning that gives the answer early.

    >>> row = {"completion": "5 + 2 is seven.\\nAnswer: 7"}
    >>> perturbed(read_gold(row, []), random.Random(0))
    ['5 + 2 is seven.\\nAnswer: 8', '5 + 2 is sev']
    """
    half = gold.text[: len(gold.text) // 2]
    early = bool(gold.before) and says_gold(half, gold)
    lines = gold.number is not None and "\n" in gold.before.strip()  # a line need not end as a sentence does
    asides = gold.tags or gold.marked or lines or len(sentences(gold.text)) > 1
    if gold.thinks or (gold.kind == "text" and asides):
        other = gold.replaced(_another_digit_or_word(gold.answer, rng))  # the rest is reasoning, or asides
    else:
        other = _another_digit_or_word(gold.text, rng)
    made = [other, *([] if early else [half])]
    if gold.kind == "text" and gold.number is None:
        # The last one first, so that one of each kind is left.
        made += map(gold.replaced, dict(reversed([*wrong_statements(gold.answer)])).values())
    return [text for text in dict.fromkeys(made) if not in_other_words(text, gold, accepted)]


def _another_digit_or_word(text: str, rng: random.Random) -> str:
    # The first digit of a number, which no tolerance forgives.
    leading = [match.start() for match in re.finditer(r"(?<![0-9.,])[0-9]|(?<![0-9])[.,][0-9]", text)]
    if leading:
        place = rng.choice(leading)
        place += text[place] in ".,"
        digit = rng.choice([d for d in "123456789" if d != text[place]])
        return text[:place] + digit + text[place + 1 :]
    spans = [match.span() for match in re.finditer(r"\w+", text)] or [(0, len(text))]
    start, end = max(spans, key=lambda span: span[1] - span[0])
    return text[:start] + "zorblax" + text[end:]


def reformatted(gold: str) -> list[str]:
    """Gold that says the same: white space around it; JSON indented, and in a fence.

    >>> reformatted("7")
    ['  7 \\n']
    """
    texts = [f"  {gold} \n"]
    try:
        value = json.loads(gold)
    except ValueError:
        return texts
    if isinstance(value, dict | list):
        texts += [json.dumps(value, indent=2, ensure_ascii=False), f"```json\n{gold}\n```"]
    return texts

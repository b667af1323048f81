"""Summarise an earnings call: every figure and name that matters, in few words that are not the speakers' own.

One row (`task.rows("test")[0]`): what the user says, after the system message SYSTEM, and the reference.

    Operator: Good morning, and welcome to the first quarter call of Cordale Energy. I hand over to Tara Ural.
    Tara Ural: We closed the quarter with revenue of $881 million, which is up 28% from a year ago. We told the trade
    in November that list prices go down 10%, mostly because of the calendar. To be clear, we are pleased about our
    share of the market. First, our staff day raised $39,000 for the hospital.
    Olga Sato: We have set our full-year guidance at $1,399 million of revenue. Sales of yacht charters were down 14%.
    Umar Frost, Greywater: Hi, and well done. Somebody wrote 67 last week. I wanted to come back to the operating
    margin.
    Tara Ural: Yes, of course. Also, as you can see on the slide, operating margin is now 22.1%, somewhat higher than
    we had last year.

    Quarterly revenue rose 28% to $881 million. The operating margin rose to 22.1%. Sales of yacht charters fell 14%.
    Full-year revenue guidance is $1,399 million. List prices fell 10% in November.

A reference has a short sentence for each fact. With `quoted`, demonstrations (`completion`, from which SFT learns) are
as uneven as those that people write: this share of the facts stands in the speaker's own sentence. Rows are drawn by
seed; splits share no company's name and no surname. `ood` has business lines and ways to say things that no other
split has, and longer calls. Calls of your own: the option `path`, see `tieout.tasks.transcripts`. The reward is
`rewards.summary`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InputError
from ..rewards.library.summary import quiz_score, summary
from ..rewards.text.sentences import copied, sentences, words
from ..types import Row
from . import Task
from .calls import make_call
from .splits import Splits, generated, only_made
from .transcripts import SYSTEM, conversation, transcripts
from .variants import instructed, surrounded

SIZES: Mapping[str, int] = {"train": 4000, "calibration": 100, "test": 200, "ood": 100}
"""Split -> number of rows."""


def _row(split: str, index: int, seed: int, num_words: int, quoted: float) -> Row:
    rng = random.Random(f"summaries/{seed}/{split}/{index}")
    long = 1.5 if split == "ood" else 1.0
    length = round(long * num_words * rng.uniform(0.85, 1.15))
    call = make_call(rng, split, length, min(MOST_FACTS, 3 + num_words // 150 + rng.randrange(2)))
    shown = [fact.said if rng.random() < quoted else fact.written for fact in call.facts]
    return {
        "prompt": conversation(call.text),
        "company": call.company,
        "document": call.text,
        "reference": " ".join(fact.written for fact in call.facts),
        "completion": " ".join(shown),
    }


MOST_FACTS = 14


def num_words(completions: Sequence[str], **_: Any) -> list[float | None]:
    """[K] words of each summary."""
    return [float(len(words(completion))) for completion in completions]


def copied_share(completions: Sequence[str], document: Sequence[str], **_: Any) -> list[float | None]:
    """[K] share of a summary's words that stand in runs of eight or more copied from the document, 0 to 1."""
    return [copied(completion, [source]) for completion, source in zip(completions, document, strict=True)]


def corrupt(row: Row, rng: random.Random) -> str:
    """A flawed summary: the call itself, one fact dropped, or one figure changed."""
    facts = sentences(row["reference"])
    dropped = " ".join(facts[1:])
    reference: str = row["reference"]
    digits = [place for place, character in enumerate(reference) if character in "123456789"]
    flawed = [row["document"], dropped]
    if digits:
        at = rng.choice(digits)
        other = rng.choice("123456789".replace(reference[at], ""))
        flawed.append(reference[:at] + other + reference[at + 1 :])
    return str(rng.choice(flawed))


WORDINGS = (
    "Give a summary of the call in your own words: a short sentence for every figure or name that matters.",
    "Say in short sentences, not those of the speakers, what was told in the call. No figure and no name that matters "
    "may be missing.",
)


def paraphrase(row: Row, rng: random.Random) -> Row | None:
    """The instruction in other words; None where it is not the task's."""
    return instructed(row, rng, SYSTEM, WORDINGS)


def make(
    seed: int | None = None,
    sizes: Mapping[str, int] | None = None,
    words: int | None = None,
    quoted: float | None = None,
    path: str | None = None,
) -> Task:
    """The task.

    Args:
        seed: of the generated calls; None: 0.
        sizes: rows of each split; None: SIZES.
        words: of a call, about: 100 to 5,000; None: 150. 2,500 is a call as companies hold them.
        quoted: share of the facts that a demonstration has in the speaker's own sentence, 0 to 1; None: 0.
        path: transcripts of your own in place of generated ones, without the other options.

    Raises:
        InputError: an option out of its range or beside `path`, or a file that is not as `transcripts` reads it.
    """
    if path is not None:
        only_made("summaries", seed=seed, sizes=sizes, words=words, quoted=quoted)
        return _task(transcripts(path), max_new_tokens=512)
    words, share = 150 if words is None else words, quoted or 0.0
    if not 100 <= words <= 5000:
        raise InputError(f"summaries: words is {words!r}; expected 100 to 5000, the length of a call")
    if not 0 <= share <= 1:
        raise InputError(f"summaries: quoted is {share!r}; expected 0 to 1, a share of the facts")
    rows = generated(
        "summaries", SIZES, sizes or {}, lambda split, i: _row(split, i, seed or 0, words, share)
    )
    return _task(rows, max_new_tokens=192 if words <= 300 else 448)


def _task(rows: Splits, max_new_tokens: int) -> Task:
    return Task(
        name="summaries",
        rows=rows,
        reward=summary,
        metrics={"quiz_score": quiz_score, "num_words": num_words, "copied_share": copied_share},
        gold=lambda row: str(row["reference"]),
        corrupt=corrupt,
        variants={"formatting": surrounded, "paraphrase": paraphrase},  # turns of a call have an order
        max_new_tokens=max_new_tokens,
        entity="company",
    )

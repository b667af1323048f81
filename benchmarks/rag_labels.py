"""The parts of the reward `rag` against what people said of real answers, and 95% intervals.

    python benchmarks/rag_labels.py SHARED_DATA     # tatqa and sec10q_qa in it; pip install pypdf

It writes `benchmarks/results/rag_labels.json`. What people said: annotators of TAT-QA named the paragraphs that answer
each question, and wrote the answer; people reviewed the answers of KG-RAG's SEC 10-Q set. What is wrong is made from
that: the answer of another question, a paragraph that was not named, a filing of another company, one digit changed. A
paragraph that has the answer by chance, and a changed figure that stands elsewhere, count against a reward.

Intervals are over documents, or over answers where there is one document.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tieout.evidence.stats import mean
from tieout.rewards.library.rag import faithfulness, groundedness, hallucination, relevance
from tieout.rewards.text.claims import claims
from tieout.rewards.text.sentences import sentences

RESULTS = Path(__file__).parent / "results" / "rag_labels.json"


class Case(NamedTuple):
    """A text, whether it is right by what people said, and where it is from."""

    kind: str
    said: str
    right: bool
    cluster: str
    columns: dict[str, Any]


def tatqa(path: Path) -> Iterator[tuple[str, Case]]:
    """(reward, case) of every question that a span of a paragraph answers."""
    rng = random.Random(0)
    for document in json.loads(path.read_text("utf-8")):
        name = document["table"]["uid"]
        texts = {str(one["order"]): one["text"] for one in document["paragraphs"]}
        asked = [
            one
            for one in document["questions"]
            if one["answer_type"] == "span" and one["answer_from"] == "text"
        ]
        for one in asked:
            question, answer = one["question"], one["answer"][0].strip().rstrip(".")
            marked = [texts[order] for order in one["rel_paragraphs"]]
            with_it = [said for text in marked for said in sentences(text) if answer in said]
            row = {"question": question, "answer": answer}
            yield "groundedness", Case("the answer, passages have it", answer, True, name, row)
            yield (
                "groundedness",
                Case("the answer, passages lack it", answer, False, name, {**row, "answer": None}),
            )
            for said in sentences(" ".join(marked)):
                kind = "marked, sentence with the answer" if answer in said else "marked, another sentence"
                yield "relevance", Case(kind, said, answer in said, name, row)
            for other in asked:
                if (said := other["answer"][0].strip().rstrip(".")).casefold() != answer.casefold():
                    yield "relevance", Case("the answer of another question", said, False, name, row)
            if changed := with_other_digit(answer, rng):
                yield "relevance", Case("one digit changed", changed, False, name, row)
            for reward in ("faithfulness", "hallucination"):
                yield (
                    reward,
                    Case("the answer, marked paragraphs", f"{answer}.", True, name, {"context": marked}),
                )
                for order, text in texts.items():
                    if order not in one["rel_paragraphs"]:
                        yield (
                            reward,
                            Case(
                                "the answer, another paragraph",
                                f"{answer}.",
                                False,
                                name,
                                {"context": [text]},
                            ),
                        )
            for said in with_it[:1]:
                if changed := with_other_digit(said, rng):
                    for reward in ("faithfulness", "hallucination"):
                        given = {"context": list(texts.values())}
                        yield reward, Case("a sentence, one digit changed", changed, False, name, given)


def reviewed(folder: Path) -> Iterator[tuple[str, Case]]:
    """(reward, case) of the answers that people reviewed; the passages are the pages of one filing."""
    from pypdf import PdfReader

    rng = random.Random(0)
    (filing,) = folder.glob("*.pdf")
    pages = [" ".join(page.extract_text().split()) for page in PdfReader(filing).pages]
    company = filing.stem.split()[-1]
    with (folder / "qna_data.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        answer, source = row["Answer"].partition("SOURCE(S)")[0], row["Source Docs"].strip("*")
        columns = {"question": row["Question"], "answer": answer}
        yield "groundedness", Case("a reviewed answer", answer, True, str(number), columns)
        if company in source and source != filing.stem:
            continue  # another filing of the company may say the same
        for said in claims(answer):
            for reward in ("faithfulness", "hallucination"):
                own = source == filing.stem
                kind = "reviewed, of the filing" if own else "reviewed, of another company"
                yield reward, Case(kind, said, own, str(number), {"context": pages})
            if own and (changed := with_other_digit(said, rng)):
                for reward in ("faithfulness", "hallucination"):
                    yield (
                        reward,
                        Case("reviewed, one digit changed", changed, False, str(number), {"context": pages}),
                    )


def with_other_digit(text: str, rng: random.Random) -> str | None:
    """The text with one digit of a figure changed; None if it has no figure but years."""
    runs = [
        run
        for run in re.finditer(r"[0-9][0-9,.]*", text)
        if not re.fullmatch(r"(?:19|20)[0-9]{2}\D*", run[0])
    ]
    if not runs:
        return None
    run = rng.choice(runs)
    place = rng.choice([i for i in range(*run.span()) if text[i].isdigit()])
    digit = rng.choice([digit for digit in "123456789" if digit != text[place]])
    return text[:place] + digit + text[place + 1 :]


REWARDS: dict[str, tuple[Callable[..., list[float | None]], float]] = {
    "groundedness": (groundedness, 1.0),
    "relevance": (relevance, 1.0),
    "faithfulness": (faithfulness, 1.0),
    "hallucination": (hallucination, 0.0),
}
"""Name -> the reward, and what it gives to what is right."""


def measured(cases: Sequence[tuple[str, Case]]) -> dict[str, dict[str, Any]]:
    """Reward -> kind -> how often it says what people say, with the interval, and texts of which it does not."""
    told: dict[str, dict[str, Any]] = {name: {} for name in REWARDS}
    for name, (reward, top) in REWARDS.items():
        for kind in dict.fromkeys(case.kind for which, case in cases if which == name):
            own = [case for which, case in cases if which == name and case.kind == kind]
            agreed, missed = [], []
            for case in own:
                (score,) = reward([case.said], **{key: [value] for key, value in case.columns.items()})
                agreed.append(float((score == top) == case.right))
                if not agreed[-1]:
                    missed.append(case.said[:200])
            share = mean(agreed, [case.cluster for case in own], seed=0)
            told[name][kind] = {
                "right": own[0].right,
                "agrees": int(sum(agreed)),
                "of": len(own),
                "share": [round(at or 0.0, 4) for at in (share.value, share.low, share.high)],
                "clusters": len({case.cluster for case in own}),
                "disagrees": random.Random(0).sample(missed, min(5, len(missed))),
            }
    return told


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with tatqa/tatqa_dataset_dev.json and sec10q_qa")
    given = parser.parse_args()
    cases = [*tatqa(given.data / "tatqa" / "tatqa_dataset_dev.json"), *reviewed(given.data / "sec10q_qa")]
    told = measured(cases)
    RESULTS.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for name, kinds in told.items():
        for kind, one in kinds.items():
            value, low, high = one["share"]
            print(
                f"{name:14} {kind:34} {one['agrees']:5} of {one['of']:5}  {value:.3f} [{low:.3f}, {high:.3f}]"
            )


if __name__ == "__main__":
    main()

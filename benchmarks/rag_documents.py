"""Questions over documents: the reward against what people marked, programs without a model, and the models of runs.

    python benchmarks/rag_documents.py tatqa_dataset_dev.json --run balanced=runs/real-rag

With `--reviewed FOLDER` (sec10q_qa of KG-RAG; `pip install pypdf`) also the sentences of answers that people reviewed.
It writes `benchmarks/results/rag_documents.json`, from which `scripts/draw_rag.py` draws.

Labels: TAT-QA's annotators named, for each question, the paragraphs that answer it. Of every paragraph of the
question's document, does `citation_accuracy` of `ANSWER [1].` say the same? It is not given the label. A paragraph
that has the words of the answer by chance counts against it, and so does an answer that is written otherwise.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tieout.evidence.evaluate import PROGRAMMATIC, read_cases
from tieout.evidence.stats import Estimate, difference, mean
from tieout.rewards.library.rag import answered, citation_accuracy, rag, refused, right
from tieout.rewards.text.claims import claims, supports
from tieout.rewards.text.sentences import content, sentences
from tieout.tasks import load_task
from tieout.tasks.rag import UNKNOWN
from tieout.types import Reward, Row

RESULTS = Path(__file__).parent / "results" / "rag_documents.json"
METRICS: Mapping[str, Reward] = {"right": right, "answered": answered, "refused": refused, "reward": rag}
MAX_PROMPT_CHARS = 1600
"""As in recipes/real_rag.yaml."""


def labels(path: Path) -> dict[str, list[int]]:
    """[agreed, all] of the paragraphs that people marked and of those they did not, for questions on text."""
    found = {"marked": [0, 0], "not marked": [0, 0]}
    for document in json.loads(path.read_text("utf-8")):
        for asked in document["questions"]:
            if asked["answer_type"] != "span" or asked["answer_from"] != "text":
                continue
            said = f"{asked['answer'][0].strip().rstrip('.')} [1]."
            for paragraph in document["paragraphs"]:
                (score,) = citation_accuracy([said], [[paragraph["text"]]])
                marked = str(paragraph["order"]) in asked["rel_paragraphs"]
                counts = found["marked" if marked else "not marked"]
                counts[0] += (score == 1.0) == marked
                counts[1] += 1
    return found


def reviewed(folder: Path) -> list[int]:
    """[supported, all]: sentences of reviewed answers on one filing, with its pages as passages."""
    from pypdf import PdfReader

    (filing,) = folder.glob("*.pdf")
    pages = [" ".join(page.extract_text().split()) for page in PdfReader(filing).pages]
    with (folder / "qna_data.csv").open(encoding="utf-8-sig", newline="") as file:
        answers = [r["Answer"] for r in csv.DictReader(file) if r["Source Docs"].strip("*") == filing.stem]
    said = [claim for answer in answers for claim in claims(answer.partition("SOURCE")[0])]
    return [sum(supports(claim, pages) for claim in said), len(said)]


def nearest(row: Row, least: float) -> str:
    """The sentence that has most words of the question, cited; UNKNOWN if it has less than this share of them."""
    asked = content(row["question"])
    each = [
        (sum((asked & content(said)).values()) / max(1, asked.total()), -len(said), said, place)
        for place, passage in enumerate(row["context"], 1)
        for said in sentences(passage)
    ]
    share, _, said, place = max(each)
    return UNKNOWN if share < least else f"{said.rstrip('.')} [{place}]."


def by_chance(row: Row) -> str:
    """One of the passages, whole, with its citation."""
    place = random.Random(str(row["id"])).randrange(len(row["context"]))
    return f"{row['context'][place].rstrip('.')} [{place + 1}]."


def scores(rows: Sequence[Row], program: Callable[[Row], str]) -> dict[str, list[float | None]]:
    """Metric -> of each row, what the program gets."""
    said = [program(row) for row in rows]
    columns = {key: [row[key] for row in rows] for key in ("question", "context", "answer")}
    return {name: list(metric(said, **columns)) for name, metric in METRICS.items()}  # type: ignore[arg-type]


def figures(of: Mapping[str, Sequence[float | None]], documents: Sequence[str]) -> dict[str, list[float]]:
    """Metric -> [value, low, high]; the cases of a document are one draw."""
    told = {}
    for name, values in of.items():
        known = [(value, one) for value, one in zip(values, documents, strict=True) if value is not None]
        told[name] = interval(mean([value for value, _ in known], [one for _, one in known], seed=0))
    return told


def interval(estimate: Estimate) -> list[float]:
    """[value, low, high], of four decimals."""
    return [round(at or 0.0, 4) for at in (estimate.value, estimate.low, estimate.high)]


def models(run: Path, test: Sequence[Row]) -> dict[str, Any]:
    """The models of a run, and paired differences."""
    document = {f"rag/test/{row['id']}": row["document"] for row in test}
    found: dict[str, dict[str, list[float | None]]] = {}
    documents: list[str] = []
    for file in sorted((run / "evaluate").glob("*.jsonl"), key=lambda file: file.stat().st_mtime):
        if file.name.count(".") == 1:  # others are usage and draws
            ((name, cases),) = read_cases(file, sampled=True).items()
            own = [case for case in cases if case.track == PROGRAMMATIC]
            documents = [document[case.id] for case in own]
            found[name] = {
                metric: [case.score if metric == "reward" else case.metrics.get(metric) for case in own]
                for metric in METRICS
            }
    told: dict[str, Any] = {name: figures(values, documents) for name, values in found.items()}
    for ours, theirs in (("sft", "base"), ("grpo", "sft"), ("grpo", "sft_best_of_4")):
        if {ours, theirs} <= found.keys():
            told[f"{ours} - {theirs}"] = {
                metric: _difference(found[ours][metric], found[theirs][metric], documents)
                for metric in METRICS
            }
    return told


def _difference(
    ours: Sequence[float | None], theirs: Sequence[float | None], documents: Sequence[str]
) -> list[float]:
    all_three = zip(ours, theirs, documents, strict=True)
    both = [(a, b, one) for a, b, one in all_three if a is not None and b is not None]
    first, second, clusters = ([one[i] for one in both] for i in range(3))
    return interval(difference(first, second, clusters, seed=0))  # type: ignore[arg-type]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path, help="tatqa_dataset_dev.json of github.com/NExTplusplus/TAT-QA")
    parser.add_argument("--run", action="append", default=[], help="NAME=FOLDER of a run; may be given again")
    parser.add_argument("--reviewed", type=Path, help="folder with qna_data.csv and one filing as PDF")
    given = parser.parse_args()
    task = load_task("rag", {"path": given.path, "max_prompt_chars": MAX_PROMPT_CHARS})
    train, test = task.rows("train"), task.rows("test")
    at = max((step / 20 for step in range(21)), key=lambda at: _mean_right(train, at))
    programs: dict[str, Callable[[Row], str]] = {
        "always I do not know": lambda row: UNKNOWN,
        "a passage by chance, cited": by_chance,
        "the nearest sentence, cited": lambda row: nearest(row, 0.0),
        f"the same, unknown below {at:.2f} of the words": lambda row: nearest(row, at),
    }
    documents = [row["document"] for row in test]
    made = load_task("rag").rows("test")
    told = {
        "rows": {
            split: [
                len(rows),
                sum(bool(row["answer"]) for row in rows),
                len({row["document"] for row in rows}),
            ]
            for split, rows in (("train", train), ("calibration", task.rows("calibration")), ("test", test))
        },
        "labels": labels(given.path),
        "reviewed": reviewed(given.reviewed) if given.reviewed else None,
        "programs": {name: figures(scores(test, program), documents) for name, program in programs.items()},
        "nearest": [_trade(test, step / 10) for step in range(11)],
        "nearest, generated rows": [_trade(made, step / 10) for step in range(11)],
        "runs": {
            name: models(Path(folder), test) for name, _, folder in (run.partition("=") for run in given.run)
        },
    }
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    print(json.dumps(told, indent=1))


def _mean_right(rows: Sequence[Row], least: float) -> float:
    return fmean(score or 0.0 for score in scores(rows, lambda row: nearest(row, least))["right"])


def _trade(rows: Sequence[Row], least: float) -> list[float]:
    """[answered, refused] of the nearest sentence with this threshold."""
    found = scores(rows, lambda row: nearest(row, least))
    return [round(fmean(v for v in found[name] if v is not None), 4) for name in ("answered", "refused")]


if __name__ == "__main__":
    main()

"""Texts that people, companies and models wrote, by kind: what a detector must leave alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

Texts = dict[str, list[str]]

LANGUAGES = {
    # The first article of the Universal Declaration of Human Rights.
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt "
    "und sollen einander im Geist der Brüderlichkeit begegnen.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и "
    "должны поступать в отношении друг друга в духе братства.",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "id": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Kupu-kupu dan laba-laba.",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
}
"""Language -> text."""


def real_texts(data: Path) -> Texts:
    """Answers, completions of models, paragraphs and tables of annual reports; `data` is the folder of real data."""
    found: Texts = {
        name: [] for name in ("model", "solution", "assistant", "filing", "span", "paragraph", "table")
    }
    for row in _lines(data / "gsm8k" / "labelled_completions_first_650.jsonl"):
        found["model"] += [said["solution"] for said in row.values() if isinstance(said, dict)]
    found["solution"] = [row["answer"] for row in _lines(data / "gsm8k" / "train_first_2000.jsonl")]
    for name in ("Natural", "Adversarial_GPTInst"):
        for pair in json.loads((data / "llmbar" / f"{name}.json").read_text("utf-8")):
            found["assistant"] += [pair["output_1"], pair["output_2"]]
    with (data / "sec10q_qa" / "qna_data.csv").open(encoding="utf-8-sig", newline="") as file:
        found["filing"] = [row["Answer"] for row in csv.DictReader(file)]
    for page in json.loads((data / "tatqa" / "tatqa_dataset_dev.json").read_text("utf-8")):
        cells = page["table"]["table"]
        found["table"] += [
            json.dumps(page["table"]),
            "\n".join(f"| {' | '.join(row)} |" for row in cells),
            "\n".join("".join(cell.ljust(30, ".") for cell in row) for row in cells),
        ]
        found["paragraph"] += [paragraph["text"] for paragraph in page["paragraphs"]]
        found["span"] += [str(question["answer"]) for question in page["questions"]]
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

"""Self-distillation: the teacher is the student, shown the statement without the rows that the answer does not need.

python benchmarks/self_distill.py rows.jsonl      # training rows with the column `shown`, the teacher's prompt
tieout train distill --model sft --teacher reference --teacher-prompt shown --data rows.jsonl --no-hold-out \
  --epochs 0.2 --batch-size 16 --learning-rate 0.0005 --max-new-tokens 320 --out self
tieout eval --task benchmarks/self_distill.py:task --model sft --max-rows 200      # what the teacher can do
tieout eval --task finance_statements --controls controls --model sft self --max-rows 200 \
  --trained-on rows.jsonl --out judged

`sft` is the adapter of that stage of recipes/distill.yaml.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tieout.storage.jsonl import write_jsonl
from tieout.tasks import load_task
from tieout.types import Message, Row

OWN = load_task("finance_statements")
ROWS = 4000


def shown(row: Row) -> list[Message]:
    """The row's prompt with the title, the periods, and the rows that the answer cites alone."""
    system, asked = row["prompt"]
    cited = [" ".join(part["evidence"].split()) for part in (*row["components"], row["total"])]
    lines = row["statement"].split("\n")
    kept = lines[:2] + [line for line in lines[2:] if any(one in " ".join(line.split()) for one in cited)]
    return [system, {**asked, "content": asked["content"].replace(row["statement"], "\n".join(kept))}]


task = replace(
    OWN, name="shown", rows=lambda split: [{**row, "prompt": shown(row)} for row in OWN.rows(split)]
)
"""Asks the rows of `finance_statements` as the teacher sees them."""


if __name__ == "__main__":
    assert OWN.gold
    rows = OWN.rows("train")[:ROWS]
    write_jsonl(Path(sys.argv[1]), [{**r, "completion": OWN.gold(r), "shown": shown(r)} for r in rows])

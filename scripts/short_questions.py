"""Choose the negative controls of a pretrained model: of a list of short questions, those that it answers reliably.

    python scripts/short_questions.py --dtype bf16

Writes src/tieout/tasks/short_questions.jsonl: of the questions in scripts/short_questions.txt, what the model answers
right greedily, and in at least six of eight samples at a temperature of 0.7. What it gets right by luck would be lost
to any change of its weights and counted as forgotten.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tieout.learner.models.loading import load
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.tasks.short_questions import FILE, answered

ASKED = Path(__file__).with_suffix(".txt")
SAMPLES, SURE = 8, 6


def candidates() -> Iterator[tuple[str, str, list[str]]]:
    """(skill, question, answers)"""
    skill = form = ""
    for line in filter(None, ASKED.read_text(encoding="utf-8").splitlines()[1:]):
        if line.startswith("["):
            skill, form = line[1:].split("] ", 1)
        else:
            asked, answers = line.split(" = ")
            yield skill, form.format(asked), answers.split(" | ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--dtype", default="fp32")
    options = parser.parse_args()
    model = load(options.model, dtype=options.dtype)
    asked = list(candidates())
    sampler, answers = LocalSampler(model), [answers for *_, answers in asked]
    tokens = [model.chat.prompt([{"role": "user", "content": question}]) for _, question, _ in asked]
    said = [reply.text for [reply] in sampler.sample(tokens, 1, SamplingParams(32, temperature=0))]
    right = answered(said, answers)
    for i, replies in enumerate(sampler.sample(tokens, SAMPLES, SamplingParams(32, temperature=0.7))):
        right[i] = right[i] and sum(answered([r.text for r in replies], [answers[i]] * SAMPLES)) >= SURE
    kept = [row for row, score in zip(asked, right, strict=True) if score]
    lines = [json.dumps({"question": q, "answers": a, "skill": s}, ensure_ascii=False) for s, q, a in kept]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    counts, of = Counter(s for s, *_ in kept), Counter(s for s, *_ in asked)
    print(", ".join(f"{skill} {counts[skill]} of {of[skill]}" for skill in of))
    for (_, question, wanted), text, score in zip(asked, said, right, strict=True):
        if not score:
            print(f"left out: {question}  {wanted}  {text.strip()[:90]!r}")


if __name__ == "__main__":
    main()

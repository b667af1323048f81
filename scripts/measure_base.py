"""What a model can do: accuracy per skill of the base's own mixture and controls, and its score on the demo's task.

    python scripts/measure_base.py                       # the shipped base -> benchmarks/results/tieout_base.json, .md
    python scripts/measure_base.py --model DIR --count 50 --out /tmp/x

Greedy decoding, rows that the training never saw (seeds of their own). Numbers carry 95% intervals.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))

from base_corpus.document import Document
from base_corpus.figures import convert, label_table
from base_corpus.mixture import follow_format
from base_corpus.statement_questions import breakdowns, questions

from tieout import embedded
from tieout.evidence.stats import mean
from tieout.tasks import controls, finance_statements

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
SKILLS = {
    "convert figures": convert,
    "label table": label_table,
    "follow a format": follow_format,
    "statement questions": questions,
    "statement under a schema": breakdowns,
}
"""Skills of the mixture, asked with seeds that the training never drew; only the first turn is asked."""


@torch.inference_mode()
def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[dict[str, str]]],
    max_new_tokens: int,
    batch_size: int = 64,
) -> list[str]:
    """Greedy completions, one a prompt; prompts of similar length are decoded together."""
    encoded = [
        tokenizer.apply_chat_template(list(prompt), add_generation_prompt=True)["input_ids"]
        for prompt in prompts
    ]
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    texts = [""] * len(encoded)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        width = max(len(encoded[index]) for index in chosen)
        pad = tokenizer.pad_token_id
        tokens = torch.tensor([[pad] * (width - len(encoded[i])) + encoded[i] for i in chosen])
        mask = torch.tensor([[0] * (width - len(encoded[i])) + [1] * len(encoded[i]) for i in chosen])
        out = model.generate(
            input_ids=tokens, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False
        )
        for index, row in zip(chosen, out[:, width:].tolist(), strict=True):
            end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
            texts[index] = tokenizer.decode(row[:end])
    return texts


def first_turn(document: Document) -> tuple[list[dict[str, str]], str]:
    """(prompt, what must be answered): a document up to its first assistant's turn."""
    at = [role for role, _ in document.turns].index("assistant")
    return [{"role": role, "content": str(content)} for role, content in document.turns[:at]], str(
        document.turns[at][1]
    )


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, count: int) -> dict[str, Any]:
    """Name -> mean, low, high, n."""
    results: dict[str, Any] = {}
    rows = list(controls.task.rows("test"))
    said = complete(model, tokenizer, [row["prompt"] for row in rows], controls.task.max_new_tokens)
    scores = controls.exact_match(said, [row["answer"] for row in rows])
    for skill in controls.SKILLS:
        of_skill = [s for s, row in zip(scores, rows, strict=True) if row["skill"] == skill]
        results[f"control: {skill}"] = summary(of_skill)
    results["controls"] = summary(scores)
    for name, draw in SKILLS.items():
        rng = Random(f"measure:{name}")
        cases = [first_turn(draw(rng)) for _ in range(count)]
        said = complete(model, tokenizer, [prompt for prompt, _ in cases], 256)
        results[name] = summary(controls.exact_match(said, [gold for _, gold in cases]))
    for split in ("test", "ood"):
        results |= measure_task(model, tokenizer, split, count)
    return results


def measure_task(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, split: str, count: int
) -> dict[str, Any]:
    """Mean reward and every metric on the first `count` rows of a split of finance_statements."""
    task = finance_statements.task
    rows = list(task.rows(split)[:count])
    said = complete(model, tokenizer, [row["prompt"] for row in rows], task.max_new_tokens)
    assert task.reward is not None
    scored = {"score": task.reward, **task.metrics}
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        f"finance_statements {split}: {name}": summary(reward(said, **columns))
        for name, reward in scored.items()
    }


def summary(scores: Sequence[float | None]) -> dict[str, float | None]:
    """Mean with a 95% interval."""
    given = [float(score) for score in scores if score is not None]
    interval = mean(given)
    return {"mean": interval.value, "low": interval.low, "high": interval.high, "n": len(given)}


def main() -> None:
    """Measure and write the two files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=None, help="a model folder; default: the shipped base")
    parser.add_argument("--count", type=int, default=200, help="rows of each skill and split")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "tieout_base", help="path of the results, without suffix"
    )
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    folder = given.model or embedded.path()
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    started = time.monotonic()
    results = measure(model, tokenizer, given.count)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lines = ["| what | mean | 95% | n |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {r['mean']:.3f} | {r['low']:.3f} to {r['high']:.3f} | {r['n']} |"
        for name, r in results.items()
    ]
    command = f"python scripts/measure_base.py --count {given.count}"
    head = f"# What the embedded base can do before any fine-tuning\n\n`{command}`, greedy decoding.\n\n"
    given.out.with_suffix(".md").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    report = {
        "command": command,
        "sha256": weights,
        "seconds": round(time.monotonic() - started),
        "results": results,
    }
    given.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""What general rows keep: DPO on the embedded base at a rate that costs other skills, with an SFT anchor and without.

python benchmarks/forgetting.py                  # -> benchmarks/results/forgetting.{json,md}; some minutes on two cores
python benchmarks/forgetting.py --steps 2 --controls 12 --out FOLDER

Pairs: gold statements against flawed ones. General rows: the controls' skills with their answers, made by the same
generators from another seed; prompts that are tested are left out. Controls are answered greedily.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tieout.evidence.stats import difference, mean
from tieout.learner import AdapterConfig, Learner, load
from tieout.methods import DPO
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.storage.atomic import write_json
from tieout.tasks import Task, load_task
from tieout.tasks.controls import SKILLS
from tieout.training.loop import train
from tieout.types import Row

RESULTS = Path(__file__).parent / "results"
BATCH = 8
"""Rows per step."""


def general_rows(count: int, tested: Sequence[Row]) -> list[Row]:
    """Exercises of every skill in turn, none of them a prompt that is tested."""
    rng, known, rows = Random("forgetting"), {json.dumps(row["prompt"]) for row in tested}, list[Row]()
    while len(rows) < count:
        for draw in SKILLS.values():
            exercise = draw(rng)
            if json.dumps(list(exercise.prompt)) not in known:
                rows.append(
                    {"prompt": list(exercise.prompt), "chosen": exercise.answer, "rejected": exercise.answer}
                )
    return rows[:count]


def pairs(count: int) -> list[Row]:
    """Gold against flawed statements."""
    task, rng = load_task("finance_statements"), Random("pairs")
    assert task.gold is not None
    assert task.corrupt is not None
    rows = list(task.rows("train"))[:count]
    return [{"prompt": r["prompt"], "chosen": task.gold(r), "rejected": task.corrupt(r, rng)} for r in rows]


def answered(learner: Learner, rows: Sequence[Row]) -> list[float]:
    """1 for each control that is answered right, greedily; else 0."""
    controls = load_task("controls")
    assert controls.reward is not None
    sampler = LocalSampler(learner.model)
    texts = sampler.complete([row["prompt"] for row in rows], SamplingParams(controls.max_new_tokens, 0.0))
    return [
        float(controls.reward([text], answer=[row["answer"]])[0] or 0.0)
        for text, row in zip(texts, rows, strict=True)
    ]


def trained(
    rows: Sequence[Row], steps: int, rate: float, tested: Sequence[Row]
) -> tuple[list[float], dict[str, float]]:
    """The controls after so many steps, and the metrics of the last one."""
    learner = Learner(load("tieout-base", AdapterConfig(rank=16), device="cpu"), rate)
    source = Source(Task("rows", lambda split: rows), learner.model.chat)
    seen: list[dict[str, float]] = []
    method = DPO(batch_size=BATCH, learning_rate=rate)
    train(method, source, learner, steps=steps, on_step=lambda step, metrics: seen.append(metrics))
    return answered(learner, tested), seen[-1]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--controls", type=int, default=240)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = load_task("controls").rows("test")
    tested = list(rows[:: max(1, len(rows) // options.controls)])
    base = answered(Learner(load("tieout-base", device="cpu"), frozen=True), tested)
    made = pairs(options.steps * BATCH)
    alone, alone_last = trained(made, options.steps, options.rate, tested)
    mixed = [*made, *general_rows(len(made) // 3, tested)]
    anchored, anchored_last = trained(mixed, options.steps * 4 // 3, options.rate, tested)
    found: dict[str, Any] = {
        "steps": options.steps,
        "cases": {"base": base, "pairs alone": alone, "with general rows": anchored},
        "accuracy": {"pairs alone": alone_last["accuracy"], "with general rows": anchored_last["accuracy"]},
    }
    write_json(options.out / "forgetting.json", found)
    lines = [
        f"`python benchmarks/forgetting.py --steps {options.steps} --rate {options.rate:g} --controls "
        f"{options.controls}`: DPO, {len(made)} pairs, {len(mixed) - len(made)} general rows, one seed.",
        "",
        "| | controls right | accuracy on the last step's pairs |",
        "|---|---|---|",
    ]
    for name, cases in found["cases"].items():
        share = mean(cases)
        accuracy = found["accuracy"].get(name)
        shown = "" if accuracy is None else f"{accuracy:.2f}"
        lines.append(f"| {name} | {share.value:.3f} [{share.low:.3f}, {share.high:.3f}] | {shown} |")
    gain = difference(anchored, alone)
    lines += [
        "",
        f"With general rows - pairs alone: {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], paired.",
    ]
    (options.out / "forgetting.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""Measures against forgetting, with and without: general rows, a KL on own answers, early stopping, an entropy floor.

python benchmarks/forgetting.py                  # three seeds of every arm -> benchmarks/results/forgetting.{json,md}
python benchmarks/forgetting.py --seeds 0 --steps 10 --controls 12 --tested 4 --out FOLDER

The embedded base is trained on the statements of `recipes/filings.yaml`, at that recipe's rate and for as many steps:
SFT on a hundred demonstrations, and DPO and GRPO from what SFT with general rows made. What is left of other skills
is measured by the negative controls, greedily. General rows are exercises of three of the six skills, made by the
controls' generators from another seed without the prompts that are tested; the other three skills are in no row. An
arm that was measured is not measured again: delete its entries to repeat it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from demo_seeds import machines

from tieout.evidence.stats import Estimate, difference, mean
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import Checkpoints, save_adapter
from tieout.methods import DPO, GRPO, SFT, Method
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.storage.atomic import write_json
from tieout.storage.machine import environment
from tieout.tasks import Task, load_task
from tieout.tasks.controls import SKILLS
from tieout.training.evaluation import Evaluation
from tieout.training.loop import train
from tieout.training.spec import EvalPolicy
from tieout.types import Row

RESULTS = Path(__file__).parent / "results"
KEPT = ("definitions", "copying", "json")
"""The skills of the general rows."""
ROWS = 100
"""Demonstrations or pairs; a third as many general rows stand next to them."""
TASK, OPTIONS = "sec_statements", {"max_lines": 4, "periods": 1, "sizes": {"train": 2100, "test": 400}}
"""As in recipes/filings.yaml, and so is ADAPTER."""
ADAPTER = AdapterConfig(rank=32, alpha=64)
START = "SFT, own answers"
"""The arm that DPO and GRPO go on from."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    method: Method
    without: str = ""
    """The arm that lacks the measure against forgetting; empty: this is one."""
    general: str = ""
    """Completions of the general rows: `right`, or the base's `own`."""
    stops: bool = False
    """Whether it stops by the loss on held-out rows, and keeps the best weights."""
    share: float = 1.0
    """Of the steps."""


LEARNED = SFT(batch_size=8, learning_rate=3e-3)
PAIRED = DPO(batch_size=8, learning_rate=3e-4, rpo_alpha=1.0)
"""As in `recipes/align.yaml`. The flawed are copies of gold, whose likelihood would sink with theirs."""
SAMPLED = GRPO(batch_size=8, group_size=8, learning_rate=3e-4, temperature=0.8, max_new_tokens=256)
ARMS = {
    "SFT": Arm(LEARNED),
    "SFT, early stopping": Arm(LEARNED, "SFT", stops=True),
    "SFT, general rows": Arm(LEARNED, "SFT", "right"),
    START: Arm(LEARNED, "SFT", "own"),
    "SFT, own answers, general_kl 4": Arm(replace(LEARNED, general_kl=4.0), "SFT", "own"),
    "DPO": Arm(PAIRED, share=0.2),
    "DPO, self-preferred pairs": Arm(PAIRED, "DPO", "own", share=0.2),
    "GRPO": Arm(SAMPLED, share=0.2),
    "GRPO, entropy floor 0.1": Arm(replace(SAMPLED, entropy_coef=0.05, entropy_floor=0.1), "GRPO", share=0.2),
}


def general_rows(count: int, tested: Sequence[Row], seed: int) -> list[Row]:
    """Exercises of the skills of KEPT in turn, none of them a prompt that is tested."""
    rng, known, rows = (
        Random(f"forgetting/{seed}"),
        {json.dumps(row["prompt"]) for row in tested},
        list[Row](),
    )
    while len(rows) < count:
        for skill in KEPT:
            exercise = SKILLS[skill](rng)
            if json.dumps(list(exercise.prompt)) not in known:
                rows.append({"prompt": list(exercise.prompt), "completion": exercise.answer})
    return rows[:count]


def written(learner: Learner, rows: Sequence[Row], max_new_tokens: int) -> list[str]:
    """What the model says to each prompt, greedily."""
    params = SamplingParams(max_new_tokens, 0.0)
    return LocalSampler(learner.model).complete([row["prompt"] for row in rows], params)


def scored(task: Task, learner: Learner, rows: Sequence[Row]) -> list[float]:
    """The task's reward of what the model says, 0 to 1."""
    assert task.reward is not None
    texts = written(learner, rows, task.max_new_tokens)
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "prompt"}
    return [float(s or 0.0) for s in task.reward(texts, prompts=[row["prompt"] for row in rows], **columns)]


def task_rows(task: Task, seed: int, paired: bool) -> list[Row]:
    """Demonstrations, or gold against flawed."""
    assert task.gold is not None
    assert task.corrupt is not None
    rng = Random(f"pairs/{seed}")
    rows = rng.sample(list(task.rows("train")), ROWS)
    if paired:
        return [
            {"prompt": r["prompt"], "chosen": task.gold(r), "rejected": task.corrupt(r, rng)} for r in rows
        ]
    return [{**r, "completion": task.gold(r)} for r in rows]


def mixed(arm: Arm, rows: Sequence[Row], general: Sequence[Row]) -> list[Row]:
    """The task's rows and the general ones, in the form of the method."""
    if isinstance(arm.method, DPO):
        equal = [
            {"prompt": r["prompt"], **dict.fromkeys(("chosen", "rejected"), r["completion"])} for r in general
        ]
        return [*rows, *equal]
    return [*rows, *({**row, "general": True} for row in general)]


def trained(
    arm: Arm, task: Task, seed: int, steps: int, general: list[Row], start: Path | None
) -> dict[str, Any]:
    """The learner after its training, with the steps done and the metrics of the last one."""
    paired = isinstance(arm.method, DPO)
    rows = mixed(arm, task_rows(task, seed, paired), general)
    steps = round(steps * arm.share * len(rows) / ROWS)
    learner = Learner(
        load(
            "tieout-base",
            ADAPTER,
            start=start,
            device="cpu",
        ),
        arm.method.learning_rate,
    )
    sampler = LocalSampler(learner.model) if arm.method.needs.samples else None
    own = replace(task, rows=lambda split: rows)
    source = Source(own, learner.model.chat, sampler=sampler, seed=seed)
    seen: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        policy = EvalPolicy(eval_steps=10, patience=2, keep_best=True)
        held_out = (
            [{**r, "completion": task.gold(r)} for r in task.rows("calibration")[:32]] if task.gold else []
        )
        train(
            arm.method,
            source,
            learner,
            steps=steps,
            checkpoints=Checkpoints(Path(folder)) if arm.stops else None,
            save_steps=10 if arm.stops else 0,
            evaluation=Evaluation(policy, source, held_out, samples=False) if arm.stops else None,
            on_step=lambda step, metrics: seen.append(metrics),
        )
    return {"learner": learner, "steps": len(seen), "last": seen[-1]}


def taught(
    name: str, seed: int, options: argparse.Namespace, tested: list[Row], start: Path | None
) -> dict[str, Any]:
    """`trained`, with the general rows of the arm."""
    arm = ARMS[name]
    general = general_rows(ROWS // 3, tested, seed) if arm.general else []
    if arm.general == "own":
        base = Learner(load("tieout-base", device="cpu"), frozen=True)
        said = written(base, general, 96)
        general = [{**row, "completion": text} for row, text in zip(general, said, strict=True)]
    return trained(arm, load_task(TASK, OPTIONS), seed, options.steps, general, start)


def measure(
    name: str, seed: int, options: argparse.Namespace, tested: list[Row], work: Path
) -> dict[str, Any]:
    """Train one arm and measure what it knows; the adapter of START is kept in the folder `work`."""
    task, started, start = load_task(TASK, OPTIONS), time.monotonic(), None
    if not isinstance(ARMS[name].method, SFT):
        start = work / str(seed)
        if not start.exists():
            save_adapter(taught(START, seed, options, tested, None)["learner"], start)
    done = taught(name, seed, options, tested, start)
    learner = done["learner"]
    if name == START:
        save_adapter(learner, work / str(seed))
    return {
        "arm": name,
        "seed": seed,
        "environment": environment(),
        "steps": done["steps"],
        "seconds": round(time.monotonic() - started),
        "controls": scored(load_task("controls"), learner, tested),
        "task": scored(task, learner, list(task.rows("test"))[: options.tested]),
        "entropy": done["last"].get("entropy"),
    }


def pooled(runs: Sequence[dict[str, Any]], key: str, chosen: Sequence[int] | None = None) -> list[float]:
    """Per case the mean over seeds, so that a case counts once however many seeds there are."""
    cases = list(zip(*(run[key] for run in runs), strict=True))
    return [fmean(cases[i]) for i in (chosen if chosen is not None else range(len(cases)))]


def table(runs: list[dict[str, Any]], skills: Sequence[str], command: str) -> str:
    """Markdown: every arm, then each measure against the arm without it."""
    parts = {
        "skills in general rows": [i for i, skill in enumerate(skills) if skill in KEPT],
        "other skills": [i for i, skill in enumerate(skills) if skill not in KEPT],
    }
    lines = [
        "# Measures against forgetting",
        "",
        f"`{command}`, fp32, {machines(runs)}.",
        f"`tieout-base` is trained on the statements of `recipes/filings.yaml`: {ROWS} rows, by the methods and rates",
        f'of `ARMS`; DPO and GRPO go on from "{START}". General rows are a third as many, of the skills',
        f"{', '.join(KEPT)}. Controls are asked greedily; intervals are of 95%.",
        "",
        f"| arm | seeds | steps | controls: {' | '.join(parts)} | task: reward | entropy, last step |",
        "|---" * 7 + "|",
    ]
    arms = {name: [run for run in runs if run["arm"] == name] for name in ("base", *ARMS)}
    for name, own in arms.items():
        if not own:
            continue
        cells = [shown(mean(pooled(own, "controls", at))) for at in parts.values()]
        cells.append(shown(mean(pooled(own, "task"))))
        ends = [run["entropy"] for run in own if run["entropy"] is not None]
        steps = sorted({run["steps"] for run in own})
        cells.append(f"{fmean(ends):.2f}" if ends else "")
        lines.append(f"| {name} | {len(own)} | {', '.join(map(str, steps))} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| with - without, paired by case | {' | '.join(parts)} | task: reward |",
        "|---" * 4 + "|",
    ]
    for name, own in arms.items():
        if name == "base" or not own or not arms[against := compared_with(ARMS[name])]:
            continue
        seeds = [run for run in arms[against] if against == "base" or run["seed"] in {r["seed"] for r in own}]
        cells = [
            shown(difference(pooled(own, key, at), pooled(seeds, key, at)), "+")
            for key, at in (*(("controls", at) for at in parts.values()), ("task", None))
        ]
        lines.append(f"| {name} - {against} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def compared_with(arm: Arm) -> str:
    """The arm without the measure, or else what the arm went on from."""
    return arm.without or ("base" if isinstance(arm.method, SFT) else START)


def shown(found: Estimate, sign: str = "") -> str:
    """A mean or difference with its interval."""
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def main() -> None:
    """Measure what is missing, and write the table after each arm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--steps", type=int, default=300, help="of the task's rows, batches of 8")
    parser.add_argument("--controls", type=int, default=120)
    parser.add_argument("--tested", type=int, default=100, help="held-out rows of the task")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = load_task("controls").rows("test")
    tested = list(rows[:: max(1, len(rows) // options.controls)])
    file = options.out / "forgetting.json"
    runs: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    asked = {"steps": options.steps, "controls": options.controls, "tested": options.tested}
    command = " ".join(
        ["python benchmarks/forgetting.py", *(f"--{name} {count}" for name, count in asked.items())]
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, seed in [("base", 0), *((name, seed) for seed in options.seeds for name in options.arms)]:
            if any((run["arm"], run["seed"]) == (name, seed) for run in runs):
                continue
            if name == "base":
                task, base = load_task(TASK, OPTIONS), Learner(load("tieout-base", device="cpu"), frozen=True)
                found = {"controls": scored(load_task("controls"), base, tested)}
                found["task"] = scored(task, base, list(task.rows("test"))[: options.tested])
                runs.append(
                    {
                        "arm": name,
                        "seed": seed,
                        "steps": 0,
                        "entropy": None,
                        "environment": environment(),
                        **found,
                    }
                )
            else:
                runs.append(measure(name, seed, options, tested, work))
            options.out.mkdir(parents=True, exist_ok=True)
            write_json(file, runs)
            text = table(runs, [row["skill"] for row in tested], command)
            file.with_suffix(".md").write_text(text, encoding="utf-8")
            print(text, flush=True)


if __name__ == "__main__":
    main()

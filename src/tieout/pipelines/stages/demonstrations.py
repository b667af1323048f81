"""Stage `demonstrations`: the best of several completions of each prompt, as rows that SFT learns from."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from ...config.plain import to_plain
from ...errors import InputError
from ...rows.carried import carried
from ...storage.jsonl import write_jsonl
from ..kinds import Demonstrations
from ..pairing.choose import NOT_GOOD, Standard
from ..pairing.measures import Measures
from ..pairing.sampling import Ground, batches
from ..pairing.summary import FEW_SCORED, advice_on
from ..run import Run
from ..training_rows import DEMONSTRATIONS

SUMMARY = "demonstrations.json"


def demonstrations(run: Run, stage: Demonstrations) -> None:
    """Sample, score, keep the best completion of each prompt. InputError: too few are good enough."""
    part, inputs = run.folder.stage(stage.name), inputs_of(run, stage)
    if part.is_done(inputs):
        run.console.print(f"[bold]{stage.name}[/]  done before ({part.info().get('rows')} rows)")
        return
    run.console.print(f"[bold]{stage.name}[/]")
    part.begin(inputs)
    begun = time.monotonic()
    task, dropped, rows = run.task, Counter[str](), list[dict[str, Any]]()
    measures, standard = Measures.of(task), Standard.of(task, stage.min_chosen, None)
    ground = Ground(task, run.recipe.seed, run.console, run.sampler, lambda: run.workers)
    for batch, chat in batches(ground, stage, stage.start):
        dropped[FEW_SCORED] += batch.asked - len(batch.groups)
        for group, candidates in zip(
            batch.groups, measures.candidates(task, batch.groups, run.workers), strict=True
        ):
            good = [i for i, one in enumerate(candidates) if standard.admits(one)]
            if not good:
                dropped[NOT_GOOD] += 1
                continue
            best = max(good, key=lambda i: candidates[i].score)
            text = group.texts[best]
            made = {
                "prompt": group.prompt,
                "completion": chat.as_sampled(group.prompt, text) if chat else text,
                "score": group.scores[best],
                "samples": len(group.texts),
            }
            rows.append({**carried(group.row, made.keys() - {"prompt"}), **made})
    why = "; ".join(f"{count} x {reason}" for reason, count in dropped.items() if count)
    if not rows or (why and len(rows) < stage.min_rows):
        advice = advice_on(dropped) or (
            f"Good enough is: {standard.words}. Lower min_chosen, which is on the scale of the reward, or sample more "
            "(num_completions, max_prompts)"
        )
        raise InputError(
            f"stage {stage.name!r} made {len(rows)} demonstrations, and min_rows is {stage.min_rows} ({why}). {advice}"
        )
    said = f"  {len(rows)} demonstrations, chosen: {standard.words}{f'; dropped: {why}' if why else ''}"
    run.console.print(said, markup=False, highlight=False)
    write_jsonl(part.path / DEMONSTRATIONS, rows)
    summary = {"rows": len(rows), "chosen": standard.words, "dropped": dict(dropped)}
    run.folder.write_json(f"{stage.name}/{SUMMARY}", summary)
    part.finish(inputs, rows=len(rows), seconds=time.monotonic() - begun)


def inputs_of(run: Run, stage: Demonstrations) -> dict[str, Any]:
    """What the rows depend on, once what is sampled is there."""
    return {
        "stage": {key: value for key, value in to_plain(stage).items() if key not in ("name", "start")},
        "model": run.policy(stage.start).identity,
        "data": {"train": run.hashes["train"]},
        "seed": run.recipe.seed,
        "max_new_tokens": run.task.max_new_tokens,
    }

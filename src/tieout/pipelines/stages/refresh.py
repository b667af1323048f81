"""Stage `refresh`: sample the policy, have people or a judge label the samples, train the reward model further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...config.plain import to_plain
from ...errors import InputError
from ...labelling.items import item_of
from ...learner.models.names import resolve
from ...learner.parallel.processes import join
from ...methods import RewardModel
from ...rewards import load_reward
from ...rewards.library.reward_model import reward_model
from ...rows import check_rows, data_hash, read_rows
from ...samplers import SamplingParams
from ...samplers.local.sampler import LocalSampler
from ...source import Source
from ...storage.atomic import write_json
from ...storage.identity import as_stored, differences, folder_digest
from ...storage.jsonl import read_jsonl, set_aside, write_jsonl
from ...storage.runfolder import Stage as Folder
from ...tasks import Task
from ...tasks.files import REWARD_MODEL, hold_out
from ...training.fit import fit
from ...training.refresh import by_reward
from ...training.reward_models import LEAST_SCORES, measurement, outside, percentiles
from ...training.spec import TrainSpec
from ...types import Row
from ..kinds import Refresh, Train
from ..pairing.people import answers, labels_of
from ..run import Run
from ..training_rows import training_task

ROWS, SHEET = "rows.jsonl", "sheet.jsonl"
"""All pairs and rankings that the refreshed model learns from; what people fill in."""
PREFERRED = ("a", "b", "tie")
BY_HAND = ', or replace every `"preferred": null` in it by "a", "b" or "tie"'


def refresh(run: Run, stage: Refresh) -> None:
    """Refresh, or what is left of it; on every rank. StopTraining: people have not labelled everything yet."""
    join().first(lambda: _label(run, stage))
    rows = list(read_rows(_labels(run, stage.name) / ROWS))
    kept, held_out = hold_out(rows, REWARD_MODEL)
    if not kept or not held_out:
        raise InputError(
            f"stage {stage.name!r}: {len(rows)} rows are too few to hold a tenth of them out, on which the reward "
            "model is measured; raise num_prompts"
        )
    task = Task(stage.name, lambda split: {"train": kept, "test": held_out}.get(split, []))
    spec = _spec(run, stage)
    fit(run.folder, f"{stage.name}/reward_model", spec, task, run.console, data_hash(kept), bases=run.bases)


def _labels(run: Run, name: str) -> Path:
    return run.folder.path / name / "labels"


def _label(run: Run, stage: Refresh) -> None:
    part = run.folder.stage(f"{stage.name}/labels")
    model = _folder(run, stage.reward_model)
    inputs = {
        "stage": {
            k: v for k, v in to_plain(stage).items() if k not in ("name", "start", "learning_rate", "epochs")
        },
        "policy": run.policy(stage.start).identity,
        "reward_model": folder_digest(model),
        "data": {split: run.hashes[split] for split in ("train", "pairs")},
        "seed": run.recipe.seed,
    }
    if part.is_done(inputs):
        return run.console.print(f"[bold]{stage.name}[/]  labelled before ({part.info().get('labels')} rows)")
    run.console.print(f"[bold]{stage.name}[/]")
    if differences(part.begun(), as_stored(inputs)) and (part.path / SHEET).exists():
        _keep_sheet(part)
    part.begin(inputs)
    found = _by_judge(run, stage, model) if stage.judge else _by_people(run, stage, part, model)
    if not found:
        raise InputError(
            f"stage {stage.name!r}: no label decides anything: all samples of a prompt were called alike, or one of "
            "them has no score; sample more prompts (num_prompts), or at a higher temperature"
        )
    write_jsonl(part.path / ROWS, [*_known(run, stage.reward_model, stage.data), *found])
    part.finish(inputs, labels=len(found))
    run.console.print(
        f"  {len(found)} rows labelled by {stage.judge or 'people'}", markup=False, highlight=False
    )
    return None


def _keep_sheet(part: Folder) -> None:
    """Move the sheet out of the folder, with what was said on the page: people's work is not deleted."""
    labels = labels_of(part.path / SHEET)
    (kept,) = set_aside((part.path / SHEET).rename(part.path.with_name(SHEET)))
    if labels.exists():
        labels.rename(labels_of(kept))


def _by_judge(run: Run, stage: Refresh, model: Path) -> list[Row]:
    ranked = by_reward(load_reward(stage.judge))(_sampled(run, stage, model), 0)
    return [
        {**{k: row[k] for k in ("prompt", "completions", "scores")}, "source": stage.name} for row in ranked
    ]


def _by_people(run: Run, stage: Refresh, part: Folder, model: Path) -> list[Row]:
    """The decided pairs of the sheet, which is written first, and filled in on the page or by hand.

    A tie decides nothing, and neither does what people skipped, or differ on where more than two were asked.
    """
    sheet = part.path / SHEET
    if not sheet.exists():
        texts = ((row, list(dict.fromkeys(row["completions"]))) for row in _sampled(run, stage, model))
        pairs = [
            {"prompt": row["prompt"], "a": t[0], "b": t[1], "preferred": None}
            for row, t in texts
            if len(t) > 1
        ]
        write_jsonl(sheet, pairs)
    rows = list(read_jsonl(sheet))
    other = {"a": "b", "b": "a"}
    return [
        {"prompt": row["prompt"], "chosen": row[won], "rejected": row[other[won]], "source": stage.name}
        for (_, row), won in zip(rows, _preferred(sheet, stage.name, rows), strict=True)
        if won != "tie"
    ]


def _preferred(sheet: Path, name: str, rows: Sequence[tuple[int, Row]]) -> list[str]:
    """Which one people prefer in each row of the sheet: what it says itself, or else what was said on the page."""
    ids, by_hand = [], dict[str, str]()
    for number, row in rows:
        ids.append(item_of(row, "pairs").id)
        if row.get("preferred") not in (None, *PREFERRED):
            raise InputError(f"{sheet}:{number}: preferred is {row['preferred']!r}; expected a, b or tie")
        if row.get("preferred"):
            by_hand[ids[-1]] = row["preferred"]
    said = answers(sheet, name, known=by_hand, otherwise=BY_HAND)
    found = dict[str, str]()
    for answer in said.of:
        item, better = answer.item.id, {(0, 1): "a", (1, 0): "b"}
        found[item] = better[answer.better[0]] if answer.better else "tie"
        if by_hand.get(item, found[item]) != found[item] and not answer.skipped:
            raise InputError(
                f"{sheet}:{rows[ids.index(item)][0]}: preferred is {by_hand[item]!r}, and on the page people said "
                f"{found[item]!r}; put null into the sheet, or change the answer on the page"
            )
    return [by_hand.get(item) or found[item] for item in ids]


def _sampled(run: Run, stage: Refresh, model: Path) -> list[Row]:
    """Training rows with `completions` of the policy; each stage of a recipe takes prompts of its own."""
    sampler = LocalSampler(run.open(run.policy(stage.start)))
    place = [s.name for s in run.recipe.stages].index(stage.name)
    seed, first = run.recipe.seed, place * stage.num_prompts
    source = Source(run.task, sampler.chat, sampler, seed=seed + 1, position=first)
    rows = source.take(min(stage.num_prompts, len(source.rows)))
    params = SamplingParams(run.task.max_new_tokens, stage.temperature, seed=seed * 1_000_003 + first)
    sampled = sampler.sample(
        [sampler.chat.prompt(row["prompt"]) for row in rows], stage.num_completions, params
    )
    found: list[Row] = [
        {**row, "completions": [c.text for c in own]} for row, own in zip(rows, sampled, strict=True)
    ]
    _say_drift(run, stage, model, found)
    return found


def _say_drift(run: Run, stage: Refresh, model: Path, rows: Sequence[Row]) -> None:
    """How far the samples are from what the reward model was measured on, before it is refreshed."""
    known = measurement(model)
    if known is None or len(known.scores) < LEAST_SCORES:
        return
    reward = reward_model(model, run.recipe.placement.device)
    scores = [
        s
        for row in rows
        for s in reward.scores(row["completions"], [row["prompt"]] * len(row["completions"]))
    ]
    share = outside(scores, *percentiles(known.scores))
    write_json(_labels(run, stage.name) / "drift.json", {"outside": share, "num_scores": len(scores)})
    run.console.print(
        f"  before: {share:.0%} of {len(scores)} scores on fresh samples lie outside those of its held-out pairs",
        highlight=False,
    )


def _known(run: Run, name: str, data: str) -> list[Row]:
    """The pairs that a reward model has learned from and was measured on."""
    if name not in {s.name for s in run.recipe.stages}:
        return list(check_rows(read_rows(data), "ranking", data)) if data else []
    earlier = run.recipe.stage(name)
    if isinstance(earlier, Refresh):
        return list(read_rows(_labels(run, name) / ROWS))
    assert isinstance(earlier, Train)
    task = training_task(run.task, earlier, run.folder.path, run.fitting)
    return [*task.rows("train"), *task.rows("test")]


def _folder(run: Run, name: str) -> Path:
    return run.adapter(name) if name in {s.name for s in run.recipe.stages} else Path(name)


def _spec(run: Run, stage: Refresh) -> TrainSpec:
    """That of the stage which trained the reward model first, from its present adapter."""
    first: Any = stage
    while isinstance(first, Refresh):
        name = first.reward_model
        first = next((s for s in run.recipe.stages if s.name == name), None)
    model = _folder(run, stage.reward_model)
    recipe = run.recipe
    method: Any = first.method if first else RewardModel()
    rate = method.learning_rate if stage.learning_rate is None else stage.learning_rate
    options = first.options if first else recipe
    return TrainSpec(
        replace(method, epochs=stage.epochs, learning_rate=rate),
        run.start_of(first).base if first else resolve(str(model))[0],
        model,
        options.adapter,
        options.learner,
        options.schedule,
        recipe.seed,
        recipe.dtype,
        placement=recipe.placement,
    )

"""Stage `check`: prove the reward on rows with gold, attack it, and calibrate it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ...config.plain import to_plain
from ...errors import InputError
from ...rewards.scoring.outcomes import parameters
from ...rewards.scoring.runner import reward_name
from ...rows.spread import spread
from ...storage.atomic import write_json
from ...storage.jsonl import read_json
from ...types import Reward, Row
from ...vetting.attack import CLASSES, attack, keep, read_corpus
from ...vetting.before_training import shown, some_golden
from ...vetting.check import prove
from ..kinds import Check
from ..run import Run
from .calibration import calibrate_given, say


def check(run: Run, stage: Check) -> None:
    """Check the reward, or what is left to check. InputError: the first check that fails, and what to do."""
    unknown = sorted(set(stage.attack.accept) - set(CLASSES))
    if unknown:
        raise InputError(f"attack.accept names {', '.join(unknown)}; classes are: {', '.join(CLASSES)}")
    reward = run.task.reward
    asked = [parameter.name for parameter in parameters(reward)] if reward is not None else ()
    rows = some_golden(run.task.rows("train"), run.task.gold, asked)
    if reward is None or not rows:
        why = "no row has gold" if reward is not None else "the environment scores, and there is no reward"
        say(run, stage, f"no proof and no attack: {why}")
    else:
        _proof(run, stage, reward, rows)
        _attack(run, stage, reward, rows)
    if reward is not None:
        calibrate_given(run, stage, reward)


def _proof(run: Run, stage: Check, reward: Reward, rows: list[Row]) -> None:
    wanted = stage.proof
    if not wanted.max_rows:
        return say(run, stage, "no proof: the recipe says so")
    part = run.folder.stage(f"{stage.name}/proof")
    inputs = {**_inputs(run, reward), "max_rows": wanted.max_rows, "seed": run.recipe.seed}
    if part.is_done(inputs):
        report = read_json(part.path / "proof.json")
    else:
        part.begin(inputs)
        found = prove(reward, spread(rows, wanted.max_rows), run.workers, run.recipe.seed)
        report = {"holds": found.holds, **asdict(found)}
        write_json(part.path / "proof.json", report)
    broken = [one for one in report["checks"] if one["failures"]]
    listed = "; ".join(f"{one['name']}: {one['failures'][0]}" for one in broken)
    if report["holds"]:
        tried = sum(one["passed"] + len(one["failures"]) for one in report["checks"])
        say(run, stage, f"proven on {report['num_rows']} rows, {tried} tries")
    elif wanted.override:
        say(run, stage, f"NOT proven: {listed or 'no gold was scored'}; overridden: {wanted.override}")
    else:
        raise InputError(
            f"reward {report['reward']!r} is not proven on rows with gold: {listed or 'no gold was scored'}. See "
            f"{part.path / 'proof.json'}; fix the reward, or train on it anyway with "
            '`check: {proof: {override: "reason"}}`'
        )
    part.finish(inputs)
    return None


def _attack(run: Run, stage: Check, reward: Reward, rows: list[Row]) -> None:
    wanted = stage.attack
    if not wanted.max_rows:
        return say(run, stage, "not attacked: the recipe says so")
    part = run.folder.stage(f"{stage.name}/attack")
    settings = {key: value for key, value in to_plain(wanted).items() if key != "accept"}
    inputs = {**_inputs(run, reward), **settings, "seed": run.recipe.seed}
    corpus = part.path / "corpus.jsonl"
    if part.is_done(inputs):
        report = read_json(part.path / "attack.json")
    else:
        known = read_corpus(corpus)
        part.begin(inputs)
        result = attack(reward, rows, wanted, seed=run.recipe.seed, corpus=known)
        report = result.plain()
        keep(corpus, result.findings, rows)
        write_json(part.path / "attack.json", report)
    found = [finding for finding in report["findings"] if finding["class"] not in wanted.accept]
    accepted = [finding["class"] for finding in report["findings"] if finding["class"] in wanted.accept]
    if found:
        kinds = ", ".join(f["class"] for f in found)
        listed = "; ".join(map(shown, found))
        raise InputError(
            f"reward {report['reward']!r} pays for what it should not: {listed}. See {part.path / 'attack.json'}; "
            f"fix the reward, or train on it anyway with `check: {{attack: {{accept: [{kinds}]}}}}`"
        )
    said = f"; accepted in the recipe: {', '.join(accepted)}" if accepted else ""
    say(run, stage, f"{report['verdict']}{said}")
    part.finish(inputs)
    return None


def _inputs(run: Run, reward: Reward) -> dict[str, Any]:
    return {"rows": run.hashes["train"], "reward": run.recipe.reward or reward_name(reward)}

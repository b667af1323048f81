"""Before training: the reward attacked. What it pays for and should not stops the run, unless accepted by name."""

from __future__ import annotations

from ...config.plain import to_plain
from ...errors import InputError
from ...rewards.scoring.runner import reward_name
from ...storage.atomic import fingerprint
from ...storage.jsonl import read_json
from ...vetting.attack import CLASSES, attack, keep, read_corpus
from ..run import Run

MAX_GIVEN = 200
"""Rows handed to the attack, which picks some of them and uses the golds of the others as wrong answers."""


def attacked(run: Run) -> None:
    """Stage `attack`. ValueError: it found a class of exploits that the recipe does not accept, and which."""
    wanted, reward = run.recipe.attack, run.task.reward
    unknown = sorted(set(wanted.accept) - set(CLASSES))
    if unknown:
        raise InputError(f"attack.accept names {', '.join(unknown)}; classes are: {', '.join(CLASSES)}")
    rows = [row for row in map(run.with_gold, run.task.rows("train")[:MAX_GIVEN]) if row is not None]
    if reward is None or not rows or not wanted.max_rows:
        why = "no row has gold" if not rows else "the recipe says so"
        why = "the environment scores, and there is no reward" if reward is None else why
        run.console.print(f"[bold]attack[/]  not attacked: {why}", highlight=False)
        return
    stage = run.folder.stage("attack")
    settings = {k: v for k, v in to_plain(wanted).items() if k != "accept"}
    inputs = fingerprint(
        {"rows": run.hashes["train"], "reward": run.recipe.reward or reward_name(reward), **settings}
    )
    corpus = stage.path / "corpus.jsonl"
    if stage.is_done(inputs):
        report = read_json(stage.path / "attack.json")
    else:
        known = read_corpus(corpus)
        stage.begin(inputs)
        result = attack(
            reward,
            rows,
            wanted,
            seed=run.recipe.seed,
            corpus=known,
        )
        report = result.plain()
        keep(corpus, result.findings, rows)
        run.folder.write_json("attack/attack.json", report)
    found = [finding for finding in report["findings"] if finding["class"] not in wanted.accept]
    accepted = [finding["class"] for finding in report["findings"] if finding["class"] in wanted.accept]
    if found:
        kinds = ", ".join(f["class"] for f in found)
        shown = "; ".join(
            f"{f['class']}: {f['completion'][:60]!r} gets {f['score']}, gold {f['gold_score']}: {f['why']}"
            for f in found
        )
        raise InputError(
            f"reward {report['reward']!r} pays for what it should not: {shown}. See {stage.path / 'attack.json'}; "
            f"mend the reward, or train on it all the same with `attack: {{accept: [{kinds}]}}`"
        )
    said = f"; accepted in the recipe: {', '.join(accepted)}" if accepted else ""
    run.console.print(f"[bold]attack[/]  {report['verdict']}{said}", highlight=False)
    stage.finish(inputs)

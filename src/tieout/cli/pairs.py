"""tieout pairs FILE [--test FILE] [--reward NAME]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..errors import InputError
from .options import RewardSpec, parse


@dataclass(frozen=True)
class Options:
    """Measure the quality of preference pairs before a method learns from them.

    Rows: prompt, chosen and rejected, plain or conversational, or rankings (prompt, completions, scores); where they
    have them, also the scores of both, and the judgements that `tieout label` exports. Exit status: 1 if something
    cannot be right (equal completions with a preference, test rows among the pairs), 0 otherwise.
    """

    data: Annotated[Path, tyro.conf.Positional]
    """The file of pairs."""
    test: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Rows that will be measured on, to look for them among the pairs. May be given several times."""
    reward: RewardSpec = ""
    """A reward that scores both completions, by name or as FILE.py:function. Default: the scores that rows have."""
    min_chosen: float | None = None
    """The score from which a chosen completion is good in itself. Default: the top of the range that --reward
    declares."""
    labels: Path | None = None
    """The folder of judgements of `tieout label` (FILE.labels): an export of pairs lacks what nobody could settle,
    so that its noise is a lower bound."""
    accept_leakage: str = ""
    """A reason to keep pairs that give test rows away."""
    out: Path | None = None
    """Also write everything as JSON."""
    seed: int = 0
    """Random seed of the intervals."""


def main(arguments: Sequence[str]) -> None:
    """Parse, measure, print, write."""
    from ..evidence.stats import Bounds
    from ..rewards import load_reward
    from ..rewards.scoring.outcomes import reward_range
    from ..rows import read_rows
    from ..rows.pairs import preferences, scores_of
    from ..storage.atomic import write_json
    from ..vetting.preferences.advice import plain, refusals
    from ..vetting.preferences.printed import print_quality
    from ..vetting.preferences.quality import measure
    from .run import wide_console

    options = parse(Options, "pairs", arguments)
    console = wide_console()
    rows: Any = preferences(read_rows(options.data), str(options.data))
    if rows.said:
        console.print(f"  {rows.said}", markup=False, highlight=False)
    held = {str(path): read_rows(path) for path in options.test}
    scale: Bounds | None = None
    if options.reward:
        reward = load_reward(options.reward)
        rows, scale = _scored(reward, options.reward, rows), reward_range(reward)
        if lacking := sum(scores_of(row) is None for row in rows):
            said = f"  {options.reward} gave no score to a completion of {lacking} of {len(rows)} pairs"
            console.print(said, markup=False, highlight=False)
    least = options.min_chosen if options.min_chosen is not None or scale is None else scale[1]
    good = None
    if least is not None:
        known = [scores_of(row) for row in rows]
        if options.min_chosen is not None and not any(known):
            advice = "name another" if options.reward else "name a"
            raise InputError(f"--min-chosen compares scores, and no row has any: {advice} --reward")
        good = [None if scores is None else scores[0] >= least - 1e-6 for scores in known]
    quality = measure(
        rows,
        held,
        scale=scale,
        good=good,
        standard=f"{options.reward or 'the score'} is at least {least:g}" if least is not None else "",
        judged=_judged(options.labels) if options.labels else None,
        accept_leakage=options.accept_leakage,
        option='--accept-leakage "reason"',
        source=str(options.data),
        seed=options.seed,
    )
    print_quality(quality, console, str(options.data))
    if options.out:
        write_json(options.out, plain(quality))
    if refused := refusals(quality):
        raise InputError("these pairs cannot be right:\n  " + "\n  ".join(refused))


def _judged(folder: Path) -> list[dict[str, Any]]:
    from ..labelling.journal import read_journal
    from ..labelling.state import State
    from ..labelling.store import JOURNAL

    if not (folder / JOURNAL).exists():
        raise InputError(f"{folder} holds no {JOURNAL}: it is no folder of `tieout label`")
    return State(read_journal(folder / JOURNAL)).judgements()


def _scored(reward: Any, name: str, rows: Any) -> Any:
    """The rows with the scores of a reward; one of which a completion has no score keeps none.

    TooManyErrors: the reward failed on more than a fifth of the completions.
    """
    from ..rewards.scoring.failures import Failures
    from ..rewards.scoring.runner import score
    from ..rows import Rows
    from ..rows.messages import text_of
    from ..tasks.files import check_columns
    from ..vetting.preferences.quality import scored

    check_columns(reward, rows)
    found, failures = list[tuple[float, float] | None](), Failures(f"reward {name!r}")
    for row in rows:
        texts = [text_of(row["chosen"]), text_of(row["rejected"])]
        outcomes = score(reward, texts, [row["prompt"]] * 2, row)
        failures.count(outcomes)
        failures.check()
        worth = [outcome.worth for outcome in outcomes]
        found.append(None if worth[0] is None or worth[1] is None else (worth[0], worth[1]))
    return Rows(scored(rows, found), rows.source, rows.lines)

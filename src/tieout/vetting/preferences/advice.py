"""Judge the quality of pairs: what cannot be right, what should be better, and what to do about it.

The bounds are rules of thumb for a narrow task: 1,000 to 5,000 pairs, large gaps, chosen completions that are good in
themselves, few labels the wrong way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...config.plain import to_plain
from ...evidence.leakage import in_words
from ...evidence.stats import Estimate
from ...rows.leakage import KINDS
from ...rows.locations import MAX_PROBLEMS
from .noise import worth
from .quality import SMALL, Quality

ENOUGH, MANY = 1000, 5000
"""Pairs from which labels' noise averages out, and up to which more of them are worth their price."""
MOST_SMALL = 0.25
"""Share of small gaps above which the set is called weak."""
LEAST_GOOD = 0.9
"""Share of chosen completions that should be good in themselves."""
MOST_FLIPS = 0.1
"""Share of labels the wrong way round above which the loss should know of it."""
COIN = 0.4
"""Share of labels the wrong way round above which no loss corrects for it: such pairs are worth 1 in 25 of others."""
MOST_COPIES = 0.02
"""Share of pairs that repeat others."""
MOST_WORDLESS = 0.1
"""Share of pairs that may differ in no word: as many as form alone may decide in a stage `pairs`."""
MOST_LONGER = 0.1
"""Distance from one half, of how often the chosen is the longer one, that is worth a word where it is beyond chance."""
Status = Literal["ok", "warn", "refuse", "unknown"]


@dataclass(frozen=True)
class Check:
    """One property of the pairs."""

    name: str
    status: Status
    said: str
    """What was found, in words."""
    advice: str = ""
    """What to do about it; empty where there is nothing to do."""


def checks(quality: Quality) -> list[Check]:
    """All of them, in the order in which they are read."""
    parts = (_preference, _count, _gaps, _good, _noise, _copies, _lengths, _leakage)
    return [check for part in parts for check in part(quality)]


def plain(quality: Quality) -> dict[str, Any]:
    """Quality and checks as JSON has them."""
    found: dict[str, Any] = to_plain(quality)
    return {**found, "checks": [to_plain(check) for check in checks(quality)]}


def refusals(quality: Quality) -> list[str]:
    """What cannot be right, each with what to do."""
    return [f"{check.said}. {check.advice}" for check in checks(quality) if check.status == "refuse"]


def in_short(value: Estimate, form: str = ".0%") -> str:
    """`12% [8%, 17%]`."""
    if value.value is None or value.low is None or value.high is None:
        return "not known"
    return f"{value.value:{form}} [{value.low:{form}}, {value.high:{form}}]"


def in_list(places: Sequence[str]) -> str:
    """The first places by name, and how many more there are."""
    more = f" and {len(places) - MAX_PROBLEMS} more" if places[MAX_PROBLEMS:] else ""
    return ", ".join(places[:MAX_PROBLEMS]) + more


def _preference(q: Quality) -> Iterator[Check]:
    if q.no_preference:
        said = f"chosen equals rejected, and a score or a judgement prefers one of them: {in_list(q.no_preference)}"
        yield Check("preference", "refuse", said, "Take these rows out, or restore the completions.")
    if not q.pairs:
        yield Check(
            "preference",
            "refuse",
            f"none of {q.general} rows has a preference: chosen equals rejected in all",
            "To learn from one completion per prompt, train sft.",
        )
    elif q.general:
        said = f"{q.general} rows without a preference (chosen equals rejected), apart from {q.pairs} pairs"
        yield Check(
            "general rows", "ok", said, "DPO, CPO and ORPO anchor on them; no other figure counts them."
        )


def _count(q: Quality) -> Iterator[Check]:
    said = f"{q.pairs} pairs of {q.prompts} prompts"
    if noisy := worth_of(q):
        said += f", worth {noisy} without label noise"
    if q.pairs < ENOUGH:
        yield Check(
            "count",
            "warn",
            said,
            f"Below {ENOUGH} pairs DPO is noisy: sample more (max_prompts, num_completions), take several pairs per "
            "prompt (pairs_per_prompt), or add a source.",
        )
    elif q.pairs > MANY:
        yield Check(
            "count", "ok", said, f"{ENOUGH} to {MANY} pairs are a good start: the best of these may do."
        )
    else:
        yield Check("count", "ok", said)


def _gaps(q: Quality) -> Iterator[Check]:
    if q.unread:
        said = (
            f"{len(q.unread)} pairs have a column of scores without two finite numbers: {in_list(q.unread)}"
        )
        yield Check(
            "scores",
            "warn",
            said,
            "They count as pairs without scores: fill chosen_score and rejected_score.",
        )
    if not q.one_scale:
        said = f"the scores of {', '.join(q.sources)} are on scales of their own"
        yield Check("gap", "unknown", said, "pairs.json has the mean gap of each source.")
        return
    if q.gaps is None:
        advice = "Name a reward to score both completions: large gaps teach more than small ones."
        yield Check("gap", "unknown", "no pair has scores", advice)
        return
    gaps, low, high = q.gaps, *q.gaps.scale
    middle = ", ".join(f"{gaps.quantiles[q]:.3g}" for q in ("10", "50", "90"))
    of = f" of the {gaps.mean.n} pairs with scores" if gaps.mean.n < q.pairs else ""
    said = (
        f"mean {in_short(gaps.mean, '.3g')}{of} on a scale of {low:g} to {high:g}; "
        f"10th, 50th, 90th percentile: {middle}; "
        f"below {SMALL:.0%} of the scale: {in_short(gaps.small)}"
    )
    weak = gaps.small.value is not None and gaps.small.value > MOST_SMALL
    advice = "Raise min_gap, or sample more completions per prompt: large gaps teach more." if weak else ""
    yield Check("gap", "warn" if weak else "ok", said, advice)
    if gaps.turned:
        turned = gaps.turned / gaps.mean.n
        advice = "Look at these: either the scores or the labels are wrong there; min_gap leaves them out."
        if turned > 2 / 3:
            advice = "In most pairs: are chosen and rejected swapped, or is a lower score better?"
        elif turned > 1 / 3:
            advice = "Scores and labels hardly agree: these scores do not measure what the labels prefer."
        said = f"the rejected scores higher in {gaps.turned} pairs ({turned:.0%})"
        yield Check("scores against labels", "warn", said, advice)


def _good(q: Quality) -> Iterator[Check]:
    if q.good is None or q.good.share.value is None:
        advice = "Give min_chosen, on the scale of the scores: chosen must be good, not only better."
        yield Check("chosen", "unknown", "not known whether the chosen are good in themselves", advice)
        return
    said = f"good in themselves ({q.good.standard}): {in_short(q.good.share)} of {q.good.share.n}"
    bad = q.good.share.value < LEAST_GOOD
    advice = (
        "Chosen must be good, not only better: raise min_chosen, or train longer by SFT before sampling."
        if bad
        else ""
    )
    yield Check("chosen", "warn" if bad else "ok", said, advice)


def worth_of(q: Quality) -> str:
    """How many pairs without noise tell as much, from the most telling repeats there are; empty: as many, or unknown.

    Where the rate of flips is a lower bound, this is an upper one.
    """
    repeats = next(iter(q.noise.values()), None)
    if repeats is None or not repeats.flips.value:
        return ""
    flips = repeats.flips
    best, low, high = (round(q.pairs * worth(rate or 0.0)) for rate in (flips.value, flips.high, flips.low))
    return f"{'at most ' if repeats.at_least else ''}{best} [{low}, {high}]"


def _noise(q: Quality) -> Iterator[Check]:
    if q.agreed_only:
        advice = "Measure all judgements: `tieout pairs FILE --labels FOLDER`."
        yield Check(
            "label noise",
            "unknown",
            "between people: an export has only the pairs on which they agree",
            advice,
        )
    elif not q.noise:
        advice = (
            "If people or a judge labelled them, have some judged twice: `tieout label FILE --overlap 0.1 --repeats "
            "0.05`, and measure its export."
        )
        yield Check("label noise", "unknown", "no pair was judged twice", advice)
    for place, (kind, repeats) in enumerate(q.noise.items()):
        bound = "at least " if repeats.at_least else ""
        said = (
            f"{kind}: {in_short(repeats.agree)} of {repeats.agree.n} agree, so {bound}{in_short(repeats.flips)} of "
            "labels are the wrong way round"
        )
        if repeats.undecided:
            said += f" ({repeats.undecided} with a tie are left out)"
        rate = repeats.flips.value or 0.0
        loud = place == 0 and rate > MOST_FLIPS
        advice = ""
        if loud:
            advice = "Settle what people differ on (`d` on the label page), sharpen the guidelines, take more pairs"
            advice += (
                ". Labels that are hardly better than coin flips teach next to nothing."
                if rate > COIN
                else f"; or tell the loss: label_smoothing: {rate:.2f}, with loss_type robust for DPO."
            )
        yield Check("label noise", "warn" if loud else "ok", said, advice)


def _copies(q: Quality) -> Iterator[Check]:
    c = q.copies
    many = c.exact + c.near > MOST_COPIES * max(1, c.compared)
    said = f"{c.exact} of {c.compared} pairs repeat another one, {c.near} nearly"
    if many:
        said += f": {'; '.join(c.examples[:MAX_PROBLEMS])}"
    advice = "Take them out: they count twice, and split over train and test they leak." if many else ""
    yield Check("copies", "warn" if many else "ok", said, advice)
    if c.turned:
        said = f"{c.turned} pairs are there the other way round, too: {'; '.join(c.contradictions)}"
        advice = "Keep the direction that most labels have, or neither: such pairs teach nothing."
        yield Check("contradictions", "warn", said, advice)
    if c.wordless:
        loud = c.wordless > MOST_WORDLESS * c.compared
        said = f"chosen and rejected have the same words in {c.wordless} of {c.compared} pairs"
        advice = "Case, white space, punctuation or hidden characters are all that such pairs teach: leave them out."
        yield Check("same words", "warn" if loud else "ok", said, advice if loud else "")
    if c.alike > c.compared / 2:
        said = f"chosen and rejected share most of their words in {c.alike} of {c.compared} pairs"
        advice = "Both may become unlikely together: watch reward_chosen; rpo_alpha or nca_pair hold the chosen up."
        yield Check("alike", "ok", said, advice)


def _lengths(q: Quality) -> Iterator[Check]:
    share, difference = q.lengths.longer, q.lengths.difference
    if share.value is None or share.low is None or share.high is None:
        return
    said = (
        f"chosen minus rejected {in_short(difference, '+.1f')} characters; the longer one is chosen in "
        f"{in_short(share)} of {share.n}"
    )
    biased = abs(share.value - 0.5) > MOST_LONGER and not share.low <= 0.5 <= share.high
    advice = ""
    if biased:
        advice = (
            f"Length alone would tell most of these pairs, so it is learned, too: balance it, or train with ld_alpha "
            f"or sigmoid_norm, and watch probe/length; `tieout calibrate` says whether the labels favour "
            f"{'long' if share.value > 0.5 else 'short'} ones."
        )
    yield Check("length", "warn" if biased else "ok", said, advice)


def _leakage(q: Quality) -> Iterator[Check]:
    counts: Mapping[str, Any] | None = q.leakage
    if counts is None:
        advice = "Name the test rows, to look for them among the pairs."
        yield Check("leakage", "unknown", "no held-out rows were given", advice)
    elif q.leaked:
        first, _, rest = q.leaked.partition("\n")
        yield Check("leakage", "refuse", first, rest.strip())
    else:
        found = in_words(counts)
        kept = f"; accepted: {counts['accepted']}" if counts["accepted"] else ""
        rows = sum(one["rows"] for one in counts["held"].values())
        leaks = any(one[kind] for one in counts["held"].values() for kind in KINDS)
        yield Check("leakage", "warn" if leaks else "ok", f"of {rows} held-out rows: {found}{kept}")

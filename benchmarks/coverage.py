"""Coverage of the intervals of `tieout.evidence`: how often they hold the truth, and on which side they miss it.

python benchmarks/coverage.py                 # -> benchmarks/results/coverage.{json,md}
python benchmarks/coverage.py --trials 300    # sooner, and coarser
python benchmarks/coverage.py --only uneven   # simulates lines with this word again, and keeps the others

Right and wrong: exactly, by the probability of every count or table, also by the shorter intervals that reports of
format 5 have. The bootstrap: `--trials` samples per line, each with `--resamples`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom, multinomial

from tieout.evidence import stats
from tieout.evidence.significance import exact_ends, mcnemar_mid_p, paired_ends, wilson_ends

RESULTS = Path(__file__).parent / "results" / "coverage.json"
SHARES = (
    *((0.02, 0.02), (0.05, 0.05), (0.1, 0.1), (0.2, 0.2)),
    *((0.1, 0.02), (0.15, 0.05), (0.3, 0.02), (0.3, 0.1), (0.5, 0.1)),
    *((0.35, 0.2), (0.35, 0.25), (0.4, 0.25), (0.5, 0.2)),
    *((0.05, 0.0), (0.1, 0.0), (0.15, 0.0), (0.2, 0.0), (0.3, 0.0), (0.5, 0.0)),
    *((0.02, 0.005), (0.03, 0.01), (0.06, 0.005), (0.05, 0.01), (0.12, 0.01), (0.25, 0.01), (0.12, 0.03)),
)
SHARE = np.concatenate([np.arange(0.0005, 0.02, 0.0005), np.arange(0.02, 0.5025, 0.0025)])
"""Shares of right answers; above a half it is the same by symmetry."""
COUNTS = (20, 30, 50, 100, 200, 400)
ENOUGH, BOTH = 10, 2
"""Cases expected to differ, and to be lost: where there are more, there are many tables."""
LEVELS, WEIGHTS = np.array([0.0, 0.2, 0.5, 0.7, 1.0]), [0.1, 0.2, 0.2, 0.2, 0.3]
Sample = Callable[[np.random.Generator], stats.Estimate]


def shares() -> Iterator[dict[str, Any]]:
    """A share of right answers: the exact interval, Blaker's, which is exact and shorter, and Wilson's."""
    for n in COUNTS:
        for name, ends_of in (("exact", exact_ends), ("Blaker", blaker_ends), ("Wilson", wilson_ends)):
            low, high = np.array([ends_of(k, n, stats.LEVEL) for k in range(n + 1)]).T
            chance = binom.pmf(np.arange(n + 1), n, SHARE[:, None])
            held = (low <= SHARE[:, None]) & (SHARE[:, None] <= high)
            covered = (chance * held).sum(1)
            yield {
                "what": name,
                "n": n,
                "least": float(covered.min()),
                "at": float(SHARE[covered.argmin()]),
                "mean": float(covered.mean()),
                "most": float(covered.max()),
                "width": float((chance @ (high - low)).mean()),
            }


def blaker_ends(successes: int, n: int, level: float) -> tuple[float, float]:
    """Blaker's interval (2000): the shares at which counts as unlikely as this one, at either end, have 1 - level.

    It lies within Clopper and Pearson's; the ends are found on a grid of 1/4000 of that, outwards.
    """

    def low(k: int) -> float:
        if k == 0:
            return 0.0
        p = np.linspace(exact_ends(k, n, level)[0], k / n, 4001)
        above, below = binom.sf(k - 1, n, p), binom.cdf(k, n, p)
        as_far = (
            above + binom.cdf(binom.ppf(above, n, p) - 1, n, p),
            below + binom.sf(binom.ppf(1 - below, n, p), n, p),
        )
        return float(p[max(0, int(np.argmax(np.minimum(*as_far) > 1 - level)) - 1)])

    return low(successes), 1 - low(n - successes)


def right_and_wrong() -> Iterator[dict[str, Any]]:
    """Pairs of right and wrong answers: the interval that agrees with McNemar's test, and the level of that test."""
    for n in (20, 30, 50, 100, 200):
        losses, differ = np.triu_indices(n + 1)  # every table
        wins = differ - losses
        ends, rejected = np.zeros((2, len(wins), 2)), np.zeros(len(wins), dtype=bool)
        chances = [
            multinomial(n, [g, l, 1 - g - l]).pmf(np.stack([wins, losses, n - wins - losses], 1))
            for g, l in SHARES
        ]
        for i in np.flatnonzero(np.max(chances, axis=0) > 1e-10):
            table = int(wins[i]), int(losses[i]), n, stats.LEVEL
            ends[:, i] = paired_ends(*table), paired_ends(*table, shorter=True)
            rejected[i] = mcnemar_mid_p(int(wins[i]), int(losses[i])) < 1 - stats.LEVEL
        for (gained, lost), chance in zip(SHARES, chances, strict=True):
            what = f"right or wrong, {gained:g} gained, {lost:g} lost"
            line = _line(what, n, ends[0], gained - lost, chance)
            line["shorter"] = _line(what, n, ends[1], gained - lost, chance)["covered"]
            line["enough"] = n * (gained + lost) >= ENOUGH and n * lost >= BOTH
            if gained == lost:
                line["rejected"] = float(chance[rejected].sum())
            yield line


def simulated(trials: int, only: str = "") -> Iterator[dict[str, Any]]:
    """Graded scores and clusters; lines without the words `only` are those of the last run."""
    kept = {(line["what"], line["n"]): line for line in json.loads(RESULTS.read_text())["simulated"]}
    for name, n, sample, truth in _populations():
        if only not in name:
            yield kept[name, n]
            continue
        rng = np.random.default_rng(1)
        ends = np.array([(e.low, e.high) for e in (sample(rng) for _ in range(trials))])
        yield _line(name, n, ends, truth)


def _populations() -> Iterator[tuple[str, int, Sample, float]]:
    for n in (20, 50, 100, 200):
        yield (
            "mean of graded scores, most of them 1",
            n,
            lambda rng, n=n: stats.mean(_high(rng, n)),
            0.901,
        )
    for n in (50, 100, 200):
        yield "mean of graded scores", n, lambda rng, n=n: stats.mean(_graded(rng, n).tolist()), 0.58
        yield "difference of graded scores", n, lambda rng, n=n: _difference(rng, n), 0.2 * 0.42 - 0.08 * 0.58
    for documents, size in ((5, 5), (10, 5), (20, 5), (40, 5), (80, 5)):
        n = documents * size
        yield f"right or wrong, {documents} documents of {size}", n, _of_answers(documents, size), 0.06
    for documents, size in ((5, 5), (10, 5), (20, 5), (40, 5)):
        n = documents * size
        answers = _of_answers(documents, size, by_t)
        yield f"right or wrong by t over {documents} documents of {size}", n, answers, 0.06
        for by, named in ((by_bootstrap, ""), (by_t, " by t")):
            lost = _of_documents(documents, size, by, rare=0.05)
            name = f"small differences, one document in 20 lost,{named} over {documents} documents of {size}"
            yield name, n, lost, 0.95 * 0.05 - 0.05
    for documents in (5, 10, 20, 40):
        yield f"share right, {documents} uneven documents", documents * 5, _of_uneven(documents), 0.9
    for documents, size in ((10, 5), (20, 5), (40, 5), (80, 5)):
        n = documents * size
        yield f"small differences, {documents} documents of {size}", n, _of_documents(documents, size), 0.05
    for n in (50, 100, 200):
        yield "small differences", n, lambda rng, n=n: _small(rng, n, 0.1, 0.0), 0.03
        rare = 0.98 * 0.03 - 0.02
        yield "small differences, one case in 50 lost", n, lambda rng, n=n: _small(rng, n, 0.02, 0.02), rare
        yield (
            "the same, by the paired t-test",
            n,
            lambda rng, n=n: _small(rng, n, 0.02, 0.02, stats.change),
            rare,
        )


def _graded(rng: np.random.Generator, n: int) -> Any:
    return rng.choice(LEVELS, size=n, p=WEIGHTS)


def _high(rng: np.random.Generator, n: int) -> list[float]:
    found: list[float] = rng.choice(LEVELS, size=n, p=[0.02, 0.03, 0.05, 0.1, 0.8]).tolist()
    return found


def _of_uneven(documents: int) -> Sample:
    """Right and wrong answers, nine in ten right; documents of 1 to 9 questions differ in how hard they are."""

    def sample(rng: np.random.Generator) -> stats.Estimate:
        sizes = rng.integers(1, 10, documents)
        right = rng.random(sizes.sum()) < np.repeat(rng.beta(1.8, 0.2, documents), sizes)
        names = np.repeat(np.arange(documents), sizes).tolist()
        return stats.mean(right.astype(float).tolist(), names, seed=int(rng.integers(2**31)))

    return sample


def _difference(rng: np.random.Generator, n: int) -> stats.Estimate:
    baseline = _graded(rng, n)
    gained, lost = rng.random(n) < 0.2, rng.random(n) < 0.1
    candidate = np.where(gained, 1.0, np.where(lost, 0.0, baseline))
    return stats.difference(candidate.tolist(), baseline.tolist(), seed=int(rng.integers(2**31)))


def by_bootstrap(ours: Any, theirs: Any, documents: int, seed: int) -> stats.Estimate:
    """The difference as reports have it, of documents of the same size."""
    names = np.repeat(np.arange(documents), len(ours) // documents).tolist()
    return stats.difference(ours.tolist(), theirs.tolist(), names, seed=seed)


def by_t(ours: Any, theirs: Any, documents: int, seed: int) -> stats.Estimate:
    """The same by Student's paired t over the means of documents, without regard to the ends of the scale."""
    own, other = (x.reshape(documents, -1).mean(1).tolist() for x in (ours, theirs))
    return stats.change(own, other, (0.0, 1.0))


def _of_documents(
    documents: int, size: int, by: Callable[..., stats.Estimate] = by_bootstrap, rare: float = 0.0
) -> Sample:
    """Differences that questions of one document share in part, rounded; of some, if rare, all is lost."""

    def sample(rng: np.random.Generator) -> stats.Estimate:
        shared = np.repeat(rng.normal(0, 0.15, documents), size)
        found = np.round(np.clip(0.05 + shared + rng.normal(0, 0.1, documents * size), -1, 1), 2)
        if rare:
            found = np.where(np.repeat(rng.random(documents) < rare, size), -1.0, found)
        return by(np.clip(found, 0, 1), np.clip(-found, 0, 1), documents, int(rng.integers(2**31)))

    return sample


def _of_answers(documents: int, size: int, by: Callable[..., stats.Estimate] = by_bootstrap) -> Sample:
    """Right and wrong answers of which questions of one document are gained or lost together, more often than not."""

    def sample(rng: np.random.Generator) -> stats.Estimate:
        gained, lost = (np.repeat(rng.beta(4 * p, 4 - 4 * p, documents), size) for p in (0.3, 0.1))
        before, chance = rng.random(documents * size) < 0.6, rng.random(documents * size)
        after = np.where(before, chance > lost, chance < gained)
        return by(after.astype(float), before.astype(float), documents, int(rng.integers(2**31)))

    return sample


def _small(
    rng: np.random.Generator,
    n: int,
    spread: float,
    rare: float,
    by: Callable[..., stats.Estimate] | None = None,
) -> stats.Estimate:
    """Differences that are small on a scale of 0 to 1, of which some, if rare, are a loss of all."""
    found = np.round(np.clip(0.03 + rng.normal(0, spread, n), -1, 1), 2)
    found = np.where(rng.random(n) < rare, -1.0, found)
    ours, theirs = np.clip(found, 0, 1).tolist(), np.clip(-found, 0, 1).tolist()
    return (
        by(ours, theirs, (0.0, 1.0)) if by else stats.difference(ours, theirs, seed=int(rng.integers(2**31)))
    )


def _line(name: str, n: int, ends: Any, truth: float, chance: Any = None) -> dict[str, Any]:
    """`chance`: the probability of each pair of ends; None: all are samples."""
    weight = np.full(len(ends), 1 / len(ends)) if chance is None else chance
    low, high = (
        float(weight[ends[:, 0] > truth + 1e-12].sum()),
        float(weight[ends[:, 1] < truth - 1e-12].sum()),
    )
    width = float(weight @ (ends[:, 1] - ends[:, 0]))
    return {
        "what": name,
        "n": n,
        "trials": len(ends) if chance is None else "all",
        "covered": 1 - low - high,
        "above": low,
        "below": high,
        "width": width,
    }


def table(lines: list[dict[str, Any]], more: str = "") -> str:
    """The lines as Markdown; `more`: a further share of each."""
    rows = [
        f"| quantity | n | samples | covered | truth below | truth above | mean width |{' format 5 |' if more else ''}",
        f"|---|---|---|---|---|---|---|{'---|' if more else ''}",
    ]
    for line in lines:
        found = [f"{line[key]:.1%}" for key in ("covered", "above", "below")]
        found += [f"{line['width']:.3f}", *([f"{line[more]:.1%}"] if more else [])]
        rows.append(f"| {line['what']} | {line['n']} | {line['trials']} | {' | '.join(found)} |")
    return "\n".join(rows)


def of_shares(lines: list[dict[str, Any]]) -> str:
    """The lines of single shares as Markdown."""
    rows = ["| interval | n | covered at least | at a share of | on average | at most | mean width |"]
    rows.append("|---|---|---|---|---|---|---|")
    for line in lines:
        least, mean, most = (f"{line[key]:.1%}" for key in ("least", "mean", "most"))
        rows.append(
            f"| {line['what']} | {line['n']} | {least} | {line['at']:.2%} | {mean} | {most} | {line['width']:.3f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Simulate, and write both results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    stats.RESAMPLES = options.resamples
    single, exact, resampled = (
        list(shares()),
        list(right_and_wrong()),
        list(simulated(options.trials, options.only)),
    )
    RESULTS.write_text(
        json.dumps({"shares": single, "paired": exact, "simulated": resampled}, indent=1) + "\n"
    )
    enough = [line["covered"] for line in exact if line["enough"]]
    least, most = (pick(exact, key=lambda line: line["covered"]) for pick in (min, max))
    former = min(exact, key=lambda line: line["shorter"])
    levels = [line["rejected"] for line in exact if "rejected" in line]
    errors = {n: (stats.LEVEL * (1 - stats.LEVEL) / n) ** 0.5 for n in {line["trials"] for line in resampled}}
    error = ", ".join(f"{error:.1%} with {n} samples" for n, error in sorted(errors.items()))
    RESULTS.with_suffix(".md").write_text(
        f"# Coverage of the intervals\n\n`python benchmarks/coverage.py --trials {options.trials} --resamples "
        f"{options.resamples}`: how many of the 95% intervals hold the truth, and on which side the others miss it.\n\n"
        "## A share of right answers\n\nExact: the probability of every count, for "
        f"{len(SHARE)} shares from {SHARE[0]:.2%} to {SHARE[-1]:.0%}. Reports of format 5 have Wilson's; Blaker's "
        "is exact, too, and no report has it.\n\n"
        f"{of_shares(single)}\n\n## Paired right and wrong\n\nExact: the probability of every table. "
        f"{least['covered']:.1%} ({_named(least)}) to {most['covered']:.1%} ({_named(most)}); where at least {ENOUGH} "
        f"cases are expected to differ, {BOTH} of them lost, at most {max(enough):.1%}. Where few differ there are few "
        "tables, and an interval that holds the truth often enough in each holds it too often in others. In the last "
        f"column Tango's alone, as in reports of format 5: down to {former['shorter']:.1%} ({_named(former)}). Where "
        f"there is no difference, the mid-p McNemar test rejects {min(levels):.1%} to {max(levels):.1%}.\n\n"
        f"{table(exact, 'shorter')}\n\n## Graded scores, and clusters\n\nSimulated: one standard error of a share "
        f"covered is {error}. Where all differences are small on the scale, and the cases or documents few, "
        "intervals are wider than 95% needs: such a sample looks like one of cases among which a whole loss is rare, "
        f"and that must be covered, too.\n\n{table(resampled)}\n"
    )


def _named(line: dict[str, Any]) -> str:
    return f"n {line['n']}, {line['what'].removeprefix('right or wrong, ')}"


if __name__ == "__main__":
    main()

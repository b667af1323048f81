"""Coverage of the intervals of `tieout.evidence`: how often they hold the truth, and on which side they miss it.

python benchmarks/coverage.py                 # -> benchmarks/results/coverage.{json,md}
python benchmarks/coverage.py --trials 300    # sooner, and coarser

Right and wrong, paired: 20,000 samples per line. The bootstrap: `--trials` samples per line, each with `--resamples`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tieout.evidence import stats
from tieout.evidence.significance import mcnemar_mid_p, paired_ends

RESULTS = Path(__file__).parent / "results" / "coverage.json"
SHARES = ((0.05, 0.05), (0.1, 0.1), (0.2, 0.2), (0.15, 0.05), (0.3, 0.1), (0.3, 0.02), (0.5, 0.1), (0.2, 0.0))
LEVELS, WEIGHTS = np.array([0.0, 0.2, 0.5, 0.7, 1.0]), [0.1, 0.2, 0.2, 0.2, 0.3]
Sample = Callable[[np.random.Generator], stats.Estimate]


@cache
def _ends(wins: int, losses: int, n: int) -> tuple[float, float]:
    return paired_ends(wins, losses, n, stats.LEVEL)


def right_and_wrong(trials: int = 20_000) -> Iterator[dict[str, Any]]:
    """Pairs of right and wrong answers: the interval that agrees with McNemar's test, and the level of that test."""
    rng = np.random.default_rng(0)
    for n in (50, 100, 200, 500):
        for gains, losses in SHARES:
            drawn = rng.multinomial(n, [gains, losses, 1 - gains - losses], size=trials)
            ends = np.array([_ends(int(wins), int(lost), n) for wins, lost, _ in drawn])
            truth = gains - losses
            line = _line(f"right or wrong, {gains:g} gained, {losses:g} lost", n, ends, truth)
            if gains == losses:
                line["rejected"] = float(
                    np.mean([mcnemar_mid_p(int(w), int(lost)) < 1 - stats.LEVEL for w, lost, _ in drawn])
                )
            yield line


def bootstrapped(trials: int) -> Iterator[dict[str, Any]]:
    """Graded scores and clusters."""
    for name, n, sample, truth in _populations():
        rng = np.random.default_rng(1)
        ends = np.array([(e.low, e.high) for e in (sample(rng) for _ in range(trials))])
        yield _line(name, n, ends, truth)


def _populations() -> Iterator[tuple[str, int, Sample, float]]:
    for n in (50, 100, 200):
        yield "mean of graded scores", n, lambda rng, n=n: stats.mean(_graded(rng, n).tolist()), 0.58
        yield "difference of graded scores", n, lambda rng, n=n: _difference(rng, n), 0.2 * 0.42 - 0.08 * 0.58
    for documents, size in ((20, 5), (40, 5), (80, 5)):
        n = documents * size
        yield f"difference, {documents} documents of {size}", n, _of_documents(documents, size), 0.05


def _graded(rng: np.random.Generator, n: int) -> Any:
    return rng.choice(LEVELS, size=n, p=WEIGHTS)


def _difference(rng: np.random.Generator, n: int) -> stats.Estimate:
    baseline = _graded(rng, n)
    gained, lost = rng.random(n) < 0.2, rng.random(n) < 0.1
    candidate = np.where(gained, 1.0, np.where(lost, 0.0, baseline))
    return stats.difference(candidate.tolist(), baseline.tolist(), seed=int(rng.integers(2**31)))


def _of_documents(documents: int, size: int) -> Sample:
    """Differences that questions of one document share in part; rounded, as scores are."""
    names = [i // size for i in range(documents * size)]

    def sample(rng: np.random.Generator) -> stats.Estimate:
        shared = np.repeat(rng.normal(0, 0.15, documents), size)
        found = np.round(np.clip(0.05 + shared + rng.normal(0, 0.1, documents * size), -1, 1), 2)
        ours, theirs = np.clip(found, 0, 1).tolist(), np.clip(-found, 0, 1).tolist()
        return stats.difference(ours, theirs, names, seed=int(rng.integers(2**31)))

    return sample


def _line(name: str, n: int, ends: Any, truth: float) -> dict[str, Any]:
    low, high = float(np.mean(ends[:, 0] > truth)), float(np.mean(ends[:, 1] < truth))
    width = float(np.mean(ends[:, 1] - ends[:, 0]))
    return {
        "what": name,
        "n": n,
        "trials": len(ends),
        "covered": 1 - low - high,
        "above": low,
        "below": high,
        "width": width,
    }


def table(lines: list[dict[str, Any]]) -> str:
    """The lines as Markdown."""
    rows = [
        "| quantity | n | samples | covered | truth below | truth above | mean width |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        share = [f"{line[key]:.1%}" for key in ("covered", "above", "below")]
        rows.append(
            f"| {line['what']} | {line['n']} | {line['trials']} | {' | '.join(share)} | {line['width']:.3f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Simulate, and write both results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    stats.RESAMPLES = options.resamples
    exact, resampled = list(right_and_wrong()), list(bootstrapped(options.trials))
    RESULTS.write_text(json.dumps({"paired": exact, "bootstrap": resampled}, indent=1) + "\n")
    large = [line["covered"] for line in exact if line["n"] >= 100]
    levels = [line["rejected"] for line in exact if "rejected" in line]
    RESULTS.with_suffix(".md").write_text(
        f"# Coverage of the intervals\n\n`python benchmarks/coverage.py --trials {options.trials} --resamples "
        f"{options.resamples}`: how many of the 95% intervals hold the truth, and on which side the others miss it.\n\n"
        f"## Paired right and wrong\n\nFrom 100 pairs on, {min(large):.1%} to {max(large):.1%}, {np.mean(large):.1%} "
        f"on average. Where there is no difference, the mid-p McNemar test rejects {min(levels):.1%} to "
        f"{max(levels):.1%}.\n\n"
        f"{table(exact)}\n\n## Graded scores, and clusters\n\n{table(resampled)}\n"
    )


if __name__ == "__main__":
    main()

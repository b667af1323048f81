"""Choose a method by rule, from what the rows have, what the reward is worth, and what samples of the model score.

The bounds on counts are rules of thumb of the field (docs/choosing.md), not measurements of ours. What samples say is
measured, and said with its interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from ..evidence.stats import Estimate, mean, proportion
from ..rewards.text.structured import parse_json
from ..rows import Kind
from .preferences.advice import ENOUGH, MANY

FEW = 500
"""Rows below which a training is usually noise."""
RICH, FLAT = 2000, 50_000
"""Pairs from which a reward model is worth its price, and above which more of them add little."""
LEAST_SPREAD = 0.2
"""Share of prompts whose samples must differ in score: groups that are all alike teach GRPO nothing."""
SOLVED = 0.95
"""Share of right samples above which there may be little left to train; eight prompts cannot show it."""
MOST_CUT = 0.1
"""Share of samples that may end by their length."""
Verdict = Literal["first", "take", "then", "instead", "not"]


@dataclass(frozen=True)
class Samples:
    """What completions of the model scored, and the rows' own."""

    scores: Sequence[Sequence[float | None]]
    """[prompt][K]; None: the reward abstained or failed."""
    gold: Sequence[float | None]
    """[prompt] of the row's own completion; None: it has none."""
    cut_off: int
    """How many ended by their length."""
    tokens: float
    """Mean length of a completion."""
    lowest: float = 0.0
    """Bottom of the reward's range."""
    formed: int | None = None
    """How many are JSON, where the rows' own completions all are; None: those are not."""

    @property
    def count(self) -> int:
        """Of all completions."""
        return sum(map(len, self.scores))

    @property
    def known(self) -> list[float]:
        """Scores that are numbers."""
        return [score for group in self.scores for score in group if score is not None]

    @property
    def _hits(self) -> list[list[bool]]:
        """[prompt][scored sample] whether it scores as its row's gold does, of prompts that can tell.

        Gold at the bottom of the reward's range cannot: whatever is sampled scores as it does.
        """
        both = zip(self.scores, self.gold, strict=True)
        hits = [
            [score >= top for score in group if score is not None]
            for group, top in both
            if top is not None and top > self.lowest
        ]
        return [own for own in hits if own]

    def right(self) -> Estimate | None:
        """The share of scored samples that score as their row's gold does, resampled by prompt; None: no gold tells."""
        prompts = [place for place, own in enumerate(self._hits) for _ in own]
        return mean([float(hit) for own in self._hits for hit in own], prompts) if prompts else None

    def reached(self) -> Estimate | None:
        """The share of prompts of which at least one sample scores as gold does."""
        asked = [any(own) for own in self._hits]
        return proportion(sum(asked), len(asked)) if asked else None

    def spread(self) -> Estimate:
        """The share of prompts whose samples differ in score: what a group-relative advantage is not zero on. Of one
        score, or none, that cannot be said."""
        known = [[score for score in group if score is not None] for group in self.scores]
        differ = [len(set(group)) > 1 for group in known if len(group) > 1]
        return proportion(sum(differ), len(differ))


@dataclass(frozen=True)
class Found:
    """What is known before anything is trained."""

    kind: Kind
    """What a row is."""
    rows: int
    prompts: int
    """That differ."""
    liked: int = 0
    """Of labelled rows, those marked good."""
    reward: str = ""
    """Its name; empty: none."""
    problems: Sequence[str] = ()
    """What attack and proof found."""
    tried: str = ""
    """What they tried."""
    samples: Samples | None = None


@dataclass(frozen=True)
class Advice:
    """One method, or what comes before any, and why."""

    method: str
    verdict: Verdict
    """`first`: before any training; `take`; `then`: after what is taken; `instead`: an alternative; `not`."""
    why: str


def advise(found: Found) -> list[Advice]:
    """What to do, in this order. Never empty."""
    said = [*_before(found), *_given(found), *_sampled(found)]
    if not any(one.verdict in ("take", "then") for one in said):
        said.append(
            Advice(
                "no training",
                "take",
                "nothing here says which answers are right or better: write demonstrations, label answers, or write a "
                "reward; until then a better prompt, or the best of several samples picked by a person",
            )
        )
    return said


def _before(found: Found) -> Iterator[Advice]:
    """What to mend before a policy is trained."""
    if found.problems:
        more = f", and {len(found.problems) - 1} more" if len(found.problems) > 1 else ""
        yield Advice("mend the reward", "first", f"a policy finds its holes: {found.problems[0]}{more}")
    samples = found.samples
    if samples is None:
        return
    if not samples.known:
        yield Advice("mend the reward", "first", f"it gave no number for any of {samples.count} samples")
    own = [top for top in samples.gold if top is not None]
    if own and min(own) < max(own):
        yield Advice(
            "look at the rows",
            "first",
            f"{len(own)} rows' own completions score {fmean(own):.3g} in the mean, {min(own):.3g} at least: SFT "
            "imitates them, so it can hardly score more by this reward",
        )
    if samples.cut_off > MOST_CUT * samples.count:
        yield Advice(
            "more room",
            "first",
            f"{samples.cut_off} of {samples.count} samples were cut off; raise max_new_tokens, "
            "or teach the model to end its turn by SFT",
        )
    if samples.formed is not None and samples.formed < (1 - MOST_CUT) * samples.count:
        yield Advice(
            "teach the form",
            "first",
            f"the rows' own completions are JSON, and {samples.formed} of {samples.count} samples are: say so in the "
            "prompt, or SFT",
        )
    right = samples.right()
    if right is not None and right.value is not None and right.value >= SOLVED:
        said = f"the model is right in {shown(right, 'samples')}: `tieout eval` on all rows says what is left to train"
        yield Advice("evaluate", "first", said)


def _given(found: Found) -> Iterator[Advice]:
    """What the rows can teach by themselves."""
    few = (
        f"; rules of thumb ask for {FEW}, and below that the test rows decide" if found.prompts < FEW else ""
    )
    if found.kind == "demonstration":
        yield Advice("sft", "take", f"{found.rows:,} demonstrations{few}")
    elif found.kind in ("preference", "ranking"):
        what = "pairs" if found.kind == "preference" else "rankings"
        noisy = f"; below {ENOUGH:,} it is noisy" if found.rows < ENOUGH else ""
        enough = f"; above {MANY:,} more of them gain little" if found.rows > MANY else ""
        yield Advice("dpo", "take", f"{found.rows:,} {what}{noisy}{enough}")
        if found.rows >= RICH:
            flat = f"; above {FLAT:,} the reward model gains little" if found.rows > FLAT else ""
            yield Advice(
                "reward_model",
                "instead",
                f"so many {what} measure a reward model, too, and PPO learns from answers that nobody ranked{flat}; "
                "DPO is cheaper: see first what it gains",
            )
        yield Advice(
            "orpo", "instead", "where the model was never trained on such answers: SFT and preferences in one"
        )
    elif found.kind == "label":
        lop = "; weigh the rarer ones (desirable_weight)" if not 0.2 < found.liked / found.rows < 0.8 else ""
        yield Advice(
            "kto", "take", f"{found.rows:,} labelled answers, {found.liked:,} of them good{lop}{few}"
        )


def _sampled(found: Found) -> Iterator[Advice]:
    """Whether the model can learn from its own samples."""
    if not found.reward:
        yield Advice("grpo", "not", "no reward: nothing says which of its own answers are right (--reward)")
        return
    after: Verdict = "take" if found.kind == "prompt" else "then"
    if found.samples is None:
        if found.kind == "prompt":
            yield Advice(
                "grpo", "take", "a reward and prompts; whether it is ever right was not measured (--model)"
            )
        else:
            yield Advice(
                "grpo",
                "then",
                "a reward; measure the policy that was trained before: --model RUN/sft/adapter",
            )
        return
    spread = found.samples.spread()
    if spread.value is None:
        yield Advice(
            "grpo", "not", "no prompt has two samples with a score: whether they differ is not known"
        )
        return
    said = f"the samples of {shown(spread, 'prompts')} differ in score"
    reached = found.samples.reached()
    if reached is not None:
        said += f", and of {shown(reached, 'prompts')} at least one is right"
    if spread.value >= LEAST_SPREAD:
        yield Advice("grpo", after, said)
        yield Advice(
            "rejection_sampling",
            "instead",
            "cheaper: trains on the best of the samples; so is DPO on pairs of them (stage `pairs`)",
        )
    elif found.kind == "prompt":
        yield Advice(
            "grpo",
            "not",
            f"{said}: groups that are all alike teach nothing. Easier prompts, demonstrations first, or a larger model",
        )
    else:
        yield Advice(
            "grpo",
            "not",
            f"{said}: not before the model was trained; then measure again: --model RUN/sft/adapter",
        )


def is_json(text: str) -> bool:
    """Whether a completion is a JSON object or list, as rewards read it.

    >>> is_json('{"total": 7}'), is_json("7"), is_json("Total: {7}")
    (True, False, False)
    """
    return isinstance(parse_json(text).value, dict | list)


def shown(share: Estimate, what: str) -> str:
    """A share of something, with its interval.

    >>> shown(proportion(3, 4), "prompts")
    '75% [19%, 99%] of 4 prompts'
    """
    if share.value is None or share.low is None or share.high is None:
        return f"none of 0 {what}"
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {share.n} {what}"

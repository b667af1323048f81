"""Opposites of finance: which words turn a sentence round, as rise and fall, profit and loss, include and exclude do.

Each line of OPPOSITES is an axis with two ends. A word is found by its dictionary form, whatever its ending; pairs that
differ by a prefix alone (favorable and unfavorable, inflow and outflow) need no line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

CHANGE = (
    "rise rose risen increase grow grew grown growth climb jump surge soar rally rallied rebound advance expand "
    "expansion escalate raise boost accelerate acceleration up uptick upturn upward higher hike skyrocket swell mount "
    "strengthen appreciate gain improve improvement recover recovery double triple quadruple multiply spike leap "
    "enlarge widen lift elevate heighten intensify peak ramp balloon",
    "fall fell fallen decrease decline drop dip slide slid slip plunge plummet tumble sink sank sunk shrink shrank "
    "shrunk shrinkage contract contraction reduce reduction lower cut slash slow slowdown decelerate deceleration down "
    "downtick downturn downward weaken depreciate lose lost loss worsen deteriorate deterioration halve diminish "
    "dwindle ebb erode erosion subside retreat narrow collapse crash slump lessen curtail trim taper trough "
    "dampen",
)
"""Words that say that something rose, and that it fell."""
_LEVEL = (
    "high higher above over more most greater great larger large big maximum max exceed excess majority many much top "
    "upper ceiling long surpass outperform outpace overweight best peak ahead upside outweigh surplus "
    "abundance abundant",
    "low lower below under less least fewer few lesser smaller small minimum min short minority little bottom floor "
    "shortfall underperform lag underweight miss missed worst trough behind downside trail "
    "shortage scarcity scarce",
)
_RESULT = (
    "profit profitable profitability gain surplus earn earnings income revenue win won benefit credit asset "
    "receivable receive receipt inflow deposit collect lend lent lender creditor",
    "loss unprofitable lose lost deficit expense cost charge debit liability payable pay paid payment outflow withdraw "
    "withdrew withdrawal disburse borrow borrower debtor",
)
_QUALITY = (
    "favorable favourable positive strong strength strengthen better improve improvement good well success successful "
    "succeed advantage tailwind bullish robust healthy accretive upgrade optimistic confident win outperform stable "
    "support help pass comply met meet beat beaten achieve easy ease boost benefit gain like certain able "
    "brisk buoyant solid enhance",
    "unfavorable unfavourable adverse negative weak weakness weaken worse worsen deteriorate deterioration decline bad "
    "poorly poor failure unsuccessful fail disadvantage headwind bearish soft softness fragile dilutive downgrade "
    "pessimistic doubtful lose underperform volatile hinder hurt harm breach miss missed difficult hamper burden "
    "impair unlike uncertain unable sluggish subdued anemic tepid muted lackluster dismal disappointing suffer "
    "undermine",
)
_STEADY = ("flat unchanged steady stable constant static", "")
"""What neither rose nor fell."""
_OTHERS = """
before prior earlier early precede previous beginning begin began begun start opening open first past former commence
initiate ahead | after subsequent later late follow next ending end finish closing close last future latter cease
terminate conclude behind

include inclusive add addition plus with combine | exclude exclusive subtract subtraction deduct deduction minus remove
removal omit without separate

buy bought purchase acquire acquisition invest investment | sell sold sale dispose disposal divest divestiture
issue issuance hire add open launch | redeem redemption repurchase retire retirement layoff fire close discontinue
hire recruit | dismiss layoff fire
start launch | stop halt
fast quick rapid speedy | slow
borrow draw drew drawn | repay repaid repayment
accumulate accumulation buildup | deplete depletion drawdown
capitalize capitalise | expense
mitigate alleviate relieve | exacerbate aggravate compound
steepen steep | flatten
overbought | oversold
require mandatory compulsory | optional voluntary elective
taxable | exempt
provide generate produce | use consume absorb
continue resume maintain keep kept retain | discontinue suspend stop cease abandon
allow permit approve approval accept grant | prohibit forbid forbidden prevent reject rejection deny refuse
enable | disable
agree agreement | dispute disagree
enter entry | exit
build built create | destroy demolish
domestic internal inside local national | foreign external outside global international
gross | net
fixed fix | variable floating float
senior | junior subordinated subordinate
all every always both | none never neither some
full fully whole wholly complete | partial partially partly
current short-term | noncurrent long-term
tight tighten stringent | loose loosen relax ease wide widen lax
public | private
actual | potential
demand | supply
premium | discount
import | export
equity | debt
employer | employee
parent | subsidiary
lessor landlord | lessee tenant
buyer purchaser customer | seller vendor supplier
retail | wholesale
same similar equal | different differ unequal
major primary primarily | minor secondary secondarily
historical | future prospective
general | specific
active | passive inactive dormant
urban | rural
north northern | south southern
east eastern | west western
direct | indirect
ordinary | extraordinary
old | new
temporary | permanent
single | multiple
maximize | minimize
true right correct | false wrong incorrect
yes | no
hedged secured covered | unhedged unsecured uncovered
"""


def _axes() -> Iterator[tuple[str, str]]:
    yield from (CHANGE, _LEVEL, _RESULT, _QUALITY, _STEADY)
    # A line, or a paragraph of several, is an axis.
    for paragraph in _OTHERS.strip().split("\n\n"):
        lines = paragraph.splitlines()
        for line in lines if all(" | " in line for line in lines) else [" ".join(lines)]:
            one, other = line.split(" | ")
            yield one, other


OPPOSITES = tuple(_axes())
"""One axis each: the words at one end, and at the other."""

_PREFIXES = (
    *(
        ("", prefix)
        for prefix in ("un", "non", "in", "im", "ir", "il", "dis", "de", "mis", "a", "ab", "anti", "counter")
    ),
    *(
        ("in", "out"),
        ("in", "de"),
        ("in", "ex"),
        ("im", "ex"),
        ("up", "down"),
        ("over", "under"),
        ("ap", "de"),
    ),
    *(
        ("ac", "de"),
        ("pre", "post"),
        ("pro", "anti"),
        ("pro", "retro"),
        ("on", "off"),
        ("en", "dis"),
        ("as", "dis"),
    ),
    *(("inter", "intra"), ("multi", "uni"), ("ob", "sub"), ("con", "di"), ("e", "im")),
)
_MIN_STEM = 4
"""Letters that two words must share after their prefixes: `inflow` and `outflow` are opposites, `use` and `disuse`
not."""
_ENDINGS = (
    *(
        ("", ""),
        ("ies", "y"),
        ("ied", "y"),
        ("ily", "y"),
        ("es", ""),
        ("es", "e"),
        ("s", ""),
        ("ed", ""),
        ("ed", "e"),
    ),
    *(
        ("ing", ""),
        ("ing", "e"),
        ("er", ""),
        ("er", "e"),
        ("ier", "y"),
        ("est", ""),
        ("est", "e"),
        ("ly", ""),
    ),
    *(("ly", "le"), ("ally", ""), ("ings", ""), ("ings", "e"), ("ment", ""), ("ments", "")),
)

Ends = frozenset[tuple[int, bool]]
"""(axis, which end) of each axis that a word is on."""


def _table() -> dict[str, Ends]:
    found: dict[str, set[tuple[int, bool]]] = {}
    for axis, ends in enumerate(OPPOSITES):
        for end, words in zip((True, False), ends, strict=True):
            for word in words.split():
                found.setdefault(word, set()).add((axis, end))
    return {word: frozenset(ends) for word, ends in found.items()}


_TABLE = _table()
SIGNED = frozenset((axis, end) for axis in range(5) for end in (True, False))
STEADY = (4, True)
"""The ends of change, level, result, quality and of what is steady: direction and sign."""


def _forms(word: str) -> Iterator[str]:
    """The dictionary forms that a word may have."""
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) > 1:
            stem = word[: len(word) - len(ending)]
            yield stem + instead
            if len(stem) > 3 and stem[-1] == stem[-2]:  # dropped, slipping
                yield stem[:-1]


@lru_cache(maxsize=8192)
def ends(word: str) -> Ends:
    """The ends of axes at which a word stands; empty for most words.

    >>> ends("rising") == ends("grew"), ends("rising") & ends("fell"), ends("table")
    (True, frozenset(), frozenset())
    """
    return next((_TABLE[form] for form in _forms(word) if form in _TABLE), frozenset())


def change(word: str) -> bool | None:
    """True for a word by which something rose, False for one by which it fell, else None."""
    way = {end for axis, end in ends(word) if axis == 0}
    return way.pop() if len(way) == 1 else None


@lru_cache(maxsize=8192)
def opposite(one: str, other: str) -> bool:
    """Whether two words are the two ends of one axis, and on no axis at the same end.

    >>> opposite("rose", "plunged"), opposite("favourably", "unfavourably"), opposite("inflows", "outflow")
    (True, True, True)
    >>> opposite("rose", "increased"), opposite("gain", "gained"), opposite("use", "disuse")
    (False, False, False)
    """
    here, there = ends(one), ends(other)
    if here & there:
        return False
    if (STEADY in here) != (STEADY in there) and (change(one) is None) != (change(other) is None):
        return True
    return any((axis, not end) in there for axis, end in here) or _by_prefix(one, other)


def _by_prefix(one: str, other: str) -> bool:
    one, other = (re.sub(r"[^a-z]|(?:s|ed|ing|ly)$", "", word) for word in (one, other))
    if one == other:
        return False
    for first, second in _PREFIXES:
        for left, right in ((first, second), (second, first)):
            if one.startswith(left) and other.startswith(right):
                stem = one[len(left) :]
                if len(stem) >= _MIN_STEM and stem == other[len(right) :]:
                    return True
    return False

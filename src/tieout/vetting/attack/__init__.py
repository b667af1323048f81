"""Attack a reward before training: search for completions that it pays for and should not.

    result = attack(reward, rows)
    result.findings     # the smallest of each class, its score next to gold's
    result.verdict      # "no exploit in 412 probes of these classes: ..." or what was found

Fixed probes first, then search by mutation and recombination, then, if given, samples of the policy itself.
"""

from __future__ import annotations

from .corpus import keep, read_corpus
from .findings import Finding
from .probe import CLASSES
from .run import Attack, attack
from .settings import AttackSettings

__all__ = ["CLASSES", "Attack", "AttackSettings", "Finding", "attack", "keep", "read_corpus"]

"""Alarms: what is watched while training, and what is done when it goes wrong.

A detector looks at a step and says why it is alarmed, or None; `alarm(detector, action)` makes it a monitor. Actions
warn, lower the learning rate, raise the KL coefficient, stop, or return to the last good checkpoint:

    monitors = [*DEFAULT, texts, alarm(gold_against_proxy(gold), roll_back()), alarm(entropy_collapse(), warn())]

Statistical detectors audit well and warn early badly, so each one waits for several steps in a row, and its rate of
false alarms on healthy runs is measured by `benchmarks/alarms.py`.
"""

from __future__ import annotations

from ..monitors import memory_of, remembers
from .actions import Action, Detector, Dials, RollBack, alarm, lower_rate, raise_beta, roll_back, stop, warn
from .detectors import (
    above,
    below,
    canaries,
    changed,
    dominant_part,
    entropy_collapse,
    kl_per_sequence,
    length_drift,
    no_signal,
)
from .gold import gold_against_proxy
from .wording import texts, validity

__all__ = [
    "Action",
    "Detector",
    "Dials",
    "RollBack",
    "above",
    "alarm",
    "below",
    "canaries",
    "changed",
    "dominant_part",
    "entropy_collapse",
    "gold_against_proxy",
    "kl_per_sequence",
    "length_drift",
    "lower_rate",
    "memory_of",
    "no_signal",
    "raise_beta",
    "remembers",
    "roll_back",
    "stop",
    "texts",
    "validity",
    "warn",
]

"""Detectors for training failures, and the actions they trigger.

A detector examines a step and returns why it is alarmed, or None; `alarm(detector, action)` makes it a monitor. Actions
warn, lower the learning rate, raise the KL coefficient, stop, or return to the last good checkpoint:

    monitors = [*DEFAULT, texts, alarm(gold_against_proxy(gold), roll_back()), alarm(entropy_collapse(), warn())]

Statistical detectors audit well and warn early badly, so each one waits for several steps in a row, and its rate of
false alarms on healthy runs is measured by `benchmarks/alarms.py`.
"""

from __future__ import annotations

from ...errors import RollBack
from .actions import (
    Action,
    Adjustments,
    Detector,
    alarm,
    give_up,
    lower_rate,
    raise_beta,
    roll_back,
    stop,
    warn,
)
from .detectors import (
    above,
    below,
    changed,
    dominant_part,
    entropy_collapse,
    impossible_rows,
    kl_per_sequence,
    length_drift,
    no_signal,
    skipped,
)
from .divergence import blown_up, loss_explosion, margin_collapse, pairs_drift, preference_lost
from .memory import memory_of, remembers
from .rises import risen
from .substance import cut_off, format_lost, rises_alone
from .text_metrics import texts, validity
from .verifier import gold_against_proxy

__all__ = [
    "Action",
    "Adjustments",
    "Detector",
    "RollBack",
    "above",
    "alarm",
    "below",
    "blown_up",
    "changed",
    "cut_off",
    "dominant_part",
    "entropy_collapse",
    "format_lost",
    "give_up",
    "gold_against_proxy",
    "impossible_rows",
    "kl_per_sequence",
    "length_drift",
    "loss_explosion",
    "lower_rate",
    "margin_collapse",
    "memory_of",
    "no_signal",
    "pairs_drift",
    "preference_lost",
    "raise_beta",
    "remembers",
    "risen",
    "rises_alone",
    "roll_back",
    "skipped",
    "stop",
    "texts",
    "validity",
    "warn",
]

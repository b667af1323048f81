"""Section Sources: the files that every number comes from, the gate's rule, and the run's configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..evidence.report import FORMAT, FORMER
from ..evidence.training import words
from .markup import Markup, html, joined, lead, nothing, table, ticked
from .stored import Stored

INTERVALS = {
    FORMER: ("Wilson's", "Tango's"),
    FORMAT: ("Clopper and Pearson's", "the wider of Tango's and Bonett and Price's"),
}


def section(run: Stored) -> Markup:
    """Files with their digests, the rule, and everything the run says of itself."""
    if run.report is None:
        said = json.dumps(run.record, indent=2, ensure_ascii=False)
        return joined([nothing("Not yet: the gate names the files."), _run(said)])
    settings, report = run.settings, run.report
    one, paired = INTERVALS[report["format"]]
    check = (
        "Every number above is computed from these files, and again by `tieout verify`. Intervals: of shares "
        f"{one}, of paired right and wrong {paired}, with 0 where McNemar's mid-p test allows it, else "
        f"{settings['resamples']} bootstrap resamples by case, seed {settings['seed']}."
    )
    files = [[name, html("<code>{}</code>", digest)] for name, digest in report.get("files", {}).items()]
    policy = [[words(name), _plain(value)] for name, value in settings["policy"].items()]
    metadata = json.dumps(report["metadata"], indent=2, ensure_ascii=False, default=str)
    return joined(
        [
            lead(ticked(check)),
            table(["File", "SHA-256"], files, kind="files"),
            html("<h3>The rule of the gate</h3>"),
            *_rule(report.get("rule")),
            table(["", ""], policy, kind="files"),
            _run(metadata),
        ]
    )


def _run(said: str) -> Markup:
    """All that the run says of itself; long, and not printed."""
    return html('<details class="run"><summary>Run</summary><pre>{}</pre></details>', said)


def _plain(value: Any) -> str:
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rule(rule: Mapping[str, Any] | None) -> list[Markup]:
    """When the rule was written, and its digest; nothing in a report that was made before rules were on record."""
    if not rule:
        return []
    late = "First written when models had been evaluated"
    said = "On record before any model was evaluated" if rule["before_evaluation"] else late
    changed = "; changed since, see above" if rule["changed"] else ""
    return [html('<p class="lead">{}{}. SHA-256 <code>{}</code>.</p>', said, changed, rule["sha256"])]

"""The recipe of what `tieout advise` says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ...vetting.choosing import Advice, Found

KEYS = {"preference": "pairs", "ranking": "pairs", "label": "labels"}
"""What a row is -> where a recipe names the file; else train."""
TRAINED = ("sft", "dpo", "kto", "grpo")
"""Methods that a stage can be; what else is advised is no training."""


def recipe(
    data: Path, reward: str, model: str | None, max_new_tokens: int, found: Found, advised: Sequence[Advice]
) -> str:
    """YAML: the data, the reward, and a stage for each method that is advised."""
    gold = found.kind == "demonstration"
    trained = [one for one in advised if one.verdict in ("take", "then") and one.method in TRAINED]
    stages = ["  - check: {} # proves the reward on rows with gold, and attacks it"]
    for one in trained:
        if one.method == "grpo" and gold and len(trained) > 1:
            stages.append("  - calibrate: {} # the reward again, on samples of the policy")
        stages += [
            f"  - train: {one.method} # {one.why.partition(';')[0]}",
            f"    batch_size: {max(1, min(8, found.rows // 3))}",
        ]
        if one.method == "grpo":
            stages += ["    group_size: 8", f"    max_new_tokens: {max_new_tokens}"]
    if not trained:
        stages.append("  # nothing to train: see what `tieout advise` said")
    stages += [
        "  - evaluate: {}",
        "  - gate: {}",
        "  - ship: {demonstration: true} # yours: docs/evidence.md",
    ]
    key = KEYS.get(found.kind, "train")
    lines = [
        "# By `tieout advise`. The paths are relative to the folder in which `tieout run` is called.",
        f"model: {json.dumps(model or 'tieout-base')}",
        f"data: {{{key}: {json.dumps(str(data))}}} # test: held_out.jsonl; left out: a tenth of the rows",
        f"reward: {json.dumps(reward)}",
        f"max_new_tokens: {max_new_tokens}",
        "seed: 0",
        "stages:",
        *stages,
    ]
    return "\n".join(lines) + "\n"

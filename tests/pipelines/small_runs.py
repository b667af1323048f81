"""Small stages to make recipes of, and what is needed to run them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.execute import execute
from tieout.storage.runfolder import RunFolder

REWARD = '''
def vowels(completions, prompts, answer, **_):
    """Share of vowels, so that a random model's completions differ."""
    return [sum(ch in "aeiou" for ch in c) / max(1, len(c)) + 0.001 * (len(c) % 7) for c in completions]
'''

SFT = {"train": "sft", "batch_size": 10, "learning_rate": 0.01}
PAIRS = {"pairs": {"num_completions": 4}}
DPO = {"train": "dpo", "batch_size": 8, "learning_rate": 0.001}
GRPO = {
    "train": "grpo",
    "batch_size": 5,
    "group_size": 4,
    "learning_rate": 0.001,
    "epochs": 0.5,
    "max_new_tokens": 8,
    "beta": 0.04,
}
REWARD_MODEL = {"train": "reward_model", "batch_size": 8, "learning_rate": 0.01}
PPO = {
    "train": "ppo",
    "batch_size": 5,
    "group_size": 2,
    "learning_rate": 0.001,
    "epochs": 0.5,
    "max_new_tokens": 8,
    "target_kl": 0.0,
}
KTO = {"train": "kto", "batch_size": 8, "learning_rate": 0.001}
NO_CHECK = {"check": {"proof": {"max_rows": 0}, "attack": {"max_rows": 0}, "calibration": {"max_rows": 0}}}
END: list[dict[str, Any]] = [{"evaluate": {}}, {"gate": {}}, {"ship": {"demonstration": True}}]

ALIGN = [NO_CHECK, SFT, PAIRS, DPO, *END]
REASON = [NO_CHECK, SFT, GRPO, *END]
RLHF = [NO_CHECK, SFT, PAIRS, REWARD_MODEL, PPO, *END]
FEEDBACK = [NO_CHECK, SFT, PAIRS, KTO, *END]


def run(recipe: Recipe, out: Path) -> tuple[str, str]:
    """The verdict, and what was printed."""
    console = Console(record=True, width=160, force_terminal=False)
    with RunFolder(out) as folder:
        verdict = execute(Run(recipe, folder, console))
    return verdict, console.export_text()


def lines(path: Path) -> list[Mapping[str, Any]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]

"""Recipes killed once in every stage end with the bytes of the unbroken run. Processes are real."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import ALIGN, FEEDBACK, GRPO, KTO, PAIRS, REASON, RLHF, SFT

from kill_runs import Server, ending, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECK = {
    "check": {
        "proof": {"max_rows": 2, "override": "vowels are no gold"},
        "attack": {"max_rows": 0},
        "calibration": {"max_rows": 2, "override": "vowels are no gold"},
    }
}
UNUSUAL = [
    GRPO,
    {"optimize_prompt": {"from": "grpo", "budget": 20, "minibatch": 2, "validation_rows": 2}},
    {"evaluate": {"models": ["grpo"], "max_test": 2, "prompt": {"stage": "optimize_prompt"}}},
    {**PAIRS, "pairs": {**PAIRS["pairs"], "from": "base"}},
    {**KTO, "epochs": 0.5},
    {**SFT, "from": "grpo", "name": "again", "adapter": {"dropout": 0.2}},
]
"""Reinforcement first, a search for its prompt, an evaluation in the middle, labels from the base's completions, two
policies of one start (one with dropout)."""

RECIPES: dict[str, tuple[Sequence[dict[str, Any]], Sequence[str]]] = {
    "align": ([CHECK, *ALIGN[1:]], ["check", "sft", "pairs", "dpo", "evaluate", "gate", "ship"]),
    "reason": ([CHECK, *REASON[1:]], ["grpo"]),
    "rlhf": ([CHECK, *RLHF[1:]], ["reward_model", "ppo"]),
    "feedback": ([CHECK, *FEEDBACK[1:]], ["kto"]),
    "unusual": (UNUSUAL, ["grpo", "optimize_prompt", "evaluate", "pairs", "kto", "again"]),
}
"""Name -> stages, and those to be killed in: each kind of stage, and each method, at least once."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def everything(out: Path, stages: Sequence[str]) -> dict[str, Any]:
    """What a run ended with: weights, logs without times, pairs, cases, figures, and the candidate."""
    found: dict[str, Any] = {name: ending(out, name) for name in stages}
    patterns = ("*/pairs.jsonl", "*/rows.jsonl", "evaluate*/*.jsonl", "evidence/cases.jsonl")
    patterns += (
        "optimize_prompt/[pr]*.json",
        "optimize_prompt/journal.jsonl",
        "candidate/*/*.safetensors",
        "check/proof/proof.json",
    )
    for path in (path for pattern in patterns for path in sorted(out.glob(pattern))):
        if not path.name.endswith(".usage.jsonl"):  # seconds are of the run
            found[str(path.relative_to(out))] = path.read_bytes()
    if (report := out / "evidence" / "report.json").exists():
        read = json.loads(report.read_text())
        read["files"].pop("cases.usage.jsonl")
        found["report"] = {part: read[part] for part in ("models", "comparisons", "verdict", "files")}
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_killed_in_each_stage_ends_as_if_unbroken(
    server: Server, tmp_path: Path, plain: Callable[..., dict[str, Any]], name: str
) -> None:
    stages, killed = RECIPES[name]
    recipe, tally = tmp_path / f"{name}.yaml", tmp_path / "tally.json"
    recipe.write_text(yaml.safe_dump(plain(stages), sort_keys=False))

    def run(out: str, **fate: Any) -> int:
        log = tmp_path / f"{out}.log"
        return server.run(["run", recipe, "--out", tmp_path / out], log, **fate)["status"]

    assert run("whole", tally=str(tally)) == 0, (tmp_path / "whole.log").read_text()[-3000:]
    events = json.loads(tally.read_text())
    for stage in killed:
        status = run("broken", die_in=[stage, max(1, events[stage] // 2)])
        assert status == -signal.SIGKILL, (stage, (tmp_path / "broken.log").read_text()[-3000:])
    assert run("broken") == 0, (tmp_path / "broken.log").read_text()[-3000:]
    names = [name for name in events if name]
    whole = everything(tmp_path / "whole", names)
    assert any(key.endswith(".safetensors") for part in names for key in whole[part])
    assert everything(tmp_path / "broken", names) == whole
    text = (tmp_path / "broken.log").read_text()
    assert "done before" in text

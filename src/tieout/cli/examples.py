"""An example or two of each command, printed below its help."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("tieout demo", "tieout demo reason --out runs/reason"),
    "advise": ("tieout advise train.jsonl --reward my_reward.py:right --model Qwen/Qwen3-0.6B",),
    "init": ("tieout init mine --data train.jsonl --model Qwen/Qwen3-0.6B",),
    "doctor": ("tieout doctor mine/recipe.yaml", "tieout doctor --quick"),
    "tasks": ("tieout tasks finance_statements",),
    "rewards": ("tieout rewards numeric",),
    "reward check": ("tieout reward check my_reward.py:right --data train.jsonl",),
    "attack": ("tieout attack my_reward.py:right --data train.jsonl --json attack.json",),
    "calibrate": ("tieout calibrate my_reward.py:right --data labelled.jsonl --out calibration",),
    "label": ("tieout label pairs.jsonl", "tieout label runs/mine"),
    "prefer": (
        "tieout prefer --model runs/sft/sft/adapter --data train.jsonl --reward my_reward.py:right --out pairs.jsonl",
    ),
    "pairs": ("tieout pairs pairs.jsonl --test test.jsonl",),
    "run": ("tieout run mine/recipe.yaml --out runs/mine --set stages.dpo.beta=0.3",),
    "plan": ("tieout plan mine/recipe.yaml --device cuda --memory 24GiB",),
    "train sft": ("tieout train sft --model Qwen/Qwen3-0.6B --data train.jsonl --out runs/sft",),
    "train distill": (
        "tieout train distill --model Qwen/Qwen3-0.6B --teacher Qwen/Qwen3-4B --data prompts.jsonl --out runs/small",
    ),
    "watch": ("tieout watch runs/mine",),
    "sample": (
        'tieout sample "What is 2 + 3?" --model runs/sft/sft/adapter --temperature 0.7',
        "tieout sample --data test.jsonl --model runs/sft/sft/adapter > answers.jsonl",
    ),
    "eval": (
        "tieout eval --model Qwen/Qwen3-0.6B runs/sft --data test.jsonl --reward my_reward.py:right --out runs/judged",
    ),
    "best-of": (
        "tieout best-of --model runs/sft/sft/adapter --data test.jsonl --reward my_reward.py:right --num 1,4,16",
    ),
    "optimize-prompt": (
        "tieout optimize-prompt --model api:gpt-4o-mini --data train.jsonl --reward my_reward.py:right --out prompt",
    ),
    "compare": ("tieout compare mine/recipe.yaml", "tieout compare runs/mine --price dpo=2.5/h --json"),
    "show": ("tieout show runs/mine",),
    "report": ("tieout report runs/mine --out mine.html",),
    "diff": ("tieout diff runs/approved runs/mine",),
    "gate": ("tieout gate runs/mine --human runs/mine/labels",),
    "verify": ("tieout verify runs/mine --fresh 5%",),
    "merge": ("tieout merge runs/sft/sft/adapter --out merged --data test.jsonl",),
    "ship": ("tieout ship runs/mine --review mine/review.yaml",),
}
"""Command -> lines that may be typed."""


def examples(command: str) -> list[str]:
    """Lines to print below the help of a command, such as `eval` or `train dpo`; none for a method of one's own."""
    from ..config.method_table import TABLE

    lines, name = EXAMPLES.get(command, ()), command.removeprefix("train ")
    if not lines and name in TABLE:
        rows = {"label": "labels.jsonl", "prompt": "prompts.jsonl --reward my_reward.py:right"}
        data = rows.get(TABLE[name].rows, "pairs.jsonl")
        lines = (f"tieout train {name} --model runs/sft/sft/adapter --data {data} --out runs/{name}",)
    return ["For example:", *(f"  {line}" for line in lines)] if lines else []

"""Draw docs/stories/style.svg: PPO of a run of recipes/style.yaml, the reward model's scores next to the house style.

python scripts/draw_style.py runs/style   # measures into benchmarks/results/style.json
python scripts/draw_style.py              # draws what was measured
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from draw_summaries import HEIGHT, LEFT, STYLE, TOP, groups_of

from tieout.tasks import load_task
from tieout.tasks.style_rules import facts, hedges, house_style, num_words
from tieout.types import Reward

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "benchmarks" / "results" / "style.json"
PICTURE = ROOT / "docs" / "stories" / "style.svg"
STAGES = ("ppo", "ppo_refreshed")
WIDTH, GAP, ACROSS = 190, 48, 3
PANELS = {
    "score": "reward model's score",
    "house_style": "house style (gold)",
    "facts": "facts unchanged",
    "num_words": "words of a note",
    "hedges": "hedges per sentence",
}
GOLD: dict[str, Reward] = {
    "house_style": house_style,
    "facts": facts,
    "num_words": num_words,
    "hedges": hedges,
}


def measured(run: Path) -> dict[str, Any]:
    """Step by step of both PPO stages: means over what was sampled."""
    rows = {row["prompt"][-1]["content"]: row for row in load_task("style").rows("train")}
    found: dict[str, Any] = {}
    for stage in STAGES:
        steps: dict[str, list[float]] = {name: [] for name in PANELS}
        for _, groups in groups_of(run / stage / "groups.jsonl", rows):
            texts = [completion.text for group in groups for completion in group.completions]
            points = [group.row["points"] for group in groups for _ in group.completions]
            steps["score"].append(fmean(score for group in groups for score in group.scores or []))
            for name, of in GOLD.items():
                steps[name].append(fmean(value or 0.0 for value in of(texts, points=points)))
        found[stage] = {name: [round(value, 4) for value in values] for name, values in steps.items()}
    return found


def panel(title: str, stages: Sequence[Sequence[float]], left: int, top: int) -> list[str]:
    """One measure over the steps, with a dashed line where the reward model was refreshed."""
    values = [value for stage in stages for value in stage]
    low, high = min(0.0, *values), max(1.0, *values)

    def at(step: float, value: float) -> str:
        x = left + WIDTH * step / max(1, len(values) - 1)
        return f"{x:.1f},{top + HEIGHT * (1 - (value - low) / (high - low)):.1f}"

    drawn = [f'<text x="{left}" y="{top - 14}">{title}</text>']
    for tick in (low, (low + high) / 2, high):
        y = at(0, tick).split(",")[1]
        drawn.append(f'<line class="grid" x1="{left}" x2="{left + WIDTH}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<text class="muted" text-anchor="end" x="{left - 6}" y="{y}">{tick:.3g}</text>')
    points = " ".join(at(step, value) for step, value in enumerate(values))
    drawn.append(f'<polyline class="line grpo" points="{points}"/>')
    x = at(len(stages[0]) - 0.5, low).split(",")[0]
    drawn.append(f'<line class="alarm" x1="{x}" x2="{x}" y1="{top}" y2="{top + HEIGHT}"/>')
    bottom = top + HEIGHT + 18
    drawn.append(f'<text class="muted" x="{left}" y="{bottom}">step 1</text>')
    drawn.append(
        f'<text class="muted" text-anchor="end" x="{left + WIDTH}" y="{bottom}">{len(values)}</text>'
    )
    return drawn


def picture() -> str:
    """The SVG of what was measured."""
    found: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    tall, rows = HEIGHT + 64, -(-len(PANELS) // ACROSS)
    width, height = LEFT + ACROSS * (WIDTH + GAP), TOP + rows * tall - 32
    about = "PPO paid by a reward model; dashed: the reward model is refreshed"
    lines = [f'<text class="title" x="{LEFT}" y="22">{about}</text>']
    for place, (name, title) in enumerate(PANELS.items()):
        left, top = LEFT + place % ACROSS * (WIDTH + GAP), TOP + place // ACROSS * tall
        lines += panel(title, [found[stage][name] for stage in STAGES], left, top)
    view = f'viewBox="0 0 {width} {height}" role="img" aria-label="{about}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {view}>', STYLE, *lines, "</svg>\n"])


def main(arguments: Sequence[str]) -> None:
    """Measure the run, if one is given; draw."""
    if arguments:
        MEASURED.write_text(json.dumps(measured(Path(arguments[0])), indent=1) + "\n", encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

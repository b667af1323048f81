"""Draw docs/stories/code.svg: the share of test rows that each model of the published run solves.

python scripts/draw_code.py
"""

from __future__ import annotations

import json
from pathlib import Path

from draw_gains import STYLE

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "benchmarks" / "results" / "stories" / "code-0" / "report.json"
PICTURE = ROOT / "docs" / "stories" / "code.svg"
MODELS = {
    "base": ("base", "base"),
    "sft": ("SFT, 200 programs", "sft"),
    "sft_longer": ("the same, half as long again", "sft"),
    "sft_best_of_4": ("SFT, best of 4 by the example", "sft"),
    "rejection": ("rejection sampling, 2,200 prompts", "dpo"),
    "grpo": ("and GRPO", "dpo"),
}
"""Model -> what it is called, and the class of its colour."""
LABEL, SCALE, ROW, TOP = 250, 380, 26, 18


def picture() -> str:
    """The SVG."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    lines, said, y = list[str](), list[str](), TOP
    for name, (title, colour) in MODELS.items():
        figure = report["models"][name]["programmatic"]["slices"]["test"]["metrics"]["solved"]
        mean, low, high = (LABEL + SCALE * figure[key] for key in ("mean", "low", "high"))
        said.append(f"{title} {figure['mean']:.3f}")
        lines += [
            f'<text x="{LABEL - 10}" y="{y + 4}" text-anchor="end">{title}</text>',
            f'<line class="grid" x1="{LABEL}" x2="{LABEL + SCALE}" y1="{y}" y2="{y}"/>',
            f'<line class="{colour}" stroke-width="3" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>',
            f'<circle class="{colour}" cx="{mean:.1f}" cy="{y}" r="5"/>',
            f'<text class="muted" x="{LABEL + SCALE + 10}" y="{y + 4}">{figure["mean"]:.3f}</text>',
        ]
        y += ROW
    ticks = [
        f'<text class="muted" text-anchor="middle" x="{LABEL + SCALE * at / 4:.0f}" y="{y + 4}">{at * 25}%</text>'
        for at in range(5)
    ]
    size = f"0 0 {LABEL + SCALE + 60} {y + 14}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img">'
    title = f"<title>Share of {figure['n']} test rows solved: {', '.join(said)}</title>"
    return "\n".join([head, title, STYLE, *lines, *ticks, "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")

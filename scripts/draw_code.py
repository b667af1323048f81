"""Draw docs/stories/code.svg: the share of test rows that each model of the published run solves.

python scripts/draw_code.py
"""

from __future__ import annotations

import json
from pathlib import Path

from draw_gains import ROW, SCALE, STYLE, dot, ticks

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
LABEL, TOP = 250, 18


def picture() -> str:
    """The SVG."""
    report = json.loads(REPORT.read_text(encoding="utf-8"))
    lines, said, y = list[str](), list[str](), TOP
    for name, (title, colour) in MODELS.items():
        figure = report["models"][name]["programmatic"]["slices"]["test"]["metrics"]["solved"]
        said.append(f"{title} {figure['mean']:.3f}")
        lines += dot(title, colour, figure, LABEL, y)
        y += ROW
    size = f"0 0 {LABEL + SCALE + 60} {y + 14}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img">'
    title = f"<title>Share of {figure['n']} test rows solved: {', '.join(said)}</title>"
    return "\n".join([head, title, STYLE, *lines, ticks(LABEL, y + 4), "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")

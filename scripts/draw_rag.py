"""Draw docs/stories/rag.svg and rag_demo.svg: how often an answer is right against how often its absence is admitted.

python scripts/draw_rag.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STORIES = ROOT / "docs" / "stories"
RESULTS = ROOT / "benchmarks" / "results"
NAMES = {
    "base": "base",
    "sft": "SFT",
    "sft_best_of_4": "best of 4 of SFT",
    "rejection": "rejection sampling",
    "grpo": "GRPO",
}
LEFT, TOP, SIDE, LEGEND = 70, 20, 360, 470
STYLE = """<style>
  text { font: 13px system-ui, sans-serif; fill: #102a2a; }
  .muted { fill: #47605f; font-size: 12px; }
  .grid { stroke: #d5e0df; fill: none; }
  .program { stroke: #8a9a99; fill: none; stroke-width: 2; }
  .base { stroke: #8a9a99; fill: #8a9a99; }
  .sft { stroke: #3f7fbf; fill: #3f7fbf; }
  .sft_best_of_4 { stroke: #9a5fb5; fill: #9a5fb5; }
  .rejection { stroke: #b86e1f; fill: #b86e1f; }
  .grpo { stroke: #0b7a6f; fill: #0b7a6f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e3eeee; } .muted { fill: #9db3b2; } .grid { stroke: #33474a; }
    .program { stroke: #93a4a3; }
    .base { stroke: #93a4a3; fill: #93a4a3; }
    .sft { stroke: #76b1ec; fill: #76b1ec; }
    .sft_best_of_4 { stroke: #c79be0; fill: #c79be0; }
    .rejection { stroke: #e0a35c; fill: #e0a35c; }
    .grpo { stroke: #45c1b2; fill: #45c1b2; }
  }
</style>"""

Figures = Mapping[str, Sequence[float]]


def at(answered: float, refused: float) -> tuple[float, float]:
    """Where a point of the two shares stands."""
    return LEFT + SIDE * answered, TOP + SIDE * (1 - refused)


def axes() -> list[str]:
    """The square, its ticks and what they are."""
    lines = [f'<rect class="grid" x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}"/>']
    for step in range(5):
        x, y = at(step / 4, step / 4)
        lines += [
            f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{TOP + SIDE}"/>',
            f'<line class="grid" x1="{LEFT}" x2="{LEFT + SIDE}" y1="{y}" y2="{y}"/>',
            f'<text class="muted" x="{x}" y="{TOP + SIDE + 18}" text-anchor="middle">{step * 25}%</text>',
            f'<text class="muted" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{step * 25}%</text>',
        ]
    middle, below = TOP + SIDE / 2, TOP + SIDE + 40
    return [
        *lines,
        f'<text x="{LEFT + SIDE / 2}" y="{below}" text-anchor="middle">answered rightly, of those that can be</text>',
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">'
        "refused, of those that cannot be</text>",
    ]


def cross(kind: str, of: Figures) -> str:
    """A model: a dot with the 95% intervals of both shares."""
    (x, y), (left, low), (right, high) = (at(of["answered"][i], of["refused"][i]) for i in range(3))
    return (
        f'<line class="{kind}" stroke-width="2" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<line class="{kind}" stroke-width="2" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    )


def measured() -> dict[str, Any]:
    """What `benchmarks/rag_documents.py` wrote."""
    told: dict[str, Any] = json.loads((RESULTS / "rag_documents.json").read_text(encoding="utf-8"))
    return told


def demo() -> dict[str, Figures]:
    """Model -> the two shares on the test rows of the published run of `recipes/rag.yaml`, with their intervals."""
    report = json.loads((RESULTS / "stories" / "rag-0" / "report.json").read_text(encoding="utf-8"))
    found = {}
    for model in NAMES:
        metrics = report["models"][model]["programmatic"]["slices"]["test"]["metrics"]
        found[model] = {
            name: [metrics[name][key] for key in ("mean", "low", "high")] for name in ("answered", "refused")
        }
    return found


def picture(runs: Mapping[str, Mapping[str, Figures]], program: Sequence[Sequence[float]] = ()) -> str:
    """The SVG of runs, next to a program's line if there is one."""
    lines, legend, words, y = list[str](), list[str](), list[str](), TOP + 12
    if program:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*one) for one in program))
        lines.append(f'<polyline class="program" points="{points}"/>')
        legend.append(
            f'<line class="program" x1="{LEGEND - 7}" x2="{LEGEND + 7}" y1="{y - 4}" y2="{y - 4}"/>'
        )
        legend.append(f'<text x="{LEGEND + 16}" y="{y}">the nearest sentence, or unknown:</text>')
        legend.append(
            f'<text class="muted" x="{LEGEND + 16}" y="{y + 18}">a program, by its threshold</text>'
        )
        y += 48
    for run, models in runs.items():
        legend.append(f'<text class="muted" x="{LEGEND - 7}" y="{y}">{run}</text>')
        y += 24
        for kind, name in NAMES.items():
            if kind in models:
                of = models[kind]
                lines.append(cross(kind, of))
                legend.append(f'<circle class="{kind}" cx="{LEGEND}" cy="{y - 4}" r="5"/>')
                said = f"{name}: {of['answered'][0]:.2f}, {of['refused'][0]:.2f}"
                legend.append(f'<text x="{LEGEND + 16}" y="{y}">{said}</text>')
                words.append(f"{run}, {said}")
                y += 22
        y += 10
    title = "Answered rightly and refused rightly. " + ". ".join(words)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {TOP + SIDE + 55}" role="img">'
    return "\n".join([head, f"<title>{title}</title>", STYLE, *axes(), *lines, *legend, "</svg>\n"])


def pictures() -> dict[Path, str]:
    """File -> the SVG."""
    told = measured()
    return {
        STORIES / "rag.svg": picture(told["runs"], told["nearest"]),
        STORIES / "rag_demo.svg": picture({"the demo": demo()}),
    }


if __name__ == "__main__":
    for file, svg in pictures().items():
        file.write_text(svg, encoding="utf-8")

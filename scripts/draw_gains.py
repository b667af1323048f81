"""Draw docs/gains.svg: the share of right answers before and after each stage, from published reports.

python scripts/draw_gains.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "gains.svg"
RUNS = {
    "SmolLM2-135M-Instruct, bf16": ROOT / "benchmarks" / "results" / "real" / "real_align-0",
    "tieout-base, 1.7M parameters, fp32": ROOT / "benchmarks" / "results" / "demo_seeds" / "align-0",
}
STAGES = {"base": "base", "sft": "SFT", "dpo": "DPO"}
PANEL, LABEL, SCALE, ROW, TOP = 440, 92, 250, 22, 40
STYLE = """<style>
  text { font: 13px system-ui, sans-serif; fill: #102a2a; }
  .title { font-weight: 600; }
  .muted { fill: #47605f; font-size: 12px; }
  .grid { stroke: #d5e0df; }
  .base { stroke: #8a9a99; fill: #8a9a99; }
  .sft { stroke: #3f7fbf; fill: #3f7fbf; }
  .dpo { stroke: #0b7a6f; fill: #0b7a6f; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e3eeee; } .muted { fill: #9db3b2; } .grid { stroke: #33474a; }
    .base { stroke: #93a4a3; fill: #93a4a3; }
    .sft { stroke: #76b1ec; fill: #76b1ec; }
    .dpo { stroke: #45c1b2; fill: #45c1b2; }
  }
</style>"""

Figure = Mapping[str, Any]


def figures(run: Path) -> Iterator[tuple[str, dict[str, Figure]]]:
    """What is asked -> stage -> mean and interval, as the run's report has them."""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    own = {stage: report["models"][stage] for stage in STAGES}
    for title, slice in (("held-out statements", "test"), ("other layouts", "ood")):
        yield title, {s: own[s]["programmatic"]["slices"][slice]["metrics"]["exact"] for s in STAGES}
    yield "controls", {s: own[s]["negative_controls"] for s in STAGES}


def panel(title: str, run: Path, left: int) -> str:
    """One run: a dot with its 95% interval for each stage and kind of row."""
    lines, y = [f'<text class="title" x="{left}" y="18">{title}</text>'], TOP
    start = left + LABEL
    for kind, found in figures(run):
        count = {figure["n"] for figure in found.values()}
        asked = f"{kind}, {min(count)}"
        lines.append(f'<text class="muted" x="{left}" y="{y + 4}">{asked}</text>')
        y += ROW
        for stage, figure in found.items():
            lines += dot(STAGES[stage], stage, figure, start, y)
            y += ROW
        y += 6
    return "\n".join([*lines, ticks(start, y + 8)])


def dot(title: str, colour: str, figure: Figure, start: float, y: float) -> list[str]:
    """A mean with its interval, on a line from 0 to 1 that begins at `start`."""
    mean, low, high = (start + SCALE * figure[key] for key in ("mean", "low", "high"))
    return [
        f'<text x="{start - 8}" y="{y + 4}" text-anchor="end">{title}</text>',
        f'<line class="grid" x1="{start}" x2="{start + SCALE}" y1="{y}" y2="{y}"/>',
        f'<line class="{colour}" stroke-width="3" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>',
        f'<circle class="{colour}" cx="{mean:.1f}" cy="{y}" r="5"/>',
        f'<text class="muted" x="{start + SCALE + 10}" y="{y + 4}">{figure["mean"]:.3f}</text>',
    ]


def ticks(start: float, y: float) -> str:
    """The scale below the dots."""
    return "".join(
        f'<text class="muted" text-anchor="middle" x="{start + SCALE * at / 4:.0f}" y="{y}">{at * 25}%</text>'
        for at in range(5)
    )


def said() -> str:
    """The picture in words, for who cannot see it."""
    parts = []
    for title, run in RUNS.items():
        for kind, found in figures(run):
            means = ", ".join(f"{STAGES[stage]} {figure['mean']:.3f}" for stage, figure in found.items())
            parts.append(f"{title}, {kind}: {means}")
    return ". ".join(parts)


def picture() -> str:
    """The SVG."""
    height = TOP + 3 * (4 * ROW + 6) + 20
    panels = [panel(title, run, 10 + i * PANEL) for i, (title, run) in enumerate(RUNS.items())]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PANEL * len(RUNS) + 10} {height}" role="img">',
            f"<title>{said()}</title>",
            STYLE,
            *panels,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")

"""Draw docs/stories/{code,filings,derive}.svg: what each model of a published run gets right, from few demonstrations.

python scripts/draw_few.py
"""

from __future__ import annotations

import json
from pathlib import Path

from draw_gains import ROW, SCALE, STYLE, dot, ticks

ROOT = Path(__file__).resolve().parents[1]
RUNS = {
    "code": ("solved", "200 programs", "2,200", " by the example"),
    "filings": ("exact", "100 statements", "2,100", ""),
    "derive": ("right", "100 answers", "2,100", ""),
}
"""Story -> primary metric, what SFT learns from, all prompts, what the best of 4 is chosen by; empty: the reward."""
MODELS = {
    "base": ("base", "base"),
    "sft": ("SFT, {few}", "sft"),
    "sft_longer": ("the same, half as long again", "sft"),
    "sft_best_of_4": ("SFT, best of 4{chosen}", "sft"),
    "rejection": ("rejection sampling, {all} prompts", "dpo"),
    "grpo": ("and GRPO", "dpo"),
}
"""Model -> what it is called, and the class of its colour."""
LABEL, TOP = 250, 18


def picture(story: str) -> str:
    """The SVG."""
    metric, few, prompts, chosen = RUNS[story]
    report = json.loads((ROOT / f"benchmarks/results/stories/{story}-0/report.json").read_text("utf-8"))
    lines, said, y = list[str](), list[str](), TOP
    for name, (form, colour) in MODELS.items():
        title = form.format(few=few, all=prompts, chosen=chosen)
        figure = report["models"][name]["programmatic"]["slices"]["test"]["metrics"][metric]
        said.append(f"{title} {figure['mean']:.3f}")
        lines += dot(title, colour, figure, LABEL, y)
        y += ROW
    size = f"0 0 {LABEL + SCALE + 60} {y + 14}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img">'
    what = "solved" if metric == "solved" else "right"
    title = f"<title>Share of {figure['n']} test rows {what}: {', '.join(said)}</title>"
    return "\n".join([head, title, STYLE, *lines, ticks(LABEL, y + 4), "</svg>\n"])


def pictures() -> dict[Path, str]:
    """File -> the SVG."""
    return {ROOT / "docs" / "stories" / f"{story}.svg": picture(story) for story in RUNS}


if __name__ == "__main__":
    for file, svg in pictures().items():
        file.write_text(svg, encoding="utf-8")

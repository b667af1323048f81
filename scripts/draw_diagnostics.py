"""Draw docs/stories/derive_training.svg: what a report shows first of a training, from the GRPO of recipes/derive.yaml.

python scripts/draw_diagnostics.py runs/derive   # copies what the stage logged into benchmarks/results/derive.json
python scripts/draw_diagnostics.py               # draws what was copied
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tieout.evidence.charts import HEIGHT, WIDTH
from tieout.evidence.training import DIAGNOSTICS, SCORES, read_stage, stage_charts, words

ROOT = Path(__file__).resolve().parents[1]
LOGGED = ROOT / "benchmarks" / "results" / "derive.json"
PICTURE = ROOT / "docs" / "stories" / "derive_training.svg"
LENGTHS = tuple(f"length_{ending}" for ending in ("min", "q1", "median", "q3", "max"))
KEPT = ("step", SCORES, "score", "gold", *LENGTHS, "valid", "other_script", "entropy")
ACROSS, GAP, TITLE = 4, 16, 22
STYLE = """<style>
  text { font: 10px system-ui, sans-serif; fill: #47605f; }
  .title { font-size: 13px; font-weight: 600; fill: #102a2a; }
  .grid { stroke: #d5e0df; } .alarm { stroke: #b4552d; stroke-dasharray: 4 3; }
  polyline { fill: none; stroke: #0b7a6f; stroke-linejoin: round; }
  polygon, .cell { fill: #0b7a6f; } .span { opacity: .14; } .quartiles { opacity: .28; }
  .raw { stroke-width: 1; opacity: .28; } .smooth { stroke-width: 1.8; }
  @media (prefers-color-scheme: dark) {
    text { fill: #9db3b2; } .title { fill: #e3eeee; } .grid { stroke: #33474a; } .alarm { stroke: #f09a70; }
    polyline { stroke: #45c1b2; } polygon, .cell { fill: #45c1b2; }
  }
</style>"""


def copied(run: Path) -> list[dict[str, object]]:
    """What the charts are drawn of, a row a step."""
    return [{key: row[key] for key in KEPT if key in row} for row in read_stage(run / "grpo")]


def picture() -> str:
    """The SVG."""
    rows = json.loads(LOGGED.read_text("utf-8"))
    charts = [chart for chart in stage_charts("grpo", rows) if chart["name"] in DIAGNOSTICS]
    tall = HEIGHT + TITLE + GAP
    size = f"0 0 {ACROSS * (WIDTH + GAP)} {-(-len(charts) // ACROSS) * tall}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img">', STYLE]
    for place, chart in enumerate(charts):
        x, y = place % ACROSS * (WIDTH + GAP), place // ACROSS * tall
        parts.append(
            f'<text class="title" x="{x + 6}" y="{y + 14}">{words(chart["name"]).partition(":")[0]}</text>'
        )
        at = f'<svg x="{x}" y="{y + TITLE}" width="{WIDTH}" height="{HEIGHT}"'
        parts.append(chart["svg"].replace('<svg class="curve"', at, 1))
    return "\n".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        lines = ",\n".join(json.dumps(row) for row in copied(Path(sys.argv[1])))
        LOGGED.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")

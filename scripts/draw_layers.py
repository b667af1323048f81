"""Draw docs/layers.svg: the rooms of the package in the layers that tests/test_house.py holds.

python scripts/draw_layers.py
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "layers.svg"
WIDTH, ROW, GAP, BOX = 960, 58, 8, 46
STYLE = """<style>
  text { font: 14px system-ui, sans-serif; fill: #102a2a; text-anchor: middle; }
  .within { font-size: 11px; fill: #47605f; }
  rect { fill: #e3f2f0; stroke: #4f8f88; rx: 5px; }
</style>"""


def layers() -> list[list[str]]:
    """The layers of tests/test_house.py, the lowest first, without those that do not exist."""
    tree = ast.parse((ROOT / "tests" / "test_house.py").read_text(encoding="utf-8"))
    (found,) = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS"
    ]
    return [[name for name in names if name != "__main__"] for names in ast.literal_eval(found)]


def title(name: str) -> str:
    """A folder or a file."""
    return f"{name}/" if (ROOT / "src" / "tieout" / name).is_dir() else f"{name}.py"


def within(name: str) -> str:
    """The folders of a folder."""
    return " · ".join(sorted(p.parent.name for p in (ROOT / "src" / "tieout" / name).glob("*/__init__.py")))


def box(name: str, x: float, y: float, width: float) -> str:
    """A room as a rectangle with its name and its folders."""
    middle, folders = x + width / 2, within(name)
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX}"/>'
        f'<text x="{middle:.0f}" y="{y + (20 if folders else 28):.0f}">{title(name)}</text>'
        f'<text class="within" x="{middle:.0f}" y="{y + 36:.0f}">{folders}</text>'
    )


def row(names: list[str], y: float) -> str:
    """The rooms of one layer, each as wide as its text needs, spread over the width."""
    need = [max(8.5 * len(title(name)), 6.2 * len(within(name))) + 12 for name in names]
    spare = (WIDTH - GAP * (len(names) - 1) - sum(need)) / len(names)
    x, boxes = 0.0, []
    for name, least in zip(names, need, strict=True):
        boxes.append(box(name, x, y, least + spare))
        x += least + spare + GAP
    return "\n".join(boxes)


def picture() -> str:
    """The SVG: the doors above, the data types below; imports point down."""
    top_first = layers()[::-1]
    rows = "\n".join(row(names, 1 + place * ROW) for place, names in enumerate(top_first))
    size = f'viewBox="-1 0 {WIDTH + 2} {len(top_first) * ROW - ROW + BOX + 2}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{STYLE}\n{rows}\n</svg>\n'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")

"""Draw docs/stories/filings_{sft,grpo}.svg: a statement next to the JSON of each model, with right and wrong marked.

python scripts/draw_filings.py

The rows are the first of the published run that SFT, and that GRPO, does not get wholly right. What the models said is
shown to the last character; only line breaks are added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from tieout.evidence.evaluate import Case, read_cases
from tieout.rewards.text.loose_json import number
from tieout.rewards.text.structured import cited_share
from tieout.storage.jsonl import read_jsonl, stored

ROOT = Path(__file__).resolve().parents[1]
STORY = ROOT / "docs" / "stories"
RUN = ROOT / "benchmarks" / "results" / "stories" / "filings-0"
MODELS = {"base": "base", "sft": "SFT on 100 statements", "grpo": "rejection sampling and GRPO"}
FAILED = ("sft", "grpo")
"""A picture of the first row in which each of these is not wholly right."""
WIDTH, LEFT, FIGURES, JSON, LINE = 800, 8, 232, 256, 17
STYLE = """<style>
  text { font: 12px system-ui, sans-serif; fill: #102a2a; }
  .title { font-weight: 600; }
  .json { font: 11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre; }
  .muted { fill: #47605f; }
  .rule { stroke: #d5e0df; }
  .right { fill: #0b7a6f; } .wrong { fill: #b4552d; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e3eeee; } .muted { fill: #9db3b2; } .rule { stroke: #33474a; }
    .right { fill: #45c1b2; } .wrong { fill: #f09a70; }
  }
</style>"""
_STRING = r'"(?:[^"\\]|\\.)*"?'
_PIECE = re.compile(rf"(?:{_STRING}|[^\"{{}}\[\],]|,(?=[^\"]))*(?:[{{\[]|[}}\]]+,?|,)?")
_ENTRY = re.compile(rf"({_STRING}): *({_STRING}|[^,}}\]]+)")
_PART = re.compile(r'"(\w+)": *[{\[]$')


class Line(NamedTuple):
    """A line of what a model said."""

    text: str
    part: str = ""
    """`figures` or `citations`, of a line with an entry of that part."""
    name: str = ""
    right: bool | None = None
    """None: the line has no entry."""


def lines_of(said: str, row: Mapping[str, Any]) -> Iterator[Line]:
    """The lines of a reply, and whether their entries are right, as the reward says it."""
    part = ""
    for found in _PIECE.finditer(said):
        if not (text := found[0]):
            continue
        if opened := _PART.search(text):
            part = opened[1]
            yield Line(text)
            continue
        entry = _ENTRY.match(text)
        if not entry or part not in ("figures", "citations"):
            yield Line(text)
            continue
        name, value = entry[1].strip('"'), entry[2].strip()
        if part == "figures":
            right = name in row["figures"] and number(value) == row["figures"][name]
        else:
            proof = row["evidence"].get(name)
            right = proof is not None and cited_share([value.strip('"')], [proof], row["source"]) == 1
        yield Line(text, part, name, right)
        if text.rstrip(",").endswith(("}", "]")):
            part = ""


def statement(row: Mapping[str, Any], y: int) -> list[str]:
    """The statement as it is printed: a label and a figure a line."""
    head, period, *lines = str(row["source"]).split("\n")
    company, _, what = head.partition(", ")
    drawn = [
        f'<text class="title" x="{LEFT}" y="{y}">{escape(company)}</text>',
        f'<text class="muted" x="{LEFT}" y="{y + LINE}">{escape(what)}</text>',
        f'<text class="muted" x="{FIGURES}" y="{y + 2 * LINE + 4}" text-anchor="end">{period.strip(" |")}</text>',
    ]
    for place, line in enumerate(lines, 1):
        label, _, figure = line.partition(" | ")
        below = y + (place + 2) * (LINE + 3)
        drawn.append(f'<line class="rule" x1="{LEFT}" x2="{FIGURES}" y1="{below - 14}" y2="{below - 14}"/>')
        drawn.append(f'<text x="{LEFT}" y="{below}">{escape(label)}</text>')
        drawn.append(f'<text x="{FIGURES}" y="{below}" text-anchor="end">{escape(figure)}</text>')
    return drawn


def reply(title: str, case: Case, row: Mapping[str, Any], y: int) -> tuple[list[str], int]:
    """What a model said, from `y` down, and where it ends."""
    lines = list(lines_of(case.completion, row))
    drawn = [
        f'<text class="title" x="{JSON}" y="{y}">{title}</text>',
        f'<text class="muted" x="{WIDTH - 8}" y="{y}" text-anchor="end">reward {case.score or 0:.2f}</text>',
    ]
    depth = 0
    for line in lines:
        y += LINE
        depth -= line.text[0] in "}]"
        kind = "" if line.right is None else " right" if line.right else " wrong"
        mark = {" right": "✓", " wrong": "✗"}.get(kind, "")
        drawn.append(f'<text class="json{kind}" x="{JSON}" y="{y}">{mark}</text>')
        text = escape("  " * max(depth, 0) + line.text, quote=False)
        drawn.append(f'<text class="json{kind}" x="{JSON + 14}" y="{y}" xml:space="preserve">{text}</text>')
        outside = re.sub(_STRING, "", line.text[line.text[0] in "}]" :])
        depth += sum(outside.count(c) for c in "{[") - sum(outside.count(c) for c in "}]")
    for part, wanted in (("figures", "figure"), ("citations", "citation")):
        given = {line.name for line in lines if line.part == part}
        if missing := [name for name in row["figures"] if name not in given]:
            y += LINE
            none = f"no {wanted} of " + (", ".join(missing) if given else "any line")
            drawn.append(f'<text class="wrong" x="{JSON}" y="{y}">✗ {escape(none, quote=False)}</text>')
    return drawn, y + LINE + 10


def picture(cases: Mapping[str, Case], row: Mapping[str, Any]) -> str:
    """The SVG of one row."""
    drawn, y = statement(row, 20), 20
    for model, title in MODELS.items():
        block, y = reply(title, cases[model], row, y)
        drawn += block
    said = ". ".join(f"{title}: {cases[model].completion}" for model, title in MODELS.items())
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - LINE}" role="img">'
    title = f"<title>{escape(str(row['source']))}. {escape(said)}</title>"
    return "\n".join([head, title, STYLE, *drawn, "</svg>\n"])


def pictures() -> dict[Path, str]:
    """File -> the SVG."""
    cases = read_cases(stored(RUN / "cases.jsonl"))
    rows = [line["row"] for _, line in read_jsonl(stored(RUN / "rows.jsonl"))]
    drawn = {}
    for model in FAILED:
        place = next(i for i, case in enumerate(cases[model]) if not case.metrics["exact"])
        one = {name: own[place] for name, own in cases.items()}
        drawn[STORY / f"filings_{model}.svg"] = picture(one, rows[place])
    return drawn


if __name__ == "__main__":
    for file, svg in pictures().items():
        file.write_text(svg, encoding="utf-8")

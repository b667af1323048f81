"""Measure a run of recipes/summaries.yaml step by step, and draw docs/stories/summaries.svg from it.

python scripts/draw_summaries.py runs/summaries   # measures into benchmarks/results/summaries.json; tables
python scripts/draw_summaries.py                  # draws what was measured
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tieout.rewards.library.summary import quiz_score, summary
from tieout.tasks import load_task
from tieout.tasks.summaries import copied_share, num_words
from tieout.training.alarms import gold_against_proxy
from tieout.types import Completion, Group

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "benchmarks" / "results" / "summaries.json"
PICTURE = ROOT / "docs" / "stories" / "summaries.svg"
STAGES = {"quiz_only": "quiz alone", "grpo": "whole reward"}
PANELS = {
    "copied": ("share copied from the call", 1.0),
    "words": ("words of a summary", 0.0),
    "quiz": ("questions answered", 1.0),
}
WIDTH, HEIGHT, GAP, LEFT, TOP = 190, 140, 48, 34, 70
STYLE = """<style>
  text { font: 13px system-ui, sans-serif; fill: #102a2a; }
  .title { font-weight: 600; }
  .muted { fill: #47605f; font-size: 12px; }
  .grid { stroke: #d5e0df; }
  .line { fill: none; stroke-width: 2; }
  .raw { fill: none; stroke-width: 1; opacity: 0.35; }
  .quiz_only { stroke: #b4552d; } .grpo { stroke: #0b7a6f; }
  text.quiz_only { fill: #b4552d; stroke: none; } text.grpo { fill: #0b7a6f; stroke: none; }
  .alarm { stroke: #b4552d; stroke-dasharray: 4 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e3eeee; } .muted { fill: #9db3b2; } .grid { stroke: #33474a; }
    .quiz_only { stroke: #f09a70; } .grpo { stroke: #45c1b2; } .alarm { stroke: #f09a70; }
    text.quiz_only { fill: #f09a70; } text.grpo { fill: #45c1b2; }
  }
</style>"""


def groups_of(log: Path, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[int, list[Group]]]:
    """(step, its groups with their rows), as `groups.jsonl` has them."""
    steps: dict[int, list[Group]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        sampled = [Completion([1], [True], [0.0], text) for text in found["completions"]]
        row = rows[found["prompt"][-1]["content"]]
        steps.setdefault(found["step"], []).append(Group([0], sampled, found["scores"], dict(row)))
    yield from steps.items()


def measured(run: Path) -> dict[str, Any]:
    """Step by step of both GRPO stages; the alarms that went off, and when gold would have; the report's table."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    task = load_task("summaries", record["identity"]["task_options"])
    rows = {row["document"]: row for row in task.rows("train")}
    stages: dict[str, Any] = {}
    for stage in STAGES:
        gold, told = gold_against_proxy(summary), list[dict[str, Any]]()
        steps: dict[str, list[float]] = {name: [] for name in (*PANELS, "reward")}
        for step, groups in groups_of(run / stage / "groups.jsonl", rows):
            texts = [[completion.text for completion in group.completions] for group in groups]
            columns = [
                {name: [group.row[name]] * len(said) for name in ("document", "reference")}
                for group, said in zip(groups, texts, strict=True)
            ]
            for name, reward in (
                ("copied", copied_share),
                ("words", num_words),
                ("quiz", quiz_score),
                ("reward", summary),
            ):
                scores = [reward(said, **given) for said, given in zip(texts, columns, strict=True)]
                steps[name].append(round(fmean(x for group in scores for x in group if x is not None), 4))
            if reason := gold(step, groups, {}):
                told.append({"step": step, "reason": reason})
        alarms = run / stage / "alarms.jsonl"
        said = alarms.read_text(encoding="utf-8").splitlines() if alarms.exists() else []
        stages[stage] = {"steps": steps, "alarms": [json.loads(line) for line in said], "gold": told[:1]}
    report = json.loads((run / "evidence" / "report.json").read_text(encoding="utf-8"))
    return {"stages": stages, "models": table(report["models"]), "differences": differences(report)}


def table(models: Mapping[str, Any]) -> dict[str, Any]:
    """Model -> split -> metric -> mean, low, high, n."""
    found: dict[str, Any] = {}
    for name, model in models.items():
        slices = model["programmatic"]["slices"]
        found[name] = {split: {"reward": short(of), **each(of["metrics"])} for split, of in slices.items()}
    return found


def differences(report: Mapping[str, Any]) -> dict[str, Any]:
    """`candidate - baseline` -> split -> metric -> difference, low, high, n."""
    found: dict[str, Any] = {}
    for pair in report["comparisons"]:
        slices = pair["tracks"]["programmatic"]["slices"]
        found[f"{pair['candidate']} - {pair['baseline']}"] = {
            split: {"reward": short(of), **each(of["metrics"])} for split, of in slices.items()
        }
    return found


def each(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """`short` of every metric."""
    return {name: short(of) for name, of in metrics.items()}


def short(of: Mapping[str, Any]) -> dict[str, float]:
    """Value and interval."""
    return {key: of[key] for key in ("mean", "difference", "low", "high", "n") if key in of}


def panel(name: str, title: str, top: float, left: int, stages: Mapping[str, Any]) -> list[str]:
    """One measure over the steps: both runs as they are, and their means of five steps."""
    lines = {stage: stages[stage]["steps"][name] for stage in STAGES}
    top = top or 10 * (1 + max(map(max, lines.values())) // 10)
    last = max(map(len, lines.values()))

    def at(step: int, value: float) -> str:
        return f"{left + WIDTH * step / max(1, last - 1):.1f},{TOP + HEIGHT * (1 - value / top):.1f}"

    drawn = [f'<text x="{left}" y="{TOP - 14}">{title}</text>']
    for tick in (0.0, top / 2, top):
        y = TOP + HEIGHT * (1 - tick / top)
        drawn.append(f'<line class="grid" x1="{left}" x2="{left + WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class="muted" text-anchor="end" x="{left - 6}" y="{y + 4:.1f}">{tick:g}</text>')
    for stage, values in lines.items():
        smooth = [fmean(values[max(0, i - 2) : i + 3]) for i in range(len(values))]
        for kind, shown in (("raw", values), ("line", smooth)):
            points = " ".join(at(step, value) for step, value in enumerate(shown))
            drawn.append(f'<polyline class="{kind} {stage}" points="{points}"/>')
    bottom = TOP + HEIGHT + 18
    drawn.append(f'<text class="muted" x="{left}" y="{bottom}">step 1</text>')
    drawn.append(f'<text class="muted" text-anchor="end" x="{left + WIDTH}" y="{bottom}">{last}</text>')
    for step, label in first_alarms(stages["quiz_only"], name):
        x = at(step - 1, 0).split(",")[0]
        drawn.append(f'<line class="alarm" x1="{x}" x2="{x}" y1="{TOP}" y2="{TOP + HEIGHT}"/>')
        drawn.append(f'<text class="quiz_only" x="{float(x) + 5:.1f}" y="{TOP + 14}">{label}</text>')
    return drawn


def first_alarms(stage: Mapping[str, Any], name: str) -> Iterator[tuple[int, str]]:
    """(step, label) of the first alarm over what a panel shows."""
    words = {"copied": ("copied ",), "words": ("length ", "cut_off ")}.get(name, ())
    told = [alarm["step"] for alarm in stage["alarms"] if alarm["reason"].startswith(words)]
    if told:
        yield min(told), f"alarm, step {min(told)}"
    if name == "quiz" and stage["gold"]:
        yield stage["gold"][0]["step"], f"gold alarm, step {stage['gold'][0]['step']}"


def picture() -> str:
    """The SVG of what was measured."""
    stages = json.loads(MEASURED.read_text(encoding="utf-8"))["stages"]
    width, height = LEFT + len(PANELS) * (WIDTH + GAP), TOP + HEIGHT + 32
    lines, x = list[str](), LEFT
    for stage, text in STAGES.items():
        lines.append(f'<text class="title {stage}" x="{x}" y="22">GRPO paid by the {text}</text>')
        x += WIDTH + GAP
    for place, (name, (title, top)) in enumerate(PANELS.items()):
        lines += panel(name, title, top, LEFT + place * (WIDTH + GAP), stages)
    view = f'viewBox="0 0 {width} {height}" role="img" aria-label="Two GRPO runs, step by step"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {view}>', STYLE, *lines, "</svg>\n"])


COLUMNS = ("quiz_score", "num_words", "copied_share", "reward")
SHOWN = ("quiz_only - sft", "grpo - sft", "grpo - quiz_only", "grpo - sft_best_of_4")


def page(found: Mapping[str, Any], split: str = "test") -> Iterator[str]:
    """The tables of the page, in Markdown: models with intervals, and paired differences."""
    for title, rows, key in (
        ("", found["models"], "mean"),
        ("difference", found["differences"], "difference"),
    ):
        yield f"| {title} | " + " | ".join(COLUMNS) + " |"
        yield "|---" * (1 + len(COLUMNS)) + "|"
        for name, splits in rows.items():
            if key == "difference" and name not in SHOWN:
                continue
            cells = [splits[split][column] for column in COLUMNS]
            sign = "+" if key == "difference" else ""
            shown = (f"{c[key]:{sign}.3f} [{c['low']:{sign}.3f}, {c['high']:{sign}.3f}]" for c in cells)
            yield f"| {name} | " + " | ".join(shown) + " |"
        yield ""


def main(arguments: Sequence[str]) -> None:
    """Measure the run, if one is given; draw."""
    if arguments:
        text = json.dumps(measured(Path(arguments[0])), indent=1)
        MEASURED.write_text(text + "\n", encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")
    print("\n".join(page(json.loads(MEASURED.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main(sys.argv[1:])

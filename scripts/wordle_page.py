"""Write a page that replays the games of a run of `recipes/wordle.yaml`, all its models next to each other.

    python scripts/wordle_page.py                 # docs/stories/wordle.html and wordle.svg, of the published run
    python scripts/wordle_page.py runs/wordle --out wordle.html --picture wordle.svg --word crane

One file that fetches nothing. Arrow keys change the game and the turn. The games are those of `evidence/cases.jsonl`,
the figures and intervals those of `evidence/report.json`. The picture is of one word.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tieout.errors import InputError
from tieout.evidence.evaluate import Case, read_cases
from tieout.storage.jsonl import stored
from tieout.tasks.wordle import shown
from tieout.tasks.wordle_rewards import guess_of
from tieout.tasks.wordle_words import guessable, mark, words_of

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "benchmarks" / "results" / "stories" / "wordle-0"
STORY = ROOT / "docs" / "stories" / "wordle"
WORD = "sever"
"""The word of the picture: the first test word that GRPO finds and SFT does not."""
PAGE = Path(__file__).with_name("wordle_page.html")
FIGURES = {
    "solved": "games won",
    "guesses": "guesses (lost: 7)",
    "consistent": "guesses that agree with all marks",
}
NAMES = {"base": "Base", "sft": "SFT", "grpo": "GRPO"}
_CODES = {True: "2", False: "1"}


def turns_of(case: Case, word: str) -> list[list[str]]:
    """[guess, marks] of each turn: 2 right place, 1 another place, 0 not in the word; no marks: no word of the list.

    ValueError: the game gave other marks, so that it was about another word.
    """
    turns = list[list[str]]()
    for said, reply in zip_longest(case.turns, case.replies):
        guess = guess_of(said)
        taken = guess in guessable()
        if taken and reply and not reply.startswith(f"Marks: {shown(guess, word)}\n"):
            raise ValueError(
                f"{case.id}: the game replied {reply!r}, and the word of this row is {word!r}; expected an evaluation "
                "of the first test words in their order, as `evaluate` in a recipe makes it"
            )
        codes = "".join("0" if m == "." else _CODES[m.isupper()] for m in mark(guess, word)) if taken else ""
        turns.append([guess or said.strip()[:12], codes])
    return turns


def games(cases: Mapping[str, Sequence[Case]], models: Sequence[str]) -> list[dict[str, Any]]:
    """Each word with the turns of every model."""
    rows, words = list[dict[str, Any]](), words_of("test")
    for own in zip(*(cases[model] for model in models), strict=True):
        own = tuple(own)
        word = words[int(own[0].id.rpartition("/")[2])]
        rows.append({"word": word, "turns": [turns_of(case, word) for case in own]})
    return rows


def figures(report: Mapping[str, Any], models: Sequence[str]) -> list[dict[str, Any]]:
    """Each figure with mean and interval of every model."""
    found = []
    for name, title in FIGURES.items():
        own = [report["models"][m]["programmatic"]["slices"]["test"]["metrics"][name] for m in models]
        found.append({"title": title, "values": [[f["mean"], f["low"], f["high"]] for f in own]})
    return found


def picture(game: Mapping[str, Any], models: Sequence[str]) -> str:
    """The boards of one word as SVG."""
    tile, step, wide = 30, 34, 210
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide * len(models)} {6 * step + 58}">',
        "<style>text { font: 700 15px system-ui, sans-serif; fill: #fff; text-anchor: middle; } "
        ".name { fill: #17211f; text-anchor: start; } .none { fill: #5b6967; } .k0 { fill: #76807e; } "
        ".k1 { fill: #b8901c; } .k2 { fill: #3f8a4f; } .empty { fill: none; stroke: #a9b5b3; } "
        "@media (prefers-color-scheme: dark) { .name { fill: #e8efed; } .none { fill: #9fb0ad; } }</style>",
    ]
    for m, (name, turns) in enumerate(zip(models, game["turns"], strict=True)):
        left = m * wide + 8
        found = f"found in {len(turns)}" if turns[-1][1] == "22222" else "not found"
        parts.append(f'<text class="name" x="{left}" y="20">{name}: {found}</text>')
        for r in range(6):
            guess, codes = turns[r] if r < len(turns) else ("", "")
            for i in range(5):
                x, y = left + i * step, 34 + r * step
                kind = f"k{codes[i]}" if codes else "empty"
                parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{tile}" height="{tile}" rx="4"/>')
                if guess[i : i + 1].isalpha():
                    shown = "" if codes else ' class="none"'
                    at = f'x="{x + tile / 2:g}" y="{y + 21}"'
                    parts.append(f"<text{shown} {at}>{guess[i].upper()}</text>")
    return "\n".join([*parts, "</svg>\n"])


def drawn(evidence: Path, word: str) -> tuple[str, str]:
    """The page of a run's evidence, and the picture of one word."""
    report = json.loads((evidence / "report.json").read_text(encoding="utf-8"))
    cases = read_cases(stored(evidence / "cases.jsonl"))
    models = [model for model in NAMES if model in cases]
    if not models:
        raise InputError(f"{evidence} has cases of {', '.join(cases)}; expected base, sft or grpo")
    data: dict[str, Any] = {
        "models": [NAMES[model] for model in models],
        "figures": figures(report, models),
        "games": games({m: [c for c in cases[m] if c.slice == "test"] for m in models}, models),
    }
    chosen = [game for game in data["games"] if game["word"] == word]
    if not chosen:
        raise InputError(f"{word!r} is no word of these games; choose one of the test words")
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = PAGE.read_text(encoding="utf-8").replace("/*DATA*/", text)
    return page, picture(chosen[0], data["models"])


def pictures() -> dict[Path, str]:
    """File -> what the published run makes of it."""
    return dict(zip((STORY.with_suffix(".html"), STORY.with_suffix(".svg")), drawn(RUN, WORD), strict=True))


def main() -> None:
    """Read a run and write the page and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", help="folder of the run, or of its evidence")
    parser.add_argument("--out", type=Path, default=Path("wordle.html"))
    parser.add_argument("--picture", type=Path, default=Path("wordle.svg"), help="of the games of --word")
    parser.add_argument("--word", default=WORD)
    given = parser.parse_args()
    if given.run is None:
        written = pictures()
    else:
        evidence = given.run / "evidence" if (given.run / "evidence").is_dir() else given.run
        page, boards = drawn(evidence, given.word)
        written = {given.out: page, given.picture: boards}
    for file, text in written.items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

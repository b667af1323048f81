"""report.html: the sections in their order, one file without scripts that fetches nothing, and its verification.

The page is a function of the run folder and of the name that it calls the folder by, so that `tieout verify` renders it
again and compares every character. A section may read whatever the run wrote before the page was made; what comes after
it (records of a verification, labels that no gate has taken) is no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from importlib.resources import files
from pathlib import Path

from ..storage import manifest
from ..storage.jsonl import write_text
from . import (
    asked,
    attempts,
    challengers,
    choice,
    consistency,
    cost,
    curves,
    examples,
    failures,
    results,
    reward,
    slices,
    sources,
    verdict,
)
from .markup import Markup, html, joined, nothing
from .stored import Stored, read

PAGE = "report.html"
"""In the evidence folder."""


@dataclass(frozen=True)
class Section:
    """A part of the document below its own heading."""

    key: str
    """The anchor that the contents lead to."""
    title: str
    body: Callable[[Stored], Markup]
    judged: bool = False
    """Whether it reads the report, which the gate writes: before that the page says that it is not there yet."""


SECTIONS = (
    Section("results", "Results", results.section, judged=True),
    Section("alternatives", "Against the alternatives", challengers.section, judged=True),
    Section("choice", "Which one to take", choice.section, judged=True),
    Section("slices", "Slices", slices.section, judged=True),
    Section("consistency", "Consistency", consistency.section, judged=True),
    Section("failures", "Where it fails", failures.section, judged=True),
    Section("examples", "Examples", examples.section, judged=True),
    Section("reward", "The reward", reward.section),
    Section("training", "Training", curves.section),
    Section("attempts", "Attempts", attempts.section),
    Section("cost", "Cost", cost.section),
    Section("reviewer", "For the reviewer", asked.section, judged=True),
    Section("sources", "Sources", sources.section),
)


def render(run: Stored, refresh_seconds: int = 0) -> str:
    """The page's HTML; with `refresh_seconds` a browser loads it again that often."""
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    again = html('<meta http-equiv="refresh" content="{}">\n', refresh_seconds) if refresh_seconds else ""
    parts = [part for part in SECTIONS if run.report is not None or not part.judged]
    contents = [html('<li><a href="#{}">{}</a></li>', part.key, part.title) for part in parts]
    body = [
        html('<section id="{}"><h2>{}</h2>\n{}\n</section>', part.key, part.title, part.body(run))
        for part in parts
    ]
    if missing := ", ".join(part.title for part in SECTIONS if part not in parts):
        body.append(nothing(f"Not yet, since the gate writes them: {missing}."))
    return str(
        html(
            _FRAME,
            again=again,
            title=verdict.title(run),
            name=run.name,
            head=run.head,
            code=manifest.code()["sha256"],
            style=Markup(style),
            first=verdict.section(run),
            contents=joined(contents),
            body=Markup("\n\n").join(body),
        )
    )


def write_page(folder: Path, to: Path | None = None, name: str = "") -> Path:
    """Write the page of a run folder from what is stored in it; returns where."""
    run = read(folder, name)
    place = to or run.evidence / PAGE
    write_text(place, render(run))
    return place


def page_differs(folder: Path, page: Path) -> list[str]:
    """A line per section of a page that is not what the files of its run folder give."""
    there = page.read_text("utf-8")
    name, head = (_meta(there, key) for key in ("run", "manifest"))
    if not name:
        return [f"{PAGE}: it was written by an earlier version; `tieout report` writes it again"]
    run = read(folder, unescape(name), head)
    if head and run.head != head:
        return [f"{PAGE}: it was made from a record of steps that is not this run's"]
    again = render(run)
    if _without_code(there) == _without_code(again):
        return []
    was, now = _parts(there), _parts(again)
    wrong = [title for key, title in _TITLES.items() if was.get(key) != now.get(key)]
    return [
        f"{PAGE}: {title or 'the frame'} is not what the stored files give; `tieout report` writes it again"
        for title in wrong or [""]
    ]


_TITLES = {"verdict": "the first screen", **{part.key: f"section {part.title!r}" for part in SECTIONS}}


def _parts(page: str) -> dict[str, str]:
    """Section -> its HTML."""
    return dict(re.findall(r'<section id="(\w+)"(.*?)</section>', page, re.DOTALL))


def code_of(page: Path) -> str:
    """SHA-256 of the code that wrote a page; empty where it does not say."""
    return _meta(page.read_text("utf-8"), "code")


def _without_code(page: str) -> str:
    return page.replace(f'<meta name="code" content="{_meta(page, "code")}">', "", 1)


def _meta(page: str, name: str) -> str:
    found = re.search(f'<meta name="{name}" content="([^"]*)">', page)
    return found[1] if found else ""


_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
{again}<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<meta name="run" content="{name}">
<meta name="manifest" content="{head}">
<meta name="code" content="{code}">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{first}

<nav aria-label="Contents"><ol>
{contents}
</ol></nav>

{body}
</main>
</body>
</html>
"""

"""Report the quality of pairs before a stage learns from them: on the console, and in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from ...errors import InputError
from ...rows import data_hash
from ...rows.pairs import rows_for
from ...storage.runfolder import RunFolder
from ...types import Row
from .advice import plain, refusals
from .printed import print_quality
from .quality import FILE, measure

PAIRED = ("preference", "ranking")
"""Kinds of rows that are pairs."""


def report(
    run: RunFolder,
    name: str,
    rows: Sequence[Row],
    held: Mapping[str, Sequence[Row]],
    console: Console,
    **known: Any,
) -> None:
    """Print the quality of pairs or rankings, and keep it as NAME/quality.json. InputError: they cannot be right.

    Args:
        run: the run folder.
        name: of the folder in it.
        rows: checked pairs or rankings.
        held: source -> rows that the run measures on.
        console: where it is printed, unless it was for these rows before.
        known: what else is known of the pairs: see `measure`.
    """
    file, digest = run.path / name / FILE, data_hash(rows)
    if not run.leads or (file.exists() and json.loads(file.read_text("utf-8")).get("rows_sha256") == digest):
        return
    pairs = rows if all("chosen" in row for row in rows) else rows_for("preference", rows, name)
    quality = measure(pairs, held, source=name, **known)
    print_quality(quality, console, f"{quality.pairs} pairs")
    refused = refusals(quality)
    run.stage(name)
    run.write_json(f"{name}/{FILE}", {"rows_sha256": "" if refused else digest, **plain(quality)})
    if refused:
        raise InputError(f"{name}: these pairs cannot be right:\n  " + "\n  ".join(refused))

"""All samples of answers that were chosen among several, kept next to their cases with the selector's scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from ..samplers.best_of_n import Draw
from ..storage.jsonl import read_jsonl, stored, write_jsonl


def draws_file(cases: Path) -> Path:
    """Where the samples of a file of cases are, compressed or not."""
    return cases.with_name(f"{cases.name.removesuffix('.gz').removesuffix('.jsonl')}.draws.jsonl")


def write_draws(cases: Path, draws: Mapping[str, Mapping[str, Draw | None]]) -> None:
    """Write the samples of model -> case; compressed, as they are N times as long as the cases. No file without any."""
    path = draws_file(cases)
    stored(path).unlink(missing_ok=True)
    lines = [
        {"model": model, "case": case, **vars(draw)}
        for model, own in draws.items()
        for case, draw in own.items()
        if draw is not None
    ]
    if lines:
        write_jsonl(path.with_name(f"{path.name}.gz"), lines)


def read_draws(cases: Path) -> dict[str, dict[str, Draw]]:
    """The same again; empty where every answer was the only one. InputError: the file is none of samples."""
    path, found = stored(draws_file(cases)), dict[str, dict[str, Draw]]()
    if not path.exists():
        return found
    for number, line in read_jsonl(path):
        try:
            draw = Draw(
                [str(text) for text in line["completions"]], list(line["scores"]), int(line["chosen"])
            )
            if len(draw.scores) != len(draw.completions) or not 0 <= draw.chosen < len(draw.scores):
                raise ValueError("as many scores as samples are expected, and one that is chosen")
            if not all(score is None or isinstance(score, int | float) for score in draw.scores):
                raise ValueError("scores are numbers, or null")
            found.setdefault(line["model"], {})[line["case"]] = draw
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}:{number}: not the samples of a case ({error})") from error
    return found

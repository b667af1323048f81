"""Where pages and comments of recipes change a recipe by `--set`, it takes the values, and its task the options."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tieout.errors import InputError
from tieout.pipelines.reading import read_recipe
from tieout.tasks import load_task

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
RECIPES = sorted({path.resolve() for path in ROOT.glob("recipes/*.yaml")})
COMMAND = re.compile(r"^(?:#?    *|`)tieout (?:run|plan|demo) (.*?)(?:`.*)?$", re.MULTILINE)
FRAGMENT = re.compile(r"^# (?!    tieout ).*?(--set [^`\n]*)", re.MULTILINE)
NOT_HERE = "no folder|no file|is no file|data file not found"
"""What a task says of the reader's own files."""


def commands() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(where it stands, recipe, values of --set)."""
    for file in [*PAGES, *RECIPES]:
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        found = [shlex.split(said, comments=True) for said in COMMAND.findall(text)]
        if file in RECIPES:
            own = file.relative_to(ROOT).as_posix()
            found += [[own, *shlex.split(said)] for said in FRAGMENT.findall(text)]
        for words in found:
            settings = tuple(b for a, b in itertools.pairwise(words) if a == "--set")
            if settings and words[0].endswith(".yaml") and (ROOT / words[0]).exists():
                yield file.relative_to(ROOT).as_posix(), words[0], settings


COMMANDS = sorted(set(commands()))


def test_there_are_such_commands() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize(("where", "recipe", "settings"), COMMANDS)
def test_the_recipe_takes_the_values_and_the_task_its_options(
    where: str, recipe: str, settings: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = read_recipe(ROOT / recipe, None, settings)
    if read.task_options:
        missing = "path" in read.task_options
        with pytest.raises((InputError, FileNotFoundError), match=NOT_HERE) if missing else nullcontext():
            load_task(read.task, read.task_options)

"""Every method has a page that says what it is, where it is from, and the defaults that it really has."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from tieout.methods import METHODS

PAGES = Path(__file__).parents[1] / "docs" / "methods"
ROW = re.compile(r"^\| (`.+?) \| (.*?) \|", re.MULTILINE)
WORDS: dict[str, Any] = {
    "none": None,
    "empty": "",
    "from the counts": None,
    "off": False,
    "on": True,
    "true": True,
}


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def value(text: str) -> Any:
    text = text.strip("` ")
    try:
        return WORDS[text] if text in WORDS else float(text.replace(",", ""))
    except ValueError:
        return text


def stated(name: str) -> dict[str, Any]:
    """Field -> default, as the table of a page has them; a default for all fields of a line, or one for each."""
    found: dict[str, Any] = {}
    table = page(name).partition("| field |")[2].partition("\n\n")[0]
    for fields, defaults in ROW.findall(table):
        names = re.findall(r"`(\w+)`", fields)
        parts = re.split(r",(?: |$)", defaults) if len(names) > 1 else [defaults]
        parts = parts * len(names) if len(parts) == 1 else parts
        found |= dict(zip(names, map(value, parts), strict=True))
    return found


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_what_a_reader_needs(name: str) -> None:
    text = page(name)
    assert "$$" in text, "no formula"
    assert name == "sft" or re.search(r"https://arxiv\.org/abs/\d{4}\.\d{4,5}", text), "no paper"
    assert re.search(rf"`?tieout train {name}\b", text), "no command"
    for part in ("**When.**", "**Watch.**", "**What goes wrong.**"):
        assert part in re.sub(r"\s+", " ", text), f"no {part}"


@pytest.mark.parametrize("name", METHODS)
def test_the_defaults_of_a_page_are_those_of_the_method(name: str) -> None:
    method = METHODS[name]()
    for field, default in stated(name).items():
        assert getattr(method, field) == default, f"{name}.md says {default!r} of {field}"


@pytest.mark.parametrize("name", METHODS)
def test_every_field_is_on_the_page_of_the_method_or_of_the_one_it_is_made_from(name: str) -> None:
    parents = [other for other, cls in METHODS.items() if issubclass(METHODS[name], cls)]
    words = set(re.findall(r"`(\w+)`", "".join(map(page, parents))))
    missing = {field.name for field in dataclasses.fields(METHODS[name])} - words  # type: ignore[arg-type]
    assert not missing, f"{name}.md does not speak of {sorted(missing)}"
    changed = {
        field.name
        for field in dataclasses.fields(METHODS[name])  # type: ignore[arg-type]
        for other in parents
        if getattr(METHODS[other](), field.name, field.default) != field.default
    }
    own = set(re.findall(r"`(\w+)", page(name)))
    assert changed <= own, f"{name}.md does not say that it has other defaults of {sorted(changed - own)}"

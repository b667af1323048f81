"""The help of every command: an example at its end, whose options it lists, and no value that nobody may give."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tieout.cli import COMMANDS, main
from tieout.cli.options import parse
from tieout.config.method_table import TABLE

HELPED = [*(name for name in COMMANDS if name not in ("reward", "train")), "reward check"]


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What `tieout COMMAND --help` prints."""

    def call(command: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tieout", *command.split(), "--help"])
        monkeypatch.setenv("COLUMNS", "100")
        with suppress(SystemExit):
            main()
        return capsys.readouterr().out

    return call


@pytest.mark.parametrize("command", [*HELPED, *(f"train {name}" for name in TABLE)])
def test_a_help_ends_with_an_example_of_its_own_options(helped: Callable[[str], str], command: str) -> None:
    options, found, lines = helped(command).partition("For example:\n")
    assert found
    for line in lines.strip().splitlines():
        words = shlex.split(line)
        assert words[: 1 + len(command.split())] == ["tieout", *command.split()]
        for name in (word for word in words if word.startswith("--")):
            assert f" {name}" in options, f"{line}: {name} is no option of {command}"
    assert "{None}" not in options
    assert "default: None" not in options
    assert "default: ''" not in options
    assert "(default: )" not in options


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("attack", " REWARD | REWARD=WEIGHT ..."),
        ("calibrate", "[REWARD | REWARD=WEIGHT ...]"),
        ("doctor", "[RECIPE]"),
    ],
)
def test_a_help_shows_which_word_may_be_left_out(
    helped: Callable[[str], str], command: str, usage: str
) -> None:
    said = helped(command)
    assert usage in said.partition("\n")[0]
    assert ("(required)" in said.partition("-h, --help")[0]) == (command == "attack")


def test_a_value_that_is_left_out_is_still_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    """What the help leaves out of a type is no part of what is read."""
    from tieout.cli.label import Options

    found = parse(Options, "label", ["rows.jsonl", "--kind", "pairs", "--port", "80", "--out", "x.csv"])
    assert (found.kind, found.port, found.out, found.scheme) == ("pairs", 80, Path("x.csv"), None)

"""Whether two objects are one function: a file that is loaded twice, and closures of one factory."""

from __future__ import annotations

import sys
from pathlib import Path

from tieout.config.attribute import FILE_MODULE, load_attribute, same_function

FILE = """
from functools import wraps

def above(limit, *others):
    def score(completions, scale=1, *, bias=0):
        return [scale * (len(c) > limit) + bias for c in completions]
    return score

def logged(function):
    @wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

def repeats():
    def call(n):
        return call(n - 1) if n else 0
    return call

class Longer:
    def __init__(self, limit):
        self.limit = limit
    def score(self, completions):
        return [len(c) > self.limit for c in completions]

def plain(completions):
    return [1.0]

three, four, again = above(3), above(4), above(3)
scaled, biased = above(3), above(3)
scaled.__defaults__ = (2,)
biased.__kwdefaults__ = {"bias": 1}
logged_three, logged_four = logged(three), logged(four)
recursive = repeats()
of_three, of_four = Longer(3).score, Longer(4).score
"""


def test_closures_of_one_factory_are_compared_by_what_they_close_over(tmp_path: Path) -> None:
    path = tmp_path / "scores.py"
    path.write_text(FILE)

    def load(name: str) -> object:
        for module in [name for name in sys.modules if name.startswith(FILE_MODULE)]:
            del sys.modules[module]  # or it is loaded once
        return load_attribute(f"{path}:{name}")

    for name in (
        "plain",
        "three",
        "logged_three",
        "recursive",
        "of_three",
    ):
        assert load(name) is not load(name)
        assert same_function(load(name), load(name))
    assert same_function(load("three"), load("again"))
    for name in ("four", "scaled", "biased", "plain", "logged_three"):
        assert not same_function(load("three"), load(name))
        assert not same_function(load(name), load("three"))
    assert not same_function(load("logged_three"), load("logged_four"))
    assert not same_function(load("of_three"), load("of_four"))


def test_a_file_is_imported_again_only_where_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "counted.py"
    log = tmp_path / "log.txt"
    text = f"open({str(log)!r}, 'a').write('x')\n\ndef score(completions):\n    return [1.0]\n"
    for body, imports in ((text, 1), (text + "\n", 2)):
        path.write_text(body)
        assert load_attribute(f"{path}:score") is load_attribute(f"{path}:score")
        assert log.read_text() == "x" * imports


def test_functions_of_equal_text_in_two_files_are_two(tmp_path: Path) -> None:
    text = "LIMIT = {}\n\ndef score(completions):\n    return [len(c) > LIMIT for c in completions]\n"
    for name, limit in (("one", 3), ("two", 4)):
        (tmp_path / f"{name}.py").write_text(text.format(limit))
    one, two = (load_attribute(f"{tmp_path / name}.py:score") for name in ("one", "two"))
    assert one.__code__ == two.__code__
    assert not same_function(one, two)
    assert not same_function(one, None)

"""Files that a file imports from its own folder: found in its source, imported, and never taken for another's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tieout.config.attribute import from_source, load_attribute
from tieout.config.siblings import siblings
from tieout.errors import InputError


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """What a test imports is forgotten again."""
    path, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / f"{name.replace('__in__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_what_is_imported_is_found_through_packages_and_inside_functions(tmp_path: Path) -> None:
    write(
        tmp_path,
        reward="import json, first_of\ndef right(completions):\n    from parts_of import second\n    return second.s",
        first_of="from parts_of.third import three",
        parts_of__in____init__="",
        parts_of__in__second="from .third import three\nfrom . import fourth\ns = three",
        parts_of__in__third="three = 3",
        parts_of__in__fourth="",
        unrelated="",
    )
    assert load_attribute(f"{tmp_path}/reward.py:right")([]) == 3
    write(tmp_path, json="")  # the standard library's goes first
    found = siblings(tmp_path / "reward.py")
    assert list(found) == ["first_of", "parts_of", "parts_of.fourth", "parts_of.second", "parts_of.third"]


def test_two_folders_with_different_files_of_one_name_do_not_meet_unnoticed(tmp_path: Path) -> None:
    for folder, value in (("one", "1"), ("same", "1"), ("other", "2")):
        write(tmp_path / folder, mine="from near_by import value", near_by=f"value = {value}")
    assert load_attribute(f"{tmp_path}/one/mine.py:value") == 1
    assert load_attribute(f"{tmp_path}/same/mine.py:value") == 1
    with pytest.raises(InputError, match=r"its import 'near_by' gives .*one/near_by.py, another file than"):
        load_attribute(f"{tmp_path}/other/mine.py:value")


def test_different_files_of_one_name_are_noticed_before_a_function_imports_them(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        later = "def value():\n    import near_by\n    return near_by.value"
        write(tmp_path / folder, mine=later, near_by=f"value = '{folder}'")
    load_attribute(f"{tmp_path}/one/mine.py:value")
    with pytest.raises(InputError, match="another file than"):
        load_attribute(f"{tmp_path}/other/mine.py:value")


def test_compiled_code_next_to_a_source_is_not_looked_at(tmp_path: Path) -> None:
    """A file and its sibling, each with a forged .pyc that claims to belong to any source."""
    import importlib.util
    import marshal

    write(tmp_path, mine="import near_by\nvalue = near_by.value, 1", near_by="value = 1")
    for name, lie in (("mine", "value = 9, 9"), ("near_by", "value = 9")):
        cache = Path(importlib.util.cache_from_source(str(tmp_path / f"{name}.py")))
        cache.parent.mkdir(exist_ok=True)
        header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)  # hash-based, unchecked
        cache.write_bytes(header + marshal.dumps(compile(lie, name, "exec")))
    with from_source():
        assert load_attribute(f"{tmp_path}/mine.py:value") == (1, 1)
    assert len(list(tmp_path.rglob("*.pyc"))) == 2

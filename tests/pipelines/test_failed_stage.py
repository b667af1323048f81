"""A stage that fails: on the page at once, whatever page an earlier attempt has left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import NO_CHECK, SFT, run

from tieout.pipelines.kinds import Evaluate
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.stages import execute
from tieout.review.document import PAGE, page_differs
from tieout.storage import manifest


def test_a_failed_stage_is_on_the_page(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    stages, out = (
        [NO_CHECK, SFT, {"evaluate": {"max_test": 2}}, {"gate": {"num_graded": 0}}],
        tmp_path / "run",
    )
    given = recipe(stages)
    monkeypatch.setitem(execute.ALONE, Evaluate, full)
    with pytest.raises(OSError, match="no space left"):
        run(given, out)
    page = out / "evidence" / PAGE
    assert "The last attempt failed in stage evaluate: OSError: no space left on device" in page.read_text()
    assert page_differs(out, page) == []
    assert manifest.check(out) == []
    monkeypatch.undo()
    run(given, out)
    first, failed = page.read_text(), "failed in stage evaluate"
    assert failed not in first
    monkeypatch.setitem(execute.ALONE, Evaluate, full)
    with pytest.raises(OSError, match="no space left"):
        run(given, out)
    assert (
        f"{failed}: OSError: no space left on device; verdict and figures are of before it"
        in page.read_text()
    )
    assert page_differs(out, page) == []


def test_a_page_that_cannot_be_written_does_not_hide_the_failure(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    def broken(*_: Any) -> None:
        raise OSError("none for the page either")

    monkeypatch.setitem(execute.ALONE, Evaluate, full)
    monkeypatch.setattr(execute, "write_page", broken)
    with pytest.raises(OSError, match="no space left"):
        run(recipe([NO_CHECK, SFT, {"evaluate": {}}, {"gate": {}}]), tmp_path / "run")

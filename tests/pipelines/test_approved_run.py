"""A recipe that names the run that was approved before: refused early where that is none, and on the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import NO_CHECK, SFT, run

from tieout.errors import InputError
from tieout.evidence.approved import FILE
from tieout.pipelines.recipe import Recipe
from tieout.review.document import PAGE, page_differs
from tieout.storage import manifest
from tieout.storage.jsonl import content_sha256, read_json


def test_a_ship_stage_compares_with_the_approved_run(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    def of(approved: Path | None) -> Recipe:
        ship = {"demonstration": True, **({"approved": str(approved)} if approved else {})}
        return recipe([NO_CHECK, SFT, {"evaluate": {"max_test": 4}}, {"gate": {}}, {"ship": ship}])

    out, approved = tmp_path / "run", tmp_path / "approved"
    with pytest.raises(InputError, match="expected the folder of a run that was judged"):
        run(of(approved), out)
    assert not (out / "sft").exists()
    run(of(None), out)
    shutil.copytree(out, approved)
    run(of(approved), out)  # declaring it changes no number: nothing is done again
    kept = read_json(out / "evidence" / FILE)
    assert kept["report"] == content_sha256(approved / "evidence" / "report.json")
    assert not kept["due"]
    page = out / "evidence" / PAGE
    assert kept["report"] in page.read_text()
    assert page_differs(out, page) == []
    assert manifest.check(out) == []

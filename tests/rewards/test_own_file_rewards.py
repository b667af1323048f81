"""Rewards in files as people have them from GRPO code: decorated, and with an import of the file next to them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tieout.config.attribute import load_attribute
from tieout.errors import InputError
from tieout.rewards import load_reward
from tieout.rewards.processes.importable import refer, resolve
from tieout.rewards.processes.workers import start_workers
from tieout.rewards.scoring.runner import Limits, score

BESIDE = "lies_beside_the_reward"
CODE = f"""
from {BESIDE} import lower
from tieout.rewards.scoring.adapt import from_trl

@from_trl
def of_messages(prompts, completions, **_):
    return [float(lower(c[0]["content"])) for c in completions]

def of_texts(completions, **_):
    return [float(lower(c)) for c in completions]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / f"{BESIDE}.py").write_text("def lower(text): return text == text.lower()\n")
    monkeypatch.setattr("sys.path", list(sys.path))
    yield tmp_path
    sys.modules.pop(BESIDE, None)


@pytest.mark.parametrize("name", ["of_messages", "of_texts"])
def test_it_scores_here_and_in_a_worker(folder: Path, name: str) -> None:
    reward = load_reward(f"{folder}/own.py:{name}")
    again = load_reward(f"{folder}/own.py:{name}")  # a command loads it more than once
    assert refer(reward) == refer(again)
    assert [o.score for o in score(resolve(refer(reward)), ["a", "A"], ["p"] * 2, {})] == [1.0, 0.0]
    workers = start_workers(reward, 1, Limits(20.0))
    assert workers is not None
    try:
        assert [o.score for o in score(reward, ["a", "A"], ["p"] * 2, {}, workers)] == [1.0, 0.0]
    finally:
        workers.close()


def test_a_module_of_that_name_from_elsewhere_is_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    load_attribute(f"{folder}/own.py:of_texts")
    other = tmp_path_factory.mktemp("other")
    (other / "own.py").write_text(CODE)
    (other / f"{BESIDE}.py").write_text("def lower(text): return False\n")
    with pytest.raises(InputError, match="which lies next to it: rename one of them"):
        load_attribute(f"{other}/own.py:of_texts")

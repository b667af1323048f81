"""Scores of a judge next to a person's answer: asked once, kept for that judge, and not kept where it failed."""

from __future__ import annotations

from pathlib import Path

from projects import rows_of

from tieout.labelling.items import Item, item_of
from tieout.labelling.prelabels import Prelabels
from tieout.rewards import load_reward

JUDGES = """
calls = []

def first(completions, **_):
    calls.append("first")
    return [float(len(c)) for c in completions]

def second(completions, **_):
    calls.append("second")
    return [-float(len(c)) for c in completions]

def down(completions, **_):
    calls.append("down")
    raise RuntimeError("out of credit")
"""


def item() -> Item:
    return item_of(rows_of("pairs", 1)[0], "pairs")


def test_each_judge_is_asked_once_and_no_other_one_answers_for_it(tmp_path: Path) -> None:
    (tmp_path / "judges.py").write_text(JUDGES)
    first, second = (load_reward(f"{tmp_path / 'judges.py'}:{name}") for name in ("first", "second"))
    kept, asked = tmp_path / "judge.jsonl", item()
    sizes = [float(len(text)) for text in asked.texts]
    assert Prelabels(first, kept).of(asked) == sizes
    calls = first.__globals__["calls"]  # type: ignore[attr-defined]
    del calls[:]
    assert Prelabels(first, kept).of(asked) == sizes
    assert calls == []  # from the file
    assert Prelabels(second, kept).of(asked) == [-size for size in sizes]
    assert Prelabels(first, kept).of(asked) == sizes


def test_what_a_judge_failed_on_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "judges.py").write_text(JUDGES)
    down, kept = load_reward(f"{tmp_path / 'judges.py'}:down"), tmp_path / "judge.jsonl"
    failing = Prelabels(down, kept)
    assert failing.of(item()) == [None, None]
    before = len(down.__globals__["calls"])  # type: ignore[attr-defined]
    assert failing.of(item()) == [None, None]
    assert len(down.__globals__["calls"]) > before  # type: ignore[attr-defined]
    assert not kept.exists()

"""A card of each split, and checks of the splits: prompts that are there twice, entities in two splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...evidence.leakage import SPLITS
from ...rows.card import LOOKED_AT, Card, Texts, cards, shared_entities
from ...tasks import Task
from ...tasks.splits import rows_or_none
from ...types import Row
from .finding import Finding, found


def data_findings(task: Task) -> Iterator[Finding]:
    """One of each split, and one of the entities where the task names them."""
    splits: dict[str, Sequence[Row]] = {split: rows_or_none(task, split) for split in ("train", *SPLITS)}
    for card in cards(splits, task.gold, task.entity):
        # An environment may begin all its episodes in the same words.
        twice = card.split != "train" and task.environment is None and card.prompts.distinct < card.rows
        remedy = "take prompts out that are there twice: each counts as a case of its own, and intervals are too narrow"
        yield found("data", said(card, task.entity), twice, remedy, "warn")
    if task.entity:
        shared = shared_entities(splits, task.entity)
        listed = "; ".join(
            f"{len(names)} in {one} and {other}, as {min(names)!r}" for (one, other), names in shared.items()
        )
        what = f"entities ({task.entity!r}) in two splits: {listed or 'none'}"
        remedy = "keep all rows of one entity in one split: a model may know it, and not the task"
        yield found("entities", what, bool(shared), remedy, "warn")


def said(card: Card, entity: str) -> str:
    """A card in one line."""
    about = f" of {card.entities:,} entities ({entity!r})" if card.entities is not None else ""
    parts = [f"{card.split}: {card.rows:,} rows{about}, {_texts('prompts', card.prompts)}"]
    if card.completions is not None:
        parts.append(_texts("completions", card.completions))
    parts.append(f"near neighbours in train: {card.near:.0%} of {min(card.rows, LOOKED_AT)}")
    return "; ".join(parts)


def _texts(name: str, texts: Texts) -> str:
    return (
        f"{texts.distinct:,} distinct {name} of {texts.median:,} words, at most {texts.longest:,}, "
        f"4-grams {texts.distinct_grams:.0%} distinct"
    )

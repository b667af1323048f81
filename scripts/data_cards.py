"""Write docs/data.md: a card of the rows of every recipe that ships.

python scripts/data_cards.py SHARED_DATA   # a folder with tatqa/tatqa_dataset_dev.json and sec/statements
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tieout.evidence.leakage import SPLITS
from tieout.pipelines.reading import read_recipe
from tieout.pipelines.recipe import Recipe
from tieout.rows.card import Card, Texts, cards
from tieout.tasks import Task, load_task
from tieout.tasks.files import files_task
from tieout.tasks.splits import rows_or_none
from tieout.types import Row

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "data.md"
REAL = {
    "tatqa_dataset_dev.json": "tatqa/tatqa_dataset_dev.json",
    "quarters": "sec/statements",
    "2024q1": "sec/statements",
    "documents": "tatqa/tatqa_dataset_dev.json",
}
"""What a recipe calls its data -> data in that format, in the folder of shared data."""
BEGIN, END = "<!-- cards: python scripts/data_cards.py SHARED_DATA -->\n", "<!-- end of cards -->\n"
HEAD = (
    "| split | rows | entities | prompts | words | 4-grams | completions | words | 4-grams | near |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Data:
    """The rows of recipes that name the same task and options."""

    recipes: tuple[tuple[str, Recipe], ...]
    """Name and recipe."""

    @property
    def name(self) -> str:
        """Of the first recipe."""
        return self.recipes[0][0]

    @property
    def recipe(self) -> Recipe:
        """The first one, whose task and options are those of all."""
        return self.recipes[0][1]

    @property
    def real(self) -> str:
        """The path that the recipes need; empty if their rows are made up, or in the repository."""
        return str(self.recipe.task_options.get("path", ""))

    def task(self, shared: Path | None) -> Task:
        """The task as the recipes load it, with the rows that those who train on the most of them train on."""
        recipe, options = self.recipe, dict(self.recipe.task_options)
        if self.real:
            assert shared is not None, f"{self.name} needs a folder of shared data"
            options["path"] = str(shared / REAL[self.real])
        if not recipe.task:
            files = {key: str(ROOT / name) for key, name in vars(recipe.data).items() if name}
            return files_task(replace(recipe.data, **files), recipe.reward, recipe.max_new_tokens or 256)
        task = load_task(recipe.task, options)
        limits = [one.max_train for _, one in self.recipes]
        most = max(limits) if all(limits) else 0
        train = list(task.rows("train"))
        kept = train[: most or None]
        return replace(task, rows=lambda split: kept if split == "train" else task.rows(split))


def data() -> list[Data]:
    """One of each task with options, in the order of their first recipes."""
    files = [*ROOT.glob("recipes/*.yaml"), *ROOT.glob("src/tieout/pipelines/recipes/*.yaml")]
    found: dict[str, list[tuple[str, Recipe]]] = {}
    for path in sorted(files, key=lambda path: (path.stem, path.parent != ROOT / "recipes")):
        recipe = read_recipe(path)
        key = json.dumps([recipe.task, recipe.task_options, recipe.data.train], sort_keys=True)
        name = path.stem if path.parent == ROOT / "recipes" else f"tieout demo {path.stem}"
        found.setdefault(key, []).append((name, recipe))
    return [Data(tuple(recipes)) for recipes in found.values()]


def splits(task: Task) -> dict[str, Sequence[Row]]:
    """Split -> its rows, of those that have some."""
    return {split: rows for split in ("train", *SPLITS) if (rows := rows_or_none(task, split))}


def section(of: Data, task: Task) -> str:
    """A heading, the recipes, and a table with a line a split."""
    recipe = of.recipe
    options = "".join(f", `{key}: {json.dumps(value)}`" for key, value in recipe.task_options.items())
    asked = f"Task `{recipe.task}`{options}" if recipe.task else f"`{recipe.data.train}`"
    real = f", here `{REAL[of.real]}`" if of.real else ""
    about = f" Entities: `{task.entity}`." if task.entity else ""
    found = cards(splits(task), task.gold, task.entity)
    lines = "".join(_line(card) for card in found)
    names = ", ".join(name for name, _ in of.recipes)
    return f"### {of.name}\n\n{asked}{real}. Recipes: {names}.{about}\n\n{HEAD}{lines}"


def _line(card: Card) -> str:
    entities = "" if card.entities is None else f"{card.entities:,}"
    said = " | | " if card.completions is None else _texts(card.completions)
    return (
        f"| {card.split} | {card.rows:,} | {entities} | {_texts(card.prompts)} | {said} | {card.near:.0%} |\n"
    )


def _texts(texts: Texts) -> str:
    return f"{texts.distinct:,} | {texts.median:,}, {texts.longest:,} | {texts.distinct_grams:.0%}"


def main(shared: Path) -> None:
    """Write the page anew between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    sections = "\n".join(section(one, one.task(shared)) for one in data())
    PAGE.write_text(f"{before}{BEGIN}\n{sections}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]).resolve())

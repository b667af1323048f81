"""tieout init DIR [--task json|numeric|chat] [--model M] [--data FILE]"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from ..errors import InputError
from ..review.answers import form
from ..rows import Kind, Rows, check_rows, read_rows
from ..rows.messages import text_of
from .early import model_named
from .options import parse
from .starts.rows import ROWS

Task = Literal["numeric", "json", "chat"]
REWARDS: dict[Task, str] = {"numeric": "numeric", "json": "json_fields", "chat": "chat"}


@dataclass(frozen=True)
class Options:
    """Write a recipe, a reward with its test, and rows to start from. All of it runs as it is; change it to yours."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where it is written; made if it is not there. Nothing is overwritten."""
    task: Task | None = None
    """What an answer is: a figure, a JSON object, or words. Left out: what the data shows, or asked on a terminal."""
    model: str | None = None
    """What is trained: a hub id, a folder, tieout-base. Left out: asked on a terminal, else tieout-base."""
    data: Path | None = None
    """Your own rows: the recipe is written for their columns. Left out: rows to start from are written."""


def main(arguments: Sequence[str]) -> None:
    """Parse, ask for what is missing, write."""
    options = parse(Options, "init", arguments)
    rows: Rows | None = None
    kind: Kind = "demonstration"
    if options.data is not None:
        given = read_rows(options.data)
        kind = kind_of(given)
        rows = check_rows(given, kind, str(options.data))
        options = replace(options, task=options.task or task_of(rows, kind))
    options = _asked(options)
    model_named(options.model or "tieout-base")
    if options.folder.exists() and not options.folder.is_dir():
        raise InputError(f"{options.folder} is a file: name a folder to write into")
    texts = contents(options, kind, len(rows) if rows is not None else 0)
    if there := [name for name in texts if (options.folder / name).exists()]:
        raise InputError(f"{options.folder} has {', '.join(there)} already: name another folder")
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (options.folder / name).write_text(text, encoding="utf-8")
        print(f"written: {options.folder / name}")
    print(f"next: {shlex.join(['python', '-m', 'pytest', str(options.folder / 'test_reward.py')])}")
    print(f"then: {shlex.join(['tieout', 'run', str(options.folder / 'recipe.yaml')])}")


def _asked(options: Options) -> Options:
    """The options, with answers of the person at the terminal in place of what was left out."""
    ask = sys.stdin.isatty() and sys.stdout.isatty()
    task, model = options.task, options.model
    while ask and task is None:
        said = input(
            "What is an answer: a figure (numeric), a JSON object (json), words (chat)? [numeric] "
        ).strip()
        task = next((name for name in get_args(Task) if name == (said or "numeric")), None)
    if ask and model is None:
        model = input("Which model: a hub id, a folder? [tieout-base] ").strip()
    return replace(options, task=task or "numeric", model=model or "tieout-base")


def kind_of(rows: Rows) -> Kind:
    """What can be learned from rows with these columns. InputError: nothing, by any method."""
    columns = set(rows[0])
    if "completions" in columns and "scores" in columns:
        return "ranking"
    if {"chosen", "rejected"} <= columns:
        return "preference"
    return "label" if "label" in columns else "demonstration"


def task_of(rows: Rows, kind: Kind) -> Task:
    """What the good completions of checked rows are."""
    if kind == "ranking":
        return "chat"
    good = [text_of(row["chosen" if kind == "preference" else "completion"]) for row in rows]
    return "numeric" if all(map(_is_figure, good)) else "json" if all(map(_is_object, good)) else "chat"


def _is_figure(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def contents(options: Options, kind: Kind, count: int) -> dict[str, str]:
    """Name -> text of the files. `count`: of own rows."""
    task: Any = options.task
    folder = options.folder
    train = options.data or folder / "train.jsonl"
    reward = Path(__file__).with_name("starts") / f"{REWARDS[task]}.py"
    texts = {
        "recipe.yaml": recipe(options, kind, train, count or len(ROWS[task]) * 3 // 4),
        "reward.py": reward.read_text(encoding="utf-8"),
        "test_reward.py": TEST.format(data=str(train.resolve()), kind=kind),
    }
    texts["review.yaml"] = form()
    if options.data is None:
        rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS[task]]
        test = rows[3::4]
        texts["train.jsonl"] = "".join(row for row in rows if row not in test)
        texts["test.jsonl"] = "".join(test)
    return texts


def recipe(options: Options, kind: Kind, train: Path, count: int) -> str:
    """The text of the recipe: stages by what the rows can teach."""
    key = {"preference": "pairs", "ranking": "pairs", "label": "labels"}.get(kind, "train")
    data = [f"  {key}: {json.dumps(str(train))}"]
    if options.data is None:
        data.append(f"  test: {json.dumps(str(options.folder / 'test.jsonl'))}")
    else:
        data.append(
            "  # test: held_out.jsonl    # left out: about 40 rows are held out, a tenth of more than 400"
        )
    data.append(
        "  # controls: controls.jsonl # prompt and answer: what must not get lost; without it the gate holds"
    )
    size = max(1, min(8, count // 3))
    stages = [
        "  - train: sft\n    learning_rate: 1.0e-3 # 2.0e-4 for a model of billions\n"
        f"    batch_size: {size}\n    epochs: 2"
    ]
    if key == "pairs":
        stages.append(f"  - train: dpo\n    learning_rate: 5.0e-6\n    batch_size: {size}")
    if kind == "label":
        stages.append(f"  - train: kto\n    batch_size: {max(2, size)}")
    checked = "  - check: {} # the reward proves itself on rows with gold, and is attacked\n"
    if options.task == "chat":
        checked = "  # - check: {} # for a reward that knows what is right: proves and attacks it first\n"
    return RECIPE.format(
        command=shlex.join(["tieout", "run", str(options.folder / "recipe.yaml")]),
        folder=options.folder,
        model=json.dumps(options.model),
        data="\n".join(data),
        reward=json.dumps(f"{options.folder / 'reward.py'}:right"),
        plain=f"{options.folder / 'reward.py'}:right",
        check=checked,
        stages="\n".join(stages),
        tokens=128 if options.task == "chat" or options.data else 48,
    )


RECIPE = """# {command}
# Paths are relative to the folder in which the command is run.
model: {model}
data:
{data}
reward: {reward} # several with weights: rewards: {{{plain}: 1.0, length: 0.2}}
max_new_tokens: {tokens}
seed: 0
stages:
{check}{stages}
  # - train: grpo               # once the model is right sometimes: learns from its own answers by the reward
  #   max_new_tokens: {tokens}
  - evaluate: {{}}
  - gate: {{}}
  - ship: {{demonstration: true}} # yours: {{review: {folder}/review.yaml}}, once it is filled in
"""

TEST = '''"""What the reward must hold on your rows: python -m pytest test_reward.py"""

from reward import right

from tieout.rows import check_rows, read_rows
from tieout.rows.messages import text_of

DATA = {data!r}
ROWS = check_rows(read_rows(DATA), {kind!r})
GOLD = [text_of(row["chosen"] if "chosen" in row else row["completion"]) for row in ROWS if row.get("label", True)]


def test_gold_scores_highest_and_nothing_lowest():
    for gold in GOLD:
        assert right([gold, ""], completion=[gold] * 2) == [1.0, 0.0], gold


def test_the_answer_of_another_row_is_worth_less():
    for gold, other in zip(GOLD, GOLD[1:]):
        if gold != other:
            assert right([other], completion=[gold])[0] < 1.0, (gold, other)


def test_a_word_in_front_is_worth_less():
    for gold in GOLD:
        assert right(["not " + gold], completion=[gold])[0] < 1.0, gold
'''

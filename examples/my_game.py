"""A tool game: the model looks a price up, then answers. docs/games.md trains on it by SFT, then by GRPO."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress

from tieout import Task
from tieout.types import Row

ROWS: list[Row] = [{"box": str(100 + i), "price": str(20 + i * 37 % 80)} for i in range(320)]


def shop(row: Row) -> Generator[str, str, float]:
    """One episode: yield what the model sees, get what it says, return the score."""
    said = yield f"What does box {row['box']} cost? LOOK and its number shows the label."
    for _ in range(3):
        if said.strip() == f"LOOK {row['box']}":
            said = yield f"Label: {row['price']} dollars. What does it cost?"
        elif said.strip() == row["price"]:
            return 1.0
        else:
            said = yield "Write LOOK and the number of the box, or the price alone."
    return 0.0


def taught(row: Row) -> list[Row]:
    """Demonstrations by turns: the conversation so far, and what to say next."""
    game = shop(row)
    messages, rows = [{"role": "user", "content": next(game)}], list[Row]()
    with suppress(StopIteration):  # the game ends with the last turn
        for said in (f"LOOK {row['box']}", str(row["price"])):
            rows.append({"prompt": list(messages), "completion": said})
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": game.send(said)}]
    return rows


task = Task(
    "shop",
    rows=lambda split: {"train": ROWS[:256], "test": ROWS[256:]}.get(split, []),
    environment=shop,
    max_new_tokens=8,
)

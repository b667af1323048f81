"""Columns of a row that stay with what is made of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..types import Row

MADE = frozenset({"messages", "conversations", "completion", "completions", "chosen", "rejected", "label"})
"""What made rows say themselves; a row with them would be read as another kind."""


def carried(row: Row, taken: Collection[str] = ()) -> dict[str, Any]:
    """All columns but the prompt; `row_NAME` for those whose name a made row uses for something else.

    >>> carried({"prompt": "2 + 2", "id": 7, "completion": "4"})
    {'id': 7, 'row_completion': '4'}
    """
    own = {name: value for name, value in row.items() if name != "prompt"}
    return {f"row_{name}" if name in MADE or name in taken else name: value for name, value in own.items()}

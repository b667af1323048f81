"""Rows that `tieout init` writes, so that what it writes runs: invented, and few."""

from __future__ import annotations

import json
from typing import Any

_COMPANIES = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel")
_COLOURS = ("red", "blue", "green")

ROWS: dict[str, list[dict[str, Any]]] = {
    "numeric": [
        {
            "prompt": [{"role": "user", "content": f"{name} had {a} shops and opened {b}. How many has it now?"}],
            "completion": str(a + b),
        }
        for i, name in enumerate(_COMPANIES)
        for a, b in ((10 + i, 3), (20 + 2 * i, 4), (31 + i, 5), (40 + 3 * i, 6))
    ],
    "json": [
        {
            "prompt": [{"role": "user", "content": f"{name} sells {count} {colour} boxes. Maker, count, colour?"}],
            "completion": json.dumps({"maker": name, "count": count, "colour": colour}),
        }
        for i, name in enumerate(_COMPANIES)
        for count, colour in zip((3 + i, 12 + i, 25 + i, 40 + i), (*_COLOURS, "white"), strict=True)
    ],
    "chat": [
        {
            "prompt": [{"role": "user", "content": f"Where do I send {thing} from {name}?"}],
            "completion": f"Please send {thing} from {name} to the desk for {desk}. They answer within a day.",
        }
        for name in _COMPANIES
        for thing, desk in (("an invoice", "accounts"), ("a complaint", "service"), ("a parcel", "stores"),
                            ("a contract", "legal"))
    ],
}  # fmt: skip
"""Kind of task -> rows of prompt and completion."""

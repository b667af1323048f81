"""The JSON schema of an answer to `finance_statements`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_ENTRIES = 20
"""More components or citations than that are no answer: four times what a total of the task can have."""

KEYS: Mapping[str, Mapping[str, Any]] = {
    "components": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_ENTRIES,
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": r"\S", "maxLength": 200},
                "value": {"type": "number"},
            },
            "required": ["name", "value"],
            "additionalProperties": False,
        },
    },
    "total": {"type": "number"},
    "citations": {
        "type": "array",
        "maxItems": MAX_ENTRIES,
        "items": {"type": "string", "maxLength": 400},
    },
}


SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": KEYS,
    "required": list(KEYS),
    "additionalProperties": False,
}
"""What a completion must look like, as a JSON schema."""

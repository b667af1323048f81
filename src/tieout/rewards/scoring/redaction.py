"""Take secrets out of messages, which go into logs, evidence and reports."""

from __future__ import annotations

import os
import re

_SECRET_NAME = re.compile(r"(?i)(api_?key|token|secret|password)$")
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic)(\s+|%20)[\w.~+/=-]{6,}")
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+@")
_KEY = re.compile(r"\bsk-[\w-]{6,}")
SHORTEST = 6
"""Characters of a value of the environment below which it is a word, and no secret."""


def redacted(text: str) -> str:
    """The text without keys: of Authorization headers, of addresses, and what the environment calls a key or token.

    >>> redacted("401 from http://me:hunter2@host/v1, sent Authorization: Bearer abc.def-123")
    '401 from http://[secret]@host/v1, sent Authorization: Bearer [secret]'
    """
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, "[secret]")
    text = _AUTHORIZATION.sub(r"\1\2[secret]", text)
    return _KEY.sub("[secret]", _IN_ADDRESS.sub("[secret]@", text))

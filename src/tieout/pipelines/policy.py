"""A model of a run: what it is loaded from, and what it is known by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..samplers.api.opening import is_api
from ..storage.identity import folder_digest, known_model


@dataclass(frozen=True)
class Policy:
    """A model of the run: a base, and the adapter (or, after full fine-tuning, the whole model) trained on it; or one
    behind an API."""

    base: str
    trained: Path | None
    four_bits: bool = False
    dtype: str = "auto"
    """What it was trained in, where a run says so."""

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that change with its numbers, and not with where it lies; of an API, what it is called there."""
        if is_api(self.base):
            return {"base": self.base, "trained": None, "four_bits": False}
        digest = None if self.trained is None else folder_digest(self.trained)
        return {"base": known_model(self.base), "trained": digest, "four_bits": self.four_bits}

"""Merge an adapter from anywhere into its base, and compare the result with the adapter."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..learner import load
from ..storage.jsonl import read_json
from ..types import Prompt
from .candidate import Check, build, check
from .reload_check import observe

PROMPTS: tuple[Prompt, ...] = ("What was revenue in 2023?", "Two and two are", "Name a colour.")
"""Asked where no others are given: the comparison is of two models, which may answer anything."""


def merge(adapter: Path, base: str, out: Path, prompts: Sequence[Prompt] = (), dtype: str = "auto") -> Check:
    """Write the merged model to `out`; returns what was found when it was loaded again.

    Args:
        adapter: of PEFT, in safetensors.
        base: what it lies on.
        out: a new folder.
        prompts: what both are asked; without any, PROMPTS.
        dtype: of the weights.

    Raises:
        InputError: the adapter was trained over 4 bits, on which it is another model than on the merged weights.
        ShippingError: the merged model is not what the adapter is on its base. Nothing is left behind.
    """
    run = adapter.parent.parent / "run.json"
    if run.exists() and read_json(run).get("identity", {}).get("adapter", {}).get("method") == "qlora":
        raise InputError(
            f"{adapter} was trained over 4 bits, and is another model on merged weights; `tieout ship RUN --merge` "
            "measures the difference"
        )
    model = load(base, start=adapter, dtype=dtype)
    policy = observe(model, model.chat, list(prompts or PROMPTS), 24)
    del model
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        aside = Path(place)
        build(adapter, base, aside, policy, None, merged=True, bases=None)
        found = check(aside, policy)
        shutil.move(aside / "merged", out)
    return found

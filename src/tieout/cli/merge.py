"""tieout merge ADAPTER --out DIR [--data FILE]"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..config.dtype import Dtype
from ..errors import InputError
from .early import NAMED, model_named
from .options import parse
from .quiet import quiet


@dataclass(frozen=True)
class Options:
    """Fold an adapter into its base: a model that any program loads without PEFT.

    It is loaded again from disk and compared with the adapter on its base, token by token; if they differ, nothing is
    written.
    """

    adapter: Annotated[str, tyro.conf.Positional]
    """The folder of an adapter that PEFT can load, or of a `tieout train` run."""
    out: Path
    """Folder of the merged model; must not exist."""
    data: Path | None = None
    """Rows whose prompts (the first 8) both are asked. Left out: three short questions."""
    dtype: Dtype = "auto"
    """Precision of the merged model: auto takes what the adapter's run was trained in, if it is of one."""


def main(arguments: Sequence[str]) -> None:
    """Parse, merge, compare, say how to use it."""
    options = parse(Options, "merge", arguments)
    if not Path(options.adapter).is_dir() and options.adapter not in NAMED:
        raise InputError(f"there is no folder {options.adapter} here: give the folder of an adapter")
    model_named(options.adapter, runs=True)
    if options.out.exists():
        raise InputError(f"{options.out} is there already: name another folder")
    from ..rows import check_rows, read_rows

    rows = check_rows(read_rows(options.data), "prompt", str(options.data))[:8] if options.data else []
    quiet()
    from ..pipelines.evaluated import one_dtype, policy_of
    from ..shipping.how_to_load import serve_merged, to_gguf
    from ..shipping.merging import merge

    policy = policy_of(options.adapter)
    if policy.trained is None:
        raise InputError(
            f"{options.adapter} is a whole model: there is nothing to merge; give the folder of an adapter"
        )
    dtype = one_dtype([options.adapter], [policy], options.dtype)
    found = merge(policy.trained, policy.base, options.out, [row["prompt"] for row in rows], dtype)
    worst = found.worst["merged"]
    print(f"merged: {options.out}, of {policy.trained} into {policy.base}, in {found.dtype}")
    print(
        f"checked: loaded again, {found.prompts} prompts, {found.tokens} tokens: log-probabilities differ by at most "
        f"{worst:.1e} nats ({found.tolerance:.1e} are allowed)"
    )
    out = str(options.out)
    for line in (f"tieout sample PROMPT --model {shlex.quote(out)}", serve_merged(out, options.out.name),
                 to_gguf(out, options.out.name)):  # fmt: skip
        print(f"use: {line}")

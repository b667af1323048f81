"""tieout sample --model MODEL PROMPT"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..config.dtype import Dtype
from ..errors import InputError
from .early import model_named
from .options import parse
from .quiet import quiet


@dataclass(frozen=True)
class Options:
    """Ask a model; prints one completion per line of JSON with --data, plain text otherwise."""

    prompt: Annotated[str, tyro.conf.Positional] = ""
    """What to ask; `-` reads it from standard input."""
    model: str = "tieout-base"
    """Hub id, folder of a model or of an adapter, GGUF file, tieout-base or smollm2-135m."""
    data: Path | None = None
    """Instead of a prompt: a file of rows with prompt."""
    system: str = ""
    """A system message before the prompt."""
    plain: bool = False
    """Continue the prompt as plain text, without the chat template."""
    num_completions: int = 1
    """Completions per prompt."""
    temperature: float = 0.0
    """0 is greedy."""
    max_new_tokens: int = 256
    """Completions are cut off after this many tokens."""
    seed: int = 0
    """Of the sampling."""
    dtype: Dtype = "auto"
    """Of the model: auto takes what its run was trained in, if it is of one, else as in `tieout train`."""
    drafts: bool = False
    """Guess several tokens and compute them in one step: up to rounding the same tokens, sooner if they are right."""


def main(arguments: Sequence[str]) -> None:
    """Parse, load, sample, print."""
    options = parse(Options, "sample", arguments)
    if bool(options.prompt) == bool(options.data):
        raise InputError("give either a PROMPT or --data FILE")
    if options.num_completions < 1:
        raise InputError(f"num_completions is {options.num_completions}; it must be at least 1")
    model_named(options.model)
    quiet()
    from ..learner import load
    from ..pipelines.evaluated import one_dtype, policy_of
    from ..rows import check_rows, read_rows
    from ..rows.messages import TOLD
    from ..samplers import SamplingParams
    from ..samplers.local.sampler import LocalSampler
    from ..types import Prompt, Row

    prompts: list[Prompt]
    rows: list[Row]
    if options.data:
        rows = check_rows(read_rows(options.data), "prompt", str(options.data))
        prompts = [row["prompt"] for row in rows]
    else:
        text = sys.stdin.read() if options.prompt == "-" else options.prompt
        turns = [{"role": "system", "content": options.system}] if options.system else []
        prompts = [text if options.plain else [*turns, {"role": "user", "content": text}]]
        rows = [{}]
    dtype = one_dtype([options.model], [policy_of(options.model)], options.dtype)
    model = load(options.model, dtype=dtype)
    sampler = LocalSampler(model, drafts=options.drafts)
    params = SamplingParams(options.max_new_tokens, options.temperature, seed=options.seed)
    groups = sampler.sample([model.chat.prompt(p) for p in prompts], options.num_completions, params)
    for given, prompt, group in zip(rows, prompts, groups, strict=True):
        for completion in group:
            if options.data:
                row = {
                    **{name: given[name] for name in TOLD if name in given},
                    "prompt": prompt,
                    "completion": completion.text,
                    "finish_reason": completion.finish_reason,
                }
                print(json.dumps(row, ensure_ascii=False))
            else:
                print(completion.text)

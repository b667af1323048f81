"""tieout sample --model MODEL PROMPT"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ..errors import InputError
from ..samplers.prompted import read_prompt
from .early import model_named
from .options import parse, template_options
from .quiet import quiet
from .sampled_options import SampledOptions
from .sampler_of import print_calls, sampler_of


@dataclass(frozen=True, kw_only=True)
class Options(SampledOptions):
    """Ask a model; prints one completion per line of JSON with --data, plain text otherwise."""

    prompt: Annotated[str, tyro.conf.Positional] = ""
    """What to ask; `-` reads it from standard input."""
    data: Path | None = None
    """Instead of a prompt: a file of rows with prompt."""
    system: str = ""
    """A system message before the prompt."""
    prompt_file: Path | None = None
    """What is put before every prompt, system prompt and examples: a file of `tieout optimize-prompt`."""
    plain: bool = False
    """Continue the prompt as plain text, without the chat template."""
    num_completions: int = 1
    """Completions per prompt."""
    temperature: float = 0.0
    """0 is greedy."""
    max_new_tokens: int = 256
    """Completions are cut off after this many tokens."""
    drafts: bool = False
    """Guess several tokens and compute them in one step: up to rounding the same tokens, sooner if they are right."""


def main(arguments: Sequence[str]) -> None:
    """Parse, load, sample, print."""
    options = parse(Options, "sample", arguments)
    if bool(options.prompt) == bool(options.data):
        raise InputError("give either a PROMPT or --data FILE")
    if options.num_completions < 1:
        raise InputError(f"num_completions is {options.num_completions}; it must be at least 1")
    if options.prompt_file and options.system:
        raise InputError("give either --system or --prompt-file, which holds a system prompt")
    before = read_prompt(options.prompt_file) if options.prompt_file else None
    model_named(options.model, api=True)
    quiet()
    from ..pipelines.evaluated import one_template
    from ..rows import check_rows, read_rows
    from ..rows.messages import TOLD, prompted, telling
    from ..samplers import SamplingParams
    from ..samplers.api import APISampler
    from ..samplers.best_of_n import several
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
    template = one_template([options.model], template_options(options.chat_template_kwargs))
    if options.data or not options.plain:
        rows = list(telling([{**row, "prompt": p} for row, p in zip(rows, prompts, strict=True)], template))
        prompts = [prompted(row)["prompt"] for row in rows]
    if before is not None:
        prompts = [before(prompt) for prompt in prompts]
    sampler = sampler_of(options.model, options.api, options.price, options.dtype, options.drafts)
    params = SamplingParams(options.max_new_tokens, options.temperature, seed=options.seed)
    groups = several(sampler, prompts, options.num_completions, params)
    for given, prompt, group in zip(rows, prompts, groups, strict=True):
        for completion in group:
            if options.data:
                row = {
                    **{name: given[name] for name in TOLD if name in given},
                    "prompt": prompt,
                    "completion": str(completion),
                    "finish_reason": completion.finish_reason,
                }
                print(json.dumps(row, ensure_ascii=False))
            else:
                print(completion)
    if isinstance(sampler, APISampler):
        print_calls(sampler, Console(stderr=True))

"""tieout doctor [RECIPE.yaml]: examine a recipe; or report this machine's capabilities and test the sandbox."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .options import parse

PACKAGES = (
    "tieout",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "vllm",
    "trl",
)
WITHOUT_TORCH = (
    "models cannot be loaded: no train, run, demo, sample, eval, gate or ship. What loads none works: reward, "
    "calibrate, attack without --model, and from Python the evaluation of a model behind an API"
)


@dataclass(frozen=True)
class Options:
    """With a recipe: check it before it runs, each check pass, warn or fail, with cause and remedy; nothing is trained
    or written. Exit status 1 if one fails. Without: list versions, processors and devices, and try to break out of the
    sandbox in every way we know. Exit status 1 if a probe escapes, or if there is no sandbox for code rewards."""

    recipe: Annotated[Path | None, tyro.conf.Positional] = None
    """A YAML file."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, in place of a value of the recipe, as for `tieout run`. May be given several times."""
    plan: bool = True
    """Of a recipe: load the model, and measure for about 20 seconds whether its train stages fit into memory."""
    json: bool = False
    """Of a recipe: print what was found as JSON."""
    quick: bool = False
    """Without a recipe: leave the escape probes out."""


def main(arguments: Sequence[str]) -> None:
    """Parse, look, print."""
    options = parse(Options, "doctor", arguments)
    if options.recipe is not None:
        raise SystemExit(_recipe(options, options.recipe))
    console = Console()
    console.print(_machine())
    healthy = _sandboxes(console, options.quick)
    raise SystemExit(0 if healthy else 1)


def _recipe(options: Options, path: Path) -> int:
    """Check a recipe and print what was found; the exit status."""
    from ..errors import InputError
    from ..pipelines.doctor.finding import Finding
    from .quiet import quiet
    from .run import RecipeOptions, check_first, wide_console

    try:
        check_first(RecipeOptions(path, set=options.set))
        quiet()
        from ..pipelines.doctor.recipe import examine_recipe
        from ..pipelines.reading import read_recipe

        recipe = read_recipe(path, None, options.set)
    except InputError as error:
        findings = [Finding("recipe", "fail", str(error), "as it says; then `tieout doctor` again")]
    else:
        findings = [Finding("recipe", "pass", f"{path}: {', '.join(one.name for one in recipe.stages)}")]
        findings += examine_recipe(recipe, options.plan)
    failed = sum(one.verdict == "fail" for one in findings)
    if options.json:
        print(json.dumps([asdict(one) for one in findings], indent=2))
        return int(failed > 0)
    console = wide_console()
    table = Table(title=f"{path}", title_justify="left", show_lines=False)
    for heading in ("", "check", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    colours = {"pass": "green", "warn": "yellow", "fail": "red"}
    for one in findings:
        verdict = f"[{colours[one.verdict]}]{one.verdict}[/]"
        table.add_row(verdict, one.check, escape(one.said), escape(one.remedy))
    console.print(table)
    warned = sum(one.verdict == "warn" for one in findings)
    console.print(f"{len(findings)} checks: {failed} fail, {warned} warn", highlight=False)
    return int(failed > 0)


def _machine() -> Table:
    table = Table(title="machine", title_justify="left", show_header=False)
    table.add_row("system", f"{platform.system()} {platform.release()} {platform.machine()}")
    table.add_row("Python", f"{platform.python_version()} ({sys.executable})")
    for name in PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        table.add_row(name, version)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    table.add_row("processors", str(cores))
    table.add_row("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "not set"))
    try:
        import torch
    except ImportError:
        table.add_row("without torch", WITHOUT_TORCH)
    else:
        table.add_row("torch threads", str(torch.get_num_threads()))
        devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        table.add_row("CUDA", ", ".join(devices) or "no device")
    vllm = Path(os.environ.get("TIEOUT_VLLM_PYTHON") or ".venv-vllm/bin/python")
    table.add_row(
        "vLLM's own Python", str(vllm) if vllm.exists() else f"none at {vllm}; `make vllm` builds it"
    )
    return table


def _sandboxes(console: Console, quick: bool) -> bool:
    """Print what isolation there is, and what the probes came to; whether all is well."""
    from ..sandbox.choose import available, choose
    from ..sandbox.isolation import SandboxError
    from ..sandbox.pool import ProgramLimits, Sandbox
    from ..sandbox.probes import PROBES, run_probes

    table = Table(title="sandbox for code that a model wrote", title_justify="left")
    for heading in ("backend", "works", ""):
        table.add_column(heading)
    for found in available():
        table.add_row(found.backend, "yes" if found.works else "no", escape(found.reason))
    console.print(table)
    try:
        backend = choose()
    except SandboxError as error:
        console.print(f"code rewards refuse to run: {error}", markup=False, soft_wrap=True)
        return False
    console.print(f"code rewards run in: {backend}")
    if quick:
        return True
    with Sandbox(backend, size=1, limits=ProgramLimits(memory_bytes=256 << 20)) as sandbox:
        results = run_probes(sandbox)
    table = Table(title=f"{len(PROBES)} escape probes in {backend}", title_justify="left")
    for heading in ("probe", "held", "how"):
        table.add_column(heading)
    for result in results:
        table.add_row(result.probe, "yes" if result.held else "[red]NO[/]", escape(result.detail))
    console.print(table)
    escaped = [result.probe for result in results if not result.held]
    said = f"escaped: {', '.join(escaped)}" if escaped else f"no escape in these {len(results)} probes"
    console.print(said, markup=False)
    return not escaped

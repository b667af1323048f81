"""tieout attack REWARD --data ROWS.jsonl [--json OUT]"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..config.dtype import Dtype
from ..errors import InputError
from ..types import Row
from ..vetting.attack.settings import AttackSettings
from .early import model_named
from .options import RewardSpec, parse


@dataclass(frozen=True, kw_only=True)
class Options(AttackSettings):
    """Look for completions that a reward pays for and should not. Exit status 1 if there is one."""

    reward: Annotated[RewardSpec, tyro.conf.Positional]
    """FILE.py:FUNCTION, module:function, or a name of the library; several with weights: `exact=1.0 length=0.2`."""
    data: Path
    """Rows: prompt, completion = gold, and the columns that the reward asks for."""
    json: Path | None = None
    """Write findings and probes here, with a hash over them."""
    corpus: Path | None = None
    """Exploits found before are tried again, new ones are added. Left out: attack-corpus.jsonl next to --json."""
    seed: int = 0
    """Random seed of the search."""
    model: str | None = None
    """Also sample this policy (hub id, folder, GGUF file, tieout-base or smollm2-135m)."""
    dtype: Dtype = "auto"
    """Precision of that policy: auto takes what its run was trained in, if it is of one, else as in `tieout train`."""
    samples: int = 8
    """With --model: completions per row."""
    verifier: RewardSpec | None = None
    """With --model: a second reward that says which samples are right."""


def main(arguments: Sequence[str]) -> None:
    """Parse, attack, print."""
    options = parse(Options, "attack", arguments)
    if (options.model is None) != (options.verifier is None):
        raise InputError(
            "--model and --verifier go together: a verifier says which of the policy's samples are right"
        )
    if options.model:
        model_named(options.model)
    from ..rewards import load_reward
    from ..rows import data_hash, read_rows
    from ..vetting.attack import attack, keep, read_corpus

    reward = load_reward(options.reward)
    rows = list(read_rows(options.data))
    corpus = options.corpus or (options.json.with_name("attack-corpus.jsonl") if options.json else None)
    result = attack(
        reward,
        rows,
        options,
        seed=options.seed,
        corpus=read_corpus(corpus),
        policy=_policy(options) if options.model else None,
        verifier=load_reward(options.verifier) if options.verifier else None,
    )
    keep(corpus, result.findings, rows)
    if options.json:
        from ..config.plain import fingerprint
        from ..storage.atomic import write_atomic

        told = {**result.plain(), "data": str(options.data), "data_sha256": data_hash(rows)}
        told["hash"] = fingerprint({k: v for k, v in told.items() if k not in ("hash", "seconds")})
        write_atomic(options.json, _as_json(told))
    console = Console()
    table = Table(title=f"{options.reward} on {len(result.rows)} of {len(rows)} rows", title_justify="left")
    for heading in ("class", "probes", "found", "smallest", "score", "gold"):
        table.add_column(
            heading, justify="right" if heading in ("probes", "found", "score", "gold") else "left"
        )
    smallest = {finding.kind: finding for finding in result.findings}
    for kind, count in result.probes.items():
        found = smallest.get(kind)
        shown = (
            [escape(_short(found.completion)), _number(found.score), _number(found.gold_score)]
            if found
            else []
        )
        table.add_row(kind, str(count), str(result.counts.get(kind, "")), *shown)
    console.print(table)
    for finding in result.findings:
        console.print(
            f"{finding.kind}: {finding.name}: {finding.why}", markup=False, highlight=False, soft_wrap=True
        )
    if result.form_only:
        console.print("the reward judges form only: it was not asked whether answers are right")
    console.print(f"{result.verdict}, in {result.seconds:.1f} s", highlight=False, soft_wrap=True)
    if options.json:
        console.print(f"written: {options.json}", highlight=False)
    raise SystemExit(1 if result.findings else 0)


def _policy(options: Options) -> Callable[[Row], Sequence[str]]:
    """The policy's own best-of-N: samples for a row."""
    from .quiet import quiet

    quiet()
    from ..evidence.pool import calls_of
    from ..pipelines.evaluated import one_template
    from ..rewards.text.thinking import as_read
    from ..rows.messages import prompted, telling
    from ..samplers import SamplingParams
    from ..samplers.api.opening import APIOptions
    from ..samplers.best_of_n import ChatPolicy, several
    from .sampler_of import sampler_of

    name = options.model or ""
    sampler, told = sampler_of(name, APIOptions(), dtype=options.dtype), one_template([name], {})
    assert isinstance(sampler, ChatPolicy)  # `model_named` has refused an API

    def sample(row: Row) -> Sequence[str]:
        params = SamplingParams(256, temperature=1.0, seed=options.seed)
        prompt = prompted(telling([row], told)[0])["prompt"]
        (call,) = calls_of([row], [prompt], several(sampler, [prompt], options.samples, params), sampler.chat)
        return [as_read(completion) for completion in call.completions]

    return sample


def _as_json(told: object) -> bytes:
    import json

    return (json.dumps(told, indent=2) + "\n").encode("ascii")


def _short(text: str) -> str:
    shown = repr(text)[1:-1]
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _number(score: float | None) -> str:
    return "failed" if score is None else f"{score:.3g}"

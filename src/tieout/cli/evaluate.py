"""tieout eval --model MODEL --task TASK"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..config.dtype import Dtype
from ..errors import InputError
from ..rows import LongRows
from ..rows.checks import with_prompts
from ..samplers.api.opening import APIOptions, is_api, open_api
from ..samplers.prompted import Prompted
from ..types import Row
from .early import check_named, model_named
from .options import DataSpec, RewardSpec, parse, task_options, template_options
from .prefix_of import prefix_of
from .quiet import quiet
from .sampler_of import print_calls

if TYPE_CHECKING:
    from ..evidence.evaluate import Case
    from ..tasks import Task


@dataclass(frozen=True)
class Options:
    """Score a model on a task or a file, with 95% intervals; several models are compared pairwise, on the same rows."""

    model: tuple[str, ...] = ("tieout-base",)
    """Hub ids, folders of models, adapters or `tieout train` runs, GGUF files, tieout-base or smollm2-135m; or
    api:NAME, a model behind OPENAI_BASE_URL."""
    task: str | None = None
    """A task's name, or FILE.py:attribute."""
    task_option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, an option of the task: `--task-option path=rows.json`. May be given several times."""
    data: DataSpec | None = None
    """Instead of a task: rows with prompt and the columns that the reward asks for."""
    reward: RewardSpec = "exact"
    """With --data: a reward's name, FILE.py:function, or several with weights: `exact=1.0 length=0.2`."""
    split: str = "test"
    """The split of the task."""
    dtype: Dtype = "auto"
    """Precision of all models: auto takes what the run of one of them was trained in, else as in `tieout train`."""
    max_rows: int = 0
    """Rows to ask, spread over all of them; 0 takes all."""
    max_new_tokens: int = 0
    """Most tokens of an answer; 0 takes the task's, 256 with --data."""
    samples: int = 0
    """Also so many samples per row, for pass@k: the probability that one of k is right, without bias; 0: none. Right is
    a primary metric of 1, or a reward at the top of its range."""
    temperature: float = 1.0
    """Of the samples; the one answer that is scored is greedy."""
    long_rows: LongRows = "error"
    """Prompts that do not fit into a model's context with what is sampled: error refuses them, drop leaves them out
    for all models, truncate cuts their beginning. Counts are printed, and kept with a report."""
    chat_template_kwargs: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, an option of the model's chat template: `--chat-template-kwargs enable_thinking=false`. May be given
    several times; left out: what the models were trained with. Rows with a column of this name may say otherwise."""
    prompt_file: Path | None = None
    """What is put before every prompt, for all models: a file of `tieout optimize-prompt`. Rows that chose the prompt
    are refused. For a report, give it to an evaluate stage of a recipe, as `prompt: {file: ...}`."""
    drafts: bool = False
    """Guess several tokens and compute them in one step: up to rounding the same answers, sooner if they are right."""
    reward_workers: int = 2
    """Processes that call the reward under a deadline; 0 calls it in this one, where nothing can stop it."""
    reward_seconds: float = 10.0
    """A reward that takes longer for one completion has failed."""
    controls: str | None = None
    """With a folder as --out: negative controls, a task such as `controls` (for tieout-base) or a file of prompt and
    answer. Left out, the gate holds: what must not break was not measured."""
    trained_on: Path | None = None
    """The rows that the last model was trained on: none of them may be among those it is evaluated on. Left out: what
    its run folder says."""
    price: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """MODEL=PROMPT,ANSWER per million tokens, or MODEL=HOUR/h: `--price runs/dpo=2.5/h`, for the cost of answers. May
    be given several times."""
    accept_leakage: str = ""
    """A reason to evaluate although some are; reports repeat it."""
    out: Path | None = None
    """A folder for cases and report, which gate, show and ship take: the last model is the candidate, the first its
    baseline. Or a file, FILE.jsonl, for the cases alone."""
    api: Annotated[APIOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=APIOptions)
    """How models behind an API are called."""


def main(arguments: Sequence[str]) -> None:
    """Parse, evaluate, print the table."""
    options = parse(Options, "eval", arguments)
    if options.out and options.out.suffix in (
        ".csv",
        ".tsv",
        ".json",
        ".txt",
        ".html",
        ".parquet",
        ".ndjson",
    ):
        raise InputError(f"--out is {options.out}; expected a folder, or FILE.jsonl for the cases alone")
    for name in options.model:
        model_named(name, runs=True, api=True)
    check_named(options.reward, options.task)
    found = evaluate_models(options, task_of(options), Console())
    print(json.dumps({name: figure["mean"] for name, figure in found.figures.items()}))
    found.refuse_unscored()


@dataclass(frozen=True)
class Evaluated:
    """What came of models that were asked the same rows."""

    cases: dict[str, list[Case]]
    """Model -> its answers and their scores, controls included."""
    figures: dict[str, Mapping[str, Any]]
    """Model -> the primary metric, or else the reward: `n`, `mean`, and `low` and `high` of its 95% interval."""
    differences: dict[tuple[str, str], dict[str, Any]]
    """(later model, earlier one) -> the paired difference of every number, later minus earlier."""
    folder: Path | None = None
    """With the report; None: none was written."""
    verdict: str = ""
    """ship, hold or reject, if there is a report."""

    def refuse_unscored(self) -> None:
        """InputError: a model has no completion with a score."""
        for name, own in self.cases.items():
            if all(case.score is None for case in own):
                errors = (case.errors["score"] for case in own if "score" in case.errors)
                raise InputError(
                    f"no completion of {name} has a score: {next(errors, 'the reward abstained')}"
                )


class NamesTask(Protocol):
    """Options that name a task, or rows and a reward."""

    @property
    def task(self) -> str | None: ...
    @property
    def task_option(self) -> tuple[str, ...]: ...
    @property
    def data(self) -> Path | None: ...
    @property
    def reward(self) -> str: ...


def task_of(options: NamesTask) -> Task:
    """The task that the options name, or the rows and the reward that they do."""
    from ..rewards import load_reward
    from ..rows import read_rows
    from ..tasks import load_task
    from ..tasks.files import rows_task

    if (options.task is None) == (options.data is None):
        raise InputError("give either --task NAME or --data FILE")
    if options.task:
        return load_task(options.task, task_options(options.task, options.task_option))
    task_options(None, options.task_option)
    return rows_task(str(options.data), read_rows(options.data or ""), load_reward(options.reward))


def evaluate_models(options: Options, task: Task, console: Console, named: bool = True) -> Evaluated:
    """Ask every model the rows of the task, print the table, and write the report if a folder is asked for.

    `named`: whether the options name the reward, so that another process can compute the scores again.
    """
    quiet()
    from ..chat.long_rows import Fitting
    from ..evidence import pass_at_k
    from ..evidence.evaluate import CONTROLS, PROGRAMMATIC, evaluate, write_cases
    from ..evidence.figures import model_figures, pair_figures
    from ..evidence.gains import gain
    from ..evidence.lines import lines_of
    from ..evidence.usage import usage_figures
    from ..learner import Model
    from ..learner.models.precision import name_of
    from ..pipelines.checks import chat_of
    from ..pipelines.evaluated import (
        check_trained_on,
        labels_of,
        one_dtype,
        one_template,
        policy_of,
        record_rule,
        write_evidence,
    )
    from ..pipelines.show import print_passed, print_usage
    from ..pipelines.training_rows import telling_task
    from ..rows.messages import prompt_text, refuse_unread, telling
    from ..rows.spread import spread
    from ..samplers import SamplingParams
    from ..samplers.api import APISampler
    from ..samplers.local.sampler import LocalSampler
    from ..samplers.prices import parse_prices
    from ..storage.atomic import write_json
    from ..training.build import open_model, under_deadline
    from ..training.progress import bar

    if options.samples < 0 or (options.samples and options.temperature <= 0):
        raise InputError(
            f"samples is {options.samples} at temperature {options.temperature:g}; expected 0 or more, at a "
            "temperature above 0"
        )
    if task.scorer is None:
        raise InputError(f"task {task.name!r} has neither a reward nor an environment to score with")
    rows = spread(list(task.rows(options.split)), options.max_rows)
    if not rows:
        raise InputError(f"task {task.name!r} has no rows in split {options.split!r}")
    folder = options.out if options.out and options.out.suffix not in (".jsonl", ".gz") else None
    if folder and len(options.model) < 2:
        raise InputError("a report compares two models: --model BASELINE CANDIDATE")
    before = prefix_of(options, task, rows, folder)
    prices = parse_prices(options.price, options.model)
    policies, controls = [policy_of(name) for name in options.model], controls_of(options.controls)
    held = {options.split: rows, **({"controls": controls.rows("test")} if controls else {})}
    leaks = check_trained_on(options.model, options.trained_on, held, options.accept_leakage)
    params = SamplingParams(options.max_new_tokens or task.max_new_tokens, temperature=0.0)
    template = one_template(options.model, template_options(options.chat_template_kwargs))
    task, controls = telling_task(task, template), telling_task(controls, template) if controls else None
    if options.chat_template_kwargs:
        refuse_unread(rows, template)
    rows, long_rows = list(telling(rows, template)), dict[str, dict[str, int]]()
    for name, policy in zip(options.model, policies, strict=True):
        if task.environment is not None or is_api(name):
            continue
        fitting = Fitting(*chat_of(policy.base), params.max_new_tokens, options.long_rows, trained=False)
        rows = list(fitting(with_prompts(rows), options.split))
        whole = rows if before is None else before.on(with_prompts(rows))
        fitting.chat.check_lengths(whole, fitting.context, params.max_new_tokens, task.name, trained=False)
        if fitting.counts:
            long_rows[name] = fitting.counts[options.split]
        for said in fitting.said:
            console.print(f"{name}: {said}", markup=False, highlight=False, soft_wrap=True)
    prompts = {prompt_text(row["prompt"]) for row in with_prompts(rows)}
    if task.environment is None and len(prompts) < len(rows):
        console.print(
            f"{len(rows)} rows have {len(prompts)} different prompts: means are over rows, and intervals count "
            "a prompt once",
            highlight=False,
            soft_wrap=True,
        )
    dtype = one_dtype(options.model, policies, options.dtype)
    if folder:
        record_rule(folder, options.model, options.split, task.primary)
    cases, verdict = {}, ""
    samples: dict[str, list[list[Case]]] = {}
    if folder and not leaks:
        console.print(
            "the candidate's training rows are not known, and were not looked for: give --trained-on FILE"
        )
    scorers = [
        task.reward,
        *task.metrics.values(),
        *task.parts.values(),
        controls.reward if controls else None,
    ]
    rewards = [r for r in scorers if r is not None]
    workers = under_deadline(rewards, options.reward_workers, options.reward_seconds, console)
    ledger = options.api.ledger(prices) if any(map(is_api, options.model)) else None
    model: Model | None = None
    for name, policy in zip(options.model, policies, strict=True):
        with bar(console, name, len(rows)) as shown:
            sampler: LocalSampler | APISampler
            if is_api(name):
                model = None
                told = shown.advance if task.environment is None else None
                sampler = open_api(name, options.api, ledger, told)
                console.print(f"{escape(name)} at {sampler.url}", highlight=False, soft_wrap=True)
            else:
                model = open_model(policy.base, policy.trained, dtype=dtype, four_bits=policy.four_bits)
                console.print(f"{escape(name)} in {name_of(model.causal.dtype)}", highlight=False)
                sampler = LocalSampler(model, drafts=options.drafts)
            asking = sampler if before is None else Prompted(sampler, before)
            cases[name] = evaluate(
                task,
                rows,
                asking,
                params,
                slice=options.split,
                batch_size=sampler.batch_size if isinstance(sampler, LocalSampler) else len(rows),
                workers=workers,
                progress=lambda done, total: shown.at(done),
            )
        for i in range(
            options.samples
        ):  # from streams of their own: `evaluate` takes those of seed and chunk
            drawn = replace(params, temperature=options.temperature, seed=1 + i + (i + 1) * len(rows))
            size = sampler.batch_size if isinstance(sampler, LocalSampler) else len(rows)
            said_of = evaluate(
                task, rows, asking, drawn, slice=options.split, batch_size=size, workers=workers
            )
            samples.setdefault(name, []).append(said_of)
        if controls:
            asked = controls.rows("test")
            sampler.progress = None
            cases[name] += evaluate(controls, asked, sampler, track=CONTROLS, slice=_skill, workers=workers)
        if isinstance(sampler, APISampler):
            print_calls(sampler, console)
    models = {name: {PROGRAMMATIC: model_figures(cases, [], name, PROGRAMMATIC, 0)} for name in cases}
    numbers = [line for line in lines_of(models, task.primary, options.split) if line.track == PROGRAMMATIC]
    table = Table(title=f"{task.name}, {options.split}: mean and 95% interval", title_justify="left")
    table.add_column("")
    for name, tracks in models.items():
        table.add_column(f"{name}, n {tracks[PROGRAMMATIC]['n']}", justify="right")
    for line in numbers:
        table.add_row(line.label, *(_interval(line.of(tracks)) for tracks in models.values()))
    console.print(table)
    sampled = pass_at_k.settings(task, options.samples, options.temperature) if samples else {}
    if samples:
        both = (options.model[-1], options.model[0]) if len(samples) > 1 else None
        passed = pass_at_k.pass_figures(samples, sampled, both)
        print_passed(passed, sampled, console)
    labels = dict(zip(options.model, labels_of(options.model), strict=True))
    by_label = {labels[name]: own for name, own in cases.items()}
    priced = {labels[name]: price for name, price in prices.items()}
    print_usage(usage_figures(by_label, labels[options.model[0]], options.split, priced), console)
    differences = {}
    for i, one in enumerate(options.model):
        for other in options.model[i + 1 :]:
            pair = differences[other, one] = pair_figures(cases, [], other, one, PROGRAMMATIC, 0)
            said = f"{other} minus {one}, paired, n={pair['n']}: {gain(pair, task.primary)}"
            console.print(said, markup=False, highlight=False)
    if folder:
        known = {
            "task": options.task,
            "task_options": task_options(options.task, options.task_option),
            "reward": options.reward,
            "controls": options.controls,
            "max_new_tokens": options.max_new_tokens or task.max_new_tokens,
            **({"chat_template_kwargs": template} if template else {}),
            **({"long_rows": long_rows} if long_rows else {}),
        }
        if options.controls and Path(options.controls).is_file():
            known["controls"] = "file"
        names = known if named else None
        of_label = {labels[name]: own for name, own in samples.items()}
        about = (task, rows, options.split, policies, model, leaks, priced, controls, names)
        report = write_evidence(folder, by_label, *about, samples=of_label, sampled=sampled)
        verdict = report["verdict"]["verdict"]
        console.print(f"report: {folder}/evidence/report.html", highlight=False, soft_wrap=True)
        console.print(
            f"verdict: {verdict}; next: tieout show {shlex.quote(str(folder))}",
            highlight=False,
            soft_wrap=True,
        )
    elif options.out:
        write_cases(options.out, cases)
        pass_at_k.write_samples(options.out, samples)
        if samples:
            write_json(options.out.parent / "pass_at_k.json", {"sampled": sampled, **passed})
        console.print(f"cases: {options.out}", highlight=False)
    figures = {name: numbers[0].of(tracks) for name, tracks in models.items()}
    return Evaluated(cases, figures, differences, folder, verdict)


def controls_of(name: str | None) -> Task | None:
    """The negative controls of this name: a task, or a file of prompt and answer."""
    from ..tasks import load_task
    from ..tasks.files import controls_task

    if name is None:
        return None
    return controls_task(name) if Path(name).is_file() else load_task(name)


def _skill(row: Row) -> str:
    return str(row.get("skill", "controls"))


def _interval(figure: Mapping[str, Any]) -> str:
    """A mean with its interval, or `-` if nothing was scored."""
    if not figure["n"]:
        return "-"
    return escape(f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")

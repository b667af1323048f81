"""tieout train METHOD --model DIR_OR_ID --data FILE --out DIR; METHOD is a name or FILE.py:Class"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.markup import escape

from ..config.method_table import TABLE, check_name
from ..errors import InputError
from ..rows.pairs import PairSelection
from .early import check_train
from .examples import examples
from .options import parse, template_options
from .quiet import quiet
from .run import wide_console
from .train_rows import COLUMNS, Options, leakage_of, rows_from, task_for
from .unloaded import about

if TYPE_CHECKING:
    from ..methods import Method
    from ..tasks import Task
    from ..training.spec import TrainSpec


CHOOSING = """Which one: the cheapest that solves the problem; measure after each, and stop when it is enough.
  right answers to imitate                        sft, before any other
  a program can check answers, some are right     grpo; rejection_sampling and dpo cost less
  pairs of a better and a worse answer            dpo; orpo if there was no SFT, simpo if lengths differ
  single answers marked good or bad               kto
  preferences that no program can check           reward_model, then ppo or rloo against it
  a model that does it already, or does it        distill
    when it is shown more (an answer, a hint)
docs/choosing.md has what each needs and costs, and when to stop."""
"""By what there is to learn from."""


def main(arguments: Sequence[str]) -> None:
    """Parse with the method's own fields as options, then train."""
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(_usage())
        return
    try:
        check_name(name)
        check_train(name, arguments[1:])
        from ..methods import load_method

        method = load_method(name)
    except InputError as error:
        print(f"tieout train: {error}", file=sys.stderr)
        sys.exit(1 if name in TABLE else 2)
    parsed: Any = parse(options_type(method), f"train {name}", arguments[1:])
    train(name.rpartition(":")[2].lower(), parsed)


def _usage() -> str:
    """The methods of the table, by the kind of rows that they need."""
    width = max(map(len, TABLE))
    lines = [
        "usage: tieout train METHOD ...",
        "",
        "METHOD is FILE.py:Class, a method of your own, or one of these:",
    ]
    for kind, columns in COLUMNS.items():
        lines += ["", f"  Rows: {columns}"]
        lines += [
            f"    {name:<{width}}  {about(name)}" for name, named in TABLE.items() if named.rows == kind
        ]
    return "\n".join(
        [
            *lines,
            "",
            CHOOSING,
            "",
            "tieout train METHOD --help lists the options of a method.",
            "",
            *examples("train sft"),
        ]
    )


def options_type(method: type[Method]) -> type:
    """The common options, the method's fields and the adapter's, as one dataclass for the parser."""
    from ..learner import AdapterConfig, LearnerConfig
    from ..training.guards import Guards
    from ..training.placement import Placement
    from ..training.schedule import Schedule
    from ..training.spec import EvalPolicy
    from ..vetting.before_training import RewardCheck

    flat: Any = tyro.conf.OmitArgPrefixes
    taken = {
        f.name for part in (Options, Placement, EvalPolicy, RewardCheck) for f in dataclasses.fields(part)
    }
    if twice := sorted(taken & {field.name for field in dataclasses.fields(method)}):
        raise InputError(
            f"{method.__name__} has fields that are options of every method: {', '.join(twice)}; rename them"
        )
    about = " ".join((method.__doc__ or "").split())
    needs = method().needs
    columns = "prompt" if needs.samples and needs.unscored else COLUMNS[needs.rows]
    pairs = [("selection", PairSelection, dataclasses.field(default_factory=PairSelection))]
    check = [("check", flat[RewardCheck], dataclasses.field(default_factory=RewardCheck))]
    return dataclasses.make_dataclass(
        f"Train{method.__name__}",
        [
            ("run", flat[Options]),
            ("placement", flat[Placement], dataclasses.field(default_factory=Placement)),
            ("evaluation", flat[EvalPolicy], dataclasses.field(default_factory=EvalPolicy)),
            ("method", flat[method], dataclasses.field(default_factory=method)),
            ("adapter", AdapterConfig, dataclasses.field(default_factory=AdapterConfig)),
            ("learner", LearnerConfig, dataclasses.field(default_factory=LearnerConfig)),
            ("schedule", Schedule, dataclasses.field(default_factory=Schedule)),
            ("guards", Guards, dataclasses.field(default_factory=Guards)),
            *(pairs if needs.rows == "preference" else []),
            *(check if needs.rewarded else []),
        ],
        namespace={"__doc__": f"{about}\n\nRows: {columns}."},
    )


def train(name: str, parsed: Any) -> None:
    """Check everything, then train into the folder."""
    from ..chat.long_rows import Fitting
    from ..config.code_digest import together
    from ..evidence.leakage import FILE, held_out
    from ..evidence.report import evaluation_of
    from ..learner.models.loading import parameters_of, precision_of
    from ..pipelines.checks import chat_of, check_model
    from ..pipelines.training_rows import with_rows
    from ..rewards.scoring.reward_identity import servers_of
    from ..rows import data_hash, digests, read_rows
    from ..rows.messages import refuse_unread, telling
    from ..storage.machine import launched
    from ..storage.runfolder import RunFolder
    from ..training.fit import fit
    from ..training.guards import check_gold
    from ..training.reward_models import check_models, check_turns
    from ..training.spec import TrainSpec, code_in, identity
    from ..training.teachers import check_teachers
    from ..training.unserved import check_engine
    from ..vetting.before_training import check_reward_first
    from ..vetting.preferences.report import PAIRED, report

    quiet()
    console = Console(quiet=launched()[0] > 0)
    options: Options = parsed.run
    needs, served = parsed.method.needs, options.engine == "tinker"
    check_engine(options.engine, parsed.method, parsed.adapter, parsed.learner, parsed.placement)
    if parsed.placement.vllm and not needs.samples:
        raise InputError(
            f"--vllm is for methods that sample, and {name} learns from given rows: leave it out"
        )
    if parsed.guards.gold and not needs.rewarded:
        learns = "without scores" if needs.samples else "from given rows"
        raise InputError(
            f"--guards.gold is compared with what a method samples, and {name} learns {learns}: leave it out"
        )
    selection: PairSelection | None = getattr(parsed, "selection", None)
    task = task_for(needs, name, options, parsed.evaluation.eval_steps > 0, selection)
    fitting = Fitting(*chat_of(options.model), needs.max_new_tokens, options.long_rows)
    splits = ("train",) if options.task else ("train", "validation", "test")
    template = template_options(options.chat_template_kwargs)
    if template:
        refuse_unread(task.rows("train"), template)
        task = with_rows(task, {split: telling(task.rows(split), template) for split in splits})
    if options.long_rows != "error":
        task = with_rows(
            task, {split: fitting(rows, split) for split in splits if (rows := task.rows(split))}
        )
    for line in fitting.said:
        console.print(
            f"{options.data or options.task}: {line}", markup=False, highlight=False, soft_wrap=True
        )
    if left_out := getattr(task.rows("train"), "said", ""):
        console.print(f"{options.data}: {left_out}", markup=False, highlight=False, soft_wrap=True)
    if (
        held := task.rows("validation")
        if options.hold_out and options.held_out is None and not options.task
        else ()
    ):
        console.print(
            f"held out: {len(held)} of {len(held) + len(task.rows('train'))} rows; --no-hold-out trains on all"
        )
    size, count = parsed.method.batch_size, len(task.rows("train"))
    if size > count:  # one that was given is refused before: see `early`
        console.print(
            f"a batch of {size} holds rows several times: there are {count}; --batch-size {count} does not"
        )
    check_gold(parsed.guards, task.rows("train"), task.metrics)
    if needs.rewarded:
        check_turns(task, needs.reward_model)
        check_models(task.reward, needs.reward_model, parsed.guards.reward_model_override)
    check_teachers(needs, options.model, task.rows("train"))
    leakage = leakage_of(options, task)
    parts = {k: v for k, v in vars(parsed).items() if k not in ("run", "selection", "check")}
    parts["engine"] = options.engine
    if options.plan:
        if served:
            size = 4 * parameters_of(options.model) / 2**30
            raise InputError(
                f"--plan measures this machine, and {parsed.placement.engine_url} computes every step, with memory and "
                f"a speed of its own: leave --plan out. Here a run takes {size:.2g} GiB for the base in fp32, "
                "at the start and at the end, to compare the server with it (--engine-check server leaves that out). "
                "What a step takes is `update_seconds` in metrics.jsonl, and a run that is stopped resumes"
            )
        spec = TrainSpec(model=options.model, seed=options.seed, dtype=options.dtype, **parts)
        _plan(name, spec, options, task, wide_console())
        return
    with RunFolder(options.out) as folder:
        four_bits = parsed.adapter.method == "qlora"
        asked_for = "fp32" if served and options.dtype == "auto" else options.dtype
        taken = precision_of(options.model, asked_for, parsed.placement.device, four_bits)
        console.print(f"[bold]{name}[/]  {escape(options.model)}  {taken}", highlight=False)
        spec = TrainSpec(model=options.model, seed=options.seed, dtype=taken.name, **parts)
        digest = data_hash(task.rows("train"))
        check_model(options.model, {split: task.rows(split) for split in splits}, needs.max_new_tokens)
        asked: dict[str, Any] = {
            "task": options.task,
            "task_options": list(options.task_option),
            "reward": options.reward,
            "long_rows": options.long_rows,
            "chat_template_kwargs": template,
        }
        if selection is not None:
            asked["selection"] = dataclasses.asdict(selection)
        sets = {"train": task.rows("train")}
        if options.held_out is not None:
            sets["held_out"] = read_rows(options.held_out)
        hashes = {
            "train": digest,
            **{split: data_hash(own) for split, own in sets.items() if split != "train"},
        }
        known = {**identity(spec), **identity(asked)}
        if code := together([code_in(spec), code_in(asked)]):
            known["code"] = code
        servers = servers_of({"reward": task.reward} if task.reward is not None else {})
        folder.record(known, hashes, spec.placement, str(taken), fitting.counts, servers)
        folder.write_json(FILE, {**leakage, "trained_on": rows_from(options, digest)})
        if folder.leads:
            digests.keep(options.out / digests.FILE, sets)
        if needs.rewarded and not needs.reward_model and folder.leads:
            reward = task.reward if task.scorer == "reward" else None
            inputs = {**identity(asked), "rows": digest}
            given = (reward, task.rows("train"), task.gold, parsed.check, folder.stage("check"), inputs)
            console.print(f"[bold]check[/]  {escape(check_reward_first(*given))}", highlight=False)
        if needs.rows in PAIRED:
            own: Any = {"accept_leakage": options.accept_leakage, "seed": options.seed}
            report(folder, f"{name}-pairs", task.rows("train"), held_out(task), console, **own)
        adapter = fit(folder, name, spec, task, console, digest)
    console.print(f"adapter: {adapter}", highlight=False)
    if needs.head != "score":
        saved = shlex.quote(str(adapter))
        console.print(f"use: tieout sample PROMPT --model {saved}", highlight=False, soft_wrap=True)
        if parsed.adapter.method in ("lora", "dora"):
            console.print(f"use: tieout merge {saved} --out MERGED", highlight=False, soft_wrap=True)
        console.print(
            f"next: {evaluation_of(options.out, options.model)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _plan(name: str, spec: TrainSpec, options: Options, task: Task, console: Console) -> None:
    """Print what the training will need."""
    from ..learner.models.loading import precision_of
    from ..pipelines.checks import check_model
    from ..pipelines.planned import print_planned
    from ..pipelines.planning.elsewhere import memory_of, plan_elsewhere
    from ..pipelines.planning.runs import measure_alone
    from ..pipelines.planning.work import work_alone

    memory = memory_of(options.plan_memory, spec.placement.device)
    check_model(options.model, {"train": task.rows("train")}, spec.method.needs.max_new_tokens)
    work = work_alone(name, spec, task, options.plan_length)
    if memory is not None:
        planned, where = (
            plan_elsewhere(work, options.dtype, memory),
            f"a CUDA device of {options.plan_memory}",
        )
    else:
        four_bits = spec.adapter.method == "qlora"
        taken = precision_of(options.model, options.dtype, spec.placement.device, four_bits)
        planned, where = measure_alone(work), f"this machine, {taken}"
    print_planned([planned], where, console)

"""The options of `tieout train` that name rows and reward, and the task they make for what a method needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ..config.dtype import Dtype
from ..errors import InputError
from ..rows import Kind, LongRows, Rows, check_general, data_hash, read_rows
from ..rows.pairs import PairSelection, rows_for
from ..rows.sources import absolute
from .early import SCORED_BY
from .options import DataSpec, RewardSpec, task_options

if TYPE_CHECKING:
    from ..methods import Needs
    from ..tasks import Task

COLUMNS: dict[Kind, str] = {
    "demonstration": "prompt and completion, or messages",
    "preference": "prompt, chosen and rejected; or prompt, completions and scores, as all their decided pairs",
    "ranking": "prompt, chosen and rejected, or prompt, completions and scores",
    "label": "prompt, completion and label",
    "prompt": "prompt and the columns that the reward reads",
}
"""Kind of rows -> their columns."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What every method takes; repeating the command resumes it."""

    out: Path
    """Run folder: run.json, metrics, checkpoints, and the adapter."""
    model: str = "tieout-base"
    """Hub id, folder or GGUF file of a causal model, an adapter to continue from, tieout-base or smollm2-135m."""
    data: DataSpec | None = None
    """Rows with the columns that the method needs: see above. Several files with weights, `a.jsonl=2.0 b.jsonl=0.5`:
    each row twice, and half of the rows. A data set of the hub: hub:OWNER/NAME:SPLIT."""
    held_out: DataSpec | None = None
    """Rows to evaluate on while training, of the same kind as data. A reward model is measured on them at the end, too;
    left out for it: a tenth of the data, which is then not trained on."""
    hold_out: bool = True
    """Without held-out rows, and from 200 rows of demonstrations, pairs or labels on: leave about a twentieth of the
    prompts (64 rows at most) out of training and measure the loss on them. --no-hold-out trains on all."""
    task: str | None = None
    """Instead of data: a task's name, or FILE.py:attribute."""
    task_option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, an option of the task: `--task-option path=rows.json`. May be given several times."""
    reward: RewardSpec | None = None
    """For methods that sample, with data: a reward's name, FILE.py:function, reward_model:FOLDER or
    judge:FILE.yaml; or several with weights, `--reward exact=1.0 mine.py:brief=0.2`, whose weighted sum is
    learned."""
    long_rows: LongRows = "error"
    """Rows that do not fit into the model's context: error refuses them; drop leaves them out; truncate cuts the
    beginning of the prompt, never a completion, and leaves out what does not fit even so. With counts."""
    chat_template_kwargs: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, an option of the model's chat template: `--chat-template-kwargs enable_thinking=false`. May be given
    several times. Rows with a column `chat_template_kwargs` may say otherwise."""
    accept_leakage: str = ""
    """A reason to train although training rows are among the held-out ones; reports repeat it."""
    dtype: Dtype = "auto"
    """Precision of the base model. auto: bf16 on CUDA, and on a processor with native bf16 from 30 million parameters
    on; else fp32."""
    engine: Literal["local", "tinker"] = "local"
    """Where the model is. local: in this process. tinker: on a server with the Tinker API, at --engine-url, which
    trains and samples (docs/scale.md)."""
    seed: int = 0
    """Random seed of the adapter, the order of the data and the sampling."""
    plan: bool = False
    """Load the model, measure it for about 20 seconds, print steps, memory and time and whether it fits, and stop."""
    plan_memory: str = ""
    """With plan and --device cuda: the memory of a device that need not be here, such as 24GiB."""
    plan_length: int = 0
    """With plan: tokens of a sampled completion that it assumes; 0: those that the policy writes now, if there is time
    to sample it, else the most that may be sampled."""


def task_for(
    needs: Needs,
    name: str,
    options: Options,
    evaluates: bool = False,
    selection: PairSelection | None = None,
) -> Task:
    """The task that the options name: a registered one, or the rows of the file as the method needs them.

    Args:
        needs: of the method.
        name: of the method, for messages.
        options: rows and reward.
        evaluates: whether the run evaluates on held-out rows while it trains.
        selection: which pairs are learned from, where the method learns from pairs.

    Raises:
        InputError: an option is missing, would be ignored, or names what the method cannot use.
    """
    from ..tasks import Task, load_task
    from ..tasks.files import REWARD_MODEL, answered, check_columns, hold_out, hold_out_few

    _refuse_unused(needs, name, options, evaluates)
    scored = needs.rewarded and not needs.reward_model
    splits: dict[str, Sequence[Any]] = {}
    if options.held_out is not None:
        split = "test" if needs.head == "score" else "validation"
        splits[split] = _read(options.held_out, needs, name, selection)
    if options.task:
        task = load_task(options.task, task_options(options.task, options.task_option))
        if scored and task.reward is None and task.environment is None:
            raise InputError(
                f"{name} needs a reward, and task {options.task!r} has neither a reward nor an environment"
            )
    else:
        assert options.data is not None
        splits["train"] = _read(options.data, needs, name, selection)
        if needs.head == "score" and "test" not in splits:
            splits["train"], splits["test"] = hold_out(splits["train"], REWARD_MODEL)
        elif options.hold_out and needs.rows != "prompt" and not splits.get("validation"):
            splits["train"], held = hold_out_few(splits["train"])
            splits |= {"validation": held} if held else {}
        name = options.data.name if options.data.exists() else str(options.data)
        task = Task(name, lambda split: [], _reward(options.reward))
    if task.reward is not None and (scored or needs.unscored):
        splits = {split: answered(rows, task.reward) for split, rows in splits.items()}
        for split, rows in splits.items():
            if scored or split != "train":
                check_columns(task.reward, rows)
    own = task.rows
    return dataclasses.replace(task, rows=lambda split: splits[split] if split in splits else own(split))


def _read(path: Path, needs: Needs, name: str, selection: PairSelection | None) -> Rows:
    rows = rows_for(needs.rows, read_rows(path), str(path), selection)
    if needs.rows in ("preference", "ranking"):
        check_general(rows, name, needs.anchors, str(path))
    return rows


def leakage_of(options: Options, task: Task) -> dict[str, Any]:
    """Counts of training rows among the rows that are held out. InputError: there are some, and no reason is given."""
    from ..evidence.leakage import check_leakage, held_out, rows_of

    reason = '--accept-leakage "reason"'
    return check_leakage({"train": rows_of(task, "train")}, held_out(task), options.accept_leakage, reason)


def rows_from(options: Options, digest: str) -> dict[str, Any]:
    """Where the training rows are, so that a later evaluation can look for them.

    `digest`: of the rows of a task. A file is known by all its rows as it has them, before some are held out.
    """
    data = absolute(str(options.data)) if options.data else None
    digest = data_hash(read_rows(options.data)) if options.data else digest
    given = task_options(options.task, options.task_option)
    return {"task": options.task, "options": given, "data": data, "sha256": digest}


def _refuse_unused(needs: Needs, name: str, options: Options, evaluates: bool) -> None:
    """InputError: an option is missing, or would be ignored."""
    task_options(options.task, options.task_option)
    if (options.data is None) == (options.task is None):
        raise InputError("give either --data FILE or --task NAME")
    if options.task and needs.rows not in ("prompt", "demonstration"):
        raise InputError(f"{name} needs rows that tasks do not have: give --data with {COLUMNS[needs.rows]}")
    if options.held_out is not None and not evaluates and needs.head != "score":
        raise InputError("--held-out is evaluated every --eval-steps steps; give both, or neither")
    if options.reward is not None and (options.task or needs.reward_model or not needs.samples):
        if not needs.samples:
            reason = f"{name} is not trained on a reward"
        elif needs.reward_model:
            reason = f"the reward model {needs.reward_model} scores"
        else:
            reason = f"task {options.task!r} has its own"
        raise InputError(f"--reward is {options.reward!r}, but {reason}: leave it out")
    if options.reward is not None and needs.unscored and not evaluates:
        raise InputError(
            f"--reward is {options.reward!r}, but {name} learns without one: it scores held-out rows alone. Give "
            "--held-out and --eval-steps too, or leave it out"
        )
    if options.data is not None and options.reward is None and needs.rewarded and not needs.reward_model:
        raise InputError(f"{name} needs a reward: {SCORED_BY}")


def _reward(name: Any) -> Any:
    """By its name; of a program that trains in Python, the function itself."""
    from ..rewards import load_reward

    return load_reward(name) if isinstance(name, str) else name

"""What `tieout eval` puts before prompts, and checks that it may."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import InputError
from ..rows import LongRows
from ..rows.checks import with_prompts
from ..samplers.prompted import PromptPrefix, check_not_searched, read_prompt
from ..types import Row

if TYPE_CHECKING:
    from ..tasks import Task


class NamesPrompt(Protocol):
    """Options that may name a prompt file."""

    @property
    def prompt_file(self) -> Path | None: ...
    @property
    def long_rows(self) -> LongRows: ...
    @property
    def accept_leakage(self) -> str: ...


def prefix_of(
    options: NamesPrompt, task: Task, rows: Sequence[Row], folder: Path | None
) -> PromptPrefix | None:
    """The prefix in the prompt file that options name; None: they name none.

    `folder`: of the report that is asked for. InputError: it does not go with the other options, or rows chose it.
    """
    if options.prompt_file is None:
        return None
    if task.environment is not None:
        raise InputError(
            f"--prompt-file is put before single prompts, and task {task.name!r} is an environment"
        )
    if folder or options.long_rows != "error":
        given = f"--out {folder}" if folder else f"--long-rows {options.long_rows}"
        raise InputError(
            f"--prompt-file does not go with {given}: a report on a prompt comes from an evaluate stage of a recipe, "
            "`prompt: {file: ...}`; here give a file, --out FILE.jsonl, and rows that fit"
        )
    prefix = read_prompt(options.prompt_file)
    check_not_searched(prefix, with_prompts(rows), options.accept_leakage, '--accept-leakage "reason"')
    return prefix

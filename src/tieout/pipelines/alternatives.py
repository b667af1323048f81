"""Settings of models that are evaluated without being trained: behind an API, with a prompt, as best of N; and of the
search for a prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config.fields import ConfigError, nearest
from ..errors import InputError
from ..methods.checks import at_least
from ..prompt_search.settings import SearchSettings
from ..samplers import prompted
from ..samplers.api.opening import is_api

BASE = "base"
"""The model that a run starts from, as a name of `from`, `model`, `models`, `candidate` and `baseline`."""

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
"""Of a stage or a challenger."""


@dataclass(frozen=True)
class BasePrompt:
    """What is put before every prompt of a model: your own prompt, as an alternative to training."""

    system: str = ""
    """A system prompt, or a file that holds it."""
    shots: int = 0
    """Training rows shown with their gold: spread over all of them, the same ones before every prompt."""
    file: str = ""
    """Instead of both: a prompt file, as `tieout optimize-prompt` writes it."""
    stage: str = ""
    """Instead of all three: what an optimize_prompt stage before it finds."""

    def __post_init__(self) -> None:
        at_least(0, self, "shots")
        for name in ("file", "stage"):
            others = {"system", "shots", "file", "stage"} - {name}
            if getattr(self, name) and any(getattr(self, other) for other in others):
                raise InputError(f"prompt has a {name}, which gives system and shots: leave the others out")

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return bool(self.system or self.shots or self.file or self.stage)


@dataclass(frozen=True, kw_only=True)
class OptimizePrompt(SearchSettings):
    """Search for a better system prompt, on training rows alone; the evaluate stages after it measure it."""

    name: str = ""
    """Of the stage; left out: optimize_prompt. Challengers name it: `prompt: {stage: optimize_prompt}`."""
    start: str = ""
    """Whose prompt it is: a train stage, `base`, or api:NAME, a model behind an API; `from` in a recipe. Left out: the
    policy trained before."""


@dataclass(frozen=True)
class Challenger:
    """One further model of an evaluate stage."""

    model: str = BASE
    """`base`, a train stage before it, or api:NAME, a model behind OPENAI_BASE_URL."""
    best_of_n: int = 0
    """Answer with the best of so many samples, at the `temperature` and by the `selector` of the stage; 0: one answer,
    greedy."""
    prompt: BasePrompt = field(default_factory=BasePrompt)
    """What is put before every prompt."""

    def __post_init__(self) -> None:
        at_least(0, self, "best_of_n")
        if self.best_of_n == 1:
            raise InputError("best_of_n is 1; expected 2 samples or more, or 0 for one greedy answer")


def check_challenger(name: str, own: Challenger, known: Sequence[str], place: str) -> None:
    """ConfigError: a name that is no file's, no such model, or nothing that makes it another model."""
    if not re.fullmatch(NAME, name):
        raise ConfigError(f"{place}: its name is that of a file, of letters, digits, `_`, `-` and `.`")
    if is_api(own.model):
        return
    if own.model not in known:
        raise ConfigError(
            f"{place}: model is {own.model!r}, which is no model before it{nearest(own.model, known) or ';'} there "
            f"are: {', '.join(known)}; or api:NAME"
        )
    if not own.best_of_n and not own.prompt.given:
        raise ConfigError(
            f"{place}: it is {own.model!r} as it is: give best_of_n or prompt, or a model api:NAME"
        )


def read_prompt(prompt: BasePrompt, place: str) -> BasePrompt:
    """With the system prompt from its file if it names one: the run has the text on record, and not where it lay; and
    so of a prompt file.

    ConfigError: the file is not there, or empty.
    """
    if prompt.file:
        try:
            held = prompted.read_prompt(prompt.file).plain
        except InputError as error:
            raise ConfigError(f"{place}: prompt.file: {error}") from error
        return replace(prompt, file=json.dumps(held, ensure_ascii=False, sort_keys=True))
    given = prompt.system
    if not (re.fullmatch(r"\S+\.(txt|md)", given) or (len(given) < 256 and Path(given).is_file())):
        return prompt
    try:
        text = Path(given).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: prompt.system is {given!r}, which cannot be read: {error}") from error
    if not text:
        raise ConfigError(f"{place}: prompt.system is {given!r}, and the file is empty")
    return replace(prompt, system=text)

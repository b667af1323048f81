"""Options that the commands which sample one model share: `sample`, `best-of`, `prefer` and `optimize-prompt`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ..config.dtype import Dtype
from ..samplers.api.opening import APIOptions
from .options import RewardSpec


@dataclass(frozen=True, kw_only=True)
class SampledOptions:
    """A model, and how it is asked."""

    model: str = "tieout-base"
    """Hub id, folder of a model or of an adapter, GGUF file, tieout-base or smollm2-135m; or api:NAME, a model behind
    OPENAI_BASE_URL."""
    max_new_tokens: int = 0
    """Completions are cut off after this many tokens; 0 takes the task's."""
    seed: int = 0
    """Random seed of the sampling."""
    dtype: Dtype = "auto"
    """Precision of a model that is loaded: auto takes what its run was trained in, if it is of one, else as in `tieout
    train`."""
    chat_template_kwargs: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, an option of the model's chat template: `--chat-template-kwargs enable_thinking=false`. May be given
    several times; left out: what the model was trained with. Rows with a column of this name may say otherwise."""
    price: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Of a model behind an API: api:NAME=PROMPT,ANSWER per million tokens. `best-of` takes MODEL=HOUR/h of a local one,
    too."""
    api: Annotated[APIOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=APIOptions)
    """How a model behind an API is called."""


@dataclass(frozen=True, kw_only=True)
class ScoredOptions(SampledOptions):
    """And rows, with what scores the completions."""

    data: Path | None = None
    """Rows with prompt and the columns that the rewards ask for."""
    reward: RewardSpec = "exact"
    """With data: what orders the completions, a reward's name, FILE.py:function, judge:FILE.yaml, or several with
    weights."""
    task: str | None = None
    """Instead of data and reward: a task's name, or FILE.py:attribute."""
    task_option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """KEY=VALUE, an option of the task. May be given several times."""
    reward_workers: int = 2
    """Processes that call the rewards under a deadline; 0 calls them in this one, where nothing can stop them."""
    reward_seconds: float = 10.0
    """A reward that takes longer for one completion has failed."""

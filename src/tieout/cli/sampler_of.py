"""The sampler of a model by name, local or behind an API, what it is asked with, and what its calls took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from ..config.dtype import Dtype
from ..samplers.api import APISampler
from ..samplers.api.opening import APIOptions, is_api, open_api
from ..samplers.prices import parse_prices
from .options import template_options

if TYPE_CHECKING:
    from ..samplers.local.sampler import LocalSampler
    from ..tasks import Task


def sampler_of(
    name: str,
    api: APIOptions,
    price: Sequence[str] = (),
    dtype: Dtype = "auto",
    drafts: bool = False,
    progress: Callable[[int], None] | None = None,
) -> APISampler | LocalSampler:
    """A sampler of a model that is loaded here, or of one behind an API.

    Args:
        name: as `tieout sample` takes it, or `api:NAME`.
        api: how the latter is called.
        price: `MODEL=PROMPT,ANSWER`.
        dtype: of a model that is loaded.
        drafts: see `LocalSampler`.
        progress: called with the number of completions that have just arrived.

    Raises:
        InputError: no such model, or a price of another one.
    """
    prices = parse_prices(price, [name])
    if is_api(name):
        return open_api(name, api, api.ledger(prices), progress)
    from ..pipelines.evaluated import one_dtype, policy_of
    from ..samplers.local.sampler import LocalSampler
    from ..training.build import open_model

    policy = policy_of(name)
    kind = one_dtype([name], [policy], dtype)
    model = open_model(policy.base, policy.trained, dtype=kind, four_bits=policy.four_bits)
    return LocalSampler(model, drafts=drafts, progress=progress)


def samplers_of(
    names: Sequence[str], api: APIOptions, price: Sequence[str], dtype: Dtype
) -> list[APISampler | LocalSampler]:
    """Samplers of several models; those behind an API share one ledger, and with it one budget."""
    prices = parse_prices(price, names)
    ledger = api.ledger(prices) if any(map(is_api, names)) else None
    return [
        open_api(name, api, ledger) if is_api(name) else sampler_of(name, api, (), dtype) for name in names
    ]


def asked_with(task: Task, split: str, model: str, given: Sequence[str]) -> Task:
    """The task whose rows tell the chat template what a command says, or else what the model's run was trained with.

    InputError: `given` (`KEY=VALUE`) is of another form, or no chat template renders the prompts of the split.
    """
    from ..pipelines.evaluated import one_template
    from ..pipelines.training_rows import telling_task
    from ..rows.messages import refuse_unread

    template = one_template([model], template_options(given))
    if given:
        refuse_unread(task.rows(split), template)
    return telling_task(task, template)


def print_calls(sampler: APISampler, console: Console) -> None:
    """One line of this command's completions, and one of everything that the ledger holds."""
    ledger, spent = sampler.ledger, sampler.ledger.spent
    free = f" without {spent.unpriced} calls that have no price" if spent.unpriced else ""
    cost = f", cost {spent.cost:.6g}{free}" if spent.cost else ""
    lines = [
        f"  {sampler.model}: {sampler.misses} completions asked for, {sampler.hits} taken from the ledger",
        f"  ledger {ledger.path or 'in memory'}: {spent.calls} calls, {spent.prompt_tokens:,} + {spent.tokens:,} "
        f"tokens{cost}",
    ]
    if spent.unknown:
        lines.append(
            f"  {spent.unknown} calls count at the most that they can have taken: they were lost, or their replies "
            "have no usage"
        )
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

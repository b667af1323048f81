"""A judge behind an API from a YAML file, as the reward `judge:FILE.yaml`.

model: api:gpt-4o-mini
rubric: |
  5: every figure of the answer stands in the source. 1: none does.
shows: [source]
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ...config.fields import from_plain
from ...config.yaml_file import read_yaml
from ...errors import InputError
from ...samplers.api.opening import APIOptions, open_api
from ...samplers.prices import Price
from .judge import Judge


@dataclass(frozen=True)
class JudgeFile(APIOptions):
    """Keys of the file; those of `APIOptions` say how the API is called."""

    model: str = ""
    """`api:NAME`, at OPENAI_BASE_URL."""
    rubric: str = ""
    """What makes a completion good, and what each end of the scale means."""
    low: int = 1
    high: int = 5
    shows: tuple[str, ...] = ()
    """Columns of the row that the judge sees in addition to prompt and completion."""
    shows_thinking: bool = False
    """Whether it sees what a completion says before its answer."""
    allow_same_family: bool = False
    """A judge prefers the writing of its own family; say true to allow it anyway."""
    max_new_tokens: int = 512
    """Room for its reasons before its verdict."""
    price: str = ""
    """PROMPT,ANSWER per million tokens, for a budget of money."""


def judge(file: str) -> Judge:
    """The judge that a file describes. InputError: an unknown key, or what the API or the judge refuses."""
    given = from_plain(JudgeFile, read_yaml(Path(file)), file)
    if not given.model:
        raise InputError(f"{file}: give model: api:NAME, the judge")
    if given.price:
        Price.of(given.price)
    ledger = given.ledger({given.model: given.price} if given.price else {})
    own = {field.name for field in fields(Judge)} & {field.name for field in fields(given)} - {"model"}
    sampler = open_api(given.model, given, ledger)
    return Judge(sampler, model=sampler.model, **{name: getattr(given, name) for name in own})

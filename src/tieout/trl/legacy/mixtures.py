"""Datasets of several sources, as the YAML files of TRL's scripts name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InputError


@dataclass
class DatasetConfig:
    """One source: the arguments of `datasets.load_dataset`."""

    path: str
    name: str | None = None
    data_dir: str | None = None
    data_files: str | list[str] | dict[str, str] | None = None
    split: str = "train"
    columns: list[str] | None = None
    """The ones to keep; None: all."""
    fraction: float | None = None
    """Share of the mixture, by the first rows; for all sources, or for none, which keeps all rows."""


@dataclass
class DatasetMixtureConfig:
    """Several sources, one after the other."""

    datasets: list[DatasetConfig] = field(default_factory=list)
    streaming: bool = False
    test_split_size: float | None = None
    """Rows, or below 1 a share of them, that become the split `test`."""

    def __post_init__(self) -> None:
        self.datasets = [DatasetConfig(**d) if isinstance(d, dict) else d for d in self.datasets]


def get_dataset(mixture_config: DatasetMixtureConfig) -> Any:
    """The splits `train`, and `test` where its size is given. ValueError: no source, or fractions of some only."""
    import datasets

    if not mixture_config.datasets:
        raise InputError("the mixture names no datasets")
    parts = [_loaded(source, mixture_config.streaming) for source in mixture_config.datasets]
    fractions = [source.fraction for source in mixture_config.datasets]
    if any(fraction is not None for fraction in fractions):
        if mixture_config.streaming:
            raise InputError("fraction: of a stream nobody knows the length")
        parts = _shares(parts, fractions)
    whole = datasets.concatenate_datasets(parts)
    if mixture_config.test_split_size is None:
        return datasets.DatasetDict({"train": whole})
    return whole.train_test_split(test_size=mixture_config.test_split_size)


def _loaded(source: DatasetConfig, streaming: bool) -> Any:
    import datasets

    rows = datasets.load_dataset(
        source.path, source.name, data_dir=source.data_dir, data_files=source.data_files, split=source.split,
        streaming=streaming,
    )  # fmt: skip
    return rows if source.columns is None else rows.select_columns(source.columns)


def _shares(parts: Sequence[Any], fractions: Sequence[float | None]) -> list[Any]:
    """The first rows of each, as many as the shares and the shortest part allow."""
    if None in fractions:
        raise InputError("fraction: give it for all datasets, or for none")
    shares = [float(f or 0.0) for f in fractions]
    whole = min(len(part) * sum(shares) / share for part, share in zip(parts, shares, strict=True) if share)
    return [
        part.select(range(round(whole * share / sum(shares))))
        for part, share in zip(parts, shares, strict=True)
    ]

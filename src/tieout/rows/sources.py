"""Sources of rows that are no single file: mixtures of several, and data sets of the Hugging Face hub."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from ..config.weights import weighted, weights_of
from ..types import Row
from .locations import Rows, RowsError
from .messages import without_gaps
from .spread import spread

HUB = "hub:"
"""What the name of a data set of the hub begins with: `hub:OWNER/NAME/CONFIG:SPLIT`, the last two if there are any."""


def is_source(text: str) -> bool:
    """Whether a text names a file, a mixture of files, or a data set of the hub."""
    return Path(text).is_file() or text.startswith(HUB) or weights_of(text, "data") is not None


def one_source(given: Any, where: str) -> Any:
    """The text of a list of files, `[{path: a.jsonl, weight: 2}, b.jsonl]`; another value as it is.

    >>> one_source([{"path": "a.jsonl", "weight": 2}, "b.jsonl"], "data")
    'a.jsonl=2.0 b.jsonl=1.0'
    """
    if not isinstance(given, list | tuple):
        return given
    found = dict[str, Any]()
    for item in given:
        part = {"path": item} if isinstance(item, str) else item
        if (
            not isinstance(part, dict)
            or not isinstance(part.get("path"), str)
            or set(part) - {"path", "weight"}
        ):
            raise RowsError(f"{where} has {item!r}; expected a file, or {{path: FILE, weight: 1.0}}")
        if part["path"] in found:
            raise RowsError(f"{where} has {part['path']} twice: one weight counts")
        found[part["path"]] = part.get("weight", 1.0)
    return weighted(found, where)


def sources_of(data: Any, where: str) -> Any:
    """`data` of a recipe with the text of every list of files; a list alone is what is trained on."""
    if isinstance(data, list | tuple):
        return {"train": one_source(data, f"{where}: data")}
    if not isinstance(data, dict):
        return data
    return {key: one_source(value, f"{where}: data.{key}") for key, value in data.items()}


def absolute(text: str) -> str:
    """The same source by whole paths, to be found from another folder."""
    if text.startswith(HUB):
        return text
    parts = None if Path(text).exists() else weights_of(text, "data")
    return (
        str(Path(text).resolve())
        if parts is None
        else weighted({absolute(p): w for p, w in parts.items()}, "data")
    )


def mixed(parts: dict[str, float], read: Callable[[str], Rows]) -> Rows:
    """Rows of several sources: each row as often as the weight says; of a fraction, rows spread over the source.

    A weight of 2 gives every row twice in an epoch, 0.5 half of the rows once, 1.5 all rows once and half of them
    twice.
    """
    found, places = list[Row](), list[str]()
    for name, weight in parts.items():
        if not weight > 0:
            raise RowsError(
                f"{name}: weight {weight:g}; expected more than 0: how often each of its rows is learned"
            )
        rows = read(name)
        part = round(weight % 1 * len(rows))
        picked = [*range(len(rows))] * int(weight) + (spread(range(len(rows)), part) if part else [])
        if not picked:
            raise RowsError(f"{name}: weight {weight:g} of {len(rows)} rows is not one row")
        found += [rows[i] for i in picked]
        places += [rows.location(i) for i in picked]
    return Rows(found, source=" ".join(parts), lines=places)


def read_hub(name: str) -> Rows:
    """The rows of a data set of the hub. RowsError, within seconds: it is not here and the hub cannot be reached."""
    place, _, split = name.removeprefix(HUB).partition(":")
    owner, _, rest = place.partition("/")
    dataset, _, config = rest.partition("/")
    if not owner or not dataset:
        raise RowsError(
            f"{name}: expected hub:OWNER/NAME, hub:OWNER/NAME:SPLIT or hub:OWNER/NAME/CONFIG:SPLIT"
        )
    reached = _reachable(urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co"))
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    kept = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets") / f"{owner}___{dataset}".lower()
    if not reached and not kept.exists() and not (kept.parent / f"{owner}___{dataset}").exists():
        raise RowsError(
            f"{name}: the hub cannot be reached from here, and its cache does not hold this data set; save it where "
            f'there is a network, load_dataset("{owner}/{dataset}", split=...).to_parquet("rows.parquet"), give that'
        )
    if not reached:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # read when it is imported
    from datasets import load_dataset

    try:
        rows = load_dataset(f"{owner}/{dataset}", config or None, split=split or "train").to_list()
    except Exception as error:  # whatever the library says of names, configurations, splits and the network
        raise RowsError(
            f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    return Rows(map(without_gaps, rows), source=name)


def _reachable(url: Any) -> bool:
    """Whether a server answers within a second and a half, its name looked up."""
    if os.environ.get("HF_HUB_OFFLINE") == "1" or os.environ.get("HF_DATASETS_OFFLINE") == "1":
        return False
    found = list[bool]()

    def connect() -> None:
        try:
            port = url.port or (443 if url.scheme == "https" else 80)
            socket.create_connection((url.hostname, port), timeout=1.0).close()
            found.append(True)
        except OSError:
            pass

    looking = Thread(target=connect, daemon=True)
    looking.start()
    looking.join(1.5)
    return bool(found)

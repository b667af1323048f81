"""tieout label FILE|RUN [--annotator NAME] [--port N]"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..errors import InputError
from ..labelling.assignment import Design
from .options import check_port, parse

RUN_LABELS = "labels"
SHEET = "sheet"


@dataclass(frozen=True)
class Options:
    """Label on a local page: pairs, rankings, grades by criteria, or spans.

    Rows: prompt, chosen, rejected (or completions, of two) for pairs; prompt, completions for rankings; prompt,
    completion for grades and spans. Of a run: the pairs of its human track. Judgements are kept in a folder next to the
    file (FILE.labels), or in the run (RUN/labels); starting again continues.
    """

    data: Annotated[Path, tyro.conf.Positional]
    """A file of rows, or a run folder."""
    annotator: str = ""
    """Who judges; without it the page asks."""
    port: int | None = None
    """Port on 127.0.0.1. Default: 8765, or a free one if that is taken."""
    kind: Literal["pairs", "rankings", "grades", "spans"] | None = None
    """What is asked of each row. Default: by its columns."""
    scheme: Path | None = None
    """YAML: `criteria` with their levels (grades), or `labels` (spans)."""
    guidelines: Path | None = None
    """Text that the page shows on a key; each version is kept. Default: the rubric of the run, or of the kind."""
    folder: Path | None = None
    """Where judgements are kept."""
    judge: str = ""
    """A reward or judge whose scores are shown after the answer. Default: scores that the rows carry."""
    design: Annotated[Design, tyro.conf.OmitArgPrefixes] = field(default_factory=Design)
    """How items are shared out."""
    export: str = ""
    """Instead of a page: write the labels as pairs, kto, rankings, calibration, human (of a run) or all; or `sheet`:
    the pairs of a run to grade in a spreadsheet, for `tieout gate --human`."""
    out: Path | None = None
    """File of --export: JSON Lines, or a table, FILE.csv."""
    load: Path | None = None
    """First take in the judgements of an export."""


def main(arguments: Sequence[str]) -> None:
    """Parse, open the project; serve it, or export it."""
    options = parse(Options, "label", arguments)
    check_port(options.port)
    if not options.export:
        _require_extra()
    from ..labelling.exports import FORMATS, export, imported
    from ..labelling.items import read_items
    from ..labelling.scheme import make_scheme
    from ..labelling.store import Store
    from ..storage.runfolder import RunFolder

    if options.export and options.export not in (known := (*FORMATS, SHEET)):
        raise InputError(f"--export is {options.export!r}; there are {', '.join(known)}")
    if options.export == SHEET:
        _write(options, _sheet(options.data))
        return
    kind, items = read_items(options.data, options.kind)
    folder, key = _places(options)
    scheme = make_scheme(kind, options.scheme, _guidelines(options, key))
    with RunFolder(folder), _on_record(options.data):
        store = Store(folder, scheme, items, options.design)
        if options.load:
            print(f"{store.add_imported(imported(options.load))} judgements taken in from {options.load}")

        def rows(format: str) -> list[dict[str, Any]]:
            return export(store, scheme, format, key)

        if options.export:
            found = rows(options.export)
            _write(options, found)
            judged = {entry["item"] for entry in store.judgements(skips=True)} & store.items.keys()
            if left := len(judged - {row["item"] for row in found}):
                print(
                    f"{left} of {len(judged)} judged items give none: skipped, tied, or decided by no majority"
                )
        else:
            _serve(options, store, rows, key)


@contextmanager
def _on_record(data: Path) -> Iterator[None]:
    """Add the labels of a run to its record when the command ends, by Ctrl+C too."""
    from ..storage import manifest
    from ..storage.runfolder import RunFolder

    try:
        yield
    finally:
        if (data / manifest.FILE).exists():
            with RunFolder(data):
                manifest.append(data, "tieout label")


def _places(options: Options) -> tuple[Path, Path | None]:
    """The folder of the judgements, and the key of a run's sheet."""
    if options.data.is_dir() and (options.data / "evidence").is_dir():
        return options.folder or options.data / RUN_LABELS, options.data / "evidence" / "human" / "key.json"
    return options.folder or options.data.with_name(f"{options.data.name}.labels"), None


def _guidelines(options: Options, key: Path | None) -> str:
    from ..storage.jsonl import read_json

    if options.guidelines:
        return options.guidelines.read_text(encoding="utf-8")
    rubric: str = read_json(key).get("rubric", "") if key else ""
    return rubric.replace('write "tie"', "answer tie")


def _sheet(run: Path) -> list[dict[str, Any]]:
    """The pairs of a run that people have to look at."""
    from ..evidence.human_table import table_of
    from ..labelling.items import sheet_of

    return [*table_of(sheet_of(run / "evidence" / "human"))]


def _alike(key: Path | None) -> int:
    """How many pairs of a run's sheet nobody is asked about."""
    from ..evidence.human import settled
    from ..storage.jsonl import read_jsonl

    return sum(settled(row) for _, row in read_jsonl(key.with_name("sheet.jsonl"))) if key else 0


def _write(options: Options, rows: list[dict[str, Any]]) -> None:
    from ..evidence.human_table import TABLES, write_table
    from ..storage.jsonl import write_jsonl

    if options.out is None:
        raise InputError("--export needs --out FILE")
    if options.out.suffix.lower() in TABLES:
        write_table(options.out, rows)
    else:
        write_jsonl(options.out, rows)
    print(f"{len(rows)} rows: {options.out}")


def _require_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "krippendorff") if find_spec(name) is None]
    if missing:
        raise InputError(f"the page needs {', '.join(missing)}: pip install 'tieout[label]'")


def _serve(
    options: Options, store: Any, rows: Callable[[str], list[dict[str, Any]]], key: Path | None
) -> None:
    from urllib.parse import urlencode

    from ..labelling.prelabels import Prelabels
    from ..labelling.server import Page, application, bind, server
    from ..rewards import load_reward

    reward = load_reward(options.judge) if options.judge else None
    prelabels = Prelabels(reward, store.folder / "judge.jsonl")
    gate = (lambda: _gated(options.data, store.folder)) if key else None
    on = bind(options.port)
    port = on.getsockname()[1]
    query = urlencode(
        {"token": store.token, **({"annotator": options.annotator} if options.annotator else {})}
    )
    alike = f"; {count} more pairs have the same output and are ties" if (count := _alike(key)) else ""
    print(f"{len(store.asked)} items{alike}; judgements are kept in {store.folder}")
    print(f"open http://127.0.0.1:{port}/?{query}\nCtrl+C ends it; what is saved stays", flush=True)
    server(application(Page(store, options.annotator, gate, prelabels, rows), store.token, port)).run(
        sockets=[on]
    )


def _gated(run: Path, labels: Path) -> Mapping[str, Any]:
    """Judge the run by these labels; returns the verdict with its reasons."""
    from .gate import gate_run

    verdict: Mapping[str, Any] = gate_run(run, labels)["verdict"]
    return {"verdict": verdict["verdict"], "reasons": verdict["reasons"]}

"""Plant faults one by one, and count what becomes of them: fault -> survived, refused, lost or silent.

python benchmarks/faults.py                  # -> benchmarks/results/faults.md, about a minute on one core
python benchmarks/faults.py --only adapter

Survived: the result is that of a run without the fault. Refused: an error in words, before anything is computed from
it. Lost: what was finished before is gone. Silent: a number came out as if nothing were wrong. Crashed: a traceback.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from planted import Fault, loading, resuming, serving
from planted_disagreement import disagreement
from planted_files import files
from planted_machine import machine
from planted_malice import malice
from planted_ranks import ranks
from planted_servers import servers

from tieout.errors import TieoutError
from tieout.samplers.vllm.server import Garbled

RESULTS = Path(__file__).parent / "results" / "faults.md"


@dataclasses.dataclass(frozen=True)
class Found:
    fault: Fault
    outcome: str
    said: str = ""


def find(fault: Fault) -> Found:
    """Plant a fault in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Found(fault, fault.plant(Path(folder)))
        except (TieoutError, Garbled, OSError) as error:
            said = re.sub(r"(127\.0\.0\.1):\d+", r"\1:PORT", str(error))
            return Found(fault, "refused", said.replace(folder, "."))
        except Exception as error:
            return Found(fault, "crashed", f"{type(error).__name__}: {error}"[:300])


def all_faults() -> list[Fault]:
    found = [*loading(), *resuming(), *serving(), *servers(), *files(), *disagreement()]
    return [*found, *ranks(), *machine(), *malice()]


def table(found: Sequence[Found]) -> str:
    """Markdown: the counts, and a line per fault."""
    counts = Counter(one.outcome for one in found)
    kinds = ("survived", "refused", "lost", "silent", "crashed")
    total = "| " + " | ".join(str(counts[kind]) for kind in kinds) + " |"
    lines = [
        "# Planted faults",
        "",
        "`python benchmarks/faults.py`. Survived: the result is that of a run without the fault. Refused: an error in "
        "words, before anything is computed from it. Lost: what was finished is gone. Silent: a number came out.",
        "",
        "| " + " | ".join(kinds) + " |",
        "|" + "---|" * len(kinds),
        total,
        "",
        "| area | fault | outcome | said |",
        "|---|---|---|---|",
    ]
    for one in found:
        said = " ".join(re.sub(r'"[0-9a-f]{64}"', "...", one.said).split()).replace("|", r"\|")[:160]
        lines.append(f"| {one.fault.area} | {one.fault.name} | {one.outcome} | {said} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", default="", help="faults whose area or name holds this text; written nowhere"
    )
    only = parser.parse_args().only
    faults = [fault for fault in all_faults() if only in f"{fault.area} {fault.name}"]
    found = [find(fault) for fault in faults]
    text = table(found)
    print(text)
    if not only:
        RESULTS.write_text(text, encoding="utf-8")
    if any(one.outcome not in ("survived", "refused") for one in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""What came of a search: the prompt, and once it is chosen, its gain over the first one on rows that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..evidence.evaluate import PROGRAMMATIC, Case, write_cases
from ..evidence.figures import model_figures, pair_figures
from ..samplers.prompted import PromptPrefix, write_prompt
from ..storage.atomic import write_json
from ..storage.jsonl import read_json, write_jsonl
from .scoring import Scorer
from .splits import Splits
from .tried import Tried, best_of, lines_of

PROMPT, CANDIDATES, TEST, RESULT = "prompt.json", "candidates.jsonl", "test.jsonl", "result.json"
"""Files of the folder of a search."""
SEED, FOUND = "seed", "found"
"""The two prompts in figures and cases."""


@dataclass(frozen=True)
class Outcome:
    """The prompt that a search found."""

    folder: Path
    prefix: PromptPrefix
    candidates: list[dict[str, Any]]
    """As `candidates.jsonl` has them."""
    completions: int
    """Of the policy that the search used."""
    proposals: int
    refused: int
    """Proposals that were no new prompt: empty, cut off, the same, or too long."""
    flat: float | None
    """The score that every completion of the search has, which tells a search nothing; None: they differ."""
    figures: Mapping[str, Any]
    """`seed` and `found` -> figures on the test rows; empty: none was asked, as the first prompt is the best, or others
    measure."""
    difference: Mapping[str, Any]
    """Found minus seed on the test rows, paired: `difference`, `low`, `high`, `n`; empty as well."""

    @property
    def path(self) -> Path:
        """The prompt file, for `tieout eval` and `sample --prompt-file` and the evaluate stage of a recipe."""
        return self.folder / PROMPT

    def words(self) -> list[str]:
        """What the search took, and what it could not tell, a line each."""
        more = f", {self.proposals} proposals, {self.refused} of them no new prompt" if self.proposals else ""
        lines = [
            f"{len(self.candidates)} candidates on the validation rows, {self.completions} completions{more}"
        ]
        if self.flat is not None:
            lines.append(
                f"every completion scored {self.flat:g}: the reward tells a search nothing here; give one that pays "
                "for steps on the way, such as a form, a right part"
            )
        return lines


def stored_outcome(folder: Path, prefix: PromptPrefix, found: Mapping[str, Any]) -> Outcome:
    """The outcome that a folder holds. `found`: its result."""
    candidates = [dict(one) for one in found["candidates"]]
    counts = {name: int(found[name]) for name in ("completions", "proposals", "refused")}
    return Outcome(
        folder,
        prefix,
        candidates,
        flat=found["flat"],
        figures=found["figures"],
        difference=found["difference"],
        **counts,
    )


def finish(
    folder: Path,
    tried: Sequence[Tried],
    scorer: Scorer,
    splits: Splits,
    counts: tuple[int, int],
    seed: int,
) -> Outcome:
    """Choose, write the prompt, and only then ask the test rows: with the first prompt and with the one found.

    Args:
        folder: of the search.
        tried: the first prompt, and the others.
        scorer: asks the test rows.
        splits: rows that chose nothing, and those that did.
        counts: proposals, and those refused.
        seed: of the intervals.
    """
    first, chosen = tried[0].candidate, best_of(tried).candidate
    prefix = replace(chosen.prefix, searched=sorted({*splits.searched, *first.searched}))
    lines = lines_of(tried)
    write_jsonl(folder / CANDIDATES, lines)
    write_prompt(folder / PROMPT, prefix)
    figures: dict[str, Any] = {}
    difference: dict[str, Any] = {}
    if chosen.key != first.key and splits.test:
        ids = [f"test/{i}" for i in range(len(splits.test))]
        cases: dict[str, list[Case]] = {
            name: scorer.cases(candidate, splits.test, ids, "test")
            for name, candidate in ((SEED, first), (FOUND, chosen))
        }
        write_cases(folder / TEST, cases)
        figures = {name: model_figures(cases, [], name, PROGRAMMATIC, seed) for name in cases}
        difference = pair_figures(cases, [], FOUND, SEED, PROGRAMMATIC, seed)
    scores = {scorer.journal.score(*one) for one in scorer.used}
    brief = [{name: line[name] for name in ("candidate", "parent", "how", "mean", "front")} for line in lines]
    found = {
        "chosen": chosen.key,
        "completions": len(scorer.used),
        "proposals": counts[0],
        "refused": counts[1],
        "flat": scores.pop() if len(scores) == 1 else None,
        "figures": figures,
        "difference": difference,
        "candidates": brief,
        "leakage": splits.leakage,
    }
    write_json(folder / RESULT, found)
    return stored_outcome(folder, prefix, found)


def kept_first(found: Mapping[str, Any]) -> bool:
    """Whether no candidate is better than the prompt that the search began with. `found`: the result."""
    return bool(found["chosen"] == found["candidates"][0]["candidate"])


def result_of(folder: Path) -> dict[str, Any] | None:
    """What a finished search left; None: it is not finished."""
    path = folder / RESULT
    return dict(read_json(path)) if path.exists() else None

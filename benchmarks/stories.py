"""The stories of docs/stories: what each stage gains on held-out rows, with paired intervals, by several seeds.

python benchmarks/stories.py                          # three seeds of every story
python benchmarks/stories.py --pipelines wordle --seeds 0
python benchmarks/stories.py --data FOLDER            # with the files of DATA; stories that lack theirs are left out

Report and cases of every run are kept in benchmarks/results/stories/, where `tieout verify` recomputes them. A run
that a guard stopped is listed with its stage and the reason.
"""

from __future__ import annotations

from pathlib import Path

from demo_seeds import study

RECIPES = Path(__file__).parent.parent / "recipes"
DATA = {"real_rag": "tatqa/tatqa_dataset_dev.json", "real_filings": "sec/statements"}
"""Story -> what its task reads, in the folder of --data."""
STORIES = {
    name: ["run", str(RECIPES / f"{name}.yaml")]
    for name in ("wordle", "rag", "style", "summaries", "code", "filings", "derive", "real_derive", *DATA)
}
"""Story -> arguments of `tieout`."""

if __name__ == "__main__":
    study("The stories, several seeds", "stories", STORIES, list(STORIES), __doc__, columns=(), data=DATA)

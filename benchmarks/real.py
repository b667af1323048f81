"""SmolLM2-135M-Instruct, improved on a processor: what each stage gains, with paired intervals, by several seeds.

python benchmarks/real.py                # three seeds of SFT -> DPO and of SFT -> GRPO: most of a day on one core
python benchmarks/real.py --seeds 0 --pipelines real_align

A run that is in the folder is continued, or only read. Report and cases of every run are kept in
benchmarks/results/real/, where `tieout verify` recomputes them.
"""

from __future__ import annotations

from pathlib import Path

from demo_seeds import study

RECIPES = Path(__file__).parent.parent / "recipes"
PIPELINES = {name: ["run", str(RECIPES / f"{name}.yaml")] for name in ("real_align", "real_reason")}

if __name__ == "__main__":
    study("A pretrained model, several seeds", "real", PIPELINES, list(PIPELINES), __doc__)

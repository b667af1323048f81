"""The demos with several seeds: what each stage gains in the primary metric and the reward, with paired intervals.

python benchmarks/demo_seeds.py                # three seeds of align and of reason
python benchmarks/demo_seeds.py --seeds 0 --pipelines align

Report and cases of every run are kept in benchmarks/results/demo_seeds/, where `tieout verify` recomputes them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tieout.storage.jsonl import stored

RESULTS = Path(__file__).parent / "results"
DEMOS = {name: ["demo", name] for name in ("align", "reason", "rlhf", "feedback")}
"""Pipeline -> arguments of `tieout`."""
STOPS = ("InputError", "StopTraining", "TooManyErrors")
"""Errors that stop a run by intention."""
COLUMNS = ("test: exact", "test: reward", "ood: exact", "negative controls")
"""What the tables of the finance demos show."""


def run(
    pipeline: str, arguments: list[str], seed: int, folder: Path, kept: Path, beside: str
) -> dict[str, Any]:
    """One pipeline in a process of its own. CalledProcessError: it failed, and no guard stopped it."""
    out = folder / f"{pipeline}-{seed}"
    whole = not out.exists()  # of a run that continues another, time and memory say nothing
    started = time.perf_counter()
    command = [sys.executable, "-m", "tieout", *arguments, "--out", str(out), "--seed", str(seed)]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    stopped = stop_of(out) if os.waitstatus_to_exitcode(status) in (1, 3) else None
    if status and stopped is None:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    seconds = time.perf_counter() - started
    about = {
        "pipeline": pipeline,
        "seed": seed,
        "seconds": round(seconds, 1) if whole else None,
        "peak_gigabytes": round(usage.ru_maxrss / 2**20, 2) if whole else None,
        "beside": beside,
        "precision": json.loads((out / "run.json").read_text())["precision"],
    }
    if stopped is not None:
        return {**about, **stopped}
    report = json.loads((out / "evidence" / "report.json").read_text())
    keep(out / "evidence", kept / out.name)
    primary = report["settings"]["primary"]
    return {
        **about,
        "environment": report["metadata"]["environment"],
        "verdict": report["verdict"]["verdict"],
        "models": {name: figures(tracks, "mean", primary) for name, tracks in report["models"].items()},
        "comparisons": {
            f"{c['candidate']} - {c['baseline']}": figures(c["tracks"], "difference", primary)
            for c in report["comparisons"]
        },
    }


def stop_of(out: Path) -> dict[str, Any] | None:
    """The stage at which the last attempt was stopped and the reason, by the run's record, with the stages before it
    and the environment. None: nothing that tieout raises by intention stopped it.
    """
    record = out / "manifest.jsonl"
    lines = record.read_text().splitlines() if record.exists() else []
    steps = [json.loads(line)["predicate"] for line in lines]
    begun = max((i for i, step in enumerate(steps) if step["step"] == "start"), default=0)
    failed = next((step for step in steps[begun:] if "failed" in step), None)
    kind, _, reason = failed["failed"].partition(": ") if failed else ("", "", "")
    if failed is None or kind not in STOPS:
        return None
    done = dict.fromkeys(s["step"] for s in steps if "failed" not in s and (out / s["step"]).is_dir())
    return {
        "environment": steps[begun]["environment"],
        "stopped": {"stage": failed["step"], "reason": reason.replace(f"{out}/", ""), "done": list(done)},
    }


def keep(evidence: Path, folder: Path) -> None:
    """Copy the report and what it was made from; cases are compressed without a date: equal runs, equal files."""
    report = json.loads((evidence / "report.json").read_text())
    for name in ("report.json", *report["files"]):
        source = stored(evidence / name)
        target = folder / source.relative_to(evidence)
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(("cases.", "rows.")) and source.suffix != ".gz":
            target.with_name(f"{name}.gz").write_bytes(gzip.compress(source.read_bytes(), mtime=0))
        else:
            shutil.copyfile(source, target)


def figures(tracks: dict[str, Any], key: str, primary: str | None) -> dict[str, list[float]]:
    """What is measured -> [mean or difference, low, high, n]: of `test` the primary metric, the reward and the other
    metrics; of `ood` the primary metric; the negative controls. What nobody asked is left out.
    """
    slices = tracks["programmatic"]["slices"]
    found = slices["test"]["metrics"]
    others = {f"test: {name}": found[name] for name in found if name != primary}
    named = {"test: reward": slices["test"], **others, "negative controls": tracks["negative_controls"]}
    if primary is not None:
        named = {f"test: {primary}": found[primary], **named}
    if "ood" in slices:
        name, figure = (primary, slices["ood"]["metrics"][primary]) if primary else ("reward", slices["ood"])
        named[f"ood: {name}"] = figure
    return {name: [f[key], f["low"], f["high"], f["n"]] for name, f in named.items() if f["n"]}


def table(title: str, script: str, runs: list[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> str:
    """Markdown. `columns`: what of a run's figures is shown, in this order; empty: all that its first run has."""
    precisions = ", ".join(sorted({r.get("precision", "fp32").partition(" ")[0] for r in runs}))
    lines = [
        f"# {title}",
        "",
        f"`python benchmarks/{script}.py`, {precisions}, {machines(runs)}.",
        "Means on held-out cases, and paired differences, with 95% intervals."
        + " `exact` is the share of answers in which every figure is right and cited."
        * (COLUMNS[0] in columns),
        f"`tieout verify benchmarks/results/{script}/NAME` recomputes a row.",
        "",
    ]
    for pipeline in dict.fromkeys(r["pipeline"] for r in runs):
        stopped = [r for r in runs if r["pipeline"] == pipeline and "stopped" in r]
        own = [r for r in runs if r["pipeline"] == pipeline and "stopped" not in r]
        lines += [f"## {pipeline}", "", *map(said_of_stop, stopped), *[""] * bool(stopped)]
        if not own:
            continue
        n = {name: values[3] for name, values in own[0]["models"]["base"].items()}
        shown = columns or list(n)
        lines += [
            f"| seed | seconds | beside it ran | peak GB | what | {' | '.join(shown)} |",
            "|---" * (5 + len(shown)) + "|",
        ]
        for r in own:
            for name, tracks in r["models"].items():
                cells = " | ".join(cell(tracks.get(c), "{:.3f} [{:.3f}, {:.3f}]") for c in shown)
                cost = f"{r['seconds'] or '-'} | {r['beside']} | {r['peak_gigabytes'] or '-'}"
                lines.append(f"| {r['seed']} | {cost} | {name} | {cells} |")
            for name, tracks in r["comparisons"].items():
                cells = " | ".join(cell(tracks.get(c), "{:+.3f} [{:+.3f}, {:+.3f}]") for c in shown)
                lines.append(f"| {r['seed']} | | | | {name} | {cells} |")
        lines += ["", f"Cases: {n}. Verdict of every run: {', '.join(r['verdict'] for r in own)}.", ""]
    return "\n".join(lines)


def said_of_stop(run: dict[str, Any]) -> str:
    """One line of the list of runs that were stopped: the reason without the advice that follows it."""
    stop = run["stopped"]
    done = f" Done before it: {', '.join(stop['done'])}." if stop["done"] else ""
    return (
        f"- Seed {run['seed']}: stopped by the guard: {stop['stage']}, {stop['reason'].split('. ')[0]}.{done}"
    )


def cell(figure: list[float] | None, form: str) -> str:
    """A mean or difference with its interval; a dash where it was not measured."""
    return form.format(*figure[:3]) if figure else "-"


def machines(runs: list[dict[str, Any]]) -> str:
    """Every kind of machine that the runs were made on."""
    made = [r["environment"] for r in runs]
    counts = [int(e["threads"] or e["cpus"]) for e in made]
    kinds = {
        f"{e['processor']}, {n} thread{'s' * (n != 1)}, torch {e['versions']['torch']}"
        for e, n in zip(made, counts, strict=True)
    }
    return "; ".join(sorted(kinds))


def study(
    title: str,
    script: str,
    commands: dict[str, list[str]],
    default: list[str],
    about: str | None,
    columns: Sequence[str] = COLUMNS,
    data: Mapping[str, str] = {},
) -> None:
    """Run pipelines with several seeds, and write the table after each; what is in it already is replaced.

    `data`: pipeline -> what its task reads, in the folder of --data; left out with a reason where that is not there.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pipelines", nargs="+", default=default, choices=list(commands))
    parser.add_argument("--folder", type=Path, default=Path("runs") / script)
    parser.add_argument("--beside", default="nothing", help="what else runs on the machine")
    if data:
        shared = Path(os.environ.get("TIEOUT_SHARED_DATA", "data"))
        parser.add_argument(
            "--data", type=Path, default=shared, help=f"folder that has {', '.join(data.values())}"
        )
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    results = RESULTS / f"{script}.json"
    runs: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else []
    for pipeline in arguments.pipelines:
        command = commands[pipeline]
        if pipeline in data:
            path = arguments.data / data[pipeline]
            if not path.exists():
                print(
                    f"{pipeline} is left out: there is no {path}; give the folder that has it as --data",
                    flush=True,
                )
                continue
            command = [*command, "--set", f"task_options.path={path}"]
        for seed in arguments.seeds:
            where = arguments.folder, RESULTS / script, arguments.beside
            done = run(pipeline, command, seed, *where)
            runs = [r for r in runs if (r["pipeline"], r["seed"]) != (pipeline, seed)] + [done]
            runs.sort(key=lambda r: (r["pipeline"], r["seed"]))
            results.write_text(json.dumps(runs, indent=1) + "\n")
            results.with_suffix(".md").write_text(table(title, script, runs, columns))


if __name__ == "__main__":
    study("The demos, several seeds", "demo_seeds", DEMOS, ["align", "reason"], __doc__)

"""Killed at any moment and started again, a run ends with the bytes of the unbroken one. Processes are real."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

KILLS = int(os.environ.get("TIEOUT_KILLS", "3"))
"""How often each run is killed; set it higher for a longer search."""

pytestmark = pytest.mark.timeout(900)

REWARD = '''
def vowels(completions, prompts, **_):
    """Share of vowels, so that a random model's completions differ."""
    return [sum(ch in "aeiou" for ch in c) / max(1, len(c)) + 0.001 * (len(c) % 7) for c in completions]
'''


@dataclass
class Server:
    """Starts command lines in processes of their own, quickly."""

    process: subprocess.Popen[str]

    def run(self, argv: list[Any], log: Path, **fate: Any) -> dict[str, int]:
        """`status` (negative: killed by that signal) and `events`."""
        job = {"argv": [str(a) for a in argv], "log": str(log), **fate}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer: dict[str, int] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    program = Path(__file__).parents[1] / "fork_server.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def command(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]
) -> Callable[..., list[Any]]:
    """`command("dpo", out)`: what to type for six steps over eleven rows, saving each step."""
    folder = tmp_path_factory.mktemp("rows")
    rows = [
        {
            "prompt": f"Add {i} and {i}.",
            "completion": f"{2 * i}",
            "chosen": f"It is {2 * i}.",
            "rejected": f"{i}?",
        }
        for i in range(11)
    ]
    columns = {"sft": ["completion"], "dpo": ["chosen", "rejected"], "grpo": []}
    for method, names in columns.items():
        lines = [json.dumps({n: row[n] for n in ["prompt", *names]}) + "\n" for row in rows]
        (folder / f"{method}.jsonl").write_text("".join(lines))
    (folder / "my_reward.py").write_text(REWARD)

    def make(method: str, out: Path, *more: Any) -> list[Any]:
        argv = ["train", method, "--model", tiny_model("llama"), "--data", folder / f"{method}.jsonl"]
        argv += ["--out", out, "--save-steps", 1, "--batch-size", 4, "--epochs", 2, "--learning-rate", 0.01]
        argv += ["--adapter.rank", 4]
        if method == "grpo":
            argv += [
                "--reward",
                f"{folder / 'my_reward.py'}:vowels",
                "--group-size",
                4,
                "--max-new-tokens",
                6,
            ]
            argv += ["--beta", 0.04]
        return [*argv, *more]

    return make


def ending(out: Path, stage: str) -> dict[str, Any]:
    """What a stage ended with: the adapter's bytes, and its logs without times."""
    folder = out / stage
    result: dict[str, Any] = {
        path.name: path.read_bytes() for path in sorted((folder / "adapter").glob("*.safetensors"))
    }
    for name in ("metrics.jsonl", "groups.jsonl"):
        if (folder / name).exists():
            rows = [json.loads(line) for line in (folder / name).read_text().split("\n")[:-1]]
            result[name] = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows]
    return result


@pytest.fixture(scope="module")
def unbroken(
    server: Server, command: Callable[..., list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[dict[str, Any], int, float]]:
    """`unbroken("sft")`: what the run ends with if nothing happens, and how many events it has."""
    known: dict[str, tuple[dict[str, Any], int, float]] = {}

    def get(method: str) -> tuple[dict[str, Any], int, float]:
        if method not in known:
            import time

            out = tmp_path_factory.mktemp("unbroken")
            started = time.monotonic()
            answer = server.run(command(method, out / "run"), out / "log")
            assert answer["status"] == 0, (out / "log").read_text()[-3000:]
            known[method] = ending(out / "run", method), answer["events"], time.monotonic() - started
        return known[method]

    return get


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo"])
def test_killed_at_any_moment_a_run_ends_as_if_unbroken(
    server: Server,
    command: Callable[..., list[Any]],
    unbroken: Callable[..., tuple[dict[str, Any], int, float]],
    tmp_path: Path,
    method: str,
) -> None:
    """SIGKILL between any two changes of the file system (most are inside a save), or after any time."""
    whole, events, seconds = unbroken(method)
    assert len(whole["metrics.jsonl"]) == 6
    assert events > 50
    rng, died, log = random.Random(f"{method}/{KILLS}"), 0, tmp_path / "log"
    for number in range(KILLS):
        # Early enough that something is left to do: each process does what is left of the one before.
        fate: dict[str, Any] = {"die_at": rng.randrange(1, events // (2 * KILLS))}
        if number % 3 == 2:
            fate = {"seconds": rng.uniform(0.1, 0.4) * seconds}
        died += server.run(command(method, tmp_path / "run"), log, **fate)["status"] == -signal.SIGKILL
    assert died >= min(KILLS / 2, 3)  # later ones may find nothing left to do
    answer = server.run(command(method, tmp_path / "run"), log)
    assert answer["status"] == 0, log.read_text()[-3000:]
    assert ending(tmp_path / "run", method) == whole
    hidden = [p.name for p in (tmp_path / "run").rglob(".*")]
    assert not [name for name in hidden if name.startswith((".step", ".adapter"))]  # no litter


def test_a_full_disk_is_said_and_nothing_is_lost(
    server: Server,
    command: Callable[..., list[Any]],
    unbroken: Callable[..., tuple[dict[str, Any], int, float]],
    tmp_path: Path,
) -> None:
    """No file may grow beyond a few kilobytes: the log can be written, a checkpoint cannot."""
    log, argv = tmp_path / "log", command("sft", tmp_path / "run")
    answer = server.run(argv, log, file_limit=20_000)
    text = log.read_text()
    assert answer["status"] == 1
    assert "could not be written" in text
    assert "File too large" in text
    assert "Traceback" not in text
    assert list((tmp_path / "run" / "sft" / "checkpoints").iterdir()) == []
    assert server.run(argv, log)["status"] == 0
    assert ending(tmp_path / "run", "sft") == unbroken("sft")[0]


def test_sigterm_inside_a_rollout_or_a_save_ends_the_step_first(
    server: Server,
    command: Callable[..., list[Any]],
    unbroken: Callable[..., tuple[dict[str, Any], int, float]],
    tmp_path: Path,
) -> None:
    whole = unbroken("grpo")[0]
    log, argv = tmp_path / "log", command("grpo", tmp_path / "run")
    steps = []
    for place in (["sample", 1], ["save_file", 1], ["update", 2]):
        answer = server.run(argv, log, signal_in=[*place, signal.SIGTERM])
        assert answer["status"] == 130, log.read_text()[-3000:]
        newest = max((tmp_path / "run" / "grpo" / "checkpoints").glob("step-*"))
        logged = (tmp_path / "run" / "grpo" / "metrics.jsonl").read_text().splitlines()
        assert json.loads(logged[-1])["step"] == int(newest.name[-6:])  # what was logged is saved
        steps.append(len(logged))
    assert steps == [1, 3, 5]  # the save was finished too, and the step that ran while it was asked
    assert "interrupted; what is done is kept" in log.read_text()
    assert server.run(argv, log)["status"] == 0
    assert ending(tmp_path / "run", "grpo") == whole


def test_other_data_or_settings_are_refused_with_the_difference(
    server: Server, command: Callable[..., list[Any]], tmp_path: Path
) -> None:
    log, argv = tmp_path / "log", command("sft", tmp_path / "run")
    assert server.run(argv, log, signal_in=["update", 1, signal.SIGTERM])["status"] == 130
    data = tmp_path / "other.jsonl"
    lines = Path(argv[argv.index("--data") + 1]).read_text().splitlines(keepends=True)
    data.write_text("".join(lines[:-1]))
    for more, said in (
        (["--learning-rate", "0.02"], "method.learning_rate: 0.01 -> 0.02"),
        (["--adapter.rank", "8"], "adapter.rank: 4 -> 8"),
        (["--seed", "3"], "seed: 0 -> 3"),
        (["--data", data], "data.train: "),
    ):
        other = tmp_path / f"log{more[0]}"
        assert server.run([*argv, *more], other)["status"] == 1
        assert said in other.read_text()
        assert "Traceback" not in other.read_text()


# ---------------------------------------------------------------- what may differ when a run is resumed


@pytest.mark.parametrize(
    "change",
    [
        ["--reward-workers", 0],
        ["--reward-seconds", 30],
        ["--save-steps", 4],
        ["--device", "cpu"],
        ["--trackers", "tensorboard"],
        "run folder",
        "model folder",
    ],
    ids=str,
)
def test_resumed_elsewhere_a_run_ends_as_if_unbroken(
    server: Server,
    command: Callable[..., list[Any]],
    unbroken: Callable[..., tuple[dict[str, Any], int, float]],
    tmp_path: Path,
    change: Any,
) -> None:
    log, out = tmp_path / "log", tmp_path / "run"
    argv = command("grpo", out)
    model = tmp_path / "model"
    shutil.copytree(argv[argv.index("--model") + 1], model)
    argv += ["--model", model]
    assert server.run(argv, log, signal_in=["update", 3, signal.SIGTERM])["status"] == 130
    if change == "run folder":
        out = out.rename(tmp_path / "moved")
        argv += ["--out", out]
    elif change == "model folder":
        argv += ["--model", model.rename(tmp_path / "renamed")]
    else:
        if change[0] == "--trackers":
            pytest.importorskip("tensorboard")
        argv += change
    assert server.run(argv, log)["status"] == 0, log.read_text()[-3000:]
    assert "resumed at step 3 of 6" in log.read_text()
    assert ending(out, "grpo") == unbroken("grpo")[0]


def test_cached_reference_log_probabilities_survive_a_move_of_the_model(
    server: Server, command: Callable[..., list[Any]], tmp_path: Path
) -> None:
    log, argv = tmp_path / "log", command("dpo", tmp_path / "run")
    shutil.copytree(argv[argv.index("--model") + 1], tmp_path / "model")
    again = [*argv, "--model", tmp_path / "model"]
    assert server.run(argv, log, signal_in=["update", 3, signal.SIGTERM])["status"] == 130
    assert server.run(again, log)["status"] == 0, log.read_text()[-3000:]
    assert len(list((tmp_path / "run" / "dpo" / "checkpoints" / "reference").iterdir())) == 1


def test_a_finished_run_is_continued_for_more_epochs(
    server: Server, command: Callable[..., list[Any]], tmp_path: Path
) -> None:
    """At a rate that does not depend on the total, the longer run is the unbroken one to the bit."""
    log, flat = tmp_path / "log", ["--schedule.kind", "constant", "--schedule.warmup", 0]
    for epochs in (1, 3):
        argv = command("sft", tmp_path / "run", *flat, "--epochs", epochs)
        assert server.run(argv, log)["status"] == 0, log.read_text()[-3000:]
    assert "resumed at step 3 of 9" in log.read_text()
    whole = command("sft", tmp_path / "whole", *flat, "--epochs", 3)
    assert server.run(whole, log)["status"] == 0
    assert ending(tmp_path / "run", "sft") == ending(tmp_path / "whole", "sft")
    fewer = command("sft", tmp_path / "run", *flat, "--epochs", 2)
    assert server.run(fewer, log)["status"] == 1
    assert "method.epochs: 3.0 -> 2.0" in log.read_text()


def test_killed_between_evaluations_a_run_exports_the_best_of_the_unbroken_one(
    server: Server, command: Callable[..., list[Any]], tmp_path: Path
) -> None:
    argv = command("dpo", tmp_path / "whole", "--eval-steps", 2, "--keep-best", "--metric", "accuracy")
    argv += ["--held-out", argv[argv.index("--data") + 1]]
    log = tmp_path / "log"
    answer = server.run(argv, log)
    assert answer["status"] == 0, log.read_text()[-3000:]
    broken = [*argv, "--out", tmp_path / "broken"]
    rng = random.Random("evaluation")
    for _ in range(KILLS):
        server.run(broken, log, die_at=rng.randrange(1, answer["events"] // (2 * KILLS)))
    assert server.run(broken, log)["status"] == 0, log.read_text()[-3000:]
    assert ending(tmp_path / "broken", "dpo") == ending(tmp_path / "whole", "dpo")
    done = [json.loads((tmp_path / out / "dpo" / "done.json").read_text()) for out in ("whole", "broken")]
    assert done[0]["best"] == done[1]["best"]
    assert done[0]["best"]["step"] in (2, 4, 6)


# ---------------------------------------------------------------- pipelines


def test_a_pipeline_killed_in_training_and_in_evaluation_ends_as_if_unbroken(
    server: Server, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    words = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]
    rows = {
        "train": [{"prompt": f"say {w}", "completion": w, "answer": w} for w in words],
        "test": [{"prompt": f"write {w}", "answer": w} for w in words[:4]],
    }
    for name, content in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    (tmp_path / "my_reward.py").write_text(REWARD)
    recipe = tmp_path / "reason.yaml"
    recipe.write_text(f"""
pipeline: reason
model: {tiny_model("llama")}
data: {{train: {tmp_path}/train.jsonl, test: {tmp_path}/test.jsonl}}
reward: {tmp_path}/my_reward.py:vowels
max_new_tokens: 6
attack: {{max_rows: 0}}
save_steps: 1
adapter: {{rank: 4}}
sft: {{batch_size: 4, learning_rate: 0.01}}
grpo: {{batch_size: 4, group_size: 4, learning_rate: 0.001, max_new_tokens: 6}}
""")

    def run(out: str, **fate: Any) -> dict[str, int]:
        return server.run(["run", recipe, "--out", tmp_path / out], tmp_path / f"{out}.log", **fate)

    answer = run("whole")
    assert answer["status"] == 0, (tmp_path / "whole.log").read_text()[-3000:]
    events = answer["events"]
    died = [
        run("broken", die_at=events // 6)["status"],  # in the first stage
        run("broken", die_at=events // 3)["status"],  # later
        # Three models, two at a time: when the third begins, one is done.
        run("broken", signal_in=["evaluate", 3, signal.SIGTERM])["status"],
    ]
    assert died == [-signal.SIGKILL, -signal.SIGKILL, -signal.SIGTERM]
    assert run("broken")["status"] == 0, (tmp_path / "broken.log").read_text()[-3000:]
    assert re.search(r"(base|sft) done before \(\d+ cases\)", (tmp_path / "broken.log").read_text())
    for stage in ("sft", "grpo"):
        assert ending(tmp_path / "broken", stage) == ending(tmp_path / "whole", stage)
    reports = [
        json.loads((tmp_path / o / "evidence" / "report.json").read_text()) for o in ("whole", "broken")
    ]
    assert reports[0]["models"] == reports[1]["models"]
    cases = [(tmp_path / o / "evidence" / "cases.jsonl").read_bytes() for o in ("whole", "broken")]
    assert cases[0] == cases[1]

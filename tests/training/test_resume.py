"""Killed at any moment and started again, a run ends with the bytes of the unbroken one. Processes are real."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kill_runs import Server, ending, serving

KILLS = int(os.environ.get("TIEOUT_KILLS", "3"))
"""How often each run is killed; set it higher for a longer search."""

pytestmark = pytest.mark.timeout(900)

REWARD = '''
def vowels(completions, prompts, **_):
    """Share of vowels, so that a random model's completions differ."""
    return [sum(ch in "aeiou" for ch in c) / max(1, len(c)) + 0.001 * (len(c) % 7) for c in completions]
'''


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


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
    columns = {"sft": ["completion"], "dpo": ["chosen", "rejected"], "grpo": [], "distill": ["completion"]}
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
            argv += ["--beta", 0.04, "--unchecked", "a toy"]
        if method == "distill":  # some steps on samples, some on the rows' completions
            argv += ["--teacher", "reference", "--teacher-prompt", "{prompt} {completion}"]
            argv += ["--on-policy", 0.5, "--group-size", 2, "--max-new-tokens", 6]
        return [*argv, *more]

    return make


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


@pytest.mark.parametrize(
    "method", ["grpo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sft", "dpo", "distill"))]
)
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


OPTIONS = [*("--reward-workers", 0), *("--reward-seconds", 30), *("--save-steps", 4), *("--device", "cpu")]


@pytest.mark.parametrize("change", ["options", "folders"])
def test_resumed_elsewhere_a_run_ends_as_if_unbroken(
    server: Server,
    command: Callable[..., list[Any]],
    unbroken: Callable[..., tuple[dict[str, Any], int, float]],
    tmp_path: Path,
    change: str,
) -> None:
    log, out = tmp_path / "log", tmp_path / "run"
    argv = command("grpo", out)
    model = tmp_path / "model"
    shutil.copytree(argv[argv.index("--model") + 1], model)
    argv += ["--model", model]
    assert server.run(argv, log, signal_in=["update", 3, signal.SIGTERM])["status"] == 130
    if change == "folders":
        out = out.rename(tmp_path / "moved")
        argv += ["--out", out, "--model", model.rename(tmp_path / "renamed")]
    else:
        argv += OPTIONS
        if find_spec("tensorboard"):
            argv += ["--trackers", "tensorboard"]
    assert server.run(argv, log)["status"] == 0, log.read_text()[-3000:]
    assert "resumed at step 3 of 6" in log.read_text()
    assert ending(out, "grpo") == unbroken("grpo")[0]


@pytest.mark.slow
def test_the_order_of_sets_changes_no_file(command: Callable[..., list[Any]], tmp_path: Path) -> None:
    """Python orders sets of text by PYTHONHASHSEED, which each process has another of."""
    found = []
    for seed in ("1", "2"):
        with serving(PYTHONHASHSEED=seed) as own:
            log = tmp_path / f"log-{seed}"
            assert own.run(command("sft", tmp_path / seed), log)["status"] == 0, log.read_text()[-3000:]
        files = [p for p in (tmp_path / seed / "sft").rglob("*") if p.is_file() and p.suffix != ".jsonl"]
        # Times, and streams of random numbers that the run draws nothing from.
        files = [p for p in files if p.name not in ("started.json", "done.json") and "step-" not in str(p)]
        found.append({str(p.relative_to(tmp_path / seed)): p.read_bytes() for p in files})
    assert "sft/adapter/adapter_config.json" in found[0]
    assert found[0] == found[1]


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


@pytest.fixture
def evaluated(command: Callable[..., list[Any]], tmp_path: Path) -> list[Any]:
    """DPO, evaluated after every second step on rows so long that the last bits depend on what is measured together."""
    words = [f"{i} is not {i * i}. " * (1 + i % 5) for i in range(20, 31)]
    rows = [{"prompt": f"Why? {w}", "chosen": f"Because {w}", "rejected": f"No: {w}"} for w in words]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["--held-out", tmp_path / "long.jsonl", "--eval-steps", 2, "--keep-best", "--metric", "accuracy"]
    return command("dpo", tmp_path / "whole", *more)


def test_sigterm_inside_an_evaluation_leaves_its_numbers_to_the_last_bit(
    server: Server, evaluated: list[Any], tmp_path: Path
) -> None:
    """The first `assess` is the look at two rows before the run begins; a resumed run does without it."""
    log, broken = tmp_path / "log", [*evaluated, "--out", tmp_path / "broken"]
    assert server.run(evaluated, log)["status"] == 0, log.read_text()[-3000:]
    assert server.run(broken, log, signal_in=["assess", 2, signal.SIGTERM])["status"] == 130
    assert server.run(broken, log, signal_in=["assess", 1, signal.SIGKILL])["status"] == -signal.SIGKILL
    assert server.run(broken, log)["status"] == 0, log.read_text()[-3000:]
    assert ending(tmp_path / "broken", "dpo") == ending(tmp_path / "whole", "dpo")


def test_killed_between_evaluations_a_run_exports_the_best_of_the_unbroken_one(
    server: Server, evaluated: list[Any], tmp_path: Path
) -> None:
    log, argv = tmp_path / "log", evaluated
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

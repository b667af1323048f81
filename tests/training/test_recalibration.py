"""While a policy trains: reward against primary metric on the same prompts, and audit sheets of a judge."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from tieout.cli.train import main
from tieout.errors import StopTraining
from tieout.evidence import stats
from tieout.methods import GRPO
from tieout.tasks import Task
from tieout.training.guards import Guards
from tieout.training.recalibration import primary_of
from tieout.training.watching import monitors_of
from tieout.types import Completion, Group, Row

ROWS = [{"prompt": f"p{i}", "answer": str(i)} for i in range(40)]
Write = Callable[[int, random.Random], tuple[float, float]]
"""(step, rng) -> (score, truth) of a sample."""


def first(completions: Sequence[str], **_: Any) -> list[float]:
    return [float(text.split()[0]) for text in completions]


def second(completions: Sequence[str], **_: Any) -> list[float]:
    return [float(text.split()[1]) for text in completions]


TASK = Task("scripted", lambda split: ROWS, first, metrics={"right": second}, primary="right")


class Scripted:
    """A source whose samples say their own score and truth."""

    def __init__(self, task: Task, write: Write) -> None:
        self.task, self.write, self.step, self.calls = task, write, 0, 0
        self.seed, self.workers, self.sampler = 0, None, SimpleNamespace(load=lambda learner: None)
        self.chat = SimpleNamespace(prompt=lambda prompt: [0])

    def over(self, rows: Sequence[Row]) -> Scripted:
        return self

    def rollout(self, rows: Sequence[Row], count: int, params: Any) -> list[Group]:
        self.calls += 1
        rng, groups = random.Random(self.step), []
        for row in rows:
            samples = [self.write(self.step, rng) for _ in range(count)]
            completions = [Completion([1], [True], text=f"{score} {truth}") for score, truth in samples]
            groups.append(Group([0], completions, [score for score, _ in samples], row))
        return groups


def told(
    write: Write, steps: int = 60, task: Task = TASK, **guards: Any
) -> tuple[list[str], list[dict[str, float]]]:
    """What is said, and the metrics of every step."""
    source: Any = Scripted(task, write)
    model = SimpleNamespace(device=torch.device("cpu"), context=99, has_reference=False)
    learner: Any = SimpleNamespace(model=model, step=0)
    limits, said = Guards(**{"valid": "none", "gold": "none", **guards}), list[str]()
    made: dict[str, Any] = {"guards": limits, "say": lambda step, why: said.append(f"{step}: {why}")}
    every = monitors_of(GRPO(max_new_tokens=4), learner, source, steps, **made)
    others = len(monitors_of(GRPO(max_new_tokens=4), learner, Scripted(task, write), steps, **made | {"guards": Guards(
        **{**vars(limits), "calibration_steps": 0})}))  # type: ignore[arg-type]  # fmt: skip
    monitors = every[others:]
    logged = []
    for step in range(1, steps + 1):
        source.step = step
        metrics: dict[str, float] = {}
        for monitor in monitors:
            monitor(step, [], metrics)
        logged.append(metrics)
    return said, logged


def healthy(step: int, rng: random.Random) -> tuple[float, float]:
    truth = float(rng.random() < 0.3 + step / 100)
    return 0.5 * truth + 0.3 * rng.random(), truth


def hacked(step: int, rng: random.Random) -> tuple[float, float]:
    truth = float(rng.random() < 0.4 - step / 200)
    return min(1.0, 0.5 * truth + step / 100 + 0.1 * rng.random()), truth


def reversed_later(step: int, rng: random.Random) -> tuple[float, float]:
    truth = float(rng.random() < 0.5)
    return (truth if step == 1 else 1 - truth) * 0.5 + 0.1 * rng.random(), truth


def test_a_healthy_run_is_measured_on_its_schedule_and_says_nothing() -> None:
    said, logged = told(healthy)
    assert said == []
    measured = [step for step, metrics in enumerate(logged, 1) if "calibration/score" in metrics]
    assert measured == [1, 25, 50]
    assert logged[0]["calibration/agreement"] == 1.0
    assert logged[49]["calibration/primary"] > logged[0]["calibration/primary"]
    assert logged[49]["calibration/agreement_low"] < 1.0 == logged[49]["calibration/agreement_high"]


def test_what_moved_since_the_first_measurement_has_the_interval_of_a_paired_t_test() -> None:
    _, logged = told(healthy)
    assert "calibration/score_change" not in logged[0]
    last = logged[49]
    assert last["calibration/prompts"] == 16
    for figure in ("score", "primary"):
        moved = last[f"calibration/{figure}"] - logged[0][f"calibration/{figure}"]
        assert last[f"calibration/{figure}_change"] == pytest.approx(moved)
        assert last[f"calibration/{figure}_change_low"] < moved < last[f"calibration/{figure}_change_high"]
    gap = last["calibration/score_change"] - last["calibration/primary_change"]
    assert last["calibration/gap_change"] == pytest.approx(gap)
    rng = np.random.default_rng(0)
    now, first = rng.random(16).tolist(), rng.random(16).tolist()
    expected, found = scipy.stats.ttest_rel(now, first), stats.change(now, first, (0.0, 1.0))
    ends = expected.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx(
        (ends.low, ends.high, expected.pvalue), abs=1e-12
    )
    alike = stats.change([1.0] * 16, [1.0] * 16, (0.0, 1.0))  # no proof that nothing can move
    assert alike == stats.difference([1.0] * 16, [1.0] * 16)


def test_a_reward_that_rises_without_the_primary_metric_alarms_or_stops() -> None:
    said, _ = told(hacked)
    assert said[0].startswith("25: on the 16 calibration prompts the reward went +0.")
    assert "while right went -0." in said[0]
    with pytest.raises(StopTraining, match="step 25: on the 16 calibration prompts"):
        told(hacked, act="stop")
    assert told(hacked, act="off") == ([], [{}] * 60)
    assert told(hacked, calibration_steps=0) == ([], [{}] * 60)


def test_a_reward_that_orders_later_samples_wrongly_alarms() -> None:
    said, logged = told(reversed_later)
    assert "the reward orders 0% of the pairs of calibration samples as right does" in said[0]
    assert "ordered 100% at step 1" in said[0]
    assert (logged[0]["calibration/agreement"], logged[24]["calibration/agreement"]) == (1.0, 0.0)


def test_chance_alone_alarms_in_no_run_of_twenty() -> None:
    for seed in range(20):

        def noise(step: int, rng: random.Random, seed: int = seed) -> tuple[float, float]:
            own = random.Random(f"{seed}/{step}/{rng.random()}")
            truth = float(own.random() < 0.4)
            return 0.4 * truth + 0.6 * own.random(), truth

        assert told(noise, 100)[0] == [], seed


def test_what_has_no_primary_metric_of_its_own_is_not_measured() -> None:
    assert primary_of(Task("t", lambda split: ROWS, first)) is None
    assert primary_of(Task("t", lambda split: ROWS, first, metrics={"m": first}, primary="m")) is None
    assert primary_of(TASK) is second


TASKS = """
from pathlib import Path
from tieout.rewards.library.judge import Judge
from tieout.samplers.api import APISampler
from tieout.tasks import Task

ROWS = [{"prompt": f"say {i}", "completion": "aa"} for i in range(8)]


def vowels(completions, **_):
    return [sum(ch in "aeiou" for ch in c) / max(1, len(c)) for c in completions]


def length(completions, **_):
    return [min(1.0, len(c) / 50) for c in completions]


judge = Judge(APISampler("MODEL", "URL", max_retries=0), "5: good. 1: bad.", model="MODEL")
plain = Task("words", lambda split: ROWS, length, metrics={"vowels": vowels}, primary="vowels", max_new_tokens=6)
judged = Task("words", lambda split: ROWS, judge, max_new_tokens=6)
"""


class Handler(BaseHTTPRequestHandler):
    """An OpenAI-compatible judge that grades by length."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        system, user = (message["content"] for message in body["messages"])
        mark = re.search(r'"mark": "([0-9a-f]+)"', system).group(1)  # type: ignore[union-attr]
        text = re.search(rf"\[completion {mark}\]\n(.*)\n\[end of completion", user, re.DOTALL)
        score = 1 + len(text.group(1) if text else "") % 5
        content = "It is of that length.\n" + json.dumps({"mark": mark, "score": score})
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        data = json.dumps(
            {"id": "x", "object": "x", "created": 0, "model": "m", "choices": [choice]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    pytest.importorskip("openai")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.fixture
def train(tiny_model: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """`train(task, name, url, model, **options)`: GRPO by the command line; the stage's folder."""

    def run(
        task: str, name: str, url: str = "http://127.0.0.1:9/v1", model: str = "a-judge", **more: Any
    ) -> Path:
        file, out = tmp_path / f"{name}.py", tmp_path / name
        file.write_text(TASKS.replace("URL", url).replace("MODEL", model))
        given = {
            "--model": tiny_model("llama"),
            "--task": f"{file}:{task}",
            "--out": out,
            "--reward-workers": 0,
        }
        given |= {"--batch-size": 4, "--group-size": 2, "--max-new-tokens": 6, "--epochs": 2, **more}
        same = [
            "--accept-leakage",
            "the same rows in every split",
            "--unchecked",
            "a toy that pays for length",
        ]
        main(["grpo", *(str(x) for pair in given.items() for x in pair), *same])
        return out / "grpo"

    return run


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_is_the_same_with_and_without_it(train: Callable[..., Path]) -> None:
    never = logged(train("plain", "never", **{"--guards.calibration-steps": 0}))
    often = logged(train("plain", "often", **{"--guards.calibration-steps": 2}))
    assert ["calibration/score" in row for row in often] == [True, True, False, True]

    def trained(rows: list[dict[str, float]]) -> list[dict[str, float]]:
        return [{k: v for k, v in row.items() if "calib" not in k and "second" not in k} for row in rows]

    assert trained(never) == trained(often)


def test_a_judge_s_audit_sheets_are_written_and_those_filled_in_are_left_alone(
    train: Callable[..., Path], url: str
) -> None:
    folder = train("judged", "run", url, **{"--guards.audit-steps": 2})
    sheets = sorted((folder / "audit").glob("*.jsonl"))
    assert [path.name for path in sheets] == [f"step-00000{i}.jsonl" for i in (1, 2, 4)]
    rows = [json.loads(line) for line in sheets[0].read_text().splitlines()]
    assert 1 < len(rows) <= 8
    assert {row["agree"] for row in rows} == {""}
    assert rows[0]["reasons"] == {"judge": "It is of that length."}
    assert [row["score"] for row in rows] == sorted(row["judges"]["judge"] for row in rows)
    assert not (train("plain", "plain") / "audit").exists()


def test_a_judge_of_the_policy_s_family_is_refused_without_naming_the_policy(
    train: Callable[..., Path], url: str
) -> None:
    with pytest.raises(ValueError, match=r"judge 'llama-judge' and policy .* are both of the family 'llama'"):
        train("judged", "run", url, "llama-judge")

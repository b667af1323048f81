"""`tieout prefer` against a server on this machine that writes answers of several qualities, and grades them."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openai_server import OpenAIServer, asked
from tieout.cli.prefer import main as prefer
from tieout.errors import InputError, TooManyErrors
from tieout.rewards import load_reward
from tieout.rewards.scoring.runner import Call, score_groups
from tieout.rows import read_rows
from tieout.rows.pairs import preferences

REWARD = """
from tieout.rewards.scoring.outcomes import ranged


@ranged(0.0, 1.0)
def share(completions, answer, **_):
    "Share of the answer's words that a completion has."
    return [sum(w in c.split() for w in a.split()) / len(a.split()) for c, a in zip(completions, answer)]


@ranged(0.0, 1.0)
def enough(completions, **_):
    return [float(len(c.split()) > 2) for c in completions]


def broken(completions, **_):
    raise RuntimeError("out of order")
"""
ANSWER = "assets equal liabilities plus equity"


def scripted(body: dict[str, Any]) -> tuple[str, str, int, int]:
    """The policy says some of the answer's words, by its seed; `grader` prefers fewer words."""
    if body["model"] != "grader":
        count = 1 + body["seed"] % 5
        return f"{' '.join(ANSWER.split()[:count])} {body['seed']}", "stop", 20, count
    mark = re.search(r'"mark": "(\w+)"', body["messages"][0]["content"])
    assert mark
    text = re.search(rf"\[completion {mark[1]}\]\n(.*)\n\[end", asked(body), re.DOTALL)
    assert text
    grade = max(1, 6 - len(text[1].split()))
    return json.dumps({"mark": mark[1], "score": grade}), "stop", 50, 9


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    with OpenAIServer(scripted) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-prefer")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mine.py").write_text(REWARD)
        (tmp_path / "grader.yaml").write_text("model: api:grader\nrubric: '5: brief. 1: long.'\n")
        lines = [
            {"prompt": [{"role": "user", "content": f"Question {n}?"}], "answer": ANSWER, "id": n, "label": True,
             "completion": "gold"}
            for n in range(12)
        ]  # fmt: skip
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        yield running


GIVEN = ["--model", "api:policy", "--data", "rows.jsonl", "--out", "pairs.jsonl", "--reward-workers", "0"]
OWN = [*GIVEN, "--reward", "mine.py:share", "--num-completions", "6"]


def test_pairs_keep_the_columns_of_their_row_and_have_a_report(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefer([*OWN, "--price", "api:policy=1,1"])
    said = capsys.readouterr().out
    assert "72 completions asked for" in said
    assert "what decides the" in said
    pairs = preferences(read_rows(tmp_path / "pairs.jsonl"), "pairs")
    for pair in pairs:
        assert pair["chosen_score"] == 1.0 > pair["rejected_score"]
        assert (pair["answer"], pair["row_completion"], pair["row_label"]) == (ANSWER, "gold", True)
        assert pair["prompt"][0]["content"] == f"Question {pair['id']}?"
    report = json.loads((tmp_path / "pairs.quality.json").read_text())
    assert report["made"]["pairs"] == report["quality"]["pairs"] == len(pairs)
    before = (tmp_path / "pairs.jsonl").read_text()
    prefer(OWN)
    assert "0 completions asked for, 72 taken from the ledger" in capsys.readouterr().out
    assert (tmp_path / "pairs.jsonl").read_text() == before
    assert len(server.bodies) == 72


def test_a_judge_orders_what_the_program_lets_stand(server: OpenAIServer, tmp_path: Path) -> None:
    prefer([*GIVEN, "--reward", "mine.py:enough", "--num-completions", "6", "--judge", "judge:grader.yaml"])
    pairs = read_rows(tmp_path / "pairs.jsonl")
    assert pairs
    for pair in pairs:
        words = len(pair["chosen"].split()) - 1
        assert 2 <= words < len(pair["rejected"].split()) - 1, "brief, and yet right enough for the program"
    alone = [
        "--reward",
        "judge:grader.yaml",
        "--num-completions",
        "6",
        "--out",
        "alone.jsonl",
        "--min-chosen",
        "0",
    ]
    prefer([*GIVEN[:4], "--reward-workers", "0", *alone])
    found = read_rows(tmp_path / "alone.jsonl")
    assert all(len(pair["chosen"].split()) < len(pair["rejected"].split()) for pair in found)


def test_what_cannot_give_pairs_is_refused_before_sampling_or_written_nowhere(
    server: OpenAIServer, tmp_path: Path
) -> None:
    for more, said in (
        (["--num-completions", "1"], "at least 2 completions"),
        (["--temperature", "0"], "temperature above 0"),
        (["--judge", "mine.py:share"], "no program as its backstop"),
        (["--out", "pairs.csv"], "expected a file of rows"),
    ):
        given = [*GIVEN, "--reward", "mine.py:share"]
        if more[0] in given:
            place = given.index(more[0])
            del given[place : place + 2]
        with pytest.raises(InputError, match=said):
            prefer([*given, *more])
    assert not server.bodies
    with pytest.raises(InputError, match=r"made 0 pairs of 12 prompts.*no completion is good enough"):
        prefer([*GIVEN, "--reward", "mine.py:share", "--num-completions", "2", "--min-chosen", "1.5"])
    with pytest.raises(TooManyErrors, match=r"failed on 24 of 24 completions.*out of order"):
        prefer([*GIVEN, "--reward", "mine.py:broken", "--num-completions", "2"])
    assert not (tmp_path / "pairs.jsonl").exists()


def test_test_rows_among_the_pairs_are_refused(server: OpenAIServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="are not written"):
        prefer([*OWN, "--test", "rows.jsonl"])
    assert not (tmp_path / "pairs.jsonl").exists()
    prefer([*OWN, "--test", "rows.jsonl", "--accept-leakage", "a rehearsal"])
    assert (tmp_path / "pairs.jsonl").exists()


def test_options_of_the_chat_template_reach_the_server_and_stay_with_the_pairs(
    server: OpenAIServer, tmp_path: Path
) -> None:
    prefer([*OWN, "--chat-template-kwargs", "enable_thinking=false", "--max-prompts", "4"])
    assert {body["chat_template_kwargs"]["enable_thinking"] for body in server.bodies} == {False}
    pairs = read_rows(tmp_path / "pairs.jsonl")
    assert all(pair["chat_template_kwargs"] == {"enable_thinking": False} for pair in pairs)


def test_a_model_that_is_loaded_here(server: OpenAIServer, tmp_path: Path) -> None:
    given = [
        "--model",
        "tieout-base",
        "--data",
        "rows.jsonl",
        "--out",
        "local.jsonl",
        "--reward-workers",
        "0",
    ]
    given += [
        "--reward",
        "long.py:longer",
        "--num-completions",
        "4",
        "--temperature",
        "2",
        "--max-new-tokens",
        "12",
    ]
    (tmp_path / "long.py").write_text(
        "def longer(completions, **_):\n    return [len(c) for c in completions]\n"
    )
    prefer([*given, "--max-prompts", "4"])
    pairs = preferences(read_rows(tmp_path / "local.jsonl"), "pairs")
    assert all(len(pair["chosen"]) > len(pair["rejected"]) and pair["answer"] == ANSWER for pair in pairs)
    assert not server.bodies


def test_a_judge_is_asked_about_all_groups_at_the_same_time(server: OpenAIServer) -> None:
    """Twelve groups of one completion each: in turn there would be one request at a time."""
    judge = load_reward("judge:grader.yaml")
    together, most, lock = 0, 0, threading.Lock()

    def counted(body: dict[str, Any]) -> tuple[str, str, int, int]:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.1)
        with lock:
            together -= 1
        return scripted(body)

    server.answerer = counted
    calls = [Call.of_texts(["word " * (n + 1)], ["p"], {"prompt": "p"}) for n in range(12)]
    outcomes = score_groups(judge, calls)
    assert [group[0].status for group in outcomes] == ["scored"] * 12
    assert most > 2
    assert len(server.bodies) == 12

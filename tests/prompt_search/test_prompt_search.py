"""The search for a prompt against a server on this machine: offline, in seconds, killed anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openai_server import Never, OpenAIServer, asked
from tieout import optimize_prompt
from tieout.cli.evaluate import main as evaluate
from tieout.cli.optimize_prompt import main as optimize
from tieout.cli.sample import main as sample
from tieout.errors import InputError
from tieout.samplers.api import IncompleteError
from tieout.samplers.prompted import read_prompt
from tieout.storage.jsonl import read_jsonl

GOLD = "CANARY"
"""Of every row: the answer has it, the prompt does not, and no model may be shown it."""
REWARD = '''
from tieout import ranged

@ranged(0, 1)
def loud(completions, answer, word, **_):
    """1 for the word in capitals; its error quotes gold, as those of rewards do."""
    if any("crash" in text for text in completions):
        raise ValueError(f"expected {answer[0]}")
    return [1.0 if text == w.upper() else 0.25 if text.strip() else 0.0 for text, w in zip(completions, word)]
'''


def policy(body: dict[str, Any]) -> tuple[str, str, int, int]:
    """A model that says the word in capitals if it is told to, and a model that proposes to tell it."""
    if body["model"] == "teacher":
        number = len(re.findall("Score", asked(body)))
        return f"Better:\n```\nAnswer in capitals, {number} times.\n```", "stop", 50, 9
    told = "".join(turn["content"] for turn in body["messages"] if turn["role"] == "system")
    word = asked(body).removeprefix("say ")
    if word == "audit" and "capitals" not in told:
        return "crash", "stop", 3, 2
    return (word.upper() if re.search("capitals|exactly", told) else word), "stop", 3, 2


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0001")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud.py").write_text(REWARD)
    with OpenAIServer(policy) as running:
        running.failed = Never()
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


def rows(count: int = 24, start: int = 0) -> list[dict[str, Any]]:
    words = ["audit", *(f"word{chr(97 + i)}{chr(97 + j)}" for i in range(8) for j in range(8))]
    return [
        {"prompt": [{"role": "user", "content": f"say {w}"}], "word": w, "answer": f"{GOLD} {w}"}
        for w in words[start : start + count]
    ]


def given(*more: str, out: str = "out", budget: int = 120) -> list[str]:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(30)))
    Path("test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(12, 30)))
    said = ["--out", out, "--model", "api:policy", "--data", "rows.jsonl", "--test", "test.jsonl"]
    said += [
        "--reward",
        "loud.py:loud",
        "--reward-workers",
        "0",
        "--budget",
        str(budget),
        "--system",
        "Be nice.",
    ]
    return [*said, *more]


GEPA = ("--reflection", "api:teacher", "--validation-rows", "8")


def test_reflection_finds_the_prompt_and_measures_it_once_on_rows_that_chose_nothing(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    optimize(given(*GEPA, "--price", "api:policy=1,2", "--price", "api:teacher=10,20"))
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "api:policy: at most 144 completions, 120 of the search and 2 x 12 of the test, cost at most" in said
    )
    assert "api:teacher: at most 37 proposals, cost at most" in said
    assert "found minus first, paired, n=12: the reward rose (+0.750 [" in said
    prompt = read_prompt("out/prompt.json")
    assert "in capitals" in prompt.system
    tested = [
        asked(body) for body in server.bodies if asked(body) in {f"say {r['word']}" for r in rows(12, 30)}
    ]
    assert sorted(tested) == sorted([f"say {row['word']}" for row in rows(12, 30)] * 2)
    first = server.bodies.index(next(body for body in server.bodies if asked(body) in tested))
    assert all(asked(body) in tested for body in server.bodies[first:]), "the test comes last"
    lines = [line for _, line in read_jsonl(Path("out/candidates.jsonl"))]
    assert [line["mean"] for line in lines] == sorted(line["mean"] for line in lines)
    assert lines[-1]["front"]
    assert not lines[0]["front"]
    kept = {path.name for path in Path("out").iterdir() if path.stat().st_size}  # none of GEPA's pickles
    assert kept == {
        "candidates.jsonl", "journal.jsonl", "lock", "prompt.json", "result.json", "run.json", "test.jsonl",
        "test.usage.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize(
    "search", [GEPA, ("--validation-rows", "8", "--minibatch", "3")], ids=["gepa", "plain"]
)
def test_no_model_is_ever_shown_gold(server: OpenAIServer, search: tuple[str, ...]) -> None:
    optimize(given(*search))
    assert len(server.bodies) > 60
    assert not any(GOLD in json.dumps(body) for body in server.bodies)
    journal = Path("out/journal.jsonl").read_text()
    assert "ValueError" in journal, "the error that quotes gold was met, or this test shows nothing"
    assert GOLD not in journal


@pytest.mark.parametrize(
    "search", [GEPA, ("--validation-rows", "8", "--minibatch", "3")], ids=["gepa", "plain"]
)
def test_killed_anywhere_it_goes_on_without_repeating_a_call(
    server: OpenAIServer, search: tuple[str, ...]
) -> None:
    optimize(given(*search, "--calls", "whole"))
    whole = [json.dumps(body, sort_keys=True) for body in server.bodies]
    server.bodies.clear()
    for limit in range(7, len(whole), 23):
        with pytest.raises(IncompleteError, match="calls of the budget"):
            optimize(given(*search, "--max-calls", str(limit), "--call-workers", "1", out="parts"))
    optimize(given(*search, out="parts"))
    assert sorted(json.dumps(body, sort_keys=True) for body in server.bodies) == sorted(whole)
    assert Path("parts/prompt.json").read_text() == Path("out/prompt.json").read_text()
    assert Path("parts/result.json").read_text() == Path("out/result.json").read_text()
    optimize(given(*search, out="parts"))
    assert len(server.bodies) == len(whole), "a finished search asks nothing"


def test_a_search_that_is_resumed_against_another_server_says_so(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IncompleteError, match="calls of the budget"):
        optimize(given("--validation-rows", "8", "--max-calls", "9"))
    with OpenAIServer(policy) as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.url)
        with pytest.warns(UserWarning, match=f"api:policy: {server.url} -> {other.url}"):
            optimize(given("--validation-rows", "8"))
        assert other.bodies


def test_what_it_found_is_used_at_once_and_not_on_rows_that_chose_it(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    optimize(given(*GEPA))
    asked_of = ["--model", "api:policy", "--reward", "loud.py:loud", "--reward-workers", "0"]
    capsys.readouterr()
    evaluate([*asked_of, "--data", "test.jsonl", "--prompt-file", "out/prompt.json"])
    assert '{"api:policy": 1.0}' in capsys.readouterr().out
    with pytest.raises(InputError, match=r"\d+ of 30 rows chose this prompt"):
        evaluate([*asked_of, "--data", "rows.jsonl", "--prompt-file", "out/prompt.json"])
    report = ["--data", "test.jsonl", "--prompt-file", "out/prompt.json", "--out", "report"]
    with pytest.raises(InputError, match="evaluate stage of a recipe"):
        evaluate(["--model", "api:policy", "api:other", *report])
    sample(["say hello", "--model", "api:policy", "--prompt-file", "out/prompt.json"])
    assert capsys.readouterr().out == "HELLO\n"


def test_the_python_function_searches_by_edits_in_this_process(server: OpenAIServer) -> None:
    def loud(completions: list[str], word: list[str], **_: Any) -> list[float]:
        return [float(text == w.upper()) for text, w in zip(completions, word, strict=True)]

    found = optimize_prompt(
        "api:policy",
        rows(36, 1),
        loud,
        out="mine",
        budget=200,
        minibatch=3,
        validation_rows=8,
        reward_workers=0,
    )
    assert "exactly" in found.prefix.system
    assert found.difference["low"] > 0
    assert found.completions <= 200
    assert found.flat is None
    with pytest.raises(InputError, match="budget: 200 -> 201"):
        optimize_prompt(
            "api:policy",
            rows(36, 1),
            loud,
            out="mine",
            budget=201,
            minibatch=3,
            validation_rows=8,
            reward_workers=0,
        )


@pytest.mark.parametrize(
    ("more", "budget", "said"),
    [
        (("--validation-rows", "8"), 79, r"expected at least 80: 8 .* and 3 times 24"),
        (("--search", "gepa"), 120, "search gepa needs a reflection model"),
        (("--search", "plain", *GEPA), 120, "asks no reflection model"),
        (("--minibatch", "20"), 400, r"\d+ training rows, and a search needs 20"),
        (("--reward", "exact"), 120, None),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_first_call(
    server: OpenAIServer, more: tuple[str, ...], budget: int, said: str | None
) -> None:
    if said is None:
        Path("test.jsonl").write_text("")
        arguments = [*given(budget=budget)]
        Path("test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(12, 20)))
        said = "rows that are measured on are trained on too"
    else:
        arguments = given(*more, budget=budget)
    with pytest.raises(InputError, match=said):
        optimize(arguments)
    assert not server.bodies


def test_a_completion_without_a_score_ends_the_search(server: OpenAIServer) -> None:
    Path("maybe.py").write_text("def maybe(completions, **_):\n    return [None for _ in completions]\n")
    arguments = [*given("--validation-rows", "8"), "--calls", "else"]
    arguments[arguments.index("loud.py:loud")] = "maybe.py:maybe"
    with pytest.raises(
        InputError, match=r"row validation/0: a completion has no score \(the reward abstained\)"
    ):
        optimize(arguments)


def test_a_reward_that_pays_for_nothing_is_said_to_tell_nothing(
    server: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = given("--validation-rows", "8", budget=80)
    arguments[arguments.index("loud.py:loud")] = "exact"
    optimize(arguments)
    said = capsys.readouterr().out
    assert "every completion scored 0: the reward tells a search nothing here" in said
    assert "it is kept, and the test rows were not asked" in said
    assert not any(asked(body) == f"say {row['word']}" for body in server.bodies for row in rows(12, 30))

"""Commands on a model behind a server on this machine, which runs tieout-base: the same answers as loaded here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openai_server import OpenAIServer, model_answers
from tieout import best_of
from tieout import evaluate as evaluate_function
from tieout.cli.best_of import main as best_of_command
from tieout.cli.evaluate import main as evaluate
from tieout.cli.gate import main as gate
from tieout.cli.sample import main as sample
from tieout.cli.train import main as train
from tieout.errors import InputError
from tieout.evidence.evaluate import Case, read_cases
from tieout.evidence.verify import verify
from tieout.learner import load
from tieout.rows import check_rows, read_rows
from tieout.rows.pairs import preferences
from tieout.samplers.api import IncompleteError

WORDS = ["audit", "ledger", "asset", "equity"]
KEY = "sk-canary-77aa01"


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAIServer]:
    with OpenAIServer(model_answers()) as running:
        yield running


@pytest.fixture
def server(model: OpenAIServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> OpenAIServer:
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    model.bodies.clear()
    return model


def rows(path: Path, **more: Any) -> str:
    lines = [{"prompt": [{"role": "user", "content": f"say {w}"}], "answer": w, **more} for w in WORDS]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_sample_prints_what_the_local_model_does(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", rows(tmp_path / "rows.jsonl"), "--max-new-tokens", "12"]
    sample([*given, "--model", "tieout-base"])
    local = capsys.readouterr().out
    sample([*given, "--model", "api:tieout-base", "--price", "api:tieout-base=1,2"])
    said = capsys.readouterr()
    assert said.out == local
    assert "4 completions asked for, 0 taken from the ledger" in said.err
    assert "34 + 26 tokens, cost 8.6e-05" in said.err
    sample([*given, "--model", "api:tieout-base"])
    assert "0 completions asked for, 4 taken" in capsys.readouterr().err
    assert len(server.bodies) == 4


def test_a_report_compares_local_and_api_on_the_same_rows_with_cost(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rows(tmp_path / "rows.jsonl")
    given = ["--model", "tieout-base", "api:tieout-base", "--data", data, "--max-new-tokens", "8"]
    given += ["--reward-workers", "0", "--price", "api:tieout-base=100,200"]
    evaluate([*given, "--out", "out"])
    said = " ".join(capsys.readouterr().out.split())
    assert "api:tieout-base minus tieout-base, paired, n=4" in said
    assert "cost of 1000" in said
    assert verify(Path("out/evidence/report.json")) == []
    with pytest.raises(SystemExit) as held:
        gate(["out"])
    assert held.value.code in (3, 4)
    page = Path("out/evidence/report.html").read_text()
    assert "api:tieout-base" in page
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    identity = json.loads(Path("out/run.json").read_text())["identity"]["models"]
    assert {"base": "api:tieout-base", "trained": None, "four_bits": False} in identity.values()


def asked_of(data: Path) -> list[str]:
    """Arguments of an evaluation of these rows."""
    options = {
        "--model": "api:tieout-base",
        "--data": str(data),
        "--max-new-tokens": "4",
        "--reward-workers": "0",
    }
    return [word for option in options.items() for word in option]


def test_an_evaluation_with_a_failure_has_no_figure_and_resumes(server: OpenAIServer, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    prompts = ["say audit", "400 say asset"]
    data.write_text("".join(json.dumps({"prompt": p, "answer": "x"}) + "\n" for p in prompts))
    given = asked_of(data)
    server.failed.clear()
    with pytest.raises(IncompleteError, match=r"1 of 2 requests failed.*Repeat the command.*keeps 1 replies"):
        evaluate(given)
    evaluate(given)
    assert len(server.bodies) == 3


def test_copies_of_a_row_are_said_and_asked_once(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = Path(rows(tmp_path / "rows.jsonl")), tmp_path / "cases.jsonl"
    given = asked_of(data)
    evaluate(given)
    assert "different prompts" not in capsys.readouterr().out
    data.write_text(data.read_text() * 3)
    evaluate([*given, "--out", str(out)])
    said = "12 rows have 4 different prompts: means are over rows, and intervals count a prompt once"
    assert said in capsys.readouterr().out
    assert len(server.bodies) == 4
    (cases,) = read_cases(out).values()
    assert len({case.cluster for case in cases}) == 4


def test_the_python_function_takes_it_too(server: OpenAIServer, tmp_path: Path) -> None:
    found = evaluate_function(
        ["tieout-base", "api:tieout-base"],
        rows(tmp_path / "rows.jsonl"),
        "exact",
        max_new_tokens=8,
        reward_workers=0,
        api={"max_calls": 4, "calls": str(tmp_path / "ledger")},
    )
    cases: dict[str, list[Case]] = found.cases
    assert [c.completion for c in cases["tieout-base"]] == [c.completion for c in cases["api:tieout-base"]]
    assert all(case.usage["prompt_tokens"] > 0 for case in cases["api:tieout-base"])


def test_best_of_n_as_a_function_of_rows_and_functions(server: OpenAIServer, tmp_path: Path) -> None:
    def short(completions: list[str], **_: object) -> list[float]:
        return [1.0 / (1 + len(text)) for text in completions]

    given = [{"prompt": "say audit"}, {"prompt": "say asset"}]
    found = best_of("api:tieout-base", given, short, (1, 3), gold=short, max_new_tokens=6)
    assert [point.num for point in found.points] == [1, 3]
    assert all(point.gold == point.score for point in found.points)
    assert len(server.bodies) == 6
    with pytest.raises(InputError, match="no setting 'split'"):
        best_of("api:tieout-base", given, short, split="test")


def test_what_needs_weights_refuses_it_before_work(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = rows(tmp_path / "rows.jsonl", completion="x")
    with pytest.raises(SystemExit):
        train(["sft", "--model", "api:m", "--data", data, "--out", "out"])
    assert "behind an API, and this takes a model whose weights are here" in capsys.readouterr().err
    with pytest.raises(InputError, match="its weights are not here"):
        load("api:m")
    with pytest.raises(InputError, match="--price 'api:other=1,1'"):
        sample(["--model", "api:m", "--data", data, "--price", "api:other=1,1"])
    assert not server.bodies


def test_a_judge_of_a_file_is_a_reward(server: OpenAIServer, tmp_path: Path) -> None:
    """tieout-base writes no verdict, so every score is an error and none is a number."""
    (tmp_path / "judge.yaml").write_text(
        "model: api:gpt-judge\nrubric: '5: good. 1: bad.'\nmax_new_tokens: 4\n"
    )
    given = ["--data", rows(tmp_path / "rows.jsonl"), "--max-new-tokens", "4", "--reward", "judge:judge.yaml"]
    with pytest.raises(
        InputError, match="no completion of tieout-base has a score: no verdict in the judge's"
    ):
        evaluate(["--model", "tieout-base", *given])
    assert len(server.bodies) == 4
    (tmp_path / "judge.yaml").write_text("model: api:gpt-judge\nrubrik: x\n")
    with pytest.raises(InputError, match="rubrik"):
        evaluate(["--model", "tieout-base", *given])


CLOSE = """
from tieout.rewards.scoring.outcomes import ranged


@ranged(0.0, 1.0)
def close(completions, answer, **_):
    return [min(1.0, len(set(c) & set(a)) / len(set(a))) for c, a in zip(completions, answer)]


@ranged(0.0, 1.0)
def brief(completions, **_):
    return [1.0 / (1 + len(c)) for c in completions]
"""


@pytest.mark.parametrize("name", ["tieout-base", "api:tieout-base"])
def test_best_of_n_here_and_behind_an_api(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "mine.py").write_text(CLOSE)
    data = rows(tmp_path / "rows.jsonl", completion="gold", id="x")
    given = ["--model", name, "--data", data, "--reward", "mine.py:close", "--gold", "mine.py:brief"]
    given += ["--num", "1,2,4", "--max-new-tokens", "8", "--reward-workers", "0", "--price", f"{name}=1,2"]
    given += ["--temperature", "3"]
    best_of_command([*given, "--out", "best", "--keep", "4"])
    said = capsys.readouterr().out
    assert json.loads(said.splitlines()[-1])["recommended"] in (1, 2, 4)
    assert "of 16 samples were cut off at 8 tokens" in said
    curve = json.loads(Path("best/curve.json").read_text())
    scores = [point["score"]["value"] for point in curve["points"]]
    assert scores == sorted(scores)
    assert all(point["gold"]["n"] == 4 and point["cost_of_1000"] > 0 for point in curve["points"])
    samples, best = (read_rows(tmp_path / "best" / f"{file}.jsonl") for file in ("samples", "best"))
    assert [max(row["scores"]) for row in samples] == [row["score"] for row in best]
    assert all(row["row_completion"] == "gold" and row["answer"] and row["id"] == "x" for row in best)
    assert check_rows(best, "demonstration", "best")
    assert preferences(read_rows(tmp_path / "best" / "pairs.jsonl"), "pairs")
    if name.startswith("api:"):
        assert len(server.bodies) == 16
        best_of_command([*given, "--samples", "5"])
        assert len(server.bodies) == 20, "the first four samples of each prompt were there"


def test_best_of_refuses_before_sampling(server: OpenAIServer, tmp_path: Path) -> None:
    given = ["--model", "api:m", "--data", rows(tmp_path / "rows.jsonl"), "--reward-workers", "0"]
    for more, said in (
        (["--num", "4,2"], "rising whole numbers"),
        (["--num", "two"], "rising whole numbers"),
        (["--num", "1,8", "--samples", "4"], "at least 8 samples"),
        (["--temperature", "0"], "greedy samples are all the same"),
        (["--price", "api:m=3/h"], "paid by tokens"),
        (["--price", "api:m=1,2", "--price", "api:m=3,4"], "two prices, 1,2 and 3,4"),
        (["--reward", "finance_statements"], "needs column 'statement'"),
    ):
        with pytest.raises(InputError, match=said):
            best_of_command([*given, *more])
    assert not server.bodies

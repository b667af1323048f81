"""Models behind an API in a recipe: what SFT and DPO learn from, and challengers, over one ledger with a budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import DPO, NO_CHECK, SFT, lines, run

from openai_server import OpenAIServer
from tieout.config.fields import ConfigError
from tieout.errors import InputError
from tieout.evidence.challengers import how_made, kind_of
from tieout.evidence.claims import recomputed
from tieout.evidence.verify import read_report
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.samplers.api import IncompleteError
from tieout.storage.jsonl import read_jsonl, stored
from tieout.storage.runfolder import RunFolder

Make = Callable[..., Recipe]
KEY = "sk-canary-5150"
FREE = '''
def long(completions, prompts):
    """Length: needs no gold."""
    return [float(len(text)) for text in completions]
'''
MODEL = "api:some-model"
GATE: list[Any] = [{"gate": {"num_graded": 0}}]


def answer(body: dict[str, Any]) -> tuple[str, str, int, int]:
    """Vowels by the seed of the sample; more of them after a system prompt."""
    told = "messages" in body and body["messages"][0]["role"] == "system"
    text = "x" + "aeiou"[: body["seed"] % 5] if body["temperature"] else "xyzxyz"
    return ("aeiou " * told) + text, "stop", 7, len(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    with OpenAIServer(answer) as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.chdir(tmp_path)
        yield running


def challengers(selector: str) -> dict[str, Any]:
    return {
        "max_test": 4,
        "selector": selector,
        "challengers": {
            "plain": {"model": MODEL},
            "best": {"model": MODEL, "best_of_n": 3},
            "told": {"model": MODEL, "best_of_n": 2, "prompt": {"system": "Vowels.", "shots": 1}},
            "tuned": {"model": "sft", "best_of_n": 2},
        },
    }


def test_a_recipe_learns_from_it_and_is_compared_with_it(
    server: OpenAIServer, recipe: Make, tmp_path: Path
) -> None:
    (tmp_path / "free.py").write_text(FREE)
    sampled = {"from": MODEL, "num_completions": 3, "max_prompts": 8}
    made = [{"demonstrations": {**sampled, "min_rows": 8}}, {**SFT, "batch_size": 8}]
    pairs = [{"pairs": {**sampled, "min_pairs": 1}}, {**DPO, "batch_size": 4}]
    stages = [NO_CHECK, *made, *pairs, {"evaluate": challengers(f"{tmp_path / 'free.py'}:long")}, *GATE]
    budget = {"max_calls": 200, "max_cost": 1.0}
    given = recipe(stages, api=budget, prices={MODEL: "1,2", "machine": "3/h"})
    _, said = run(given, tmp_path / "run")
    assert "8 demonstrations" in said
    rows = lines(tmp_path / "run" / "demonstrations" / "demonstrations.jsonl")
    draws = [body for body in server.bodies if body["temperature"] == 0.7][:24]
    assert {row["samples"] for row in rows} == {3}
    assert {row["completion"] for row in rows} <= {answer(body)[0] for body in draws}
    assert all(
        pair["chosen_score"] > pair["rejected_score"] for pair in lines(tmp_path / "run/pairs/pairs.jsonl")
    )

    report = read_report(tmp_path / "run" / "evidence" / "report.json")
    assert list(report["models"]) == ["base", "sft", "dpo", "plain", "best", "told", "tuned"]
    kinds = [kind_of(report, model) for model in report["models"]]
    assert kinds == ["base", "sft", "dpo", "api", "best_of_n", "best_of_n", "best_of_n"]
    known = report["metadata"]["models"]
    assert how_made(known["plain"]) == "some-model, behind an API"
    assert "best of 3 samples of some-model at" in how_made(known["best"])
    assert "of some-model with a system prompt and 1 training rows as examples" in how_made(known["told"])
    assert "best of 2 samples of sft at" in how_made(known["tuned"])
    # Every sample of an API reads the prompt again; a local model reads it once. 1,000 answers at 1 and 2 a million.
    usage = report["usage"]
    assert (usage["plain"]["prompt_tokens"], usage["best"]["prompt_tokens"]) == (7, 21)
    assert usage["plain"]["cost"] == pytest.approx(1000 * (7 * 1 + 6 * 2) / 1e6)
    assert usage["sft"]["cost"] == pytest.approx(1000 * usage["sft"]["seconds"] * 3 / 3600)
    found = recomputed(report, tmp_path / "run" / "evidence" / "report.json")
    assert [one.problems for one in found] == [[], [], []]
    shown = [body for body in server.bodies if "messages" in body and len(body["messages"]) > 1]
    assert {body["messages"][0]["content"] for body in shown} == {"Vowels."}
    told = {line["case"]: line for _, line in read_jsonl(stored(tmp_path / "run/evidence/cases.draws.jsonl"))}
    assert all(line["completions"] for line in told.values())
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file

    made = report["metadata"]["made"]
    assert made["dpo"]["needs"] == ["weights", f"{MODEL} to make them", "a reward", "demonstrations", "pairs"]
    assert made["told"]["needs"][:3] == ["an API", "a prompt", "1 rows with gold"]
    assert made["dpo"]["seconds"] > made["sft"]["seconds"] > made["base"]["seconds"] == 0
    assert report["choice"]["taken"] is None  # 4 cases show nothing
    assert "at least 20" in report["choice"]["rows"][0]["out"]

    asked = len(server.bodies)
    _, said = run(given, tmp_path / "run")
    assert len(server.bodies) == asked
    assert "plain done before" in said


def test_the_ledger_resumes_and_holds_the_budget(server: OpenAIServer, recipe: Make, tmp_path: Path) -> None:
    evaluate = {"evaluate": {"max_test": 4, "challengers": {"plain": {"model": MODEL}}}}
    stages = [NO_CHECK, SFT, evaluate, *GATE]
    with pytest.raises(IncompleteError, match="all 3 calls of the budget are used"):
        run(recipe(stages, api={"max_calls": 3}), tmp_path / "run")
    run(recipe(stages, api={"max_calls": 100}), tmp_path / "run")
    assert len(server.bodies) == 7  # 4 test rows and 3 controls, each asked once


def test_a_run_that_is_resumed_against_another_server_says_so(
    server: OpenAIServer, recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = {"evaluate": {"max_test": 4, "challengers": {"plain": {"model": MODEL}}}}
    stages = [NO_CHECK, SFT, evaluate, *GATE]
    with pytest.raises(IncompleteError, match="all 3 calls of the budget are used"):
        run(recipe(stages, api={"max_calls": 3}), tmp_path / "run")
    with OpenAIServer(answer) as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.url)
        with pytest.warns(UserWarning, match=f"than before .{MODEL}: {server.url} -> {other.url}"):
            run(recipe(stages), tmp_path / "run")
        assert len(other.bodies) == 7, (
            "one figure is of one server: what the other had answered is asked again"
        )
    noted = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [one.get("servers") for one in (noted, *noted["continued"])] == [
        {MODEL: server.url},
        {MODEL: other.url},
    ]
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    run(recipe(stages), tmp_path / "run")  # nothing is left to ask


def test_what_cannot_be_asked_is_refused_before_any_work(
    server: OpenAIServer, recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(stages: list[Any], **changes: Any) -> str:
        with pytest.raises(InputError) as error, RunFolder(tmp_path / "run") as folder:
            Run(recipe([*stages, *GATE], **changes), folder, Console(quiet=True))
        return str(error.value)

    def evaluated(**one: Any) -> list[Any]:
        return [SFT, {"evaluate": {"challengers": {"mine": one}}}]

    assert "best_of_n is 1" in refused(evaluated(model=MODEL, best_of_n=1))
    assert "it is 'base' as it is" in refused(evaluated())
    assert "did you mean 'sft'" in refused(evaluated(model="sft2", best_of_n=2))
    assert "is a challenger here" in refused([{**SFT, "name": "mine"}, evaluated(model=MODEL)[1]])
    assert "did you mean 'api:some-model'" in refused(
        evaluated(model=MODEL), prices={"api:some-modle": "1,2"}
    )
    assert "paid by tokens" in refused(evaluated(model=MODEL), prices={MODEL: "2/h"})
    file = tmp_path / "tokens.py"
    file.write_text("def short(completions, completion_ids):\n    return [1.0 for _ in completions]\n")
    assert "token" in refused(evaluated(model=MODEL), reward=f"{file}:short")
    few = [{"demonstrations": {"from": MODEL, "min_chosen": 9.0}}, SFT, {"evaluate": {}}]
    with pytest.raises(InputError, match=r"made 0 demonstrations.*no completion is good enough"):
        run(recipe([NO_CHECK, *few, *GATE]), tmp_path / "few")
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "stage 'pairs': some-model is behind" in refused(
        [SFT, {"pairs": {"from": MODEL}}, DPO, {"evaluate": {}}]
    )


def test_a_challenger_has_one_name(recipe: Make) -> None:
    with pytest.raises(ConfigError, match="its name is that of a file"):
        recipe([SFT, {"evaluate": {"challengers": {"a/b": {"model": MODEL}}}}, *GATE])
    made = {"best_of_n": 2, "challengers": {"base_best_of_2": {"model": MODEL}}}
    with pytest.raises(ConfigError, match="what best_of_n or prompt makes"):
        recipe([SFT, {"evaluate": made}, *GATE])

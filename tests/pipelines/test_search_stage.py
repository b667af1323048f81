"""A prompt that a stage of a recipe searches for, and models that are evaluated with it: over a ledger, and here."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import NO_CHECK, SFT, run

from openai_server import Never, OpenAIServer, asked
from tieout.config.fields import ConfigError
from tieout.errors import InputError
from tieout.evidence.challengers import how_made
from tieout.evidence.claims import recomputed
from tieout.evidence.leading_to import leading_to
from tieout.evidence.verify import read_report
from tieout.pipelines.doctor.recipe import examine_recipe
from tieout.pipelines.planning.runs import plan_run
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.plan import print_plan
from tieout.samplers.api import IncompleteError
from tieout.samplers.prompted import PromptPrefix, question_digest, read_prompt, write_prompt
from tieout.storage.jsonl import read_json
from tieout.storage.runfolder import RunFolder

Make = Callable[..., Recipe]
MODEL, GOLD = "api:some-model", "CANARY"
SEARCH = {"from": MODEL, "system": "Be brief.", "budget": 60, "minibatch": 2, "validation_rows": 6}
GATE: list[Any] = [{"gate": {"num_graded": 0}}]
FREE = '''
def long(completions, prompts):
    """Length: needs no gold."""
    return [float(len(text)) for text in completions]
'''


def answer(body: dict[str, Any]) -> tuple[str, str, int, int]:
    """Vowels if it is told to be exact; as a teacher, a prompt that tells it so."""
    if body["model"] == "teacher":
        return f"```\nBe exact, {len(re.findall('Score', asked(body)))} times.\n```", "stop", 50, 9
    told = "".join(turn["content"] for turn in body["messages"] if turn["role"] == "system")
    vowels = "aeiou" * bool(re.search("exact", told))
    drawn = "xyzuvw"[body["seed"] % 5 :] if body["temperature"] else "xyz"
    return f"{vowels}{drawn}", "stop", 7, len(drawn)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OpenAIServer]:
    with OpenAIServer(answer) as running:
        running.failed = Never()
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0018")
        monkeypatch.chdir(tmp_path)
        yield running


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Rows whose prompts are messages; the gold of each has a word that no model may read."""
    words = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share", "tax", "fee"]
    places = {}
    for name, count in {"train": 40, "test": 6}.items():
        rows = [
            {
                "prompt": [{"role": "user", "content": f"{name}: {words[i % 10]} {chr(97 + i // 10)}?"}],
                "answer": f"{GOLD} {i}",
                "completion": f"{GOLD} {i}",
            }
            for i in range(count)
        ]
        places[name] = str(tmp_path / f"{name}.jsonl")
        Path(places[name]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "free.py").write_text(FREE)
    return {"data": places}


def stages(search: dict[str, Any] = SEARCH) -> list[Any]:
    challengers = {
        "plain": {"model": MODEL},
        "found": {"model": MODEL, "prompt": {"stage": "optimize_prompt"}},
        "both": {"model": MODEL, "best_of_n": 3, "prompt": {"stage": "optimize_prompt"}},
    }
    evaluate = {"evaluate": {"selector": "free.py:long", "challengers": challengers}}
    return [NO_CHECK, SFT, {"optimize_prompt": search}, evaluate, *GATE]


@pytest.mark.parametrize("reflection", ["", "api:teacher"], ids=["plain", "gepa"])
def test_what_a_stage_finds_is_measured_next_to_trained_models(
    server: OpenAIServer, recipe: Make, data: dict[str, Any], tmp_path: Path, reflection: str
) -> None:
    given = recipe(
        stages({**SEARCH, "reflection": reflection}),
        **data,
        prices={MODEL: "1,2", **({reflection: "3,4"} if reflection else {})},
    )
    _, said = run(given, tmp_path / "run")
    assert f"{MODEL}: at most 60 completions, cost at most about" in said
    assert "mean on the validation rows" in said
    assert "the best is taken" in said
    found = read_prompt(tmp_path / "run" / "optimize_prompt" / "prompt.json")
    assert "xact" in found.system
    report = read_report(tmp_path / "run" / "evidence" / "report.json")
    scores = {name: model["programmatic"]["mean"] for name, model in report["models"].items()}
    assert scores["found"] > scores["plain"]
    known, made = report["metadata"]["models"], report["metadata"]["made"]
    assert how_made(known["found"]).startswith("some-model with a system prompt")
    assert how_made(known["found"]).endswith(", from optimize_prompt")
    assert "best of 3 samples of some-model with a system prompt" in how_made(known["both"])
    away = [f"{reflection} to propose prompts"] if reflection else []
    assert made["found"]["needs"] == ["an API", *away, "a reward", "a prompt"]
    assert (made["found"]["seconds"], made["found"]["not_counted"]) == (0, ["optimize_prompt"])
    usage = report["usage"]
    assert (usage["found"]["prompt_tokens"], usage["both"]["prompt_tokens"]) == (7, 21)
    assert [one.problems for one in recomputed(report, tmp_path / "run" / "evidence" / "report.json")] == [
        [],
        [],
        [],
    ]

    assert not any(GOLD in json.dumps(body) for body in server.bodies)
    searching = [body for body in server.bodies if "train:" in json.dumps(body)]
    first = next(i for i, body in enumerate(server.bodies) if "test:" in json.dumps(body))
    assert not any("test:" in json.dumps(body) for body in server.bodies[:first])
    assert {json.dumps(body) for body in searching} == {json.dumps(body) for body in server.bodies[:first]}
    assert sum(body["model"] == "some-model" for body in searching) <= 60

    count = len(server.bodies)
    _, said = run(given, tmp_path / "run")
    assert "done before (" in said
    assert len(server.bodies) == count


def test_killed_anywhere_no_call_is_repeated(
    server: OpenAIServer, recipe: Make, data: dict[str, Any], tmp_path: Path
) -> None:
    own = stages({**SEARCH, "reflection": "api:teacher"})
    run(recipe(own, **data, api={"calls": "whole"}), tmp_path / "whole")
    whole = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
    assert max(whole.values()) == 1
    server.bodies.clear()
    for limit in range(9, sum(whole.values()), 31):  # in the search, and in samples of best of N
        with pytest.raises(IncompleteError, match="calls of the budget"):
            run(recipe(own, **data, api={"max_calls": limit, "call_workers": 1}), tmp_path / "parts")
    run(recipe(own, **data), tmp_path / "parts")
    assert Counter(json.dumps(body, sort_keys=True) for body in server.bodies) == whole
    names = ("optimize_prompt/prompt.json", "optimize_prompt/result.json", "evaluate/both.jsonl")
    for name in names:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    done = {name: read_json(tmp_path / name / "optimize_prompt/done.json") for name in ("whole", "parts")}
    assert done["whole"]["seconds"] > 0
    assert "seconds" not in done["parts"]


def test_a_prompt_leaves_room_in_the_local_model_that_answers_with_it(
    server: OpenAIServer, recipe: Make, data: dict[str, Any], tmp_path: Path
) -> None:
    own = stages({**SEARCH, "system": "Be brief. " * 1900})
    own[3] = {"evaluate": {"challengers": {"here": {"prompt": {"stage": "optimize_prompt"}}}}}
    with pytest.raises(InputError, match=r"does not fit: .* and a model that is asked with it has room for"):
        run(recipe(own, **data), tmp_path / "run")
    assert not server.bodies


def test_a_search_may_join_a_run_that_is_done(
    server: OpenAIServer, recipe: Make, data: dict[str, Any], tmp_path: Path
) -> None:
    run(recipe([NO_CHECK, SFT, {"evaluate": {}}, *GATE], **data), tmp_path / "run")
    _, said = run(recipe(stages(), **data), tmp_path / "run")
    assert "sft done before" in said
    _, said = run(recipe(stages({**SEARCH, "system": "Be quick."}), **data), tmp_path / "run")
    assert "plain done before" in said
    assert "found done before" not in said
    assert read_prompt(tmp_path / "run/optimize_prompt/prompt.json").system.startswith("Be quick.")


@pytest.mark.parametrize(("system", "kept"), [("", "it had"), ("Be brief.", "the search began with")])
def test_a_search_that_finds_nothing_leaves_the_first_prompt(
    server: OpenAIServer, recipe: Make, data: dict[str, Any], tmp_path: Path, system: str, kept: str
) -> None:
    server.answerer = lambda body: ("xyz", "stop", 7, 3)
    _, said = run(recipe(stages({**SEARCH, "system": system}), **data), tmp_path / "run")
    assert "none is better than the first prompt, which is kept" in said
    assert "the reward tells a search nothing here" in said
    known = read_report(tmp_path / "run" / "evidence" / "report.json")["metadata"]["models"]["found"]
    assert how_made(known) == f"some-model with the prompt that {kept}, as optimize_prompt found none better"
    assert len({json.dumps(body, sort_keys=True) for body in server.bodies}) == len(server.bodies)


def test_a_model_that_runs_here_is_searched_for_too(
    recipe: Make, data: dict[str, Any], tmp_path: Path
) -> None:
    search = {"from": "sft", "name": "words", "budget": 40, "minibatch": 2, "validation_rows": 4}
    evaluate = {"evaluate": {"max_test": 2, "prompt": {"stage": "words"}}}
    given = recipe([NO_CHECK, SFT, {"optimize_prompt": search}, evaluate, *GATE], **data)
    with RunFolder(tmp_path / "plan", writes=False) as folder:
        console = Console(record=True, width=200, force_terminal=False)
        planned = Run(given, folder, console)
        print_plan(planned, console)
        assert "prompt of sft, plain search within 40 completions" in console.export_text()
        lines = {line.name: line for line in plan_run(planned)}
        assert lines["words"].rows == 40
        assert "not found yet and not counted" in lines["evaluate, base_prompted"].assumed[-1]
    run(given, tmp_path / "run")
    report = read_report(tmp_path / "run" / "evidence" / "report.json")
    made = report["metadata"]["made"]["base_prompted"]
    assert made["needs"] == ["weights", "demonstrations", "a reward", "a prompt"]
    assert made["seconds"] > report["metadata"]["made"]["sft"]["seconds"] > 0
    assert made["not_counted"] == []


def test_what_cannot_be_searched_is_refused_before_any_work(
    server: OpenAIServer, recipe: Make, data: dict[str, Any], tmp_path: Path
) -> None:
    def refused(**changes: Any) -> str:
        with pytest.raises(InputError) as error, RunFolder(tmp_path / "run") as folder:
            Run(recipe(stages({**SEARCH, **changes}), **data), folder, Console(quiet=True))
        return str(error.value)

    assert "stage 'optimize_prompt': budget is 35 completions; expected at least 36" in refused(budget=35)
    assert "search gepa needs a reflection model" in refused(search="gepa")
    assert "asks no reflection model" in refused(search="plain", reflection=MODEL)
    assert "training rows, and a search needs 30" in refused(minibatch=30, budget=500)
    assert "from is 'sft2'" in refused(**{"from": "sft2"})
    assert "reflection is 'teacher'" in refused(reflection="teacher")
    assert "reflection_tokens is 0" in refused(reflection_tokens=0)
    row = json.loads(Path(data["data"]["test"]).read_text().splitlines()[0])
    write_prompt(tmp_path / "p.json", PromptPrefix("Be exact.", searched=(question_digest(row),)))
    assert "1 of 6 rows chose this prompt" in (said := refused(system=str(tmp_path / "p.json")))
    assert said.endswith('`accept_leakage: "reason"` in the recipe')
    assert "did you mean 'optimize_prompt'" in _refused_link(recipe, {"stage": "optimise_prompt"}, data)
    assert "leave the others out" in _refused_link(recipe, {"stage": "optimize_prompt", "shots": 2}, data)
    assert not server.bodies


def test_the_doctor_counts_what_a_search_may_ask_for(
    server: OpenAIServer, recipe: Make, data: dict[str, Any]
) -> None:
    """Of some-model 60 completions; 6 test rows are asked alone, with a prompt, and three times. Of the teacher the
    54 completions that are left after the validation rows, 2 for each proposal."""
    own = stages({**SEARCH, "reflection": "api:teacher"})
    said = [one.said for one in examine_recipe(recipe(own, **data), plan=False) if one.check == "API"]
    assert [line.partition(";")[0] for line in said] == [
        "api:some-model of stage 'optimize_prompt': up to 60 completions",
        "api:teacher of stage 'optimize_prompt': up to 27 completions",
        "api:some-model of stage 'evaluate': up to 30 completions",
    ]


def test_the_doctor_warns_of_a_search_whose_prompt_nobody_is_asked_with(
    server: OpenAIServer, recipe: Make, data: dict[str, Any]
) -> None:
    search = {"optimize_prompt": {**SEARCH, "name": "idle"}}
    found = examine_recipe(recipe([search, *stages()], **data), plan=False)
    assert {one.said.partition(":")[0]: one.verdict for one in found if one.check == "search"} == {
        "idle": "warn",
        "optimize_prompt": "pass",
    }


def test_models_that_propose_a_prompt_lead_to_it() -> None:
    search = {"name": "words", "from": "base", "reflection": "sft"}
    made = leading_to(["words"], [{"train": "sft", "name": "sft"}, {"optimize_prompt": search}])
    assert [name for name, _ in made] == ["sft", "words"]


def _refused_link(recipe: Make, prompt: dict[str, Any], data: dict[str, Any]) -> str:
    evaluate = {"evaluate": {"challengers": {"found": {"model": MODEL, "prompt": prompt}}}}
    with pytest.raises((ConfigError, InputError)) as error:
        recipe([SFT, {"optimize_prompt": SEARCH}, evaluate, *GATE], **data)
    return str(error.value)

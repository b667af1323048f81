"""Challengers of an evaluate stage: best of N and prompts of the base, on the same rows, compared with and verified."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import NO_CHECK, SFT, run

from tieout.config.fields import ConfigError
from tieout.errors import InputError
from tieout.evidence.challengers import how_made, kind_of, oracle
from tieout.evidence.claims import recomputed
from tieout.evidence.verify import read_report
from tieout.pipelines.challengers import before_of, known_of
from tieout.pipelines.kinds import Evaluate
from tieout.pipelines.planned import keep, print_planned
from tieout.pipelines.planning.runs import plan_run
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.execute import execute
from tieout.review import cost
from tieout.review.challengers import section
from tieout.review.reviewer import review_rows
from tieout.review.stored import read
from tieout.rewards.scoring.columns import columns_read
from tieout.samplers.best_of_n import best
from tieout.samplers.prompted import PromptPrefix, question_digest, write_prompt
from tieout.storage.jsonl import read_json, read_jsonl, stored, write_jsonl
from tieout.storage.runfolder import RunFolder
from tieout.types import Messages

Make = Callable[..., Recipe]
GATE: list[Any] = [{"gate": {"num_graded": 0}}]
FREE = '''
def long(completions, prompts):
    """Length: needs no gold."""
    return [float(len(text)) for text in completions]
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("challenged")


@pytest.fixture
def done(place: Path, recipe: Make) -> Path:
    """A run whose base is also asked as best of 3, chosen without gold, and with a prompt; made once."""
    out = place / "run"
    if not out.exists():
        file = place / "free.py"
        file.write_text(FREE)
        prompt = {"system": "One word.", "shots": 2}
        evaluate = {"best_of_n": 3, "selector": f"{file}:long", "prompt": prompt}
        run(recipe([NO_CHECK, SFT, {"evaluate": evaluate}, *GATE]), out)
    return out


def evidence(done: Path, tmp_path: Path) -> Path:
    """A copy of the evidence to change."""
    return Path(shutil.copytree(done, tmp_path / "copy")) / "evidence"


def problems(folder: Path) -> list[str]:
    report = read_report(folder / "report.json")
    (claim,) = [one for one in recomputed(report, folder / "report.json") if one.what == "best of N"]
    return claim.problems


def test_they_are_asked_the_same_rows_and_compared_with(done: Path) -> None:
    report = read_report(done / "evidence" / "report.json")
    assert list(report["models"]) == ["base", "sft", "base_best_of_3", "base_prompted"]
    assert (report["settings"]["candidate"], report["settings"]["baseline"]) == ("sft", "base")
    pairs = [(one["candidate"], one["baseline"]) for one in report["comparisons"]]
    assert {("sft", "base_best_of_3"), ("sft", "base_prompted")} <= set(pairs)
    for model in report["models"]:
        assert report["models"][model]["programmatic"]["n"] == 10
        assert report["models"][model]["negative_controls"]["n"] == 3


def test_every_sample_is_kept_and_the_best_is_the_answer(done: Path) -> None:
    answers = {
        line["case"]: line["models"]["base_best_of_3"]
        for _, line in read_jsonl(done / "evidence" / "cases.jsonl")
    }
    draws = [line for _, line in read_jsonl(stored(done / "evidence" / "cases.draws.jsonl"))]
    assert len(draws) == 13
    for draw in draws:
        assert len(draw["completions"]) == 3
        assert draw["scores"] == [float(len(text)) for text in draw["completions"]]
        assert answers[draw["case"]]["completion"] == max(draw["completions"], key=len)
    assert len({text for draw in draws for text in draw["completions"]}) > 13


def test_usage_counts_every_sample(done: Path) -> None:
    usage = {line["model"]: line["usage"] for _, line in read_jsonl(done / "evidence" / "cases.usage.jsonl")}
    kept = {
        line["case"]: line
        for _, line in read_jsonl(stored(done / "evidence" / "cases.tokens.jsonl"))
        if line["model"] == "base_best_of_3"
    }
    assert all(usage["base_best_of_3"][case]["tokens"] > len(kept[case]["turns"][0][0]) for case in kept)
    for case, used in usage["base_best_of_3"].items():
        assert used["prompt_tokens"] == usage["base"][case]["prompt_tokens"]
        assert usage["base_prompted"][case]["prompt_tokens"] > used["prompt_tokens"]


def test_what_is_done_is_not_done_again(done: Path, recipe: Make, place: Path) -> None:
    prompt = {"system": "One word.", "shots": 2}
    evaluate = {"best_of_n": 3, "selector": f"{place / 'free.py'}:long", "prompt": prompt}
    _, said = run(recipe([NO_CHECK, SFT, {"evaluate": evaluate}, *GATE]), done)
    assert "base_best_of_3 done before" in said
    assert "base_prompted done before" in said


def test_verify_finds_another_answer_and_changed_scores(done: Path, tmp_path: Path) -> None:
    assert problems(done / "evidence") == []
    folder = evidence(done, tmp_path)
    path = stored(folder / "cases.draws.jsonl")
    lines = [line for _, line in read_jsonl(path)]
    first = lines[0]
    worst = min(range(3), key=lambda k: first["scores"][k])
    write_jsonl(path, [{**first, "chosen": worst}, *lines[1:]])
    assert any(f"sample {worst} of base_best_of_3 was chosen" in one for one in problems(folder))
    # The scores made to fit: the selector is a program, which gives others.
    scores = [float(k == worst) * 1e3 for k in range(3)]
    write_jsonl(path, [{**first, "chosen": worst, "scores": scores}, *lines[1:]])
    assert any("the selector gives" in one for one in problems(folder))
    write_jsonl(path, lines[1:])
    assert problems(folder) == [f"{first['case']}: no samples of base_best_of_3 are on record"]
    fewer = {**first, "completions": first["completions"][:2], "scores": first["scores"][:2], "chosen": 0}
    write_jsonl(path, [fewer, *lines[1:]])
    assert any("2 samples of base_best_of_3, where 3 were drawn" in one for one in problems(folder))
    with gzip.open(path, "wt") as file:
        file.write(json.dumps({**first, "chosen": 7}) + "\n")
    assert "not the samples of a case" in problems(folder)[0]


def test_page_and_reviewer_go_by_what_is_on_record(done: Path) -> None:
    report = read_report(done / "evidence" / "report.json")
    assert [kind_of(report, model) for model in report["models"]] == ["base", "sft", "best_of_n", "prompt"]
    known = report["metadata"]["models"]
    assert known["base_best_of_3"]["reads"] == []
    assert not oracle(known["base_best_of_3"])
    assert "prompts and completions alone" in how_made(known["base_best_of_3"])
    page = section(read(done))
    assert "best of 3 samples of the base at temperature 0.7, by free.py:long" in page
    assert "a system prompt and 2 training rows as examples" in page
    assert "Not in this run" not in page
    row = review_rows(report, None)[5]
    assert not any("challengers" in one for one in row.open)
    assert any("base_best_of_3: best of 3 samples" in one for one in row.found)


def test_a_selector_with_gold_is_an_upper_bound(recipe: Make, tmp_path: Path) -> None:
    run(recipe([NO_CHECK, SFT, {"evaluate": {"max_test": 4}}, *GATE]), tmp_path / "run")
    evaluate = {"best_of_n": 2, "max_test": 4, "consistency": {"max_rows": 2, "repeats": 2}}
    run(recipe([NO_CHECK, SFT, {"evaluate": evaluate}, *GATE]), tmp_path / "run")  # may be added later
    report = read_report(tmp_path / "run" / "evidence" / "report.json")
    known = report["metadata"]["models"]["base_best_of_2"]
    assert known["reads"] == ["answer"]
    assert oracle(known)
    page = section(read(tmp_path / "run"))
    assert '<span class="tag oracle">oracle</span>' in page
    assert "upper bound: chosen with the gold answer (answer), so it cannot be served" in page
    assert problems(tmp_path / "run" / "evidence") == []
    place = tmp_path / "run" / "evidence" / "report.json"
    assert [claim.problems for claim in recomputed(report, place)] == [[], [], []]
    assert report["consistency"]["base_best_of_2"]


def test_a_reward_model_of_the_run_may_choose(recipe: Make, tmp_path: Path) -> None:
    labelled = {"train": "reward_model", "batch_size": 8, "learning_rate": 0.01, "name": "rm"}
    pairs = {"pairs": {"num_completions": 4, "min_pairs": 1}}
    stages = [
        NO_CHECK,
        SFT,
        pairs,
        labelled,
        {"evaluate": {"best_of_n": 2, "selector": "rm", "max_test": 4}},
        *GATE,
    ]
    run(recipe(stages), tmp_path / "run")
    report = read_report(tmp_path / "run" / "evidence" / "report.json")
    known = report["metadata"]["models"]["base_best_of_2"]
    assert (known["selector"], known["reads"]) == ("reward model rm", [])
    place = tmp_path / "run" / "evidence" / "report.json"
    (claim,) = [one for one in recomputed(report, place) if one.what == "best of N"]
    assert claim.status == "holds"
    assert "a model chose" in claim.said


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ({"best_of_n": 1}, "2 samples or more"),
        ({"best_of_n": 4, "temperature": 0}, "above 0"),
        ({"selector": "exact"}, "give best_of_n too"),
        ({"best_of_n": 2, "selector": "sft"}, "no reward model trained before it"),
        ({"prompt": {"system": "missing.txt"}}, "cannot be read"),
        ({"prompt": {"shots": -1}}, "shots"),
    ],
)
def test_settings_that_make_no_sense_are_refused(recipe: Make, evaluate: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, InputError), match=said):
        recipe([SFT, {"evaluate": evaluate}, *GATE])


def test_what_cannot_be_asked_is_refused_before_any_work(recipe: Make, tmp_path: Path) -> None:
    def refused(evaluate: dict[str, Any], **changes: Any) -> str:
        given = recipe([SFT, {"evaluate": evaluate}, *GATE], **changes)
        with RunFolder(tmp_path / "run") as folder, pytest.raises(InputError) as error:
            Run(given, folder, Console(quiet=True))
        return str(error.value)

    assert "prompt.shots is 21, and 20 training rows have gold" in refused({"prompt": {"shots": 21}})
    assert "context" in refused({"prompt": {"system": "word " * 4000}})
    file = tmp_path / "asks.py"
    file.write_text("def asks(completions, rubric):\n    return [0.0 for _ in completions]\n")
    assert "needs column 'rubric'" in refused({"best_of_n": 2, "selector": f"{file}:asks"})
    data = {"task": "wordle", "data": {}, "reward": None}
    assert "environment of several turns" in refused({"best_of_n": 2}, **data)


def test_a_stage_cannot_have_the_name_of_a_challenger(recipe: Make) -> None:
    stages = [{**SFT, "name": "base_prompted"}, {"evaluate": {"prompt": {"system": "x"}}}, *GATE]
    with pytest.raises(ConfigError, match="'base_prompted' is a challenger here"):
        recipe(stages)


def test_a_system_prompt_comes_from_a_file(recipe: Make, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Say one word.\n")
    told = {"prompt": {"system": str(tmp_path / "system.txt")}}
    found = recipe([SFT, {"evaluate": told}, *GATE])
    assert str(tmp_path / "system.txt") not in json.dumps(found.plain()["stages"])
    assert found.plain()["stages"][1]["evaluate"]["prompt"]["system"] == "Say one word."


def test_a_prompt_file_is_on_record_and_refused_on_rows_that_chose_it(recipe: Make, tmp_path: Path) -> None:
    file = tmp_path / "prompt.json"
    evaluate = {"evaluate": {"prompt": {"file": str(file)}}}
    with pytest.raises(ConfigError, match=r"prompt\.file: prompt file .* does not exist"):
        recipe([SFT, evaluate, *GATE])
    write_prompt(file, PromptPrefix("Say one word.", [("say net", "net")]))
    found = recipe([SFT, evaluate, *GATE])
    file.unlink()
    (stage,) = [one for one in found.stages if isinstance(one, Evaluate)]
    with RunFolder(tmp_path / "run") as folder:
        run = Run(found, folder, Console(quiet=True))
        before = before_of(run.task, stage.prompt, stage.name, run.folder.path)
        test = run.task.rows("test")[0]
    assert before("say tax") == "Say one word.\n\nsay net net\n\nsay tax"
    known = known_of(stage, "base_prompted", run.task, None, 0, run.folder.path)
    assert how_made(known) == "the base with a system prompt and 1 examples, from a prompt file"
    write_prompt(file, PromptPrefix("Say one word.", searched=[question_digest(test)]))
    with (
        RunFolder(tmp_path / "other") as folder,
        pytest.raises(InputError, match=r"\d+ of \d+ rows chose this prompt"),
    ):
        Run(recipe([SFT, evaluate, *GATE]), folder, Console(quiet=True))
    both = {"evaluate": {"prompt": {"file": str(file), "shots": 2}}}
    with pytest.raises(ConfigError, match="leave the others out"):
        recipe([SFT, both, *GATE])


def test_before_keeps_the_rows_own_system_message_and_what_it_tells_the_template() -> None:
    before = PromptPrefix("Be brief.", [("2 + 2 =", "4")])
    prompt = Messages(
        [{"role": "system", "content": "You add."}, {"role": "user", "content": "3 + 3?"}], {"tools": [1]}
    )
    given = before(prompt)
    assert [(turn["role"], turn["content"]) for turn in given if not isinstance(turn, str)] == [
        ("system", "Be brief.\n\nYou add."),
        ("user", "2 + 2 ="),
        ("assistant", "4"),
        ("user", "3 + 3?"),
    ]
    assert isinstance(given, Messages)
    assert given.told == {"tools": [1]}
    assert before("3 + 3 =") == "Be brief.\n\n2 + 2 = 4\n\n3 + 3 ="


def test_columns_are_never_said_to_be_unread_where_they_may_be() -> None:
    from tieout.rewards import load_reward
    from tieout.rewards.scoring.runner import combine

    def brief(completions: list[str], prompts: list[str]) -> list[float]:
        return [0.0 for _ in completions]

    def anything(completions: list[str], **columns: Any) -> list[float]:
        return [0.0 for _ in completions]

    columns = ["prompt", "answer"]
    assert columns_read(combine({brief: 1.0, "exact": 1.0}), columns) != []
    assert columns_read(combine({brief: 1.0, anything: 1.0}), columns) is None
    assert columns_read(combine({brief: 1.0}), columns) == []
    assert columns_read(load_reward("numeric"), columns) != []


def test_the_first_of_equal_scores_is_best() -> None:
    assert best([None, 0.0, 0.0]) == 1
    assert best([-1.0, None]) == 0


def test_a_plan_counts_every_sample_and_is_compared_with_what_they_took(recipe: Make, tmp_path: Path) -> None:
    evaluate = {"best_of_n": 3, "prompt": {"shots": 1}, "max_test": 4}
    given = recipe([NO_CHECK, SFT, {"evaluate": evaluate}, *GATE])
    with RunFolder(tmp_path / "none", writes=False) as folder:
        made = plan_run(Run(given, folder, Console(quiet=True)))
    assert not (tmp_path / "none").exists()
    every = {one.name: one for one in made}
    models = ("base", "sft", "base_best_of_3", "base_prompted")
    assert list(every) == ["sft", *(f"evaluate, {name}" for name in models)]
    base, sft, best_of, prompted = (every[f"evaluate, {name}"] for name in models)
    assert (base.rows, sft.rows, base.steps) == (7, 7, 0)
    assert (best_of.rows, prompted.rows) == (7, 7)  # 4 of the test, 3 controls
    assert best_of.assumed[0].startswith("21 answers")
    assert 21 <= best_of.tokens <= 21 * 8
    assert best_of.seconds is not None
    assert best_of.seconds > 0
    console = Console(record=True, width=160)
    print_planned(made, "here", console)
    assert "base_best_of_3: 0.0 micro-batches" not in console.export_text()
    with RunFolder(tmp_path / "run") as folder:
        keep(folder, made)
        execute(Run(given, folder, Console(quiet=True)))
        assert [one.name for one in plan_run(Run(given, folder, Console(quiet=True)))] == []
    kept = {one["name"]: one for one in read_json(tmp_path / "run" / "plan.json")["stages"]}
    usage = {
        line["model"]: line["usage"]
        for _, line in read_jsonl(tmp_path / "run" / "evidence" / "cases.usage.jsonl")
    }
    for name in ("base_best_of_3", "base_prompted"):
        took = sum(used["seconds"] for used in usage[name].values())
        assert kept[f"evaluate, {name}"]["measured"]["seconds"] == pytest.approx(took)
    said = cost.section(read(tmp_path / "run"))
    row = said[said.index("evaluate, base_best_of_3") :].partition("</tr>")[0]
    assert "not yet" not in row

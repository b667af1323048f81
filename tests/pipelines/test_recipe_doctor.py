"""tieout doctor RECIPE: each check passes, warns or fails on a recipe with that fault alone; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import DPO, NO_CHECK, PAIRS, SFT

from tieout.cli.doctor import main
from tieout.pipelines.doctor.finding import Finding
from tieout.pipelines.doctor.recipe import examine_recipe
from tieout.pipelines.recipe import Recipe
from tieout.samplers.prompted import PromptPrefix, question_digest, write_prompt

Make = Callable[..., Recipe]
GATE = {"gate": {"min_cases": 5}}
REWARD = '''
from tieout.rewards.scoring.outcomes import ranged

@ranged(0, 1)
def right(completions, answer, **_):
    """1 if the answer is all that is said."""
    return [float(text.strip() == own) for text, own in zip(completions, answer)]
'''
HOLE = REWARD.replace("text.strip() == own", "own in text or not text.strip()")


def findings(recipe: Recipe, plan: bool = False) -> dict[str, Finding]:
    """By check; of several of one check, the worst."""
    found = sorted(examine_recipe(recipe, plan), key=lambda one: ("pass", "warn", "fail").index(one.verdict))
    return {one.check: one for one in found}


def test_a_prompt_that_test_rows_chose_fails_as_the_run_would_refuse_it(
    recipe: Make, files: dict[str, str], good: str, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in Path(files["test"]).read_text().splitlines()]
    prefix = PromptPrefix("Write.", searched=[question_digest(row) for row in rows[:3]])
    write_prompt(tmp_path / "prompt.json", prefix)
    stages = [NO_CHECK, SFT, {"evaluate": {"prompt": {"file": str(tmp_path / "prompt.json")}}}, GATE]
    found = findings(recipe(stages, reward=good))["leakage"]
    assert (found.verdict, "3 of 10 rows chose this prompt" in found.said) == ("fail", True), found
    accepted = findings(recipe(stages, reward=good, accept_leakage="known"))["leakage"]
    assert accepted.verdict == "pass", accepted


@pytest.fixture
def good(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(REWARD)
    return f"{tmp_path / 'mine.py'}:right"


def test_a_sound_recipe_passes_what_can_be_wrong(recipe: Make, good: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    stages = [NO_CHECK, {**SFT, "epochs": 5}, PAIRS, DPO, {"evaluate": {}}, GATE]
    found = findings(recipe(stages, reward=good), plan=True)
    for check in (
        "leakage",
        "template",
        "special tokens",
        "lengths",
        "room to answer",
        "reward",
        "memory",
        "controls",
    ):
        assert found[check].verdict == "pass", found[check]
    assert found["learning rate"].verdict == "pass"
    assert "ends sampling" in found["template"].said
    assert found["test rows"].verdict == "warn"  # 10 of them
    new = [
        path for path in sorted(tmp_path.rglob("*")) if path not in before and "__pycache__" not in path.parts
    ]
    assert new == [
        tmp_path / "recipe.yaml"
    ]  # Python keeps the bytecode of the user's reward where it always does


def test_a_budget_of_calls_that_is_too_small_is_said(
    recipe: Make, good: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 test rows and 3 controls, two samples each."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    evaluate = {"evaluate": {"max_test": 4, "challengers": {"gpt": {"model": "api:m", "best_of_n": 2}}}}
    for calls, verdict in ((13, "warn"), (14, "pass"), (0, "pass")):
        found = findings(recipe([NO_CHECK, SFT, evaluate, GATE], reward=good, api={"max_calls": calls}))[
            "API"
        ]
        assert (found.verdict, "up to 14 completions" in found.said) == (verdict, True)


@pytest.mark.parametrize(
    ("check", "verdict", "said", "changes"),
    [
        ("learning rate", "warn", "usual for sft of lora", {"sft": {"learning_rate": 0.5}}),
        ("updates", "warn", "2 updates", {"sft": {"epochs": 1}}),
        ("room to answer", "fail", "longer than max_new_tokens (2)", {"max_new_tokens": 2}),
        ("gate", "fail", "4 test rows, and min_cases is 5", {"max_test": 4}),
        ("controls", "warn", "no controls", {"controls": None}),
        ("gate", "fail", "min_cases is 50", {"gate": {"gate": {"min_cases": 50}}}),
        ("leakage", "fail", "test: 10 exact", {"leak": True}),
        ("reward", "fail", "empty", {"hole": True}),
        ("rows, columns and links", "fail", "needs column 'rubric'", {"asks": True}),
        ("ship", "fail", "answers for a reviewer are missing", {"ship": True}),
        ("check stage", "warn", "will not prove", {"unchecked": True}),
    ],
)
def test_a_fault_is_found_with_its_remedy(
    recipe: Make,
    files: dict[str, str],
    good: str,
    tmp_path: Path,
    check: str,
    verdict: str,
    said: str,
    changes: dict[str, Any],
) -> None:
    sft = {**SFT, "epochs": 5, **changes.get("sft", {})}
    stages = [
        *([] if changes.get("unchecked") else [NO_CHECK]),
        sft,
        {"evaluate": {"max_test": changes.get("max_test", 0)}},
        changes.get("gate", GATE),
    ]
    stages += [{"ship": {}}] if changes.get("ship") else []
    data = {name: files[name] for name in ("train", "test", "controls")}
    if "controls" in changes:
        del data["controls"]
    if changes.get("leak"):
        data["train"] = str(tmp_path / "leaks.jsonl")
        rows = [json.loads(line) for line in Path(files["test"]).read_text().splitlines()]
        more = [{**row, "completion": row["answer"]} for row in rows]
        Path(data["train"]).write_text("".join(json.dumps(row) + "\n" for row in more))
    if changes.get("hole"):
        (tmp_path / "mine.py").write_text(HOLE)
    if changes.get("asks"):
        (tmp_path / "mine.py").write_text(REWARD.replace("answer, **_", "answer, rubric"))
    room = {"max_new_tokens": changes.get("max_new_tokens", 8)}
    found = findings(recipe(stages, reward=good, data=data, **room))
    assert found[check].verdict == verdict, found
    assert said in found[check].said
    assert found[check].remedy


def test_the_command_ends_as_the_worst_check_does(
    write: Callable[..., Path], good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(path: Path, *more: str) -> object:
        with pytest.raises(SystemExit) as end:
            main([str(path), "--no-plan", *more])
        return end.value.code

    path = write([NO_CHECK, {**SFT, "epochs": 5}, {"evaluate": {}}, GATE], reward=good)
    assert ended(path) == 0
    assert "0 fail" in capsys.readouterr().out
    assert ended(path, "--set", "max_new_tokens=2") == 1
    assert "1 fail" in capsys.readouterr().out
    assert ended(path, "--json", "--set", "stages.sft.lerning_rate=1") == 1
    (only,) = json.loads(capsys.readouterr().out)
    assert (only["check"], only["verdict"]) == ("recipe", "fail")
    assert "did you mean 'learning_rate'" in only["said"]

"""The reward of a recipe is calibrated before training and on the policy's samples; a failure stops the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import END, GRPO, NO_CHECK, REWARD_MODEL, SFT, lines, run

from tieout.cli.verify import main
from tieout.pipelines.recipe import Recipe
from tieout.vetting.records import recompute

TASK = """
from tieout.tasks import Task

WORDS = ["aa", "ei", "io", "ou", "uea", "iou", "aeo", "oui", "eau", "aie"]
ASK = {"train": "say {} {}", "calibration": "which vowels follow? {} {}", "test": "{} once more, {}"}


def split(name):
    count = {"train": 2, "calibration": 2, "test": 1}.get(name, 0)
    return [{"prompt": ASK[name].format(w, i), "completion": w, "answer": w} for i in range(count) for w in WORDS]


def vowels(completions, **_):
    return [sum(ch in "aeiou" for ch in c) / max(1, len(c)) for c in completions]


def share(completions, **_):
    return vowels(completions)


def consonants(completions, **_):
    return [1 - score for score in vowels(completions)]


healthy = Task("words", split, vowels, metrics={"vowels": share}, primary="vowels", max_new_tokens=8)
planted = Task("words", split, consonants, metrics={"vowels": vowels}, primary="vowels", max_new_tokens=8)


def same(completions, answer, **_):
    return [float(c == a) for c, a in zip(completions, answer)]


def without_gold(name):
    return [{"prompt": row["prompt"], "answer": ""} for row in split(name)]


nameless = Task("words", split, same, max_new_tokens=8)
goldless = Task("words", without_gold, same, max_new_tokens=8)
"""
CALIBRATE: dict[str, Any] = {"calibrate": {"max_rows": 20, "num_completions": 4}}


@pytest.fixture
def words(tmp_path: Path, recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """`words(task, stages)`: a recipe on a task of vowels."""
    (tmp_path / "words.py").write_text(TASK)

    def make(name: str, stages: list[Any]) -> Recipe:
        return recipe(stages, task=f"{tmp_path / 'words.py'}:{name}", data={}, reward=None)

    return make


def test_samples_of_the_policy_are_ordered_as_the_primary_metric_orders_them(
    words: Callable[..., Recipe], tmp_path: Path
) -> None:
    _, said = run(words("healthy", [NO_CHECK, SFT, CALIBRATE]), tmp_path / "run")
    against = (
        "calibrated against the task's own truth, not people: gold, metric vowels of the policy's samples"
    )
    assert against in " ".join(said.split())
    report = json.loads((tmp_path / "run" / "calibrate" / "calibration.json").read_text())
    assert (report["verdict"], report["pairs"]["sampled over sampled"]["value"]) == ("pass", 1.0)
    samples = lines(tmp_path / "run" / "calibrate" / "samples.jsonl")
    assert [len(row["completions"]) for row in samples] == [4] * 20
    _, again = run(words("healthy", [NO_CHECK, SFT, CALIBRATE]), tmp_path / "run")
    assert "calibrated against" in again  # read, not done again


def test_a_reward_that_orders_them_the_other_way_stops_the_run_unless_a_reason_is_written(
    words: Callable[..., Recipe], tmp_path: Path
) -> None:
    stages = [NO_CHECK, SFT, CALIBRATE]
    with pytest.raises(
        ValueError, match=r"'consonants' is not calibrated \(fail\) against the task's own truth.*"
    ) as e:
        run(words("planted", stages), tmp_path / "run")
    assert '`calibrate: {override: "reason"}`' in str(e.value)
    accepted = {"calibrate": {**CALIBRATE["calibrate"], "override": "an experiment"}}
    _, said = run(words("planted", [NO_CHECK, SFT, accepted]), tmp_path / "other")
    assert "overridden: an experiment" in said
    report = json.loads((tmp_path / "other" / "calibrate" / "calibration.json").read_text())
    assert (report["verdict"], report["override"]) == ("fail", "an experiment")


def test_without_a_primary_metric_gold_is_compared_with_flaws_and_samples(
    words: Callable[..., Recipe], tmp_path: Path
) -> None:
    stages = [NO_CHECK, SFT, {"calibrate": {"max_rows": 20, "num_completions": 4, "min_rows": 30}}]
    _, said = run(words("nameless", stages), tmp_path / "run")
    against = "gold, flawed completions of 2 kinds, no primary metric, so only that gold is not below"
    assert against in " ".join(said.split())
    report = json.loads((tmp_path / "run" / "calibrate" / "calibration.json").read_text())
    assert (report["verdict"], report["agreement"]["value"]) == ("pass", 1.0)
    assert report["kinds"]["sampled"]["n"] >= 20
    assert recompute(tmp_path / "run" / "calibrate" / "calibration.json") == []


def test_without_gold_too_nothing_is_shown_and_that_is_said(
    words: Callable[..., Recipe], tmp_path: Path
) -> None:
    grpo = {**GRPO, "epochs": 0.2}
    stages = [NO_CHECK, grpo, {"calibrate": {**CALIBRATE["calibrate"], "from": "grpo"}}]
    _, said = run(words("goldless", stages), tmp_path / "run")
    assert "hold: task 'words' names no primary metric and its rows have no gold" in " ".join(said.split())


def test_samples_outside_what_people_labelled_have_drifted(
    words: Callable[..., Recipe], tmp_path: Path
) -> None:
    labels = tmp_path / "labels.jsonl"
    rows = [
        {"prompt": f"p{i}", "completion": "aa" if i % 2 else "xxa", "label": i % 2 > 0} for i in range(80)
    ]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    check = {"check": {**NO_CHECK["check"], "calibration": {"data": str(labels)}}}
    with pytest.raises(ValueError, match="fresh samples have drifted") as raised:
        run(words("healthy", [check, SFT, CALIBRATE]), tmp_path / "run")
    assert "outside the range" in str(raised.value)
    report = json.loads((tmp_path / "run" / "calibrate" / "calibration.json").read_text())
    assert report["labels"]["agreement"]["value"] == 1.0
    assert report["labels"]["drift"]["outside"] > 0.05
    assert recompute(tmp_path / "run" / "calibrate" / "calibration.json") == []
    assert recompute(tmp_path / "run" / "check" / "calibration" / "calibration.json") == []


def test_a_reward_model_of_the_recipe_is_calibrated_on_the_policy_s_samples(
    words: Callable[..., Recipe], tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"pair {i}", "chosen": "aeiou"[i % 5] * 4, "rejected": "xz"[i % 2] * 4} for i in range(60)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {**REWARD_MODEL, "data": str(pairs), "name": "judged"}
    stage = {"calibrate": {**CALIBRATE["calibrate"], "reward": "judged", "override": "a tiny model"}}
    run(words("healthy", [NO_CHECK, SFT, model, stage]), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "calibrate" / "calibration.json").read_text())
    assert report["primary"] == "vowels"
    assert report["agreement"]["n"] > 50
    assert report["kinds"]["sampled"]["mean_score"] != report["kinds"]["sampled"]["mean_truth"]
    with pytest.raises(ValueError, match="reward is 'judged', which is no reward model trained before it"):
        words("healthy", [NO_CHECK, SFT, stage, model])


def test_a_reward_that_pays_for_flaws_is_found_before_training(
    words: Callable[..., Recipe], tmp_path: Path
) -> None:
    check = {"check": {**NO_CHECK["check"], "calibration": {"max_rows": 20}}}
    with pytest.raises(
        ValueError, match=r"is not calibrated \(fail\) against the task's own truth, not people: gold"
    ):
        run(words("healthy", [check, SFT]), tmp_path / "run")  # vowels do not tell one word from another
    assert not (tmp_path / "run" / "sft").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"from": "sfd"}, "from is 'sfd'"),
        ({"num_completions": 1}, "needs at least 2"),
        ({"rows": 3}, "max_rows"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    words: Callable[..., Recipe], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        words("healthy", [SFT, {"calibrate": settings}])


def test_report_page_and_card_say_what_was_found_out_about_the_reward(
    words: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = words("healthy", [NO_CHECK, SFT, CALIBRATE, GRPO, *END])
    _, said = run(recipe, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "evidence" / "report.json").read_text())
    sampled, drift = report["metadata"]["reward_checks"]
    assert (sampled["stage"], sampled["verdict"]) == ("calibrate", "pass")
    assert drift["what"] == "calibration while it trained"
    page = (tmp_path / "run" / "evidence" / "report.html").read_text()
    card = (tmp_path / "run" / "candidate" / "README.md").read_text()
    for text in (page.replace("&#39;", "'"), card, " ".join(said.split())):
        assert "the task's own truth, not people" in text
    assert "<h2>The reward</h2>" in page
    assert "sampled over sampled" in page
    assert "## The reward" in card
    main([str(tmp_path / "run")])  # ties out: with its page, its curves and its calibrations
    kept = tmp_path / "run" / "calibrate" / "rows.jsonl"
    kept.write_text(kept.read_text().replace('"truth": 1.0', '"truth": 0.0', 3))
    with pytest.raises(SystemExit):
        main([str(tmp_path / "run")])

"""The refresh stage: people or a judge label samples of the policy, and the next stage uses what was learned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import NO_CHECK, PAIRS, PPO, REWARD_MODEL, SFT, lines, run

from tieout.config.fields import ConfigError
from tieout.errors import InputError, StopTraining
from tieout.labelling.assignment import Design
from tieout.labelling.items import read_items
from tieout.labelling.scheme import make_scheme
from tieout.labelling.store import Answer, Store
from tieout.labelling.values import turned
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.pipelines.stages.plan import plan
from tieout.storage.jsonl import write_jsonl
from tieout.storage.runfolder import RunFolder

RecipeOf = Callable[..., Recipe]
GRPO = {
    "train": "grpo",
    "batch_size": 5,
    "group_size": 2,
    "learning_rate": 0.001,
    "epochs": 0.5,
    "max_new_tokens": 8,
}
FIRST = [NO_CHECK, SFT, PAIRS, REWARD_MODEL, PPO]


def refresh(**settings: Any) -> dict[str, Any]:
    return {"refresh": {"num_prompts": 12, "num_completions": 3, **settings}}


def digest(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def test_a_judge_labels_and_the_next_stage_is_scored_by_what_was_learned(
    recipe: RecipeOf, files: dict[str, str], tmp_path: Path
) -> None:
    read = recipe([*FIRST, refresh(judge=files["reward"]), GRPO, refresh(judge=files["reward"])])
    out = tmp_path / "run"
    _, text = run(read, out)
    assert "rows labelled by" in text
    made = lines(out / "refresh" / "labels" / "rows.jsonl")
    before = lines(out / "pairs" / "pairs.jsonl")
    new = [row for row in made if row.get("source") == "refresh"]
    assert 0 < len(new) <= 12
    assert len(made) == len(before) + len(new)  # what it learned before is not forgotten
    assert all(len(row["completions"]) == len(row["scores"]) == 3 for row in new)
    assert digest(out / "refresh" / "reward_model" / "adapter") != digest(out / "reward_model" / "adapter")
    measured = json.loads((out / "refresh" / "reward_model" / "calibration.json").read_text())
    assert measured["verdict"] in ("hold", "pass", "fail")
    known = json.loads((out / "grpo" / "started.json").read_text())["inputs"]
    assert known["method"]["reward_model"]  # by content, of the refreshed one
    assert read.trained("grpo").method.needs.reward_model == "refresh"
    again = lines(out / "refresh-2" / "labels" / "rows.jsonl")
    assert len(again) > len(made)  # the second refresh keeps what the first has learned
    prompts = {str(row["prompt"]) for row in again if row.get("source") == "refresh-2"}
    assert prompts != {str(row["prompt"]) for row in new}
    _, text = run(read, out)
    assert "labelled before" in text
    with RunFolder(out, writes=False) as folder:
        from rich.console import Console

        status = {line.name: line.status for line in plan(Run(read, folder, Console(quiet=True)))}
    assert set(status.values()) - {"to do"} == {"done"}
    assert status["refresh"] == status["grpo"] == status["refresh-2"] == "done"


def test_people_label_in_a_file_and_the_run_waits_for_them(recipe: RecipeOf, tmp_path: Path) -> None:
    read, out = recipe([*FIRST, refresh(), {**PPO, "name": "last"}]), tmp_path / "run"
    with pytest.raises(
        StopTraining,
        match=r"12 of 12 prompts wait for people: `tieout label .*sheet\.jsonl` opens the page, or replace every",
    ):
        run(read, out)
    sheet = out / "refresh" / "labels" / "sheet.jsonl"
    rows = [dict(row) for row in lines(sheet)]
    assert all(row["a"] != row["b"] for row in rows)
    assert not (out / "last").exists()
    filled = [{**row, "preferred": "ab"[i % 2]} for i, row in enumerate(rows)]
    filled[0]["preferred"] = "tie"
    write_jsonl(sheet, [*filled[:-1], rows[-1]])
    with pytest.raises(StopTraining, match="1 of 12 prompts wait"):
        run(read, out)
    write_jsonl(sheet, [*filled[:-1], {**rows[-1], "preferred": "c"}])
    with pytest.raises(InputError, match=r"sheet\.jsonl:12: preferred is 'c'; expected a, b or tie"):
        run(read, out)
    write_jsonl(sheet, filled)
    _, text = run(read, out)
    assert "11 rows labelled by people" in text
    new = [row for row in lines(out / "refresh" / "labels" / "rows.jsonl") if row.get("source") == "refresh"]
    assert [row["chosen"] for row in new] == [row[row["preferred"]] for row in filled[1:]]
    assert (out / "last" / "done.json").exists()
    # Another policy means other samples: the sheet that was filled in is kept under another name.
    (out / "ppo" / "done.json").unlink()
    started = json.loads((out / "refresh" / "labels" / "started.json").read_text())
    started["inputs"]["policy"] = {"trained": "another"}
    (out / "refresh" / "labels" / "started.json").write_text(json.dumps(started))
    (out / "refresh" / "labels" / "done.json").unlink()
    with pytest.raises(StopTraining, match="12 of 12 prompts wait"):
        run(read, out)
    assert [row["preferred"] for row in lines(out / "refresh" / "sheet-1.jsonl")] == [
        r["preferred"] for r in filled
    ]


def test_people_label_on_the_page_and_by_hand(recipe: RecipeOf, tmp_path: Path) -> None:
    read, out = recipe([*FIRST, refresh()]), tmp_path / "run"
    with pytest.raises(StopTraining, match="12 of 12 prompts wait"):
        run(read, out)
    sheet = out / "refresh" / "labels" / "sheet.jsonl"
    rows = lines(sheet)
    write_jsonl(sheet, [{**rows[0], "preferred": "b"}, *rows[1:]])
    longer = {str(row["prompt"]): "ab"[len(row["b"]) > len(row["a"])] for row in rows}
    kind, items = read_items(sheet)
    assert kind == "pairs"
    by_hand = items[0].id
    store = Store(sheet.with_name("sheet.jsonl.labels"), make_scheme(kind), items, Design(0, 1, 0))

    def say(item: str, value: str) -> None:
        shown = turned(value, store.order("anna", item), store.scheme, back=True)
        base = store.revision("anna", item, 0)
        store.judge(Answer(f"answer-{len(store.journal.entries):06}", "anna", item, 0, shown, base))

    asked = [item for item, _ in store.next("anna", 12) if item != by_hand]
    for item in asked[1:]:
        say(item, longer[str(store.items[item].prompt)])
    with pytest.raises(StopTraining, match="1 of 12 prompts wait"):
        run(read, out)  # while the page is open
    say(asked[0], "bad")
    say(by_hand, "a")
    with pytest.raises(
        InputError, match=r"sheet\.jsonl:1: preferred is 'b', and on the page people said 'a'"
    ):
        run(read, out)
    say(by_hand, "b")
    store.close()
    _, text = run(read, out)
    assert "11 rows labelled by people" in text
    made = [row for row in lines(out / "refresh/labels/rows.jsonl") if row.get("source") == "refresh"]
    neither = str(store.items[asked[0]].prompt)
    expected = [
        (row["prompt"], row["b"] if i == 0 else row[longer[str(row["prompt"])]])
        for i, row in enumerate(rows)
        if str(row["prompt"]) != neither
    ]
    assert [(row["prompt"], row["chosen"]) for row in made] == expected
    # Other samples: the sheet is kept, and the page still opens what was said of it.
    labels = out / "refresh" / "labels"
    started = json.loads((labels / "started.json").read_text())
    started["inputs"]["policy"] = {"trained": "another"}
    (labels / "started.json").write_text(json.dumps(started))
    (labels / "done.json").unlink()
    with pytest.raises(StopTraining, match="12 of 12 prompts wait"):
        run(read, out)
    kept = out / "refresh" / "sheet-1.jsonl"
    again = Store(kept.with_name("sheet-1.jsonl.labels"), make_scheme("pairs"), read_items(kept)[1])
    assert len(again.by_item()) == 12
    again.close()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([SFT, refresh()], "there is no reward model before it"),
        (
            [SFT, PAIRS, REWARD_MODEL, refresh(reward_model="reward")],
            "reward_model is 'reward'; .*did you mean",
        ),
        ([SFT, PAIRS, REWARD_MODEL, refresh(data="x.jsonl")], "the pairs of a stage are known"),
        (
            [SFT, PAIRS, REWARD_MODEL, {"refresh": {"from": "reward_model"}}],
            "from is 'reward_model', which is none",
        ),
        ([SFT, PAIRS, REWARD_MODEL, refresh(), {"train": "dpo", "from": "refresh"}], "from is 'refresh'"),
    ],
    ids=str,
)
def test_what_cannot_be_refreshed_is_refused_where_the_recipe_is_read(
    recipe: RecipeOf, stages: list[Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(stages)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_completions": 1}, "12 prompts and 1 completions of each"),
        ({"judge": "exact_matc"}, "no reward is called"),
        ({"judge": "rag"}, "needs column"),
    ],
    ids=str,
)
def test_settings_are_checked_before_any_work(
    recipe: RecipeOf, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(recipe([SFT, PAIRS, REWARD_MODEL, refresh(**settings)]), tmp_path / "run")
    assert not (tmp_path / "run" / "sft").exists()


def test_a_reward_model_of_the_recipe_that_fails_stops_the_stage_that_it_would_score(
    recipe: RecipeOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict comes in the middle of the run, and so does the refusal; with a reason the run continues."""

    def failed(learner: Any, source: Any, rows: Any, folder: Path, console: Any) -> None:
        (folder / "calibration.json").write_text('{"verdict": "fail", "reasons": ["agreement 0.5"]}')

    monkeypatch.setattr("tieout.training.fit.check_reward_model", failed)
    stages, out = [NO_CHECK, SFT, PAIRS, REWARD_MODEL, GRPO], tmp_path / "run"
    with pytest.raises(InputError, match=r"its verdict is fail: agreement 0\.5"):
        run(recipe(stages), out)
    assert not (out / "grpo" / "adapter").exists()
    _, text = run(recipe(stages, guards={"reward_model_override": "a rehearsal"}), out)
    assert "done before" in text
    assert "trained against anyway: a rehearsal" in text
    assert (
        json.loads((out / "run.json").read_text())["identity"]["guards"]["reward_model_override"]
        == "a rehearsal"
    )
    # A folder is refused while the recipe is checked, before anything is trained.
    model = str(out / "reward_model" / "adapter")
    for stage in ({**PPO, "reward_model": model}, {**GRPO, "reward": f"reward_model:{model}"}):
        with pytest.raises(InputError, match="its verdict is fail"):
            run(recipe([NO_CHECK, SFT, stage]), tmp_path / "other")
    assert not (tmp_path / "other" / "sft").exists()

"""Runs from end to end on a tiny random model and the user's own files: stages, evidence, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from small_runs import ALIGN, DPO, END, GRPO, KTO, NO_CHECK, PAIRS, PPO, REASON, REWARD_MODEL, SFT, lines, run

from given_review import REVIEW
from tieout.evidence.claims import intact, recomputed
from tieout.evidence.verify import verify
from tieout.learner.models import bases
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.pipelines.show import ship_run
from tieout.pipelines.stages.plan import plan
from tieout.pipelines.training_rows import known_rows
from tieout.review.answers import keep
from tieout.review.document import page_differs
from tieout.rows import data_hash, read_rows
from tieout.storage import manifest
from tieout.storage.runfolder import RunFolder, RunFolderError


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was loaded from disk as a network."""
    seen: list[str] = []
    real = bases.AutoModelForCausalLM.from_pretrained

    def count(source: str, **options: Any) -> Any:
        seen.append(Path(source).name)
        return real(source, **options)

    monkeypatch.setattr(bases.AutoModelForCausalLM, "from_pretrained", count)
    return seen


def look(recipe: Recipe, out: Path) -> Run:
    """The run, as a dry run sees it."""
    with RunFolder(out, writes=False) as folder:
        return Run(recipe, folder, Console(quiet=True))


def test_align_ends_with_evidence_that_ties_out_and_holds_without_people(
    tmp_path: Path, recipe: Callable[..., Recipe], loads: list[str]
) -> None:
    out = tmp_path / "run"
    assert [line.status for line in plan(look(recipe(ALIGN), out))] == ["to do"] * 7
    assert not out.exists()
    verdict, text = run(recipe(ALIGN), out)
    # One base for SFT, pairs, DPO, three evaluations and merging; the check of the candidate loads its own.
    assert len(loads) == 3
    assert loads.count("merged") == 1
    report = json.loads((out / "evidence" / "report.json").read_text())
    assert verdict == report["verdict"]["verdict"] != "ship"  # the human track is empty
    assert set(report["models"]) == {"base", "sft", "dpo"}
    assert report["settings"]["candidate"] == "dpo"
    assert report["settings"]["baseline"] == "sft"
    assert report["models"]["dpo"]["programmatic"]["n"] == 10
    assert report["models"]["dpo"]["negative_controls"]["n"] == 3
    path = out / "evidence" / "report.json"
    assert verify(path) == []
    claims = [*intact(report, path), *recomputed(report, path)]
    assert {claim.what: claim.problems for claim in claims if claim.status != "holds"} == {}
    assert {claim.what for claim in claims} >= {"manifest", "models", "figures", "scores"}
    assert page_differs(out, out / "evidence" / "report.html") == []
    assert report["rule"]["before_evaluation"]
    assert (out / "evidence" / "report.html").stat().st_size > 1000
    assert (out / "candidate" / "merged" / "config.json").exists()
    assert not (out / "shipped").exists()
    assert "next:" in text
    assert all(pair["chosen_score"] > pair["rejected_score"] for pair in lines(out / "pairs" / "pairs.jsonl"))
    first = lines(out / "dpo" / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)  # the reference is the SFT adapter, so ln 2

    # repeating it redoes nothing, and gives the same report
    before = json.loads((out / "evidence" / "report.json").read_text())
    moved = out.rename(tmp_path / "moved")
    placement = {"reward_workers": 1, "save_steps": 5}
    _, again = run(recipe(ALIGN, placement=placement), moved)
    assert again.count("done before") == 6  # sft, pairs, dpo, and three evaluations
    assert len(loads) == 3
    after = json.loads((moved / "evidence" / "report.json").read_text())
    assert after["models"] == before["models"]
    assert after["rule"] == before["rule"]
    assert manifest.check(moved) == []
    assert manifest.replay(moved)[0].steps.count("start") == 2  # both attempts are on record
    assert [line.status for line in plan(look(recipe(ALIGN), moved))] == [
        "to do",
        *["done"] * 6,
    ]  # nothing to check

    # a person may ship against the verdict, with a reason that is recorded
    console = Console(record=True, force_terminal=False, width=160)
    assert not ship_run(moved, None, console)
    assert "next:" in console.export_text()
    assert not ship_run(moved, "only a test", console)
    assert "what a reviewer asks for is not said" in console.export_text()
    keep(moved / "evidence", REVIEW)
    assert ship_run(moved, "only a test", console)
    assert "only a test" in (moved / "evidence" / "override.json").read_text()
    assert (moved / "shipped" / "merged" / "model.safetensors").exists()
    assert "sft: train sft, from base, data data.train" in (moved / "shipped" / "README.md").read_text()


def test_another_configuration_in_the_same_folder_is_refused_with_the_difference(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    console = Console(force_terminal=False)
    with RunFolder(tmp_path / "run") as folder:
        Run(recipe(ALIGN), folder, console)
    with RunFolder(tmp_path / "run") as folder, pytest.raises(RunFolderError, match=r"seed: 0 -> 3"):
        Run(recipe(ALIGN, seed=3), folder, console)
    with pytest.raises(RunFolderError, match=r"stages\[6\]: .*\(absent\)"):
        look(recipe(ALIGN[:-1]), tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"stages\[3\].learning_rate: 0.001 -> 0.5"):
        look(recipe(ALIGN, ["stages.dpo.learning_rate=0.5"]), tmp_path / "run")


def test_more_epochs_of_a_stage_continue_it_and_redo_what_follows(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    stages = [SFT, {"evaluate": {"max_test": 4}}]
    run(recipe(stages), tmp_path / "run")
    assert len(lines(tmp_path / "run" / "sft" / "metrics.jsonl")) == 2
    _, said = run(recipe(stages, ["stages.sft.epochs=2"]), tmp_path / "run")
    assert "resumed at step 2 of 4" in said
    assert "base done before" in said
    assert "sft done before" not in said


def test_reason_trains_on_rollouts_and_keeps_them(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    out = tmp_path / "run"
    verdict, _ = run(recipe(REASON), out)
    assert verdict != "ship"
    groups = lines(out / "grpo" / "groups.jsonl")
    assert len(groups) == 2 * 5
    assert all(len(g["completions"]) == len(g["scores"]) == 4 for g in groups)
    metrics = lines(out / "grpo" / "metrics.jsonl")
    assert metrics[0]["mismatch"] < 1e-4  # sampler and learner agree
    assert metrics[0]["kl"] == pytest.approx(0.0, abs=1e-6)  # at step 0 the policy is its reference
    assert metrics[1]["kl"] > 0
    assert {"score", "no_signal", "length", "entropy", "shared_prefix"} <= set(metrics[0])


def test_what_went_off_while_training_is_said_at_the_end(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    grpo = {**GRPO, "epochs": 1.0, "guards": {"kl": 1e-9}}
    out = tmp_path / "run"
    _, said = run(recipe([SFT, grpo, *END]), out)
    assert "alarm at step 3: the policy is" in said
    assert "alarm in grpo at step 3: the policy is" in said[said.index("verdict") :]
    assert "Alarm in grpo at step 3: the policy is" in (out / "evidence" / "report.html").read_text()
    alarms = lines(out / "grpo" / "alarms.jsonl")
    assert [x["step"] for x in alarms if x["reason"].startswith("the policy is")] == [3]


def test_rows_that_do_not_fit_a_method_are_refused_before_any_work(
    tmp_path: Path, recipe: Callable[..., Recipe], files: dict[str, str]
) -> None:
    for stages, changes, message in (
        ([{**DPO, "data": "data.train"}], {}, "dpo learns from preference rows, .*lacks 'chosen'"),
        ([{**DPO, "data": files["labels"]}], {}, "chosen"),
        ([{**KTO, "data": "data.labels"}], {}, "data.labels has no rows"),
        ([{**SFT, "data": "data.train[:21]"}], {}, "stage 'sft-2': .* data.train has 20 rows; .* at most 20"),
        ([{**SFT, "data": "data.train[5:5]"}], {}, "FIRST below LAST"),
        ([{"pairs": {"sources": ["flawed"], "flaws": "none.py:f"}}], {}, "file none.py does not exist"),
        ([{**GRPO, "data": files["labels"]}], {}, "needs column 'answer'"),
        (
            [{"evaluate": {}}, {"gate": {"kept": {"answered": 0.1}}}],
            {},
            "keeps answered, which task .* not measure",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            look(recipe([SFT, *stages], **changes), tmp_path / "run")


def test_labels_of_a_file_and_a_stage_s_own_file_or_part_are_trained_on(
    tmp_path: Path, recipe: Callable[..., Recipe], files: dict[str, str]
) -> None:
    data = {name: files[name] for name in ("train", "test", "labels")}
    again = {**SFT, "data": files["labels"]}
    part = {**SFT, "data": "data.train[12:]"}
    kto = {**KTO, "from": "sft"}
    run(recipe([SFT, again, part, kto], data=data), tmp_path / "run")
    done = {
        name: json.loads((tmp_path / "run" / name / "done.json").read_text())
        for name in ("sft", "sft-2", "sft-3", "kto")
    }
    assert {name: d["inputs"]["data"]["rows"] for name, d in done.items()} == {
        "sft": 20,
        "sft-2": 10,
        "sft-3": 8,
        "kto": 10,
    }
    assert done["sft-3"]["inputs"]["data"]["sha256"] == data_hash(read_rows(files["train"])[12:])


def test_a_stage_may_start_from_an_adapter_made_elsewhere(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    run(recipe([SFT]), tmp_path / "first")
    adapter = tmp_path / "first" / "sft" / "adapter"
    out = tmp_path / "second"
    run(recipe([{**GRPO, "from": str(adapter)}, *END[:2]]), out)
    report = json.loads((out / "evidence" / "report.json").read_text())
    assert list(report["models"]) == ["base", "grpo-start", "grpo"]
    assert report["settings"]["baseline"] == "grpo-start"
    assert lines(out / "grpo" / "metrics.jsonl")[0]["kl"] == pytest.approx(
        0.0, abs=1e-6
    )  # it is the reference
    renamed = adapter.rename(tmp_path / "renamed")  # it is the same adapter
    _, said = run(recipe([{**GRPO, "from": str(renamed)}, *END[:2]]), out)
    assert said.count("done before") == 4  # GRPO and three evaluations


def test_full_fine_tuning_is_a_base_for_what_follows(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    full = {**SFT, "adapter": {"method": "full", "rank": None}, "learning_rate": 0.001}
    out = tmp_path / "run"
    later = [{**DPO, "adapter": {"method": "lora"}}, {**DPO, "name": "again"}]
    resolved = recipe([full, PAIRS, *later, *END])
    run(resolved, out)
    first = lines(out / "dpo" / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(
        0.693147, abs=1e-5
    )  # the reference is the model that was trained as a whole
    assert lines(out / "again" / "metrics.jsonl")[0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    check = json.loads((out / "candidate" / "card.json").read_text())["facts"]["check"]
    assert check["worst"].keys() == {"adapter", "merged"}
    assert max(check["worst"].values()) < 1e-4  # of the right base, not of the one that the run started from


def test_prompts_that_are_held_out_for_evaluation_are_in_no_pair(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    prompts = [f"say {i}" for i in range(60)]
    rows = {
        "train": [{"prompt": p, "completion": "x", "answer": "x"} for p in prompts],
        "pairs": [{"prompt": p, "chosen": "x", "rejected": "y"} for p in prompts],
    }
    for name, content in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    data = {name: str(tmp_path / f"{name}.jsonl") for name in rows}
    task = look(recipe([SFT, DPO], data=data), tmp_path / "run").task
    seen, tested = [{str(row["prompt"]) for row in task.rows(split)} for split in ("pairs", "test")]
    assert tested
    assert seen == set(prompts) - tested


def test_a_reward_model_is_measured_on_pairs_it_has_not_seen(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    run(recipe([SFT, PAIRS, REWARD_MODEL]), tmp_path / "run")
    pairs = lines(tmp_path / "run" / "pairs" / "pairs.jsonl")
    seen = json.loads((tmp_path / "run" / "reward_model" / "done.json").read_text())["inputs"]["data"]["rows"]
    held_out = lines(tmp_path / "run" / "reward_model" / "rows.jsonl")
    assert held_out
    assert seen + len(held_out) == len(pairs)


GAME = '''
from tieout.tasks import Task

OPENING = [{"role": "user", "content": "say something"}]


def play(row):
    """Two turns; scored by how many letters of the word were said."""
    said = yield OPENING[0]["content"]
    said += yield "and more"
    return len(set(row["word"]) & set(said)) / len(set(row["word"])) + 0.001 * (len(said) % 5)


WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt"]
ROWS = [{"word": word, "prompt": OPENING, "completion": word} for word in WORDS]
task = Task("game", lambda split: ROWS if split in ("train", "test") else [], environment=play, max_new_tokens=6)


def turns_said(completions, completion_turns, **columns):
    """Turns of the policy, and a little for their letters."""
    said = [[turn["content"] for turn in turns if turn["role"] == "assistant"] for turns in completion_turns]
    return [len(texts) + len("".join(texts)) % 5 / 100 for texts in said]
'''


def game(folder: Path) -> dict[str, Any]:
    """A task in two turns, as changes of a recipe."""
    (folder / "game.py").write_text(GAME)
    return {
        "task": f"{folder / 'game.py'}:task",
        "data": {},
        "reward": None,
        "max_new_tokens": 6,
        "accept_leakage": "its rows are the same in every split",
    }


def test_a_task_of_an_environment_alone_trains_on_episodes(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    changes = game(tmp_path)
    verdict, said = run(recipe([{"check": {}}, SFT, GRPO, *END], **changes), tmp_path / "run")
    assert verdict in ("hold", "reject")
    assert "the environment scores, and there is no reward" in said
    assert all(len(row["scores"]) == 4 for row in lines(tmp_path / "run/grpo/groups.jsonl"))
    with pytest.raises(
        ValueError, match="has an environment and no reward, which completions are chosen with"
    ):
        run(recipe([NO_CHECK, SFT, PAIRS, DPO], **changes), tmp_path / "other")


def test_a_stages_own_reward_scores_the_turns_of_a_game_and_a_reward_model_is_refused(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    changes = game(tmp_path)
    own = {**GRPO, "reward": f"{tmp_path / 'game.py'}:turns_said"}
    run(recipe([NO_CHECK, SFT, own], **changes), tmp_path / "run")
    scores = [score for row in lines(tmp_path / "run/grpo/groups.jsonl") for score in row["scores"]]
    assert scores
    assert all(int(score) == 2 for score in scores)
    judged: dict[str, Any] = {**PPO, "reward_model": str(tmp_path)}
    with pytest.raises(ValueError, match=r"task 'game' is played in turns, and a reward model"):
        run(recipe([NO_CHECK, SFT, judged], **changes), tmp_path / "judged")


@pytest.mark.parametrize("stage", [PAIRS, {"demonstrations": {}}, {"calibrate": {}}])
def test_one_answer_is_not_scored_as_a_game(
    tmp_path: Path, recipe: Callable[..., Recipe], stage: dict[str, Any]
) -> None:
    changes: dict[str, Any] = {"task": "wordle", "data": {}, "reward": None, "max_train": 8}
    with pytest.raises(ValueError, match=r"samples one answer to a prompt, and the reward of task 'wordle'"):
        run(recipe([NO_CHECK, SFT, stage], **changes), tmp_path / "run")


def test_rankings_of_a_file_are_pairs_labels_and_demonstrations_as_a_method_needs(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    prompts = [f"say {i}" for i in range(40)]
    ranked = [
        {"prompt": p, "completions": ["c", "a", "b"], "scores": [0, 2, 1], "answer": "a"} for p in prompts
    ]
    (tmp_path / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ranked))
    picked = {**DPO, "name": "picked", "selection": {"min_gap": 2}}
    found = recipe([SFT, DPO, picked, KTO, REWARD_MODEL], data={"pairs": str(tmp_path / "ranked.jsonl")})
    own = look(found, tmp_path / "run")
    train = own.task.rows("train")
    assert {row["completion"] for row in train} == {"a"}
    rows = {
        name: known_rows(own.task, found.trained(name))
        for name in ("sft", "dpo", "picked", "kto", "reward_model")
    }
    assert {name: len(r or ()) / len(train) for name, r in rows.items()} == {
        "sft": 1,
        "dpo": 3,
        "picked": 1,
        "kto": 2,
        "reward_model": 1,
    }
    run(recipe([SFT, picked], data={"pairs": str(tmp_path / "ranked.jsonl")}), tmp_path / "run")
    done = json.loads((tmp_path / "run" / "picked" / "done.json").read_text())
    assert done["inputs"]["data"]["rows"] == len(train)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("del TEST[3]['answer']", "case 'said/test/3': reward 'close' needs column 'answer'"),
        ("TEST[1]['id'] = TEST[4]['id'] = 'one'", "two rows for the case 'said/test/one'"),
    ],
)
def test_rows_that_cannot_be_evaluated_are_refused_before_anything_is_trained(
    change: str, said: str, tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "said.py").write_text(f"""
from tieout import Task

def close(completions, answer):
    return [float(a in c) for c, a in zip(completions, answer)]

def rows(word):
    return [{{"prompt": f"{{word}} {{i}}", "completion": str(i), "answer": str(i)}} for i in range(6)]

TRAIN, TEST = rows("a"), rows("b")
{change}
task = Task("said", lambda split: {{"train": TRAIN, "test": TEST}}.get(split, []), close)
""")
    changes: dict[str, Any] = {"task": f"{tmp_path / 'said.py'}:task", "data": {}, "reward": None}
    with pytest.raises(ValueError, match=said):
        run(recipe([NO_CHECK, SFT, *END], **changes), tmp_path / "run")
    assert not (tmp_path / "run" / "sft").exists()
    look(recipe([NO_CHECK, SFT, {"evaluate": {"max_test": 1}}, *END[1:]], **changes), tmp_path / "other")

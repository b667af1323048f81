"""Pairs by a judge with a program behind it, by people who rank, and the quality of either before DPO begins."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from small_runs import DPO, END, NO_CHECK, SFT, lines, run

from tieout.config.fields import ConfigError
from tieout.errors import InputError, StopTraining, TooManyErrors
from tieout.labelling.assignment import Design
from tieout.labelling.items import read_items
from tieout.labelling.scheme import make_scheme
from tieout.labelling.store import Answer, Store
from tieout.labelling.values import turned
from tieout.pipelines.pairing.choose import NEAR, TIED, Standard
from tieout.pipelines.pairing.judged import BACKSTOP, CONFIRMED, DROPPED, OVERRULED, _chosen
from tieout.pipelines.pairing.measures import Candidate, Measures
from tieout.pipelines.recipe import Recipe
from tieout.pipelines.run import Run
from tieout.storage.jsonl import write_jsonl
from tieout.storage.runfolder import RunFolder

RecipeOf = Callable[..., Recipe]
_ids = (f"answer-{number:06}" for number in count())

TASK = """
from tieout import Task, ranged

ROWS = [{"prompt": f"say {i}", "completion": "a", "answer": "a"} for i in range(24)]
TEST = [{"prompt": f"Write the word {w}.", "completion": w, "answer": w} for w in ("tax", "fee", "bond", "debt")]

@ranged(0, 5)
def longer(completions, **_):
    return [len(c.encode()) % 6 for c in completions]

def even(remainder):
    def counted(completions, **_):
        return [float(sum(map(ord, c)) % 2 == remainder) for c in completions]

    return counted

right, wrong = even(0), even(1)

@ranged(0, 1)
def reward(completions, **_):
    return right(completions)

task = Task(
    "halves", lambda split: {"train": ROWS, "test": TEST}.get(split, []), reward, metrics={"right": right},
    primary="right", max_new_tokens=6,
)
"""


@pytest.fixture
def halves(tmp_path: Path, recipe: RecipeOf) -> RecipeOf:
    """`halves(stages)`: a recipe over a task whose program calls about half of all completions right."""
    (tmp_path / "halves.py").write_text(TASK)

    def make(stages: list[Any], **changes: Any) -> Recipe:
        own: dict[str, Any] = {"task": f"{tmp_path / 'halves.py'}:task", "data": {}, "reward": None}
        return recipe(stages, **{**own, **changes})

    return make


def test_no_judge_gets_a_wrong_completion_chosen_whatever_it_says() -> None:
    """Every order of three completions and every set of right ones, against a search over all pairs."""
    for scores, right in product(product((0.0, 0.5, 1.0), repeat=3), product((0.0, 1.0), repeat=3)):
        own = [Candidate(f"text {i}", right[i], {"right": right[i]}) for i in range(3)]
        measures = Measures("right", {}, frozenset(), frozenset(), (0, 1))
        making: Any = SimpleNamespace(
            measures=measures, standard=Standard("right", 1.0, 0.1), stage=SimpleNamespace(pairs_per_prompt=1)
        )
        found, reason, said = _chosen(making, own, scores, 0.6)
        spread = max(scores) - min(scores)
        every = [(i, j) for i in range(3) for j in range(3) if right[i] and scores[i] - scores[j] >= 0.6]
        assert bool(found) == bool(every)
        if spread < 0.6:
            assert (reason, said) == (TIED if spread == 0 else NEAR, "")
        elif not every:
            assert (reason, said) == (BACKSTOP, DROPPED)
        else:
            assert (found[0].chosen, found[0].rejected) in every
            assert scores[found[0].rejected] == 0
            best_is_right = any(right[i] and scores[i] == max(scores) for i in range(3))
            assert said == (CONFIRMED if best_is_right else OVERRULED)


def test_a_reward_without_a_primary_metric_is_the_backstop_too() -> None:
    own = [Candidate("good", 0.4, {}), Candidate("bad", 0.9, {})]
    making: Any = SimpleNamespace(
        measures=Measures(None, {}, frozenset(), frozenset(), (0, 1)),
        standard=Standard("", 0.3, 0.1),
        stage=SimpleNamespace(pairs_per_prompt=1),
    )
    assert _chosen(making, own, [1.0, 0.0], 0.1)[1] == BACKSTOP  # the program rates the rejected higher
    assert _chosen(making, own, [0.0, 1.0], 0.1)[2] == CONFIRMED


def test_a_judge_orders_samples_and_the_run_says_how_often_the_program_objected(
    tmp_path: Path, halves: RecipeOf
) -> None:
    judge = f"{tmp_path / 'halves.py'}:longer"
    judged = {"pairs": {"sources": ["judged"], "judge": judge, "num_completions": 5, "temperature": 1.0}}
    out = tmp_path / "run"
    _, said = run(halves([NO_CHECK, SFT, judged, DPO, *END]), out)
    rows = lines(out / "pairs/pairs.jsonl")
    summary = json.loads((out / "pairs/pairs.json").read_text())
    assert all(sum(map(ord, row["chosen"])) % 2 == 0 for row in rows)
    assert all(row["chosen_score"] == len(row["chosen"].encode()) % 6 for row in rows)
    assert all(
        row["chosen_score"] - row["rejected_score"] >= 0.5 for row in rows
    )  # a tenth of the judge's range
    assert {row["source"] for row in rows} == {"judged"}
    backstop = summary["backstop"]
    assert backstop[CONFIRMED] + backstop.get(OVERRULED, 0) == len(rows)
    assert backstop.get(OVERRULED, 0) > 0
    assert sum(backstop.values()) + sum(v for k, v in summary["dropped"].items() if k in (TIED, NEAR)) == 24
    assert "the judge's preferences and the program: " in said
    assert said.index(f"quality of {len(rows)} pairs") < said.index("\ndpo\n")
    quality = json.loads((out / "pairs/quality.json").read_text())
    assert quality["good"]["share"]["value"] == 1
    assert quality["leakage"]["held"]["test"]["rows"] == 4
    report = json.loads((out / "evidence/report.json").read_text())
    assert report["metadata"]["pair_quality"] == {"pairs": quality}


def test_a_judge_that_fails_stops_the_stage_at_once_and_is_named(tmp_path: Path, halves: RecipeOf) -> None:
    (tmp_path / "down.py").write_text(
        "def judge(completions, **_):\n    raise RuntimeError('out of credit')\n"
    )
    judged = {"sources": ["judged"], "judge": f"{tmp_path / 'down.py'}:judge", "num_completions": 5}
    with pytest.raises(TooManyErrors, match=r"judge '.*down\.py:judge' failed on 120 of 120 .*out of credit"):
        run(halves([NO_CHECK, SFT, {"pairs": judged}, DPO, *END]), tmp_path / "run")


@pytest.mark.parametrize("stage", ["pairs", "demonstrations"])
def test_a_reward_that_abstains_on_all_is_named_with_the_prompts_that_were_asked(
    tmp_path: Path, halves: RecipeOf, stage: str
) -> None:
    of = tmp_path / "halves.py"
    of.write_text(TASK.replace("return right(completions)", "return [None] * len(completions)"))
    own = {"num_completions": 3, "temperature": 1.0, "from": "sft"}
    with pytest.raises(
        InputError, match=r"24 x fewer than two completions were scored\)\. Look at what"
    ) as e:
        run(halves([NO_CHECK, SFT, {stage: own}, SFT]), tmp_path / "run")
    assert "min_chosen" not in str(e.value)
    assert stage != "pairs" or "made 0 pairs of 24 prompts" in str(e.value)


def test_gaps_of_a_judge_and_of_the_reward_are_not_averaged(tmp_path: Path, halves: RecipeOf) -> None:
    of = tmp_path / "halves.py"
    golden = TASK.replace(
        "max_new_tokens=6", 'max_new_tokens=6, gold=lambda row: "b", corrupt=lambda row, rng: "a"'
    )
    of.write_text(golden)
    both = {
        "sources": ["flawed", "judged"],
        "judge": f"{of}:longer",
        "num_completions": 5,
        "temperature": 1.0,
    }
    run(halves([NO_CHECK, SFT, {"pairs": both}, DPO, *END]), tmp_path / "run")
    summary = json.loads((tmp_path / "run/pairs/pairs.json").read_text())
    quality = json.loads((tmp_path / "run/pairs/quality.json").read_text())
    assert set(summary["mean_gap"]) == {"flawed", "judged"}
    assert summary["min_gap"] == 0.5  # a tenth of the judge's range; the reward's is a tenth of 1
    assert quality["gaps"] is None
    assert next(one for one in quality["checks"] if one["name"] == "gap")["status"] == "unknown"


def label(sheet: Path, person: str, value: Callable[[list[str]], list[list[int]]]) -> Store:
    """Answer everything that one person is asked, as the page would; returns the open project."""
    kind, items = read_items(sheet)
    design = Design(overlap=1, raters=2, repeats=0)
    store = Store(sheet.with_name(f"{sheet.name}.labels"), make_scheme(kind), items, design)
    while slots := store.next(person, 1):
        for item, round in slots:
            said = value(store.items[item].texts)
            shown = turned(said, store.order(person, item, round), store.scheme, back=True)
            store.judge(Answer(next(_ids), person, item, round, shown))
    return store


def by_length(texts: list[str]) -> list[list[int]]:
    """The longest first; equals share a place."""
    sizes = [len(text.encode()) for text in texts]
    return [[i for i, s in enumerate(sizes) if s == size] for size in sorted(set(sizes), reverse=True)]


RANKED = {
    "pairs": {
        "sources": ["ranked"],
        "num_completions": 4,
        "temperature": 1.0,
        "max_prompts": 8,
        "min_pairs": 1,
    }
}


def test_people_rank_samples_and_the_run_waits_for_them_and_for_what_they_differ_on(
    tmp_path: Path, halves: RecipeOf
) -> None:
    read, out = halves([NO_CHECK, SFT, RANKED, DPO]), tmp_path / "run"
    with pytest.raises(
        StopTraining, match=r"\d+ prompts wait for people: `tieout label .*people/completions\.jsonl`"
    ):
        run(read, out)
    sheet = out / "pairs/people/completions.jsonl"
    asked = lines(sheet)
    assert not (out / "dpo").exists()
    before = sheet.read_bytes()
    label(sheet, "ann", by_length).close()
    store = label(sheet, "bob", by_length)
    odd = next(i for i, item in enumerate(store.items.values()) if len(by_length(item.texts)) > 1)
    item = list(store.items.values())[odd]
    wrong = turned(by_length(item.texts)[::-1], store.order("bob", item.id), store.scheme, back=True)
    base = store.revision("bob", item.id, 0)
    store.judge(Answer(next(_ids), "bob", item.id, 0, wrong, base))
    with pytest.raises(StopTraining, match=rf"people differ on 1 of {len(asked)} prompts: settle them .*`d`"):
        run(read, out)  # while the page is open
    right = turned(by_length(item.texts), store.order("eve", item.id), store.scheme, back=True)
    store.settle(Answer(next(_ids), "eve", item.id, 0, right))
    store.close()
    _, said = run(read, out)
    assert sheet.read_bytes() == before  # nothing was sampled again
    rows = lines(out / "pairs/pairs.jsonl")
    decided = [row for row in asked if len(by_length(row["completions"])) > 1]
    assert len(rows) == len(decided)
    for row in rows:
        given = next(
            one for one in asked if row["chosen"] in one["completions"] and one["prompt"] == row["prompt"]
        )
        sizes = [len(text.encode()) for text in given["completions"]]
        assert len(row["chosen"].encode()) == max(sizes)
        beaten = [sum((s > o) + (s == o) / 2 for o in sizes) - 0.5 for s in sizes]
        place = given["completions"].index(row["chosen"])
        assert row["chosen_score"] == pytest.approx(beaten[place] / (len(sizes) - 1), abs=1e-5)
        assert row["chosen_score"] - row["rejected_score"] == pytest.approx(
            (max(beaten) - min(beaten)) / (len(sizes) - 1), abs=1e-5
        )
    quality = json.loads((out / "pairs/quality.json").read_text())
    noise = quality["noise"]["between people"]
    sizes = [[len(text.encode()) for text in row["completions"]] for row in asked]
    questions = sum(a != b for own in sizes for i, a in enumerate(own) for b in own[:i])
    own = sizes[[row["completions"] for row in asked].index(item.completions)]
    differ = sum(a != b for i, a in enumerate(own) for b in own[:i])
    assert noise["agree"]["n"] == questions
    assert noise["agree"]["value"] == pytest.approx(1 - differ / questions)
    assert not noise["at_least"]
    assert "between people" in said
    made = json.loads((out / "pairs/pairs.json").read_text())
    assert (made["chosen"], made["min_gap"]) == ("as preferred, good or not", 0)  # the program has no say
    assert (out / "dpo/done.json").exists()


def test_a_majority_decides_where_nothing_is_settled_and_labels_outlive_other_samples(
    tmp_path: Path, halves: RecipeOf
) -> None:
    changed = {"pairs": {**RANKED["pairs"], "settle": False}}
    read, out = halves([NO_CHECK, SFT, changed]), tmp_path / "run"
    with pytest.raises(StopTraining):
        run(read, out)
    sheet = out / "pairs/people/completions.jsonl"
    label(sheet, "ann", by_length).close()
    label(sheet, "bob", lambda texts: by_length(texts)[::-1]).close()
    why = "people find no completion better than another, or differ.*or settle what people differ on"
    with pytest.raises(InputError, match=why):
        run(read, out)
    (out / "sft/done.json").unlink()
    started = json.loads((out / "pairs/started.json").read_text())
    started["inputs"]["seed"] = "another"
    (out / "pairs/started.json").write_text(json.dumps(started))
    with pytest.raises(StopTraining, match="wait for people"):
        run(read, out)
    assert (out / "pairs-people-1/completions.jsonl.labels/journal.jsonl").exists()


def test_given_pairs_are_measured_before_dpo_begins_and_once(tmp_path: Path, recipe: RecipeOf) -> None:
    words = ["tax", "fee", "bond", "debt", "share", "cash"]
    rows = [{"prompt": f"Name {w} again.", "chosen": w, "rejected": "x"} for w in words]
    write_jsonl(tmp_path / "pairs.jsonl", rows)
    write_jsonl(tmp_path / "test.jsonl", [{"prompt": "Say something else.", "answer": "tax"}])
    changes = {"data": {name: str(tmp_path / f"{name}.jsonl") for name in ("pairs", "test")}, "reward": None}
    read = recipe([NO_CHECK, DPO], **changes)
    _, said = run(read, tmp_path / "run")
    quality = json.loads((tmp_path / "run/dpo-pairs/quality.json").read_text())
    assert (quality["pairs"], quality["leakage"]["held"]["test"]["rows"]) == (6, 1)
    assert "Below 1000 pairs DPO is noisy" in said
    _, again = run(read, tmp_path / "run")
    assert "quality" not in again


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sources": ["sampled", "judged"], "judge": "exact"}, "would pair the same completions twice"),
        ({"sources": ["judged"]}, "name the judge as `judge`"),
        ({"sources": ["sampled"], "judge": "exact"}, "only the source 'judged' has a judge"),
        ({"sources": ["sampled"], "backstop": "right"}, "only the source 'judged' has one"),
        ({"sources": ["ranked"], "num_completions": 12}, "people rank 2 to 9 completions"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused(
    recipe: RecipeOf, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe([SFT, {"pairs": settings}])


def test_another_function_of_the_same_factory_may_be_the_judge(tmp_path: Path, halves: RecipeOf) -> None:
    stage = {"pairs": {"sources": ["judged"], "judge": f"{tmp_path / 'halves.py'}:wrong"}}
    read = halves([SFT, stage])
    with RunFolder(tmp_path / "run") as folder:
        Run(read, folder, Console(quiet=True))  # which checks the stages


def test_another_metric_than_the_primary_one_may_be_the_backstop(tmp_path: Path, halves: RecipeOf) -> None:
    file = tmp_path / "halves.py"
    file.write_text(TASK.replace('{"right": right}', '{"right": right, "wrong": wrong}'))
    judged = {"sources": ["judged"], "judge": f"{file}:longer", "num_completions": 5, "temperature": 1.0}
    run(halves([NO_CHECK, SFT, {"pairs": {**judged, "backstop": "wrong", "min_pairs": 4}}]), tmp_path / "run")
    rows = lines(tmp_path / "run/pairs/pairs.jsonl")
    assert all(sum(map(ord, row["chosen"])) % 2 == 1 for row in rows), "what the primary metric calls wrong"
    for name, message in (
        ("absent", "none of the metrics of task 'halves': right, wrong"),
        ("wrong", "no program"),
    ):
        stage = {"pairs": {**judged, "judge": f"{file}:wrong", "backstop": name}}
        with pytest.raises(InputError, match=message):
            run(halves([SFT, stage]), tmp_path / "refused")


def test_a_judge_that_is_its_own_backstop_is_refused(tmp_path: Path, halves: RecipeOf) -> None:
    for judge, message in (("right", "has no program as its backstop"), ("absent", "absent")):
        stage = {"pairs": {"sources": ["judged"], "judge": f"{tmp_path / 'halves.py'}:{judge}"}}
        with pytest.raises(InputError, match=message):
            run(halves([SFT, stage]), tmp_path / "run")
    assert not (tmp_path / "run/sft").exists()

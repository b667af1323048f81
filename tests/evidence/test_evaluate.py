"""Cases keep what was asked, written and scored; errors stay errors; a file gives back what was put in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieout.evidence.evaluate import (
    CONTROLS,
    PROGRAMMATIC,
    Case,
    by_prompt,
    evaluate,
    read_cases,
    write_cases,
)
from tieout.evidence.figures import model_figures, pair_figures
from tieout.rewards.library.exact import exact
from tieout.rewards.scoring.combine import combine
from tieout.samplers import SamplingParams
from tieout.samplers.mock import MockSampler
from tieout.tasks import Task

ROWS = [{"prompt": f"{i} + {i} =", "answer": str(2 * i)} for i in range(5)]
SUMS = Task("sums", lambda split: ROWS, exact)
T = replace(SUMS, name="t")


def fragile(completions: list[str], **_: Any) -> list[float | None]:
    return [None if text == "skip" else float(text) for text in completions]


def half(completions: list[str], **_: Any) -> list[float]:
    return [float(c) / 2 for c in completions]


def test_every_row_becomes_a_case() -> None:
    sampler = MockSampler({"0 + 0 =": "0", "1 + 1 =": "3", "2 + 2 =": " 4 ", "3 + 3 =": "6", "4 + 4 =": ""})
    done: list[tuple[int, int]] = []
    cases = evaluate(SUMS, ROWS, sampler, batch_size=2, progress=lambda i, n: done.append((i, n)))
    assert [case.score for case in cases] == [1.0, 0.0, 1.0, 1.0, 0.0]
    assert cases[1] == Case("sums/test/1", "programmatic", "test", "1 + 1 =", "3", 0.0)
    assert done == [(2, 5), (4, 5), (5, 5)]
    assert all(params.temperature == 0 for _, params in sampler.calls)


def test_chunks_do_not_repeat_each_others_random_streams() -> None:
    sampler = MockSampler(["x"] * 5)
    evaluate(SUMS, ROWS, sampler, SamplingParams(seed=10), batch_size=2)
    streams = [params.seed + i for prompts, params in sampler.calls for i in range(len(prompts))]
    assert len(set(streams)) == 5


def test_errors_and_abstentions_have_no_score_and_a_crash_is_a_wrong_answer() -> None:
    """`junk` makes a reward raise that works on `0`: it gets what a wrong answer gets, or it would be a way out."""
    cases = evaluate(
        replace(SUMS, reward=fragile, metrics={"half": half}),
        ROWS,
        MockSampler(["1", "junk", "skip", "nan", "0.5"]),
    )
    assert [case.status for case in cases] == ["scored", "scored", "abstained", "errored", "scored"]
    assert [case.score for case in cases] == [1.0, 0.0, None, None, 0.5]
    assert "could not convert" in cases[1].errors["score"]
    assert cases[0].metrics == {"half": 0.5}
    assert [case.metrics for case in cases[1:4]] == [{"half": 0.0}, {"half": 0.0}, {}]
    assert [set(case.errors) for case in cases] == [
        set(),
        {"score", "half"},
        {"half"},
        {"score", "half"},
        set(),
    ]


def test_names_slices_and_clusters_come_from_the_rows() -> None:
    rows = [{"prompt": "p", "answer": "a", "id": "q7", "skill": "copy", "doc": "d1"}]
    (case,) = evaluate(
        replace(SUMS, name="qa"),
        rows,
        MockSampler(["a"]),
        track=CONTROLS,
        slice=lambda row: row["skill"],
        cluster=lambda row: row["doc"],
    )
    assert (case.id, case.track, case.slice, case.cluster) == ("qa/copy/q7", CONTROLS, "copy", "d1")


def tenths(completions: list[str], **_: Any) -> list[float]:
    return [int(text) / 10 for text in completions]


def test_copies_of_a_prompt_narrow_no_interval() -> None:
    graded, said = replace(SUMS, reward=tenths), ["1", "7", "4", "9", "2"]
    once = evaluate(graded, ROWS, MockSampler(said))
    thrice = evaluate(graded, ROWS * 3, MockSampler(said * 3), batch_size=4)
    assert {case.cluster for case in once} == {""}
    assert [case.cluster for case in thrice[:5]] == [case.cluster for case in thrice[10:]]
    assert len({case.cluster for case in thrice}) == 5
    one, three = (model_figures({"m": cases}, [], "m", PROGRAMMATIC, 0) for cases in (once, thrice))
    assert [three[end] for end in ("mean", "low", "high")] == pytest.approx(
        [one[end] for end in ("mean", "low", "high")]
    )
    zeros = {"old": evaluate(graded, ROWS * 3, MockSampler(["0"] * 15)), "new": thrice}
    alone = {name: [replace(case, cluster="") for case in cases] for name, cases in zeros.items()}
    as_copies, as_cases = (pair_figures(c, [], "new", "old", PROGRAMMATIC, 0) for c in (zeros, alone))
    assert as_copies["low"] < as_cases["low"] < as_cases["difference"]


def test_episodes_of_one_prompt_and_clusters_that_are_given_stay_as_they_are() -> None:
    played = Case("a", PROGRAMMATIC, "test", "Guess.", "tares", 1.0, turns=["tares"])
    asked = Case("b", PROGRAMMATIC, "test", "2 + 2 =", "4", 1.0)
    given = [
        played,
        replace(played, id="c"),
        replace(asked, cluster="10-K"),
        asked,
        replace(asked, track="t"),
    ]
    assert by_prompt(given) == given
    again = by_prompt([*given, replace(asked, id="d", slice="ood")])
    assert [bool(case.cluster) for case in again] == [False, False, True, True, False, True]
    assert again[2].cluster == "10-K"
    assert again[3].cluster == again[5].cluster
    assert by_prompt(again) == again
    # Each split was read alone before: the copy in another one joins those that share a cluster already.
    joined = by_prompt([*again, replace(asked, id="e", slice="late")])
    assert joined[3].cluster == joined[6].cluster


def test_bad_rows_are_refused_before_anything_is_generated() -> None:
    sampler = MockSampler([])
    with pytest.raises(ValueError, match="reward 'exact' needs column 'answer'; rows have: question"):
        evaluate(T, [{"prompt": "p", "question": "q"}], sampler)
    with pytest.raises(ValueError, match="needs column 'answer'"):  # one row has it, one does not
        evaluate(T, [ROWS[0], {"prompt": "p"}], sampler)
    with pytest.raises(ValueError, match="case 't/test/1' has no prompt"):
        evaluate(T, [ROWS[0], {"prompt": "", "answer": ""}], sampler)
    with pytest.raises(ValueError, match="two rows for the case 't/test/a'"):
        evaluate(T, [{**ROWS[0], "id": "a"}, {**ROWS[1], "id": "a"}], sampler)
    assert sampler.calls == []


def test_a_metric_that_needs_tokens_is_refused_where_the_sampler_gives_text_only() -> None:
    def tokens(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(len(ids)) for ids in completion_ids]

    sampler = MockSampler(["1"] * 5)
    with pytest.raises(ValueError, match="asks for tokens"):
        evaluate(replace(SUMS, metrics={"tokens": tokens}), ROWS, sampler)
    assert sampler.calls == []


def test_the_points_of_every_part_are_kept() -> None:
    parts = {"figures": half, "form": half}
    task = replace(SUMS, reward=fragile, metrics={"figures": fragile}, parts=parts)
    cases = evaluate(task, ROWS, MockSampler(["1", "junk", "skip", "0", "0.5"]))
    assert cases[0].parts == {"figures": 0.5, "form": 0.5}
    assert cases[0].metrics == {"figures": 1.0}  # a metric of the same name is another number
    assert cases[1].parts == {"figures": 0.0, "form": 0.0}  # a crash is a wrong answer, as of the reward
    assert set(cases[1].errors) == {"score", "figures", "part figures", "part form"}


@pytest.mark.parametrize("missing", ["abstain", "rescale", "leave_out"])
def test_a_combined_reward_is_taken_apart_as_it_is_combined(missing: Any) -> None:
    reward = combine({fragile: 0.25, half: 0.5}, missing=missing)
    cases = evaluate(replace(SUMS, reward=reward), ROWS, MockSampler(["1", "0.5", "2", "junk", "0"]))
    assert cases[0].parts == {"fragile": 0.25, "half": 0.25}
    for case in (*cases[:3], cases[4]):
        assert sum(case.parts.values()) == pytest.approx(case.score)

    def some(completions: list[str], **_: Any) -> list[float | None]:
        return [None if text == "1" else 1.0 for text in completions]

    (case,) = evaluate(
        replace(SUMS, reward=combine({some: 1.0, half: 1.0}, missing=missing)), ROWS[:1], MockSampler(["1"])
    )
    assert sum(case.parts.values()) == pytest.approx(case.score or 0.0)
    assert bool(case.parts) == (missing != "abstain")


def test_parts_that_do_not_add_up_to_the_reward_are_refused() -> None:
    task = replace(SUMS, reward=fragile, parts={"form": half, "figures": half, "more": half})
    with pytest.raises(
        ValueError, match=r"of case 'sums/test/0' they give 1.5 \(form 0.5, .*the reward gives 1"
    ):
        evaluate(task, ROWS, MockSampler(["1"] * 5))


def test_cases_without_parts_are_read_as_before(tmp_path: Path) -> None:
    case = Case("1", "programmatic", "test", "p", "c", 1.0, {"exact": 1.0})
    write_cases(tmp_path / "cases.jsonl", {"a": [case]})
    assert "parts" not in (tmp_path / "cases.jsonl").read_text()
    assert read_cases(tmp_path / "cases.jsonl") == {"a": [case]}
    with_points = {"a": [replace(case, parts={"form": 1.0})]}
    write_cases(tmp_path / "cases.jsonl", with_points)
    assert read_cases(tmp_path / "cases.jsonl") == with_points


def test_no_rows_give_no_cases() -> None:
    assert evaluate(T, [], MockSampler([])) == []


def test_a_sampler_that_loses_completions_is_caught() -> None:
    class Lossy:
        def complete(self, prompts: Any, params: Any) -> list[str]:
            return ["x"]

    with pytest.raises(ValueError, match="1 completions for 5 prompts"):
        evaluate(T, ROWS, Lossy())


ANY_TEXT = st.text(alphabet=st.characters(exclude_categories=()), max_size=20)
MESSAGES = st.lists(st.fixed_dictionaries({"role": ANY_TEXT, "content": ANY_TEXT}), min_size=1, max_size=2)


@settings(max_examples=20)
@given(
    st.one_of(ANY_TEXT, MESSAGES),
    st.lists(st.tuples(ANY_TEXT, st.none() | st.floats(-1, 1)), min_size=1, max_size=3),
)
def test_cases_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, prompt: Any, answers: list[tuple[str, float | None]]
) -> None:
    cases = {
        f"model {i}": [Case("id", "programmatic", "test", prompt, text, value, {"exact": 1.0}, {"m": text})]
        for i, (text, value) in enumerate(answers)
    }
    path = tmp_path_factory.mktemp("cases") / "cases.jsonl"
    write_cases(path, cases)
    assert read_cases(path) == cases
    assert path.read_bytes().count(b"\n") == 1


def test_models_evaluated_on_different_rows_are_refused(tmp_path: Path) -> None:
    case = Case("id", "programmatic", "test", "p", "c", 1.0)
    with pytest.raises(
        ValueError, match="case 'id' differs between models in its prompt: 'p' and, for 'b', 'q'"
    ):
        write_cases(tmp_path / "cases.jsonl", {"a": [case], "b": [replace(case, prompt="q")]})
    with pytest.raises(ValueError, match="model 'a' has two cases called 'id'"):
        write_cases(tmp_path / "cases.jsonl", {"a": [case, case]})
    assert not (tmp_path / "cases.jsonl").exists()


@pytest.mark.parametrize(
    "line", ['{"case": "x"}', '{"case":"x","track":"","slice":"","cluster":"","prompt":"","models":[]}']
)
def test_a_line_that_is_no_case_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "cases.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"cases.jsonl:1: not a case"):
        read_cases(tmp_path / "cases.jsonl")

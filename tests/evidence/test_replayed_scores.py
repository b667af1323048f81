"""Scores of episodes: computed again by the recorded turns, and left out, said so, where those do not decide them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tieout.cli.verify import main
from tieout.evidence import scoring
from tieout.evidence.evaluate import Case, evaluate, read_cases, write_cases
from tieout.evidence.report import write_report
from tieout.samplers.mock import MockSampler
from tieout.tasks import Task, load_task
from tieout.types import Prompt, Row

ROWS: list[Row] = [{"prompt": "Guess.", "number": str(n)} for n in range(1, 7)]


def climbing(prompt: Prompt) -> str:
    """Guess 1, 2, 3, ...: with a blank line in every turn."""
    return f"It is\n\n{sum(message['role'] == 'user' for message in prompt)}"  # type: ignore[index]


def guess(row: Row) -> Generator[str, str, float | None]:
    """Four guesses; what remains is the score."""
    for turn in range(4):
        if (yield f"Guess {turn}").split()[-1] == row["number"]:
            return 1.0 - turn / 4
    return 0.0


_calls = count()


def moody(row: Row) -> Generator[str, str, float | None]:
    yield f"Guess number {next(_calls)}"
    return 1.0


def away(row: Row) -> Generator[str, str, float | None]:
    if not Path("service").exists():
        raise OSError("no route to the service")
    return (yield from guess(row))


def last_word(completions: Sequence[str], number: Sequence[str], **columns: Any) -> list[float]:
    return [float(c.split()[-1] == n) for c, n in zip(completions, number, strict=True)]


TASKS = {
    "guess": Task("guess", lambda split: ROWS, environment=guess, metrics={"last": last_word}),
    "rewarded": Task("guess", lambda s: ROWS, last_word, environment=guess, scored_by="reward"),
    "moody": Task("guess", lambda split: ROWS, environment=moody),
    "away": Task("guess", lambda split: ROWS, environment=away),
}


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[str], list[Case]]:
    """Evaluate one of TASKS into an evidence folder, the current directory being its parent."""

    def make(name: str) -> list[Case]:
        task = TASKS[name]
        scoring.keep(tmp_path, task, {"test": ROWS}, None, {"task": f"{Path(__file__)}:TASKS.{name}"})
        cases = evaluate(task, ROWS, MockSampler(climbing))
        write_cases(tmp_path / "cases.jsonl", {"m": cases})
        return cases

    return make


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copied source is this file; its tasks are looked up here, as the fixtures of the copy would be others."""
    found = scoring.load_task
    monkeypatch.setattr(
        scoring,
        "load_task",
        lambda name, options=None: TASKS.get(name.partition("TASKS.")[2]) or found(name, options),
    )


@pytest.mark.parametrize("name", ["guess", "rewarded"])
def test_an_episode_is_scored_again_by_its_turns(
    kept: Callable[[str], list[Case]], tmp_path: Path, name: str
) -> None:
    cases = kept(name)
    assert [case.score for case in cases] == (
        [1.0, 0.75, 0.5, 0.25, 0, 0] if name == "guess" else [1.0] * 4 + [0.0] * 2
    )
    assert [len(case.turns) for case in cases] == [1, 2, 3, 4, 4, 4]
    assert [len(case.replies) for case in cases] == [0, 1, 2, 3, 3, 3]
    said = [("model", "It is\n\n1"), ("environment", "Guess 1"), ("model", "It is\n\n2")]
    assert cases[1].dialogue == said
    assert cases[0].dialogue == []
    assert read_cases(tmp_path / "cases.jsonl") == {"m": cases}
    again = scoring.rescore(tmp_path)
    assert (again.problems, again.scored, again.left) == ([], 6, 0)


def _turns(case: Case, turns: list[str], **changes: Any) -> Case:
    return replace(case, turns=turns, completion="\n\n".join(turns), **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: replace(c, score=1.0), "guess/test/2: score of m is 1.0 in cases.jsonl; its output gives 0.5"),
        (lambda c: _turns(c, ["3"]), "guess/test/2: score of m is 0.5 in cases.jsonl; its output gives 1.0"),
        (lambda c: _turns(c, ["1", "2"]), "guess/test/2 of m: the environment has not ended after its 2 turns"),
        (lambda c: _turns(c, ["1", "3", "3"]), "guess/test/2 of m: the environment ended after 2 of its 3 turns"),
        (
            lambda c: replace(c, completion="3"),
            "guess/test/2: the turns of m in cases.jsonl are not its completion",
        ),
        (
            lambda c: replace(c, replies=["Guess 1", "You won"]),
            "guess/test/2: what the environment replied to m in cases.jsonl is not what it replies",
        ),
    ],
)  # fmt: skip
def test_a_turn_or_score_that_was_changed_is_named(
    kept: Callable[[str], list[Case]], tmp_path: Path, change: Callable[[Case], Case], message: str
) -> None:
    cases = kept("guess")
    cases[2] = change(cases[2])
    write_cases(tmp_path / "cases.jsonl", {"m": cases})
    assert message in scoring.rescore(tmp_path).problems


def test_what_the_turns_do_not_decide_is_left_out_and_counted(
    kept: Callable[[str], list[Case]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept("moody")
    again = scoring.rescore(tmp_path)
    assert (again.problems, again.scored, again.left) == ([], 0, 6)
    assert "the environment does not follow from an episode's turns" in again.said
    monkeypatch.chdir(tmp_path)
    (tmp_path / "service").touch()
    kept("away")
    assert scoring.rescore(tmp_path).scored == 6
    (tmp_path / "service").unlink()
    again = scoring.rescore(tmp_path)
    assert (again.problems, again.left) == ([], 6)
    assert "no route to the service, which it did not when it was evaluated" in again.said


def test_episodes_that_outgrew_the_context_or_were_kept_without_turns_are_left_out(
    kept: Callable[[str], list[Case]], tmp_path: Path
) -> None:
    cases = kept("guess")
    cases[0] = replace(cases[0], turns=[])
    cases[4] = _turns(cases[4], ["1", "2"], errors={"score": "the episode outgrew the model's context"})
    write_cases(tmp_path / "cases.jsonl", {"m": cases})
    again = scoring.rescore(tmp_path)
    assert (again.problems, again.scored, again.left) == ([], 4, 2)
    assert "2 not computed again, such as guess/test/0 of m: its turns were not kept" in again.said


def test_the_command_ends_with_how_many_scores_it_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wordle, with a player that gives up: a blank where a guess should be."""
    task = load_task("wordle")
    rows = list(task.rows("test"))[:20]
    scoring.keep(tmp_path, task, {"test": rows}, None, {"task": "wordle"})
    cases = {name: evaluate(task, rows, MockSampler(lambda p, w=word: w)) for name, word in (("a", "audit"), ("b", ""))}  # type: ignore[misc]  # fmt: skip
    cases["b"] = [replace(case, turns=[]) if i < 3 else case for i, case in enumerate(cases["b"])]
    write_report(tmp_path, cases, candidate="b", baseline="a")
    main([str(tmp_path / "report.json")])
    said = capsys.readouterr().out
    count = sum(bool(case.completion) and not case.turns for case in cases["b"])
    assert count == 3
    assert said.splitlines()[-1].endswith(
        "; 3 scores were not computed again; nothing was performed again (--fresh 5%)"
    )

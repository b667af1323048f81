"""One owner per item, nothing overwritten, nothing asked twice, nothing lost."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from projects import answer, judge_all, open_store

from tieout.errors import InputError
from tieout.labelling import store as module
from tieout.labelling.assignment import Design
from tieout.labelling.disputes import disputes
from tieout.labelling.exports import export, imported
from tieout.labelling.journal import NotSaved
from tieout.labelling.scheme import Criterion, Scheme, make_scheme
from tieout.labelling.store import Stale
from tieout.labelling.values import SKIP
from tieout.storage.jsonl import write_jsonl


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert judge_all(store, "anna", "a", most=4) == 4
    (item, _), *_ = store.next("anna", 5)
    store.draft(replace(answer(store, "anna", item, "b"), comment="half a thou"))
    store.close()
    again = open_store(tmp_path)
    assert [e["value"] for e in again.judgements()] == ["a"] * 4
    assert [e["comment"] for e in again.drafts.values()] == ["half a thou"]
    assert len(again.next("anna", 99)) == 2
    assert again.project == store.project


def test_an_item_has_one_owner_however_many_ask_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=60)
    got: dict[str, list[str]] = {}

    def work(name: str) -> None:
        got[name] = []
        while slots := store.next(name, 3, [(item, 0) for item in got[name]]):
            got[name] += [item for item, _ in slots]

    threads = [threading.Thread(target=work, args=(name,)) for name in ("anna", "ben", "cleo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(item for items in got.values() for item in items)
    assert len(counts) == 60
    assert set(counts.values()) == {1}


def test_overlap_gives_that_share_to_two_and_no_item_to_three(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=200, design=Design(overlap=0.3, repeats=0))
    for name in ("anna", "ben", "cleo"):
        judge_all(store, name, "a")
    raters = Counter(len(own) for own in store.by_item().values())
    assert set(raters) == {1, 2}
    assert 40 <= raters[2] <= 80


def test_repeats_come_back_to_the_same_person_after_a_gap_with_sides_of_their_own(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=100, design=Design(overlap=0, repeats=0.5, gap=10))
    seen: list[tuple[str, int]] = []
    judge_all(store, "anna", lambda item, round: seen.append((item, round)) or "a")
    again = [item for item, round in seen if round == 1]
    assert 25 <= len(again) <= 60
    assert all(seen.index((item, 1)) - seen.index((item, 0)) >= 10 for item in again)
    turned = sum(store.order("anna", item, 0) != store.order("anna", item, 1) for item in again)
    assert 0 < turned < len(again)


def test_sides_are_a_coin_per_person_and_item_and_values_come_back_in_the_order_of_the_source(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path, number=200)
    sides = [store.order("anna", item)[0] for item in store.items]
    assert 70 <= sum(sides) <= 130
    assert sides != [store.order("ben", item)[0] for item in store.items]
    judge_all(store, "anna", "b")
    assert {entry["value"] for entry in store.judgements()} == {"b"}
    assert {tuple(entry["shown"]) for entry in store.judgements()} == {(0, 1), (1, 0)}


def test_sides_follow_from_the_key_of_the_project_and_nothing_else(tmp_path: Path) -> None:
    store, other = (open_store(tmp_path, number=100, name=name) for name in ("one", "other"))
    sides = [store.order("anna", item) for item in store.items]
    assert list(store.items) == list(other.items)
    assert sides != [other.order("anna", item) for item in other.items], "rows alone do not foretell them"
    judge_all(store, "ben", "a")
    store.close()
    again = open_store(tmp_path, number=100, name="one")
    assert [again.order("anna", item) for item in again.items] == sides


def test_a_stale_tab_cannot_overwrite(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ((item, _),) = store.next("anna", 1)
    first, second = answer(store, "anna", item, "a"), answer(store, "anna", item, "b")
    store.judge(first)
    with pytest.raises(Stale) as caught:
        store.judge(second)
    assert caught.value.current is not None
    assert caught.value.current["value"] == "a"
    assert [entry["value"] for entry in store.judgements()] == ["a"]
    with pytest.raises(Stale):
        store.draft(second)


def test_answers_that_did_not_get_to_disk_together_are_not_known_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    said = [answer(store, "anna", item, "a") for item, _ in store.next("anna", 2)]

    def full(file: int) -> None:
        raise OSError("no room")

    def both(patched: pytest.MonkeyPatch) -> None:
        with store.together():
            store.judge(said[0])
            patched.setattr("tieout.labelling.journal.os.fsync", full)
            store.judge(said[1])

    with monkeypatch.context() as patched, pytest.raises(NotSaved):
        both(patched)
    assert store.judgements() == []
    with store.together():
        assert [store.judge(one)["n"] for one in said] == [
            len(store.journal.entries) - 1,
            len(store.journal.entries),
        ]
    store.close()
    assert open_store(tmp_path).judgements() == store.judgements() != []


def test_a_clock_that_was_set_back_does_not_make_an_earlier_answer_the_last(tmp_path: Path) -> None:
    times = iter(f"20{40 - i}-01-01T00:00:00+00:00" for i in range(40))
    store = open_store(tmp_path, number=1, clock=lambda: next(times))
    ((item, _),) = store.next("anna", 1)
    for value in ("a", "b", "tie"):
        store.judge(answer(store, "anna", item, value))
    store.close()
    again = open_store(tmp_path, number=1, clock=lambda: next(times))
    assert [e["value"] for e in again.judgements()] == ["tie"]
    assert again.judgements()[0]["time"] < again.journal.entries[0]["time"]


def test_under_a_clock_that_was_set_back_the_gap_before_a_repeat_counts_judgements(tmp_path: Path) -> None:
    times = iter(f"20{40 - i}-01-01T00:00:00+00:00" for i in range(40))
    design = Design(overlap=0.0, repeats=1.0, gap=3)
    store = open_store(tmp_path, number=5, clock=lambda: next(times), design=design)
    items = [item for item, _ in store.next("anna", 5)]
    for item in items:
        store.judge(answer(store, "anna", item, "a"))
    assert store.next("anna", 9) == [(items[0], 1), (items[1], 1)], "the two that were judged first"


def test_a_copy_of_the_folder_at_any_moment_has_all_that_was_confirmed_before(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=30)
    confirmed: list[str] = []
    copies: list[int] = []

    def work() -> None:
        while slots := store.next("anna", 3):
            with store.together():
                done = [store.judge(answer(store, "anna", item, "a"))["id"] for item, _ in slots]
            confirmed.extend(done)

    thread = threading.Thread(target=work)
    thread.start()
    running = True
    while running:  # the last copy is of all of it
        running = thread.is_alive()
        before = list(confirmed)
        name = f"copy-{len(copies)}"
        shutil.copytree(tmp_path / "labels", tmp_path / name)
        copy = open_store(tmp_path, number=30, name=name)
        known = [e["id"] for e in copy.judgements()]
        assert known[: len(before)] == before
        copies.append(len(known))
        copy.close()
    assert copies[-1] == 30


def test_an_answer_that_arrives_twice_is_one(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ((item, _),) = store.next("anna", 1)
    said = answer(store, "anna", item, "a")
    assert store.judge(said) == store.judge(said)
    store.close()
    again = open_store(tmp_path)
    assert again.judge(said)["n"] == again.judgements()[0]["n"]
    assert len(again.judgements()) == 1


def test_edit_after_submit_and_undo_keep_what_was_said_before(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    ((item, _),) = store.next("anna", 1)
    store.judge(answer(store, "anna", item, "a"))
    store.judge(answer(store, "anna", item, "b"))
    assert store.judgement("anna", item)["value"] == "b"
    store.undo(answer(store, "anna", item, "b"))
    assert store.judgement("anna", item) is None
    assert store.next("anna", 1) == [(item, 0)]
    with pytest.raises(InputError, match="nothing to undo"):
        store.undo(answer(store, "anna", item, "b"))
    said = [entry["value"] for entry in store.journal.entries if entry["what"] == "judgement"]
    assert said == ["a", "b"]


def test_two_people_of_the_same_name_are_one_and_share_their_items(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    here, there = store.next("anna", 2), store.next("anna", 2)
    assert here == there
    store.judge(answer(store, "anna", here[0][0], "a"))
    assert here[0] not in store.next("anna", 2)


def test_what_is_skipped_goes_to_somebody_else_and_comes_back_on_request(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=3)
    judge_all(store, "anna", SKIP)
    assert store.judgements() == []
    assert len(store.next("anna", 9, skipped=True)) == 3
    assert judge_all(store, "ben", "a", most=2) == 2
    assert len(store.by_item()) == 2


def test_items_of_somebody_who_left_are_taken_over_and_a_late_answer_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, number=4)
    held = [item for item, _ in store.next("anna", 3)]
    assert judge_all(store, "ben", "a") == 1
    late = answer(store, "anna", held[0], "b")
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    assert judge_all(store, "ben", "a") == 3
    store.judge(late)
    assert [e["value"] for e in store.by_item()[held[0]]] == ["a", "b"]


def test_an_item_that_was_never_given_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    item = next(iter(store.items))
    with pytest.raises(InputError, match="not given to mallory"):
        store.judge(answer(store, "mallory", item, "a"))


GRADES = Scheme("grades", (Criterion("right", "Right", {"0": "no", "1": "yes"}),), None, "x")


def test_a_label_that_is_renamed_keeps_its_judgements_and_one_that_is_removed_loses_none(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path, "grades", 2, scheme=GRADES)
    judge_all(store, "anna", {"right": "1"})
    store.close()
    renamed = replace(GRADES, criteria=(replace(GRADES.criteria[0], name="Correct"),))
    store = open_store(tmp_path, "grades", 2, scheme=renamed)
    assert store.next("anna", 9) == []
    store.close()
    other = replace(GRADES, criteria=(Criterion("form", "Form", {"0": "bad", "1": "good"}),))
    store = open_store(tmp_path, "grades", 2, scheme=other)
    assert [entry["value"] for entry in store.judgements()] == [{"right": "1"}] * 2
    assert len(store.next("anna", 9)) == 2, "what is asked now was not answered"


def test_of_a_level_or_a_label_that_is_removed_nothing_is_lost_nor_kept_from_coming_back(
    tmp_path: Path,
) -> None:
    three = replace(GRADES, criteria=(Criterion("right", "Right", {"0": "no", "1": "yes", "2": "very"}),))
    spans = Scheme("spans", (), {"wrong": "Wrong", "nit": "Nit"}, "x")
    nit = {"start": 0, "end": 7, "label": "nit"}
    for kind, wide, narrow, value in (
        ("grades", three, GRADES, {"right": "2"}),
        ("spans", spans, replace(spans, labels={"wrong": "Wrong"}), [nit]),
    ):
        store = open_store(tmp_path, kind, 2, scheme=wide, name=kind)
        judge_all(store, "anna", value)
        store.close()
        store = open_store(tmp_path, kind, 2, scheme=narrow, name=kind)
        kept = [entry["value"] for entry in store.judgements()]
        assert kept == [value if kind == "grades" else [{**nit, "text": "Revenue"}]] * 2
        assert len(store.next("anna", 9)) == (2 if kind == "grades" else 0), "a level is asked for again"
        rows = export(store, narrow, "all")
        write_jsonl(tmp_path / f"{kind}-out.jsonl", rows)
        other = open_store(tmp_path, kind, 2, scheme=narrow, name=f"{kind}-other")
        assert other.add_imported(imported(tmp_path / f"{kind}-out.jsonl")) == 2
        assert export(other, narrow, "all") == rows
        ((item, _), *_) = other.next("ben", 1) or [(next(iter(other.items)), 0)]
        with pytest.raises(InputError):
            other.judge(answer(other, "anna", item, value))


def test_a_settled_dispute_is_opened_again_and_the_journal_has_both(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=1, design=Design(overlap=1.0, repeats=0))
    for name, value in (("anna", "a"), ("ben", "b")):
        judge_all(store, name, value)
    (item,) = disputes(store, store.scheme)
    verdict = store.settle(answer(store, "chief", item, "b", base=0))
    undone = answer(store, "chief", item, "b", base=verdict["n"])
    with pytest.raises(Stale):
        store.unsettle(replace(undone, id="another-answer", base=verdict["n"] - 1))
    assert store.unsettle(undone) == store.unsettle(undone), "twice is once"
    assert disputes(store, store.scheme) == [item]
    with pytest.raises(Stale):
        store.unsettle(replace(undone, id="another-answer"))
    store.settle(answer(store, "chief", item, "a", base=0))
    store.close()
    again = open_store(tmp_path, number=1)
    assert again.verdicts[item]["value"] == "a"
    assert [e["what"] for e in again.journal.entries[-3:]] == ["verdict", "unsettle", "verdict"]


def test_each_version_of_the_guidelines_is_kept_and_named_by_every_judgement(tmp_path: Path) -> None:
    versions = []
    for text in ("Be strict.", "Be strict.", "Be stricter."):
        store = open_store(tmp_path, scheme=make_scheme("pairs", guidelines=text))
        judge_all(store, "anna", "a", most=1)
        versions = store.guidelines
        store.close()
    assert len(versions) == 2
    assert [entry["guidelines"] for entry in store.judgements()] == [versions[0], versions[0], versions[1]]


def test_new_rows_of_the_file_are_asked_and_old_ones_keep_their_judgements(tmp_path: Path) -> None:
    store = open_store(tmp_path, number=3)
    judge_all(store, "anna", "a")
    store.close()
    (tmp_path / "pairs.jsonl").unlink()
    store = open_store(tmp_path, number=5)
    assert len(store.judgements()) == 3
    assert judge_all(store, "anna", "b") == 2


def test_another_kind_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with pytest.raises(InputError, match="holds pairs, not grades"):
        open_store(tmp_path, "grades")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("pairs", "c"),
        ("pairs", None),
        ("rankings", [[0, 1], [2]]),
        ("rankings", [[0], [0], [1], [2, 3]]),
        ("rankings", [[0], [], [1], [2, 3]]),
        ("rankings", "abcd"),
        ("grades", {}),
        ("grades", {"good": "2"}),
        ("spans", [{"start": 3, "end": 3, "label": "wrong"}]),
        ("spans", [{"start": 0, "end": 999, "label": "wrong"}]),
        ("spans", [{"start": 0, "end": 2, "label": "nice"}]),
    ],
)
def test_a_value_that_is_no_answer_is_refused_and_leaves_nothing(
    tmp_path: Path, kind: str, value: object
) -> None:
    store = open_store(tmp_path, kind)  # type: ignore[arg-type]
    ((item, _),) = store.next("anna", 1)
    said = replace(answer(store, "anna", item, SKIP), value=value)
    with pytest.raises(InputError):
        store.judge(said)
    assert store.judgements(skips=True) == []

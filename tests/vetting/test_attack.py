"""The attack finds planted holes of every class, and nothing in rewards without them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import planted_rewards as planted
import pytest
from planted_rewards import BREAKDOWN, CODE, PLANTS, SUMS, TAGS, WORDS, Plant

from tieout.cli import main
from tieout.rewards import load_reward
from tieout.sandbox.choose import available
from tieout.tasks import load_task
from tieout.vetting.attack import CLASSES, Attack, AttackSettings, attack, calling, keep, read_corpus
from tieout.vetting.attack.gold import read_gold, same_answer
from tieout.vetting.attack.probe import Probe, Setting, says_gold, unique
from tieout.vetting.attack.targets import fixed_probes

NEEDS_SANDBOX = {"code", "visible_tests_only"}
ONLY_CODE = {"classes": ("code",), "seconds": 60.0}
"""A program may take a start of Python for each probe, so those of its own class are enough here."""
_done: dict[str, Attack] = {}
HARDENED = {(plant.hardened.__name__, id(plant.rows)): plant for plant in PLANTS}


def needs_sandbox(name: str) -> None:
    if name in NEEDS_SANDBOX and not any(i.works for i in available()):
        pytest.skip("no namespaces here")


def name_of(plant: Plant) -> str:
    return plant.holed.__name__


def attacked(reward: planted.Reward, rows: Sequence[Any]) -> Attack:
    """The fixed probes on one row; each reward is attacked once, and several tests look at it."""
    name = reward.__name__
    if name not in _done:
        options: dict[str, Any] = ONLY_CODE if rows is CODE else {"seconds": 60.0}
        _done[name] = attack(
            reward, rows, AttackSettings(num_search=0, max_rows=1, deadline_seconds=0.5, **options)
        )
    return _done[name]


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is suspected after half a second and asked once more: here for no more than so long."""
    monkeypatch.setattr(calling, "PATIENCE_SECONDS", 3.0)


@pytest.mark.parametrize("plant", PLANTS, ids=name_of)
def test_a_planted_hole_is_found(plant: Plant) -> None:
    needs_sandbox(plant.holed.__name__)
    result = attacked(plant.holed, plant.rows)
    assert set(plant.kinds) <= set(result.counts), result.verdict
    for finding in result.findings:
        assert finding.completion != finding.gold
        assert finding.score is None or finding.score > 0
    assert "robust" not in result.verdict


@pytest.mark.parametrize("plant", HARDENED.values(), ids=lambda plant: plant.hardened.__name__)
def test_a_hardened_reward_is_left_alone(plant: Plant) -> None:
    needs_sandbox(plant.hardened.__name__)
    program = plant.rows is CODE
    budget = ONLY_CODE if program else {"num_search": 60, "seconds": 60.0}
    result = attack(plant.hardened, plant.rows, AttackSettings(max_rows=1, **{"num_search": 0, **budget}))
    assert result.findings == []
    assert result.verdict.startswith("no exploit in ")
    assert result.skipped == 0
    usual = {"shell", "constant", "format farming", "length", "judge", "harness", "code"}
    assert (set(ONLY_CODE["classes"]) if program else usual) <= {k for k, n in result.probes.items() if n}


def test_every_class_has_a_planted_hole() -> None:
    assert {kind for plant in PLANTS for kind in plant.kinds} == set(CLASSES) - {"policy"}


def test_the_four_holes_that_everyone_writes_are_found_by_what_they_are() -> None:
    found = {f.kind: f for f in attacked(planted.reconciled_if_there, BREAKDOWN).findings}
    assert found["shell"].score == found["shell"].gold_score == 1.0
    assert "total" not in found["omission"].completion or "components" not in found["omission"].completion
    (tags,) = [f for f in attacked(planted.tags_by_regex, TAGS).findings if f.kind == "shell"]
    assert tags.completion in ("<think></think><answer></answer>", "<think></think>\n<answer></answer>")
    contradiction = {f.kind: f for f in attacked(planted.first_answer, SUMS).findings}["contradiction"]
    assert contradiction.score == 1.0


@pytest.mark.parametrize("name", ["tags", "length", "overlong", "language", "repetition"])
def test_the_rewards_of_form_in_the_library_have_no_finding(name: str) -> None:
    result = attack(load_reward(name), TAGS, AttackSettings(num_search=40, max_rows=1))
    assert result.form_only
    assert result.findings == []


def test_the_finance_and_numeric_rewards_of_the_library_have_no_finding(shared_data: Path) -> None:
    for task in (
        load_task("finance_statements"),
        load_task("numeric_qa", {"path": str(shared_data / "tatqa" / "tatqa_dataset_dev.json")}),
    ):
        assert task.reward is not None
        result = attack(task.reward, task.rows("train")[:24], AttackSettings(num_search=60, max_rows=2))
        assert result.findings == []


def test_other_names_of_columns_and_fields_do_not_matter() -> None:
    def renamed(completions: list[str], filing: list[str], **_: Any) -> list[float]:
        scores = []
        for text, source in zip(completions, filing, strict=True):
            try:
                reply = json.loads(text)
                score = 0.5
                if (
                    "sum" in reply
                    and "lines" in reply
                    and sum(x["amount"] for x in reply["lines"]) != reply["sum"]
                ):
                    score -= 0.4
                score += 0.5 * all(quote in source for quote in reply.get("evidence", []))
            except (ValueError, TypeError, KeyError, AttributeError):
                score = 0.0
            scores.append(score)
        return scores

    rows = []
    for row in BREAKDOWN:
        gold = json.loads(row["completion"])
        lines = [{"label": part["name"], "amount": part["value"]} for part in gold["components"]]
        reply = {"lines": lines, "sum": gold["total"], "evidence": gold["citations"]}
        fenced = f"```json\n{json.dumps(reply, indent=1)}\n```"
        rows.append(
            {
                "prompt": "Break it down.",
                "filing": row["document"],
                "completion": json.dumps(reply),
                "x": fenced,
            }
        )
    result = attack(renamed, rows, AttackSettings(num_search=0, max_rows=1))
    assert {"omission", "shell", "regurgitation"} <= set(result.counts)


def test_a_reward_that_ignores_the_answer_it_asks_for_is_a_finding() -> None:
    def generous(completions: list[str], label: list[str], **_: Any) -> list[float]:
        return [1.0 if text.strip() else 0.0 for text in completions]

    assert "constant" in attack(generous, WORDS, AttackSettings(num_search=0, max_rows=1)).counts


def test_a_reward_of_form_alone_is_not_asked_for_answers() -> None:
    assert attacked(planted.tags_with_content, TAGS).form_only
    assert not attacked(planted.right_is_most_of_it, TAGS).form_only


def test_what_ends_or_hangs_its_process_harms_nothing_and_is_found() -> None:
    import os
    import time

    def deadly(completions: Sequence[str], label: Sequence[str], **_: Any) -> list[float]:
        for text in completions:
            if "{" in text:
                os._exit(3)
            if text == "ok":
                time.sleep(60)
            if "\ud800" in text:
                raise SystemExit
        return planted.same_word(list(completions), list(label))

    result = attack(deadly, WORDS, AttackSettings(num_search=0, max_rows=1, deadline_seconds=0.3))
    reasons = {f.why for f in result.everything}
    assert set(result.counts) == {"harness"}
    assert "it ended the process that called it" in reasons
    assert any("gave nothing within" in reason for reason in reasons)
    assert any("SystemExit" in reason for reason in reasons)


def test_a_service_that_is_down_is_no_finding() -> None:
    def remote(completions: list[str], label: list[str], **_: Any) -> list[float]:
        if "{" in completions[0]:
            raise ConnectionError("refused")
        return planted.same_word(completions, label)

    assert attack(remote, WORDS[:6], AttackSettings(num_search=0, max_rows=1, seconds=20.0)).findings == []


def test_samples_of_the_policy_are_held_against_a_verifier() -> None:
    def policy(row: Any) -> list[str]:
        return [f"I think of all cities, {row['label']} not included.", row["label"]]

    settings = AttackSettings(num_search=0, max_rows=1, classes=("shell",))
    result = attack(planted.contains_answer, WORDS, settings, policy=policy, verifier=planted.same_word)
    finding = next(f for f in result.findings if f.kind == "policy")
    assert "not included" in finding.completion
    assert result.probes["policy"] == 2 * len(result.rows)
    with pytest.raises(ValueError, match="need a verifier"):
        attack(planted.contains_answer, WORDS, policy=policy)


def test_what_was_found_is_kept_and_tried_again(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    first = attacked(planted.tags_by_regex, TAGS)
    keep(corpus, first.findings, TAGS)
    keep(corpus, first.findings, TAGS)
    entries = read_corpus(corpus)
    assert len(entries) == len(first.findings) > 0
    settings = AttackSettings(num_search=0, max_rows=1)
    replayed = attack(planted.tags_by_regex, TAGS, settings, corpus=entries)
    assert sum(replayed.probes.values()) >= sum(first.probes.values())
    assert attack(planted.tags_with_content, TAGS, settings, corpus=entries).findings == []
    corpus.write_text('{"class": "shell"}\n')
    with pytest.raises(ValueError, match=r"corpus.jsonl:1: expected an exploit"):
        read_corpus(corpus)


def test_an_exploit_kept_with_its_rule_is_judged_by_it_later(tmp_path: Path) -> None:
    """Gold made longer is paid more by one reward; another that pays it as gold has no hole."""
    corpus = tmp_path / "corpus.jsonl"
    keep(corpus, attacked(planted.long_is_good, SUMS).findings, SUMS)

    def patient(completions: list[str], target: list[str], **_: Any) -> list[float]:
        return planted.one_last_answer([text.strip() for text in completions], target)

    assert (
        attack(patient, SUMS, AttackSettings(num_search=0, max_rows=1), corpus=read_corpus(corpus)).findings
        == []
    )


def test_the_search_finds_what_takes_two_steps() -> None:
    """Zero figures are refused unless the citations are there: neither change alone is paid."""

    def two_steps(completions: list[str], document: list[str], answer: list[str], **_: Any) -> list[float]:
        scores = []
        for text, source, gold in zip(completions, document, answer, strict=True):
            try:
                reply, wanted = json.loads(text), json.loads(gold)
                right = reply == wanted
                void = all(p["value"] == 0 for p in reply["components"]) and "total" not in reply
                scores.append(float(right or (void and all(c in source for c in reply["citations"]))))
            except (ValueError, TypeError, KeyError, RecursionError):
                scores.append(0.0)
        return scores

    assert attack(two_steps, BREAKDOWN, AttackSettings(num_search=0, max_rows=1)).findings == []
    result = attack(two_steps, BREAKDOWN, AttackSettings(num_search=800, max_rows=1, seconds=60.0))
    assert result.findings
    assert " + " in result.findings[0].name


def test_the_same_attack_finds_the_same_and_says_so_by_its_hash() -> None:
    first, second = (
        attack(
            planted.contains_answer, WORDS, AttackSettings(num_search=40, max_rows=1, seconds=60.0), seed=3
        ).plain()
        for _ in range(2)
    )
    assert first["hash"] == second["hash"]
    assert first["findings"] == second["findings"]
    assert attacked(planted.any_number, SUMS).plain()["hash"] != first["hash"]


@pytest.mark.parametrize(
    ("reward", "rows", "message"),
    [
        (planted.same_word, [], "no rows"),
        (
            planted.same_word,
            [{"prompt": "p", "label": "x"}],
            "row 1 has no gold in column 'completion' or answer",
        ),
        (planted.same_word, [{"prompt": "p", "completion": "x"}], "needs column 'label'"),
        (planted.same_word, [{"prompt": "p", "completion": "x", "label": None}], "gives no gold a score"),
    ],
)
def test_what_cannot_be_attacked_is_said(reward: Any, rows: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attack(reward, rows)


# --- golds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "columns", "kind", "answer"),
    [
        ("42", {}, "text", "42"),
        ("So it is.\nanswer: 42", {}, "text", "42"),
        ("<think>7 + 1</think><answer> 8 </answer>", {}, "text", "8"),
        ("It is \\boxed{12} then", {}, "text", "12"),
        ("6 times 7 is 42, I say.", {"goal": "42"}, "text", "42"),
        ("It fell to $(9.8) million.", {"goal": "9.8"}, "text", "$(9.8) million"),
        ('{"a": [1]}', {}, "json", '{"a": [1]}'),
        ('Here:\n```json\n{"a": 1}\n```\nDone.', {}, "json", '{"a": 1}'),
        ("```python\ndef f(x):\n    return x\n```", {}, "code", "def f(x):\n    return x\n"),
    ],
)
def test_gold_is_read_for_what_it_is(text: str, columns: dict, kind: str, answer: str) -> None:
    gold = read_gold({"prompt": "p", "completion": text, **columns}, list(columns))
    assert (gold.kind, gold.answer) == (kind, answer)
    assert gold.before + gold.answer + gold.after == text
    framed = gold.frame(gold.answer)
    assert read_gold({"completion": framed, **columns}, list(columns)).answer.strip() == answer.strip()


def test_a_refusal_is_gold_where_gold_refuses() -> None:
    gold = read_gold({"prompt": "?", "completion": "<answer>I do not know.</answer>"}, [])
    for same in ("I don't know", "The passages do not say.", "<answer>I don't know</answer>"):
        assert says_gold(same, gold)
    for other in ("I don't know. It was 42.", "I do not know, but perhaps Oslo", "yes", ""):
        assert not says_gold(other, gold)
    assert not says_gold("I don't know", read_gold({"prompt": "?", "completion": "42"}, []))


def test_no_probe_that_should_be_wrong_is_gold_by_chance() -> None:
    row = {"prompt": "Yes or no?", "completion": "yes", "answer": "yes"}
    gold = read_gold(row, ["answer"])
    probes = fixed_probes(gold, Setting([], [], ["no", "yes"], "Yes or no?"), [], row)
    assert probes
    for probe in probes:
        if probe.basis in ("free", "empty", "form"):
            assert not says_gold(probe.completion, gold)
    assert unique([Probe("constant", "", " YES\n", "free")], gold) == []
    assert same_answer("1,000", "1000.0")
    assert not same_answer("-4", "4")


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_writes_what_it_found_and_exits_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "import re\n"
        "def holed(completions, **_):\n"
        "    return [1.0 if re.search('<think>.*</think><answer>.*</answer>', c, re.S) else 0.0 for c in completions]\n"
        "def exact(completions, answer, **_):\n"
        "    said = [c.rpartition('</think>')[2] for c in completions]\n"
        "    return [float(s == f'<answer>{a}</answer>') for s, a in zip(said, answer)]\n"
    )
    data, out = tmp_path / "rows.jsonl", tmp_path / "out.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in TAGS))

    def call(function: str) -> int:
        command = [
            "tieout",
            "attack",
            f"{tmp_path}/mine.py:{function}",
            "--data",
            str(data),
            "--json",
            str(out),
        ]
        monkeypatch.setattr(sys, "argv", [*command, "--num-search", "20", "--max-rows", "1"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    assert call("holed") == 1
    told = json.loads(out.read_text())
    assert {"class", "completion", "score", "gold_score"} <= set(told["findings"][0])
    assert told["probes"]["shell"] > 10
    assert len(told["hash"]) == 64
    assert (tmp_path / "attack-corpus.jsonl").exists()
    assert call("exact") == 0
    printed = capsys.readouterr().out
    assert "no exploit in" in printed
    assert "robust" not in printed
    assert json.loads(out.read_text())["findings"] == []


def test_an_attack_never_says_robust() -> None:
    nothing = Attack("r", [], {}, dict.fromkeys(CLASSES, 0), [], False, 0, 0.0)
    assert "robust" not in json.dumps(nothing.plain())


def test_json_without_numbers_has_no_probe_that_changes_nothing() -> None:
    def right(completions: Sequence[str], completion: Sequence[str], **_: Any) -> list[float]:
        return [
            float(_read(said) == json.loads(gold)) for said, gold in zip(completions, completion, strict=True)
        ]

    def _read(said: str) -> Any:
        try:
            return json.loads(said)
        except (ValueError, RecursionError):
            return None

    golds = [
        {"maker": maker, "colour": colour}
        for maker in ("Acme", "Borel")
        for colour in ("red", "blue", "green")
    ]
    rows = [{"prompt": f"Note {i}", "completion": json.dumps(gold)} for i, gold in enumerate(golds)]
    assert attack(right, rows, AttackSettings(seconds=2.0)).findings == []

"""What counts as the answer of a completion that thinks: one reading for every reward, metric and check."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.evidence.evaluate import Case
from tieout.evidence.human import write_sheet
from tieout.rewards.library.code import extract_program
from tieout.rewards.library.exact import exact
from tieout.rewards.library.finance_ladder import ladder
from tieout.rewards.library.finance_statements import reward as finance
from tieout.rewards.library.format import language, length, repetition
from tieout.rewards.library.judge import Judge
from tieout.rewards.library.numeric import numeric
from tieout.rewards.library.rag import citation_accuracy, faithfulness, groundedness, rag, relevance
from tieout.rewards.library.reconcile import reconciled
from tieout.rewards.library.summary import quiz_score, summary
from tieout.rewards.text.thinking import after_thinking, answer_text, around_answer, without_tags
from tieout.samplers.mock import MockSampler
from tieout.tasks import load_task
from tieout.tasks.controls import exact_match
from tieout.tasks.flaws import flawed
from tieout.tasks.wordle import play
from tieout.training.alarms.text_metrics import texts
from tieout.trl.rewards import accuracy_reward
from tieout.types import Completion, Group
from tieout.vetting.attack.gold import read_gold
from tieout.vetting.biases import as_text
from tieout.vetting.check import perturbed

TAGS = [
    ("<think>", "</think>"),
    ("<Thinking>", "</Thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("analysisWe see: ", "assistantfinal"),
]
prose = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>[]◁▷|`~'\""), max_size=60)


@given(st.sampled_from(TAGS), prose, prose)
def test_the_answer_is_what_follows_the_thinking(tag: tuple[str, str], thought: str, answer: str) -> None:
    opening, closing = tag
    assert after_thinking(f"{opening}{thought}{closing}{answer}") == answer.strip()
    assert after_thinking(f"{opening}{thought}") is None
    assert answer_text(f"\n{opening}{thought}{closing}<answer>{answer}</answer>") == answer.strip()
    if not opening.startswith("analysis"):
        assert after_thinking(f"{thought}{closing}\n\n{answer}") == answer.strip(), "opened in the prompt"
        nested = f"{opening}{thought}{opening}{thought}{closing}{thought}{closing}{answer}"
        assert after_thinking(nested) == answer.strip()
        twice = f"{opening}{thought}{closing}{answer}{opening}{thought}{closing}{answer}"
        assert after_thinking(twice) == answer.strip()
        assert after_thinking(f"{opening}{thought}{closing}{answer}{opening}{thought}") is None


@given(st.text(max_size=200))
def test_any_text_is_read_and_one_without_tags_is_its_own_answer(text: str) -> None:
    said = after_thinking(text)
    assert said is None or said == text or text.strip().endswith(said) or "<" in text or "[" in text
    assert isinstance(answer_text(text), str)
    if not set("<[◁") & set(text) and not text.startswith("analysis"):
        assert said == text == without_tags(text)


@pytest.mark.parametrize(
    "program",
    [
        'import re\nstrip = lambda s: re.sub(r"<think>.*?</think>", "", s)\n',
        "def after(s):\n    return s.split('</think>')[-1]\n",
    ],
)
def test_a_program_may_speak_of_tags(program: str) -> None:
    for thought in (
        "",
        "<think>\n\n</think>\n\n",
        "<think>```python\nx = 1\n</think>\n",
        "so\n```\nx\n</think>\n",
    ):
        assert extract_program(f"{thought}```python\n{program}```") == program
    assert json.loads(answer_text('{"tag": "<think>"}')) == {"tag": "<think>"}


def _case(name: str) -> tuple[Any, str, dict[str, Any]]:
    """A reward, a right completion, and the columns of its row."""
    passage = ["Revenue was $1.2 million in 2019.", "Costs rose."]
    asked = {"question": ["What was revenue?"], "context": [passage], "answer": ["$1.2 million"]}
    said = "Revenue was $1.2 million in 2019 [1]."
    source = "Revenue of the group was $1.2 million in 2019, and costs rose by 5% to $400,000."
    task = load_task("finance_statements")
    row = next(iter(task.rows("train")))
    gold = str(row["completion"])
    columns = {name: [row[name]] for name in ("statement", "total", "components")}
    cases: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "numeric": (numeric, "5%", {"answer": ["5%"]}),
        "exact": (exact, "net income", {"answer": ["net income"]}),
        "reconciled": (reconciled, '{"figures": {"Assets": 5}}', {"figures": [{"Assets": 5}]}),
        "finance": (finance, gold, columns),
        "ladder": (ladder, gold, columns),
        "language": (language, "El gato está en la casa", {"language": ["es"]}),
        "length": (length, "one two three", {"max_words": 3}),
        "repetition": (repetition, "one two three", {}),
        "faithfulness": (faithfulness, said, {"context": [passage]}),
        "citation": (citation_accuracy, said, {"context": [passage]}),
        "groundedness": (groundedness, "I do not know.", {"answer": [None]}),
        "relevance": (relevance, said, {k: asked[k] for k in ("question", "answer")}),
        "rag": (rag, said, asked),
        "quiz": (quiz_score, source, {"reference": [source]}),
        "summary": (summary, source, {"document": [source + " More was said."], "reference": [source]}),
        "controls": (exact_match, "net income", {"answer": ["net income"]}),
        "trl": (accuracy_reward, r"\boxed{5}", {"solution": ["5"]}),
    }
    return cases[name]


NAMES = [
    *(
        "numeric",
        "exact",
        "reconciled",
        "finance",
        "ladder",
        "language",
        "length",
        "repetition",
        "faithfulness",
    ),
    *("citation", "groundedness", "relevance", "rag", "quiz", "summary", "trl", "controls"),
]


@pytest.mark.parametrize("name", NAMES)
def test_every_reward_scores_the_answer(name: str) -> None:
    reward, right, columns = _case(name)
    alone = reward([right], **columns)
    empties = [
        "<think></think>",
        "<think>\n\n</think>\n\n",
        "</think>",
        "[THINK][/THINK]",
        "<thinking> </thinking>\n",
    ]
    thoughts = [] if name in ("language", "repetition") else [f"<think>{right} No: 7? {{}} ```</think>\n"]
    for thought in (*empties, *thoughts):
        assert reward([thought + right], **columns) == alone, thought
    if name not in ("language", "repetition"):
        assert reward([f"<think>{right}"], **columns) == reward([""], **columns), (
            "an unfinished thought says nothing"
        )
        assert reward([f"<think>{right}</think>"], **columns) == reward([""], **columns)


def test_a_judge_and_people_compare_answers(tmp_path: Path) -> None:
    seen: list[str] = []

    def reply(conversation: Any) -> str:
        seen.append(conversation[1]["content"])
        return "no verdict"

    completion = "<think>SECRET</think>Fine."
    Judge(MockSampler(reply), "Good?")([completion], ["Say."])
    assert "SECRET" not in seen[0]
    assert "Fine." in seen[0]
    Judge(MockSampler(reply), "Good?", shows_thinking=True)([completion], ["Say."])
    assert "SECRET" in seen[-1]

    def case(text: str) -> Case:
        return Case("1", "test", "test", "Say.", text)

    cases = {"x": [case(completion)], "y": [case("<think>SECRET")]}
    sheet = write_sheet(tmp_path, cases, [("x", "y")])
    row = json.loads(sheet.read_text())
    assert {row["output_a"], row["output_b"]} == {"Fine.", "(no answer: its thinking never ended)"}


def test_metrics_of_samples_are_of_answers() -> None:
    def of(*said: str) -> dict[str, float]:
        metrics: dict[str, float] = {}
        completions = [Completion([1], [True], [0.0], text) for text in said]
        texts(0, [Group([1], completions, row={"prompt": "请"})], metrics)
        return metrics

    assert of("<think>Perhaps I can't help</think>好") == pytest.approx(of("Perhaps I can't help 好") | {
        "refusal": 0.0, "hedging": 0.0, "empty": 0.0
    })  # fmt: skip
    assert of("<think>好</think>")["empty"] == of("<think>好")["empty"] == 1.0
    assert of("<think></think>好")["other_script"] == 0.0
    assert as_text("<think>long long</think>short") == "short"


def test_gold_that_thinks_is_broken_in_its_answer() -> None:
    row = {"completion": '<thinking>{"a": 1}</thinking>{"a": 2}', "prompt": ""}
    gold = read_gold(row, [])
    assert gold.thinks
    assert gold.value == {"a": 2}
    assert gold.before + gold.answer + gold.after == row["completion"]
    assert gold.replaced("x") == '<thinking>{"a": 1}</thinking>x'


def test_an_environment_reads_the_answer_too() -> None:
    game = play({"word": "asset"})
    next(game)
    assert "Not one word" in game.send("<think>asset")
    with pytest.raises(StopIteration):  # the word was found
        game.send("<think>beige? No.</think>asset")


@pytest.mark.parametrize(
    "answer", ['{"total": 12, "citations": ["Total 12"]}', "Revenue rose to 34 million.", "7"]
)
def test_what_is_made_wrong_is_wrong_in_its_answer(answer: str) -> None:
    for thought in ("<think>1 + 2 fell by 3% to 4 million.</think>\n", "It rose: 5 + 6.</think>"):
        gold = thought + answer
        assert around_answer(gold) == (thought, answer, "")
        for seed in range(20):
            rng = Random(seed)
            made = [flawed(gold, rng), *perturbed(read_gold({"completion": gold}, []), rng)]
            for text in made:
                assert (
                    text.startswith(thought) or after_thinking(text) is None or text == gold[: len(gold) // 2]
                )
                assert answer_text(text) != answer

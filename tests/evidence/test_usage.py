"""Tokens, seconds and cost per answer: counted by the sampler, reported per model, recomputed by verify."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from made_cases import two_models
from tieout.episodes import Episode
from tieout.errors import InputError
from tieout.evidence.evaluate import Case, evaluate, read_cases, write_cases
from tieout.evidence.report import prices_at, regate, write_report
from tieout.evidence.usage import table, usage_figures
from tieout.evidence.verify import verify
from tieout.learner import load
from tieout.review.document import page_differs, write_page
from tieout.samplers.local.sampler import LocalSampler
from tieout.samplers.mock import MockSampler
from tieout.samplers.prices import Price
from tieout.storage.jsonl import read_json
from tieout.tasks import Task
from tieout.types import Answer, Row


def counted() -> dict[str, list[Case]]:
    """Two models whose answers took tokens and seconds; the candidate's are 5 tokens longer."""
    rng, cases = random.Random(0), two_models()
    tokens = {case.id: rng.randrange(10, 40) for case in cases["base"]}
    return {
        model: [
            replace(
                case,
                usage={
                    "prompt_tokens": 100,
                    "tokens": tokens[case.id] + 5 * (model == "sft"),
                    "seconds": 0.25,
                },
            )
            for case in own
        ]
        for model, own in cases.items()
    }


def test_tokens_are_those_that_the_model_wrote(tiny_model: Callable[[str], Path]) -> None:
    rows = [{"prompt": f"Say {word} {'again ' * i}"} for i, word in enumerate(["cash", "debt", "bond"])]
    task = Task(
        "say", lambda split: rows, reward=lambda completions, **_: [0.0] * len(completions), max_new_tokens=7
    )
    cases = evaluate(task, rows, LocalSampler(load(str(tiny_model("llama")))))
    network = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    for case, row in zip(cases, rows, strict=True):
        prompt = tokenizer(row["prompt"], return_tensors="pt")
        whole = network.generate(**prompt, do_sample=False, max_new_tokens=7, pad_token_id=0)
        assert case.usage["prompt_tokens"] == prompt["input_ids"].shape[1]
        assert case.usage["tokens"] == whole.shape[1] - prompt["input_ids"].shape[1]
    assert len({case.usage["seconds"] for case in cases}) == 1  # one batch
    assert type(cases[0].completion) is str


def test_the_turns_of_an_episode_add_up_and_what_was_not_counted_is_not_zero() -> None:
    def game(row: Row) -> Any:
        yield "first"
        yield "second"
        return 1.0

    class Counting:
        def complete(self, prompts: Any, params: Any) -> list[str]:
            return [
                Answer("yes", {"prompt_tokens": 3 * len(p), "tokens": 2, "seconds": 0.5}) for p in prompts
            ]

    rows: list[Row] = [{"prompt": "play"}]
    task = Task("game", lambda split: rows, environment=game)
    (case,) = evaluate(task, rows, Counting())
    assert case.usage == {"prompt_tokens": 3 + 9, "tokens": 4, "seconds": 1.0}
    (silent,) = evaluate(task, rows, MockSampler(["yes", "yes"]))
    assert silent.usage == {}
    assert usage_figures({"mock": [silent]}, "mock") == {}
    assert Episode(game, rows[0]).said == []


def test_means_difference_and_cost_by_plain_arithmetic() -> None:
    cases = counted()
    prices = {"base": "3,15", "sft": "1.8/h"}
    figures = usage_figures(cases, "base", "test", prices)
    own = [case for case in cases["base"] if (case.track, case.slice) == ("programmatic", "test")]
    assert figures["base"]["n"] == len(own) == 60
    assert figures["base"]["tokens"]["mean"] == pytest.approx(fmean(case.usage["tokens"] for case in own))
    assert "longer" not in figures["base"]
    longer = figures["sft"]["longer"]
    assert longer["difference"] == pytest.approx(5)
    assert 0 < longer["low"] < 5 < longer["high"]
    shared = {m: [replace(case, cluster=str(i // 10)) for i, case in enumerate(c)] for m, c in cases.items()}
    widths = [
        figure["base"]["tokens"]["high"] - figure["base"]["tokens"]["low"]
        for figure in (figures, usage_figures(shared, "base", "test"))
    ]
    assert widths[1] > 1.05 * widths[0], "cases of one document are sampled together"
    each = [(100 * 3 + case.usage["tokens"] * 15) / 1_000_000 for case in own]
    assert figures["base"]["cost"] == pytest.approx(1000 * fmean(each))
    assert figures["sft"]["cost"] == pytest.approx(1000 * 0.25 * 1.8 / 3600)
    cases["sft"][0] = replace(cases["sft"][0], usage={})
    rows = table(usage_figures(cases, "base", "test"))[1]
    assert [row[0] for row in rows] == ["base", "sft (59 of 60 counted)"]
    assert table(usage_figures(cases, "base"))[0][-1] == "seconds"  # no price, no column


def test_answers_that_were_cut_off_are_counted_and_said() -> None:
    class Short:
        def complete(self, prompts: list[str], params: object) -> list[str]:
            used = {"prompt_tokens": 3, "tokens": 2, "seconds": 0.5}
            return [Answer(p, used, finish_reason=p.split()[-1].strip("-")) for p in prompts]

    def found(*ends: str) -> dict[str, Any]:
        rows: list[Row] = [{"prompt": f"{i} {end}"} for i, end in enumerate(ends)]
        task = Task("say", lambda split: rows, reward=lambda completions, **_: [0.0] * len(completions))
        return usage_figures({"m": evaluate(task, rows, Short())}, "m")

    said = found("length", "stop", "length")
    assert said["m"]["cut_off"] == 2
    assert table(said)[1][0][0] == "m (2 cut off)"
    assert table(found("stop", "stop"))[1][0][0] == "m"
    assert "cut_off" not in found("-", "stop")["m"], "of one nobody knows how it ended"


@pytest.mark.parametrize("text", ["", "3", "3,", "-1,2", "nan,1", "inf/h", "a/h", "1,2,3", "2 / day"])
def test_a_price_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected PROMPT,ANSWER per million tokens"):
        Price.of(text)


@pytest.mark.parametrize("compress", [False, True])
def test_usage_is_kept_apart_from_the_cases_and_recomputed(tmp_path: Path, compress: bool) -> None:
    options: dict[str, Any] = {"candidate": "sft", "baseline": "base", "compress": compress}
    report = write_report(tmp_path, counted(), **options)
    assert report["usage"]["sft"]["n"] == 60
    plain = write_report(tmp_path / "plain", two_models(), **options)
    assert report["files"]["cases.jsonl"] == plain["files"]["cases.jsonl"]  # seconds differ from run to run
    assert "usage" not in plain
    assert verify(tmp_path / "report.json") == []
    assert regate(tmp_path, prices={"sft": "2/h"})["usage"]["sft"]["cost"] > 0
    assert verify(tmp_path / "report.json") == []
    assert prices_at(tmp_path) == {"sft": "2/h"}

    changed = read_json(tmp_path / "report.json")
    changed["usage"]["sft"]["cost"] /= 2
    (tmp_path / "report.json").write_text(json.dumps(changed))
    assert [line.split(":")[0] for line in verify(tmp_path / "report.json")] == ["usage.sft.cost"]
    regate(tmp_path)
    file = tmp_path / f"cases.usage.jsonl{'.gz' if compress else ''}"
    text = (gzip.decompress(file.read_bytes()) if compress else file.read_bytes()).replace(
        b"0.25", b"0.05", 1
    )
    file.write_bytes(gzip.compress(text) if compress else text)
    assert any(line.startswith("cases.usage.jsonl: changed") for line in verify(tmp_path / "report.json"))
    file.unlink()
    assert "cases.usage.jsonl: missing; the report was made from it" in verify(tmp_path / "report.json")


def test_the_page_shows_it_and_verify_covers_the_page(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    write_report(folder, counted(), candidate="sft", baseline="base", prices={"base": "3,15"})
    cases = read_cases(folder / "cases.jsonl")
    assert cases == two_models()
    assert [case.usage for case in cases["sft"]] == [case.usage for case in counted()["sft"]]
    page = write_page(tmp_path)
    html = page.read_text()
    assert "Cost of 1000" in html
    assert page_differs(tmp_path, page) == []
    page.write_text(html.replace(">0.25<", ">0.05<", 1))
    assert len(page_differs(tmp_path, page)) == 1
    write_report(folder, two_models(), candidate="sft", baseline="base")
    assert "The samplers did not count tokens" in write_page(tmp_path).read_text()


def test_cases_without_usage_leave_no_file_of_an_earlier_evaluation(tmp_path: Path) -> None:
    write_cases(tmp_path / "a.jsonl", counted())
    assert (tmp_path / "a.usage.jsonl").exists()
    write_cases(tmp_path / "a.jsonl", two_models())
    assert not (tmp_path / "a.usage.jsonl").exists()
    (tmp_path / "a.usage.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"a.usage.jsonl: not what answers took"):
        read_cases(tmp_path / "a.jsonl")

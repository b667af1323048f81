"""Length, hedge and self-preference biases: planted ones are found and named, fair judges show none."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tieout.rewards.library.families import family, family_of_model
from tieout.vetting.biases import HEDGES, LENGTH, OWN, Bias
from tieout.vetting.calibrate import Calibration, calibrate

Score = Callable[[dict[str, Any]], float]


def texts(rng: random.Random) -> dict[str, Any]:
    """A text of some quality; its length, hedges and writer have nothing to do with it."""
    quality, hedged = rng.random(), rng.random() < 0.4
    words = " ".join(rng.choice(["cash", "rose", "debt", "fell", "by"]) for _ in range(rng.randrange(4, 40)))
    start = "It may perhaps be that " if hedged else ""
    model = rng.choice(["Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B"])
    return {"text": f"{start}{words} {quality:.6f}.", "quality": quality, "hedged": hedged, "model": model}


def pairs(score: Score, n: int = 300, seed: int = 0) -> Calibration:
    rng, rows = random.Random(seed), []
    for i in range(n):
        a, b = texts(rng), texts(rng)
        if a["quality"] < b["quality"]:
            a, b = b, a
        rows.append({
            "prompt": f"p{i}", "chosen": a["text"], "rejected": b["text"], "chosen_model": a["model"],
            "rejected_model": b["model"], "chosen_score": score(a), "rejected_score": score(b),
        })  # fmt: skip
    return calibrate("scores", None, rows, judge_model="qwen-max")


def labels(score: Score, n: int = 400, seed: int = 0) -> Calibration:
    rng = random.Random(seed)
    given = [texts(rng) for _ in range(n)]
    rows = [
        {
            "prompt": f"p{i}",
            "completion": t["text"],
            "label": t["quality"] > 0.5,
            "model": t["model"],
            "score": score(t),
        }
        for i, t in enumerate(given)
    ]
    rows = [{**row, "score": score(t)} for row, t in zip(rows, given, strict=True)]
    return calibrate("scores", None, rows, judge_model="qwen-max")


def bias_of(found: Calibration, trait: str) -> Bias:
    return next(bias for bias in found.biases if bias.trait == trait)


def fair(text: dict[str, Any]) -> float:
    return float(text["quality"])


def long(text: dict[str, Any]) -> float:
    return float(text["quality"]) + len(text["text"]) / 400


def hedged(text: dict[str, Any]) -> float:
    return float(text["quality"]) + 0.35 * text["hedged"]


def own(text: dict[str, Any]) -> float:
    return float(text["quality"]) + 0.3 * ("Qwen" in text["model"])


def test_a_fair_judge_of_pairs_passes_and_shows_no_bias() -> None:
    found = pairs(fair)
    assert found.verdict == "pass"
    assert [bias.trait for bias in found.biases] == [LENGTH, HEDGES, OWN]
    assert all(bias.excess.value == 0 and not bias.found for bias in found.biases)


@pytest.mark.parametrize(
    ("score", "trait", "sentence"),
    [
        (long, LENGTH, "prefers longer text more often than people do"),
        (lambda t: 2 * t["quality"] - long(t), LENGTH, "prefers shorter text"),
        (hedged, HEDGES, "prefers more hedged text"),
        (own, OWN, "prefers its own family's text"),
    ],
)
def test_a_planted_bias_of_pairs_is_found_and_holds(score: Score, trait: str, sentence: str) -> None:
    found = pairs(score)
    bias = bias_of(found, trait)
    assert sentence in bias.found
    assert bias.found in found.reasons
    assert found.verdict != "pass"
    assert [b.trait for b in found.biases if b.found] == [trait]


def test_agreement_by_length_shows_where_a_length_judge_errs() -> None:
    slices = bias_of(pairs(long), LENGTH).slices
    shorter, longer = slices["people prefer the shorter"], slices["people prefer the longer"]
    assert shorter.high is not None
    assert longer.low is not None
    assert shorter.high < longer.low
    assert sum(part.n for part in slices.values()) == 300


def test_a_fair_judge_of_labels_shows_none_and_planted_ones_do() -> None:
    assert not any(bias.found for bias in labels(fair).biases)
    # Within right and wrong, better answers may be longer: that is no bias.
    assert not any(
        bias.found for bias in labels(lambda t: float(t["quality"] > 0.5) + len(t["text"]) / 1000).biases
    )
    for score, trait in ((long, LENGTH), (hedged, HEDGES), (own, OWN)):
        found = labels(score)
        assert "higher than people do" in bias_of(found, trait).found
        assert found.verdict != "pass"


def test_people_who_prefer_the_longer_themselves_are_no_bias_of_the_judge() -> None:
    rows = [
        {
            "prompt": str(i),
            "chosen": "long " * (5 + i % 3),
            "rejected": "short",
            "chosen_score": 1,
            "rejected_score": 0,
        }
        for i in range(100)
    ]
    found = calibrate("scores", None, rows)
    assert bias_of(found, LENGTH).excess.value == 0
    assert found.verdict == "pass"


def test_self_preference_needs_the_names() -> None:
    rows = [
        {"prompt": str(i), "chosen": "a", "rejected": "bb", "chosen_score": 1, "rejected_score": 0}
        for i in range(60)
    ]
    assert [bias.trait for bias in calibrate("scores", None, rows, judge_model="qwen-max").biases] == [LENGTH]


def test_on_pairs_marked_by_people_a_judge_of_length_is_biased(shared_data: Path) -> None:
    rows = []
    for name in ("Natural", "Adversarial_GPTInst"):
        for pair in json.loads((shared_data / "llmbar" / f"{name}.json").read_text()):
            chosen, rejected = (pair[f"output_{k}"] for k in (pair["label"], 3 - pair["label"]))
            rows.append({"prompt": pair["input"], "chosen": chosen, "rejected": rejected})
    found = calibrate("length", lambda completions, **_: [float(len(c)) for c in completions], rows)
    bias = bias_of(found, LENGTH)
    assert bias.excess.low is not None
    assert bias.excess.low > 0.2
    assert "prefers longer text" in bias.found
    fair_rows = [{**row, "chosen_score": 1, "rejected_score": 0} for row in rows]
    assert not any(b.found for b in calibrate("scores", None, fair_rows).biases)


def test_the_curve_of_pairs_rises_and_one_that_falls_fails() -> None:
    rng = random.Random(0)

    def rows(right: Callable[[float], float]) -> list[dict[str, Any]]:
        made = []
        for i in range(900):
            lead = rng.random()
            sign = 1 if rng.random() < right(lead) else -1
            made.append(
                {
                    "prompt": str(i),
                    "chosen": "a",
                    "rejected": "b",
                    "chosen_score": sign * lead,
                    "rejected_score": 0,
                }
            )
        return made

    rising = calibrate("scores", None, rows(lambda lead: 0.6 + 0.4 * lead))
    assert (rising.verdict, len(rising.bins)) == ("pass", 10)
    assert rising.bins[-1].right > rising.bins[0].right
    falling = calibrate("scores", None, rows(lambda lead: 1 - 0.4 * lead))
    assert falling.verdict == "fail"
    assert "not monotone: leads" in " ".join(falling.reasons)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen3-8B", "qwen"), ("chatgpt-4o-latest", "gpt"), ("o3-mini", "gpt"), ("openai/o1", "gpt"),
        ("lmsys/vicuna-7b", "llama"), ("claude-sonnet-4", "claude"), ("google/gemma-3-4b", "gemini"),
        ("foo3-mini", None), ("mistralai/Ministral-8B", "mistral"), ("my-model", None),
        ("HuggingFaceTB/SmolLM2-135M", "smollm"),
    ],
)  # fmt: skip
def test_families_by_name(name: str, expected: str | None) -> None:
    assert family(name) == expected


def test_families_of_folders_are_read_from_their_configuration(tmp_path: Path) -> None:
    base, adapter, plain = tmp_path / "mine", tmp_path / "adapter", tmp_path / "gpt-things"
    for folder in (base, adapter, plain):
        folder.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert family_of_model(str(base)) == "qwen"
    assert family_of_model(str(adapter)) == "qwen"
    assert family_of_model(str(plain)) == "gpt"
    assert family_of_model("org/Llama-3") == "llama"

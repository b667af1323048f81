"""Repetition of short and of long texts: what loops is caught, what people write is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from real_texts import LANGUAGES, real_texts
from tieout.rewards.library.format import repetition
from tieout.training.alarms.text_metrics import repeats

CODE = Path(__file__).resolve().parents[2] / "src" / "tieout"


@pytest.mark.parametrize(
    "text",
    [
        "." * 24,
        "." * 60,
        "no no no no no no no no no",
        "No. No. No. No. No.",
        "a" * 20,
        "hahahahahahahahaha",
        "0" * 200,
        "不" * 9,
        "нет " * 5,
        "ไม่" * 6,
        "The revenue rose. " * 4,
        "{" * 40,
        "1/3 = 0." + "3" * 80,
    ],
)
def test_what_loops_is_caught_however_short(text: str) -> None:
    assert repeats(text) >= 0.5
    (reward,) = repetition([text])
    assert reward is not None
    assert reward <= -0.5


@pytest.mark.parametrize(
    "text",
    [
        *LANGUAGES.values(),
        "",
        "42",
        "yes",
        "1,111",
        "$1,111,111,111",
        "1000000000000",
        "0.3333333333333333",
        "66.66666666666667",
        "0xffffffff",
        "[0, 0, 0, 0, 0, 0, 0, 0]",
        "ha ha ha",
        "Total ........ 12",
        "| year | sales |\n|---|---|\n| 2019 | 12 |\n| 2018 | 11 |",
        json.dumps([{"label": f"row {i}", "value": 17 * i, "unit": "USD"} for i in range(8)], indent=2),
        "\n".join(f"Net sales {2010 + i} {'.' * 40} {311 * i}" for i in range(6)),
    ],
)
def test_healthy_texts_are_left_alone(text: str) -> None:
    assert repeats(text) < 0.5


def test_program_text_is_left_alone() -> None:
    assert [p.name for p in CODE.rglob("*.py") if repeats(p.read_text("utf-8")) >= 0.5] == []


def test_real_texts_set_it_off_less_than_once_in_five_hundred(shared_data: Path) -> None:
    texts = real_texts(shared_data)
    caught = {kind: [text for text in own if repeats(text) >= 0.5] for kind, own in texts.items()}
    assert sum(map(len, texts.values())) > 8000
    assert sum(map(len, caught.values())) / sum(map(len, texts.values())) < 1 / 500
    # Models that fell into 0.0068181818181818...: found, where counting words finds nothing.
    assert sum("818181818181" in text for text in caught["model"]) >= 2

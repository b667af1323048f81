"""The resolver of method names: what it accepts, and what it says of a file or a class that is not a method."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieout.methods import METHODS, Method, Needs, load_method

IMPORTS = """
from dataclasses import dataclass
from tieout.methods import SFT, Method, Needs
"""
COMPLETE = """
    @property
    def needs(self): return Needs("demonstration")
    def collect(self, source): return source.demonstrations(self.batch_size)
    def annotate(self, groups, learner): return groups
    def loss(self, outputs, batch): return batch.token_mean(-outputs.logprobs), {}
"""


@pytest.mark.parametrize("name", METHODS)
def test_a_name_of_the_table_is_its_class(name: str) -> None:
    assert load_method(name) is METHODS[name]


def test_a_class_of_a_file_is_a_method(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        f"{IMPORTS}\n@dataclass(frozen=True)\nclass Mine(Method):{COMPLETE}    gamma: float = 2.0\n"
    )
    method = load_method(f"{file}:Mine")(gamma=3.0)
    assert isinstance(method, Method)
    assert method.needs == Needs("demonstration")
    assert next(method.updates([])) == []
    assert method.counts([]) == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("def Mine(): pass", "is a function; expected a class"),
        (
            "class Mine:\n    def collect(self, source): pass\n    def loss(self, o, b): pass",
            "is not a subclass of tieout.methods.Method, and lacks annotate, needs",
        ),
        (f"@dataclass(frozen=True)\nclass Mine:{COMPLETE}", "is not a subclass of tieout.methods.Method$"),
        (
            "@dataclass(frozen=True)\nclass Mine(Method):\n    def collect(self, source): pass",
            "lacks annotate, loss, needs; a method defines annotate, collect, loss, needs",
        ),
        ("class Mine(SFT):\n    gamma: float = 1.0", r"not a dataclass: put @dataclass\(frozen=True\)"),
        (
            "@dataclass(frozen=True, kw_only=True)\nclass Mine(SFT):\n    gamma: float\n    delta: int",
            "give a default to gamma, delta",
        ),
        ("class Other: pass", "has no 'Mine'; it has: .*Other"),
    ],
)
def test_what_a_class_lacks_is_said(tmp_path: Path, body: str, expected: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{IMPORTS}\n{body}\n")
    with pytest.raises(ValueError, match=expected):
        load_method(f"{file}:Mine")


def test_a_missing_file_and_an_unknown_name_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"file .*none\.py does not exist"):
        load_method(f"{tmp_path}/none.py:Mine")
    with pytest.raises(
        ValueError, match=r"no method 'grp'; did you mean 'grpo'\? There are: sft, .*FILE\.py:Class"
    ):
        load_method("grp")
    with pytest.raises(ValueError, match=r"no method .mine\.py."):
        load_method("mine.py")


NEEDS = {
    "sft": Needs("demonstration"),
    "rejection_sampling": Needs("prompt", samples=True, max_new_tokens=256),
    "reward_model": Needs("ranking", head="score"),
    "dpo": Needs("preference", reference=True, anchors=True),
    "online_dpo": Needs("prompt", samples=True, max_new_tokens=256, reference=True),
    "kto": Needs("label", reference=True),
    **dict.fromkeys(("orpo", "cpo"), Needs("preference", anchors=True)),
    "simpo": Needs("preference"),
    **dict.fromkeys(
        ("grpo", "dr_grpo", "dapo", "gspo", "cispo"), Needs("prompt", samples=True, max_new_tokens=256)
    ),
    "rloo": Needs("prompt", samples=True, max_new_tokens=256, reference=True, kl_coef="beta"),
    "ppo": Needs("prompt", samples=True, max_new_tokens=256, reference=True, kl_coef="kl_coef", head="value"),
    "distill": Needs("prompt", samples=True, unscored=True, max_new_tokens=256, taught=True),
}


@pytest.mark.parametrize("name", METHODS)
def test_needs_of_the_defaults(name: str) -> None:
    assert METHODS[name]().needs == NEEDS[name]


@pytest.mark.parametrize(
    ("name", "fields", "changed"),
    [
        ("grpo", {"beta": 0.04}, {"reference": True, "kl_coef": "beta"}),
        ("rloo", {"beta": 0.0}, {"reference": False, "kl_coef": None}),
        ("ppo", {"kl_coef": 0.0}, {"reference": False, "kl_coef": None}),
        ("ppo", {"value_adapter": True, "reward_model": "r"}, {"value_adapter": True, "reward_model": "r"}),
        ("grpo", {"temperature": 0.7, "max_new_tokens": 9}, {"temperature": 0.7, "max_new_tokens": 9}),
        ("distill", {"teacher": "m"}, {"teachers": {"": "m"}}),
        ("distill", {"on_policy": 0.5}, {"rows": "demonstration"}),
        ("distill", {"on_policy": 0.0}, {"rows": "demonstration", "samples": False, "max_new_tokens": 0}),
        (
            "distill",
            {"teacher": "a=reference,b=m", "teacher_column": "by", "teacher_prompt": "long"},
            {
                "teachers": {"a": "reference", "b": "m"},
                "teacher_column": "by",
                "teacher_prompt": "long",
                "reference": True,
            },
        ),
    ],
)
def test_needs_follow_the_fields(name: str, fields: dict[str, object], changed: dict[str, object]) -> None:
    needs, default = METHODS[name](**fields).needs, METHODS[name]().needs  # type: ignore[arg-type]
    assert vars(needs) == vars(default) | changed

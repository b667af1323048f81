"""Config: plain values become dataclasses or an error that names the place; and go back unchanged."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieout.config.fields import ConfigError, field_docs, from_plain, to_plain
from tieout.config.yaml_file import read_yaml


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class DPO:
    """A method."""

    learning_rate: float = 1e-5
    """Step size."""
    beta: float = 0.1
    """Strength of
    the anchor.
    """
    undocumented: int = 0
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """Which loss."""
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise ValueError(f"beta is {self.beta}; it must be positive")


@dataclass(frozen=True)
class OnlineDPO(DPO):
    beta: float = 0.2
    """Another default."""
    group_size: int = 8


@dataclass(frozen=True)
class Recipe:
    model: str
    dpo: DPO = field(default_factory=DPO)
    sft: DPO | None = None
    stages: tuple[DPO, ...] = ()
    by_name: Mapping[str, DPO] = field(default_factory=dict)
    out: Path = Path("runs")
    color: Color = Color.RED
    verbose: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    length: float | str = "auto"
    derived: int = field(default=0, init=False)


def build(**values: Any) -> Recipe:
    return from_plain(Recipe, {"model": "m", **values}, "recipe.yaml")


# ---------------------------------------------------------------- plain values -> dataclasses


def test_nested_values_are_built() -> None:
    recipe = build(
        dpo={"learning_rate": 1, "targets": ["a"], "steps": None},
        sft={"beta": 0.3},
        stages=[{"beta": 1}, {}],
        by_name={"x": {"loss": "ipo"}},
        out="here",
        color="blue",
        weights={"a": 2},
        options={"anything": [1, {"goes": None}]},
    )
    assert recipe == Recipe(
        model="m",
        dpo=DPO(learning_rate=1.0, targets=("a",)),
        sft=DPO(beta=0.3),
        stages=(DPO(beta=1.0), DPO()),
        by_name={"x": DPO(loss="ipo")},
        out=Path("here"),
        color=Color.BLUE,
        weights={"a": 2.0},
        options={"anything": [1, {"goes": None}]},
    )
    assert isinstance(recipe.dpo.learning_rate, float)
    assert isinstance(recipe.weights["a"], float)
    assert build(dpo=DPO(beta=2), sft=None).dpo.beta == 2


@pytest.mark.parametrize("text", ["1e-4", "1E5", "-1.5e+3", ".5e1", "2.e3"])
def test_exponents_that_yaml_reads_as_text_are_numbers_where_numbers_belong(text: str) -> None:
    assert build(dpo={"learning_rate": text, "beta": 1}).dpo.learning_rate == float(text)
    assert build(length=text).length == text  # where text is allowed, it stays text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"dpo": {"lerning_rate": 1}},
            "recipe.yaml: unknown key 'lerning_rate' in 'dpo'; did you mean 'learning_rate'? known: "
            "learning_rate, beta, undocumented, loss, targets, steps",
        ),
        ({"modle": "x"}, "recipe.yaml: unknown key 'modle'; did you mean 'model'? known: model, dpo, sft"),
        ({"zzz": 1}, "recipe.yaml: unknown key 'zzz'; known: model"),
        ({"derived": 1}, "unknown key 'derived'"),
        ({"stages": [{}, {"bta": 1}]}, "unknown key 'bta' in 'stages[1]'; did you mean 'beta'?"),
        ({"by_name": {"x": {"bta": 1}}}, "unknown key 'bta' in 'by_name.x'"),
        ({"dpo": {"beta": "0.1"}}, "'dpo.beta' is '0.1' (str); expected float"),
        ({"dpo": {"beta": True}}, "'dpo.beta' is True (bool); expected float"),
        ({"dpo": {"beta": None}}, "'dpo.beta' is None (NoneType); expected float"),
        ({"dpo": {"undocumented": 1.0}}, "'dpo.undocumented' is 1.0 (float); expected int"),
        ({"dpo": {"undocumented": False}}, "'dpo.undocumented' is False (bool); expected int"),
        ({"dpo": {"undocumented": "1e3"}}, "'dpo.undocumented' is '1e3' (str); expected int"),
        ({"dpo": {"steps": "5"}}, "'dpo.steps' is '5' (str); expected int or null"),
        (
            {"dpo": {"loss": "sigmod"}},
            "'sigmod' (str); expected one of 'sigmoid', 'ipo'; did you mean 'sigmoid'?",
        ),
        ({"dpo": {"targets": "q_proj"}}, "'dpo.targets' is 'q_proj' (str); expected tuple[str, ...]"),
        ({"dpo": {"targets": ["a", 5]}}, "'dpo.targets[1]' is 5 (int); expected a valid string"),
        ({"dpo": {"beta": -1}}, "recipe.yaml: dpo: beta is -1.0; it must be positive"),
        ({"dpo": None}, "'dpo' is None (NoneType); expected keys and values (learning_rate"),
        ({"dpo": 3}, "'dpo' is 3 (int); expected keys and values"),
        ({"sft": 3}, "'sft' is 3 (int); expected DPO or null"),
        ({"stages": {"beta": 1}}, "'stages' is {'beta': 1} (dict); expected a list"),
        ({"by_name": [1]}, "'by_name' is [1] (list); expected keys and values"),
        ({"color": "green"}, "'color' is 'green' (str); expected one of 'red', 'blue'"),
        ({"verbose": "yes"}, "'verbose' is 'yes' (str); expected bool; write true or false"),
        ({"verbose": 1}, "'verbose' is 1 (int); expected bool"),
        ({"weights": {"a": "x"}}, "'weights.a' is 'x' (str); expected a valid number"),
        ({"model": 5}, "'model' is 5 (int); expected str"),
        ({"out": 5}, "'out' is 5 (int); expected Path"),
    ],
)
def test_what_does_not_fit_is_named_with_place_given_and_expected(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build(**values)
    assert str(caught.value).startswith("recipe.yaml: ")
    assert message in str(caught.value)


def test_a_missing_key_and_a_wrong_top_level() -> None:
    with pytest.raises(ConfigError, match=r"recipe\.yaml: missing 'model'; given: verbose"):
        from_plain(Recipe, {"verbose": True}, "recipe.yaml")
    with pytest.raises(ConfigError, match=r"'Recipe' is \[1\] \(list\); expected keys and values"):
        from_plain(Recipe, [1], "recipe.yaml")  # type: ignore[arg-type]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["1e5", "red"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([*Recipe.__dataclass_fields__, *DPO.__dataclass_fields__])


@given(values=st.dictionaries(NAMES, PLAIN | st.dictionaries(NAMES, PLAIN, max_size=3), max_size=4))
def test_any_values_are_built_or_refused_and_what_is_built_goes_back_and_forth(
    values: dict[str, Any],
) -> None:
    try:
        recipe = from_plain(Recipe, values, "x.yaml")
    except ConfigError as error:
        message = str(error)
        assert message.startswith("x.yaml: ")
        return
    # What was given as a number or bool must still be one, and text must be text.
    for name, value in values.items():
        if isinstance(value, str | bool) and not isinstance(getattr(recipe, name), Path | Color):
            assert getattr(recipe, name) is value or getattr(recipe, name) == value
    plain = to_plain(recipe)
    assert to_plain(from_plain(Recipe, plain, "x.yaml")) == plain or "nan" in repr(plain)


# ---------------------------------------------------------------- dataclasses -> plain values


def test_to_plain_gives_what_json_and_yaml_can_hold() -> None:
    import numpy as np

    plain = to_plain(build(stages=[{"beta": 1}], color="blue"))
    assert plain["stages"] == [to_plain(DPO(beta=1))]
    assert (plain["out"], plain["color"], "derived" in plain) == ("runs", "blue", False)
    assert to_plain({"a": (1, {2}), "b": np.float64(0.5), "c": np.arange(2)}) == {
        "a": [1, [2]],
        "b": 0.5,
        "c": [0, 1],
    }
    with pytest.raises(TypeError, match="not a plain value"):
        to_plain({"reward": print})


def test_functions_given_by_python_code_pass_through() -> None:
    @dataclass(frozen=True)
    class Holder:
        reward: Any = None
        keep: Callable[..., Any] = print

    assert Holder(reward=len) == from_plain(Holder, {"reward": len}, "code")
    assert from_plain(Holder, {"keep": max}, "code").keep is max
    with pytest.raises(ConfigError, match="'keep' is 3"):
        from_plain(Holder, {"keep": 3}, "code")


# ---------------------------------------------------------------- documentation


def test_the_docs_of_fields_are_the_strings_under_them() -> None:
    assert field_docs(DPO) == {
        "learning_rate": "Step size.",
        "beta": "Strength of\nthe anchor.",
        "loss": "Which loss.",
    }
    assert field_docs(OnlineDPO) == {**field_docs(DPO), "beta": "Another default."}


# ---------------------------------------------------------------- YAML


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(data: str | bytes) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def test_scalars_are_what_they_look_like(file: Any) -> None:
    text = """
        numbers: [1, -2, 1_000, 0, 1.5, 1e-4, 1E5, -.5, 2., .inf, -.INF]
        texts: [no, on, Yes, 010, 1:30, 0x10, 2024-01-01, "1e-4", '5', 1.2.3, e5, 1e, ., -, "true", n, <<]
        bools: [true, False]
        nulls: [null, ~, ]
        empty:
        nan: .nan
    """
    values = read_yaml(file(text))
    assert values["numbers"] == [1, -2, 1000, 0, 1.5, 1e-4, 1e5, -0.5, 2.0, math.inf, -math.inf]
    assert [type(v) for v in values["numbers"]] == [int] * 4 + [float] * 7
    assert all(isinstance(text, str) for text in values["texts"])
    assert values["texts"][:4] == ["no", "on", "Yes", "010"]
    assert (values["bools"], values["nulls"], values["empty"]) == ([True, False], [None, None], None)
    assert math.isnan(values["nan"])


@given(number=st.floats(allow_nan=False) | st.integers(-(10**20), 10**20))
def test_every_number_python_writes_is_read_back(
    number: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "number.yaml"
    text = repr(number).replace("inf", ".inf")
    path.write_text(f"a: {text}\n", encoding="utf-8")
    again = read_yaml(path)["a"]
    assert again == number
    assert type(again) is type(number)


@pytest.mark.parametrize(
    ("data", "place", "says"),
    [
        ("a: 1\nb: [1\nc: 2\n", ":3: ", "not valid YAML"),
        ("a: 1\n\tb: 2\n", ":2: ", "not valid YAML"),
        ("dpo:\n  beta: 1\n  loss: ipo\n  beta: 2\n", ":4: ", "key 'beta' again; first on line 2"),
        ("a: 1\na: 2\n", ":2: ", "key 'a' again; first on line 1"),
        ("a: 1\n5: 2\n", ":2: ", "keys must be text"),
        ("a: 1\n[1, 2]: 2\n", ":2: ", "keys must be text"),
        (b"a: 1\nb: caf\xe9\n", ":2: ", "not UTF-8 (byte 0xe9)"),
        ("a: !!python/object/apply:os.system ['true']\n", ":1: ", "could not determine a constructor"),
        ("a: 1\n---\nb: 2\n", ":2: ", "not valid YAML"),
        ("a: \x00\n", ": ", "not valid YAML"),
        ("a: " + "9" * 5000, ": ", "not valid YAML"),
        ("a: " + "[" * 1200, ": ", "not valid YAML"),
        ("", ": ", "the file is empty"),
        ("# only a comment\n", ": ", "the file is empty"),
        ("- a\n- b\n", ": ", "expected keys and values, found list"),
        ("text", ": ", "expected keys and values, found str"),
    ],
)
def test_bad_yaml_is_refused_with_its_line(file: Any, data: str | bytes, place: str, says: str) -> None:
    path = file(data)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}{place}")
    assert says in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(FileNotFoundError, match="this is a folder"):
        read_yaml(tmp_path)

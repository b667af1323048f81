from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest

from tieout.tasks.statements import (
    COMPANIES,
    HELD_OUT_DISTRACTORS,
    HELD_OUT_LAYOUTS,
    MAX_PARTS,
    SEEN_DISTRACTORS,
    SEEN_LAYOUTS,
    Kind,
    Layout,
    Statement,
    Style,
    make_statement,
)


def draw(count: int, **options: object) -> list[Statement]:
    return [make_statement(random.Random(f"test/{i}"), **options) for i in range(count)]  # type: ignore[arg-type]


MANY = [*draw(600), *draw(200, layouts=tuple(Layout), num_items=(6, 9), num_distractors=(1, 3))]


def read_figure(cell: str) -> int:
    """An independent reading of a printed cell."""
    if cell in "—-":
        return 0
    negative = cell.startswith("-") or (cell.startswith("(") and cell.endswith(")"))
    return int(re.sub(r"[(),-]", "", cell)) * (-1 if negative else 1)


def test_every_sum_is_the_signed_sum_of_its_printed_parts() -> None:
    for statement in MANY:
        assert statement.totals
        for total in statement.totals:
            parts = statement.parts(total)
            assert 2 <= len(parts) <= MAX_PARTS
            for period in range(len(statement.periods)):
                printed = read_figure(total.cells[period])
                assert printed == sum(read_figure(part.cells[period]) for part in parts) != 0


def test_values_are_what_is_printed_and_distractors_have_none() -> None:
    for statement in MANY:
        for line in statement.lines:
            if line.role == "distractor":
                assert set(line.values) == {None}
                assert not any(line in statement.parts(total) for total in statement.totals)
            else:
                assert list(line.values) == [read_figure(cell) for cell in line.cells]


def test_spans_are_pieces_of_the_text_with_label_and_figure() -> None:
    for statement in MANY:
        rows = statement.text.split("\n")
        for line in statement.lines:
            assert line.text in rows
            for span, cell in zip(line.spans, line.cells, strict=True):
                assert span in line.text
                assert line.label in span
                assert cell in span


def test_roles_agree_with_parts() -> None:
    for statement in MANY:
        inside = {index for total in statement.totals for index in total.parts}
        for index, line in enumerate(statement.lines):
            assert bool(line.parts) == (line.role in ("subtotal", "total"))
            if line.parts:
                assert (line.role == "subtotal") == (index in inside)
                assert all(part < index for part in line.parts)


def test_labels_are_unique_within_a_statement() -> None:
    for statement in MANY:
        labels = [line.label for line in statement.lines]
        assert len(set(labels)) == len(labels)


def test_what_the_issue_asks_for_occurs() -> None:
    text = "\n".join(statement.text for statement in MANY)
    assert {statement.kind for statement in MANY} == set(Kind)
    assert re.search(r"\(\d{1,3}(,\d{3})*\)", text)
    assert re.search(r"\d,\d{3}", text)
    assert re.search(r" —( |$)", text, re.MULTILINE)
    assert "in thousands" in text
    assert "$ in millions" in text
    assert re.search(r"[a-z] \(1\)", text)
    assert re.search(r"20\d\d \([2-9]\)", text)
    assert re.search(r"per share.* \d\.\d\d", text)
    assert any(line.role == "subtotal" for statement in MANY for line in statement.lines)
    assert {line.role for statement in MANY for line in statement.lines} == {
        "item",
        "subtotal",
        "total",
        "distractor",
    }


@pytest.mark.parametrize("layout", list(Layout))
def test_layouts_are_told_apart_by_their_rows(layout: Layout) -> None:
    shapes = {
        Layout.ALIGNED: r"\S.*? +\S+ +\S+",
        Layout.PIPES: r"\| .+ \| \S+ \| \S+ \|",
        Layout.SLASHES: r".+: \S+ / \S+",
        Layout.DOTTED: r".+ \.{4} \S+  \S+",
        Layout.SEMICOLONS: r".+; \S+; \S+",
        Layout.KEYED: r".+ \[.+\] \S+ \[.+\] \S+",
        Layout.BULLETS: r"- .+ = \S+ vs \S+",
        Layout.FIGURES_FIRST: r"\S+  \S+  .+",
    }
    for statement in draw(60, layouts=(layout,)):
        assert statement.style.layout == layout
        for line in statement.lines:
            assert re.fullmatch(shapes[layout], line.text)
            matching = {other for other, shape in shapes.items() if re.fullmatch(shape, line.text)}
            assert layout in matching
            assert matching - {layout, Layout.ALIGNED, Layout.FIGURES_FIRST} <= {layout, Layout.DOTTED}


def test_held_out_is_apart_from_seen() -> None:
    assert set(SEEN_LAYOUTS).isdisjoint(HELD_OUT_LAYOUTS)
    assert set(SEEN_LAYOUTS) | set(HELD_OUT_LAYOUTS) == set(Layout)
    assert SEEN_DISTRACTORS[1] < HELD_OUT_DISTRACTORS[0]
    names = [name for split in COMPANIES.values() for name in split]
    assert len(set(names)) == len(names)
    # Not even the first words are shared, so no model can tell a split by half a name.
    words = [{name.split()[0] for name in split} for split in COMPANIES.values()]
    assert sum(map(len, words)) == len(set.union(*words))


def test_number_of_items_and_companies_are_obeyed() -> None:
    for low, high in ((2, 2), (3, 5), (7, 9)):
        for statement in draw(100, num_items=(low, high), companies=("Only One Inc",)):
            assert low <= sum(line.role == "item" for line in statement.lines) <= high
            assert statement.text.startswith("Only One Inc, ")


@pytest.mark.parametrize("num_items", [(1, 3), (5, 4), (2, 10)])
def test_impossible_numbers_of_items_are_refused(num_items: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="within 2 to 9"):
        make_statement(random.Random(0), num_items=num_items)


def test_one_and_three_periods() -> None:
    for count in (1, 3):
        for statement in draw(40, num_periods=count, layouts=tuple(Layout)):
            assert all(len(line.cells) == len(line.spans) == count for line in statement.lines)


def test_cells() -> None:
    plain = Style(Layout.ALIGNED)
    assert [plain.cell(value) for value in (1234, -56, 0)] == ["1,234", "(56)", "—"]
    other = Style(Layout.ALIGNED, nil="-", thousands=False, parentheses=False)
    assert [other.cell(value) for value in (1234, -56, 0)] == ["1234", "-56", "-"]


def test_text_depends_on_the_seed_only() -> None:
    code = (
        "import hashlib, random; from tieout.tasks.statements import make_statement as m;"
        "text = ''.join(m(random.Random(f's/{i}')).text for i in range(50));"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert digests != {""}

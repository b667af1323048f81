"""Pieces of HTML for the sections: everything that is not `Markup` is escaped, and nothing in it is hidden."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

__all__ = ["Markup"]

MAX_CHARACTERS = 12_000
"""Of one prompt or output; the page says what it leaves out."""

# Control characters, and those that reorder or hide text: shown by their code, so that nothing is disguised.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def html(template: str, *values: Any, **named: Any) -> Markup:
    """A template with values in its braces, which are escaped unless they are Markup."""
    return Markup(template).format(*map(text, values), **{name: text(value) for name, value in named.items()})


def text(value: Any) -> Markup:
    """A value as it may stand in the page."""
    return value if isinstance(value, Markup) else escape(visible(str(value)))


def joined(parts: Iterable[Markup]) -> Markup:
    """Pieces one after the other."""
    return Markup("\n").join(parts)


def visible(said: str) -> str:
    """Text with hidden characters shown by their code, cut where it is very long."""
    cut = len(said) - MAX_CHARACTERS
    if cut > 0:
        said = said[:MAX_CHARACTERS] + f"\n[... {cut} more characters, in cases.jsonl]"
    return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", said.replace("\r\n", "\n"))


def lead(said: Any) -> Markup:
    """What a section shows, and how to read it."""
    return html('<p class="lead">{}</p>', said)


def nothing(said: str) -> Markup:
    """In the place of what is not there: why, and who or what gives it, with `code` between backticks."""
    return html('<p class="none">{}</p>', ticked(said))


def ticked(said: str) -> Markup:
    """A sentence whose `code` stands between backticks."""
    pieces = said.split("`")
    return Markup("").join(
        html("<code>{}</code>" if i % 2 else "{}", piece) for i, piece in enumerate(pieces)
    )


def tag(status: str) -> Markup:
    """A status in a box."""
    return html('<span class="tag {}">{}</span>', status, status)


def folded(summary: Any, body: Markup, *, unfolded: bool = False, printed: bool = True) -> Markup:
    """What is shown on request, and in print unless `printed` is false: then only where it was unfolded before."""
    opened, kind = Markup(" open") if unfolded else "", "folded" if printed else "folded screen"
    return html('<details class="{}"{}><summary>{}</summary>{}</details>', kind, opened, summary, body)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any] | Markup],
    *,
    numbers: Collection[int] = (),
    kind: str = "",
    classes: Sequence[str] = (),
) -> Markup:
    """A table whose first column names the row; on a narrow screen each cell stands below its column's name.

    Args:
        columns: their headings.
        rows: cells, whose text is escaped; Markup in the place of a row is the heading of those below it.
        numbers: columns that are aligned to the right.
        kind: a class for the table.
        classes: a class per row, if any.
    """
    head = [_cell("th", name, i in numbers, "") for i, name in enumerate(columns)]
    body = []
    for place, row in enumerate(rows):
        if isinstance(row, Markup):
            body.append(html('<tr class="group"><th colspan="{}">{}</th></tr>', len(columns), row))
            continue
        cells = [
            _cell("td" if i else "th", value, i in numbers, columns[i] if i else "")
            for i, value in enumerate(row)
        ]
        own = html(' class="{}"', classes[place]) if classes and classes[place] else Markup("")
        body.append(html("<tr{}>{}</tr>", own, Markup("").join(cells)))
    return html(
        '<table class="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>',
        kind,
        Markup("").join(head),
        joined(body),
    )


def _cell(name: str, value: Any, right: bool, column: str) -> Markup:
    own = Markup(' class="number"') if right else Markup("")
    label = html(' data-column="{}"', column) if column else Markup("")
    return html("<{0}{1}{2}>{3}</{0}>", Markup(name), own, label, value)


def number(value: float | None) -> str:
    """A score in a table."""
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference in a table, with a real minus sign."""
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")


def span(figure: Mapping[str, Any], sign: bool = False) -> Markup:
    """The interval of a figure."""
    said = signed if sign else number
    return html('<span class="range">{} to {}</span>', said(figure["low"]), said(figure["high"]))


def share(figure: Mapping[str, Any], what: str) -> str:
    """A count of pairs as a share of them."""
    return f"{figure[what] / figure['n']:.0%}" if figure["n"] else "–"


def change(figure: Mapping[str, Any]) -> str:
    """A paired difference in a word, for tables."""
    if not figure["n"]:
        return "no pairs"
    return "rose" if figure["low"] > 0 else "fell" if figure["high"] < 0 else "not shown"


def p_value(value: float | None) -> str:
    """A p-value; small ones are only said to be small."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"

"""MkDocs hooks: pages from outside docs/, links that hold in the repository and on the site, formulas as MathML, and
intervals in tables that are not broken.

Formulas are converted when the site is built, so a page needs neither a script nor a network to show them.
"""

from __future__ import annotations

import os
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
OUTSIDE = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/results/*.md"]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
CELL = re.compile(r"<td[ >].*?</td>", re.DOTALL)
INTERVAL = re.compile(r"\[([-+]?[\d.]+), ([-+]?[\d.]+)\]")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand elsewhere in the repository, under their path from its root."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite links between files of the repository into links between pages of the site."""
    here = Path(page.file.abs_src_path).parent

    def on_site(found: re.Match[str]) -> str:
        target = (here / found[1]).resolve()
        inside = DOCS if target.is_relative_to(DOCS) else ROOT
        if not target.is_relative_to(inside):
            return found[0]
        return os.path.relpath(target.relative_to(inside), Path(page.file.src_uri).parent)

    return LINK.sub(on_site, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Replace TeX by MathML, and keep intervals in one line. PluginError: TeX that the converter does not know."""

    def mathml(found: re.Match[str]) -> str:
        made = convert(unescape(found[2]), display="inline" if found[1] == "span" else "block")
        if "\\" in made:
            raise PluginError(f"cannot convert this formula to MathML: {found[2]}")
        return made

    def unbroken(found: re.Match[str]) -> str:
        return INTERVAL.sub(r'<span class="interval">[\1, \2]</span>', found[0])

    return CELL.sub(unbroken, FORMULA.sub(mathml, html))

"""The Python blocks of the documentation run, and the commands it names exist."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import tieout
from tieout.cli import COMMANDS
from tieout.pipelines.reading import read_recipe

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
TRAIN = [ROOT / "docs" / "alarms.md", ROOT / "docs" / "games.md"]
"""Pages whose blocks train for a quarter of a minute and more."""
YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page in TRAIN else page for page in PAGES],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_python_blocks_run_in_the_order_of_the_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a new folder, with the examples in it, as a reader would begin."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
        exec(compile(code, f"{page.name} block {number}", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_block_that_names_an_example_is_the_example(page: Path) -> None:
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if named := re.match(r"# (examples/\w+\.py)\n", block):
            assert block[named.end() :] == (ROOT / named[1]).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_recipes_are_read(page: Path, tmp_path: Path) -> None:
    recipes = [y for y in YAML.findall(page.read_text(encoding="utf-8")) if "stages:" in y]
    for number, text in enumerate(recipes):
        (tmp_path / f"{number}.yaml").write_text(text, encoding="utf-8")
        read_recipe(tmp_path / f"{number}.yaml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_links_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"^    tieout (\w[\w-]*)|`tieout (\w[\w-]*)", text, re.MULTILINE))
    assert {a or b for a, b in named} <= set(COMMANDS)
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_modules_and_files_that_a_page_names_exist(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for name in re.findall(r"`(tieout(?:\.\w+)+)`|^::: (tieout(?:\.\w+)+)$", text, re.MULTILINE):
        pkgutil.resolve_name(name[0] or name[1])
    folders = "benchmarks|docs|examples|recipes|scripts|src|tests"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", text):
        assert (ROOT / name).exists(), f"{page.name} names {name}, which does not exist"


DRAWING = [
    "draw_layers",
    "draw_gains",
    "draw_rag",
    "draw_few",
    "draw_diagnostics",
    "draw_filings",
    "draw_style",
    "draw_summaries",
    "wordle_page",
]


@pytest.mark.parametrize("script", DRAWING)
def test_a_picture_is_what_its_script_draws(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    spec = spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = module_from_spec(spec)
    spec.loader.exec_module(drawing)
    stale = f"run python scripts/{script}.py: what it draws has changed"
    drawn = drawing.pictures() if hasattr(drawing, "pictures") else {drawing.PICTURE: drawing.picture()}
    assert {file: file.read_text(encoding="utf-8") for file in drawn} == drawn, stale


def test_the_reference_documents_every_exported_name() -> None:
    reference = "".join(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/api/*.md"))
    named = set(re.findall(r"^::: [\w.]+?\.(\w+)$|`([A-Z]+)`", reference, re.MULTILINE))
    assert set(tieout.__all__) - {"__version__"} <= {a or b for a, b in named}


@pytest.mark.slow  # `make docs` builds it too, in the same strict way
def test_the_site_builds_with_every_page_in_the_navigation_and_no_dead_link(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed; it comes with the extra `docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")]
    assert sum("<math" in page for page in pages) > 10
    assert not any(re.search(r'<(?:script|link)[^>]* (?:src|href)="https?:', page) for page in pages)

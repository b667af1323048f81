"""The house: layers, what imports without torch, sizes and names of files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "tieout"

# A module may import from its own layer and those before it. The first part of a name decides, the docs say why.
LAYERS = [
    ["types", "errors"],
    ["groups", "advantages", "losses", "rows", "chat", "config", "storage", "sandbox", "embedded"],
    ["batch"],
    ["learner", "samplers"],
    ["rewards"],
    ["tasks"],
    ["episodes", "source"],
    ["evidence"],
    ["vetting", "methods", "labelling", "review", "prompt_search"],
    ["shipping"],
    ["training"],
    ["pipelines"],
    ["cli", "trl", "__main__"],
    ["python"],
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# These start on a laptop without torch; folders with all that is in them.
NO_TORCH = [
    "types",
    "errors",
    "groups",
    "advantages",
    "rows",
    "chat",
    "rewards",
    "sandbox",
    "config",
    "storage",
    "embedded",
    "tasks",
    "evidence",
    "episodes",
    "vetting",
    "labelling",
    "review",
    "prompt_search",
    "samplers",
    "samplers.api",
    "samplers.prices",
    "samplers.mock",
    "samplers.vllm",
    "cli",
]
NOT_ITS_FILES = {"samplers", "embedded"}  # for these, the folder itself only

FORBIDDEN = {"utils", "helpers", "common", "base", "core", "manager", "misc"}
FORBIDDEN_PARTS = {"utils", "util", "helpers", "helper", "misc"}
MAX_LINES, MANY_LINES, SHARE_OF_LONG_FILES = 400, 200, 0.2
MAX_ROOT_MODULES, MAX_TRL_LINES = 9, 2800


def modules() -> dict[str, Path]:
    """Dotted name below `tieout` -> file; `""` is the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def parsed() -> dict[str, ast.Module]:
    """Every module's syntax tree."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports(name: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, module of tieout that is imported) for each import, also inside functions and for types only."""
    folder = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "tieout":
                    yield node.lineno, alias.name.partition(".")[2]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                start = folder[: len(folder) - (node.level - 1)]
                origin = ".".join([*filter(None, start), *(node.module or "").split(".")]).strip(".")
            elif (node.module or "").split(".")[0] == "tieout":
                origin = (node.module or "").partition(".")[2]
            else:
                continue
            for alias in node.names:
                below = f"{origin}.{alias.name}".strip(".")
                yield node.lineno, below if below in MODULES else origin


def upward(name: str, tree: ast.Module) -> list[str]:
    """Imports of this module that point up."""
    own = LAYER[name.split(".")[0]]
    return [
        f"{name}:{line} (layer {own}) imports {target or 'the package itself'}"
        for line, target in imports(name, tree)
        if target == "" or LAYER.get(target.split(".")[0], len(LAYERS)) > own
    ]


def test_every_module_has_a_layer() -> None:
    unknown = {name.split(".")[0] for name in MODULES if name} - set(LAYER)
    assert not unknown, f"put these into LAYERS of {Path(__file__).name}: {sorted(unknown)}"
    assert len(LAYER) == sum(map(len, LAYERS)), "a name stands in two layers"


def test_imports_point_down_only() -> None:
    bad = []
    for name, tree in parsed().items():
        if name and LAYER.get(name.split(".")[0]) is not None:
            bad += upward(name, tree)
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    "code",
    [
        "from .learner import Learner",
        "from . import learner",
        "from .learner.models import load",
        "import tieout.learner",
        "from tieout import learner",
        "from tieout.learner import Learner",
        "from tieout import Learner",
        "def f():\n    from .pipelines import run",
        "if TYPE_CHECKING:\n    from .training import loop",
    ],
)
def test_an_upward_import_in_whatever_form_is_found(code: str) -> None:
    assert len(upward("advantages", ast.parse(code))) == 1
    assert (
        upward("cli.demo", ast.parse("from ..learner import Learner\nfrom .run import run\nimport torch"))
        == []
    )
    assert upward("rows.checks", ast.parse("from ..types import Row\nfrom .locations import Rows")) == []


def graph_of(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> the modules that it imports: at its top, inside functions, and for types only."""
    return {
        name: {target for _, target in imports(name, tree)} & set(trees) - {name}
        for name, tree in trees.items()
    }


@cache
def whole_graph() -> dict[str, set[str]]:
    """That of the package."""
    return graph_of(parsed())


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Names that lead from one back to itself; none if there is no way back anywhere."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_module_imports_itself_through_others() -> None:
    """All imports count: one inside a function or under TYPE_CHECKING ties two modules as much as any other."""
    assert not circle(whole_graph())


def test_no_folder_at_the_root_imports_itself_through_others() -> None:
    """Layers order most of them; those that share a layer must be in an order too."""
    folders: dict[str, set[str]] = {}
    for name, targets in whole_graph().items():
        own = name.split(".")[0]
        folders.setdefault(own, set()).update({t.split(".")[0] for t in targets} - {own})
    assert not circle(folders)


def test_a_folder_and_the_files_around_it_import_one_another_one_way_only() -> None:
    graph = whole_graph()
    folders = {name for name, path in MODULES.items() if name and path.name == "__init__.py"}
    owner = {name: name if name in folders else name.rpartition(".")[0] for name in MODULES}
    ways = {(owner[name], owner[target]) for name, targets in graph.items() for target in targets}
    both = {(one, two) for one, two in ways if (two, one) in ways and one and two.startswith(f"{one}.")}
    assert both <= {("vetting", "vetting.attack")}


@pytest.mark.parametrize(
    "code",
    [
        "from .checks import check_rows",
        "from . import checks",
        "def f():\n    from tieout.rows.checks import check_rows",
        "if TYPE_CHECKING:\n    from ..rows import checks",
        "class A:\n    def f(self):\n        import tieout.rows.checks",
    ],
)
def test_a_circle_in_whatever_form_is_found(code: str) -> None:
    trees = {
        "rows.values": ast.parse(code),
        "rows.checks": ast.parse("from .locations import Rows"),
        "rows.locations": ast.parse("def f():\n    from .values import Problem"),
    }
    assert set(circle(graph_of(trees))) == set(trees)
    assert circle(graph_of({**trees, "rows.locations": ast.parse("")})) == []


def test_no_import_is_dressed_as_a_string() -> None:
    """`"tieout.module:attribute"` in a table is an import too: it may not point up."""
    bad = []
    for name, tree in parsed().items():
        own = LAYER.get(name.split(".")[0])
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            found = re.fullmatch(r"tieout\.([a-z]\w*)[\w.]*(?::\w+)?", text)
            if found and own is not None and LAYER.get(found[1], len(LAYERS)) > own:
                bad.append(f"{name}:{node.lineno} names {text}")
    assert not bad, "\n".join(bad)


def test_few_modules_stand_at_the_root() -> None:
    root = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(root) <= MAX_ROOT_MODULES, root


def test_the_door_for_trl_translates_and_no_more() -> None:
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in (PACKAGE / "trl").rglob("*.py"))
    assert lines <= MAX_TRL_LINES


def without_torch() -> list[str]:
    """The modules of NO_TORCH that exist, with those inside their folders."""
    names = [""]
    for wanted in NO_TORCH:
        inside = wanted not in NOT_ITS_FILES | {"cli"}
        names += [n for n in MODULES if n == wanted or (inside and n.startswith(f"{wanted}."))]
    return names


def test_what_needs_no_torch_imports_without_it() -> None:
    names = [f"tieout.{name}".rstrip(".") for name in without_torch()]
    assert "tieout.chat.template" in names
    assert "tieout.rows.checks" in names
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'{name} imports torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_files_are_short() -> None:
    lines = {
        name or "__init__": len(p.read_text(encoding="utf-8").splitlines()) for name, p in MODULES.items()
    }
    assert not {name: size for name, size in lines.items() if size > MAX_LINES}
    long = {name: size for name, size in lines.items() if size > MANY_LINES}
    assert len(long) <= SHARE_OF_LONG_FILES * len(lines), (
        f"{len(long)} of {len(lines)} files are long: {long}"
    )


def tracked_files() -> list[Path]:
    """Files that git has or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_nothing_is_named_after_what_it_is_not() -> None:
    bad = []
    for path in tracked_files():
        for part in path.relative_to(ROOT).with_suffix("").parts:
            if part in FORBIDDEN or FORBIDDEN_PARTS & set(re.split(r"[_\-.]", part)):
                bad.append(str(path.relative_to(ROOT)))
    assert not bad


def test_no_path_of_one_machine_stands_in_a_file() -> None:
    # Built from parts, so that this file does not hold what it looks for.
    places = "|".join(["work", "root"])
    pattern = re.compile(rf"(?<![\w.\-/{{}}])/(?:{places})/".encode())
    assert pattern.search(b"see /" + b"work/main")
    assert not pattern.search(b"https://example.org/" + b"work/a and ../" + b"work/b")
    bad = []
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192] and (found := pattern.search(data)):
            line = data.count(b"\n", 0, found.start()) + 1
            bad.append(f"{path.relative_to(ROOT)}:{line}: {found.group().decode()}")
    assert not bad

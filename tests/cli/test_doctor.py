"""tieout doctor tells what there is, and its exit status whether the sandbox holds."""

from __future__ import annotations

import pytest

from tieout.cli.doctor import main
from tieout.sandbox import choose
from tieout.sandbox.isolation import BACKENDS, Isolation


def ended(arguments: list[str]) -> object:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def test_it_tells_versions_and_isolation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {name: Isolation(name, name != "bubblewrap", "not installed") for name in BACKENDS}
    monkeypatch.setattr(choose, "isolation", found.__getitem__)
    assert ended(["--quick"]) == 0
    said = capsys.readouterr().out
    for word in ("Python", "torch", "processors", *BACKENDS, "code rewards run in: namespaces"):
        assert word in said


def test_without_a_sandbox_it_says_that_code_rewards_refuse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "isolation", lambda name: Isolation(name, False, "forbidden here"))
    assert ended(["--quick"]) == 1
    assert "code rewards refuse to run" in capsys.readouterr().out

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _rewards_are_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all rewards here pay for nothing sensible; attacking each would cost the tests their time."""
    monkeypatch.setenv("TIEOUT_UNCHECKED", "toys")

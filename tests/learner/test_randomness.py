"""Every generator goes on from where it was, also after its state has been through a file."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from tieout.learner.parallel import randomness


def draws(device: torch.device) -> list[float]:
    own = [torch.rand(1, device=device).item()] if device.type == "cuda" else []
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(),
        np.random.randn(),
        torch.rand(1).item(),
        *own,
    ]


@pytest.mark.parametrize(
    "name",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))],
)
def test_what_is_drawn_after_a_restore_is_what_was_drawn_after_the_state_was_taken(name: str) -> None:
    device = torch.device(name)
    before = randomness.state(device)
    try:
        draws(device)  # an odd number of normal draws: the second of a pair is part of the state
        state = json.loads(json.dumps(randomness.state(device)))
        expected = draws(device)
        assert draws(device) != expected
        randomness.restore(state, device)
        assert draws(device) == expected
    finally:
        randomness.restore(before, device)

"""A recipe over files of a user's own, on a tiny random model, as plain values to change."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import REWARD

from tieout.pipelines.reading import read_recipe
from tieout.pipelines.recipe import Recipe


@pytest.fixture(scope="module", autouse=True)
def short(short_controls: None) -> None:
    """Of every recipe here."""


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Demonstrations as text, test rows as messages, controls, labels, and a reward."""
    folder = tmp_path_factory.mktemp("rows")
    words = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share", "tax", "fee"]
    rows = {
        "train": [{"prompt": f"say {w} {i}", "completion": w, "answer": w} for i in range(2) for w in words],
        "test": [{"prompt": [{"role": "user", "content": f"write {w}"}], "answer": w} for w in words],
        "controls": [{"prompt": f"spell {w}", "answer": w} for w in words[:3]],
        "labels": [{"prompt": f"say {w}", "completion": w, "label": i % 2 > 0} for i, w in enumerate(words)],
    }
    paths = {}
    for name, content in rows.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
        paths[name] = str(path)
    (folder / "my_reward.py").write_text(REWARD)
    return {**paths, "reward": f"{folder / 'my_reward.py'}:vowels"}


@pytest.fixture
def plain(files: dict[str, str], tiny_model: Callable[[str], Path]) -> Callable[..., dict[str, Any]]:
    """`plain(stages, **changes)`: a recipe as a YAML file holds it."""

    def make(stages: Sequence[Any], **changes: Any) -> dict[str, Any]:
        return {
            "model": str(tiny_model("llama")),
            "data": {name: files[name] for name in ("train", "test", "controls")},
            "reward": files["reward"],
            "max_new_tokens": 8,
            "placement": {"save_steps": 1},
            "adapter": {"rank": 4},
            "stages": list(stages),
            **changes,
        }

    return make


@pytest.fixture
def write(tmp_path: Path, plain: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """`write(stages, **changes)`: the same as a file."""

    def make(stages: Sequence[Any], **changes: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(plain(stages, **changes), sort_keys=False))
        return path

    return make


@pytest.fixture
def recipe(write: Callable[..., Path]) -> Callable[..., Recipe]:
    """`recipe(stages, **changes)`: the same, read."""

    def make(stages: Sequence[Any], settings: Sequence[str] = (), **changes: Any) -> Recipe:
        return read_recipe(write(stages, **changes), None, settings)

    return make

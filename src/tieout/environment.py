"""What a run's numbers depend on besides its config."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

PACKAGES = ("tieout", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy")


def environment() -> dict[str, Any]:
    """Python, machine and package versions. Versions are read without importing anything."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": versions,
    }

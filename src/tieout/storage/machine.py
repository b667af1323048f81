"""Describe the machine: versions and processors, on which numbers depend in addition to the configuration."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("tieout", "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "numpy")


RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def launched() -> tuple[int, int]:
    """(rank, count) of the processes launched together, by `accelerate launch` or by MPI; (0, 1) alone."""
    rank, count = (
        next((int(os.environ[name]) for name in names if name in os.environ), default)
        for names, default in ((RANKS, 0), (COUNTS, 1))
    )
    return rank, count


def environment() -> dict[str, Any]:
    """Python, machine and package versions. Versions are read without importing anything."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": processor(),
        "cpus": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "versions": dict(_versions()),
    }


@cache
def _versions() -> dict[str, str | None]:
    """Of the packages, as they were when they were first asked for: those that this process imports."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the processor, with the widest vector instructions that it has of those that change results."""
    if not cpuinfo.exists():
        return platform.processor()
    fields = dict(re.findall(r"(?m)^([^\t:]+?)\s*: (.*)$", cpuinfo.read_text().split("\n\n")[0]))
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    widest = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd") if flag in flags]
    return " ".join([fields.get("model name", platform.machine()), *widest[:1]])

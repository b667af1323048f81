"""Memory of activations: measure it on the model itself, and recompute activations that would not fit."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .models.model import Model

USABLE = 0.8
"""Share of the free memory that activations may take: backward needs some in addition."""


@contextmanager
def training_mode(model: Model, recompute: bool) -> Iterator[None]:
    """Train mode only where it changes something on purpose: dropout in the adapter, or activations computed again.

    Forward and backward belong inside.
    """
    network, causal = model.network, model.causal
    dropout = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in network.modules())
    if not dropout and not recompute:
        yield
        return
    try:
        if recompute:
            causal.gradient_checkpointing_enable({"use_reentrant": False})
        network.train()
        yield
    finally:
        network.eval()
        if recompute:
            causal.gradient_checkpointing_disable()


def kept_bytes(forward: Callable[[], object], weights: list[Tensor]) -> int:
    """Bytes that a forward keeps for its backward, weights not counted."""

    def place(x: Tensor) -> int:
        storage = x.untyped_storage()
        return storage.data_ptr() or storage._cdata  # on the device meta nothing has an address

    own = {place(w) for w in weights}
    seen: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        if place(x) not in own:
            seen[place(x)] = x.untyped_storage().nbytes()
        return x

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        result = forward()  # held until counted: freed memory would be counted under one address
    total = sum(seen.values())
    del result
    return total


def free_bytes(device: torch.device) -> int | None:
    """Memory that this process could still take; None if the platform does not report it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    found = [x for x in (_available(), _container()) if x is not None]
    return min(found, default=None)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: CUDA's, or what a limit leaves to this process."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)  # torch's allocator of a CPU, oneDNN, and C++ raise RuntimeError
    return any(words in said for words in ("can't allocate memory", "not enough memory", "bad_alloc"))


WORTH = 1 << 30
"""Bytes that are worth giving back before every rollout: an update takes a third of a second to get them again."""


def release(device: torch.device, least: int = 0) -> None:
    """Give back to the system what a CPU's allocator keeps of tensors that are gone, where that is glibc's.

    It keeps about as much as an update takes, in pieces that other sizes do not fit into. `least`: if it keeps so many
    bytes.
    """
    if device.type == "cpu" and sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            library = ctypes.CDLL(None)
            if not least or _unused(library) >= least:
                library.malloc_trim(0)


class _Heap(ctypes.Structure):
    """glibc's `struct mallinfo2`: the ninth number is what is free."""

    _fields_ = [(f"number_{i}", ctypes.c_size_t) for i in range(10)]


def _unused(library: Any) -> int:
    """Bytes that the allocator keeps; those that `malloc_trim` gave back before and nobody took since count too."""
    library.mallinfo2.restype = _Heap
    return int(library.mallinfo2().number_8)


@contextmanager
def apart(device: torch.device) -> Iterator[None]:
    """For work between updates whose tensors have other sizes: the peak is that of either, and not of both."""
    release(device)
    try:
        yield
    finally:
        release(device)


def reset_peak(device: torch.device) -> None:
    """Let `peak_bytes` begin again, where the platform can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_bytes(device: torch.device) -> int | None:
    """Most memory that was in use since `reset_peak`: of a CPU, by the whole process. None if it is not reported."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)


def _container() -> int | None:
    """Memory that the control group leaves."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="utf-8").strip()
        used = int((folder / "memory.current").read_text(encoding="utf-8"))
        stat = dict(
            line.split() for line in (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
        )
    except OSError:
        return None
    # The cache of files counts as used, and is given back when it is needed.
    return int(limit) - used + int(stat.get("file", 0)) if limit.isdigit() else None

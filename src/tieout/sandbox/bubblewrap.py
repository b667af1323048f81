"""Bubblewrap, where a process may not make namespaces but the installed `bwrap` may: one call of it per program."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from .namespaces import NOBODY, SINGLE_FILES, readable_paths
from .packages import FOLDER, ONE_THREAD

FLAGS = [
    "--unshare-user",
    "--disable-userns",
    "--unshare-all",
    "--die-with-parent",
    "--new-session",
    "--clearenv",
]


def available() -> str | None:
    """Where bwrap is, if it is installed."""
    return shutil.which("bwrap")


def command(
    bwrap: str,
    package: str,
    boot: str,
    seccomp: int,
    tmp_bytes: int,
    arguments: Sequence[str],
    shown: Mapping[str, str],
) -> list[str]:
    """The command line that runs `boot` in Python under bubblewrap.

    Args:
        bwrap: its path.
        package: the folder that holds this one, which is shown at the same place.
        boot: Python source.
        seccomp: descriptor to read the filter from.
        tmp_bytes: size of /tmp.
        arguments: for the source.
        shown: packages that may be imported; see `packages.found`.
    """
    view: list[str] = []
    for path in readable_paths():
        view += ["--ro-bind", path, path]
    for path in SINGLE_FILES:
        view += ["--ro-bind-try", path, path]
    view += ["--ro-bind", f"{package}/sandbox", f"{package}/sandbox"]
    for name, path in shown.items():
        view += ["--ro-bind", path, f"{FOLDER}/{name}"]
    view += [word for name, value in ONE_THREAD.items() for word in ("--setenv", name, value)]
    return [
        *[
            bwrap,
            *FLAGS,
            "--cap-drop",
            "ALL",
            "--uid",
            str(NOBODY),
            "--gid",
            str(NOBODY),
            "--hostname",
            "sandbox",
        ],
        *view,
        *["--dev", "/dev", "--size", str(tmp_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp"],
        *["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8"],
        *["--setenv", "PYTHONHASHSEED", "0", "--seccomp", str(seccomp), "--remount-ro", "/"],
        *[os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-c", boot, package, *arguments],
    ]

"""Packages that programs may import on request: which ones, and where they are installed here.

Each is shown inside as a mount of its own that can only be read, so that nothing installed next to it is seen. They run
under the same confinement as the program itself: what reads files or addresses in them finds what the program finds.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Mapping, Sequence

FOLDER = "/packages"
"""Where they are shown."""

KNOWN: Mapping[str, tuple[str, ...]] = {
    "numpy": ("numpy", "numpy.libs"),
    "pandas": ("numpy", "numpy.libs", "pandas", "pandas.libs", "dateutil", "six.py", "pytz", "tzdata"),
}
"""Name -> the folders and files that it is made of; not every version has all of them."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Threads count as processes, of which a program has few, and a zygote that forks must have one."""


def found(names: Sequence[str]) -> dict[str, str]:
    """What is to be shown for packages of KNOWN -> where it is. ImportError: one is not known, or not installed."""
    shown: dict[str, str] = {}
    for name in names:
        if name not in KNOWN:
            raise ImportError(f"programs cannot import package {name!r}; they can import: {', '.join(KNOWN)}")
        spec = importlib.machinery.PathFinder.find_spec(name, sys.path)
        if spec is None or not spec.origin:
            raise ImportError(
                f"package {name!r} is asked for programs, and is not installed here; install it"
            )
        for part in KNOWN[name]:
            places = (os.path.join(folder, part) for folder in sys.path)
            place = next(filter(os.path.exists, places), None)
            if place is not None:
                shown[part] = os.path.realpath(place)
    return shown

"""Linux namespaces for every program: users, processes, files, network. No privilege is needed.

Files: a read-only view of the system's programs and of Python's library, in which nothing else exists (no /proc,
no /home, no /etc beyond the linker's cache), and a small /tmp in memory that ends with the program.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import syscalls as sys_
from .packages import FOLDER
from .syscalls import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MS_BIND, MS_REC

NOBODY = 65534
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64")
SINGLE_FILES = ("/etc/ld.so.cache", "/etc/localtime")
PLACES = ("/mnt", "/srv", "/media", "/proc")
"""Folders to mount the new root on, where the one for temporary files cannot be taken."""
DEVICES = ("null", "zero", "full", "random", "urandom")

OF_A_PROGRAM = sys_.CLONE_NEWUSER | sys_.CLONE_NEWNS | sys_.CLONE_NEWPID
SHARED = sys_.CLONE_NEWNET | sys_.CLONE_NEWIPC | sys_.CLONE_NEWUTS | sys_.CLONE_NEWCGROUP
"""Made once, without a network device in it: the filter leaves programs no call by which they could meet there."""


def readable_paths() -> list[str]:
    """What a program may read: the system's programs and libraries, and Python's."""
    paths = [path for path in SYSTEM if os.path.exists(path)]
    prefix = os.path.realpath(sys.base_prefix)
    if not any(Path(prefix).is_relative_to(path) for path in paths):
        paths.append(prefix)
    return paths


def readable_for_all() -> bool:
    """Whether Python's library is, on the way to it, open to every user."""
    path = ""
    for part in os.path.realpath(sys.base_prefix).split("/")[1:]:
        path += f"/{part}"
        if os.stat(path).st_mode & 0o5 != 0o5:
            return False
    return True


def build_view(shown: Mapping[str, str]) -> int:
    """Move this process into a mount namespace with the view as its root; returns a descriptor of /proc.

    As root it then becomes nobody; otherwise it has a user namespace of its own. The descriptor is for
    `enter` and is to be closed before any program runs. `shown`: of `packages.found`. OSError: it is forbidden.
    """
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    privileged = os.geteuid() == 0
    if privileged:
        try:
            sys_.unshare(sys_.CLONE_NEWNS | SHARED)
        except OSError:  # root of a container, without the right to mount
            privileged = False
    if not privileged:
        if os.geteuid() == 0:
            if not readable_for_all():
                raise OSError("run as root, whose processes the kernel does not limit; use an ordinary user")
            become_nobody()
        user, group = os.geteuid(), os.getegid()
        sys_.unshare(sys_.CLONE_NEWUSER | sys_.CLONE_NEWNS | SHARED)
        map_to_nobody(proc, user, group)
    socket.sethostname("sandbox")
    sys_.mount("none", "/", flags=MS_REC | sys_.MS_PRIVATE)
    _pivot_into_view(shown)
    if privileged:
        become_nobody()
    return proc


def become_nobody() -> None:
    """From root to the user nobody, for good."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    sys_.prctl(sys_.PR_SET_DUMPABLE, 1)  # else its own files in /proc, with the map of users, stay root's


def _pivot_into_view(shown: Mapping[str, str]) -> None:
    root = _place_for_root([*readable_paths(), *shown.values()])
    sys_.mount("tmpfs", root, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "size=1m,mode=755")
    sealed = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID
    for path in [*readable_paths(), *SINGLE_FILES]:
        if not os.path.exists(path):
            continue
        target = root + path
        if os.path.islink(path) and path in SYSTEM:  # /lib -> usr/lib
            os.symlink(os.readlink(path), target)
            continue
        _make_place(target, os.path.isdir(path))
        sys_.mount(os.path.realpath(path), target, flags=MS_BIND | MS_REC)
        sys_.seal_mount(target, sealed | MOUNT_ATTR_NODEV)
    # Packages installed next to Python are hidden; -S does not find them anyway.
    for name in ("site-packages", "dist-packages"):
        packages = root + os.path.join(os.path.realpath(sysconfig.get_path("stdlib")), name)
        if os.path.isdir(packages):
            sys_.mount("tmpfs", packages, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "size=4k,mode=555")
            sys_.seal_mount(packages, sealed | MOUNT_ATTR_NODEV)
    for name, path in shown.items():
        target = f"{root}{FOLDER}/{name}"
        _make_place(target, os.path.isdir(path))
        sys_.mount(path, target, flags=MS_BIND | MS_REC)
        sys_.seal_mount(target, sealed | MOUNT_ATTR_NODEV)
    for device in DEVICES:
        _make_place(f"{root}/dev/{device}", folder=False)
        sys_.mount(f"/dev/{device}", f"{root}/dev/{device}", flags=MS_BIND)
        sys_.seal_mount(f"{root}/dev/{device}", sealed)
    os.makedirs(f"{root}/tmp", exist_ok=True)
    os.makedirs(f"{root}/.old")
    sys_.pivot_root(root, f"{root}/.old")
    os.chdir("/")
    sys_.unmount("/.old")
    os.rmdir("/.old")
    sys_.seal_mount("/", sealed | MOUNT_ATTR_NODEV, recursive=False)


def _place_for_root(sources: Sequence[str]) -> str:
    """Where the new root is mounted. Any folder will do, as the mount is ours alone, but one that holds a source: the
    mount would hide it, such as an environment below /tmp.
    """
    for folder in (os.path.realpath(tempfile.gettempdir()), *PLACES):
        if os.path.isdir(folder) and not any(Path(source).is_relative_to(folder) for source in sources):
            return folder
    raise OSError(f"no folder to build the view on: {', '.join(PLACES)} are missing or in use")


def _make_place(target: str, folder: bool) -> None:
    os.makedirs(target if folder else os.path.dirname(target), exist_ok=True)
    if not folder:
        with open(target, "w"):
            pass


def map_to_nobody(proc: int, user: int, group: int) -> None:
    """In a new user namespace: the user of before is nobody."""
    lines = (("setgroups", "deny"), ("uid_map", f"{NOBODY} {user} 1"), ("gid_map", f"{NOBODY} {group} 1"))
    for name, text in lines:
        place = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        try:
            os.write(place, text.encode())
        finally:
            os.close(place)


def enter(proc: int) -> None:
    """Move this process into namespaces for one program; the next child is the first process in there."""
    user, group = os.geteuid(), os.getegid()
    sys_.unshare(OF_A_PROGRAM)
    map_to_nobody(proc, user, group)


def mount_tmp(num_bytes: int) -> None:
    """A /tmp of this program alone, in memory."""
    options = f"size={num_bytes},nr_inodes=1024,mode=700"
    sys_.mount("tmpfs", "/tmp", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, options)
    os.chdir("/tmp")

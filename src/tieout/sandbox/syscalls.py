"""The few Linux calls that Python does not wrap, by ctypes. Every failure is an OSError that names the call."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NEW_NAMESPACES = (
    CLONE_NEWTIME | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER
) | (CLONE_NEWPID | CLONE_NEWNET)

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

NUMBERS = {
    "x86_64": {"pivot_root": 155, "capset": 126},
    "aarch64": {"pivot_root": 41, "capset": 91},
}
SAME_EVERYWHERE = {"mount_setattr": 442}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(name: str, result: int) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return int(result)


def syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Call by name; OSError(ENOSYS) where this machine's number of the call is not known."""
    number = SAME_EVERYWHERE.get(name) or NUMBERS.get(platform.machine(), {}).get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: not known for {platform.machine()}")
    # Without c_long ctypes passes 32 bits, and the kernel reads 64.
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(name, _libc.syscall(ctypes.c_long(number), *given))


def unshare(flags: int) -> None:
    """Move this process (for CLONE_NEWPID: its later children) into new namespaces."""
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def prctl(option: int, *arguments: int | ctypes.Structure) -> int:
    """prctl(2), by the numbers above."""
    given = [ctypes.c_ulong(a) if isinstance(a, int) else ctypes.byref(a) for a in arguments]
    given += [ctypes.c_ulong(0)] * (4 - len(given))
    return _checked("prctl", _libc.prctl(ctypes.c_int(option), *given))


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    texts = [text.encode() for text in (source, target, kind, data)]
    result = _libc.mount(texts[0], texts[1], texts[2] or None, ctypes.c_ulong(flags), texts[3] or None)
    _checked(f"mount {target}", result)


def unmount(target: str) -> None:
    """Detach a mount now; it goes away when nothing uses it."""
    _checked(f"umount {target}", _libc.umount2(target.encode(), MNT_DETACH))


def seal_mount(target: str, attributes: int, recursive: bool = True) -> None:
    """Set mount attributes, such as MOUNT_ATTR_RDONLY, on a mount and all below it."""
    value = ctypes.create_string_buffer(struct.pack("=QQQQ", attributes, 0, 0, 0), 32)
    syscall("mount_setattr", AT_FDCWD, target.encode(), AT_RECURSIVE if recursive else 0, value, 32)


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace, and put the old root at `old`."""
    syscall("pivot_root", new.encode(), old.encode())


def drop_capabilities() -> None:
    """Give up every capability, also for programs that are executed later."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:  # past the last one that this kernel knows
                break
            if error.errno != errno.EPERM:  # an ordinary user may not, and has none to drop
                raise
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0), 8)
    syscall("capset", header, ctypes.create_string_buffer(24))  # effective, permitted, inheritable: none


def die_with_parent(signal: int = 9) -> None:
    """Ask the kernel to kill this process when its parent ends. A change of user takes it back: call it after."""
    prctl(PR_SET_PDEATHSIG, signal)

"""A seccomp filter: which system calls a confined program may not make. Assembled here, no library needed."""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
from collections.abc import Iterable

from .syscalls import NEW_NAMESPACES, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, prctl

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

DENIED: dict[str, tuple[int | None, int | None]] = {
    # name: number on x86_64, on aarch64 (None: it has no such call)
    # interfaces of the kernel with a history of holes
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vmsplice": (278, 75),
    "personality": (135, 92),
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    # the file tree and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # memory that the limits do not count
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # the machine
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    # the network; asyncio and subprocess need socketpair only
    "socket": (41, 198),
}

CLONE, CLONE3, SOCKETPAIR, IOCTL = (56, 220), (435, 435), (53, 199), (16, 29)
AF_UNIX = 1
TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: they type into the terminal of the process that started us."""

# Classic BPF: (opcode, jump if true, jump if false, value)
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
NUMBER, ARCH, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24
Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.machine() in AUDIT_ARCH


def program() -> bytes:
    """The filter as bytes, for prctl or for bubblewrap's --seccomp."""
    machine = platform.machine()
    column = list(AUDIT_ARCH).index(machine)
    refuse = (RETURN, 0, 0, ERRNO | errno.EPERM)
    lines: list[Instruction] = [
        (LOAD, 0, 0, ARCH),
        (EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == "x86_64":  # the x32 calls have other numbers and would pass
        lines += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]
    for numbers in DENIED.values():
        if (number := numbers[column]) is not None:
            lines += [(EQUAL, 0, 1, number), refuse]
    # Its flags are behind a pointer, which a filter cannot follow; the C library then uses clone.
    lines += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    lines += _if_call(CLONE[column], FIRST_ARGUMENT, [(ANY_BIT, 0, 1, NEW_NAMESPACES), refuse])
    lines += _if_call(SOCKETPAIR[column], FIRST_ARGUMENT, [(EQUAL, 1, 0, AF_UNIX), refuse])
    typing = [line for code in TERMINAL_INPUT for line in ((EQUAL, 0, 1, code), refuse)]
    lines += _if_call(IOCTL[column], SECOND_ARGUMENT, typing)
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _if_call(number: int, argument: int, then: Iterable[Instruction]) -> list[Instruction]:
    """Instructions on one argument (its low 32 bits) of one call; what they let pass goes on."""
    body = [(LOAD, 0, 0, argument), *then]
    return [(EQUAL, 0, len(body), number), *body, (LOAD, 0, 0, NUMBER)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(filter_bytes: bytes) -> None:
    """Put this process, and all that it starts, under the filter, for good."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, 2, _Program(len(filter_bytes) // 8, filter_bytes))

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

WITHOUT_NAMESPACES: dict[str, tuple[int | None, int | None]] = {
    # Where the program shares the user's processes and files, it may neither start, signal nor touch any.
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "truncate": (76, 45),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
}

CLONE, CLONE3, SOCKETPAIR, IOCTL = (56, 220), (435, 435), (53, 199), (16, 29)
PRLIMIT, TGKILL = (302, 261), (234, 131)
AF_UNIX, CLONE_THREAD = 1, 0x00010000
TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: they type into the terminal of whoever started us."""

# Classic BPF: (opcode, jump if true, jump if false, value)
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
NUMBER, ARCH, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24
Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Whether the numbers of this machine's system calls are known here."""
    return platform.machine() in AUDIT_ARCH


def program(*, namespaces: bool, own_pid: int = 0) -> bytes:
    """The filter as bytes, for prctl or for bubblewrap's --seccomp.

    Args:
        namespaces: the program has process and mount namespaces of its own, and may fork in them.
        own_pid: without them: the one process that it may signal and whose limits it may change.
    """
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
    denied = DENIED if namespaces else DENIED | WITHOUT_NAMESPACES
    for numbers in denied.values():
        if (number := numbers[column]) is not None:
            lines += [(EQUAL, 0, 1, number), refuse]
    # Its flags are behind a pointer, which a filter cannot follow; the C library then uses clone.
    lines += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    lines += _if_call(CLONE[column], FIRST_ARGUMENT, [(ANY_BIT, 0, 1, NEW_NAMESPACES), refuse])
    if not namespaces:
        lines += _if_call(CLONE[column], FIRST_ARGUMENT, [(ANY_BIT, 1, 0, CLONE_THREAD), refuse])
        for numbers in (PRLIMIT, TGKILL):
            own = [(EQUAL, 2, 0, 0), (EQUAL, 1, 0, own_pid), refuse]
            lines += _if_call(numbers[column], FIRST_ARGUMENT, own)
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

"""Programs that try to break out of the sandbox, and the checks that detect an escape.

For `tieout doctor` and the tests. Each defines `probe(place)` and returns what it got hold of, or "" if nothing.
`place` says where there would be something to get: a file, a port, a process of ours. Whether something outside was
changed is seen outside.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pool import Sandbox

PROBES: Mapping[str, str] = {
    "read a file outside": "return open(place['file']).read()",
    "read the password file": "return open('/etc/passwd').read()",
    "list the files of a user": "return str(os.listdir(place['folder']))",
    "see the environment of the trainer": "return ''.join(v for v in os.environ.values() if place['mark'] in v)",
    "see the environment through /proc": "return open(f\"/proc/{place['pid']}/environ\").read()",
    "read the trainer's memory through /proc": "return str(open(f\"/proc/{place['pid']}/mem\", 'rb').fileno())",
    "write a file outside": "open(place['file'], 'a').write('x'); return 'written'",
    "make a file outside": "open(place['folder'] + '/made', 'w').write('x'); return 'made'",
    "remove a file outside": "os.unlink(place['file']); return 'removed'",
    "change the rights of a file outside": "os.chmod(place['file'], 0o777); return 'changed'",
    "write into Python's library": "open(os.__file__, 'a').write(''); return 'opened'",
    "fill the disk": (
        "for i in range(64):\n"
        "        with open(f'/tmp/{i}', 'wb') as file:\n"
        "            file.write(bytes(4 << 20))\n"
        "    return '256 MB written'"
    ),
    "connect by TCP": "return str(socket.create_connection(('127.0.0.1', place['port']), 1))",
    "send by UDP": "return str(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9)))",
    "open a packet socket": "return str(socket.socket(17, socket.SOCK_RAW))",
    "open a netlink socket": "return str(socket.socket(16, socket.SOCK_RAW))",
    "connect to a Unix socket": "s = socket.socket(socket.AF_UNIX); s.connect(place['unix']); return 'connected'",
    "signal the trainer": "os.kill(place['decoy'], 9); return ''",
    "kill the parent": "os.kill(os.getppid(), 9) if os.getppid() > 1 else None; return ''",
    "trace a process": "return call(101 if X86 else 117, 16, place['decoy'], 0, 0)",
    "read a process's memory": "return call(310 if X86 else 270, place['decoy'], 0, 0, 0, 0, 0)",
    "become root": "os.setuid(0); return str(os.getuid())",
    "make a user namespace": "return call(272 if X86 else 97, 0x10000000)",
    "mount": "return call(165 if X86 else 40, b'tmpfs', b'/tmp', b'tmpfs', 0, 0)",
    "change the root": "os.chroot('/tmp'); return 'changed'",
    "use io_uring": "return call(425, 1, ctypes.create_string_buffer(256))",
    "use bpf": "return call(321 if X86 else 280, 0, ctypes.create_string_buffer(256), 128)",
    "use perf events": "return call(298 if X86 else 241, ctypes.create_string_buffer(256), 0, -1, -1, 0)",
    "use userfaultfd": "return call(323 if X86 else 282, 1)",
    "use the key ring": "return call(250 if X86 else 219, 0, -3, 1)",
    "raise a limit": "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)); return 'raised'",
    "fork bomb": (
        "count = 0\n"
        "    for _ in range(100):\n"
        "        try:\n"
        "            child = os.fork()\n"
        "        except OSError:\n"
        "            break\n"
        "        if child == 0:\n"
        "            time.sleep(30)\n"
        "            os._exit(0)\n"
        "        count += 1\n"
        "    return f'{count} processes' if count > 16 else ''"
    ),
    "memory bomb": "held = [mmap.mmap(-1, 64 << 20) for _ in range(64)]; return f'{len(held)} x 64 MB'",
    "leave a daemon behind": (
        "if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(60)\n"
        "        os._exit(0)\n"
        "    return ''"
    ),
    "find an expected value": (
        "import gc\n"
        "    texts = [o for c in gc.get_objects() for o in gc.get_referents(c) if isinstance(o, str)]\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        texts += map(repr, frame.f_locals.values()); frame = frame.f_back\n"
        "    return 'found' if any(place['half'] + place['other'] in t for t in texts) else ''"
    ),
}
"""What is tried -> the body of `probe(place)`."""

HEAD = """
import ctypes, mmap, os, platform, resource, socket, sys, time
X86 = platform.machine() == "x86_64"
libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    given = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *given)
    return f"call {number} gave {result}" if result >= 0 else ""


def probe(place):
    """


@dataclass(frozen=True, slots=True)
class Escape:
    """The result of one probe."""

    probe: str
    held: bool
    """True: it got nothing."""
    detail: str
    """What it got, or what it was refused with."""


def run_probes(sandbox: Sandbox, names: list[str] | None = None) -> list[Escape]:
    """Try every probe (or those named) in the sandbox."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        file = Path(folder) / "secret.txt"
        tcp.bind(("127.0.0.1", 0))
        unix.bind(f"{folder}/unix")
        for listener in (tcp, unix):
            listener.listen()
            listener.setblocking(False)
        place: dict[str, Any] = {
            "file": str(file),
            "folder": folder,
            "unix": f"{folder}/unix",
            "port": tcp.getsockname()[1],
            "pid": os.getpid(),
        }
        results = []
        for name in names or PROBES:
            mark = secrets.token_hex(8)
            file.write_text(mark)
            os.environ["TIEOUT_PROBE"] = mark
            decoy = subprocess.Popen(["sleep", "600"])
            expected = secrets.token_hex(8)
            place |= {"mark": mark, "decoy": decoy.pid, "half": expected[:8], "other": expected[8:]}
            try:
                ran = sandbox.run(HEAD + PROBES[name], "probe", [((place,), {})])
                outside = _outside(file, mark, decoy, [tcp, unix])
            finally:
                decoy.kill()
                decoy.wait()
                del os.environ["TIEOUT_PROBE"]
            answer = ran.answers[0]
            got = outside or (str(answer.value) if not answer.error and answer.value else "")
            results.append(Escape(name, not got, (got or answer.error or ran.error or "got nothing")[:200]))
        return results


def _outside(file: Path, mark: str, decoy: subprocess.Popen[bytes], listeners: list[socket.socket]) -> str:
    """What a probe changed out here; nothing if it changed nothing."""
    if not file.is_file() or file.read_text() != mark:
        return "the file was changed"
    if file.stat().st_mode & 0o7777 == 0o777:
        return "the rights of the file were changed"
    if (file.parent / "made").exists():
        return "a file was made"
    if decoy.poll() is not None:
        return "a process outside was killed"
    for listener in listeners:
        try:
            listener.accept()[0].close()
            return "a connection came in"
        except BlockingIOError:
            pass
    return ""

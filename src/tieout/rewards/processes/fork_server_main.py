"""A fork server that preloads rewards and forks workers on request: the other side of `workers`.

    python -m tieout.rewards.processes.fork_server_main FD    # FD: a socket to the process that wants rewards called

Lines of JSON both ways. To the fork server: {"path": [...]}; {"load": reference}; {"fork": true} with a socket for the
worker; {"kill": pid}. To a worker: {"reward", "completions", "prompts", "row"}, and "completion_ids" or
"completion_turns" if the reward asks for them; or {"reward", "calls", "limits"}, to make such calls of an `async def`
at the same time. It imports no torch, so that forking is safe and takes a millisecond: a worker that hangs is killed
and replaced at once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

from ...errors import TieoutError
from ...types import Completion
from ..scoring.attribution import Limits
from ..scoring.call import Call
from ..scoring.outcomes import Outcome, attempt
from ..scoring.together import score_together
from .descendants import adopt_orphans, kill_below
from .importable import Reference, resolve
from .serve import kill, serve

_LOADED: dict[str, Any] = {}


def main() -> None:
    """Serve until the other end closes; then everything that was forked is killed."""
    line = socket.socket(fileno=int(sys.argv[1]))
    workers: set[int] = set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the other end's to handle; it closes the line
    _keep_out_of_the_way()
    adopt_orphans()
    try:
        while True:
            data, handed, _, _ = socket.recv_fds(line, 1 << 16, 1)
            if not data:
                break
            while not data.endswith(b"\n"):
                data += line.recv(1 << 16)
            _reap(workers)
            message = json.loads(data)
            if "path" in message:
                sys.path[:] = message["path"]
                answer: dict[str, Any] = {}
            elif "load" in message:
                answer = _load(message["load"])
            elif "fork" in message:
                pid = os.fork()
                if pid == 0:
                    line.close()
                    serve(handed[0], _answer)
                os.close(handed[0])
                workers.add(pid)
                answer = {"pid": pid}
            else:
                _kill(message["kill"], workers)
                answer = {}
            line.sendall(json.dumps(answer).encode() + b"\n")
    finally:
        for pid in list(workers):
            _kill(pid, workers)
        kill_below(os.getpid())  # of workers that ended by themselves


def _load(reference: Reference) -> dict[str, Any]:
    try:
        _reward(reference)
        for name, module in list(sys.modules.items()):
            if name.startswith("tieout.rewards.") and hasattr(module, "warm_up"):
                module.warm_up()
    except Exception as error:
        return {"error": str(error) if isinstance(error, TieoutError) else f"{type(error).__name__}: {error}"}
    return {}


def _reward(reference: Reference) -> Any:
    key = json.dumps(reference, sort_keys=True)
    if key not in _LOADED:
        _LOADED[key] = resolve(reference)
    return _LOADED[key]


def _kill(pid: int, workers: set[int]) -> None:
    """Kill a worker. Only one that was not reaped has a right to its number."""
    if pid in workers:
        kill(pid)
        workers.discard(pid)


def _reap(workers: set[int]) -> None:
    for pid in list(workers):
        if os.waitpid(pid, os.WNOHANG)[0]:
            workers.discard(pid)


def _keep_out_of_the_way() -> None:
    """What a reward prints goes to standard error, and nothing is read from standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)


def _answer(message: dict[str, Any]) -> list[Outcome]:
    """The outcomes of a call; of several at the same time, one call after the other."""
    reward = _reward(message["reward"])
    if "calls" not in message:
        return attempt(reward, _call(message))
    said = score_together(reward, [_call(one) for one in message["calls"]], Limits(**message["limits"]))
    return [outcome for outcomes in said for outcome in outcomes]


def _call(message: dict[str, Any]) -> Call:
    texts = message["completions"]
    ids = message.get("completion_ids", [[]] * len(texts))
    turns = message.get("completion_turns", [[]] * len(texts))
    completions = [
        Completion(i, [True] * len(i), text=text, turns=own)
        for i, text, own in zip(ids, texts, turns, strict=True)
    ]
    return Call(completions, message["prompts"], message["row"])


if __name__ == "__main__":
    main()

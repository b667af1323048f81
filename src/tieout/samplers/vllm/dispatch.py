"""Dispatch jobs to several servers; what a server that dies leaves undone, the others do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...errors import TieoutError
from .server import Server, ServerDown

T = TypeVar("T")


class NoServerLeft(TieoutError, RuntimeError):
    """Every server is down."""


def dispatch(
    servers: Sequence[Server],
    count: int,
    ask: Callable[[Server, int], T],
    num_workers: int,
    done: Callable[[], None] = lambda: None,
) -> list[tuple[T, Server]]:
    """Do jobs 0 to count - 1 on all servers at once; the jobs of one that dies go to those that are left.

    Args:
        servers: those marked `down` get nothing.
        count: how many jobs.
        ask: does one job on one server; ServerDown passes the job on, any other error ends the call.
        num_workers: concurrent requests per server.
        done: called as each job ends.

    Returns:
        Each job's result, and the server that gave it.

    Raises:
        NoServerLeft: with the reason of each server.
    """
    results: dict[int, tuple[T, Server]] = {}

    def do(server: Server, job: int) -> None:
        if server.down:
            return
        try:
            results[job] = ask(server, job), server
        except ServerDown:
            return
        done()

    while left := [job for job in range(count) if job not in results]:
        alive = _alive(servers)
        pools = {server.url: ThreadPoolExecutor(num_workers) for server in alive}
        dealt = [(alive[i % len(alive)], job) for i, job in enumerate(left)]
        waiting = [pools[server.url].submit(do, server, job) for server, job in dealt]
        try:
            for future in waiting:
                future.result()
        finally:
            for pool in pools.values():
                pool.shutdown(wait=False, cancel_futures=True)
    return [results[job] for job in range(count)]


def everywhere(servers: Sequence[Server], ask: Callable[[Server], T]) -> list[T]:
    """Ask every server that is not down once, concurrently, and return the replies that came.

    NoServerLeft: none did.
    """
    alive = _alive(servers)

    def do(server: Server) -> list[T]:
        try:
            return [ask(server)]
        except ServerDown:
            return []

    with ThreadPoolExecutor(len(alive)) as pool:
        results = [result for found in pool.map(do, alive) for result in found]
    if not results:
        _alive(servers)
    return results


def _alive(servers: Sequence[Server]) -> list[Server]:
    """The servers that are not down. NoServerLeft, with the reason of each, if there is none."""
    if alive := [server for server in servers if not server.down]:
        return alive
    raise NoServerLeft(
        "no server is left:" + "".join(f"\n  {server.url}: {server.down}" for server in servers)
    )

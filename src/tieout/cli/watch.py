"""tieout watch RUN"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import InputError
from .options import check_port, parse


@dataclass(frozen=True)
class Options:
    """Show the report page of a run in a browser on this machine, loaded again every few seconds: before, while and
    after it trains. Nothing in the folder changes. Ctrl-C ends it."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder; it may come to be later."""
    port: int = 8422
    """Port on 127.0.0.1; 0 takes a free one."""
    seconds: int = 5
    """Seconds between two loads; 1 or more."""


def main(arguments: Sequence[str]) -> None:
    """Parse, serve until interrupted."""
    options = parse(Options, "watch", arguments)
    if options.seconds < 1:
        raise InputError(f"--seconds is {options.seconds}; expected 1 or more")
    check_port(options.port)
    with server(options.run, options.port, options.seconds) as found:
        print(f"watch {options.run}: http://127.0.0.1:{found.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            found.serve_forever()
        except KeyboardInterrupt:
            print()


def server(run: Path, port: int, seconds: int) -> ThreadingHTTPServer:
    """A server of the page, bound to this machine alone."""
    from ..review.watching import page

    class Handler(BaseHTTPRequestHandler):
        """Answers `/` with the page as the folder has it now."""

        def do_GET(self) -> None:
            """The page; all else is not found. Names other than this machine's are refused, as DNS may be rebound."""
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            known = self.path == "/" and host in ("127.0.0.1", "localhost")
            body = page(run, seconds).encode("utf-8", "backslashreplace") if known else b"not found\n"
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", f"text/{'html' if known else 'plain'}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: one line for every load says nothing."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)

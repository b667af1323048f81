"""Ask at once whether a hub can be reached, where a model is neither a folder nor in the cache."""

from __future__ import annotations

import os
import socket
import threading
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, try_to_load_from_cache

from ...errors import InputError

SECONDS = 1.5
"""For a connection to the hub. Its own client tries for half a minute, several times in a command."""
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


def refuse_unreachable(name: str, source: str) -> None:
    """InputError: `source`, what the model's name stands for, is nowhere here, and there is no network to fetch it."""
    if Path(source).exists() or constants.HF_HUB_OFFLINE or any(os.environ.get(key) for key in _PROXIES):
        return
    if isinstance(try_to_load_from_cache(source, "config.json"), str):
        return
    address = urlsplit(constants.ENDPOINT)
    if why := _unreachable(str(address.hostname), address.port or (80 if address.scheme == "http" else 443)):
        folders = [path.parent.name for path in Path().glob("*/config.json")]
        near = get_close_matches(name, folders, n=1, cutoff=0.5)
        raise InputError(
            f"model {name!r} is no folder here and not in the cache, and {address.hostname} cannot be reached ({why})"
            f"{f'; did you mean the folder {near[0]}?' if near else ''}"
        )


def _unreachable(host: str, port: int) -> str:
    """Why there is no connection; empty: there is one."""
    found = [f"no connection within {SECONDS:g} seconds"]

    def connect() -> None:
        try:
            socket.create_connection((host, port), SECONDS).close()
            found[0] = ""
        except OSError as error:
            found[0] = str(error)

    thread = threading.Thread(
        target=connect, daemon=True
    )  # a name server that is silent cannot be given a time
    thread.start()
    thread.join(SECONDS)
    return found[0]

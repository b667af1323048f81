"""A page that is served by a thread of the test, and a browser that looks at it. Not a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tieout.labelling.server import Page, application, bind, server
from tieout.labelling.store import Store


@contextmanager
def served(store: Store, port: int = 0, **options: Any) -> Iterator[str]:
    """The address of the page, without an annotator."""
    on = bind(port)
    own = on.getsockname()[1]
    running = server(application(Page(store, **options), store.token, own))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [on]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{own}/?token={store.token}"
    finally:
        running.should_exit = running.force_exit = True
        thread.join(10)
        on.close()

"""Libraries speak on the console only when something is wrong."""

from __future__ import annotations

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def quiet() -> None:
    """Silence progress bars and advice of transformers and the hub."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

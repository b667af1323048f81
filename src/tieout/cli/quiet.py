"""Libraries speak on the console only when something is wrong."""

from __future__ import annotations

import logging
import os
import warnings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def quiet() -> None:
    """Silence progress bars, advice and deprecations of transformers and the hub."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("tinker").setLevel(logging.ERROR)  # tells of every archive that it may take a while
    from transformers.utils import logging as of_transformers

    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()

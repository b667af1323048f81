"""Start a training server with the Tinker API, SkyRL's on JAX, in the environment that `make tinker` builds.

    .venv-tinker/bin/python scripts/serve_tinker.py --model FOLDER --disk runs/tinker    # until Ctrl-C

What it saves lies in `--disk`, and outlives it: a server that was started again knows the paths of runs before.
Two things are adapted, neither of which computes anything:

1. SkyRL's server starts its engine by `uv run`, and reads its parent's command line for that; here it is this file.
2. `skyrl.tinker.types` has `typing.TypedDict` in pydantic models, which pydantic refuses below Python 3.12.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import time
import typing
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv-tinker" / "bin" / "python"
EMBEDDED = ROOT / "src" / "tieout" / "embedded"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def command(python: Path, model: str, port: int, disk: Path, rows: int = 8) -> list[str]:
    """What starts the server, on loopback. `rows` are computed at once."""
    place = ["--model", model, "--port", str(port), "--disk", str(disk), "--rows", str(rows)]
    return [str(python), __file__, *place]


def environment() -> dict[str, str]:
    """On the processor; nothing downloaded."""
    return {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}


def wait_until_healthy(server: subprocess.Popen[bytes], url: str, seconds: float) -> None:
    """RuntimeError: the server ended, or did not answer in time."""
    started = time.monotonic()
    while True:
        try:
            with DIRECT.open(f"{url}/api/v1/healthz", timeout=5) as reply:
                if reply.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            pass
        if server.poll() is not None:
            raise RuntimeError(
                f"the training server ended with status {server.returncode}; its output says why"
            )
        if time.monotonic() - started > seconds:
            raise RuntimeError(f"the training server at {url} did not answer within {seconds:.0f} s")
        time.sleep(0.5)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tieout-base", help="folder of the base, or tieout-base")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--disk", type=Path, default=ROOT / "runs" / "tinker", help="for what it saves")
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--max-lora-adapters", type=int, default=32)
    parser.add_argument("--rows", type=int, default=8, help="computed at once")
    given = parser.parse_args()
    shipped = EMBEDDED / given.model.replace("-", "_")
    folder = str(shipped) if (shipped / "config.json").exists() else given.model

    import skyrl.tinker.api as api  # type: ignore[import-not-found]
    import uvicorn
    from skyrl.tinker.config import EngineConfig, config_to_argv  # type: ignore[import-not-found]

    def engine(parent: object, config: object) -> list[str]:
        return [sys.executable, __file__, "engine", *config_to_argv(config)]

    api._build_uv_run_cmd_engine = engine
    given.disk.mkdir(parents=True, exist_ok=True)
    disk = given.disk.resolve()
    backend = {
        "max_lora_adapters": given.max_lora_adapters,
        "max_lora_rank": given.max_lora_rank,
        "train_micro_batch_size": given.rows,
        "sample_max_num_sequences": given.rows,
    }
    api.app.state.engine_config = EngineConfig.model_validate(
        {
            "base_model": folder,
            "backend": "jax",
            "backend_config": backend,
            "checkpoints_base": str(disk / "checkpoints"),
            "database_url": f"sqlite:///{disk}/tinker.db",
        }
    )
    print(json.dumps({"url": f"http://127.0.0.1:{given.port}", "base": folder}), flush=True)
    uvicorn.run(api.app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    if sys.version_info < (3, 12):
        import typing_extensions

        typing.TypedDict = typing_extensions.TypedDict  # type: ignore[misc]
    if sys.argv[1:2] == ["engine"]:
        sys.argv = [sys.argv[0], *sys.argv[2:]]
        runpy.run_module("skyrl.tinker.engine", run_name="__main__")
    else:
        main()

"""Start a vLLM server on a model, so that tieout can train on its draws; `make vllm` builds its environment first.

    python scripts/serve_vllm.py --model DIR                    # serve until Ctrl-C
    python scripts/serve_vllm.py --model DIR --then COMMAND ... # run a command beside it, then stop it

The server loads adapters while it runs, and reports log-probabilities as tokens are drawn with. Options that this
script does not know are vLLM's own.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-vllm"
EMBEDDED = ROOT / "src" / "tieout" / "embedded"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def model_folder(name: str) -> str:
    """A folder or hub id as it stands; the folder of a model that is shipped with tieout, or that tieout converts."""
    shipped = EMBEDDED / name.replace("-", "_")
    if name != "smollm2-135m" and not name.lower().endswith(".gguf"):
        return str(shipped) if (shipped / "config.json").exists() else name
    own = ROOT / ".venv" / "bin" / "python"
    code = "import sys; from tieout.learner.models.names import resolve; print(resolve(sys.argv[1])[1])"
    done = subprocess.run([str(own), "-c", code, name], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def command(
    python: Path,
    model: str,
    port: int,
    *,
    host: str = "127.0.0.1",
    max_lora_rank: int = 16,
    options: Sequence[str] = (),
) -> list[str]:
    """What starts the server."""
    fixed = ["--enable-lora", "--max-lora-rank", str(max_lora_rank), "--logprobs-mode", "processed_logprobs"]
    place = ["--model", model_folder(model), "--host", host, "--port", str(port)]
    return [str(python), "-m", "vllm.entrypoints.openai.api_server", *place, *fixed, *options]


def environment(kv_cache_gib: int = 1) -> dict[str, str]:
    """Runtime adapters allowed; nothing downloaded or reported; little memory kept for keys and values on a CPU."""
    settings = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    return {**settings, **os.environ}


def healthy(url: str) -> bool:
    """Whether the server answers."""
    try:
        with DIRECT.open(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def wait_until_healthy(server: subprocess.Popen[bytes], url: str, timeout_seconds: float) -> float:
    """Seconds until the server answered. RuntimeError: it ended, or took too long."""
    started = time.monotonic()
    while not healthy(url):
        if server.poll() is not None:
            raise RuntimeError(f"the vLLM server ended with status {server.returncode}; its output says why")
        if time.monotonic() - started > timeout_seconds:
            raise RuntimeError(f"the vLLM server at {url} did not answer within {timeout_seconds:.0f} s")
        time.sleep(1)
    return time.monotonic() - started


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and all its workers: they share its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(timeout=20)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tieout-base", help="folder or hub id of the base, or tieout-base")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8011)
    parser.add_argument("--max-lora-rank", type=int, default=16, help="of the adapters that will be trained")
    parser.add_argument("--kv-cache-gib", type=int, default=1, help="memory for keys and values, on a CPU")
    parser.add_argument(
        "--python", type=Path, default=ENVIRONMENT / "bin" / "python", help="with vLLM installed"
    )
    parser.add_argument("--wait-seconds", type=float, default=900, help="until the server must answer")
    parser.add_argument(
        "--then", nargs=argparse.REMAINDER, help="command to run beside the server, then stop it"
    )
    known, options = parser.parse_known_args()
    if not known.python.exists():
        print(f"no Python with vLLM at {known.python}: `make vllm-environment` builds it", file=sys.stderr)
        return 2
    url = f"http://{known.host}:{known.port}"
    if healthy(url):
        print(f"a server answers at {url} already; give another --port", file=sys.stderr)
        return 2
    line = command(
        known.python,
        known.model,
        known.port,
        host=known.host,
        max_lora_rank=known.max_lora_rank,
        options=options,
    )
    server = subprocess.Popen(line, env=environment(known.kv_cache_gib), start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        seconds = wait_until_healthy(server, url, known.wait_seconds)
        print(
            f"serving {known.model} at {url} (after {seconds:.0f} s): tieout train grpo --vllm {url} ...",
            flush=True,
        )
        return subprocess.call(known.then) if known.then else server.wait()
    except KeyboardInterrupt:
        return 130
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        stop(server)


if __name__ == "__main__":
    sys.exit(main())

"""The local sampler against transformers' `generate` and `generate_batch`, and vLLM, alternating in one run.

python benchmarks/decoder.py                     # both models on two threads and on one, three rounds
python benchmarks/decoder.py --models 3M --threads 1 --rounds 5 --cpu-time

Random weights, stop tokens off, so that every completion has all its tokens; LoRA of rank 16 on all linear layers.
`generate` runs on merged weights, which is the strongest it can do; `generate with adapter` is what a trainer that
does not merge runs. vLLM is asked in a process of its own environment (`make vllm-environment`; without it that row is
left out), which waits while others run; its model has no adapter. Writes benchmarks/results/decoder.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from works import SHAPES

RESULTS = Path(__file__).parent / "results" / "decoder.json"
MODELS = {"3M": SHAPES["3m"], "58M": SHAPES["60m"]}
WORKS = [("3M", 1), ("3M", 2), ("3M", 8), ("58M", 1), ("58M", 2)]
"""(model, prompts)"""
PROMPT, COMPLETION, GROUP = 512, 128, 8
NAMES = ["tieout", "generate", "generate with adapter", "generate_batch", "vllm"]
VLLM_PYTHON = Path(__file__).resolve().parents[1] / ".venv-vllm" / "bin" / "python"

Decode = Callable[[int], list[Any]]


def build(name: str) -> Any:
    """A Llama of random weights with an adapter that does something."""
    from peft import LoraConfig, get_peft_model

    from tieout.learner import Model

    network = bare(name)
    lora = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return Model(get_peft_model(network, lora).eval(), None, name)


def bare(name: str) -> Any:
    """The same without an adapter."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **MODELS[name],
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="tieout",
    )
    network = LlamaForCausalLM(config).eval().requires_grad_(False)
    network.generation_config.eos_token_id = None
    return network


class NoText:
    """Stands where a chat would: no stop tokens, no text."""

    stop_tokens = ()

    def text(self, tokens: Any) -> str:
        return ""


def contenders(model: Any, prompts: list[list[int]]) -> dict[str, Decode]:
    """Name -> decode(max_new_tokens)."""
    import torch
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    from tieout.samplers import SamplingParams
    from tieout.samplers.local.sampler import LocalSampler

    sampler = LocalSampler(model, NoText())  # type: ignore[arg-type]
    ids = torch.tensor(prompts)
    options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_return_sequences": GROUP}

    def tieout(count: int) -> list[Any]:
        drawn = sampler.sample(prompts, GROUP, SamplingParams(max_new_tokens=count, seed=1))
        assert sampler.choice is not None
        assert sampler.choice.backend == "lean"
        return drawn

    def generate(count: int) -> list[Any]:
        with model.merged() as network:
            return _generate(network, count)

    def generate_with_adapter(count: int) -> list[Any]:
        return _generate(model.network, count)

    @torch.no_grad()
    def _generate(network: Any, count: int) -> list[Any]:
        mask = torch.ones_like(ids)
        out = network.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=count, pad_token_id=0, **options
        )
        return out.tolist()

    def generate_batch(count: int) -> list[Any]:
        pages = (PROMPT + COMPLETION) // 32 + 1
        batching = ContinuousBatchingConfig(
            page_size=32, num_blocks=pages * GROUP * len(prompts), max_batch_tokens=2048, return_logprobs=True
        )
        config = GenerationConfig(max_new_tokens=count, eos_token_id=-1, pad_token_id=0, **options)
        with model.merged() as network:
            network.set_attn_implementation("sdpa")
            try:
                done = network.generate_batch(
                    prompts, config, continuous_batching_config=batching, warmup=False
                )
            finally:
                network.set_attn_implementation("tieout")
        return [o.generated_tokens for o in done.values()]

    return dict(zip(NAMES, [tieout, generate, generate_with_adapter, generate_batch], strict=False))


@contextmanager
def vllm(name: str, prompts: list[list[int]], threads: int) -> Iterator[Decode]:
    """decode(max_new_tokens) by a vLLM engine in a process of its own, on so many cores."""
    with tempfile.TemporaryDirectory() as folder:
        network = bare(name)
        network.config._attn_implementation = "sdpa"
        network.save_pretrained(folder)
        (Path(folder) / "prompts.json").write_text(json.dumps(prompts))
        script = Path(__file__).parent / "vllm_engine.py"
        settings = {
            "VLLM_CPU_OMP_THREADS_BIND": "0" if threads == 1 else f"0-{threads - 1}",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }
        line = [str(VLLM_PYTHON), str(script), folder, str(GROUP)]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            line, env={**os.environ, **settings}, stdin=pipe, stdout=pipe, text=True
        ) as engine:
            assert engine.stdin
            assert engine.stdout
            asked, told = engine.stdin, engine.stdout

            def decode(count: int) -> list[Any]:
                asked.write(f"{count}\n")
                asked.flush()
                for answer in told:
                    if answer.startswith("tokens "):
                        assert int(answer.split()[1]) == count * GROUP * len(prompts)
                        return []
                raise RuntimeError(f"the vLLM engine ended with status {engine.wait()}")

            yield decode
            asked.close()


def measure(
    work: tuple[str, int], threads: int, rounds: int, names: list[str], cpu_time: bool
) -> dict[str, Any]:
    """Seconds of each contender in each round; how far the sampler's log-probabilities are from a plain forward's."""
    import torch

    torch.set_num_threads(threads)
    clock = time.process_time if cpu_time else time.perf_counter
    model_name, count = work
    model = build(model_name)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(
        0, MODELS[model_name]["vocab_size"], (count, PROMPT), generator=generator
    ).tolist()
    decode = contenders(model, prompts)
    with vllm(model_name, prompts, threads) if "vllm" in names else nullcontext() as engine:
        if engine:
            decode["vllm"] = engine
        seconds, drawn = alternate(decode, names, rounds, clock)
    return {
        "model": model_name,
        "prompts": count,
        "threads": threads,
        "seconds": {name: [round(s, 3) for s in values] for name, values in seconds.items()},
        "largest_logprob_difference": difference(model, prompts, drawn),
    }


def alternate(
    decode: dict[str, Decode], names: list[str], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], list[Any]]:
    """Seconds of each in each round, and what tieout drew last."""
    for name in names:
        decode[name](2)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    drawn: list[Any] = []
    for _ in range(rounds):
        for name in names:
            started = clock()
            result = decode[name](COMPLETION)
            seconds[name].append(clock() - started)
            drawn = result if name == "tieout" else drawn
    return seconds, drawn


def difference(model: Any, prompts: list[list[int]], drawn: list[Any]) -> float:
    """Nats, on the last prompt's completions."""
    import torch

    ids = torch.tensor([prompts[-1] + c.tokens for c in drawn[-1]])
    with torch.no_grad(), model.merged() as network:
        logprobs = network(input_ids=ids, use_cache=False).logits[:, PROMPT - 1 : -1].log_softmax(-1)
    exact = logprobs.gather(-1, ids[:, PROMPT:, None])[..., 0]
    return (exact - torch.tensor([c.logprobs for c in drawn[-1]])).abs().max().item()


def peak(work: tuple[str, int], threads: int, name: str) -> float:
    """GB that one contender needs more than the model alone, in a process of its own."""
    import torch

    torch.set_num_threads(threads)
    model = build(work[0])
    prompts = [[5] * PROMPT] * work[1]
    decode = contenders(model, prompts)[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decode(COMPLETION)
    return round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20, 3)


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result, from a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# The local sampler against transformers",
        "",
        f"`python benchmarks/decoder.py` on {os.cpu_count()} cores ({platform.machine()}): prompts of {PROMPT} tokens, "
        f"{GROUP} completions of {COMPLETION} tokens each, fp32.",
        "",
        "Seconds are medians; a ratio is the other's time over ours, median [smallest, largest] over the rounds.",
        "Memory is what decoding needs beyond the loaded model.",
        "",
        "| model | prompts | threads | clock | what | seconds | ratio | memory GB | log-prob difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        ours = run["seconds"]["tieout"]
        for name, values in run["seconds"].items():
            ratios = sorted(other / own for other, own in zip(values, ours, strict=True))
            ratio = f"{statistics.median(ratios):.1f} [{ratios[0]:.1f}, {ratios[-1]:.1f}]"
            error = f"{run['largest_logprob_difference']:.1e}" if name == "tieout" else ""
            memory = run["memory_gigabytes"].get(name, "")
            lines.append(
                f"| {run['model']} | {run['prompts']} | {run['threads']} | {run['clock']} | {name} | "
                f"{statistics.median(values):.2f} | {'' if name == 'tieout' else ratio} | {memory} | {error} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--prompts", type=int, nargs="+", help="only works with so many prompts")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", nargs="+", default=NAMES[1:], choices=NAMES[1:])
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds: for a machine that others use too"
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    runs: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for threads in arguments.threads:
        for work in WORKS:
            if work[0] not in arguments.models or work[1] not in (arguments.prompts or [work[1]]):
                continue
            names = ["tieout", *arguments.against]
            if arguments.cpu_time or not VLLM_PYTHON.exists():
                names = [name for name in names if name != "vllm"]
            run = alone(measure, work, threads, arguments.rounds, names, arguments.cpu_time)
            run["clock"] = "cpu" if arguments.cpu_time else "wall"
            run["memory_gigabytes"] = {name: alone(peak, work, threads, name) for name in names[:2]}
            key = ("model", "prompts", "threads", "clock")
            runs = [r for r in runs if any(r[k] != run[k] for k in key)] + [run]
            runs.sort(key=lambda r: tuple(r[k] for k in key))
            RESULTS.write_text(json.dumps(runs, indent=1) + "\n")
            RESULTS.with_suffix(".md").write_text(table(runs))
            print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()

"""The local sampler against transformers' `generate` and `generate_batch`, alternating in one run.

python benchmarks/decoder.py                     # both models on two threads and on one, three rounds
python benchmarks/decoder.py --models 3M --threads 1 --rounds 5 --cpu-time
python benchmarks/decoder.py --breakdown         # where a step's time goes, ours and `generate`'s

Random weights, stop tokens off, so that every completion has all its tokens; LoRA of rank 16 on all linear layers.
`generate` runs on merged weights, which is the strongest it can do; `generate with adapter` is what a trainer that
does not merge runs. Writes benchmarks/results/decoder.{json,md}.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "decoder.json"
MODELS = {
    "3M": {
        "vocab_size": 104, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "58M": {
        "vocab_size": 32_000, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4,
    },
}  # fmt: skip
WORKS = [("3M", 1), ("3M", 2), ("3M", 8), ("58M", 1), ("58M", 2)]
"""(model, prompts)"""
PROMPT, COMPLETION, GROUP = 512, 128, 8
NAMES = ["tieout", "generate", "generate with adapter", "generate_batch"]

Decode = Callable[[int], list[Any]]


def build(name: str) -> Any:
    """A Llama of random weights with an adapter that does something."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    from tieout.learner import Model

    torch.manual_seed(0)
    config = LlamaConfig(
        **MODELS[name],  # type: ignore[arg-type]
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="tieout",
    )
    network = LlamaForCausalLM(config).eval().requires_grad_(False)
    network.generation_config.eos_token_id = None
    lora = LoraConfig(r=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    return Model(get_peft_model(network, lora).eval(), None, name)


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
    from tieout.samplers.local import LocalSampler

    sampler = LocalSampler(model, NoText())  # type: ignore[arg-type]
    ids = torch.tensor(prompts)
    options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_return_sequences": GROUP}

    def tieout(count: int) -> list[Any]:
        drawn = sampler.sample(prompts, GROUP, SamplingParams(max_new_tokens=count, seed=1))
        assert sampler.choice is not None
        assert sampler.choice.path == "lean"
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

    return dict(zip(NAMES, [tieout, generate, generate_with_adapter, generate_batch], strict=True))


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
    return {
        "model": model_name,
        "prompts": count,
        "threads": threads,
        "seconds": {name: [round(s, 3) for s in values] for name, values in seconds.items()},
        "largest_logprob_difference": difference(model, prompts, drawn),
    }


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


KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::linear", "mkldnn::_linear_pointwise"),
    "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu",),
    "copies": (
        "aten::copy_",
        "aten::cat",
        "aten::index",
        "aten::index_select",
        "aten::index_put_",
        "aten::gather",
    ),
}


def breakdown(work: tuple[str, int], name: str) -> dict[str, float]:
    """Of one step of decoding, one thread: milliseconds without a profiler, torch's calls, and milliseconds by kind.

    The kinds are a profiler's, which slows small calls down; the rest is what it does not see: Python.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(1)
    model = build(work[0])
    prompts = torch.randint(0, 100, (work[1], PROMPT), generator=torch.Generator().manual_seed(0)).tolist()
    decode = contenders(model, prompts)[name]
    seconds = {}
    for count in (2, COMPLETION, 2, COMPLETION):  # the second time counts; two steps are nearly all prefill
        started = time.perf_counter()
        decode(count)
        seconds[count] = time.perf_counter() - started
    found: dict[str, list[float]] = {}
    for count in (2, COMPLETION):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            decode(count)
        events = [e for e in profiler.key_averages() if e.key.startswith(("aten::", "mkldnn::", "mkl::"))]
        own = {e.key: e.self_cpu_time_total / 1000 for e in events}
        known = {kind: sum(own.get(key, 0.0) for key in keys) for kind, keys in KINDS.items()}
        known["other torch calls"] = sum(own.values()) - sum(known.values())
        known["calls"] = float(sum(e.count for e in events))
        found = {k: [*found.get(k, []), v] for k, v in known.items()}
    steps = COMPLETION - 2
    result = {"step": 1000 * (seconds[COMPLETION] - seconds[2]) / steps}
    return result | {k: (long - short) / steps for k, (short, long) in found.items()}


def least(work: tuple[str, int]) -> dict[str, float]:
    """Milliseconds of a step's matrix products and of its attention alone, one thread, nothing between them.

    The attention is that of half of the completion's tokens; each is the median of five times a hundred.
    """
    import torch

    from tieout.samplers.packed import product

    torch.set_num_threads(1)
    shape, rows = MODELS[work[0]], GROUP * work[1]
    width, inner, depth = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    heads, key_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
    size = width // heads
    sizes = [
        (width, (heads + 2 * key_heads) * size),
        (width, width),
        (width, 2 * inner),
        (inner, width),
    ] * depth
    sizes.append((width, shape["vocab_size"]))
    products = [(product(torch.randn(b, a), None), torch.randn(rows, a)) for a, b in sizes]
    prompts = [torch.randn(2, work[1], key_heads, PROMPT, size) for _ in range(depth)]
    own = [
        torch.randn(2, rows, key_heads, COMPLETION, size)[:, :, :, : COMPLETION // 2] for _ in range(depth)
    ]
    grid = torch.randn(work[1], key_heads, GROUP * heads // key_heads, size)
    each = grid.reshape(rows, key_heads, -1, size)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def multiply() -> None:
        for weight, x in products:
            weight(x)

    def attend() -> None:
        for prompt, mine in zip(prompts, own, strict=True):
            flash(grid, prompt[0], prompt[1], 0.0, False, scale=0.1)
            flash(each, mine[0], mine[1], 0.0, False, scale=0.1)

    with torch.inference_mode():
        return {name: _milliseconds(f) for name, f in (("products", multiply), ("attention", attend))}


def _milliseconds(function: Callable[[], None], count: int = 100) -> float:
    found = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(count):
            function()
        found.append(1000 * (time.perf_counter() - started) / count)
    return statistics.median(found)


def breakdowns() -> str:
    """Markdown."""
    columns = ["step", "calls", *KINDS, "other torch calls"]
    lines = [
        "# Where a step of decoding goes",
        "",
        f"`python benchmarks/decoder.py --breakdown`, one thread ({platform.machine()}): {GROUP} completions of each",
        f"prompt of {PROMPT} tokens. Milliseconds a step without a profiler; torch's calls a step; and a profiler's",
        "milliseconds of them by kind, which are larger for small calls than without it. The rest is Python.",
        "",
        f"| model | prompts | what | {' | '.join(columns)} |",
        "|" + "---|" * (3 + len(columns)),
    ]
    for work in WORKS[:2] + WORKS[3:]:
        for name in NAMES[:3]:
            found = alone(breakdown, work, name)
            cells = " | ".join(f"{found[c]:.0f}" if c == "calls" else f"{found[c]:.2f}" for c in columns)
            lines.append(f"| {work[0]} | {work[1]} | {name} | {cells} |")
            print(lines[-1], flush=True)
    lines += [
        "",
        "The least that torch's own calls need for a step, without a profiler and with nothing between them:",
        "",
        "| model | prompts | matrix products ms | attention ms |",
        "|---|---|---|---|",
    ]
    for work in WORKS[:2] + WORKS[3:]:
        alone_ms = alone(least, work)
        lines.append(f"| {work[0]} | {work[1]} | {alone_ms['products']:.2f} | {alone_ms['attention']:.2f} |")
        print(lines[-1], flush=True)
    return "\n".join([*lines, ""])


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
    parser.add_argument("--breakdown", action="store_true", help="only where a step's time goes")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.breakdown:
        (RESULTS.parent / "decoder_breakdown.md").write_text(breakdowns())
        return
    runs: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for threads in arguments.threads:
        for work in WORKS:
            if work[0] not in arguments.models or work[1] not in (arguments.prompts or [work[1]]):
                continue
            names = ["tieout", *arguments.against]
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

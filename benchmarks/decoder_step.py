"""One step of decoding on one thread: its time, its calls of torch, and its share of what the processor can do.

taskset -c 0 python benchmarks/decoder_step.py                     # all of it, a quarter of an hour
taskset -c 0 python benchmarks/decoder_step.py --models 3M --rows 8

The least time of a step is the larger of its operations at the rate of one large product, and of its bytes (weights,
prompts' and completions' keys and values) at the rate of a sum over as many; both measured in the same run and dtype.
CPU time, so that a busy machine disturbs less; medians; ours and transformers' `generate` alternate. Random prompts,
stop tokens and drafts off. Writes benchmarks/results/decoder_step.md.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

from decoder import GROUP, MODELS, RESULTS, NoText, alone, bare

PROMPT, LONG, SHORT = 128, 34, 2
"""Tokens of a prompt, and of the completions whose times are subtracted from each other."""
TARGET = RESULTS.parent / "decoder_step.md"


def measure(name: str, rows: int, dtype_name: str, rounds: int, generate: bool) -> dict[str, float]:
    """Milliseconds of a step, its calls, and the least milliseconds; seconds of a whole call, and of `generate`'s."""
    import torch

    from tieout.learner import Model, load
    from tieout.samplers import SamplingParams
    from tieout.samplers.local.sampler import LocalSampler

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    dtype = torch.bfloat16 if dtype_name == "bf16" else torch.float32
    model = load(name, dtype=dtype) if name not in MODELS else Model(bare(name).to(dtype), None, name)
    vocabulary = model.causal.config.vocab_size
    prompts = torch.randint(
        0, vocabulary, (rows // GROUP, PROMPT), generator=torch.Generator().manual_seed(0)
    )
    sampler = LocalSampler(model, NoText())  # type: ignore[arg-type]

    def ours(count: int) -> None:
        sampler.sample(prompts.tolist(), GROUP, SamplingParams(max_new_tokens=count, seed=1))

    def theirs(count: int) -> None:
        with torch.no_grad():
            model.causal.generate(
                input_ids=prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=count,
                min_new_tokens=count,
                pad_token_id=0,
                do_sample=True,
                top_k=0,
                num_return_sequences=GROUP,
            )

    ours(SHORT)
    assert sampler.choice is not None
    assert sampler.choice.backend == "lean"
    steps, calls, others = [], [], []
    for _ in range(rounds):
        short, whole = _seconds(ours, SHORT), _seconds(ours, LONG)
        steps.append(1000 * (whole - short) / (LONG - SHORT))
        calls.append(whole)
        others += [_seconds(theirs, LONG)] if generate else []
    found = {"step": statistics.median(steps), "seconds": statistics.median(calls)}
    found |= dict(zip(("calls", "nested calls"), _calls(ours), strict=True))
    found["least"] = 1000 * _least(model, rows, dtype)
    return found | ({"generate": statistics.median(others)} if generate else {})


def _seconds(call: Callable[[int], None], count: int) -> float:
    started = time.thread_time()
    call(count)
    return time.thread_time() - started


def _calls(call: Callable[[int], None]) -> tuple[float, float]:
    """Calls of torch a step: by Python, and with those that they make themselves."""
    from torch.profiler import ProfilerActivity, profile

    found = []
    for count in (SHORT, LONG):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            call(count)
        events = [e for e in profiler.events() if "::" in e.name]
        outer = [e for e in events if e.cpu_parent is None or "::" not in e.cpu_parent.name]
        found.append((len(outer), len(events)))
    (outer_short, short), (outer_long, long) = found
    return (outer_long - outer_short) / (LONG - SHORT), (long - short) / (LONG - SHORT)


def _least(model: Any, rows: int, dtype: Any) -> float:
    """Seconds of a step at the processor's own rates."""
    import torch

    from tieout.samplers.local.cpu.weight_layout import product

    config = model.causal.config
    heads, key_heads, depth = config.num_attention_heads, config.num_key_value_heads, config.num_hidden_layers
    size = config.hidden_size // heads
    weights = sum(p.numel() for p in model.causal.parameters())
    if not config.tie_word_embeddings:
        weights -= model.causal.get_input_embeddings().weight.numel()
    seen = PROMPT + LONG / 2
    operations = 2 * rows * weights + 4 * rows * heads * size * seen * depth
    kept = rows // GROUP * PROMPT + rows * LONG / 2
    size_in_bytes = (weights + 2 * key_heads * size * kept * depth) * dtype.itemsize
    square = product(torch.randn(1024, 1024).to(dtype), None)
    x, memory = torch.randn(256, 1024).to(dtype), torch.ones(int(size_in_bytes) // 4)
    product_seconds = min(_seconds(lambda _: square(x), 0) for _ in range(20))
    rate = 2 * 256 * 1024 * 1024 / product_seconds
    return max(operations / rate, min(_seconds(lambda _: memory.sum(), 0) for _ in range(20)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=[*MODELS, "smollm2-135m"])
    parser.add_argument("--rows", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-generate", action="store_true")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    lines = [
        "# A step of decoding",
        "",
        f"`python benchmarks/decoder_step.py` on one thread ({platform.machine()}), {time.strftime('%Y-%m-%d')}:",
        f"prompts of {PROMPT} tokens, {GROUP} completions of each, no drafts. CPU time, medians of {rounds} rounds.",
        "Calls of torch by Python, and with those they make themselves. The least time is operations or bytes at the",
        f"processor's own rates, measured alongside. Last: a whole call of {LONG} tokens, and `generate`'s.",
        "",
        "| model | rows | dtype | step ms | least ms | share | calls | nested | call s | generate s | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in arguments.models:
        for rows in arguments.rows:
            for dtype in arguments.dtypes:
                found = alone(measure, name, rows, dtype, rounds, not arguments.no_generate)
                other = found.get("generate")
                lines.append(
                    f"| {name} | {rows} | {dtype} | {found['step']:.2f} | {found['least']:.2f} | "
                    f"{found['least'] / found['step']:.0%} | {found['calls']:.0f} | {found['nested calls']:.0f} | "
                    f"{found['seconds']:.2f} | "
                    + (f"{other:.2f} | {other / found['seconds']:.1f} |" if other else "| |")
                )
                print(lines[-1], flush=True)
                TARGET.write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()

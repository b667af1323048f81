"""Where a step of decoding goes: the local sampler's, and `generate`'s.

python benchmarks/decoder_breakdown.py        # a quarter of an hour, into benchmarks/results/decoder_breakdown.md
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

from decoder import COMPLETION, GROUP, MODELS, NAMES, PROMPT, RESULTS, WORKS, alone, build, contenders

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

    from tieout.samplers.local.cpu.weight_layout import product

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
        f"`python benchmarks/decoder_breakdown.py`, one thread ({platform.machine()}): {GROUP} completions of each",
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


if __name__ == "__main__":
    (RESULTS.parent / "decoder_breakdown.md").write_text(breakdowns())

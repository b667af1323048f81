"""tieout's training step against TRL's: same model, data, LoRA, batch and dtype, alternating in one process.

python benchmarks/against_trl.py                       # every row, into benchmarks/results/against_trl.{json,md}
python benchmarks/against_trl.py --rows dpo-60m-512    # these rows anew; the others stay as measured
python benchmarks/against_trl.py --plain               # TRL without gradient checkpointing (its default is with)

A row is measured in three processes: one in which TRL trains and, after each of its steps, tieout does the same step
(times, and how far log-probabilities and gradients are apart), and one for each side alone (peak memory). TRL runs its
own `train()`; the timed part is what lies between its callbacks `on_step_begin` and `on_step_end`. The learning rate is
zero, so that every round does the same work from the same weights. A row is written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

RESULTS = Path(__file__).parent / "results" / "against_trl.json"
SIDES = ("trl", "tieout")


@dataclass(frozen=True)
class Work:
    """One row of the table."""

    method: str
    model: str
    prompt: int
    """Tokens of each prompt."""
    completion: int
    """Tokens of each completion, also of each rollout."""
    group_size: int
    groups: int
    """Prompts a step."""
    rounds: int
    beta: float = 0.0
    update: float = 0.0
    """TRL's time over ours to reach."""
    whole: float = 0.0
    """The same for the step with its rollouts."""


WORKS = {
    "dpo-60m-512": Work("dpo", "60m", 512, 128, 2, 4, 3, 0.1, update=3.5),
    "dpo-60m-1024": Work("dpo", "60m", 1024, 64, 2, 4, 2, 0.1, update=3.5),
    "grpo-60m": Work("grpo", "60m", 512, 128, 8, 1, 3, update=4, whole=4),
    "grpo-60m-kl": Work("grpo", "60m", 512, 128, 8, 1, 2, 0.04, update=4, whole=4),
    "grpo-3m": Work("grpo", "3m", 512, 128, 8, 2, 5, update=3, whole=6),
    "grpo-3m-kl": Work("grpo", "3m", 512, 128, 8, 2, 5, 0.04, update=3, whole=6),
    "grpo-3m-1024": Work("grpo", "3m", 1024, 256, 8, 1, 5, update=3, whole=5),
    "grpo-3m-long": Work("grpo", "3m", 64, 512, 8, 1, 5, update=1.1, whole=3),
    "sft-60m": Work("sft", "60m", 50, 800, 1, 10, 3, update=1.3),
}
SHAPES: dict[str, dict[str, int]] = {
    "60m": {
        "vocab_size": 32_000,
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "3m": {
        "vocab_size": 104,
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
PAD, END = 0, 1
LORA = {"rank": 16, "alpha": 32.0}
clock: Callable[[], float] = time.perf_counter


# ---------------------------------------------------------------- the same start for both sides


def build_model(name: str, folder: Path) -> Path:
    """A Llama with seeded random weights and a tokenizer of one token a word (`w7 w12`), both saved in `folder`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    target = folder / name
    if (target / "tokenizer.json").exists():
        return target
    shape = SHAPES[name]
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape, max_position_embeddings=4096, pad_token_id=PAD, eos_token_id=END, bos_token_id=None
    )
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        network.lm_head.weight.mul_(3)  # a model that is sure of something
    network.save_pretrained(target)
    words = {"<pad>": PAD, "<end>": END, **{f"w{i}": i for i in range(2, shape["vocab_size"])}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="w2"
    ).save_pretrained(target)
    return target


def stir(parameters: dict[str, Any]) -> None:
    """The same noise in every adapter weight: a fresh adapter's second half has no gradient."""
    import torch

    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, parameter in sorted(parameters.items()):
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)


def sequences(work: Work) -> list[tuple[list[int], list[list[int]]]]:
    """(prompt, completions) of a step, as token ids; for GRPO the completions come from rollouts, not from here."""
    rng = random.Random(0)

    def tokens(length: int) -> list[int]:
        return [rng.randrange(2, SHAPES[work.model]["vocab_size"]) for _ in range(length)]

    if work.method == "sft":  # lengths spread evenly over 50 to 800, half of each is the completion
        steps = max(1, work.groups - 1)
        lengths = [work.prompt + (work.completion - work.prompt) * i // steps for i in range(work.groups)]
        return [(tokens(n // 2), [tokens(n - n // 2)]) for n in lengths]
    count = work.group_size if work.method == "dpo" else 0
    return [
        (tokens(work.prompt), [[*tokens(work.completion - 1), END] for _ in range(count)])
        for _ in range(work.groups)
    ]


def text(tokens: Sequence[int]) -> str:
    return " ".join("<pad>" if t == PAD else "<end>" if t == END else f"w{t}" for t in tokens)


def reward_of(tokens: Sequence[int]) -> float:
    """Something that differs from completion to completion."""
    return sum(t % 7 for t in tokens) / (6 * len(tokens))


# ---------------------------------------------------------------- TRL


def trl_trainer(work: Work, model: Path, out: Path, steps: int, plain: bool, callbacks: list[Any]) -> Any:
    """TRL's trainer with its own defaults, but for fp32 on the CPU, the paper's GRPO loss, and no reports."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import trl

    options: dict[str, Any] = {
        "output_dir": str(out),
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "learning_rate": 0.0,
        "max_steps": steps,
        "per_device_train_batch_size": work.groups,
        "max_grad_norm": 1.0,
    }
    if plain:
        options["gradient_checkpointing"] = False
    rows = sequences(work)
    common: dict[str, Any] = {
        "model": AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        "processing_class": AutoTokenizer.from_pretrained(model),
        "peft_config": LoraConfig(
            r=LORA["rank"], lora_alpha=LORA["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        "callbacks": callbacks,
    }
    if work.method == "dpo":
        # TRL ends every completion with the end token itself
        data = [{"prompt": text(p), "chosen": text(c[:-1]), "rejected": text(r[:-1])} for p, (c, r) in rows]
        args = trl.DPOConfig(**options, beta=work.beta, max_length=None)
        return trl.DPOTrainer(args=args, train_dataset=Dataset.from_list(_spaced(data)), **common)
    if work.method == "sft":
        data = [{"input_ids": p + c, "labels": [-100] * len(p) + c} for p, (c,) in rows]
        size = sum(len(r["input_ids"]) for r in data)
        options |= {"packing": True, "max_length": size, "per_device_train_batch_size": 1}
        args = trl.SFTConfig(**options)
        return trl.SFTTrainer(args=args, train_dataset=Dataset.from_list(data), **common)
    data = [{"prompt": text(p)} for p, _ in rows]
    options["per_device_train_batch_size"] = work.groups * work.group_size
    args = trl.GRPOConfig(
        **options,
        beta=work.beta,
        num_generations=work.group_size,
        max_completion_length=work.completion,
        loss_type="grpo",
        use_bias_correction_kl=False,
        shuffle_dataset=False,
        generation_kwargs={"min_new_tokens": work.completion},
    )
    return trl.GRPOTrainer(args=args, train_dataset=Dataset.from_list(data), reward_funcs=_reward, **common)


def _spaced(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """TRL joins prompt and completion as they stand: the words' space belongs to the completion."""
    return [{k: v if k == "prompt" else f" {v} " for k, v in row.items()} for row in rows]


def _reward(completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [reward_of(ids) for ids in completion_ids]


def trl_logprobs(trainer: Any, groups: Sequence[Any]) -> Any:
    """[T] of the completion tokens, from TRL's own forward with its fused head, padded on the right as TRL pads."""
    import torch

    rows = [(g.prompt, c.tokens) for g in groups for c in g.completions]
    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.full((len(rows), width), PAD)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        labels[i, len(prompt) : end] = torch.tensor(completion)
    mask = torch.arange(width)[None] < torch.tensor([[len(p) + len(c)] for p, c in rows])
    with torch.no_grad():
        out = trainer.model(
            input_ids=ids, attention_mask=mask.long(), labels=labels, fused_lm_head=True, use_cache=False
        ).log_probs
    kept = labels[:, 1:] != -100
    return out[:, -kept.shape[1] :][kept]


# ---------------------------------------------------------------- tieout


class Ours:
    """The same step by tieout."""

    def __init__(self, work: Work, model: Path) -> None:
        from tieout.chat import Chat
        from tieout.learner import AdapterConfig, Learner, load
        from tieout.methods import DPO, GRPO, SFT
        from tieout.samplers.local import LocalSampler

        class Endless(Chat):
            """Every rollout has its full length, as `min_new_tokens` makes TRL's."""

            stop_tokens = ()  # type: ignore[assignment]

        self.work = work
        adapter = AdapterConfig(rank=int(LORA["rank"]), alpha=LORA["alpha"])
        self.learner = Learner(load(str(model), adapter, device="cpu"), learning_rate=0.0)
        stir(self.learner.model.trained())
        self.sampler = LocalSampler(self.learner.model, Endless(self.learner.model.tokenizer))
        options = {} if work.method == "sft" else {"beta": work.beta}
        self.method: Any = {"dpo": DPO, "sft": SFT, "grpo": GRPO}[work.method](**options)
        self.learner.packs  # noqa: B018  the check of the attention is made once in a run, not in a step

    def groups(self, rows: Sequence[tuple[list[int], list[list[int]]]], logprobs: bool) -> list[Any]:
        """Scored groups of given tokens; with `logprobs`, as if the current policy had sampled them."""
        from tieout.types import Completion, Group

        groups = []
        for prompt, completions in rows:
            scores = [1.0, 0.0] if self.work.method == "dpo" else [reward_of(c) for c in completions]
            groups.append(Group(prompt, [Completion(c, [True] * len(c)) for c in completions], scores))
        if not logprobs:
            return groups
        return [
            replace(g, completions=[replace(c, logprobs=x) for c, x in zip(g.completions, own, strict=True)])
            for g, own in zip(groups, self.learner.logprobs(groups), strict=True)
        ]

    def sample(self) -> list[tuple[list[int], list[list[int]]]]:
        """The step's rollouts."""
        from tieout.samplers import SamplingParams

        prompts = [p for p, _ in sequences(self.work)]
        sampled = self.sampler.sample(
            prompts, self.work.group_size, SamplingParams(max_new_tokens=self.work.completion)
        )
        return [(p, [c.tokens for c in group]) for p, group in zip(prompts, sampled, strict=True)]

    def update(self, groups: list[Any]) -> dict[str, float]:
        """Reference and update. What is known of the reference is forgotten: TRL computes it in each step, too."""
        from tieout.learner.kept import Kept

        self.learner.kept = Kept()
        return self.learner.update(self.method.annotate(groups, self.learner), self.method.loss)


# ---------------------------------------------------------------- one process


def rows_of(work: Work, trainer: Any) -> list[tuple[list[int], list[list[int]]]]:
    """The tokens of TRL's last step, group by group."""
    if work.method != "grpo":
        return sequences(work)
    ids = [c.tolist() for c in trainer.seen["completion_ids"]]
    prompts = [p.tolist() for p in trainer.seen["prompt_ids"]]
    k = work.group_size
    return [(prompts[i], ids[i : i + k]) for i in range(0, len(ids), k)]


def spy(trainer: Any) -> None:
    """Time TRL's generation apart from the rest of its step, and keep what it sampled."""
    trainer.generation_seconds, trainer.seen = 0.0, {}
    if not hasattr(trainer, "_generate_and_score_completions"):
        return
    generate, score = trainer._generate, trainer._generate_and_score_completions

    def timed(prompts: Any) -> Any:
        started = clock()
        result = generate(prompts)
        trainer.generation_seconds = clock() - started
        return result

    def kept(inputs: Any) -> Any:
        trainer.seen = score(inputs)
        return trainer.seen

    trainer._generate, trainer._generate_and_score_completions = timed, kept


def alternate(work: Work, folder: Path, plain: bool) -> dict[str, Any]:
    """TRL's step, then ours on the same tokens, `rounds` times: seconds of each, and how far they are apart."""
    import torch
    from transformers import TrainerCallback

    model = build_model(work.model, folder)
    ours = Ours(work, model)
    times: dict[str, list[float]] = {f"{side}_{part}": [] for side in SIDES for part in ("update", "sample")}
    result: dict[str, Any] = {}
    seen: dict[str, Any] = {}

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            trainer.generation_seconds = 0.0
            seen["started"] = clock()

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            if "gradient" not in seen:
                named = sorted((n, p) for n, p in trainer.model.named_parameters() if p.requires_grad)
                seen["gradient"] = torch.cat([p.grad.flatten().clone() for _, p in named])

        def on_step_end(self, *_: Any, **__: Any) -> None:
            whole = clock() - seen["started"]
            times["trl_sample"].append(trainer.generation_seconds)
            times["trl_update"].append(whole - trainer.generation_seconds)
            groups = ours.groups(rows_of(work, trainer), logprobs=work.method == "grpo")
            started = clock()
            if work.method == "grpo":
                ours.sample()
            sampled = clock()
            metrics = ours.update(groups)
            times["tieout_update"].append(clock() - sampled)
            times["tieout_sample"].append(sampled - started)
            if not result:
                result.update(compare(groups, metrics))
            print(
                f"  {work.method} {work.model}: { ({k: round(v[-1], 2) for k, v in times.items()}) }",
                flush=True,
            )

    def compare(groups: list[Any], metrics: dict[str, float]) -> dict[str, Any]:
        mine = torch.tensor([x for g in ours.learner.logprobs(groups) for c in g for x in c])
        gradients = sorted(ours.learner.model.trained().items())
        gradient = torch.cat([p.grad.flatten() for _, p in gradients])  # type: ignore[union-attr]
        return {
            "logprob_error": (mine - trl_logprobs(trainer, groups)).abs().max().item(),
            "gradient_error": ((gradient - seen["gradient"]).norm() / seen["gradient"].norm()).item(),
            "shared_prefix": metrics["shared_prefix"],
            "token_ratio": metrics["token_ratio"],
            "tokens": sum(len(g.prompt) + len(c.tokens) for g in groups for c in g.completions),
        }

    trainer = trl_trainer(work, model, folder / "trl", work.rounds, plain, [Clock()])
    spy(trainer)
    stir({n: p for n, p in trainer.model.named_parameters() if p.requires_grad})
    peak = matmul_peak()
    trainer.train()
    return {**result, "matmul_peak": max(peak, matmul_peak()), **times}


def alone(work: Work, folder: Path, side: str, plain: bool) -> dict[str, Any]:
    """One step of one side, for its peak memory; of ours, how much arithmetic its update is."""
    model = build_model(work.model, folder)
    if side == "trl":
        trl_trainer(work, model, folder / "trl", 1, plain, []).train()
        return {}
    ours = Ours(work, model)
    rows = ours.sample() if work.method == "grpo" else sequences(work)
    groups = ours.groups(rows, logprobs=work.method == "grpo")
    with counted_flops() as count:
        ours.update(groups)
    return {"tieout_flops": count()}


@contextmanager
def counted_flops() -> Iterator[Callable[[], int]]:
    """FLOPs of matrix products and attention inside."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    total = 0

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal total
            out = func(*args, **(kwargs or {}))
            if func._overloadpacket in flop_registry:
                total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
            return out

    with Count():
        yield lambda: total


def matmul_peak() -> float:
    """FLOP/s of an fp32 matrix product, best of five."""
    import torch

    a = torch.randn(2048, 2048)
    seconds = []
    for _ in range(6):
        started = clock()
        a @ a
        seconds.append(clock() - started)
    return 2 * 2048**3 / min(seconds[1:])


# ---------------------------------------------------------------- all processes


def in_process(task: str, name: str, arguments: argparse.Namespace) -> float:
    """Run one task in a process of its own; its peak memory in GB. Raises CalledProcessError if it fails."""
    command = [sys.executable, __file__, "--task", task, "--rows", name, "--folder", str(arguments.folder)]
    command += ["--threads", str(arguments.threads), *(["--plain"] if arguments.plain else [])]
    command += ["--rounds", str(arguments.rounds)] if arguments.rounds else []
    command += ["--cpu-time"] if arguments.cpu_time else []
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(status, command)
    return usage.ru_maxrss / 2**20


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All three processes of one row."""
    started = time.perf_counter()
    peaks = {task: round(in_process(task, name, arguments), 2) for task in ("times", *SIDES)}
    found = {
        key: value
        for task in peaks
        for key, value in json.loads((arguments.folder / f"{name}.{task}.json").read_text()).items()
    }
    return {
        "row": name,
        "plain": arguments.plain,
        "cpu_time": arguments.cpu_time,
        **asdict(WORKS[name]),
        **found,
        **{f"{side}_gigabytes": peaks[side] for side in SIDES},
        "threads": arguments.threads,
        "seconds": round(time.perf_counter() - started, 1),
    }


def ratios(result: dict[str, Any], whole: bool) -> tuple[float, float, float]:
    """TRL's seconds over ours: (median, smallest, largest) over the rounds."""
    parts = ("update", "sample") if whole else ("update",)
    per_round = [
        [sum(values) for values in zip(*(result[f"{side}_{part}"] for part in parts), strict=True)]
        for side in SIDES
    ]
    found = sorted(a / b for a, b in zip(*per_round, strict=True))
    return median(found), found[0], found[-1]


def table(results: list[dict[str, Any]]) -> str:
    """Markdown."""
    versions = results[0]["versions"]
    lines = [
        "# tieout against TRL",
        "",
        f"`python benchmarks/against_trl.py` on {os.cpu_count()} cores ({platform.machine()}), fp32, LoRA rank 16 on",
        f"every linear layer, {', '.join(f'{k} {v}' for k, v in versions.items())}.",
        "",
        "Ratios are TRL's time over tieout's in the same round: median (smallest to largest). `update` is the step",
        "without its rollouts, with the reference where there is one: both sides compute it in every step. Seconds",
        "are medians; tokens are those of the plain layout. Errors: largest difference of log-probabilities (nats),",
        "and norm of the difference of gradients as a share of the gradient's. TRL runs as it comes, with gradient",
        "checkpointing; rows marked `plain` are without it. Each side's peak memory is that of its own process.",
        "",
        "| work | P, R, G | beta | update | goal | whole step | goal | TRL s | tieout s | of matmul peak |"
        " tokens/s TRL, tieout | TRL GB | tieout GB | memory | log-prob error | gradient error |",
        "|" + "---|" * 16,
    ]
    for r in results:
        cells = []
        for whole, goal in ((False, r["update"]), (True, r["whole"])):
            if whole and r["method"] != "grpo":
                cells += ["", ""]
                continue
            middle, low, high = ratios(r, whole)
            cells += [f"{middle:.2f} ({low:.2f} to {high:.2f})", f"{goal:g}"]
        seconds = {side: median(r[f"{side}_update"]) for side in SIDES}
        name = r["row"] + (" plain" if r["plain"] else "") + (" (CPU time)" if r["cpu_time"] else "")
        shape = (
            "50 to 800" if r["method"] == "sft" else f"{r['prompt']}, {r['completion']}, {r['group_size']}"
        )
        share = r["tieout_flops"] / seconds["tieout"] / r["matmul_peak"]
        memory = r["tieout_gigabytes"] / r["trl_gigabytes"]
        lines.append(
            f"| {name} | {shape} | {r['beta']:g} | {' | '.join(cells)} | {seconds['trl']:.2f} | "
            f"{seconds['tieout']:.2f} | {share:.0%} | {r['tokens'] / seconds['trl']:.0f}, "
            f"{r['tokens'] / seconds['tieout']:.0f} | {r['trl_gigabytes']:.2f} | {r['tieout_gigabytes']:.2f} | "
            f"{memory:.2f} | {r['logprob_error']:.1e} | {r['gradient_error']:.1e} |"
        )
    return "\n".join([*lines, ""])


def versions() -> dict[str, str]:
    """Of what was measured."""
    from importlib.metadata import version

    return {name: version(name) for name in ("trl", "torch", "transformers", "peft")}


def main() -> None:
    global clock
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--plain", action="store_true", help="TRL without gradient checkpointing")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path("runs/against_trl"), help="of models and scratch")
    parser.add_argument("--task", choices=["times", *SIDES], help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help="steps of each side; a row's own number if not given")
    parser.add_argument(
        "--cpu-time", action="store_true", help="seconds of CPU, of all threads: on a busy machine"
    )
    arguments = parser.parse_args()
    if arguments.cpu_time:
        clock = time.process_time
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.task:
        import torch

        torch.set_num_threads(arguments.threads)
        name = arguments.rows[0]
        if arguments.task == "times":
            work = WORKS[name]
            work = replace(work, rounds=arguments.rounds or work.rounds)
            found = alternate(work, arguments.folder, arguments.plain)
        else:
            found = alone(WORKS[name], arguments.folder, arguments.task, arguments.plain)
        (arguments.folder / f"{name}.{arguments.task}.json").write_text(json.dumps(found))
        return
    RESULTS.parent.mkdir(exist_ok=True)
    for name in arguments.rows:
        done = {**measure(name, arguments), "versions": versions()}
        results: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        results = [r for r in results if (r["row"], r["plain"]) != (name, arguments.plain)] + [done]
        results.sort(key=lambda r: (r["plain"], list(WORKS).index(r["row"])))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(table(results))
        print(table([done]).splitlines()[-1])


if __name__ == "__main__":
    main()

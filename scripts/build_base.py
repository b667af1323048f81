"""Train `tieout-base` from nothing: a tiny Llama with its own tokenizer, on a synthetic mixture.

    python scripts/build_base.py --out runs/base --threads 2

Seeded and resumable: repeat the command and it continues from the last checkpoint in `--out`. The finished
model is written to `--out`/model; `--install` copies it into the package. See docs/base-model.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parent))

from base_corpus.batches import Batch, make_batch
from base_corpus.mixture import Mixture, sample_texts
from base_corpus.vocabulary import Encoder, train_tokenizer

INSTALLED = Path(__file__).parent.parent / "src" / "tieout" / "embedded" / "tieout_base"
_BLOCK = 8
"""Steps whose batches are ordered at once; checkpoints are made between blocks, so that a resumed run is the same."""


@dataclass(frozen=True)
class Settings:
    """What decides the result, beside the code."""

    seed: int = 0
    tokens: int = 20_000_000
    """Trained on in all, unless the time runs out."""
    early_batch: int = 2048
    """Tokens of a step while random tokens are taught."""
    late_batch: int = 3072
    """Tokens of a step after that."""
    learning_rate: float = 2.0e-3
    warmup: int = 60
    vocab_size: int = 1024
    tokenizer_texts: int = 8000
    """Documents that the tokenizer is learnt from."""
    initial_std: float = 0.05
    muon_scale: float = 1.5
    """Rate of the layers' matrices over that of embeddings and gains."""
    width: int = 192
    intermediate: int = 448
    layers: int = 4
    heads: int = 6
    kv_heads: int = 3


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/base"), help="folder of checkpoints and the model"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--max-seconds", type=float, default=7200.0, help="the rate decays to reach 0 by then"
    )
    parser.add_argument("--save-seconds", type=float, default=120.0, help="time between checkpoints")
    parser.add_argument("--tokens", type=int, default=Settings.tokens)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--install", action="store_true", help="copy the model into the package at the end")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = Settings(tokens=given.tokens, seed=given.seed)
    folder = build(settings, given.out, given.max_seconds, given.save_seconds)
    if given.install:
        install(folder)


def build(settings: Settings, out: Path, max_seconds: float, save_seconds: float) -> Path:
    """Train, from the last checkpoint in `out` if there is one; returns the folder of the finished model."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(settings, out / "tokenizer")
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(_config(settings, tokenizer))
    _sketch_induction(model, settings)
    optimizer = _Optimizers(model, settings)
    step, seen, before, progress = _resume(out, settings, model, optimizer)
    started = saved = time.monotonic()
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    batches = _Batches(settings, out / "tokenizer")
    with closing(batches), bar, (out / "metrics.jsonl").open("a", encoding="utf-8") as log:
        shown = bar.add_task("tieout-base", total=1000, completed=int(1000 * progress), loss="")
        while progress < 1.0:
            batch = batches.next(step, progress)
            rate = _rate(settings, step, progress)
            loss = _train_step(model, optimizer, rate, batch, sums)
            step, seen = step + 1, seen + batch.num_tokens
            elapsed = before + time.monotonic() - started
            progress = max(seen / settings.tokens, elapsed / max_seconds)
            bar.update(shown, completed=min(1000, int(1000 * progress)), loss=f"step {step} loss {loss:.3f}")
            if step % 50 == 0:
                line = {
                    "step": step,
                    "tokens": seen,
                    "progress": round(progress, 4),
                    "seconds": round(elapsed),
                    "rate": rate,
                }
                log.write(json.dumps(line | _averages(sums)) + "\n")
                log.flush()
            due = step % _BLOCK == 0 and time.monotonic() - saved > save_seconds
            if due or progress >= 1.0:
                state = {"step": step, "tokens": seen, "seconds": elapsed, "progress": progress}
                _save(out, settings, model, optimizer, tokenizer, state)
                saved = time.monotonic()
    return _newest(out)


def _config(settings: Settings, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=settings.vocab_size,
        hidden_size=settings.width,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=32,
        initializer_range=settings.initial_std,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@torch.no_grad()
def _sketch_induction(model: LlamaForCausalLM, settings: Settings) -> None:
    """Start with the sketch of an induction circuit: copying needs one, and from noise it takes millions of tokens.

    Three heads of layer 0 look one, two and three tokens back, by position alone: all embeddings share a component
    c, to which queries and keys answer with constant vectors, so that plane f of the rotary embedding gives
    cos((distance - d) theta_f). Each writes what it finds into a subspace of its own, and the first heads of layer 1
    compare this token and those before it with the tokens before every other: a label is told from another by more
    than its last word, a digit by the digits before it. What to do with what is found is learnt, as is all else.
    In the spirit of Trockman and Kolter (2023), mimetic initialisation; the circuit is that of Olsson et al. (2022).
    """
    width, dim, share = settings.width, 32, settings.heads // settings.kv_heads
    embeddings = model.model.embed_tokens.weight
    shared = torch.randn(width)
    embeddings += 2 * settings.initial_std * shared
    basis = torch.linalg.qr(torch.cat([shared[:, None], torch.randn(width, 4 * dim)], 1)).Q.T
    constant, read, *write = basis[0], *basis[1:].split(dim)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight *= 0.2
        layer.mlp.down_proj.weight *= 0.2
    theta = model.model.rotary_emb.inv_freq
    first, second = (model.model.layers[index].self_attn for index in (0, 1))
    # The five fastest planes tell near distances apart; 11 is an embedding's component along c after the norm.
    fast, none = (torch.arange(len(theta)) < 5).float(), torch.zeros(len(theta))
    for head in range(3):
        turned = torch.cat([fast * (theta * (head + 1)).cos(), -fast * (theta * (head + 1)).sin()])
        queries, keys = (
            slice(dim * head, dim * (head + 1)),
            slice(dim * (head // share), dim * (head // share + 1)),
        )
        first.k_proj.weight[keys] = torch.outer(torch.cat([fast, none]), constant) * 9 / 11
        first.q_proj.weight[queries] = torch.outer(turned, constant) * 9 / 11
        first.v_proj.weight[keys] = read
        first.o_proj.weight[:, queries] = 0.1 * write[head].T
    # The slow planes compare contents at any distance: this token and the two before it with the three before that.
    slow = torch.cat([1 - fast, 1 - fast])[:, None]
    turns = [torch.eye(dim), *(torch.linalg.qr(torch.randn(dim, dim)).Q for _ in range(2))]
    sources = [read, write[0], write[1]]
    for head in range(share):
        second.q_proj.weight[dim * head : dim * (head + 1)] = (
            5 * slow * sum(t @ s for t, s in zip(turns[: 3 - head], sources, strict=False))
        )
    second.k_proj.weight[:dim] = 5 * slow * sum(t @ w for t, w in zip(turns, write, strict=True))


class _Optimizers:
    """Muon for the matrices of the layers, AdamW for embeddings and gains, with one rate."""

    def __init__(self, model: torch.nn.Module, settings: Settings) -> None:
        named = list(model.named_parameters())
        self.names = {id(parameter): name for name, parameter in named}
        matrices = [p for name, p in named if p.dim() == 2 and "embed_tokens" not in name]
        chosen = {id(parameter) for parameter in matrices}
        self.muon = torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(
            [p for _, p in named if id(p) not in chosen], betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        self.muon_scale = settings.muon_scale

    def step(self, rate: float) -> None:
        """Update with this rate, and forget the gradients."""
        for optimizer, scale in ((self.muon, self.muon_scale), (self.adamw, 1.0)):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def moments(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps: `parameter:moment` -> tensor."""
        return {
            f"{self.names[id(parameter)]}:{key}": value
            for optimizer in (self.muon, self.adamw)
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def load(self, moments: dict[str, torch.Tensor]) -> None:
        """Put back what `moments` gave."""
        for optimizer in (self.muon, self.adamw):
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                start = f"{self.names[id(parameter)]}:"
                optimizer.state[parameter] = {
                    key.removeprefix(start): value for key, value in moments.items() if key.startswith(start)
                }


def _rate(settings: Settings, step: int, progress: float) -> float:
    """Warmup by steps, then flat, then from 30% of the training linearly to (almost) zero."""
    return settings.learning_rate * min(1.0, (step + 1) / settings.warmup, 0.01 + (1 - progress) / 0.7)


def _train_step(
    model: LlamaForCausalLM,
    optimizer: _Optimizers,
    rate: float,
    batch: Batch,
    sums: dict[str, list[float]],
) -> float:
    """One update on the trained tokens; adds [loss, hits, count] of every skill to `sums`."""
    count = sum(int((part.skill >= 0).sum()) for part in batch.parts)
    done: list[torch.Tensor] = []
    for part in batch.parts:
        tokens, skill = torch.from_numpy(part.tokens), torch.from_numpy(part.skill)[:, 1:]
        # Rows are causal and padding is at their end: no attention mask is needed. Logits only where trained.
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
        trained = skill >= 0
        logits, gold = model.lm_head(hidden[trained]), tokens[:, 1:][trained]
        losses = torch.nn.functional.cross_entropy(logits, gold, reduction="none")
        (losses.sum() / count).backward()
        with torch.no_grad():
            hits = (logits.argmax(-1) == gold).float()
            done.append(torch.stack([skill[trained].float(), losses.detach(), hits]))
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step(rate)
    owner, losses, hits = torch.cat(done, 1).unbind()
    for index, name in enumerate(batch.skills):
        mine = (owner == index).float()
        for at, value in enumerate((losses, hits, torch.ones_like(hits))):
            sums[name][at] += (mine * value).sum().item()
    return losses.mean().item()


def _averages(sums: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Skill -> loss and token accuracy since the last call."""
    done = {
        name: {"loss": round(loss / count, 4), "accuracy": round(hits / count, 4)}
        for name, (loss, hits, count) in sums.items()
        if count
    }
    sums.clear()
    return {"skills": done}  # type: ignore[dict-item]


# --- batches ------------------------------------------------------------------------------------------------

_mixture: Mixture | None = None


def _start(folder: Path) -> None:
    global _mixture
    _mixture = Mixture(Encoder(folder))


def _draw(settings: Settings, step: int, progress: float) -> Batch:
    assert _mixture is not None
    size = settings.early_batch if progress < _mixture.first else settings.late_batch
    return make_batch(_mixture, settings.seed, step, progress, size)


class _Batches:
    """Batches made in another process, a block of steps at a time."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.pool = ProcessPoolExecutor(1, initializer=_start, initargs=(folder,))
        self.pending: deque[Future[Batch]] = deque()

    def next(self, step: int, progress: float) -> Batch:
        """The batch of this step; a block of steps is drawn as of the progress at its first."""
        if not self.pending:
            self.pending.extend(
                self.pool.submit(_draw, self.settings, ahead, progress)
                for ahead in range(step, step + _BLOCK)
            )
        return self.pending.popleft().result()

    def close(self) -> None:
        """Stop the other process."""
        self.pool.shutdown(cancel_futures=True)


# --- files --------------------------------------------------------------------------------------------------


def _tokenizer(settings: Settings, folder: Path) -> PreTrainedTokenizerFast:
    if not (folder / "tokenizer.json").exists():
        made = train_tokenizer(sample_texts(settings.seed, settings.tokenizer_texts), settings.vocab_size)
        part = folder.with_suffix(".part")
        made.save_pretrained(part)
        os.replace(part, folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _checkpoints(out: Path) -> Iterator[tuple[int, Path]]:
    for folder in out.glob("step-*"):
        if folder.suffix != ".part":
            yield int(folder.name.split("-")[1]), folder


def _newest(out: Path) -> Path:
    return max(_checkpoints(out))[1]


def _save(
    out: Path,
    settings: Settings,
    model: LlamaForCausalLM,
    optimizer: _Optimizers,
    tokenizer: PreTrainedTokenizerFast,
    state: dict[str, float],
) -> None:
    """A complete model folder plus the optimizer; renamed into place, then the older one is removed."""
    final = out / f"step-{int(state['step'])}"
    part = final.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    save_file(optimizer.moments(), part / "optimizer.safetensors")
    (part / "state.json").write_text(json.dumps(state | {"settings": asdict(settings)}), encoding="utf-8")
    for file in part.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    older = [folder for _, folder in _checkpoints(out)]
    os.replace(part, final)
    for folder in older:
        if folder != final:
            shutil.rmtree(folder)


def _resume(
    out: Path, settings: Settings, model: LlamaForCausalLM, optimizer: _Optimizers
) -> tuple[int, int, float, float]:
    """(step, tokens, seconds, progress) of the newest checkpoint, after loading it; zeros if there is none."""
    if not list(_checkpoints(out)):
        return 0, 0, 0.0, 0.0
    folder = _newest(out)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    here = json.loads(json.dumps(asdict(settings)))
    if state["settings"] != here:
        changed = {k: (v, here.get(k)) for k, v in state["settings"].items() if v != here.get(k)}
        raise SystemExit(f"{folder} was made with other settings (there, here): {changed}; use another --out")
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    model.tie_weights()
    optimizer.load(load_file(folder / "optimizer.safetensors"))
    return int(state["step"]), int(state["tokens"]), state["seconds"], state["progress"]


def install(folder: Path) -> None:
    """Copy a finished model's files into the package."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.name not in ("optimizer.safetensors", "state.json"):
            # Renamed into place: another process may have the old weights mapped.
            part = INSTALLED / f"{file.name}.part"
            shutil.copyfile(file, part)
            os.replace(part, INSTALLED / file.name)


if __name__ == "__main__":
    main()

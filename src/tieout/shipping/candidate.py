"""The candidate: adapter, merged model and card, loaded again from disk and compared with what the policy did.

It is in the `candidate/` of a run folder, which appears by a rename, whole and with a manifest, or not at all:

    adapter/        PEFT's format; names its base so that it is found elsewhere. Not there after full fine-tuning
    merged/         the whole model with the adapter folded in: weights, tokenizer, chat template, generation config;
                    for an adapter trained over 4 bits only if asked, with its difference from the policy on the card
    README.md       the card
    card.json       what the card was made from, and what the check found
    manifest.json   name -> SHA-256 of every other file
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from ..config.fields import to_plain
from ..errors import TieoutError
from ..learner import load
from ..learner.models.base_record import FILE as BASE_RECORD
from ..learner.models.bases import Bases
from ..learner.models.gguf_files import rounding_of
from ..learner.models.loading import parameters_of
from ..learner.models.names import only_here, portable, resolve
from ..storage.atomic import MANIFEST, appearing, sha256, write_json
from ..storage.jsonl import read_json
from .card import Card, card_of, render
from .how_to_load import lora_of
from .merged_check import MergeError, check_weights, fits
from .reload_check import (
    TOLERANCES,
    Behaviour,
    BehaviourError,
    Difference,
    compare,
    difference,
    in_fp32,
    load_part,
)

LARGE = 1_000_000_000
"""A base with more parameters is not copied into a merged model unless that is asked for."""
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt",
)  # fmt: skip
"""What a tokenizer may be saved as."""
MERGED_FILES = ("config.json", "generation_config.json", "tokenizer_config.json")
"""Without one of these a program that loads the model guesses: its defaults, its stop tokens."""


class ShippingError(TieoutError, RuntimeError):
    """The candidate is not what was trained, or may not be shipped. Nothing was shipped."""


@dataclass(frozen=True)
class Check:
    """What was found when the candidate was loaded again."""

    dtype: str
    tolerance: float
    """Nats that a log-probability was allowed to differ by."""
    prompts: int
    tokens: int
    worst: dict[str, float]
    """`adapter`, `merged` -> largest difference of a log-probability, in nats."""
    near_ties: int
    """Greedy outputs that went another way where the policy's two best tokens were within twice the tolerance."""
    unmatched: Difference | None = None
    """Of a merged model in full precision from the policy over 4 bits: measured, and held to no tolerance."""
    noise: float | None = None
    """Of a merged model in 16 bits: what rounding does to the policy itself, at the worst token; the tolerance is a
    multiple of it, and the difference is that from the policy in fp32."""


@dataclass(frozen=True)
class Candidate:
    """A folder that may be shipped once the verdict says so."""

    folder: Path
    check: Check


# ---------------------------------------------------------------- the candidate


def prepare(
    adapter: Path,
    base: str,
    folder: Path,
    *,
    policy: Behaviour,
    report: Mapping[str, Any],
    card: Card | None = None,
    device: str | None = None,
    four_bits: bool = False,
    merged: bool | None = None,
    bases: Bases | None = None,
    measure: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Candidate:
    """Build the candidate, load it again, and compare it with the policy. The folder appears only if all agrees.

    Args:
        adapter: what training saved: a PEFT adapter, or the whole model after full fine-tuning.
        base: hub id, folder or embedded name of the model that was trained.
        folder: where the candidate goes; an older one there is removed first.
        policy: what `observe` saw the trained policy do.
        report: the evidence report.
        card: the words of the model card; made from the report's metadata if None.
        device: to load on; cuda if there is one, else cpu, if None.
        four_bits: the adapter was trained over a base in 4 bits.
        merged: write the merged model too; if None, unless `four_bits`, or the base has more than LARGE parameters.
        bases: holds the base that merging may use up; the check loads its own.
        measure: what else to record of a merged model that need not agree with the policy, from its folder.

    Raises:
        ShippingError: part, prompt, token and difference. Nothing is left behind.
    """
    shutil.rmtree(folder, ignore_errors=True)  # never ship an older candidate by mistake
    with appearing(folder) as aside:
        without = _why_not_merged(base, four_bits) if merged is None else "as was asked"
        whole = not without if merged is None else merged
        build(adapter, base, aside, policy, device, whole, bases)
        if bases is not None:
            bases.clear()  # merged into, or in the way of the fresh ones
        found = check(aside, policy, device, four_bits)
        parts = parts_of(aside)
        more = dict(measure(aside / "merged")) if measure and found.unmatched else {}
        facts = {
            "base": portable(base),
            "hub_id": _hub_id(base),
            "embedded": only_here(portable(base)),
            "rounding": rounding_of(Path(resolve(base)[1])),
            "parts": parts,
            "megabytes": {part: _megabytes(aside / part) for part in parts},
            "check": to_plain(found),
            "four_bits": four_bits,
            "lora": lora_of(aside / "adapter", four_bits, only_here(portable(base)))
            if "adapter" in parts
            else {},
            "not_merged": not_merged(without) if "merged" not in parts else None,
            "merged_difference": {**to_plain(found.unmatched), **more} if found.unmatched else None,
        }
        words = card or card_of(report, portable(base))
        write_json(aside / "card.json", {"card": words, "facts": facts})
        (aside / "README.md").write_text(render(words, facts, report), encoding="utf-8")
    return Candidate(folder, found)


def _why_not_merged(base: str, four_bits: bool) -> str:
    """Why the merged model is left out unless asked for; empty if it is not."""
    if four_bits:
        return "over a base in full precision the adapter is another model"
    count = parameters_of(base)
    return f"the base has {count / 1e9:.1f} billion parameters" if count > LARGE else ""


def not_merged(why: str) -> str:
    """The card's line on why there is no merged copy."""
    return f"Without a merged copy ({why}): load the adapter on its base. `merged: true` of the ship stage writes one."


def build(
    adapter: Path,
    base: str,
    folder: Path,
    policy: Behaviour,
    device: str | None,
    merged: bool,
    bases: Bases | None,
) -> None:
    """Write adapter/, and merged/ if asked; after full fine-tuning there is only that."""
    dtype = getattr(torch, policy.dtype)
    if (adapter / "adapter_config.json").exists():
        (folder / "adapter").mkdir()
        for name in ADAPTER_FILES:
            if not (adapter / name).exists():
                raise ShippingError(f"{adapter} has no {name}; expected a PEFT adapter in safetensors")
            shutil.copyfile(adapter / name, folder / "adapter" / name)
        for name in TOKENIZER_FILES:
            if (adapter / name).exists():
                shutil.copyfile(adapter / name, folder / "adapter" / name)
        config = json.loads((adapter / "adapter_config.json").read_text())
        config |= {"base_model_name_or_path": portable(base), "inference_mode": True}
        if (adapter / BASE_RECORD).exists():
            known = read_json(adapter / BASE_RECORD)
            write_json(folder / "adapter" / BASE_RECORD, {**known, "base": portable(base)})
        for key in ("target_modules", "target_parameters"):  # PEFT writes sets, in any order
            if isinstance(config.get(key), list):
                config[key] = sorted(config[key])
        (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
        if not merged:
            return
        model = load(base, start=adapter, dtype=dtype, device=device, bases=bases)
        try:
            network = model.network.merge_and_unload(safe_merge=True)
        except (ValueError, RuntimeError) as error:  # NaN or inf in the merged weights; biases the base lacks
            raise ShippingError(f"{adapter} cannot be merged into {base}: {error}") from error
    else:
        model = load(str(adapter), dtype=dtype, device=device)
        network = model.network
    generation = network.generation_config
    generation.eos_token_id, generation.pad_token_id = policy.stop_tokens, model.tokenizer.pad_token_id
    generation._from_model_config = False  # or generate() may derive it from config.json again
    network.save_pretrained(str(folder / "merged"))
    model.tokenizer.save_pretrained(str(folder / "merged"))


def _hub_id(base: str) -> str | None:
    name = portable(base)
    return None if only_here(name) or Path(name).exists() else name


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


# ---------------------------------------------------------------- the check


def check(folder: Path, policy: Behaviour, device: str | None = None, four_bits: bool = False) -> Check:
    """Load each part of a candidate from disk and compare it with the policy. ShippingError: what differs.

    A merged model next to an adapter over 4 bits is another model: it is measured, and not refused.
    """
    parts, unmatched = parts_of(folder), None
    worst, near_ties = dict[str, float](), 0
    trained, exact = None, None
    if "merged" in parts:
        _check_merged_files(folder, policy)
    try:
        for part in parts:
            if four_bits and part == "merged":
                unmatched = difference(folder / part, policy, device=device)
                continue
            loaded = load_part(folder / part, policy, device, four_bits)
            if part == "merged" and trained is not None:
                check_weights(trained, loaded[0])
                trained = None
            worst[part], ties = compare(folder / part, policy, loaded=loaded, exact=exact)
            near_ties += ties
            if part == "adapter" and "merged" in parts and policy.dtype != "float32" and not four_bits:
                trained = loaded[0]
                exact = in_fp32(trained, policy) if fits(trained) else None
            del loaded
    except BehaviourError as error:
        raise ShippingError(str(error)) from error
    except MergeError as error:
        raise ShippingError(f"merged/, {error}") from error
    tokens = sum(len(example.tokens) for example in policy.examples)
    tolerance = exact.allowed[0] if exact else TOLERANCES[policy.dtype][0]
    noise = exact.noise if exact else None
    return Check(policy.dtype, tolerance, len(policy.examples), tokens, worst, near_ties, unmatched, noise)


def _check_merged_files(folder: Path, policy: Behaviour) -> None:
    for name in MERGED_FILES:
        if not (folder / "merged" / name).exists():
            raise ShippingError(f"merged/{name} is missing")
    stops = GenerationConfig.from_pretrained(str(folder / "merged")).eos_token_id
    if set(stops if isinstance(stops, list) else [stops]) != set(policy.stop_tokens):
        raise ShippingError(
            f"merged/generation_config.json: eos_token_id is {stops}; the policy stops at {policy.stop_tokens}"
        )


def parts_of(folder: Path) -> list[str]:
    """`adapter` (not after full fine-tuning) and `merged` (unless left out): those that are there."""
    found = [part for part in ("adapter", "merged") if (folder / part).exists()]
    return found or ["merged"]


def altered(folder: Path) -> list[str]:
    """How a candidate or shipped folder differs from its manifest, a line a file; none: it is whole."""
    if not (folder / MANIFEST).exists():
        return [f"{folder / MANIFEST} is missing"]
    manifest = read_json(folder / MANIFEST)
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST}
    lines = [f"{name} is missing" for name in sorted(manifest.keys() - there)]
    lines += [f"{name} is not in the manifest" for name in sorted(there - manifest.keys())]
    both = sorted(there & manifest.keys())
    return lines + [f"{name} was changed" for name in both if sha256(folder / name) != manifest[name]]

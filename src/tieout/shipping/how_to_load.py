"""How a shipped or merged model is loaded and served: transformers, PEFT, vLLM, llama.cpp. Text only."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's --max-lora-rank."""


def loading(facts: Mapping[str, Any], title: str) -> str:
    """The section of the card. `facts`: as `candidate.prepare` found them; `title`: what a server calls the model."""
    name = _served_as(title)
    parts = ["## How to load it"]
    if "merged" in facts["parts"]:
        parts += [
            f"`merged/` is the whole model ({facts['megabytes']['merged']:.1f} MB), for any program that reads "
            "transformers folders:",
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'tokenizer = AutoTokenizer.from_pretrained("merged")\n'
            'model = AutoModelForCausalLM.from_pretrained("merged")\n```',
            "Served by vLLM, or converted to GGUF for llama.cpp, whose converter knows most architectures and "
            "tokenizers of the Hub:",
            f"```sh\n{serve_merged('merged', name)}\n{to_gguf('merged', name)}\n```",
        ]
    if facts.get("not_merged"):
        parts.append(facts["not_merged"])
    if "adapter" in facts["parts"]:
        size = f"{facts['megabytes']['adapter']:.1f} MB"
        parts += [
            f"`adapter/` is the difference to the base ({size}), in PEFT's format, with tokenizer and chat template:",
            f"```python\n{_adapter_code(facts)}\n```",
        ]
        if line := serve_adapter("adapter", facts["base"], name, facts.get("lora") or {}):
            parts += ["Served by vLLM on its base:", f"```sh\n{line}\n```"]
    return "\n\n".join(parts)


def lora_of(adapter: Path, four_bits: bool, embedded: bool) -> dict[str, Any]:
    """What serving an adapter depends on; empty if vLLM cannot: DoRA, whole modules, a base that it cannot load."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    refused = config.get("use_dora") or config.get("modules_to_save") or config.get("bias", "none") != "none"
    if refused or four_bits or embedded:
        return {}
    return {"rank": max([config["r"], *config.get("rank_pattern", {}).values()])}


def serve_merged(folder: str, name: str) -> str:
    """vLLM's command for a whole model.

    >>> serve_merged("merged", "mine")
    'vllm serve merged --served-model-name mine'
    """
    return f"vllm serve {shlex.quote(folder)} --served-model-name {name}"


def serve_adapter(folder: str, base: str, name: str, lora: Mapping[str, Any]) -> str:
    """vLLM's command for an adapter on its base; empty if it cannot serve that.

    >>> serve_adapter("adapter", "Qwen/Qwen3-0.6B", "mine", {"rank": 12})
    'vllm serve Qwen/Qwen3-0.6B --enable-lora --max-lora-rank 16 --lora-modules mine=adapter'
    """
    rank = next((rank for rank in RANKS if rank >= lora.get("rank", RANKS[-1] + 1)), None)
    if rank is None:
        return ""
    how = f"--enable-lora --max-lora-rank {rank} --lora-modules {name}={shlex.quote(folder)}"
    return f"vllm serve {shlex.quote(base)} {how}"


def to_gguf(folder: str, name: str) -> str:
    """llama.cpp's command that converts a whole model.

    >>> to_gguf("merged", "mine")
    'python llama.cpp/convert_hf_to_gguf.py merged --outfile mine.gguf'
    """
    return f"python llama.cpp/convert_hf_to_gguf.py {shlex.quote(folder)} --outfile {name}.gguf"


def _served_as(title: str) -> str:
    """A title as a name that needs no quotes."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in title)


def _adapter_code(facts: Mapping[str, Any]) -> str:
    if facts["embedded"]:
        four_bits = ", four_bits=True" if facts.get("four_bits") else ""
        return f'from tieout.learner import load\n\nmodel = load("adapter"{four_bits}).network'
    names, options = "AutoModelForCausalLM, AutoTokenizer", ""
    if facts.get("four_bits"):
        names = "AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig"
        kind = 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True'
        options = f", quantization_config=BitsAndBytesConfig({kind})"
    return (
        f"from peft import PeftModel\nfrom transformers import {names}\n\n"
        f'base = AutoModelForCausalLM.from_pretrained("{facts["base"]}"{options})\n'
        'model = PeftModel.from_pretrained(base, "adapter")\n'
        'tokenizer = AutoTokenizer.from_pretrained("adapter")'
    )

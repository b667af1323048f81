"""Families of models, by name or by the folder a model lies in: a judge prefers the writing of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

FAMILIES = (
    "chatgpt", "claude", "codestral", "command", "davinci", "deepseek", "devstral", "gemini", "gemma", "glm",
    "gpt-oss", "gpt", "granite", "grok", "haiku", "kimi", "llama", "magistral", "ministral", "mistral", "mixtral",
    "nemotron", "olmo", "opus", "phi", "pixtral", "qwen", "qwq", "smollm", "sonnet", "tieout", "tulu", "vicuna", "yi",
    "zephyr",
)  # fmt: skip
"""Names of model families, as they occur in the names of models."""

_SAME = {
    "chatgpt": "gpt", "davinci": "gpt", "gpt-oss": "gpt", "gemma": "gemini", "haiku": "claude", "opus": "claude",
    "sonnet": "claude", "codestral": "mistral", "devstral": "mistral", "magistral": "mistral", "ministral": "mistral",
    "mixtral": "mistral", "pixtral": "mistral", "zephyr": "mistral", "qwq": "qwen", "tulu": "llama", "vicuna": "llama",
}  # fmt: skip
_REASONING = re.compile(r"(?<![a-z0-9])o[134](?![a-z0-9.])")
"""o1, o3-mini, o4-mini: OpenAI's, which say no family."""


def family(model: str) -> str | None:
    """The family that a model's name names, such as `qwen` for Qwen/Qwen3-8B; None if it names none.

    >>> family("org/Meta-Llama-3-8B-Instruct"), family("chatgpt-4o-latest"), family("o3-mini"), family("my-model")
    ('llama', 'gpt', 'gpt', None)
    """
    name = model.lower()
    found = next(
        (f for f in sorted(FAMILIES, key=len, reverse=True) if re.search(rf"(?<![a-z]){f}", name)), None
    )
    if found is None and _REASONING.search(name):
        return "gpt"
    return _SAME.get(found, found) if found else None


def family_of_model(model: str) -> str | None:
    """The family of a model by its hub id, or of a folder by its configuration: the base of an adapter, its type."""
    folder = Path(model)
    for file, keys in (
        ("adapter_config.json", ("base_model_name_or_path",)),
        ("config.json", ("_name_or_path", "model_type")),
    ):
        path = folder / file
        if path.is_file():
            config = json.loads(path.read_text("utf-8"))
            for key in keys:
                if (name := str(config.get(key) or "")) and (found := family_of_model(name)):
                    return found
    return family(folder.name if folder.is_dir() else model)

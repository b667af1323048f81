"""GGUF files, as llama.cpp reads them: converted once into a folder of safetensors that everything else can load."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from ...errors import InputError
from ...storage.atomic import appearing, write_json
from ...storage.identity import file_digest
from ...storage.jsonl import read_json
from .gguf_header import Header

FORMAT = 1
"""Of the conversion; folders of another one are made again."""
RECORD = "conversion.json"
"""In the folder: what it was made from, and what the check found."""
WORST = 0.05
"""Nats that rounding to 16 bits may move the log-probability of a token by."""
TEXT = (
    "The annual report is the most important document that a public company publishes. In 2023, net revenue rose by "
    "12.4% to $1,305.6 million, while operating expenses fell from 418.2 to 397.9. Shareholders asked why the dividend "
    'was not raised; the board answered: "We would rather repay our debt first." Water boils at 100 degrees Celsius, '
    "and Paris is the capital of France.\n\ndef total(items):\n    return sum(item.amount for item in items)\n"
)
"""What the weights are compared on: prose, figures, a quotation, code."""
_SAID: set[Path] = set()


def cache_folder() -> Path:
    """Where converted models lie: `$TIEOUT_CACHE`, else `tieout` in `$XDG_CACHE_HOME` or in `~/.cache`."""
    own = os.environ.get("TIEOUT_CACHE")
    return Path(own or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tieout").expanduser()


def folder_of(stem: str, digest: str) -> Path:
    """The folder that a file of this name and SHA-256 is converted into; it may not be there yet."""
    return cache_folder() / "gguf" / f"{stem}-{digest[:12]}-{FORMAT}"


def converted(file: Path) -> Path:
    """The folder made of a GGUF file, now or earlier. InputError: the file, or its architecture, cannot be read."""
    if not file.is_file():
        raise InputError(f"GGUF file {file} does not exist; give the path of a file on this machine")
    folder = folder_of(file.stem, file_digest(file))
    if not folder.is_dir():
        with _alone(folder):
            if not folder.is_dir():
                _convert(file, folder)
    say_once(folder)
    return folder


def say_once(folder: Path) -> None:
    """Tell once that the weights are not those that the model was published with."""
    if folder not in _SAID:
        _SAID.add(folder)
        if (note := rounding_of(folder)) and int(os.environ.get("RANK", "0")) == 0:
            print(note, file=sys.stderr)


def rounding_of(folder: Path) -> str:
    """A sentence on the precision of the weights in a converted folder; empty if they were not rounded."""
    if not (folder / RECORD).is_file():
        return ""
    made = read_json(folder / RECORD)
    if made["bits"] >= 16:
        return ""
    return (
        f"{made['file']}: the weights are rounded to {made['bits']} bits ({made['type']}), so this is another model "
        "than the one that was published"
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: the ranks of a launch all ask for the model at once. InputError: it cannot be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f"{folder.name}.lock").open("w")
    except OSError as error:
        raise InputError(
            f"{folder.parent}, where GGUF files are converted, cannot be written ({error.strerror}): set TIEOUT_CACHE "
            "to a folder that can"
        ) from error
    with lock as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(file: Path, folder: Path) -> None:
    print(f"converting {file.name} to safetensors, once, into {folder}", file=sys.stderr)
    header = Header(file)
    header.refuse_unreadable()
    with _quiet(), appearing(folder) as aside:
        network, tokenizer = _read(file, header)
        tokens = tokenizer(TEXT, return_tensors="pt")["input_ids"]
        before = _logprobs(network, tokens)
        dtype = torch.float16
        if not all(w.to(dtype).isfinite().all() for w in network.state_dict().values()):
            dtype = torch.float32  # beyond the range of 16 bits
        network.to(dtype).save_pretrained(str(aside))
        tokenizer.save_pretrained(str(aside))
        del network
        found = _difference(before, _logprobs(_load(aside), tokens), tokens)
        if not found["worst"] <= WORST:
            raise InputError(
                f"{file}: in {dtype} a log-probability differs by {found['worst']:.3f} nats from that of the file's "
                f"weights, more than {WORST}; please report this"
            )
        kind, bits = header.rounded_to
        record: dict[str, Any] = {
            "file": file.name,
            "sha256": file_digest(file),
            "architecture": header.architecture,
        }
        record |= {
            "type": kind,
            "bits": bits,
            "license": header.keys.get("general.license"),
            "format": FORMAT,
        }
        write_json(aside / RECORD, {**record, "dtype": str(dtype).removeprefix("torch."), "check": found})


def _read(file: Path, header: Header) -> tuple[Any, Any]:
    """The network in fp32 and the tokenizer. InputError: transformers cannot read them, or not all of them."""
    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(file.resolve().parent),
        "gguf_file": file.resolve().name,
    }
    try:
        config = AutoConfig.from_pretrained(**place)
        header.mend_config(config)
        tokenizer = AutoTokenizer.from_pretrained(**place)
        options = {"config": config, "dtype": torch.float32, "output_loading_info": True}
        network, missing = AutoModelForCausalLM.from_pretrained(**place, **options)
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        KeyError,
        TypeError,
        ImportError,
    ) as error:
        raise InputError(
            f"transformers cannot read {file}, a GGUF file of architecture {header.architecture!r}, as a causal "
            f"language model ({error})"
        ) from error
    header.refuse_left_out(network, missing)
    header.mend_tokenizer(tokenizer)
    return _plain(network), tokenizer


def _plain(network: Any) -> Any:
    """The same network without a trace of what it was read from: transformers saves none that came from GGUF."""
    left_out = ("quantization_config", "_model_name_or_path", "_name_or_path")
    settings = {k: v for k, v in network.config.to_dict().items() if k not in left_out}
    config = type(network.config).from_dict(settings)
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(network.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = network.generation_config
    return plain.eval()


def _load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, use_safetensors=True).eval()


@torch.no_grad()
def _logprobs(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """[T-1, V]"""
    return network(tokens).logits[0, :-1].float().log_softmax(-1)


def _difference(before: torch.Tensor, after: torch.Tensor, tokens: torch.Tensor) -> dict[str, float]:
    """How far two models are from each other on the tokens of a text: nats, and the share of equal best tokens."""
    apart = (after - before).gather(-1, tokens[0, 1:, None]).abs()
    same = (before.argmax(-1) == after.argmax(-1)).float().mean()
    return {
        "tokens": len(apart),
        "worst": float(apart.max()),
        "mean": float(apart.mean()),
        "top1": float(same),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' advice, and without its bars but that of the conversion."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

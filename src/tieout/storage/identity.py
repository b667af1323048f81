"""Identity of a run: the plain values that decide its numbers, and the one comparison before anything is resumed.

run.json, the markers of stages and checkpoints all hold an identity. Files and folders are in it by content, so that
moving or renaming them changes nothing; where a run computes is not in it at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..config.plain import changes, to_plain
from ..errors import InputError
from .atomic import MANIFEST, sha256

GROWS = "epochs"
"""The one key whose value may become larger: a run is then continued for longer."""
REASONS = ("override", "reward_model_override")
"""Keys of reasons: giving one lets a run continue that was stopped, and decides no number."""

WEIGHTS = (".safetensors", ".bin", ".pt")
SETTINGS = (".json", ".jinja", ".model", ".txt")
NO_SETTINGS = ("trainer_state.json", "requirements.txt", "LICENSE.txt", "license.txt")


class Known(dict[str, Any]):
    """An identity, with what its options are if nobody sets them.

    A run of an earlier version has no value of an option that came later. Where the option has its default now, the
    run is the same.
    """

    def __init__(self, values: Mapping[str, Any], usual: Any) -> None:
        """
        Args:
            values: the identity.
            usual: defaults of its options, in the same form; what is no option is left out.
        """
        super().__init__(values)
        self.usual = usual


def as_stored(value: Any) -> Any:
    """Plain values as they come back from a JSON file: tuples become lists, keys become text."""
    stored = json.loads(json.dumps(to_plain(value)))
    return Known(stored, as_stored(value.usual)) if isinstance(value, Known) else stored


def differences(was: Any, now: Any) -> list[str]:
    """`key: was -> is` for every value that keeps `now` from resuming `was`.

    More epochs and `REASONS` are none, nor are options that `was` does not know and that have their default.
    """
    return changes(completed(was, now), _without_growth(was, now))


def completed(was: Any, now: Any) -> Any:
    """`was` with the options that it does not know, where they have their default in `now`."""
    return _completed(was, now, now.usual) if isinstance(now, Known) and was is not None else was


def _completed(was: Any, now: Any, usual: Any) -> Any:
    if isinstance(was, Mapping) and isinstance(now, Mapping) and isinstance(usual, Mapping):
        own = {key: _completed(value, now.get(key), usual.get(key)) for key, value in was.items()}
        new = {key: usual[key] for key in now if key not in was and key in usual and usual[key] == now[key]}
        return own | new
    lists = isinstance(was, list) and isinstance(now, list) and isinstance(usual, list)
    if lists and len(was) == len(now) == len(usual):
        return [_completed(*each) for each in zip(was, now, usual, strict=True)]
    return was


def refuse_changes(lines: Sequence[str], place: str | Path, error: type[InputError] = InputError) -> None:
    """InputError that lists what was and what is, if there are `differences` from the run that `place` holds."""
    if lines:
        listed = "\n  ".join(lines)
        raise error(
            f"{place} is of another run; what changed (was -> is):\n  {listed}\n"
            "repeat the old values, or use another --out"
        )


def _without_growth(was: Any, now: Any) -> Any:
    """`now` with the old value wherever `epochs` grew, or a reason was given."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        return {
            key: was[key]
            if key in was and (key in REASONS or (key == GROWS and _grew(was[key], value)))
            else _without_growth(was.get(key), value)
            for key, value in now.items()
        }
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [_without_growth(old, new) for old, new in zip(was, now, strict=True)]
    return now


def _grew(was: Any, now: Any) -> bool:
    return isinstance(was, int | float) and isinstance(now, int | float) and now >= was


def known_model(name: str) -> str:
    """What a model is known by: a folder or GGUF file by the digest of its content, a hub id or own name as such."""
    folder = Path(name).expanduser()
    if name.lower().endswith(".gguf") and folder.is_file():
        return file_digest(folder)
    if name and any((folder / config).is_file() for config in ("config.json", "adapter_config.json")):
        return folder_digest(folder)
    return name


def folder_digest(folder: Path) -> str:
    """Digest of a model or adapter, wherever it lies: of its manifest, or of its weights, settings and tokenizer."""
    if _manifest(folder):
        return sha256(folder / MANIFEST)
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and _counts(p)]
    if not files:
        raise InputError(f"{folder} holds no model and no adapter: it has no weights and no settings")
    return hashlib.sha256(
        "".join(f"{path.name} {file_digest(path)}\n" for path in files).encode()
    ).hexdigest()


def changed_files(folder: Path) -> list[str]:
    """Weights and settings that are not what the manifest next to them was written for; none without a manifest.

    A `manifest.json` of another program, which names no SHA-256, is none. One that is empty or no JSON is named itself.
    """
    try:
        manifest = _manifest(folder)
    except ValueError:
        return [MANIFEST]
    named = [name for name in manifest if _counts(folder / name)]
    return [name for name in named if not _is(folder / name, manifest[name])]


def _manifest(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of a sealed folder; empty for any other. ValueError: it is empty or no JSON."""
    if not (folder / MANIFEST).is_file():
        return {}
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest == {}:
        raise ValueError
    ours = isinstance(manifest, dict) and any(len(str(digest)) == 64 for digest in manifest.values())
    return manifest if ours else {}


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def file_digest(path: Path) -> str:
    """SHA-256 of a file, computed once unless it is another file, or its size or time changes."""
    found = path.stat()
    return _digest(path.absolute(), (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


def _counts(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and path.suffix in (*WEIGHTS, *SETTINGS) and path.name not in NO_SETTINGS


@lru_cache(maxsize=4096)  # more than the files of the package, which each stage and report asks for
def _digest(path: Path, _state: tuple[int, ...]) -> str:
    return sha256(path)

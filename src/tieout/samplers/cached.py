"""Cache of completions in a file, keyed by request, for judges and repeated evaluations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..storage.atomic import fingerprint, sync
from ..storage.jsonl import append_jsonl
from ..types import Messages, Prompt
from . import Sampler, SamplingParams
from .api import IncompleteError


class CachedSampler:
    """A Sampler with a cache. Completions are written as they arrive, also when other requests of the call fail."""

    def __init__(self, sampler: Sampler, path: Path, name: str) -> None:
        """
        Args:
            sampler: for requests that are not in the file.
            path: JSON lines of {"key", "completion"}; made if it is not there. A torn last line is left out,
                and dropped by the next write.
            name: of the model, part of the key.
        """
        self.sampler, self.path, self.name = sampler, path, name
        self.hits = self.misses = 0
        self._known: dict[str, str] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                row = json.loads(line)
                self._known[row["key"]] = row["completion"]

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt. A prompt asked twice in one call is answered once unless it is sampled."""
        keys = [self._key(prompt, params, i) for i, prompt in enumerate(prompts)]
        missing: dict[str, int] = {}
        for i, key in enumerate(keys):
            if key not in self._known:
                missing.setdefault(key, i)
        self.hits, self.misses = self.hits + len(keys) - len(missing), self.misses + len(missing)
        reasons: dict[str, str] = {}
        if missing:
            asked = [prompts[i] for i in missing.values()]
            try:
                answers: Sequence[str | None] = self.sampler.complete(asked, params)
            except IncompleteError as error:
                answers = error.completions
                reasons = {key: error.reasons[n] for n, key in enumerate(missing) if n in error.reasons}
            self._keep({key: text for key, text in zip(missing, answers, strict=True) if text is not None})
        if reasons:
            raise IncompleteError(
                [self._known.get(key) for key in keys],
                {i: reasons[key] for i, key in enumerate(keys) if key in reasons},
            )
        return [self._known[key] for key in keys]

    def _keep(self, answers: dict[str, str]) -> None:
        self._known.update(answers)
        append_jsonl(self.path, [{"key": key, "completion": text} for key, text in answers.items()])
        sync(self.path)

    def _key(self, prompt: Prompt, params: SamplingParams, index: int) -> str:
        """At temperature 0 the place in the call does not matter; above it, sample i has a key of its own."""
        plain = prompt if isinstance(prompt, str) else [dict(message) for message in prompt]
        place = index if params.temperature else None
        key = {"model": self.name, "prompt": plain, "params": asdict(params), "place": place}
        told = dict(prompt.told) if isinstance(prompt, Messages) else {}
        return fingerprint({**key, **({"told": told} if told else {})})

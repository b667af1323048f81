"""Drafts: guesses of a row's next tokens, which one forward checks together.

With one random number per (stream, position) a token is a function of its prefix. So the tokens of a guess can be
computed in one forward, each sampled with its own number, and kept as far as they agree with the guess: completions are
the same, token for token, with or without drafts, but for a number that lies within rounding of the border between two
tokens (https://arxiv.org/abs/2304.04487 copies spans of the prompt so, https://arxiv.org/abs/2211.17192 is the general
method). Here a guess is what followed the longest matching run of tokens in the prompt and in its other completions.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .pace import Pace
from .sampling import Request

LONGEST, SHORTEST = 6, 2
"""Tokens of a run that are compared, and that must agree."""
CONSIDERED = 16
"""Places of a run, at most."""
MOST = 12
"""Tokens of a draft."""


@dataclass
class DraftCounts:
    """What drafts have done."""

    row_steps: int = 0
    """Forwards, each counted once for every row in it."""
    tokens: int = 0
    """Tokens that came out of them."""
    drafted: int = 0
    accepted: int = 0

    def add(self, other: DraftCounts) -> None:
        """Count the other's too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def tokens_per_step(self) -> float:
        """Of one row: 1 without drafts."""
        return self.tokens / self.row_steps if self.row_steps else 1.0


class Continuations:
    """Where each pair of tokens stands in the texts of one prompt, and so what followed it."""

    def __init__(self, prompt: Sequence[int], hints: Sequence[Sequence[int]] = ()) -> None:
        self.places: dict[tuple[int, int], list[tuple[list[int], int]]] = {}
        """Pair -> (text, position after the pair), oldest first."""
        self.start = list(prompt[-LONGEST:])
        """With it the text of a completion begins."""
        self.learn(list(prompt), SHORTEST)
        for completion in hints:
            self.learn([*self.start, *completion], len(self.start))

    def learn(self, text: list[int], first: int) -> None:
        """Take up the tokens of a text from position `first` on; the text may grow."""
        for i in range(max(first, SHORTEST), len(text)):
            self.places.setdefault((text[i - 2], text[i - 1]), []).append((text, i))

    def guess(self, text: Sequence[int], most: int) -> tuple[list[int], list[int]]:
        """What may come next, up to `most` tokens, and for each how long a run of tokens it follows."""
        tokens, runs, tail = list[int](), list[int](), list(text[-LONGEST:])
        while len(tokens) < most:
            following, run = self._longest(tail, most - len(tokens))
            if not following:
                break
            tokens += following
            runs += range(run, run + len(following))
            tail = [*tail, *following][-LONGEST:]
        return tokens, runs

    def _longest(self, tail: list[int], most: int) -> tuple[list[int], int]:
        """What followed the longest run that ends like `tail`; of equal ones, the one with most after it."""
        found: tuple[int, int] = (0, 0)
        best: list[int] = []
        for text, i in reversed(
            self.places.get((tail[-2], tail[-1]), ())[-CONSIDERED:] if len(tail) > 1 else ()
        ):
            run = SHORTEST
            while run < min(len(tail), i) and text[i - 1 - run] == tail[-1 - run]:
                run += 1
            if (rank := (run, min(most, len(text) - i))) > found:
                found, best = rank, text[i : i + most]
                if found == (len(tail), most):
                    break
        return best, found[0]


@dataclass
class Drafts:
    """Drafts of a sampler, over its calls. Tokens alone decide how much to draft, so that a call repeats itself."""

    counts: DraftCounts = field(default_factory=DraftCounts)
    hints: Mapping[tuple[int, ...], Sequence[Sequence[int]]] = field(default_factory=dict)
    """Completions of a prompt to guess from in addition: for a check that knows what will come."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def begin(self, device: str) -> Drafter:
        """Drafts of one decoder."""
        return Drafter(self, Pace(device))

    def count(self, counts: DraftCounts) -> None:
        """Take over what a decoder has done."""
        with self._lock:
            self.counts.add(counts)


class Drafter:
    """Guesses for the rows of one decoder."""

    def __init__(self, drafts: Drafts, pace: Pace) -> None:
        self.drafts, self.pace, self.counts = drafts, pace, DraftCounts()
        self.known: dict[Request, Continuations] = {}
        self.texts: dict[Request, list[int]] = {}
        """Of every live request its completion, after the end of the prompt."""

    def admit(self, prompt: Sequence[int], requests: Sequence[Request]) -> None:
        """Rows that begin: their first tokens are sampled from the prompt."""
        continuations = Continuations(prompt, self.drafts.hints.get(tuple(prompt), ()))
        for request in requests:
            self.known[request] = continuations
            self.texts[request] = list(continuations.start)

    def guess(self, requests: Sequence[Request], max_new_tokens: int) -> list[list[int]]:
        """The drafts of a step, one per request; all empty where they would not pay."""
        nothing: list[list[int]] = [[] for _ in requests]
        if not self.pace.ready():
            return nothing
        found = [self._guess(r, min(MOST, max_new_tokens - len(r.tokens) - 1)) for r in requests]
        lengths = self.pace.lengths([runs for _, runs in found])
        self.runs = [runs[:length] for (_, runs), length in zip(found, lengths, strict=True)]
        return [tokens[:length] for (tokens, _), length in zip(found, lengths, strict=True)]

    def _guess(self, request: Request, most: int) -> tuple[list[int], list[int]]:
        self._learn(request)
        return self.known[request].guess(self.texts[request], most)

    def _learn(self, request: Request) -> None:
        continuations, text = self.known[request], self.texts[request]
        before = len(text)
        text += request.tokens[before - len(continuations.start) :]
        continuations.learn(text, before)

    def saw(self, drafts: Sequence[list[int]], kept: Sequence[int]) -> None:
        """How many tokens every row has kept, of its draft and one more."""
        drafted = sum(map(len, drafts))
        self.counts.add(DraftCounts(len(kept), sum(kept), drafted, sum(kept) - len(kept)))
        if drafted:
            self.pace.saw(self.runs, kept)

    def end(self) -> None:
        """No row is left."""
        self.drafts.count(self.counts)

    def leave(self, request: Request) -> None:
        """The request has ended; what it said stays known to the others of its prompt."""
        self._learn(request)
        del self.known[request], self.texts[request]

"""A sampler in one file: whatever answers prompts can be evaluated, searched over and compared.

A Sampler has one method, `complete(prompts, params) -> texts`. This one asks another sampler, and asks again when the
line is bad: what is behind it may be a model, a server or an API. (To train on what is sampled, tokens and
log-probabilities are needed too: see PolicySampler in tieout/samplers.)

    python examples/my_sampler.py
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tieout.evidence.evaluate import evaluate
from tieout.rewards.library.exact import exact
from tieout.samplers import Sampler, SamplingParams
from tieout.samplers.mock import MockSampler
from tieout.tasks import Task
from tieout.types import Prompt


class Retrying:
    """Asks again after a failed connection, waiting twice as long each time; the last failure is raised.

    Only the connection is tried again. A completion is never sampled again because it is bad: that would be best-of-N,
    and would report a better model than there is.
    """

    def __init__(self, sampler: Sampler, attempts: int = 3, wait_seconds: float = 1.0) -> None:
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}; it must be at least 1")
        self.sampler, self.attempts, self.wait_seconds = sampler, attempts, wait_seconds

    def complete(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[str]:
        """One completion per prompt."""
        for attempt in range(self.attempts - 1):
            try:
                return self.sampler.complete(prompts, params)
            except (ConnectionError, TimeoutError) as error:
                print(f"attempt {attempt + 1} of {self.attempts} failed: {error}")
                time.sleep(self.wait_seconds * 2**attempt)
        return self.sampler.complete(prompts, params)


def main(wait_seconds: float = 0.1) -> float:
    """Evaluate over a line that fails twice; returns the mean score."""
    failures = iter([ConnectionError("connection reset"), TimeoutError("no answer within 30 s")])

    def answer(prompt: Prompt) -> str:
        for error in failures:
            raise error
        return str(sum(int(number) for number in str(prompt).removesuffix("=").split("+")))

    rows = [{"prompt": f"{a}+{b}=", "answer": a + b} for a in range(3) for b in range(3)]
    task = Task("sums", lambda split: rows, exact)
    cases = evaluate(task, rows, Retrying(MockSampler(answer), wait_seconds=wait_seconds))
    mean = sum(case.score or 0.0 for case in cases) / len(cases)
    print(f"{len(cases)} cases, mean score {mean:.2f}")
    return mean


if __name__ == "__main__":
    main()

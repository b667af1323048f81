"""Search by GEPA (Agrawal et al. 2025): a reflection model reads completions with feedback and rewrites a part.

GEPA chooses parents from the Pareto front of the validation rows, and decides what is kept. It is asked to store
nothing: its own state is a pickle. It is deterministic given scores and proposals, and those are in the journal: begun
again, it goes the same way without a call until something is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from ..errors import InputError
from ..rows.messages import prompt_text
from ..samplers import Sampler, SamplingParams
from ..storage.atomic import fingerprint
from ..types import Answer
from .budget import Budget
from .candidates import Candidate
from .journal import Journal, Scored
from .scoring import Named, Scorer
from .tried import Tried


def check_installed() -> None:
    """InputError: the package is missing."""
    if find_spec("gepa") is None:
        raise InputError(
            "search gepa needs the package gepa: pip install 'tieout[gepa]'; --search plain needs none"
        )


class Reflector:
    """Asks a reflection model for a text, once."""

    def __init__(self, name: str, sampler: Sampler, journal: Journal, max_new_tokens: int, seed: int) -> None:
        self.name, self.sampler, self.journal = name, sampler, journal
        self.max_new_tokens, self.seed = max_new_tokens, seed
        self.asked = self.refused = 0
        """Proposals so far, and those of them that were no new prompt."""

    def __call__(self, prompt: str) -> str:
        """What the model says; empty if it was cut off."""
        self.asked += 1
        key = fingerprint({"model": self.name, "prompt": prompt, "seed": self.seed, "number": self.asked})
        text = self.journal.proposed(key)
        if text is None:
            params = SamplingParams(self.max_new_tokens, temperature=1.0, seed=self.seed + self.asked)
            (said,) = self.sampler.complete([[{"role": "user", "content": prompt}]], params)
            text = "" if isinstance(said, Answer) and said.finish_reason == "length" else str(said)
            self.journal.add_proposal(key, text)
        return text


class _EndedError(BaseException):
    """An error on its way through GEPA, which goes on after any Exception of a proposal."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Adapter:
    """What GEPA asks: scores of a candidate, feedback on completions, and a new text of a part."""

    def __init__(self, seed: Candidate, scorer: Scorer, reflector: Reflector, rows: Sequence[Named]) -> None:
        self.seed, self.scorer, self.reflector, self.rows = seed, scorer, reflector, rows

    def candidate(self, parts: Mapping[str, str]) -> Candidate:
        """A candidate from its parts."""
        return replace(self.seed, parts=dict(parts))

    def evaluate(self, batch: list[Named], candidate: dict[str, str], capture_traces: bool = False) -> Any:
        """GEPA's EvaluationBatch of a candidate on rows."""
        from gepa import EvaluationBatch

        found = self.scorer(self.candidate(candidate), batch)
        traces = list(zip(batch, found, strict=True))
        return EvaluationBatch(
            outputs=[one.completion for one in found],
            scores=[one.score for one in found],
            trajectories=traces if capture_traces else None,
        )

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Part -> what the reflection model is shown of each row: prompt, completion, feedback; no other column."""
        traces: list[tuple[Named, Scored]] = eval_batch.trajectories
        shown = [
            {
                "Inputs": _without(prompt_text(one.row["prompt"]), self.seed.replaces),
                "Generated Outputs": scored.completion,
                "Feedback": scored.feedback,
            }
            for one, scored in traces
        ]
        return {name: [dict(one) for one in shown] for name in components_to_update}

    def propose_new_texts(
        self,
        candidate: dict[str, str],
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> dict[str, str]:
        """Part -> new text, with GEPA's own question; nothing where the reply is none, or does not fit."""
        from gepa.strategies.instruction_proposal import InstructionProposalSignature

        try:
            texts = dict(candidate)
            for name in components_to_update:
                question = InstructionProposalSignature.prompt_renderer(
                    {
                        "current_instruction_doc": candidate[name],
                        "dataset_with_feedback": list(reflective_dataset[name]),
                        "prompt_template": None,
                    }
                )
                reply = self.reflector(str(question)).strip()
                new = InstructionProposalSignature.output_extractor(reply)["new_instruction"]
                texts[name] = new or candidate[name]
            if texts == candidate or self.scorer.unfit(self.candidate(texts), self.rows):
                self.reflector.refused += 1
                return {}
            return {name: texts[name] for name in components_to_update}
        except Exception as error:
            raise _EndedError(error) from error


class _Silent:
    def log(self, message: str) -> None:
        """Nothing: the command says what came of it."""


def search(
    seed: Candidate,
    scorer: Scorer,
    reflector: Reflector,
    train: Sequence[Named],
    validation: Sequence[Named],
    budget: Budget,
    number: int,
) -> list[Tried]:
    """The seed, and every candidate that was tried on the validation rows, in order.

    Args:
        seed: the prompt to begin with; its parts are rewritten in turn, its examples stay.
        scorer: of candidates.
        reflector: what proposes.
        train: rows that the reflection model sees, with completions and feedback.
        validation: rows to choose by; it sees none of them.
        budget: of completions; it is never exceeded.
        number: seed of the choices.
    """
    from gepa import optimize

    adapter = Adapter(seed, scorer, reflector, [*train, *validation])
    top = {} if scorer.best is None else {"perfect_score": scorer.best}
    try:
        found = optimize(
            seed_candidate=dict(seed.parts),
            trainset=list(train),
            valset=list(validation),
            adapter=adapter,
            reflection_minibatch_size=budget.minibatch,
            skip_perfect_score=bool(top),
            **top,
            stop_callbacks=lambda state: state.total_num_evals + budget.step > budget.completions,
            logger=_Silent(),
            track_best_outputs=False,
            seed=number,
        )
    except _EndedError as ended:
        raise ended.error from None
    tried = []
    for parts, parents in zip(found.candidates, found.parents, strict=True):
        candidate = adapter.candidate(parts)
        parent = next((adapter.candidate(found.candidates[i]) for i in parents if i is not None), None)
        changed = [name for name in parts if parent is not None and parts[name] != parent.parts[name]]
        how = f"rewrite {', '.join(changed)}" if parent else "the seed"
        scores = [one.score for one in scorer(candidate, validation)]
        tried.append(Tried(candidate, parent.key if parent else "", how, scores))
    return tried


def _without(text: str, system: str) -> str:
    """A prompt without the system message that the candidate stands in for."""
    return text.removeprefix(system).lstrip("\n") if system else text

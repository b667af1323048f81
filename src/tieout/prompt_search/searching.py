"""One search from its first prompt to the candidates that were tried, by whichever search is asked for."""

from __future__ import annotations

from ..errors import InputError
from . import plain, reflective
from .candidates import Candidate
from .reflective import Reflector
from .scoring import Scorer, named
from .settings import SearchSettings
from .splits import Splits
from .tried import Tried


def tried_by(
    settings: SearchSettings,
    first: Candidate,
    splits: Splits,
    scorer: Scorer,
    reflector: Reflector | None,
    seed: int,
) -> list[Tried]:
    """The first prompt, and every candidate that was tried on the validation rows, in order.

    Args:
        settings: of the search.
        first: the prompt to begin with.
        splits: rows to try on and to choose by.
        scorer: of candidates.
        reflector: what proposes; None: edits and examples.
        seed: of the choices.

    Raises:
        InputError: the first prompt does not fit into the model's context, or a completion has no score.
    """
    train, validation = named("train", splits.train), named("validation", splits.validation)
    if why := scorer.unfit(first, [*train, *validation]):
        raise InputError(f"the prompt to begin with does not fit: {why}")
    budget = settings.budget_for(len(validation))
    if reflector is None:
        return plain.search(first, scorer, train, validation, budget, seed)
    return reflective.search(first, scorer, reflector, train, validation, budget, seed)

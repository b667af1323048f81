"""The teachers of a method: refused where they cannot teach, before any work; then opened next to the student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ..chat.template import Chat
from ..errors import InputError
from ..learner import Learner, Model, load
from ..learner.models.adapters import POLICY, add_frozen, fits_beside, using, without
from ..learner.models.loading import context_of, load_chat
from ..learner.models.names import portable, resolve
from ..learner.models.peft import PeftModel
from ..learner.teachers import Teacher, Teachers
from ..methods import Needs
from ..methods.distill import SELF, START
from ..rows.locations import location, raise_problems
from ..rows.teacher_prompts import check_prompts, prompt_for
from ..samplers.api.opening import is_api
from ..types import Row


def check_teachers(needs: Needs, model: str, rows: Sequence[Row]) -> None:
    """Refuse, without loading weights, teachers and rows with which a student could not be taught.

    Args:
        needs: of the method.
        model: the student, as `load` takes it.
        rows: of the training.

    Raises:
        InputError: there is no teacher; one has another tokenizer or a smaller context than a row takes; a row names
            none of the teachers, or lacks what its teacher's prompt is made of.
    """
    if not needs.taught:
        return
    if not needs.teachers:
        raise InputError(
            "distill needs a teacher: give `teacher` a model or an adapter; or policy or reference, which is the "
            "student itself, with `teacher_prompt`"
        )
    if needs.teacher_column:
        _check_column(needs, rows)
    if needs.teacher_prompt:
        check_prompts(rows, needs.teacher_prompt)
    chat = load_chat(model)
    for name in needs.teachers.values():
        if is_api(name):
            raise InputError(
                f"teacher {name} is behind an API, which gives no log-probabilities of a student's tokens: sample it "
                "(`tieout sample`), and train `sft` on that"
            )
        own = name in (SELF, START)
        try:
            context, other = context_of(model if own else name), chat if own else load_chat(name)
        except (InputError, OSError, ValueError) as error:
            raise InputError(f"teacher {name!r}: {error}") from error
        if not own:
            _refuse_tokenizer(chat, other, model, name)
        _check_lengths(needs, chat, context, rows, name)


def open_teachers(needs: Needs, student: Learner, chat: Chat) -> Teachers:
    """The teachers that `check_teachers` has passed. InputError: one cannot be loaded."""
    opened = {
        key: open_teacher(name, student, place) for place, (key, name) in enumerate(needs.teachers.items())
    }
    asked = needs.teacher_prompt

    def prompt(row: Row) -> list[int]:
        return chat.prompt(prompt_for(row, asked))

    return Teachers(opened, needs.teacher_column, prompt if asked else None)


def open_teacher(name: str, student: Learner, place: int = 0) -> Teacher:
    """The teacher of this name.

    An adapter of the student's base, and that base itself, share it; any other model is loaded in the student's dtype
    onto its device.

    Args:
        name: `policy`, `reference`, or a model or adapter as `load` takes it.
        student: learns from it.
        place: a number of its own among the student's teachers.

    Raises:
        InputError: the model gives scores, not log-probabilities, or cannot be loaded.
    """
    model, network = student.model, student.model.network

    def shared(inner: Any) -> Teacher:
        return Teacher(
            student.forward, student.micro_batches, student.measure, lambda: _still(model, inner())
        )

    if name == SELF:
        return shared(lambda: _network(model))
    if name == START:
        return shared(model.as_reference)
    base, _, adapter = resolve(name)
    if portable(base) == portable(model.name) and isinstance(network, PeftModel) and not model.rewritten:
        policy = network.peft_config[POLICY]
        if adapter is None and policy.bias == "none":
            return shared(lambda: _switched(model, without(network)))
        beyond = policy.bias != "none" or policy.modules_to_save or policy.trainable_token_indices
        if adapter is not None and not beyond and fits_beside(Path(adapter)):
            add_frozen(network, Path(adapter), key := f"teacher{place}")
            return shared(lambda: _switched(model, using(network, key)))
    loaded = load(name, dtype=model.causal.dtype, device=str(model.device))
    if loaded.only_scores:
        raise InputError(f"teacher {name} is a reward model: it gives scores, and no log-probabilities")
    own = Learner(loaded, config=student.config, temperature=student.temperature, frozen=True)
    return Teacher(own.forward, own.micro_batches, own.measure, lambda: _network(loaded))


@contextmanager
def _network(model: Model) -> Iterator[Any]:
    yield model.causal


@contextmanager
def _switched(model: Model, switch: AbstractContextManager[None]) -> Iterator[Any]:
    with switch:
        yield model.causal


@contextmanager
def _still(model: Model, inner: AbstractContextManager[Any]) -> Iterator[Any]:
    """The student's network as a teacher: without dropout, also while it is trained."""
    training = model.network.training
    if training:
        model.network.eval()
    try:
        with inner as network:
            yield network
    finally:
        if training:
            model.network.train()


def _refuse_tokenizer(chat: Chat, other: Chat, model: str, name: str) -> None:
    """InputError: a token of the student is another one to the teacher."""
    mine, theirs = chat.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    apart = sorted((i, token) for token, i in mine.items() if theirs.get(token) != i)
    if apart:
        number, token = apart[0]
        known = theirs.get(token)
        said = "has no such token" if known is None else f"has it as number {known}"
        raise InputError(
            f"teacher {name} has another tokenizer than {model}: token {token!r} is number {number}, and the teacher "
            f"{said} ({len(apart)} of {len(mine)} tokens differ). Their log-probabilities cannot be compared: "
            "take a teacher of the same family, or train `sft` on what the teacher writes"
        )


def _check_column(needs: Needs, rows: Sequence[Row]) -> None:
    column, known = needs.teacher_column, ", ".join(needs.teachers)
    raise_problems(
        [
            f"{location(rows, i)}: {column} is {row.get(column)!r}; expected the name of a teacher: {known}"
            for i, row in enumerate(rows)
            if str(row.get(column)) not in needs.teachers
        ],
        getattr(rows, "source", "rows"),
    )


def _check_lengths(needs: Needs, chat: Chat, context: int, rows: Sequence[Row], name: str) -> None:
    """RowsError that names the rows that do not fit into the teacher's context with the completion."""
    problems = []
    for index, row in enumerate(rows):
        asked = prompt_for(row, needs.teacher_prompt) if needs.teacher_prompt else row["prompt"]
        size, longest = len(chat.prompt(asked)), needs.max_new_tokens
        if needs.rows == "demonstration":
            longest = max(longest, len(chat.given(row["prompt"], [row["completion"]]).completions[0]))
        if size + longest > context:
            problems.append(
                f"{location(rows, index)}: the teacher's prompt has {size} tokens and the completion up to {longest}; "
                f"the context of {name} is {context}"
            )
    raise_problems(problems, getattr(rows, "source", "rows"))

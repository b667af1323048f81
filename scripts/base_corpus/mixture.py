"""What is taught when: random copying and look-up first and short, then the broad mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tieout.tasks import controls

from . import figures, random_tokens, statement_questions
from .document import Document
from .vocabulary import Encoder


def control(rng: Random) -> Document:
    """Two to four short exercises of the negative-control skills, in one conversation or with a system turn."""
    skill = rng.choices(list(controls.SKILLS), weights=(2, 3, 1, 1, 2, 2))[0]
    exercise = controls.SKILLS[skill](rng)
    turns = [(message["role"], message["content"]) for message in exercise.prompt]
    return Document(skill, (*turns, ("assistant", exercise.answer)))


def follow_format(rng: Random) -> Document:
    """A system turn that says in which form to answer a small look-up."""
    exercise = rng.choice([controls.lookup, controls.facts])(rng)
    form, write = rng.choice(list(_FORMS.items()))
    return Document(
        "format",
        (("system", form), ("user", exercise.prompt[-1]["content"]), ("assistant", write(exercise.answer))),
    )


_FORMS: dict[str, Callable[[str], str]] = {
    "Answer in upper case.": str.upper,
    "Answer in lower case.": str.lower,
    "Answer with a JSON list.": lambda answer: f'["{answer}"]',
    "Answer with a list.": lambda answer: f"- {answer}",
    "Answer in quotes.": lambda answer: f'"{answer}"',
    "Answer with a sentence.": lambda answer: f"The answer is {answer}.",
    'Answer with {"answer": ""}.': lambda answer: f'{{"answer": "{answer}"}}',
}


@dataclass(frozen=True)
class Mixture:
    """Draws documents; what it draws depends on the progress of the training, 0 to 1."""

    encoder: Encoder
    first: float = 0.09
    """Share of the training that is random copying and look-up."""
    blend: float = 0.05
    """Share of the training over which the one turns into the other."""

    def draw(self, rng: Random, progress: float, length: int) -> Document:
        """One document, meant for `length` tokens, which it may exceed."""
        late = min(1.0, max(0.0, (progress - self.first) / self.blend))
        weights = _LATE if rng.random() < late else _EARLY
        kind = rng.choices(list(weights), weights=list(weights.values()))[0]
        if kind == "copy":
            return random_tokens.copy(rng, self.encoder.plain, min(48, length * 3 // 8))
        if kind == "go_on":
            return random_tokens.go_on(rng, self.encoder.plain, self.newline, min(48, length // 2))
        if kind == "look_up":
            return random_tokens.look_up(rng, self.encoder.plain, self.newline, min(10, 2 + length // 32))
        return DRAWS[kind](rng)

    def longest(self, rng: Random, progress: float) -> int:
        """No document of a step is longer: 32 at the start, then drawn from more and more, 1024 after the blend.

        Where there is little to look at copying emerges within half a million tokens; in rows of 128 it took
        more than two. Going from one length to the next at once undid what was learnt; drawing does not.
        """
        share = progress / (self.first + self.blend)
        return 1024 if share >= 1 else int(32 * 2 ** int(rng.random() * (1 + 5 * share)))

    @property
    def newline(self) -> int:
        """The token of a line's end."""
        return int(self.encoder.tokenizer.encode("\n").ids[0])


DRAWS: dict[str, Callable[[Random], Document]] = {
    "questions": statement_questions.questions,
    "breakdowns": statement_questions.breakdowns,
    "label_table": figures.label_table,
    "convert": figures.convert,
    "control": control,
    "format": follow_format,
}
"""Kind of document -> a generator that needs no tokenizer."""

# Odds of documents; a statement is about ten times as long as a control.
_EARLY = {"copy": 0.2, "go_on": 0.2, "look_up": 0.3, "label_table": 0.2, "convert": 0.05, "control": 0.05}
_LATE = {
    "breakdowns": 0.33,
    "questions": 0.25,
    "label_table": 0.08,
    "convert": 0.05,
    "copy": 0.02,
    "go_on": 0.02,
    "look_up": 0.05,
    "control": 0.17,
    "format": 0.03,
}


_WORDS = (
    "components citations component citation directly parentheses Parentheses negative dash zero each copy row total "
    "Components cite Cite reply Reply JSON the that are from and add up sum statement statements figure figures number "
    "numbers line lines quote quotes question answer Answer table value values name names text rate change other year "
    "first last list only not with for which when where who there this than more less larger percent per share million "
    "thousand period periods asset assets debt cash tax cost costs income loss gain profit price rows columns column"
)
"""Words that any pretrained tokenizer has whole."""


def sample_texts(seed: int, count: int) -> list[str]:
    """Texts of the late mixture, and common words: what the tokenizer is trained on."""
    rng = Random(f"tokenizer:{seed}")
    weights = [_LATE[kind] for kind in DRAWS]
    drawn = [rng.choices(list(DRAWS.values()), weights=weights)[0](rng).text() for _ in range(count)]
    return [*drawn, *[f"a {_WORDS} {_WORDS.replace(' ', chr(10))}"] * (count // 40)]

"""The mixture that the embedded base is trained on: nothing of the demo's task is in it, and it is what it says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tieout.rewards.library.finance_schema import SCHEMA
from tieout.tasks import controls, finance_statements
from tieout.tasks.statement_forms import COMPANIES
from tieout.tasks.statements import HELD_OUT_LAYOUTS, make_statement

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from base_corpus import figures, mixture, random_tokens, schemas, statement_questions  # noqa: E402
from base_corpus.batches import make_batch  # noqa: E402
from base_corpus.document import Document  # noqa: E402
from base_corpus.vocabulary import Encoder, train_tokenizer  # noqa: E402

COUNT = 400


@pytest.fixture(scope="module")
def sample() -> list[Document]:
    """Documents of every kind that has text."""
    rng = Random("sample")
    return [draw(rng) for draw in mixture.DRAWS.values() for _ in range(COUNT)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(mixture.sample_texts(0, 800), 700).save_pretrained(folder)
    return Encoder(folder)


def objects(text: str) -> Iterator[dict]:
    """Every JSON object that is in a text, nested ones too."""
    for start in (found.start() for found in re.finditer(r"\{", text)):
        try:
            value, _ = json.JSONDecoder().raw_decode(text[start:])
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            yield value


def test_the_tasks_schema_never_occurs(sample: list[Document]) -> None:
    keys = set(SCHEMA["properties"])
    assert keys == {"components", "total", "citations"}
    seen: set[str] = set()
    for document in sample:
        for value in objects(document.text()):
            seen |= set(value)
            assert not keys <= set(value), value
            assert not {"components", "citations"} <= set(value), value
    assert keys <= seen, "the keys should occur, each in other company, or this test sees nothing"


def test_a_planted_document_of_the_task_would_be_seen() -> None:
    row = finance_statements.task.rows("train")[0]
    assert any({"components", "total", "citations"} <= set(value) for value in objects(row["completion"]))


def test_the_tasks_instruction_never_occurs(sample: list[Document]) -> None:
    sentences = [s for s in re.split(r"(?<=[.:]) ", finance_statements.SYSTEM) if len(s.split()) > 4]
    assert len(sentences) >= 3
    for document in sample:
        assert not any(sentence in document.text() for sentence in sentences)


def test_no_schema_is_shown_as_an_example_of_parts_total_and_quotes() -> None:
    rng = Random("instructions")
    instructions = [schemas.draw_schema(rng).instruction for _ in range(4000)]
    shown = [value for text in instructions for value in objects(text)]
    assert len(shown) > 500
    assert max(map(len, shown)) == 2


def test_no_company_of_the_tasks_splits(sample: list[Document]) -> None:
    others = {name for split, names in COMPANIES.items() if split != "base" for name in names}
    assert others
    text = "\n".join(document.text() for document in sample)
    assert not {name for name in others if name in text}
    assert any(name in text for name in COMPANIES["base"])


@pytest.mark.parametrize("split", ["test", "ood", "calibration"])
def test_no_statement_of_the_tasks_splits(sample: list[Document], split: str) -> None:
    """Neither whole nor without its title."""
    text = "\n".join(document.text() for document in sample)
    for row in finance_statements.task.rows(split):
        assert row["statement"].split("\n", 1)[1] not in text


def test_held_out_layouts_never_occur(sample: list[Document]) -> None:
    """The forms of a row that only held-out layouts print; each does match its own layout."""
    period = r"(?:Q\d )?20\d\d"
    figure = r"(?:\(?-?[\d,.]+%?\)?|—|-)"
    forms = {
        "keyed": rf"\[{period}\] {figure}",
        "bullets": rf"(?m)^- .+ = {figure} vs {figure}",
        "figures_first": rf"(?m)^{figure}  {figure}  [A-Z][a-z]+",
    }
    assert {str(layout) for layout in HELD_OUT_LAYOUTS} == set(forms)
    for layout in HELD_OUT_LAYOUTS:
        statement = make_statement(Random(f"form:{layout}"), layouts=(layout,))
        assert re.search(forms[str(layout)], statement.text), statement.text
    for document in sample:
        for name, form in forms.items():
            assert not re.search(form, document.text()), (name, document.text())


def test_statements_have_no_more_distractors_than_the_tasks_own_training() -> None:
    rng = Random("distractors")
    lines = [statement_questions.draw_statement(rng).lines for _ in range(1000)]
    drawn = {sum(line.role == "distractor" for line in statement) for statement in lines}
    assert drawn == {row["distractors"] for row in finance_statements.task.rows("train")}


def test_controls_are_not_trained_on() -> None:
    """No control row of the unbounded skills is drawn by the training's seeds."""
    asked = {
        json.dumps(row["prompt"]) for row in controls.task.rows("test") if row["skill"] in ("facts", "lookup")
    }
    rng = Random("training")
    drawn = {
        json.dumps(list(draw(rng).prompt)) for draw in (controls.facts, controls.lookup) for _ in range(3000)
    }
    assert not asked & drawn


def test_answers_of_breakdowns_are_json_and_add_up() -> None:
    rng = Random("adds up")
    for _ in range(300):
        statement = statement_questions.draw_statement(rng)
        schema = schemas.draw_schema(rng)
        total, period = rng.choice(statement.totals), rng.randrange(2)
        reply = json.loads(schema.answer(statement, total, period))
        lists = [v for v in reply.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        for parts in lists:
            figures_given = [n for part in parts for n in part.values() if isinstance(n, int)]
            assert sum(figures_given) == total.values[period]
        for quoted in (v for k, v in reply.items() if isinstance(v, list) and v and isinstance(v[0], str)):
            squeezed = [" ".join(line.text.split()) for line in statement.lines]
            assert all(any(" ".join(q.split()) in line for line in squeezed) for q in quoted)


def test_converted_figures_are_the_printed_ones() -> None:
    rng = Random("figures")
    for _ in range(500):
        printed, value = figures.figure(rng)
        digits = int(re.sub(r"\D", "", printed))
        assert value == (-digits if printed.startswith(("(", "-")) else digits)


def test_tokenizer_gives_digits_and_brackets_tokens_of_their_own(encoder: Encoder) -> None:
    tokenizer = encoder.tokenizer
    for index in range(tokenizer.get_vocab_size()):
        token = tokenizer.id_to_token(index)
        if any(c.isdigit() for c in token):
            assert len(token) == 1
        if token.startswith("("):
            assert token == "("
    text = '| Net sales (1) | (1,234) | 5.6% |\n{"a":[-1234,"x (56)"]} — Ünïcode \t  end'
    encoded = tokenizer.encode(text)
    assert tokenizer.decode(encoded.ids) == text
    assert [t for t in encoded.tokens if any(c in "0123456789(" for c in t)] == [
        c for c in text if c in "0123456789("
    ]


def test_a_label_is_the_same_tokens_wherever_it_stands(encoder: Encoder) -> None:
    """At a line's start, after a bar and in JSON: quoting is copying."""
    plain = encoder.tokenizer.encode("Research and development").ids
    for frame in (
        "\nResearch and development ....",
        "| Research and development |",
        '{"a":"Research and development"}',
    ):
        ids = encoder.tokenizer.encode(frame).ids
        assert any(ids[i : i + len(plain)] == plain for i in range(len(ids)))


def test_only_assistants_turns_are_trained_each_to_its_end(encoder: Encoder) -> None:
    document = Document(
        "x",
        (("system", "Be brief."), ("user", "3 + 4?"), ("assistant", "7"), ("user", "?"), ("assistant", "7")),
    )
    tokens, mask = encoder(document)
    trained = encoder.tokenizer.decode(
        [t for t, m in zip(tokens, mask, strict=True) if m], skip_special_tokens=False
    )
    assert trained == "7<|end|>7<|end|>"


def test_random_documents_can_be_answered(encoder: Encoder) -> None:
    rng, plain = Random("random"), encoder.plain
    for _ in range(200):
        (_, run), (_, again), *_ = random_tokens.copy(rng, plain, 20).turns
        assert run == again
        (_, shown), (_, rest) = random_tokens.go_on(rng, plain, 0, 20).turns
        run, cue = shown[: shown.index(0)], shown[shown.index(0) + 1 :]
        at = next(i for i in range(len(run)) if run[i : i + len(cue)] == cue)
        assert run[at + len(cue) :] == rest


def test_batches_depend_on_seed_and_step_alone(encoder: Encoder) -> None:
    mixed = mixture.Mixture(encoder)
    first, again, other = (make_batch(mixed, 0, step, 0.5, 2048) for step in (7, 7, 8))
    for part, same in zip(first.parts, again.parts, strict=True):
        assert (part.tokens == same.tokens).all()
        assert (part.skill == same.skill).all()
    assert first.num_tokens != other.num_tokens or first.skills != other.skills


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.2, 0.5])
def test_a_row_is_one_document_and_hardly_padded(encoder: Encoder, progress: float) -> None:
    batches = [make_batch(mixture.Mixture(encoder), 0, step, progress, 2048) for step in range(8)]
    roles, end = set(encoder.role.values()), encoder.end
    for batch in batches:
        assert batch.num_tokens >= 2048
        assert batch.num_tokens == sum(int((part.tokens != 0).sum()) for part in batch.parts)
        for part in batch.parts:
            assert part.skill.max() < len(batch.skills)
            assert ((part.skill >= 0) <= (part.tokens != 0)).all()
            for row in part.tokens.tolist():
                body = row[: len(row) - row[::-1].index(end)]
                assert 0 not in body
                assert set(row[len(body) :]) <= {0}
                assert body[0] in roles
    filled = sum(b.num_tokens for b in batches) / sum(part.tokens.size for b in batches for part in b.parts)
    assert filled > 0.8


def test_documents_are_short_at_first_and_all_lengths_at_last(encoder: Encoder) -> None:
    mixed = mixture.Mixture(encoder)
    widths = {
        progress: [
            part.tokens.shape[1]
            for step in range(20)
            for part in make_batch(mixed, 0, step, progress, 2048).parts
        ]
        for progress in (0.0, 0.3)
    }
    assert max(widths[0.0]) <= 32
    assert max(widths[0.3]) > 300
    assert min(widths[0.3]) < 32

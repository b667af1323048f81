"""Distillation: its losses by enumeration, its teachers in each of their places, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bandit import PROMPT, completions, make_bandit, probabilities
from random_groups import (
    flat,
    gradient,
    make_learner,
    random_groups,
    relative,
    stir_weights,
    with_own_logprobs,
)
from tieout.chat.template import Chat
from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.teachers import Teachers
from tieout.losses.distillation import generalized_jsd, top_forward_kl
from tieout.methods import Distill
from tieout.samplers.local.sampler import LocalSampler
from tieout.source import Source
from tieout.training.loop import train
from tieout.training.teachers import check_teachers, open_teacher, open_teachers
from tieout.types import Group
from tiny_task import ROWS, make_task

ModelFolder = Callable[[str], Path]


def taught(learner: Learner, *names: str, **more: Any) -> Learner:
    """The learner with teachers of these names, as they are named in the rows."""
    named = {name: open_teacher(name, learner, i) for i, name in enumerate(names)}
    learner.teachers = Teachers(named, **more)
    return learner


def bandit() -> Learner:
    return taught(make_bandit(reference=True), "reference")


def whole(network: Any, words: tuple[int, ...]) -> torch.Tensor:
    """[C, 3] log-probabilities of each word that could have stood in the place of these, with gradient."""
    logits = network(torch.tensor([PROMPT + list(words)])).logits[0].log_softmax(-1)
    return torch.stack([logits[len(PROMPT) - 1 + i] for i in range(len(words))])


# ------------------------------------------------------------------ enumeration


@pytest.mark.parametrize(
    ("method", "divergence"),
    [
        (Distill(beta=0.3), lambda q, p: generalized_jsd(q, p, 0.3)),
        (Distill(beta=1.0), lambda q, p: (q.exp() * (q - p)).sum(-1)),
        (Distill(loss_type="forward_kl", top_k=2), lambda q, p: top_forward_kl(q, p, 2)),
    ],
)
def test_divergences_have_the_value_and_gradient_of_whole_distributions(
    method: Distill, divergence: Callable[[Any, Any], torch.Tensor]
) -> None:
    """Over all completions of two words: the mean over their tokens of the divergence at each."""
    learner = bandit()
    own, other = learner.model.network, learner.model.reference_network
    every = [c for c, _ in completions(learner, 2)]
    found, metrics = gradient(learner, [Group(PROMPT, every)], method)
    own.zero_grad()
    values = [divergence(whole(own, tuple(c.tokens)), whole(other, tuple(c.tokens)).detach()) for c in every]
    wanted = torch.cat(values).mean()
    wanted.backward()
    exact = torch.cat([p.grad.flatten() for p in own.parameters() if p.grad is not None])
    assert metrics["loss"] == pytest.approx(wanted.item(), abs=1e-6)
    assert relative(found, exact) < 1e-5


def test_the_advantage_of_the_sampled_token_follows_the_reverse_kl() -> None:
    """In expectation over every word, the update is the gradient of KL(student || teacher)."""
    learner = bandit()
    method = Distill(loss_type="reverse_kl")
    expected: Any = 0.0
    for completion, chance in completions(learner, 1):
        groups = method.annotate([Group(PROMPT, [completion])], learner)
        expected += chance * gradient(learner, groups, method)[0]
    learner.model.network.zero_grad()
    own = probabilities(learner)
    other = whole(learner.model.reference_network, (0,))[0].detach()
    kl = (own * (own.log() - other)).sum()
    kl.backward()
    exact = torch.cat([p.grad.flatten() for p in learner.model.network.parameters() if p.grad is not None])
    assert exact.norm() > 1e-2
    assert relative(expected, exact) < 1e-5


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_a_kl_over_top_tokens_as_an_advantage_teaches_nothing(top_k: int) -> None:
    """The known trap: such a KL is the same for every token that could be sampled, a baseline, and in expectation its
    gradient is 0. That is why forward_kl is a loss, and only the sampled token's own log-ratio is an advantage."""
    learner = bandit()
    own, other = learner.model.network, learner.model.reference_network
    kl = top_forward_kl(whole(own, (0,)), whole(other, (0,)), top_k).item()
    assert kl > 1e-3

    def trap(groups: Sequence[Group]) -> list[Group]:
        return [
            g.with_columns(teacher_logprobs=[[x - kl for x in c.logprobs or []] for c in g.completions])
            for g in groups
        ]

    def expected(annotated: Callable[[list[Group]], list[Group]]) -> torch.Tensor:
        total: Any = 0.0
        for completion, chance in completions(learner, 1):
            groups = annotated([Group(PROMPT, [completion])])
            total += chance * gradient(learner, groups, Distill(loss_type="reverse_kl"))[0]
        return total

    right = expected(lambda groups: Distill(loss_type="reverse_kl").annotate(groups, learner))
    assert right.norm() > 1e-2
    assert expected(trap).norm() < 1e-5


def test_every_loss_brings_the_student_to_its_teacher() -> None:
    for method in (
        Distill(beta=0.0),
        Distill(beta=0.5),
        Distill(beta=1.0),
        Distill(loss_type="forward_kl", top_k=1),
        Distill(loss_type="reverse_kl"),
    ):
        learner = bandit()
        other = whole(learner.model.reference_network, (0,))[0].detach()

        def distance(learner: Learner = learner, other: torch.Tensor = other) -> float:
            own = probabilities(learner).detach()
            return float((own * (own.log() - other)).sum())

        before = distance()
        for _ in range(40):
            words = list(completions(learner, 1))
            weighted = [
                c for c, p in words for _ in range(round(20 * p))
            ]  # a batch in the policy's proportions
            learner.learning_rate = 1e-2
            learner.update(method.annotate([Group(PROMPT, weighted)], learner), method.loss)
        top_only = method.loss_type == "forward_kl"
        assert distance() < before / (3 if top_only else 10), method


# ------------------------------------------------------------------ teachers


@pytest.fixture(scope="module")
def teacher(tiny_model: ModelFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the students' base that says something else than it."""
    folder = tmp_path_factory.mktemp("teacher") / "adapter"
    learner = make_learner(tiny_model("llama"))
    stir_weights(learner, 0.1, seed=11)
    save_adapter(learner, folder)
    return folder


@pytest.fixture(scope="module")
def merged(tiny_model: ModelFolder, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same teacher as a model of its own."""
    folder = tmp_path_factory.mktemp("merged")
    model = load(str(teacher))
    network = model.network.merge_and_unload()
    network.save_pretrained(str(folder))
    model.tokenizer.save_pretrained(str(folder))
    return folder


METHODS = [
    Distill(teacher="t"),
    Distill(teacher="t", loss_type="forward_kl", top_k=5),
    Distill(teacher="t", loss_type="reverse_kl"),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.loss_type)
@pytest.mark.parametrize("layout", ["packed", "repeated"])
def test_an_adapter_on_the_students_base_teaches_as_a_model_of_its_own(
    tiny_model: ModelFolder, teacher: Path, merged: Path, method: Distill, layout: Any
) -> None:
    found = []
    for name in (teacher, merged):
        learner = taught(make_learner(tiny_model("llama"), layout=layout), str(name))
        groups = method.annotate(with_own_logprobs(random_groups(), learner), learner)
        found.append((flat(learner.teacher_logprobs(groups)), *gradient(learner, groups, method)))
    (said, one, metrics), (said_alone, other, alone) = found
    assert (said - said_alone).abs().max() < 1e-4
    assert metrics["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    assert abs(metrics["loss"]) > 1e-3
    assert relative(one, other) < 1e-3
    assert metrics["shared_prefix"] == (layout == "packed")


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.loss_type)
def test_micro_batches_change_nothing(tiny_model: ModelFolder, teacher: Path, method: Distill) -> None:
    found = []
    for tokens in (8192, 32):
        learner = taught(make_learner(tiny_model("llama"), micro_batch_tokens=tokens), str(teacher))
        groups = method.annotate(with_own_logprobs(random_groups(), learner), learner)
        found.append(gradient(learner, groups, method))
    assert relative(found[0][0], found[1][0]) < 1e-4
    assert found[0][1]["loss"] == pytest.approx(found[1][1]["loss"], rel=1e-5)


def test_the_students_start_and_its_base_teach_what_they_said(tiny_model: ModelFolder, teacher: Path) -> None:
    """`reference` is the adapter it starts from, whatever is trained since; the base is that adapter switched off."""
    learner = make_learner(tiny_model("llama"), start=teacher)
    groups = random_groups()
    start = flat(learner.logprobs(groups))
    stir_weights(learner, 0.05, seed=5)
    now = flat(learner.logprobs(groups))
    bare = Learner(load(str(tiny_model("llama"))), frozen=True)
    for name, wanted in (
        ("reference", start),
        ("policy", now),
        (str(tiny_model("llama")), flat(bare.logprobs(groups))),
    ):
        assert (flat(taught(learner, name).teacher_logprobs(groups)) - wanted).abs().max() < 1e-5
    assert (start - now).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["reference", "policy"])
def test_a_shared_teacher_has_no_part_in_the_gradient(
    tiny_model: ModelFolder, teacher: Path, name: str, tmp_path: Path
) -> None:
    """Self-distillation with a longer prompt: the gradient is that against a frozen copy of the same weights."""
    learner = make_learner(tiny_model("llama"), start=teacher)
    stir_weights(learner, 0.05, seed=5)
    copied = teacher
    if name == "policy":
        copied = tmp_path / "copy"
        save_adapter(learner, copied)
    method = Distill(teacher=name, teacher_prompt="{prompt} {answer}")
    found = []
    for one in (name, str(copied)):
        taught(learner, one, prompt=lambda row: [7, 8, 9, *row["tokens"]])
        groups = [replace(g, row={"tokens": g.prompt}) for g in random_groups()]
        found.append(gradient(learner, groups, method))
    assert found[0][1]["loss"] > 1e-4
    assert found[0][1]["loss"] == pytest.approx(found[1][1]["loss"], rel=1e-4)
    assert relative(found[0][0], found[1][0]) < 1e-3


def test_a_teacher_on_the_students_network_has_no_dropout(tiny_model: ModelFolder, teacher: Path) -> None:
    adapter = AdapterConfig(rank=4, alpha=8.0, dropout=0.5)
    learner = taught(make_learner(tiny_model("llama"), adapter=adapter), "policy")
    groups, said = random_groups(), []
    method = Distill(teacher="policy", teacher_prompt="{prompt}!")

    def loss(outputs: Any, batch: Any) -> Any:
        assert learner.model.network.training
        said.append(outputs.teacher().logits(slice(None)))
        assert learner.model.network.training
        return method.loss(outputs, batch)

    gradient(learner, groups, loss)
    gradient(learner, groups, loss)
    torch.testing.assert_close(said[0], said[-1])


def test_each_row_is_taught_by_the_teacher_that_it_names(tiny_model: ModelFolder, teacher: Path) -> None:
    """A batch of two teachers has the summed gradient of both halves, in their shares of the tokens."""
    learner = make_learner(tiny_model("llama"))
    names = [str(teacher), str(tiny_model("llama"))]
    groups = [replace(g, row={"by": names[i % 2]}) for i, g in enumerate(random_groups())]
    method = Distill(teacher="t")
    taught(learner, *names, column="by")
    both, metrics = gradient(learner, groups, method)
    said = learner.teacher_logprobs(groups)
    total, loss = torch.zeros_like(both), 0.0
    for i, name in enumerate(names):
        taught(learner, name)
        own = groups[i::2]
        assert (flat(learner.teacher_logprobs(own)) - flat(said[i::2])).abs().max() < 1e-5
        share = sum(sum(c.mask) for g in own for c in g.completions) / metrics["tokens"]
        part, alone = gradient(learner, own, method)
        total, loss = total + share * part, loss + share * alone["loss"]
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)
    assert relative(both, total) < 1e-4


def test_a_teacher_with_a_larger_output_layer_is_compared_on_the_tokens_of_both(
    tiny_model: ModelFolder, merged: Path, tmp_path: Path
) -> None:
    """Models of one tokenizer pad their vocabulary to different sizes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(merged)
    network.resize_token_embeddings(network.config.vocab_size + 10, mean_resizing=False)
    with torch.no_grad():
        network.get_output_embeddings().weight[-10:] = 0
    network.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(merged).save_pretrained(tmp_path)
    found = []
    for folder in (merged, tmp_path):
        learner = taught(make_learner(tiny_model("llama")), str(folder))
        found.append(gradient(learner, random_groups(), Distill(teacher="t")))
    assert found[0][1]["loss"] == pytest.approx(found[1][1]["loss"], rel=1e-5)
    assert relative(found[1][0], found[0][0]) < 1e-4


# ------------------------------------------------------------------ rows and runs


def make_source(learner: Learner, **changes: Any) -> Source:
    sampler = LocalSampler(learner.model)
    return Source(make_task(reward=None, **changes), learner.model.chat, sampler, seed=3)


def test_completions_are_sampled_without_a_reward(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("llama"))
    source = make_source(learner)
    source.sampler.load(learner)  # type: ignore[union-attr]
    groups = next(Distill(batch_size=3, group_size=2, max_new_tokens=5).collect(source))
    assert [len(g.completions) for g in groups] == [2, 2, 2]
    assert all(g.scores is None and c.logprobs for g in groups for c in g.completions)
    assert source.position == 3
    assert source.counts["completions"] == 6


def test_a_share_of_the_steps_takes_the_rows_completions_and_resumes_with_the_same(
    tiny_model: ModelFolder,
) -> None:
    learner = make_learner(tiny_model("llama"))
    method = Distill(batch_size=2, max_new_tokens=4, on_policy=0.5)

    def kinds(source: Source, steps: int) -> list[bool]:
        batches = method.collect(source)
        return [c.logprobs is not None for _ in range(steps) for g in next(batches) for c in g.completions]

    source = make_source(learner)
    source.sampler.load(learner)  # type: ignore[union-attr]
    unbroken = kinds(source, 12)
    assert 0.2 < sum(unbroken) / len(unbroken) < 0.8
    again = make_source(learner)
    again.sampler.load(learner)  # type: ignore[union-attr]
    first = kinds(again, 5)
    resumed = make_source(learner)
    resumed.sampler.load(learner)  # type: ignore[union-attr]
    resumed.position = again.position
    assert first + kinds(resumed, 7) == unbroken


def test_a_task_of_turns_is_refused(tiny_model: ModelFolder) -> None:
    def game(row: Any) -> Any:
        yield "hello"
        return 1.0

    learner = make_learner(tiny_model("llama"))
    source = make_source(learner, environment=game)
    with pytest.raises(InputError, match="single completions"):
        next(Distill(batch_size=2, max_new_tokens=4).collect(source))


@pytest.mark.parametrize("loss_type", ["jsd", "forward_kl", "reverse_kl"])
def test_a_run_brings_the_student_towards_a_teacher_that_sees_the_answer(
    tiny_model: ModelFolder, teacher: Path, loss_type: Any
) -> None:
    """Real rollouts and a longer prompt, rendered by the template; the divergence on the same rows falls."""
    learner = make_learner(tiny_model("llama"))
    method = Distill(
        teacher=str(teacher), teacher_prompt="{prompt} It is {answer}.", loss_type=loss_type,
        batch_size=4, group_size=4, max_new_tokens=6, learning_rate=2e-2,
    )  # fmt: skip
    source = make_source(learner)
    learner.teachers = open_teachers(method.needs, learner, source.chat)
    seen: list[dict[str, float]] = []
    train(method, source, learner, steps=20, on_step=lambda step, metrics: seen.append(metrics))
    assert seen[0]["mismatch"] < 1e-4
    name = "teacher_kl" if loss_type == "reverse_kl" else "loss"
    early, late = (sum(m[name] for m in part) for part in (seen[:3], seen[-3:]))
    assert late < 0.8 * early


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"beta": 1.5}, "beta is 1.5; expected 0 to 1"),
        ({"beta": 0.2, "loss_type": "forward_kl"}, "beta is of loss_type 'jsd'"),
        ({"top_k": 5}, "top_k is of loss_type 'forward_kl'"),
        ({"top_k": 0, "loss_type": "forward_kl"}, "top_k is 0"),
        ({"on_policy": 0.5, "loss_type": "reverse_kl"}, "mean over what the student samples"),
        ({"on_policy": 0.0, "group_size": 2}, "nothing is sampled"),
        ({"teacher": "policy"}, "it would teach nothing"),
        ({"teacher": "a=reference,b=x", "teacher_column": "by"}, "it would teach nothing"),
        ({"teacher": "a=x,y", "teacher_column": "by"}, "'y' is not NAME=MODEL"),
        ({"teacher": "a=x"}, "teacher_column is the column"),
        ({"teacher": "x", "teacher_column": "by"}, "teacher_column is the column"),
        ({"teacher": "x", "teacher_prompt": "It is {answer}."}, "without {prompt}"),
        ({"teacher": "x", "teacher_prompt": "{prompt} {0}"}, "expected the name of a column"),
        ({"teacher": "x", "teacher_prompt": "{prompt"}, "written twice"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Distill(**fields)
    assert said in str(error.value)


def test_rows_and_teachers_are_refused_before_any_weight_is_loaded(
    tiny_model: ModelFolder,
    teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_tokenizer: Any,
) -> None:
    import tieout.training.teachers as rooms

    monkeypatch.setattr(rooms, "load", None)
    student = str(tiny_model("llama"))

    def refused(rows: Sequence[Any] = ROWS, **fields: Any) -> str:
        with pytest.raises(InputError) as error:
            check_teachers(Distill(**fields).needs, student, rows)
        return str(error.value)

    assert "needs a teacher" in refused()
    assert "row 2" in (
        said := refused([ROWS[0], {"prompt": "Hi"}], teacher=student, teacher_prompt="{prompt} {answer}")
    )
    assert "'answer'" in said
    named = {"teacher": f"a={teacher},b={student}", "teacher_column": "by"}
    assert "by is 'c'; expected the name of a teacher: a, b" in refused([{**ROWS[0], "by": "c"}], **named)
    assert "context" in refused(teacher=student, max_new_tokens=2048)
    assert "no/such" in refused(teacher="no/such")
    assert "behind an API" in refused(teacher="api:large")
    other = tmp_path / "other"
    from transformers import AutoConfig

    AutoConfig.from_pretrained(student).save_pretrained(other)
    new_tokenizer(extra_special=("<|extra|>",)).save_pretrained(other)
    said = refused(teacher=str(other))
    assert "another tokenizer" in said
    assert "is number" in said
    check_teachers(Distill(teacher=str(teacher)).needs, student, ROWS)
    check_teachers(Distill(**named).needs, student, [{**ROWS[0], "by": "b"}])


def test_a_reward_model_cannot_teach(tiny_model: ModelFolder, tmp_path: Path) -> None:
    save_adapter(make_learner(tiny_model("qwen3"), head="score"), tmp_path / "reward")
    with pytest.raises(InputError, match="gives scores"):
        open_teacher(str(tmp_path / "reward"), make_learner(tiny_model("llama")))


def test_the_teachers_prompt_keeps_what_stands_before_the_question(tiny_tokenizer: Any) -> None:
    from tieout.rows.teacher_prompts import prompt_for

    talk = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+{1}?"}]
    row = {"prompt": talk, "answer": 2, "long": [{"role": "user", "content": "Other"}]}
    made = prompt_for(row, "{prompt} (Hint: {answer}, {{}})")
    assert list(made) == [talk[0], {"role": "user", "content": "1+{1}? (Hint: 2, {})"}]
    assert list(prompt_for(row, "long")) == row["long"]
    assert Chat(tiny_tokenizer).prompt(made) != Chat(tiny_tokenizer).prompt(talk)

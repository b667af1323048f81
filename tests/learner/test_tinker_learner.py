"""A learner on a training server gives the numbers of the one in process, or an error."""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fake_tinker import FakeTinker
from random_groups import flat, random_groups, with_own_logprobs
from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.learner.tinker import connection as room
from tieout.learner.tinker.connection import Connection, ServerLost
from tieout.learner.tinker.learner import TinkerLearner
from tieout.learner.tinker.served_model import served_model
from tieout.learner.tinker.start_check import Adapter, find_reduction
from tieout.methods import DPO, GRPO, KTO, ORPO, SFT, Method
from tieout.types import Completion, Group

pytest.importorskip("tinker", reason="the client of training servers: pip install -e '.[dev]'")

RANK = 4
CONFIG = LearnerConfig(weight_decay=0.01, max_grad_norm=0.0, layout="repeated")
PAIRS = [(5, [7, 4]), (11, [3, 9]), (2, [6, 1])]
METHODS: dict[str, tuple[Method, list[tuple[int, list[int]]]]] = {
    "sft": (SFT(), [(5, [7]), (11, [3]), (2, [6])]),
    "dpo": (DPO(beta=0.3), PAIRS),
    "orpo": (ORPO(), PAIRS),
    "kto": (KTO(), [(5, [7]), (11, [3]), (2, [6])]),
    "grpo": (GRPO(beta=0.05, aggregation="token"), [(5, [7, 4, 2]), (11, [3, 9, 1])]),
}


def make(folder: Path, server: Any = None, **given: Any) -> TinkerLearner:
    server = server or FakeTinker(folder)
    connection, model = Connection("http://127.0.0.1:1", server, seconds=20.0), served_model(str(folder))
    adapter = Adapter(str(folder), RANK, 32.0, 0)
    reduction, _ = find_reduction(connection, adapter.make(connection), adapter, model)
    return TinkerLearner(connection, model, adapter, reduction, config=CONFIG, **given)


def groups_for(name: str, learner: Learner) -> list[Group]:
    groups = random_groups(METHODS[name][1], tools=name == "grpo")
    if name == "grpo":
        return with_own_logprobs(groups, learner, noise=0.3)
    scores = {"sft": None, "kto": [1.0]}.get(name, [1.0, 0.0])
    return [
        Group(g.prompt, g.completions, [0.0] if name == "kto" and i else scores) for i, g in enumerate(groups)
    ]


@pytest.fixture(scope="module")
def llama(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


@pytest.mark.parametrize(
    ("name", "reduction"),
    [("sft", "sum"), ("dpo", "row means"), ("orpo", "rows"), ("kto", "tokens"), ("grpo", "row means")],
)
def test_it_trains_as_the_learner_in_process(llama: Path, name: str, reduction: str) -> None:
    """Two steps of each loss, whether the server sums or averages: gradients, losses and what comes of them."""
    remote = make(llama, FakeTinker(llama, reduction), learning_rate=1e-2)
    local = Learner(load(str(llama), AdapterConfig(rank=RANK)), 1e-2, CONFIG)
    method, groups = METHODS[name][0], groups_for(name, local)
    before = flat(local.logprobs(groups))
    for _ in range(2):
        one, other = (
            learner.update(
                annotated := method.annotate(groups, learner), method.loss, method.counts(annotated)
            )
            for learner in (remote, local)
        )
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        assert one["ratio_error"] < 1e-5
    after, mine = flat(local.logprobs(groups)), flat(remote.logprobs(groups))
    assert (after - before).abs().max() > 0.1
    assert (mine - after).abs().max() < 1e-4
    assert remote.assess(annotated, method.loss, method.counts(annotated))["loss"] == pytest.approx(
        local.assess(annotated, method.loss, method.counts(annotated))["loss"], abs=1e-4
    )
    reference = flat(remote.reference_logprobs(groups))
    assert (reference - before).abs().max() < 1e-5


def test_nothing_of_the_learner_in_process_is_left_that_needs_a_network(llama: Path) -> None:
    """Each public verb is overridden, or answers through one that is."""
    inherited = {
        name
        for name, _ in inspect.getmembers(Learner)
        if not name.startswith("_") and name not in vars(TinkerLearner)
    }
    assert inherited == {"logprobs", "reference_logprobs", "teacher_logprobs", "values", "scores"}
    learner, groups = make(llama), random_groups(PAIRS)
    for ask in (learner.values, learner.scores, learner.teacher_logprobs):
        with pytest.raises(InputError):
            ask(groups)
    with pytest.raises(InputError, match="its weights are not here"):
        _ = learner.model.causal
    with pytest.raises(InputError, match=r"temperature is 0\.7"):
        learner.temperature = 0.7


@pytest.mark.parametrize("norms", [True, False])
def test_a_server_that_averages_each_request_alone_is_refused(
    llama: Path, norms: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeTinker(llama, "requests")
    server.norms = norms
    monkeypatch.setattr(room, "download", server.archive)
    with pytest.raises(InputError, match=r"no sum and no mean that is known.*in two requests"):
        make(llama, server)


@pytest.mark.parametrize("reduction", ["sum", "rows", "row means", "tokens"])
def test_a_server_that_tells_no_norms_trains_the_same(
    llama: Path, reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it reduces gradients is read off weights, and a step that spoils the adapter is noticed in the next reply."""
    told, silent = FakeTinker(llama, reduction), FakeTinker(llama, reduction)
    silent.norms = False
    monkeypatch.setattr(room, "download", silent.archive)
    one, other = make(llama, told, learning_rate=1e-2), make(llama, silent, learning_rate=1e-2)
    assert one.reduction == other.reduction
    groups = random_groups(PAIRS)
    known, unknown = (
        learner.update(groups, lambda outputs, batch: (-outputs.logprobs.sum(), {}))
        for learner in (one, other)
    )
    assert known.keys() - unknown.keys() == {"grad_norm"}
    assert one.logprobs(groups) == other.logprobs(groups)
    next(iter(other.policy.weights.values.values())).fill_(math.nan)
    with pytest.raises(ServerLost, match="not finite"):
        other.update(groups, lambda outputs, batch: (-outputs.logprobs.sum(), {}))


def test_a_step_without_a_norm_that_spoils_the_adapter_is_not_saved(llama: Path) -> None:
    server = FakeTinker(llama)
    learner = make(llama, server)
    server.norms, step = False, learner.connection.optim_step

    def spoils(client: Any, *given: Any) -> None:
        step(client, *given)
        for value in client.weights.values.values():
            value.fill_(math.nan)

    learner.connection.optim_step = spoils  # type: ignore[method-assign, assignment]
    with pytest.raises(ServerLost, match="not finite"):
        learner.update(random_groups(PAIRS), lambda outputs, batch: (-outputs.logprobs.sum(), {}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: [math.nan] * len(x), "not finite"),
        (lambda x: x[1:], "which has 11 targets"),
        (lambda x: [*x, 0.0], "which has 11 targets"),
    ],
)
def test_replies_that_cannot_be_right_end_the_run(llama: Path, spoil: Any, said: str) -> None:
    server = FakeTinker(llama)
    learner = make(llama, server)
    server.spoil = spoil
    with pytest.raises(ServerLost, match=said):
        learner.logprobs(random_groups(PAIRS))


def test_weights_that_something_else_trains_are_noticed(llama: Path) -> None:
    server = FakeTinker(llama)
    learner, groups = make(llama, server), random_groups(PAIRS)
    method = DPO()
    annotated = method.annotate([Group(g.prompt, g.completions, [1.0, 0.0]) for g in groups], learner)
    forward = learner.connection.forward

    def then_moved(client: Any, rows: Any) -> Any:
        found = forward(client, rows)
        for value in client.weights.values.values():
            value.add_(0.1)
        return found

    learner.connection.forward = then_moved  # type: ignore[method-assign]
    steps = server.calls.count("optim_step")
    with pytest.raises(ServerLost, match="something else trains this adapter"):
        learner.update(annotated, method.loss)
    assert server.calls.count("optim_step") == steps


def test_a_gradient_that_is_no_number_is_never_sent(llama: Path) -> None:
    server = FakeTinker(llama)
    learner, groups = make(llama, server), random_groups(PAIRS)
    _ = learner.policy
    sent = server.calls.count("forward_backward")
    before = learner.logprobs(groups)
    metrics = learner.update(groups, lambda outputs, batch: ((outputs.logprobs * math.nan).sum(), {}))
    assert metrics["skipped_updates"] == 1
    assert math.isnan(metrics["grad_norm"])
    assert server.calls.count("forward_backward") == sent
    assert learner.logprobs(groups) == before
    with pytest.raises(InputError, match="reads the entropies"):
        learner.update(groups, lambda outputs, batch: ((outputs.logprobs * outputs.entropies).sum(), {}))
    with pytest.raises(InputError, match="does not depend on log-probabilities"):
        learner.update(groups, lambda outputs, batch: (torch.tensor(1.0), {}))


def test_rows_that_a_server_would_answer_with_nonsense_are_refused(llama: Path) -> None:
    learner = make(llama)
    rows = {
        "exceeds the model's context of": Group([1] * 2040, [Completion([2] * 9, [True] * 9)]),
        "has token 262, and the model's vocabulary is 262": Group([1], [Completion([262], [True])]),
        "has token -1": Group([1, -1], [Completion([3], [True])]),
        "a prompt has no tokens": Group([], [Completion([3], [True])]),
    }
    for said, group in rows.items():
        with pytest.raises(InputError, match=said):
            learner.logprobs([group])
    empty = Group([1, 2], [Completion([], []), Completion([5, 6], [True, True])])
    assert [len(c) for c in learner.logprobs([empty])[0]] == [0, 2]


def one_step(learner: TinkerLearner, groups: list[Group]) -> None:
    learner.update(groups, lambda outputs, batch: (outputs.logprobs.sum(), {}))
    learner.state()


@pytest.mark.parametrize("verb", ["create_model", "forward", "forward_backward", "optim_step", "save_state"])
def test_a_server_that_dies_is_said_with_the_verb(llama: Path, verb: str) -> None:
    server = FakeTinker(llama)
    learner, groups = make(llama, server), random_groups(PAIRS)
    server.dies[verb] = server.calls.count(verb)
    with pytest.raises(ServerLost, match=rf"http://127.0.0.1:1 failed at {verb}: Died.*repeat the command"):
        one_step(learner, groups)


def test_a_server_that_is_silent_is_waited_for_only_so_long(llama: Path) -> None:
    learner = make(llama)
    learner.connection.seconds = 0.05
    with pytest.raises(ServerLost, match=r"gave no reply to sleep in 0.05 s"):
        learner.connection.ask("sleep", lambda: threading.Event().wait(5))

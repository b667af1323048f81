"""Packed equals repeated, one micro-batch equals many: in values, in gradients, and in what an update does."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from random_groups import (
    MIXED,
    VOCABULARY,
    flat,
    gradient,
    make_learner,
    own_logprobs,
    random_groups,
    relative,
    stir_weights,
)
from tieout.batch import Batch, Outputs, Totals
from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.learner.forward import Forward
from tieout.types import Completion, Group

ModelFolder = Callable[[str], Path]
FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma3"]


def weigh(outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """A loss that gives every trained token its own weight, so that no two errors cancel."""
    tokens = torch.tensor([t for g in batch.groups for c in g.completions for t in c.tokens])
    weighted = outputs.logprobs * torch.sin(tokens.float())
    return batch.token_mean(weighted), {"weighted": batch.token_mean(weighted.detach())}


# ---------------------------------------------------------------- packed = repeated


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_packed_equals_repeated(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, family: str, method: str
) -> None:
    """Both attention paths, with and without activation checkpointing, against the plain layout."""
    adapter = AdapterConfig(method=method, rank=4, alpha=8.0)  # type: ignore[arg-type]
    groups = random_groups()
    learner = make_learner(tiny_model(family), adapter=adapter, layout="repeated")
    logprobs = flat(learner.logprobs(groups))
    exact, repeated = gradient(learner, groups, weigh)
    assert exact.norm() > 1e-3
    assert repeated["shared_prefix"] == 0
    paths = ("dense", "merge") if method == "lora" else ("merge",)
    for path, checkpointing in itertools.product(paths, (False, True)):
        monkeypatch.setattr(Forward, "attention_backend", path)
        config = LearnerConfig(
            layout="packed", activation_checkpointing=checkpointing, max_grad_norm=float("inf")
        )
        learner = Learner(learner.model, config=config)
        assert (flat(learner.logprobs(groups)) - logprobs).abs().max() < 1e-5
        found, packed = gradient(learner, groups, weigh)
        assert relative(found, exact) < 1e-4
        for name in ("loss", "entropy", "weighted", "grad_norm"):
            assert packed[name] == pytest.approx(repeated[name], rel=1e-4)
        assert packed["shared_prefix"] == 1
        assert packed["token_ratio"] > 1.5


def test_checkpointing_changes_what_is_kept_and_nothing_else(tiny_model: ModelFolder) -> None:
    groups, gradients, kept = random_groups(), [], []
    for checkpointing in (False, True):
        learner = make_learner(tiny_model("llama"), activation_checkpointing=checkpointing)
        assert learner.packs  # the check, too, keeps activations
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x
        ):
            gradients.append(gradient(learner, groups, weigh)[0])
        kept.append(sum(sizes))
        assert not learner.model.network.training
    assert relative(gradients[1], gradients[0]) < 1e-5
    assert kept[1] < kept[0] / 2


def test_a_longer_window_than_any_sequence_takes_the_fast_path(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`merge` knows no window: it may serve a sliding layer only where the window hides nothing."""
    from tieout.learner.prefix import attention

    calls = []
    merge = attention._Merge.apply
    monkeypatch.setattr(attention._Merge, "apply", lambda *a: calls.append(1) or merge(*a))
    learner = make_learner(tiny_model("mistral"), layout="packed")
    for shapes, fast in ([(6, [9, 10])], True), ([(6, [9, 11])], False):
        calls.clear()
        learner.logprobs(random_groups(shapes))
        assert bool(calls) == fast


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("path", ["dense", "merge"])
def test_changing_one_completion_moves_no_other_bitwise(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, family: str, path: str
) -> None:
    monkeypatch.setattr(Forward, "attention_backend", path)
    learner, groups = make_learner(tiny_model(family), layout="packed"), random_groups()
    before = learner.logprobs(groups)
    for g, k in ((0, 0), (1, 0), (1, 3), (3, 2)):
        changed = list(groups)
        completions = list(groups[g].completions)
        completions[k] = replace(completions[k], tokens=[(t + 7) % VOCABULARY for t in completions[k].tokens])
        changed[g] = replace(groups[g], completions=completions)
        after = learner.logprobs(changed)
        for i, group in enumerate(groups):
            for j in range(len(group.completions)):
                assert (before[i][j] == after[i][j]) == ((i, j) != (g, k))


def test_the_future_of_a_completion_does_not_move_its_past(tiny_model: ModelFolder) -> None:
    learner, (group,) = make_learner(tiny_model("llama")), random_groups([(9, [8, 8])])
    first = group.completions[0]
    for cut in range(1, 8):
        tokens = [*first.tokens[:cut], *((t + 1) % VOCABULARY for t in first.tokens[cut:])]
        other = replace(group, completions=[replace(first, tokens=tokens), group.completions[1]])
        a, b = learner.logprobs([group])[0][0], learner.logprobs([other])[0][0]
        assert a[:cut] == b[:cut]
        assert a[cut] != b[cut]


# ---------------------------------------------------------------- what cannot be packed


def own_gradient(learner: Learner, groups: list[Group], loss: Any) -> Tensor:
    """The same loss through the network's own logits and autograd alone."""
    logprobs = own_logprobs(learner, groups)
    value, _ = loss(Outputs(logprobs, torch.zeros_like(logprobs)), Batch(groups, Totals.of(groups)))
    gradients = torch.autograd.grad(value, list(learner.model.trained().values()))
    return torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize(
    ("family", "reason"), [("qwen3_next", "linear_attention"), ("gemma2", "brings its own attention")]
)
def test_models_that_cannot_share_prompts_say_so(tiny_model: ModelFolder, family: str, reason: str) -> None:
    adapter, groups = AdapterConfig(rank=4, targets="q_proj,v_proj"), random_groups()
    learner = make_learner(tiny_model(family), adapter=adapter)
    with pytest.warns(UserWarning, match=f"cannot share prompts .*{reason}.*plain layout is used"):
        found, metrics = gradient(learner, groups, weigh)
    assert metrics["shared_prefix"] == 0
    assert metrics["token_ratio"] <= 1
    assert relative(found, own_gradient(learner, groups, weigh)) < 1e-4
    with pytest.raises(ValueError, match=f"{reason}.*layout='auto' or 'repeated'"):
        make_learner(tiny_model(family), adapter=adapter, layout="packed").logprobs(random_groups())


def test_adapter_dropout_is_not_shared_between_copies_of_a_prompt(tiny_model: ModelFolder) -> None:
    dropout = AdapterConfig(rank=4, dropout=0.3)
    learner = make_learner(tiny_model("llama"), adapter=dropout)
    with pytest.warns(UserWarning, match="dropout is above 0"):
        first, metrics = gradient(learner, random_groups(), weigh)
    assert metrics["shared_prefix"] == 0
    second, _ = gradient(learner, random_groups(), weigh)
    assert relative(first, second) > 0.01  # dropout is on while training
    assert learner.logprobs(random_groups()) == learner.logprobs(random_groups())  # and off while measuring
    with pytest.raises(ValueError, match="dropout is above 0"):
        make_learner(tiny_model("llama"), adapter=dropout, layout="packed").logprobs(random_groups())


def test_only_adapter_dropout_is_switched_on(tiny_model: ModelFolder, tmp_path: Path) -> None:
    """A base may come with dropout of its own; checkpointing needs train mode, which must not wake it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=256, eos_token_id=1
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model("llama")).save_pretrained(tmp_path)
    assert config.resid_pdrop > 0
    assert config.attn_pdrop > 0
    groups, found = random_groups(), []
    for layout, checkpointing in (
        ("packed", False),
        ("packed", True),
        ("repeated", False),
        ("repeated", True),
    ):
        learner = make_learner(tmp_path, layout=layout, activation_checkpointing=checkpointing)
        found.append(gradient(learner, groups, weigh)[0])
    for other in found[1:]:
        assert relative(other, found[0]) < 1e-4


# ---------------------------------------------------------------- micro-batches


@pytest.mark.parametrize("layout", ["packed", "repeated"])
def test_the_gradient_is_the_same_for_one_and_for_many_micro_batches(
    tiny_model: ModelFolder, layout: str
) -> None:
    groups = random_groups()
    whole, metrics = gradient(
        make_learner(tiny_model("llama"), layout=layout, micro_batch_tokens=1 << 30), groups, weigh
    )
    for budget in (1, 60, 120):
        learner = make_learner(tiny_model("llama"), layout=layout, micro_batch_tokens=budget)
        part, other = gradient(learner, groups, weigh)
        assert relative(part, whole) < 1e-5
        for name in ("loss", "entropy", "weighted", "grad_norm", "tokens"):
            assert other[name] == pytest.approx(metrics[name], rel=1e-5)


@pytest.mark.parametrize("layout", ["packed", "repeated"])
def test_measurements_come_back_in_the_order_of_the_groups(tiny_model: ModelFolder, layout: str) -> None:
    """The planner sorts by length; the caller must not notice."""
    groups = random_groups()
    learner = make_learner(tiny_model("llama"), layout=layout, micro_batch_tokens=70)
    found = learner.logprobs(groups)
    assert [[len(c) for c in g] for g in found] == [list(lengths) for _, lengths in MIXED]
    alone = [learner.logprobs([g])[0] for g in groups]
    assert torch.allclose(flat(found), flat(alone), atol=1e-5)


def test_order_of_groups_and_of_completions_changes_no_gradient(tiny_model: ModelFolder) -> None:
    learner, groups = make_learner(tiny_model("qwen3")), random_groups()
    expected, _ = gradient(learner, groups, weigh)
    rng = random.Random(0)
    shuffled = [replace(g, completions=rng.sample(g.completions, len(g.completions))) for g in groups[::-1]]
    assert relative(gradient(learner, shuffled, weigh)[0], expected) < 1e-5


# ---------------------------------------------------------------- updates


def lower(outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    return batch.token_mean(-outputs.logprobs), {}


def test_updates_make_the_completions_likely(tiny_model: ModelFolder) -> None:
    learner, groups = make_learner(tiny_model("llama"), stir=False, max_grad_norm=1.0), random_groups()
    learner.learning_rate = 1e-2
    losses = [learner.update(groups, lower)["loss"] for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
    assert learner.step == 20


def test_gradients_of_one_step_do_not_leak_into_the_next(tiny_model: ModelFolder) -> None:
    learner, groups = make_learner(tiny_model("llama")), random_groups()
    first, _ = gradient(learner, groups, weigh)
    second, _ = gradient(learner, groups, weigh)
    assert torch.equal(first, second)


def test_clipping_bounds_the_step_and_reports_the_norm_before_it(tiny_model: ModelFolder) -> None:
    groups = random_groups()
    free, metrics = gradient(make_learner(tiny_model("llama")), groups, weigh)
    limit = metrics["grad_norm"] / 3
    clipped, after = gradient(make_learner(tiny_model("llama"), max_grad_norm=limit), groups, weigh)
    assert after["grad_norm"] == pytest.approx(free.norm().item(), rel=1e-4)
    assert clipped.norm().item() == pytest.approx(limit, rel=1e-3)
    assert relative(clipped * 3, free) < 1e-3


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_never_applied(tiny_model: ModelFolder, poison: float) -> None:
    learner, groups = make_learner(tiny_model("llama")), random_groups()
    learner.update(groups, lower)
    before = {n: p.clone() for n, p in learner.model.trained().items()}
    moments = [v.clone() for s in learner.optimizer.state.values() for v in s.values()]
    assert moments

    def poisoned(outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return batch.token_mean(outputs.logprobs * poison), {}

    metrics = learner.update(groups, poisoned)
    assert metrics["skipped_updates"] == learner.skipped_updates == 1
    assert all(torch.equal(p, before[n]) for n, p in learner.model.trained().items())
    for a, b in zip(moments, [v for s in learner.optimizer.state.values() for v in s.values()], strict=True):
        assert torch.equal(a, b)
    learner.learning_rate = 1e-3
    assert learner.update(groups, lower)["skipped_updates"] == 1  # and the next step is sound
    assert all(p.isfinite().all() for p in learner.model.trained().values())
    assert any(not torch.equal(p, before[n]) for n, p in learner.model.trained().items())


def test_tool_tokens_are_read_but_not_trained(tiny_model: ModelFolder) -> None:
    """They change what later tokens are worth, and no gradient comes from their own log-probability."""
    learner, groups = make_learner(tiny_model("llama")), random_groups()

    def only_tools(outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return batch.token_mean(outputs.logprobs * ~batch.mask), {}

    found, _ = gradient(learner, groups, only_tools)
    assert not found.any()
    with pytest.raises(ValueError, match="trained token"):
        learner.update([Group([1], [Completion([2, 3], [False, False])])], lower)


def test_entropy_and_logprobs_are_those_of_the_temperature(tiny_model: ModelFolder) -> None:
    groups = random_groups(tools=False)
    learner = make_learner(tiny_model("llama"))
    cool = Learner(learner.model, temperature=0.5)
    _, metrics = gradient(cool, groups, lower)
    entropies = []
    with torch.no_grad():
        expected = own_logprobs(cool, groups)
        for group in groups:
            for c in group.completions:
                logits = learner.model.network(torch.tensor([group.prompt + c.tokens])).logits[0] / 0.5
                rows = logits.log_softmax(-1)[len(group.prompt) - 1 : -1]
                entropies.append(-(rows.exp() * rows).sum(-1))
    assert (flat(cool.logprobs(groups)) - expected).abs().max() < 1e-5
    assert (flat(learner.logprobs(groups)) - expected).abs().max() > 0.1
    assert metrics["entropy"] == pytest.approx(torch.cat(entropies).mean().item(), rel=1e-5)
    assert metrics["loss"] == pytest.approx(-expected.mean().item(), rel=1e-5)


def test_totals_count_the_whole_step_in_every_micro_batch(tiny_model: ModelFolder) -> None:
    groups, seen = random_groups(), []

    def spy(outputs: Outputs, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        seen.append((len(batch.groups), batch.totals))
        return lower(outputs, batch)

    learner = make_learner(tiny_model("llama"), micro_batch_tokens=1)
    learner.update(groups, spy, {"decided": 2})
    assert seen == [(1, Totals.of(groups, {"decided": 2}))] * len(groups)
    seen.clear()
    learner.assess(groups, spy, {"decided": 3})
    assert [totals.counts for _, totals in seen] == [{"decided": 3}] * len(groups)


def test_a_model_without_anything_to_train_is_refused(tiny_model: ModelFolder) -> None:
    with pytest.raises(ValueError, match="nothing to train"):
        Learner(load(str(tiny_model("llama"))))


# ---------------------------------------------------------------- the head, trained too


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_an_adapter_on_the_output_layer_is_trained(tiny_model: ModelFolder, family: str) -> None:
    """gemma3 ties its output layer to its embedding."""
    adapter = AdapterConfig(rank=4, targets="q_proj,lm_head")
    learner, groups = make_learner(tiny_model(family), adapter=adapter), random_groups()
    found, _ = gradient(learner, groups, weigh)
    assert any("lm_head" in name for name in learner.model.trained())
    assert relative(found, own_gradient(learner, groups, weigh)) < 1e-4


def test_full_fine_tuning_reaches_every_weight(tiny_model: ModelFolder) -> None:
    learner = make_learner(tiny_model("qwen2"), adapter=AdapterConfig(method="full"), stir=False)
    before = {n: p.clone() for n, p in learner.model.trained().items()}
    learner.learning_rate = 1e-3
    learner.update(random_groups(), lower)
    still = [n for n, p in learner.model.trained().items() if torch.equal(p, before[n])]
    assert still == []


# ---------------------------------------------------------------- the reference


def logratio(learner: Learner, groups: list[Group]) -> float:
    return (flat(learner.logprobs(groups)) - flat(learner.reference_logprobs(groups))).abs().max().item()


def sft_adapter(folder: Path, to: Path) -> Path:
    from tieout.learner.checkpoint import save_adapter

    learner = make_learner(folder)
    save_adapter(learner, to)
    return to


@pytest.mark.parametrize("start", ["fresh adapter", "SFT adapter", "full"])
def test_the_reference_is_the_policy_at_step_0_and_stays_there(
    tiny_model: ModelFolder, tmp_path: Path, start: str
) -> None:
    folder, groups = tiny_model("llama"), random_groups()
    base = flat(make_learner(folder, stir=False).logprobs(groups))
    if start == "SFT adapter":
        model = load(str(folder), AdapterConfig(), start=sft_adapter(folder, tmp_path / "sft"))
    elif start == "full":
        model = load(str(folder), AdapterConfig(method="full"), keep_reference=True)
    else:
        model = load(str(folder), AdapterConfig(rank=4))
    learner = Learner(model, learning_rate=1e-2)
    assert logratio(learner, groups) == 0
    at_start = flat(learner.reference_logprobs(groups))
    assert ((at_start - base).abs().max() > 0.1) == (start == "SFT adapter")  # not the bare base
    flags = {n: p.requires_grad for n, p in model.network.named_parameters()}
    for _ in range(3):
        learner.update(groups, lower)
    assert logratio(learner, groups) > 0.1
    assert torch.equal(flat(learner.reference_logprobs(groups)), at_start)
    assert {n: p.requires_grad for n, p in model.network.named_parameters()} == flags
    assert flat(learner.logprobs(groups)).ne(at_start).any()  # the policy is active again


def test_full_fine_tuning_without_a_kept_reference_says_what_to_do(tiny_model: ModelFolder) -> None:
    learner = Learner(load(str(tiny_model("llama")), AdapterConfig(method="full")), config=LearnerConfig())
    with pytest.raises(ValueError, match="keep_reference=True"):
        learner.reference_logprobs(random_groups())


def test_stirring_makes_every_adapter_weight_matter(tiny_model: ModelFolder) -> None:
    """What the tests above rest on: without it, half of a fresh adapter has no gradient."""
    learner = make_learner(tiny_model("llama"), stir=False)
    gradient(learner, random_groups(), weigh)
    assert any(not p.grad.any() for p in learner.model.trained().values())  # type: ignore[union-attr]
    stir_weights(learner)
    gradient(learner, random_groups(), weigh)
    assert all(p.grad.any() for p in learner.model.trained().values())  # type: ignore[union-attr]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_added_up_in_one_order(tiny_model: ModelFolder, family: str) -> None:
    """On a CPU the backward of `x[places]` adds to a shared place from several threads, in any order."""
    added: list[str] = []

    class Additions(TorchDispatchMode):
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "index_put" in str(operator) and (args[3:] or [(kwargs or {}).get("accumulate")])[0]:
                added.append(str(operator))
            return operator(*args, **(kwargs or {}))

    learner = make_learner(tiny_model(family), adapter=AdapterConfig(rank=4, alpha=8.0))
    with Additions():
        gradient(learner, random_groups(), weigh)
    assert added == []

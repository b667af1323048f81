"""How a model is decoded: the fastest way that gives its own log-probabilities, and no other in silence."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import VOCABULARY, random_groups
from tieout.learner import AdapterConfig, Model, load
from tieout.samplers import SamplingParams
from tieout.samplers.local import backends
from tieout.samplers.local.backends import BACKENDS, BackendName, DecodeJob, choose, disagreement
from tieout.samplers.local.cpu.lean import LeanStep
from tieout.samplers.local.decoding.decoder import SharedStep
from tieout.samplers.local.decoding.kv_cache import KVCache
from tieout.samplers.local.decoding.sampling import Request
from tieout.samplers.local.sampler import LocalSampler

ModelFolder = Callable[[str], Path]
PROMPTS = [g.prompt for g in random_groups([(23, [1]), (3, [1]), (40, [1])], seed=9)]
PARAMS = SamplingParams(max_new_tokens=20, seed=2)


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    backends._chosen.clear()
    yield
    backends._chosen.clear()


def chosen(model: Model, drafting: bool = False) -> backends.Choice:
    with model.merged() as network, torch.no_grad():
        return choose(model, network, drafting)


def decode(model: Model, backend: BackendName, params: SamplingParams = PARAMS) -> list[list[Request]]:
    requests = [[Request.make(params, 3 * i + k) for k in range(3)] for i in range(len(PROMPTS))]
    with model.merged() as network:
        BACKENDS[backend](network, DecodeJob(PROMPTS, requests, params, range(8), 6))
    return requests


def own(model: Model, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    """[C, V] log-probabilities of a plain forward."""
    with torch.no_grad(), model.merged() as network:
        logits = network(input_ids=torch.tensor([prompt + tokens])).logits[0]
    return logits[len(prompt) - 1 : -1].log_softmax(-1)


@pytest.mark.parametrize(
    ("family", "backend"),
    [
        *((f, "lean") for f in ["llama", "qwen2", "qwen3", "mistral", "gemma3"]),
        ("gemma2", "plain"),  # transformers' continuous batching leaves out its soft cap
        ("qwen3_next", "plain"),  # and does not know linear attention
    ],
)
def test_the_fastest_backend_that_is_right(tiny_model: ModelFolder, family: str, backend: str) -> None:
    model = load(str(tiny_model(family)), AdapterConfig(rank=2, targets="q_proj,v_proj", dropout=0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        choice = chosen(model)
    said = [str(w.message) for w in caught if "the sampler decodes" in str(w.message)]
    assert choice.backend == backend, choice.reason
    if backend == "lean":
        assert choice.reason == ""
        assert not said
    else:
        assert len(said) == 1
        assert "its prompts cannot be shared" in said[0]
        assert "batched: " in said[0]
    assert chosen(model) is choice  # asked once


@pytest.mark.parametrize("backend", ["lean", "shared", "plain"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_every_backend_samples_the_same(tiny_model: ModelFolder, family: str, backend: BackendName) -> None:
    """Tokens, and the log-probabilities and entropies of a plain forward."""
    model = load(str(tiny_model(family)))
    expected = decode(model, "plain")
    for prompt, group, other in zip(PROMPTS, decode(model, backend), expected, strict=True):
        assert [r.tokens for r in group] == [r.tokens for r in other]
        for request in group:
            logprobs = own(model, prompt, request.tokens)
            picked = logprobs.gather(-1, torch.tensor(request.tokens)[:, None])[:, 0]
            assert torch.allclose(torch.tensor(request.logprobs), picked, atol=2e-5)
            entropy = -(logprobs.exp() * logprobs).sum(-1)
            assert torch.allclose(torch.tensor(request.entropies), entropy, atol=2e-5)


def test_continuous_batching_of_transformers_serves_what_ours_does_not(tiny_model: ModelFolder) -> None:
    """A model loaded with another attention: right log-probabilities, stop tokens, repeatable, and a warning."""
    model = load(str(tiny_model("llama")))
    model.causal.set_attn_implementation("sdpa")
    state = torch.random.get_rng_state()
    with pytest.warns(UserWarning, match=r"'batched' backend.*brings its own attention \(sdpa\)"):
        assert chosen(model).backend == "batched"
    first, again = (decode(model, "batched") for _ in range(2))
    assert [(r.tokens, r.logprobs) for g in first for r in g] == [
        (r.tokens, r.logprobs) for g in again for r in g
    ]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model.causal.config._attn_implementation == "sdpa"
    for prompt, group in zip(PROMPTS, first, strict=True):
        assert len({tuple(r.tokens) for r in group}) == 3
        for request in group:
            picked = own(model, prompt, request.tokens).gather(-1, torch.tensor(request.tokens)[:, None])[
                :, 0
            ]
            assert torch.allclose(torch.tensor(request.logprobs), picked, atol=2e-5)
            assert not any(t < 8 for t in request.tokens[:-1])
            assert request.tokens[-1] < 8 or len(request.tokens) == PARAMS.max_new_tokens
    greedy = SamplingParams(max_new_tokens=20, temperature=0)
    assert [[r.tokens for r in g] for g in decode(model, "batched", greedy)] == [
        [r.tokens for r in g] for g in decode(model, "plain", greedy)
    ]


# ---------------------------------------------------------------- planted faults


def forget_the_prompt(self: KVCache, layer: int, query: torch.Tensor, *rest: Any) -> torch.Tensor:
    """The prompt's part is read with too small a weight."""
    return read(self, layer, query * 0.9, *rest)


def stale_column(self: KVCache, *given: Any) -> None:
    """Rows that begin late see what stood in their row before."""
    begin(self, *given)
    self.level = True


def wide_open(self: KVCache, window: int | None) -> torch.Tensor | None:
    """The tokens of a draft see those that follow them."""
    bias = own_bias(self, window)
    return bias if bias is None or self.width_fed == 1 else bias[:, -1:].expand_as(bias)


def kept_drafts(self: KVCache, rows: list[int], counts: list[int], first: list[int]) -> None:
    """A token of a draft that was wrong stays."""
    fed = dict(zip(rows, counts, strict=True))
    before = getattr(self, "fed_before", {})
    begin(self, rows, counts, [f + (before.get(r, 1) > 1) for r, f in zip(rows, first, strict=True)])
    self.fed_before = fed  # type: ignore[attr-defined]


own_bias = KVCache._own_bias
read, begin, lean_step, shared_step = KVCache.read, KVCache.begin, LeanStep.__call__, SharedStep.__call__


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("read", forget_the_prompt),
        ("begin", stale_column),
        ("begin", kept_drafts),
        ("_own_bias", wide_open),
    ],
)
def test_a_faulty_cache_is_not_used(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, name: str, fault: Any
) -> None:
    model = load(str(tiny_model("llama")))
    monkeypatch.setattr(KVCache, name, fault)
    with pytest.warns(
        UserWarning, match=r"'batched' backend, not the fastest: lean: .*log-prob.* shared: .*log-prob"
    ):
        assert chosen(model, drafting=True).backend == "batched"
    assert model.causal.config._attn_implementation == "tieout"


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_lean_in_bf16(tiny_model: ModelFolder, family: str) -> None:
    """It passes the self-check, and its log-probabilities are near those of the same weights in fp32."""
    model = load(str(tiny_model(family)), dtype=torch.bfloat16)
    choice = chosen(model)
    assert choice.backend == "lean", choice.reason
    exact = load(str(tiny_model(family)), dtype=torch.float32)
    for prompt, group in zip(PROMPTS, decode(model, "lean"), strict=True):
        for request in group:
            picked = own(exact, prompt, request.tokens).gather(-1, torch.tensor(request.tokens)[:, None])[
                :, 0
            ]
            assert (torch.tensor(request.logprobs) - picked).abs().max() < 0.1


def test_a_faulty_lean_step_is_not_used(tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hidden states are a thousandth off: the general step serves, and says so once."""
    model = load(str(tiny_model("qwen3")))
    monkeypatch.setattr(LeanStep, "__call__", lambda self, *given: lean_step(self, *given) * 1.001)
    drawing = LocalSampler(model)
    with pytest.warns(
        UserWarning, match="'shared' backend, not the fastest: lean: log-probabilities differ by"
    ):
        drawing.sample(PROMPTS, 1, PARAMS)
    assert drawing.choice is not None
    assert drawing.choice.backend == "shared"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        drawing.sample(PROMPTS, 1, PARAMS)


def test_an_unknown_family_takes_the_general_step_without_alarm(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(str(tiny_model("llama")))
    monkeypatch.setattr("tieout.samplers.local.cpu.lean.FAMILIES", {"other"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        choice = chosen(model)
    assert choice == backends.Choice("shared", "lean: llama is not among other")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
        lambda config: config.update({"model_type": "granite"}),
    ],
)
def test_what_the_lean_step_cannot_do_it_refuses(tiny_model: ModelFolder, change: Any) -> None:
    model = load(str(tiny_model("llama")))
    change(model.causal.config)
    with pytest.raises(backends.NotLean):
        LeanStep(model.causal)


def test_the_check_sees_what_a_plain_forward_sees(tiny_model: ModelFolder) -> None:
    """A decoder of other weights fails it, one of the same passes, and one that ends in an error says which."""
    model = load(str(tiny_model("llama")))

    def other(network: Any, work: DecodeJob) -> None:
        with torch.no_grad():
            network.model.norm.weight.mul_(1.001)
            BACKENDS["plain"](network, work)
            network.model.norm.weight.div_(1.001)

    def broken(network: Any, work: DecodeJob) -> None:
        raise RuntimeError("no such kernel")

    assert disagreement(model.causal, BACKENDS["plain"]) is None
    assert "nats" in str(disagreement(model.causal, other))
    assert disagreement(model.causal, broken) == "it failed with RuntimeError: no such kernel"


def test_entropy_of_a_flat_distribution(tiny_model: ModelFolder) -> None:
    model = load(str(tiny_model("llama")))
    with torch.no_grad():
        model.causal.get_output_embeddings().weight.zero_()
    for group in decode(model, "lean"):
        for request in group:
            assert request.entropies == pytest.approx([math.log(VOCABULARY)] * len(request.tokens), abs=1e-5)

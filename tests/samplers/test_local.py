"""The sampler draws from the model's own distribution, says with what probability, and leaves no trace."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from random_groups import VOCABULARY, flat, make_learner, own_logprobs, random_groups, stir_weights
from tieout.learner import AdapterConfig, Learner, Model, load
from tieout.samplers import SamplingParams
from tieout.samplers.local.backends import BACKENDS, BackendName, DecodeJob
from tieout.samplers.local.decoding.kv_cache import KVCache
from tieout.samplers.local.decoding.sampling import Request, sample_tokens
from tieout.samplers.local.sampler import LocalSampler
from tieout.types import Completion, Group

ModelFolder = Callable[[str], Path]
SHARING = ["llama", "qwen2", "qwen3", "mistral", "gemma3"]
PLAIN = ["gemma2", "qwen3_next"]
PROMPTS = [g.prompt for g in random_groups([(23, [1]), (3, [1]), (1, [1]), (23, [1]), (40, [1])], seed=9)]


@dataclass
class Stops:
    """What the sampler needs of a chat: which tokens end a completion, and text."""

    stop_tokens: tuple[int, ...] = (1,)

    def text(self, tokens: Any) -> str:
        return " ".join(map(str, tokens))

    def prompt(self, prompt: Any) -> list[int]:
        return list(prompt.encode())


def sampler(model: Model, stops: tuple[int, ...] = (1,), batch_size: int = 192) -> LocalSampler:
    return LocalSampler(model, Stops(stops), batch_size)  # type: ignore[arg-type]


def forced(
    model: Model,
    backend: BackendName,
    prompts: list[list[int]],
    group: int,
    params: SamplingParams,
    stops: tuple[int, ...],
    max_rows: int = 192,
    first: int = 0,
) -> list[list[Request]]:
    """By this backend, whatever the sampler would choose."""
    requests = [
        [Request.make(params, (first + i) * group + k) for k in range(group)] for i in range(len(prompts))
    ]
    with torch.no_grad(), model.merged() as network:
        BACKENDS[backend](network, DecodeJob(prompts, requests, params, stops, max_rows))
    return requests


def policy(folder: Path, **adapter: Any) -> Learner:
    return make_learner(folder, adapter=AdapterConfig(rank=4, **adapter))


# ---------------------------------------------------------------- the distribution


@pytest.fixture(scope="module")
def five_words(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A random Llama over a vocabulary of five."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=5,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.4,
        attn_implementation="tieout",
    )
    network = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return Model(network, None, "five words")


def enumerate_sequences(
    model: Model, prompt: list[int], length: int, temperature: float
) -> dict[tuple[int, ...], float]:
    """Every completion of at most `length` tokens that token 1 ends, with its probability."""
    result: dict[tuple[int, ...], float] = {}
    for tokens in itertools.product(range(5), repeat=length):
        end = tokens.index(1) + 1 if 1 in tokens else length
        if tokens[:end] in result:
            continue
        with torch.no_grad():
            logits = (
                model.network(torch.tensor([prompt + list(tokens[:end])])).logits[0].double() / temperature
            )
        rows = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        result[tokens[:end]] = rows.gather(-1, torch.tensor(tokens[:end])[:, None]).sum().exp().item()
    assert sum(result.values()) == pytest.approx(1)
    return result


DRAWS = 4_000


def pvalue(completions: list[Completion], exact: dict[tuple[int, ...], float]) -> float:
    """Of a chi-square test of goodness of fit; sequences expected fewer than five times are one class."""
    counts = Counter(tuple(c.tokens) for c in completions)
    assert counts.keys() <= exact.keys()
    common = [s for s, p in exact.items() if p * DRAWS >= 5]
    observed = [counts[s] for s in common]
    expected = [exact[s] * DRAWS for s in common]
    return float(chisquare([*observed, DRAWS - sum(observed)], [*expected, DRAWS - sum(expected)]).pvalue)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_completions_come_with_the_probability_that_the_model_gives_them(
    five_words: Model, temperature: float
) -> None:
    """All completions of up to three tokens are enumerated, and counted in thousands of draws."""
    prompts = [[2, 4, 3], [3]]
    params = SamplingParams(max_new_tokens=3, temperature=temperature, seed=11)
    drawn = sampler(five_words, batch_size=2 * DRAWS).sample(prompts, DRAWS, params)
    for prompt, completions in zip(prompts, drawn, strict=True):
        exact = enumerate_sequences(five_words, prompt, 3, temperature)
        assert pvalue(completions, exact) > 0.001
        for completion in completions[:50]:
            logprobs = completion.logprobs or []
            assert sum(logprobs) == pytest.approx(np.log(exact[tuple(completion.tokens)]), abs=1e-4)


def test_the_chi_square_would_see_a_wrong_temperature(five_words: Model) -> None:
    """The bound above has teeth: ten percent of temperature are seen."""
    exact = enumerate_sequences(five_words, [3], 3, 1.0)
    params = SamplingParams(max_new_tokens=3, temperature=0.9, seed=11)
    (completions,) = sampler(five_words, batch_size=DRAWS).sample([[3]], DRAWS, params)
    assert pvalue(completions, exact) < 1e-4


def test_evenly_spread_uniforms_give_each_token_its_exact_share() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 50, generator=generator) * 3
    uniforms = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    for temperature in (1.0, 0.5):
        tokens, logprobs, _ = sample_tokens(
            logits.expand(10_000, -1), uniforms, SamplingParams(temperature=temperature)
        )
        exact = (logits[0].double() / temperature).softmax(-1)
        share = torch.bincount(tokens, minlength=50) / 10_000
        assert (share - exact).abs().max() <= 1.01e-4
        assert torch.allclose(logprobs.double(), exact[tokens].log(), atol=1e-5)


def test_a_nucleus_holds_the_likeliest_tokens_and_no_more() -> None:
    logits = torch.tensor([[0.4, 0.05, 0.3, 0.05, 0.2]]).log()
    uniforms = (torch.arange(1_000, dtype=torch.float64) + 0.5) / 1_000
    tokens, logprobs, _ = sample_tokens(logits.expand(1_000, -1), uniforms, SamplingParams(top_p=0.6))
    assert set(tokens.tolist()) == {0, 2}
    for token, probability in ((0, 4 / 7), (2, 3 / 7)):
        assert (tokens == token).float().mean().item() == pytest.approx(probability, abs=2e-3)
        assert logprobs[tokens == token].exp().tolist() == pytest.approx(
            [probability] * int((tokens == token).sum())
        )


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_impossible_tokens_are_never_drawn(uniform: float) -> None:
    impossible = -float("inf")
    logits = torch.tensor([[impossible, 1.0, impossible, 0.5, impossible]])
    tokens, logprobs, _ = sample_tokens(
        logits, torch.tensor([uniform], dtype=torch.float64), SamplingParams()
    )
    assert tokens.item() in (1, 3)
    assert logprobs.isfinite().all()


# ---------------------------------------------------------------- against the learner and against transformers


@pytest.mark.parametrize(("family", "temperature"), [*((f, 1.0) for f in [*SHARING, *PLAIN]), ("qwen2", 0.7)])
def test_the_learner_agrees_with_every_log_probability(
    tiny_model: ModelFolder, family: str, temperature: float
) -> None:
    """Prompts and completions both longer than the sliding window of 16; some completions end early."""
    learner = policy(tiny_model(family), targets="q_proj,v_proj")
    learner.temperature = temperature
    drawn = sampler(learner.model, tuple(range(8))).sample(
        PROMPTS, 3, SamplingParams(max_new_tokens=24, temperature=temperature, seed=5)
    )
    groups = [Group(p, c) for p, c in zip(PROMPTS, drawn, strict=True)]
    with torch.no_grad():
        exact = own_logprobs(learner, groups)
    sampled = flat([c.logprobs for g in groups for c in g.completions])
    assert (sampled - exact).abs().max() < (
        5e-5 if family == "qwen3_next" else 2e-5
    )  # a recurrence rounds more
    if family not in PLAIN:
        assert (flat(learner.logprobs(groups)) - sampled).abs().max() < 2e-5
    assert {len(c.tokens) for g in groups for c in g.completions} > {24}


@pytest.mark.parametrize("family", [*SHARING, *PLAIN])
def test_greedy_is_what_transformers_generates(tiny_model: ModelFolder, family: str) -> None:
    learner = policy(tiny_model(family), targets="q_proj,v_proj")
    prompts = PROMPTS[:2] if family in PLAIN else PROMPTS
    found = sampler(learner.model).sample(prompts, 1, SamplingParams(max_new_tokens=18, temperature=0))
    for prompt, (completion,) in zip(prompts, found, strict=True):
        with torch.no_grad():
            ids = torch.tensor([prompt])
            expected = learner.model.network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=18,
                do_sample=False,
                eos_token_id=1,
                pad_token_id=0,
            )
        assert completion.tokens == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_sampling_leaves_the_weights_as_they_were(tiny_model: ModelFolder, method: str) -> None:
    learner = policy(tiny_model("llama"), method=method)
    before = {n: p.detach().clone() for n, p in learner.model.network.named_parameters()}
    flags = {n: p.requires_grad for n, p in learner.model.network.named_parameters()}
    logprobs = learner.logprobs(random_groups())
    for _ in range(3):
        sampler(learner.model).sample(PROMPTS, 2, SamplingParams(max_new_tokens=3))
    after = dict(learner.model.network.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(p, before[n]) for n, p in after.items())
    assert {n: p.requires_grad for n, p in after.items()} == flags
    assert learner.logprobs(random_groups()) == logprobs


def test_the_weights_are_the_current_ones(tiny_model: ModelFolder) -> None:
    learner = policy(tiny_model("llama"))
    drawing, params = sampler(learner.model), SamplingParams(max_new_tokens=12)
    for scale in (0.0, 0.02, 0.04):
        stir_weights(learner, scale)
        drawing.load(learner)
        groups = [Group(p, c) for p, c in zip(PROMPTS, drawing.sample(PROMPTS, 2, params), strict=True)]
        sampled = flat([c.logprobs for g in groups for c in g.completions])
        assert (flat(learner.logprobs(groups)) - sampled).abs().max() < 2e-5
    with pytest.raises(ValueError, match="weights of the model it was made with"):
        drawing.load(policy(tiny_model("llama")))


def test_the_reference_does_not_reach_the_sampler(tiny_model: ModelFolder, tmp_path: Path) -> None:
    from tieout.learner.checkpoint import save_adapter

    save_adapter(policy(tiny_model("llama")), tmp_path / "sft")
    learner = Learner(load(str(tiny_model("llama")), AdapterConfig(), start=tmp_path / "sft"))
    stir_weights(learner, 0.2)
    (drawn,) = sampler(learner.model).sample(PROMPTS[:1], 2, SamplingParams(max_new_tokens=12))
    group = Group(PROMPTS[0], drawn)
    sampled = flat([c.logprobs for c in drawn])
    assert (flat(learner.logprobs([group])) - sampled).abs().max() < 2e-5
    assert (flat(learner.reference_logprobs([group])) - sampled).abs().max() > 0.1


# ---------------------------------------------------------------- batching, stopping, compacting


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2"])
def test_batching_decides_nothing(tiny_model: ModelFolder, family: str) -> None:
    """Each request has its own stream of random numbers, whoever it shares a batch with."""
    learner = policy(tiny_model(family), targets="q_proj,v_proj")
    params = SamplingParams(max_new_tokens=16, seed=3)
    one, many = (
        sampler(learner.model, tuple(range(12)), size).sample(PROMPTS, 4, params) for size in (1, 64)
    )
    assert [[c.tokens for c in g] for g in one] == [[c.tokens for c in g] for g in many]
    assert torch.allclose(
        flat([c.logprobs for g in one for c in g]), flat([c.logprobs for g in many for c in g]), atol=1e-5
    )
    again = sampler(learner.model, tuple(range(12)), 64).sample(PROMPTS, 4, params)
    assert again == many
    other = sampler(learner.model, tuple(range(12)), 64).sample(PROMPTS, 4, replace(params, seed=4))
    assert [c.tokens for g in other for c in g] != [c.tokens for g in many for c in g]
    same_prompt = {tuple(c.tokens) for c in many[0]}
    assert len(same_prompt) == 4  # no two requests share a stream


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gemma2"])
def test_completions_end_with_their_first_stop_token(tiny_model: ModelFolder, family: str) -> None:
    learner = policy(tiny_model(family), targets="q_proj,v_proj")
    stops = tuple(range(0, VOCABULARY, 9))
    drawn = sampler(learner.model, stops).sample(PROMPTS, 6, SamplingParams(max_new_tokens=12))
    reasons = Counter()
    for completion in (c for group in drawn for c in group):
        ended = completion.tokens[-1] in stops
        assert not any(t in stops for t in completion.tokens[:-1])
        assert ended or len(completion.tokens) == 12
        assert completion.finish_reason == ("stop" if ended else "length")
        assert len(completion.tokens) == len(completion.mask) == len(completion.logprobs or [])
        assert all(completion.mask)
        assert completion.text == " ".join(map(str, completion.tokens))
        reasons[completion.finish_reason] += 1
    assert min(reasons["stop"], reasons["length"]) > 0


@pytest.mark.parametrize("backend", ["lean", "shared"])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3"])
def test_rows_that_come_and_go_change_no_other(
    tiny_model: ModelFolder, monkeypatch: pytest.MonkeyPatch, family: str, backend: BackendName
) -> None:
    """Prompts wait, take the rows of those that ended, and the batch shrinks at the end; nobody notices."""
    learner = policy(tiny_model(family))
    stops, params = tuple(range(0, VOCABULARY, 14)), SamplingParams(max_new_tokens=24, seed=1)
    prompts = [*PROMPTS, *PROMPTS[::-1], *PROMPTS]
    filled, kept, steps = list[int](), list[int](), itertools.count()
    fill, keep, begin = KVCache.fill, KVCache.keep, KVCache.begin
    step = 0

    def spy_on_begin(self: KVCache, *given: Any) -> None:
        nonlocal step
        step = next(steps)
        begin(self, *given)

    def spy_on_fill(self: KVCache, place: int, prompt: torch.Tensor, rows: list[int]) -> None:
        filled.append(step)
        fill(self, place, prompt, rows)

    def spy_on_keep(self: KVCache, rows: list[int]) -> None:
        kept.append(len(rows))
        keep(self, rows)

    monkeypatch.setattr(KVCache, "begin", spy_on_begin)
    monkeypatch.setattr(KVCache, "fill", spy_on_fill)
    monkeypatch.setattr(KVCache, "keep", spy_on_keep)
    drawn = forced(learner.model, backend, prompts, 4, params, stops, max_rows=16)
    assert len(filled) == len(prompts)
    assert len(set(filled)) >= 4  # prompts began at many moments, some past the room of 24 columns
    assert max(filled) > 24
    assert len(kept) >= 2
    alone = [
        forced(learner.model, backend, [prompt], 4, params, stops, max_rows=4, first=i)[0]
        for i, prompt in enumerate(prompts)
    ]
    assert [[r.tokens for r in g] for g in drawn] == [[r.tokens for r in g] for g in alone]
    groups = [
        Group(p, [Completion(r.tokens, [True] * len(r.tokens)) for r in g])
        for p, g in zip(prompts, drawn, strict=True)
    ]
    sampled = flat([r.logprobs for g in drawn for r in g])
    assert (flat(learner.logprobs(groups)) - sampled).abs().max() < 2e-5


def test_a_prompt_is_computed_once_for_all_its_completions(tiny_model: ModelFolder) -> None:
    learner = policy(tiny_model("llama"))
    fed: list[int] = []
    drawing = sampler(learner.model, ())
    drawing.sample(PROMPTS, 8, SamplingParams(max_new_tokens=5))  # checks itself
    learner.model.causal.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    drawing.sample(PROMPTS, 8, SamplingParams(max_new_tokens=5))
    assert drawing.choice is not None
    assert drawing.choice.backend == "lean"
    assert fed == [sum(map(len, PROMPTS))]
    fed.clear()
    forced(learner.model, "shared", PROMPTS, 8, SamplingParams(max_new_tokens=5), ())
    assert fed == [sum(map(len, PROMPTS)), *[len(PROMPTS) * 8] * 4]


def test_memory_bounds_the_rows(tiny_model: ModelFolder) -> None:
    """Fewer rows at the same time, the same completions."""
    learner, params = policy(tiny_model("llama")), SamplingParams(max_new_tokens=16)
    whole = sampler(learner.model)
    small = LocalSampler(learner.model, Stops(), cache_gigabytes=1e-4)  # type: ignore[arg-type]
    sizes: list[int] = []
    init = KVCache.__init__

    def spy(self: KVCache, *arguments: Any) -> None:
        init(self, *arguments)
        sizes.append(self.prompts.nbytes + self.own.nbytes)

    with pytest.MonkeyPatch.context() as patch:
        small.sample(PROMPTS[:1], 1, params)
        patch.setattr(KVCache, "__init__", spy)
        few = small.sample(PROMPTS * 4, 2, params)
        many = whole.sample(PROMPTS * 4, 2, params)
    assert [[c.tokens for c in g] for g in few] == [[c.tokens for c in g] for g in many]
    assert sizes[0] < 1.5e-4 * 2**30 < sizes[1]


def test_one_token_is_enough_and_progress_counts_to_the_end(tiny_model: ModelFolder) -> None:
    learner, told = policy(tiny_model("llama")), list[int]()
    drawing = LocalSampler(learner.model, Stops(), 6, told.append)  # type: ignore[arg-type]
    drawn = drawing.sample(PROMPTS, 3, SamplingParams(max_new_tokens=1))
    assert all(len(c.tokens) == 1 for g in drawn for c in g)
    assert told == [6, 6, 3]


def test_text_in_text_out(tiny_model: ModelFolder) -> None:
    """With the model's own chat: the same text, whatever stands beside it."""
    model = load(str(tiny_model("llama")))
    params = SamplingParams(max_new_tokens=8, temperature=0)
    asked = [[{"role": "user", "content": text}] for text in ("one", "two, and some more")]
    together = LocalSampler(model).complete(asked, params)
    assert together == [LocalSampler(model).complete([one], params)[0] for one in asked]
    tokens = LocalSampler(model).sample([model.chat.prompt(asked[0])], 1, params)[0][0].tokens
    assert together[0] == model.chat.text(tokens)


def test_what_does_not_fit_is_refused_before_any_work(tiny_model: ModelFolder) -> None:
    drawing = sampler(load(str(tiny_model("llama"))))
    with pytest.raises(
        ValueError, match=r"prompt of 2000 tokens and max_new_tokens=49 exceed .* context of 2048"
    ):
        drawing.sample([[5], [5] * 2000], 1, SamplingParams(max_new_tokens=49))
    with pytest.raises(ValueError, match="prompt has no tokens"):
        drawing.sample([[5], []], 1, SamplingParams(max_new_tokens=1))
    for wrong in ({"max_new_tokens": 0}, {"temperature": -1}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SamplingParams(**wrong)  # type: ignore[arg-type]

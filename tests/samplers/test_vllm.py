"""Against a fake server: what is asked, what is refused, and what happens when servers fail."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_vllm import LOGITS, STOP, FakeVLLM, Misbehave, logprobs
from random_groups import make_learner
from tieout.errors import InputError
from tieout.learner import AdapterConfig, Learner, load
from tieout.samplers import SamplingParams
from tieout.samplers.vllm.dispatch import NoServerLeft
from tieout.samplers.vllm.sampler import VLLMSampler
from tieout.samplers.vllm.server import Refused, Server
from tieout.samplers.vllm.server_check import logprobs_mode
from tieout.training.placement import Placement
from tieout.types import Completion

ModelFolder = Callable[[str], Path]
PARAMS = SamplingParams(max_new_tokens=12, temperature=0.7, seed=5)
PROMPTS = [[3, 4], [5], [3, 4], [6, 7, 2], [2]]


@dataclass
class Letters:
    """What a sampler needs of a chat."""

    stop_tokens: tuple[int, ...] = (STOP,)

    def text(self, tokens: Any) -> str:
        return " ".join(map(str, tokens))

    def prompt(self, prompt: Any) -> list[int]:
        return [len(prompt) % len(LOGITS)]


@pytest.fixture
def start() -> Iterator[Callable[..., FakeVLLM]]:
    """`start(mode=...)`: a fake server, stopped at the end."""
    running: list[FakeVLLM] = []

    def start(**options: Any) -> FakeVLLM:
        running.append(FakeVLLM(**options))
        return running[-1]

    yield start
    for server in running:
        server.stop()


def sampler(*servers: FakeVLLM | str, **options: Any) -> VLLMSampler:
    urls = [s if isinstance(s, str) else s.url for s in servers]
    chat: Any = Letters()
    return VLLMSampler(urls, chat, **{"max_retries": 2, "pause_seconds": 0.001, **options})


def tokens_of(drawn: list[list[Completion]]) -> list[list[list[int]]]:
    return [[c.tokens for c in group] for group in drawn]


# ---------------------------------------------------------------- draws


def test_draws_carry_the_log_probabilities_they_were_drawn_with(start: Callable[..., FakeVLLM]) -> None:
    drawn = sampler(start()).sample(PROMPTS, 40, PARAMS)
    assert [len(group) for group in drawn] == [40] * len(PROMPTS)
    truth = logprobs(PARAMS.temperature)
    completions = [c for group in drawn for c in group]
    for c in completions:
        assert c.logprobs == pytest.approx([truth[t] for t in c.tokens])
        assert all(c.mask)
        assert c.text == " ".join(map(str, c.tokens))
        assert (c.finish_reason == "stop") == (c.tokens[-1] == STOP)
        assert c.finish_reason == "stop" or len(c.tokens) == PARAMS.max_new_tokens
    first = Counter(c.tokens[0] for c in completions)
    for token, logprob in enumerate(truth):
        share = math.exp(logprob)
        assert abs(first[token] / 200 - share) < 4 * math.sqrt(share * (1 - share) / 200)


def test_nothing_is_left_to_the_servers_defaults(start: Callable[..., FakeVLLM]) -> None:
    server = start()
    sampler(server).sample([[3]], 2, PARAMS)
    (body,) = server.drawn()
    assert {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}.items() <= body.items()
    assert {"presence_penalty": 0.0, "frequency_penalty": 0.0, "temperature": 0.7}.items() <= body.items()
    assert body["stop_token_ids"] == [STOP]
    assert body["n"] == 2  # one request draws a group, so that its prompt is computed once


def test_draws_depend_on_seed_and_position_alone(start: Callable[..., FakeVLLM]) -> None:
    one, two = start(), start()
    alone = tokens_of(sampler(one, num_workers=1).sample(PROMPTS, 3, PARAMS))
    assert alone[0] != alone[2]  # the same prompt at two positions
    assert tokens_of(sampler(one, two).sample(PROMPTS, 3, PARAMS)) == alone
    assert tokens_of(sampler(one).sample(PROMPTS[:2], 3, PARAMS)) == alone[:2]
    assert tokens_of(sampler(one).sample(PROMPTS[:2], 2, PARAMS)) == [group[:2] for group in alone[:2]]
    other = SamplingParams(PARAMS.max_new_tokens, PARAMS.temperature, seed=6)
    assert tokens_of(sampler(one).sample(PROMPTS, 3, other)) != alone


def test_texts_of_the_base_before_a_load(start: Callable[..., FakeVLLM]) -> None:
    server = start()
    texts = sampler(server).complete(["abc", "de"], SamplingParams(4, top_p=0.9))
    assert all(int(word) < len(LOGITS) for text in texts for word in text.split())
    assert {body["model"] for body in server.drawn()} == {"tiny"}
    assert {body["top_p"] for body in server.drawn()} == {0.9}  # to show, not to train on


def test_progress_counts_completions(start: Callable[..., FakeVLLM]) -> None:
    seen: list[int] = []
    sampler(start(), progress=seen.append).sample(PROMPTS, 3, PARAMS)
    assert sum(seen) == 15


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("mode", ["raw_logprobs", "raw_logits", "processed_logits"])
def test_a_server_with_other_log_probabilities_is_refused(start: Callable[..., FakeVLLM], mode: str) -> None:
    with pytest.raises(ValueError, match=f"reports {mode}, .*--logprobs-mode processed_logprobs"):
        sampler(start(mode=mode))


def test_a_server_that_cuts_off_tokens_is_refused(start: Callable[..., FakeVLLM]) -> None:
    with pytest.raises(ValueError, match="after top-k or top-p"):
        sampler(start(mode="top_k"))


@given(st.lists(st.floats(-12, 12), min_size=8, max_size=60, unique=True), st.integers(0, 2**32))
def test_the_mode_is_told_from_any_distribution_that_is_not_flat(logits: list[float], seed: int) -> None:
    """With the noise of half precision in each of the two forwards."""
    import random

    rng = random.Random(seed)

    def told(mode: str, temperature: float) -> dict[str, float]:
        noisy = [x + rng.gauss(0, 0.002) for x in logits]
        scaled = [x / temperature for x in noisy]
        values = scaled if mode.startswith("processed") else noisy
        if mode.endswith("logprobs"):
            highest = max(values)
            total = highest + math.log(sum(math.exp(v - highest) for v in values))
            values = [v - total for v in values]
        best = sorted(range(len(values)), key=lambda t: -values[t])[:5]
        return {str(t): values[t] for t in best}

    top = sorted(logits)[-5:]
    if top[-1] - top[0] < 0.1 or sum(math.exp(x - top[-1]) for x in logits) < 1.01:
        return  # flat, or one token has it all
    for mode in ("processed_logprobs", "raw_logprobs"):
        assert logprobs_mode(told(mode, 1.0), told(mode, 2.0)) == mode
    if top[-1] > 0.1:
        for mode in ("processed_logits", "raw_logits"):
            assert logprobs_mode(told(mode, 1.0), told(mode, 2.0)) == mode


def test_truncated_draws_are_refused_for_training_with_the_reason(start: Callable[..., FakeVLLM]) -> None:
    server = start()
    with pytest.raises(ValueError, match=r"top_p is 0\.9; training samples need top_p=1.*ratio is biased"):
        sampler(server).sample([[3]], 2, SamplingParams(4, top_p=0.9))

    @dataclass(frozen=True)
    class WithTopK(SamplingParams):
        top_k: int = 0

    with pytest.raises(ValueError, match=r"top_k is 50; training samples need top_k=0"):
        sampler(server).sample([[3]], 2, WithTopK(4, top_k=50))
    assert not server.drawn()
    sampler(server).sample([[3]], 2, WithTopK(4))


def test_what_does_not_fit_is_refused_before_it_is_sent(start: Callable[..., FakeVLLM]) -> None:
    server = start(context=20)
    with pytest.raises(
        ValueError, match=r"10 tokens and max_new_tokens=12 exceed the server's context of 20"
    ):
        sampler(server).sample([[2] * 10], 1, PARAMS)
    with pytest.raises(ValueError, match="no tokens"):
        sampler(server).sample([[2], []], 1, PARAMS)
    assert not server.drawn()


def test_servers_of_different_models_are_refused(start: Callable[..., FakeVLLM]) -> None:
    with pytest.raises(ValueError, match="different models"):
        sampler(start(), start(model="other"))


@pytest.mark.parametrize("urls", [[], ["http://a", "http://a"], "127.0.0.1:8000"])
def test_addresses_are_checked(urls: Any) -> None:
    chat: Any = Letters()
    with pytest.raises(ValueError, match=r"server|address"):
        VLLMSampler(urls, chat)


# ---------------------------------------------------------------- servers that fail


def short(reply: Any) -> Any:
    return {**reply, "choices": reply["choices"][1:]}


def uneven(reply: Any) -> Any:
    reply["choices"][0]["logprobs"]["token_logprobs"].append(-1.0)
    return reply


def no_number(reply: Any) -> Any:
    reply["choices"][0]["logprobs"]["token_logprobs"][0] = float("nan")
    return reply


def no_tokens(reply: Any) -> Any:
    del reply["choices"][0]["token_ids"]
    return reply


def aborted(reply: Any) -> Any:
    reply["choices"][0]["finish_reason"] = "abort"
    return reply


def extra_token(reply: Any) -> Any:
    for choice in reply["choices"]:
        choice["token_ids"] = [2] * (PARAMS.max_new_tokens + 1)
        choice["logprobs"]["token_logprobs"] = [-1.0] * (PARAMS.max_new_tokens + 1)
    return reply


def no_stop_token(reply: Any) -> Any:
    reply["choices"][0] |= {"token_ids": [2, 3], "finish_reason": "stop"}
    reply["choices"][0]["logprobs"]["token_logprobs"] = [-1.0, -1.0]
    return reply


def early_length(reply: Any) -> Any:
    reply["choices"][0] |= {"token_ids": [2, 3], "finish_reason": "length"}
    reply["choices"][0]["logprobs"]["token_logprobs"] = [-1.0, -1.0]
    return reply


def true_token(reply: Any) -> Any:
    reply["choices"][0]["token_ids"][0] = True
    return reply


def true_logprob(reply: Any) -> Any:
    reply["choices"][0]["logprobs"]["token_logprobs"][0] = False
    return reply


ODD: list[Misbehave] = [extra_token, no_stop_token, early_length, true_token, true_logprob]
FAILURES: list[Misbehave] = [
    *ODD,
    aborted,
    429,
    500,
    503,
    "drop",
    "garbage",
    short,
    uneven,
    no_number,
    no_tokens,
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: getattr(failure, "__name__", str(failure)))
def test_a_failure_that_passes_changes_nothing(start: Callable[..., FakeVLLM], failure: Misbehave) -> None:
    server = start()
    expected = tokens_of(sampler(server).sample(PROMPTS, 3, PARAMS))
    server.next = [failure, failure]
    assert tokens_of(sampler(server, num_workers=1).sample(PROMPTS, 3, PARAMS)) == expected
    assert not server.next


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: getattr(failure, "__name__", str(failure)))
def test_a_failure_that_stays_ends_the_server_with_its_reason(
    start: Callable[..., FakeVLLM], failure: Misbehave
) -> None:
    server = start()
    server.next = [failure] * 100
    told = str(failure) if isinstance(failure, int) else "reply|connection|closed"
    with pytest.raises(NoServerLeft, match=f"(?is){server.url}.*({told})"):
        sampler(server, num_workers=1).sample([[3]], 3, PARAMS)
    assert len(server.next) == 97  # the first attempt and two more


def test_a_token_that_the_policy_does_not_have_is_no_completion(
    start: Callable[..., FakeVLLM], learner: Learner
) -> None:
    def foreign(reply: Any) -> Any:
        reply["choices"][0]["token_ids"][0] = 10**6
        return reply

    server = start()
    drawing = sampler(server, num_workers=1)
    drawing.load(learner)
    server.next = [foreign] * 9
    with pytest.raises(NoServerLeft, match="has token 1000000, and the policy's vocabulary"):
        drawing.sample([[3]], 3, PARAMS)


def test_a_server_that_hangs_is_given_up_after_one_request(start: Callable[..., FakeVLLM]) -> None:
    server = start()
    drawing = sampler(server, num_workers=1, timeout_seconds=0.3)
    server.hangs = threading.Event()
    begun = time.monotonic()
    with (
        pytest.warns(UserWarning, match=r"gave no reply within 0\.3 seconds"),
        pytest.raises(NoServerLeft, match="it hangs"),
    ):
        drawing.sample([[3]], 3, PARAMS)
    server.hangs.set()
    assert time.monotonic() - begun < 3
    assert len(server.drawn()) == 1


def test_a_slow_server_that_lives_is_asked_again(start: Callable[..., FakeVLLM]) -> None:
    server = start()
    expected = tokens_of(sampler(server).sample([[3]], 3, PARAMS))
    drawing = sampler(server, num_workers=1, timeout_seconds=0.3)
    server.gate = threading.Event()
    threading.Timer(0.5, server.gate.set).start()
    with pytest.warns(UserWarning, match="gave no reply within"):
        assert tokens_of(drawing.sample([[3]], 3, PARAMS)) == expected


@pytest.mark.parametrize("make", [Server, lambda url: Placement(vllm=f"http://127.0.0.1:1,{url}")])
def test_a_password_in_an_address_is_refused_before_it_is_written(make: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match="holds a name or password") as caught:
        make("http://me:hunter2@127.0.0.1:8011")
    assert "hunter2" not in str(caught.value)


def test_a_request_that_is_wrong_is_not_repeated(start: Callable[..., FakeVLLM]) -> None:
    one, two = start(), start()
    one.next, two.next = [400] * 9, [400] * 9
    with pytest.raises(Refused, match="status 400: told to say 400"):
        sampler(one, two, num_workers=1).sample([[3]], 3, PARAMS)
    assert len(one.next) + len(two.next) == 17


@pytest.mark.parametrize("dies_after", [0, 1, 2])
def test_when_one_dies_the_others_take_over(start: Callable[..., FakeVLLM], dies_after: int) -> None:
    reference, mortal, other = start(), start(), start()
    prompts = PROMPTS * 3
    expected = tokens_of(sampler(reference).sample(prompts, 2, PARAMS))
    policy = sampler(mortal, other, num_workers=2)
    mortal.dies_after = dies_after
    assert tokens_of(policy.sample(prompts, 2, PARAMS)) == expected
    counts = Counter(policy.origins)
    assert counts[mortal.url] == dies_after
    assert counts[other.url] == len(prompts) - dies_after
    assert policy.servers[0].down
    asked = len(mortal.seen)
    policy.sample(prompts, 2, PARAMS)
    assert len(mortal.seen) == asked  # not asked again for every batch


def test_groups_are_shared_out_evenly(start: Callable[..., FakeVLLM]) -> None:
    servers = [start() for _ in range(3)]
    gate = threading.Event()  # nobody is done before all were asked: it is not the fastest that gets most
    for server in servers:
        server.gate = gate
    policy = sampler(*servers)
    threading.Timer(0.2, gate.set).start()
    policy.sample(PROMPTS * 3, 2, PARAMS)
    assert [len(server.drawn()) for server in servers] == [5, 5, 5]
    assert Counter(policy.origins) == {server.url: 5 for server in servers}


def test_when_none_is_left_each_is_named_with_its_reason(start: Callable[..., FakeVLLM]) -> None:
    one, two = start(), start()
    policy = sampler(one, two)
    one.dies_after = 0
    two.next = [500] * 100
    with pytest.raises(NoServerLeft) as caught:
        policy.sample(PROMPTS, 2, PARAMS)
    assert one.url in str(caught.value)
    assert f"{two.url}: /v1/completions: status 500: told to say 500" in str(caught.value)


def test_a_run_starts_if_one_server_answers(start: Callable[..., FakeVLLM]) -> None:
    gone = FakeVLLM()
    gone.stop()
    assert len(sampler(gone.url, start()).sample(PROMPTS, 2, PARAMS)) == len(PROMPTS)
    with pytest.raises(NoServerLeft, match="refused"):
        sampler(gone.url)


# ---------------------------------------------------------------- adapters


@pytest.fixture
def learner(tiny_model: ModelFolder) -> Learner:
    return make_learner(tiny_model("llama"))


def test_the_adapter_is_swapped_on_every_server(start: Callable[..., FakeVLLM], learner: Learner) -> None:
    servers = [start(), start()]
    policy = sampler(*servers)
    names = []
    for _ in range(3):
        policy.load(learner)
        for server in servers:
            (name,) = server.adapters  # the one before is off, so that memory does not grow
        names.append(name)
        drawn = policy.sample(PROMPTS, 2, PARAMS)
        truth = logprobs(PARAMS.temperature, adapter=True)
        assert drawn[0][0].logprobs == pytest.approx([truth[t] for t in drawn[0][0].tokens])
        assert [p.name for p in policy.folder.iterdir()] == [name]
    assert len(set(names)) == 3  # never one name for two sets of weights: prompts are cached by it
    folder = Path(servers[0].adapters[names[-1]])
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4
    policy.close()
    assert servers[0].adapters == servers[1].adapters == {}
    assert not folder.exists()


def test_two_runs_may_share_a_server(start: Callable[..., FakeVLLM], learner: Learner) -> None:
    server = start()
    one, two = sampler(server), sampler(server)
    one.load(learner)
    two.load(learner)
    assert len(server.adapters) == 2
    one.close()
    assert len(two.sample(PROMPTS, 2, PARAMS)) == len(PROMPTS)


def test_a_server_started_anew_gets_the_adapter_again(
    start: Callable[..., FakeVLLM], learner: Learner
) -> None:
    server = start()
    policy = sampler(server)
    policy.load(learner)
    server.stop()
    anew = start(port=server.port)
    assert not anew.adapters
    drawn = policy.sample(PROMPTS, 2, PARAMS)
    truth = logprobs(PARAMS.temperature, adapter=True)
    assert drawn[0][0].logprobs == pytest.approx([truth[t] for t in drawn[0][0].tokens])
    assert len(anew.adapters) == 1


def test_one_that_missed_a_load_never_draws_from_old_weights(
    start: Callable[..., FakeVLLM], learner: Learner
) -> None:
    forgetful, other = start(), start()
    policy = sampler(forgetful, other)
    policy.load(learner)
    old = dict(forgetful.adapters)
    policy.load(learner)
    new = dict(forgetful.adapters)
    forgetful.adapters = old  # it said yes, and went on with what it had
    policy.sample(PROMPTS, 2, PARAMS)
    assert new.items() <= forgetful.adapters.items()
    assert {body["model"] for body in forgetful.drawn()} == set(new)


def test_one_that_comes_back_is_used_again_after_the_next_load(
    start: Callable[..., FakeVLLM], learner: Learner
) -> None:
    mortal, other = start(), start()
    policy = sampler(mortal, other)
    policy.load(learner)
    mortal.stop()
    policy.sample(PROMPTS, 2, PARAMS)
    assert set(policy.origins) == {other.url}
    back = start(port=mortal.port)
    policy.sample(PROMPTS, 2, PARAMS)
    assert set(policy.origins) == {other.url}
    policy.load(learner)
    policy.sample(PROMPTS, 2, PARAMS)
    assert set(policy.origins) == {back.url, other.url}


def test_one_that_comes_back_as_another_stays_out(start: Callable[..., FakeVLLM], learner: Learner) -> None:
    mortal, other = start(), start()
    policy = sampler(mortal, other)
    mortal.stop()
    policy.load(learner)
    start(port=mortal.port, mode="raw_logprobs")
    policy.load(learner)
    policy.sample(PROMPTS, 2, PARAMS)
    assert set(policy.origins) == {other.url}


def test_an_adapter_too_wide_for_the_server_is_refused(
    start: Callable[..., FakeVLLM], learner: Learner
) -> None:
    with pytest.raises(NoServerLeft, match="rank 4 is greater than 2"):
        sampler(start(max_rank=2)).load(learner)


@pytest.mark.parametrize(("method", "words"), [("full", "full fine-tuning"), ("dora", "DoRA")])
def test_what_vllm_cannot_swap_is_refused(
    start: Callable[..., FakeVLLM], tiny_model: ModelFolder, method: Any, words: str
) -> None:
    learner = Learner(load(str(tiny_model("llama")), AdapterConfig(method, rank=4)))
    with pytest.raises(ValueError, match=words):
        sampler(start()).load(learner)

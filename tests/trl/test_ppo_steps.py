"""PPO's step interface as programs for TRL 0.7 to 0.11 use it: what they draw, from what, and with which defaults."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser

from tieout import trl
from tieout.types import Completion, Group

WORDS = ["audit", "ledger", "asset", "equity", "cash", "debt", "bond", "share"]
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
Wrapper = trl.AutoModelForCausalLMWithValueHead


@pytest.fixture
def name(tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield str(tiny_model("llama"))


def config(**more: Any) -> Any:
    chosen = {"temperature": 1.0, "init_kl_coef": 0.2, "adap_kl_ctrl": True}
    quick = {"use_cpu": True, "report_to": [], "batch_size": 4, "mini_batch_size": 2, "learning_rate": 0.05}
    return trl.PPOConfig(**{**quick, "ppo_epochs": 2, "response_length": 8, **chosen, **more})


def stepper(model: Any, reference: Any = None, **more: Any) -> Any:
    """A trainer by steps."""
    inner = getattr(model, "pretrained_model", model)
    tokenizer = AutoTokenizer.from_pretrained(inner.config._name_or_path)
    return trl.PPOTrainer(config(**more), model, reference, tokenizer)


def wrapped(name: str, **options: Any) -> Any:
    return Wrapper.from_pretrained(name, **options)


def queries(count: int = 4) -> list[torch.Tensor]:
    return [torch.arange(10, 14 + i) for i in range(count)]


def learned(trainer: Any, steps: int = 2) -> Any:
    """Some steps towards low tokens."""
    for _ in range(steps):
        responses = trainer.generate(queries(), return_prompt=False)
        trainer.step(queries(), responses, [-r.float().mean() / 50 for r in responses])
    return trainer


def group(query: torch.Tensor, response: torch.Tensor) -> Group:
    tokens = response.tolist()
    return Group(query.tolist(), [Completion(tokens, [True] * len(tokens), None, "", "length")], None)


def started(name: str) -> Any:
    """A model with an adapter that does something already."""
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32), LORA)
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def logprob(network: Any, query: torch.Tensor, response: torch.Tensor) -> float:
    with torch.no_grad():
        said = network(torch.cat([query, response])[None]).logits[0].float().log_softmax(-1)
    return float(said[len(query) - 1 : -1].gather(-1, response[:, None]).sum())


# ------------------------------------------------------------------------------------------------ what is drawn


@pytest.mark.parametrize("kind", ["full", "adapter", "trained adapter", "copy"])
def test_responses_of_the_reference_are_the_references_own(kind: str, name: str) -> None:
    """Greedily, what the base says; and that stays so while the policy moves away."""
    if kind == "trained adapter":
        model, start = started(name), started(name)
    else:
        model = wrapped(name, peft_config=LORA if kind == "adapter" else None)
        start = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    trainer = stepper(model, trl.create_reference_model(model) if kind == "copy" else None)
    both = {"return_prompt": False, "generate_ref_response": True, "do_sample": False}
    before, ours = trainer.generate(queries(), **both)
    assert all(torch.equal(a, b) for a, b in zip(before, ours, strict=True))
    after, reference = learned(trainer, 4).generate(queries(), **both)
    assert all(torch.equal(a, b) for a, b in zip(ours, reference, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(after, reference, strict=True))
    for query, response in zip(queries(), reference, strict=True):
        with torch.no_grad():
            said = start(torch.cat([query, response])[None]).logits[0]
        assert torch.equal(said[len(query) - 1 : -1].argmax(-1), response)


def test_responses_of_the_reference_have_the_shape_of_the_policys(name: str) -> None:
    trainer = stepper(wrapped(name, peft_config=LORA))
    query = queries()[2]
    response, reference = trainer.generate(query, generate_ref_response=True, max_new_tokens=5)
    assert response.dim() == reference.dim() == 2
    assert torch.equal(reference[0, : len(query)], query)
    assert len(query) < reference.shape[1] <= len(query) + 5
    responses, references = trainer.generate(queries(3), return_prompt=False, generate_ref_response=True)
    assert len(responses) == len(references) == 3


def test_without_a_kl_there_is_no_reference_to_draw_from(name: str) -> None:
    trainer = stepper(wrapped(name), kl_coef=0.0, init_kl_coef=0.0, adap_kl_ctrl=False)
    with pytest.raises(ValueError, match="no reference is kept; give ref_model"):
        trainer.generate(queries(), generate_ref_response=True)


def test_each_query_has_a_length_of_its_own(name: str) -> None:
    trainer = stepper(wrapped(name), response_length=30)
    asked: list[int] = []
    sampler = trl.LengthSampler(2, 12)

    def remembered() -> int:
        asked.append(sampler())
        return asked[-1]

    random.seed(0)
    many = [queries()[0]] * 40
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = trainer.generate(many, return_prompt=False, length_sampler=remembered)
    assert len(asked) == 40
    assert len(set(asked)) > 5
    stop = set(trainer.chat.stop_tokens)
    for length, tokens in zip(asked, drawn, strict=True):
        assert len(tokens) == length or (len(tokens) < length and int(tokens[-1]) in stop)
    assert (
        trainer.generate(many[0], lambda: 3, return_prompt=False).shape[1] <= 3
    )  # its place in TRL's signature
    trainer.step(many[:4], drawn[:4], [torch.tensor(1.0)] * 4)


def test_calls_draw_anew_and_a_run_can_be_repeated(name: str) -> None:
    def drawn() -> list[list[int]]:
        trainer = stepper(wrapped(name))
        return [trainer.generate(queries()[0], return_prompt=False)[0].tolist() for _ in range(4)]

    first = drawn()
    assert len({tuple(tokens) for tokens in first}) == 4
    assert drawn() == first


def test_what_generate_cannot_do_it_says(name: str) -> None:
    trainer = stepper(wrapped(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.generate(
            queries(), min_length=-1, top_k=0.0, top_p=1.0, do_sample=True, pad_token_id=1, eos_token_id=1,
            temperature=1.0, batch_size=2,
        )  # fmt: skip
    with pytest.warns(UserWarning, match="without effect: eos_token_id, min_length, num_beams"):
        trainer.generate(queries(), min_length=5, eos_token_id=-1, num_beams=3)
    with pytest.raises(ValueError, match="top_k: log-probabilities of filtered"):
        trainer.generate(queries(), top_k=5)
    with pytest.raises(ValueError, match="top_k: log-probabilities of filtered"):
        trl.respond_to_batch(trainer.model, torch.stack(queries(1)), top_k=1)
    with pytest.raises(ValueError, match=r"trained at 1\.0"):
        trainer.generate(queries(), temperature=0.5)
    greedy = [trainer.generate(queries(), do_sample=False) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*greedy, strict=True))


# ------------------------------------------------------------------------------------------------ defaults


def quietly(**options: Any) -> tuple[Any, list[str]]:
    """A configuration that chooses only these, and what its trainer by steps says of the others."""
    quick = {"use_cpu": True, "report_to": [], "batch_size": 2, "model_name": options.pop("name")}
    return said_of(trl.PPOConfig(**quick, **options))


def said_of(given: Any) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = trl.PPOTrainer(
            given, wrapped(given.model_name), None, AutoTokenizer.from_pretrained(given.model_name)
        )
    return trainer, [str(w.message) for w in caught if "PPOTrainer by steps" in str(w.message)]


def test_by_steps_what_is_not_chosen_is_as_it_was_then(name: str) -> None:
    trainer, said = quietly(name=name)
    method = trainer.plan.method
    assert (method.temperature, method.kl_coef, method.kl_target, method.kl_horizon) == (
        1.0,
        0.2,
        6.0,
        10_000,
    )
    assert trainer.learner.temperature == 1.0
    assert trainer.config.init_kl_coef == 0.2
    (line,) = said
    assert line.endswith("temperature=1.0, init_kl_coef=0.2, adap_kl_ctrl=True")
    drawn = trainer.generate(queries(2), return_prompt=False, temperature=1.0)
    groups = [group(q, r) for q, r in zip(queries(2), drawn, strict=True)]
    plain = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    for (own,), q, r in zip(trainer.learner.logprobs(groups), queries(2), drawn, strict=True):
        assert sum(own) == pytest.approx(logprob(plain, q, r), abs=1e-3)


@pytest.mark.parametrize(
    ("chosen", "expected", "said"),
    [
        ({"temperature": 0.7, "kl_coef": 0.05, "adap_kl_ctrl": False}, (0.7, 0.05, 0.0), None),
        ({"temperature": 0.9}, (0.9, 0.2, 6.0), "init_kl_coef=0.2, adap_kl_ctrl=True"),
        ({"init_kl_coef": 0.01}, (1.0, 0.01, 6.0), "temperature=1.0, adap_kl_ctrl=True"),
        ({"kl_coef": 0.3, "target": 2.0}, (1.0, 0.3, 2.0), "temperature=1.0, adap_kl_ctrl=True"),
        ({"adap_kl_ctrl": False}, (1.0, 0.2, 0.0), "temperature=1.0, init_kl_coef=0.2"),
        ({"kl_coef": 0.0}, (1.0, 0.0, 0.0), "temperature=1.0"),
        ({"init_kl_coef": 0.0}, (1.0, 0.0, 0.0), "temperature=1.0"),
    ],
)
def test_what_is_chosen_stays(chosen: Any, expected: Any, said: str | None, name: str) -> None:
    """Also where it is today's default."""
    trainer, lines = quietly(name=name, **chosen)
    method = trainer.plan.method
    assert (method.temperature, method.kl_coef, method.kl_target) == expected
    assert [line.rpartition("0.11: ")[2] for line in lines] == ([] if said is None else [said])


def test_a_parser_gives_all_options_and_chooses_those_that_differ(name: str) -> None:
    parser = HfArgumentParser(trl.PPOConfig)
    line = ["--model_name", name, "--batch_size", "2", "--use_cpu", "true", "--report_to", "none"]
    (parsed,) = parser.parse_args_into_dataclasses([*line, "--kl_coef", "0.3"])
    trainer, said = said_of(parsed)
    assert (trainer.plan.method.kl_coef, trainer.plan.temperature, len(said)) == (0.3, 1.0, 1)
    assert (parsed.temperature, parsed.adap_kl_ctrl) == (0.7, False)  # the user's own stays as it is


def test_over_a_dataset_the_defaults_are_todays(name: str) -> None:
    dataset = Dataset.from_dict({"prompt": WORDS})
    reward = lambda completions, **_: [1.0] * len(completions)  # noqa: E731
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = trl.PPOTrainer(
            args=trl.PPOConfig(output_dir="out", use_cpu=True, report_to=[]), processing_class=None, model=name,
            reward_model=reward, train_dataset=dataset,
        )  # fmt: skip
    method = trainer.plan.method
    assert (method.temperature, method.kl_coef, method.kl_target) == (0.7, 0.05, 0.0)
    assert not any("by steps" in str(w.message) for w in caught)


# ------------------------------------------------------------------------------------------------ the wrapped model


@pytest.mark.parametrize(
    "changed",
    [
        lambda m: m.to("cpu"), lambda m: m.cpu(), lambda m: m.eval(), lambda m: m.train(), lambda m: m.float(),
        lambda m: m.requires_grad_(True), lambda m: m.to("cpu").eval().train(),
    ],
)  # fmt: skip
def test_a_wrapped_model_stays_wrapped_with_its_adapter(changed: Any, name: str) -> None:
    model = changed(wrapped(name, peft_config=LORA))
    assert isinstance(model, Wrapper)
    trainer = stepper(model)
    assert isinstance(trainer.model, PeftModel)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if "lora_" not in n}
    learned(trainer)
    own = dict(trainer.model.named_parameters())
    assert all(torch.equal(p, own[n]) for n, p in before.items())


def test_chained_methods_reach_the_model_that_is_wrapped(name: str) -> None:
    model = wrapped(name)
    assert model.train().training
    assert not model.eval().training
    assert model.half().pretrained_model.dtype == torch.float16
    assert model.bfloat16().pretrained_model.dtype == torch.bfloat16
    assert not any(p.requires_grad for p in model.requires_grad_(False).parameters())
    copied = copy.deepcopy(model)
    assert isinstance(copied, Wrapper)
    assert copied.pretrained_model is not model.pretrained_model


@pytest.mark.parametrize("adapter", [None, LORA])
def test_a_wrapped_model_gives_logits_loss_and_values(adapter: Any, name: str) -> None:
    model, ids = wrapped(name, peft_config=adapter), torch.arange(10, 22).reshape(2, 6)
    plain = model.pretrained_model(ids, labels=ids)
    logits, loss, values = model(ids)
    assert torch.allclose(logits, plain.logits, atol=1e-6)
    assert loss is None
    assert values.shape == (2, 6)
    assert not values.any()
    assert model(ids, labels=ids)[1].item() == pytest.approx(plain.loss.item())
    trainer = stepper(model)
    responses = [torch.full((5,), 30 + i) for i in range(4)]
    trainer.step(queries(), responses, [torch.tensor(5.0)] * 4)
    with torch.no_grad():
        values = model(torch.cat([queries()[1], responses[1]])[None])[2]
    ((own,),) = trainer.learner.values([group(queries()[1], responses[1])])
    assert values.any()
    assert values[0, len(queries()[1]) - 1 : -1].tolist() == pytest.approx(own, abs=1e-5)


# ------------------------------------------------------------------------------------------------ the reference


def test_a_reference_is_a_frozen_copy(name: str) -> None:
    model = wrapped(name, peft_config=LORA)
    reference = trl.create_reference_model(model)
    assert isinstance(reference, Wrapper)
    assert reference.pretrained_model is not model.pretrained_model
    assert not reference.training
    assert not any(p.requires_grad for p in reference.parameters())
    assert all(p.requires_grad for p in model.parameters())
    bare = trl.create_reference_model(model.pretrained_model)
    assert type(bare) is type(model.pretrained_model)
    with pytest.warns(UserWarning, match="num_shared_layers, pattern: without effect"):
        trl.create_reference_model(model, num_shared_layers=1)


@pytest.mark.parametrize("adapter", [None, LORA])
def test_a_copy_as_reference_is_the_reference_that_is_kept(adapter: Any, name: str) -> None:
    def run(copied: bool) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
        model = wrapped(name, peft_config=adapter)
        reference = trl.create_reference_model(model) if copied else None
        trainer, stats = stepper(model, reference), []
        for _ in range(3):
            responses = trainer.generate(queries(), return_prompt=False)
            stats.append(trainer.step(queries(), responses, [-r.float().mean() / 50 for r in responses]))
        if reference is not None:
            written = reference.generate(queries()[0][None], max_new_tokens=4, do_sample=False)
            assert written.shape[1] > len(queries()[0])
            base = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
            own = dict(base.named_parameters())
            assert all(torch.equal(p, own[n]) for n, p in reference.named_parameters())
        return stats, {n: p.detach() for n, p in trainer.model.named_parameters()}

    (kept, weights), (given, other) = run(copied=False), run(copied=True)
    assert [s["objective/kl"] for s in kept] == pytest.approx([s["objective/kl"] for s in given], abs=1e-5)
    assert kept[-1]["objective/kl"] != 0
    assert all(torch.allclose(p, other[n], atol=1e-5) for n, p in weights.items())


def test_a_copy_of_an_adapter_is_a_reference_with_it(name: str) -> None:
    model = started(name)
    trainer = stepper(model, trl.create_reference_model(model))
    responses = trainer.generate(queries(), return_prompt=False)
    stats = trainer.step(queries(), responses, [torch.tensor(0.0)] * 4)
    assert stats["objective/kl"] == pytest.approx(0, abs=1e-4)


# ------------------------------------------------------------------------------------------------ the dataloader


def test_passes_over_the_dataloader_differ_and_can_be_repeated(name: str) -> None:
    def passes(seed: int) -> list[list[str]]:
        dataset = Dataset.from_dict({"query": WORDS})
        tokenizer = AutoTokenizer.from_pretrained(name)
        trainer = trl.PPOTrainer(config(seed=seed), wrapped(name), None, tokenizer, dataset)
        return [[w for batch in trainer.dataloader for w in batch["query"]] for _ in range(4)]

    first = passes(0)
    assert all(sorted(order) == sorted(WORDS) for order in first)
    assert len({tuple(order) for order in first}) == 4
    assert passes(0) == first
    assert passes(1) != first


# ------------------------------------------------------------------------------------------------ whole programs


def test_the_example_of_0_7_to_0_11(name: str) -> None:
    """examples/scripts/ppo.py, with another reward than its sentiment."""
    parsed = HfArgumentParser(trl.PPOConfig)
    line = f"--model_name {name} --batch_size 4 --mini_batch_size 2 --use_cpu true --report_to none"
    (ppo_config,) = parsed.parse_args_into_dataclasses(line.split())
    tokenizer = AutoTokenizer.from_pretrained(ppo_config.model_name)
    input_size = trl.LengthSampler(2, 5)

    def tokenize(sample: Any) -> Any:
        sample["input_ids"] = tokenizer.encode(sample["review"])[: input_size()]
        sample["query"] = tokenizer.decode(sample["input_ids"])
        return sample

    dataset = Dataset.from_dict({"review": WORDS}).map(tokenize, batched=False)
    dataset.set_format(type="torch")
    collator = lambda data: {key: [d[key] for d in data] for key in data[0]}  # noqa: E731
    ref_model = wrapped(name, trust_remote_code=False)
    model = wrapped(name, trust_remote_code=False, device_map=None, peft_config=None)
    ppo_trainer = trl.PPOTrainer(
        ppo_config, model, ref_model, tokenizer, dataset=dataset, data_collator=collator
    )
    generation_kwargs = {"min_length": -1, "top_k": 0.0, "top_p": 1.0, "do_sample": True,
                         "pad_token_id": tokenizer.eos_token_id, "max_new_tokens": 6}  # fmt: skip
    seen = 0
    for _epoch, batch in enumerate(ppo_trainer.dataloader):
        query_tensors = batch["input_ids"]
        response_tensors, ref_response_tensors = ppo_trainer.generate(
            query_tensors, return_prompt=False, generate_ref_response=True, **generation_kwargs
        )
        batch["response"] = tokenizer.batch_decode(response_tensors)
        batch["ref_response"] = tokenizer.batch_decode(ref_response_tensors)
        rewards = [torch.tensor(float(len(q + r))) for q, r in zip(batch["query"], batch["response"])]  # noqa: B905
        batch["ref_rewards"] = [torch.tensor(float(len(r))) for r in batch["ref_response"]]
        stats = ppo_trainer.step(query_tensors, response_tensors, rewards)
        ppo_trainer.log_stats(
            stats, batch, rewards, columns_to_log=["query", "response", "ref_response", "ref_rewards"]
        )
        seen += 1
    assert seen == 2
    assert all(stats[key] == stats[key] for key in ("objective/kl", "ppo/mean_scores", "ppo/loss/total"))
    written = [m.generate(query_tensors[0][None], max_new_tokens=4) for m in (model, ref_model)]
    assert all(w.shape[0] == 1 for w in written)


# ------------------------------------------------------------------------------------------------ padding


@pytest.mark.parametrize("masks", [False, True])
def test_a_step_on_padded_responses_is_the_step_on_the_responses(masks: bool, name: str) -> None:
    """The score is the last real token's, and a response that ended has ended."""
    options = {"missing_eos_penalty": 5.0}
    responses = [torch.tensor([*range(20, 24 + i), 1]) for i in range(4)]  # 1 is eos, 0 the padding
    scores = [torch.tensor(float(i)) for i in range(4)]
    plain, padded = (stepper(wrapped(name, peft_config=LORA), **options) for _ in range(2))
    before = plain.step(queries(), responses, scores)
    rows = torch.nn.utils.rnn.pad_sequence(responses, batch_first=True, padding_value=0)
    rows = torch.cat([rows, torch.zeros(4, 2, dtype=rows.dtype)], dim=1)
    asked = [torch.cat([torch.zeros(3, dtype=q.dtype), q]) for q in queries()]
    given = {"response_masks": list((rows != 0).long())} if masks else {}
    after = padded.step(asked, list(rows), scores, **given)
    numbers = ("loss", "return", "ppo/mean_scores", "objective/kl", "value_loss")
    assert [after[n] for n in numbers] == [before[n] for n in numbers]
    pairs = zip(plain._model.trained().values(), padded._model.trained().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_padded_queries_are_answered_as_the_queries(name: str) -> None:
    trainer = stepper(wrapped(name, peft_config=LORA))
    rows = torch.zeros(4, 9, dtype=torch.long)
    for row, query in zip(rows, queries(), strict=True):
        row[-len(query) :] = query
    greedy = {"return_prompt": False, "do_sample": False}
    plain, padded = trainer.generate(queries(), **greedy), trainer.generate(rows, **greedy)
    assert all(torch.equal(a, b) for a, b in zip(plain, padded, strict=True))
    with pytest.raises(ValueError, match="a query or a response is empty"):
        trainer.step(queries(), [torch.zeros(3, dtype=torch.long)] * 4, [1.0] * 4)

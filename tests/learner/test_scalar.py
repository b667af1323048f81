"""Scalar heads: the same numbers as transformers, PEFT and plain forwards give, trained, saved and taken up again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from random_groups import flat, make_learner, random_groups, relative, stir_weights
from tieout.batch import Batch, Outputs
from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.learner.checkpoint import save_adapter
from tieout.types import Completion, Group

ModelFolder = Callable[[str], Path]
EMPTY = Group([5, 9, 7], [Completion([], []), Completion([4, 8], [True, True])], [0.0, 1.0])


def make(folder: Path, head: Any, method: Any = "lora", **options: Any) -> Learner:
    """A learner with a scalar head that says something, over an adapter that does."""
    model = load(str(folder), AdapterConfig(method=method, rank=4), head=head, device="cpu", **options)
    learner = Learner(model, 1e-2, LearnerConfig(max_grad_norm=float("inf")))
    stir_weights(learner)
    return learner


def hidden(network: Any, tokens: list[int]) -> torch.Tensor:
    """[length, d] from one plain forward of one sequence."""
    return network(input_ids=torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][0]


def plain_scores(learner: Learner, groups: list[Group]) -> torch.Tensor:
    """[N] after the last token."""
    assert learner.model.score is not None
    states = [hidden(learner.model.network, g.prompt + c.tokens)[-1] for g in groups for c in g.completions]
    return torch.stack(states) @ learner.model.score.linear.weight[0]


def ranking(outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Any loss of scores: the mean of best minus worst."""
    best, worst = batch.best_and_worst()
    return (outputs.scores[worst] - outputs.scores[best]).sum() / batch.totals.groups, {}  # type: ignore[index]


@pytest.mark.parametrize("layout", ["packed", "repeated"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_scores_are_those_after_the_last_token_of_each_sequence(
    tiny_model: ModelFolder, family: str, layout: Any
) -> None:
    model = make(tiny_model(family), "score").model
    learner = Learner(model, config=LearnerConfig(layout=layout, micro_batch_tokens=60))
    groups = [*random_groups(), EMPTY]
    with torch.no_grad():
        expected = plain_scores(learner, groups)
    found = learner.scores(groups)
    assert [len(row) for row in found] == [len(g.completions) for g in groups]
    assert torch.allclose(flat(found), expected, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("layout", ["packed", "repeated"])
def test_values_are_those_before_each_token(tiny_model: ModelFolder, layout: Any) -> None:
    model = make(tiny_model("llama"), "value").model
    learner = Learner(model, config=LearnerConfig(layout=layout, micro_batch_tokens=60))
    groups = [*random_groups(), EMPTY]
    assert model.value is not None
    found = learner.values(groups)
    for group, rows in zip(groups, found, strict=True):
        for completion, values in zip(group.completions, rows, strict=True):
            with torch.no_grad():
                states = hidden(model.network, group.prompt + completion.tokens)
                expected = model.value.linear(states)[len(group.prompt) - 1 : -1, 0]
            assert torch.allclose(torch.tensor(values), expected[: len(values)], atol=1e-5)
            assert len(values) == len(completion.tokens)


def test_the_gradient_of_a_score_is_that_of_plain_autograd(tiny_model: ModelFolder) -> None:
    learner = make(tiny_model("qwen3"), "score")
    groups = random_groups([(9, [5, 4]), (21, [3, 16]), (2, [6, 6])])
    scores = plain_scores(learner, groups)
    batch = Batch(groups, None)  # type: ignore[arg-type]
    best, worst = batch.best_and_worst()
    trained = learner.model.trained()
    assert any(name.startswith("score_head") for name in trained)
    exact = torch.autograd.grad((scores[worst] - scores[best]).mean(), list(trained.values()))
    learner.learning_rate = 0.0
    metrics = learner.update(groups, ranking)
    found = torch.cat([p.grad.flatten() for p in learner.model.trained().values() if p.grad is not None])
    assert relative(found, torch.cat([g.flatten() for g in exact])) < 1e-4
    assert "entropy" not in metrics


def test_a_loss_that_looks_at_a_reward_models_tokens_gets_no_number(tiny_model: ModelFolder) -> None:
    learner = make(tiny_model("llama"), "score")
    with pytest.raises(ValueError, match=r"does not depend on anything that is trained: .* gives scores"):
        learner.update(random_groups(), lambda o, b: (b.token_mean(-o.logprobs), {}))
    policy = make_learner(tiny_model("llama"))
    with pytest.raises(TypeError):
        policy.update(random_groups()[1:], ranking)


def test_a_value_head_trains_with_the_policy_or_on_an_adapter_of_its_own(tiny_model: ModelFolder) -> None:
    groups = random_groups()

    def value_loss(outputs: Outputs, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        assert outputs.values is not None
        return batch.token_mean((outputs.values - 1) ** 2), {}

    for own in (False, True):
        learner = make(tiny_model("llama"), "value", value_adapter=own)
        policy = flat(learner.logprobs(groups))
        first = [learner.update(groups, value_loss)["loss"] for _ in range(8)]
        assert first[-1] < 0.5 * first[0]
        moved = (flat(learner.logprobs(groups)) - policy).abs().max()
        assert (moved == 0) == own  # on its own adapter, learning values leaves the policy where it is


def test_a_fresh_value_is_0_and_a_fresh_score_is_not(tiny_model: ModelFolder) -> None:
    groups = random_groups()
    folder = str(tiny_model("llama"))
    value = Learner(load(folder, AdapterConfig(), head="value"))
    assert flat(value.values(groups)).abs().max() == 0
    one, two, other = (Learner(load(folder, AdapterConfig(), head="score", seed=s)) for s in (1, 1, 2))
    assert one.scores(groups) == two.scores(groups) != other.scores(groups)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_reward_model_comes_back_and_transformers_reads_it(
    tiny_model: ModelFolder, tmp_path: Path, method: str
) -> None:
    """Saved as PEFT's or transformers' own sequence classifier: they load it without this library."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    learner = make(tiny_model("qwen3"), "score", method)
    groups = random_groups(tools=False)
    learner.update(groups[1:2], ranking)
    scores = flat(learner.scores(groups))
    save_adapter(learner, tmp_path / "reward")
    again = load(str(tmp_path / "reward"))
    assert again.only_scores
    assert again.trained() == {}
    with pytest.raises(ValueError, match="nothing to train"):
        Learner(again)
    trainable = load(str(tmp_path / "reward"), AdapterConfig(method=method))  # type: ignore[arg-type]
    assert torch.allclose(flat(Learner(trainable).scores(groups)), scores, atol=1e-6)
    if method == "lora":
        base = AutoModelForSequenceClassification.from_pretrained(tiny_model("qwen3"), num_labels=1)
        theirs = PeftModel.from_pretrained(base, str(tmp_path / "reward")).eval()
    else:
        theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").eval()
        assert json.loads((tmp_path / "reward" / "config.json").read_text())["architectures"] == [
            "Qwen3ForSequenceClassification"
        ]
    sequences = [g.prompt + c.tokens for g in groups for c in g.completions]
    with torch.no_grad():
        found = [theirs(input_ids=torch.tensor([s])).logits[0, 0].item() for s in sequences]
    assert torch.allclose(torch.tensor(found), scores, atol=1e-4)


def test_a_reward_model_made_elsewhere_is_taken_up(
    tiny_model: ModelFolder, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    """A sequence-classification checkpoint, and a PEFT adapter on one with its saved module."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    network = AutoModelForSequenceClassification.from_pretrained(tiny_model("llama"), num_labels=1).eval()
    network.save_pretrained(tmp_path / "classifier")
    tiny_tokenizer.save_pretrained(tmp_path / "classifier")
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(network, config).eval()
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "classifier")
    adapted.save_pretrained(tmp_path / "adapter")
    groups = random_groups(tools=False)
    sequences = [g.prompt + c.tokens for g in groups for c in g.completions]
    learner = Learner(load(str(tmp_path / "adapter"), AdapterConfig()))
    with torch.no_grad():
        expected = [adapted(input_ids=torch.tensor([s])).logits[0, 0].item() for s in sequences]
        assert torch.allclose(flat(learner.scores(groups)), torch.tensor(expected), atol=1e-5)
        with adapted.disable_adapter():
            plain = [adapted(input_ids=torch.tensor([s])).logits[0, 0].item() for s in sequences]
    learner = Learner(load(str(tmp_path / "classifier"), AdapterConfig(rank=2)))
    assert torch.allclose(flat(learner.scores(groups)), torch.tensor(plain), atol=1e-5)


def test_a_classifier_of_several_labels_is_refused(
    tiny_model: ModelFolder, tmp_path: Path, tiny_tokenizer: Any
) -> None:
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(tiny_model("llama"), num_labels=3)
    network.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"3 numbers per sequence.*num_labels=1"):
        load(str(tmp_path))


@pytest.mark.parametrize("own", [False, True])
def test_a_value_head_is_saved_beside_its_policy(tiny_model: ModelFolder, tmp_path: Path, own: bool) -> None:
    learner = make(tiny_model("llama"), "value", value_adapter=own)
    groups = random_groups()
    values, logprobs = flat(learner.values(groups)), flat(learner.logprobs(groups))
    save_adapter(learner, tmp_path / "ppo")
    folder = str(tmp_path / "ppo")
    again = Learner(load(folder, AdapterConfig(), head="value", value_adapter=own))
    assert torch.allclose(flat(again.values(groups)), values, atol=1e-6)
    assert torch.allclose(flat(again.logprobs(groups)), logprobs, atol=1e-6)
    assert again.model.trained().keys() == learner.model.trained().keys()
    policy = load(folder)  # without the head: an adapter like any other
    assert policy.value is None
    assert policy.score is None


def test_a_frozen_reward_model_shares_the_base_of_the_policy(tiny_model: ModelFolder, tmp_path: Path) -> None:
    reward = make(tiny_model("llama"), "score")
    save_adapter(reward, tmp_path / "reward")
    groups = random_groups()
    scores = flat(reward.scores(groups))
    learner = make_learner(tiny_model("llama"))
    before = flat(learner.logprobs(groups))
    trained = learner.model.trained().keys()
    learner.model.add_reward(tmp_path / "reward")
    assert learner.model.trained().keys() == trained
    assert torch.allclose(flat(learner.scores(groups)), scores, atol=1e-5)
    assert torch.equal(flat(learner.logprobs(groups)), before)
    learner.learning_rate = 1e-2
    learner.update(groups, lambda o, b: (b.token_mean(-o.logprobs), {}))
    assert torch.allclose(flat(learner.scores(groups)), scores, atol=1e-5)
    assert not torch.equal(flat(learner.logprobs(groups)), before)


def test_what_has_no_head_says_so(tiny_model: ModelFolder, tmp_path: Path) -> None:
    learner = make_learner(tiny_model("llama"))
    with pytest.raises(ValueError, match=r"no value head: load it with head='value'"):
        learner.values(random_groups())
    with pytest.raises(ValueError, match="no score head"):
        learner.scores(random_groups())
    save_adapter(learner, tmp_path / "policy")
    with pytest.raises(ValueError, match="has no score head"):
        learner.model.add_reward(tmp_path / "policy")
    save_adapter(make(tiny_model("qwen3"), "score"), tmp_path / "other")
    with pytest.raises(ValueError, match="is no adapter of"):
        learner.model.add_reward(tmp_path / "other")
    with pytest.raises(ValueError, match="is a reward model"):
        load(str(tmp_path / "other"), AdapterConfig(), head="value")
    with pytest.raises(ValueError, match="needs an adapter to train"):
        load(str(tiny_model("llama")), AdapterConfig(method="full"), head="value", value_adapter=True)

"""Every example runs, and the flat GRPO file is an oracle for the library's."""

from __future__ import annotations

import doctest
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from random_groups import MIXED, random_groups, with_own_logprobs
from tieout.chat.template import Chat
from tieout.evidence.evaluate import evaluate
from tieout.learner import AdapterConfig, Learner, LearnerConfig, load
from tieout.methods import load_method
from tieout.methods.grpo import GRPO
from tieout.rewards import load_reward
from tieout.rewards.scoring.runner import check_reward, score
from tieout.rows import read_rows
from tieout.samplers import SamplingParams
from tieout.samplers.local.sampler import LocalSampler
from tieout.samplers.mock import MockSampler
from tieout.source import Source
from tieout.tasks import Task, load_task
from tieout.training.loop import train
from tieout.vetting.attack import AttackSettings, attack

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TinyModel = Callable[[str], Path]


@pytest.fixture(scope="module")
def example() -> Iterator[Callable[[str], ModuleType]]:
    """`example("my_task")`: the file as a module, as `python examples/my_task.py` would have it."""
    modules: dict[str, ModuleType] = {}

    def module(name: str) -> ModuleType:
        if name not in modules:
            spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
            assert spec
            assert spec.loader
            modules[name] = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(modules[name])
        return modules[name]

    yield module
    for name in modules:
        del sys.modules[f"examples_{name}"]


@pytest.mark.parametrize(
    "name", ["rl_loop", "my_reward", "my_task", "my_method", "my_sampler", "my_selector"]
)
def test_doctests_of_the_examples_hold(example: Callable[[str], ModuleType], name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(example(name), optionflags=flags)
    assert found.failed == 0
    assert found.attempted > 0 or name not in ("my_reward", "my_task")


# ---------------------------------------------------------------- rl_loop.py


def test_the_flat_file_does_not_use_the_library() -> None:
    source = (EXAMPLES / "rl_loop.py").read_text()
    imports = [line for line in source.splitlines() if line.lstrip().startswith(("import ", "from "))]
    assert imports
    assert not [line for line in imports if "tieout" in line]


def test_the_flat_loop_learns(
    example: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    history = example("rl_loop").main(["--steps", "14", "--seed", "1"])
    assert sum(history[-3:]) / 3 > 2 * sum(history[:3]) / 3
    assert "step   0  reward" in capsys.readouterr().out


def test_the_flat_loop_takes_a_model_folder(
    example: Callable[[str], ModuleType], tiny_model: TinyModel
) -> None:
    history = example("rl_loop").main(["--model", str(tiny_model("qwen3")), "--steps", "1"])
    assert len(history) == 1


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("layout", ["packed", "repeated"])
def test_flat_and_library_agree_on_loss_and_gradient(
    example: Callable[[str], ModuleType], tiny_model: TinyModel, family: str, layout: str
) -> None:
    flat = example("rl_loop")
    model = load(str(tiny_model(family)), AdapterConfig(method="full"), device="cpu")
    learner = Learner(model, config=LearnerConfig(layout=layout, max_grad_norm=float("inf")))  # type: ignore[arg-type]
    shapes = [(p, c) for p, c in MIXED if len(c) > 1]
    # The policy has moved since it sampled: enough for a share of the ratios to be past the clip.
    groups = with_own_logprobs(random_groups(shapes, tools=False), learner, noise=0.3)
    method = GRPO(epsilon_low=0.2, epsilon_high=0.2)
    learner.learning_rate = 0.0
    metrics = learner.update(method.annotate(groups, learner), method.loss)
    ours = {name: p.grad.clone() for name, p in model.network.named_parameters() if p.grad is not None}
    assert 0.1 < metrics["clipped"] < 0.9

    learner.optimizer.zero_grad()
    total = sum(len(g.completions) for g in groups)
    loss = 0.0
    for group in groups:
        prompts, completions, old, mask = as_tensors(group)
        advantages = flat.advantages(torch.tensor(group.scores))
        logprobs = flat.completion_logprobs(model.network, prompts, completions)
        share = flat.grpo_loss(logprobs, old, advantages, mask, epsilon=0.2) * len(group.completions) / total
        share.backward()
        loss += share.item()

    assert metrics["loss"] == pytest.approx(loss, abs=1e-6)
    assert abs(loss) > 1e-3
    for name, parameter in model.network.named_parameters():
        assert parameter.grad is not None
        error = (ours[name] - parameter.grad).norm() / parameter.grad.norm()
        assert error < 1e-5, name


def as_tensors(group: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """[K, P] prompts, and [K, C] completions, old log-probs and mask, padded at the end."""
    width = max(len(c.tokens) for c in group.completions)

    def padded(rows: list[list[Any]], fill: Any) -> torch.Tensor:
        return torch.tensor([row + [fill] * (width - len(row)) for row in rows])

    completions = padded([c.tokens for c in group.completions], 0)
    # Padding is filled with a wild number: nothing of it may reach the loss.
    old = padded([c.logprobs for c in group.completions], -3.0)
    mask = padded([[1.0] * len(c.tokens) for c in group.completions], 0.0)
    return torch.tensor([group.prompt] * len(group.completions)), completions, old, mask


def test_sampled_logprobs_are_the_learning_ones(example: Callable[[str], ModuleType]) -> None:
    flat = example("rl_loop")
    torch.manual_seed(0)
    model, tokenizer = flat.make_policy()
    model.eval()
    prompt = tokenizer.encode("c:")
    completions, logprobs, mask = flat.sample(model, prompt, 32, 12, tokenizer.eos_token_id)
    again = flat.completion_logprobs(model, torch.tensor([prompt] * 32), completions)
    assert not mask.all()  # some ended early, so there is padding
    assert torch.allclose(logprobs[mask], again[mask], atol=1e-5)
    ends = (completions == tokenizer.eos_token_id) & mask
    assert (ends.sum(1) <= 1).all()
    assert (mask.sum(1) == torch.where(ends.any(1), ends.int().argmax(1) + 1, completions.shape[1])).all()


# ---------------------------------------------------------------- my_*.py


def toy_task(reward: Any, rows: list[dict[str, Any]]) -> Task:
    return Task("toy", lambda split: rows, reward=reward, max_new_tokens=8)


def test_my_reward_is_found_by_name_and_trains(
    tiny_model: TinyModel, example: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    reward = load_reward(f"{EXAMPLES / 'my_reward.py'}:close")
    rows = [{"prompt": f"{a} + {a} =", "answer": 2 * a} for a in range(1, 5)]
    check_reward(reward, rows[0])
    with pytest.raises(ValueError, match="needs column 'answer'"):
        check_reward(reward, ["prompt", "solution"])
    model = load(str(tiny_model("llama")), AdapterConfig(rank=4), device="cpu")
    chat = Chat(model.tokenizer)
    source = Source(toy_task(reward, rows), chat, LocalSampler(model, chat))
    steps: list[int] = []
    train(
        GRPO(batch_size=2, group_size=4, max_new_tokens=8, learning_rate=1e-3),
        source,
        Learner(model),
        steps=2,
        on_step=lambda step, metrics: steps.append(step),
    )
    assert steps == [1, 2]
    assert source.counts["errored"] == 0
    example("my_reward").main()
    assert "'1,260'" in capsys.readouterr().out


def test_my_reward_pays_for_nothing_else() -> None:
    close = load_reward(f"{EXAMPLES / 'my_reward.py'}:close")
    hacks = [
        "",
        " ",
        "{}",
        "nan",
        "inf",
        "1e309",
        "9" * 5000,
        "1199 1201",
        "1200 or 1300",
        "not 1200",
        "It is 1200",
        "-1200",
        "0",
        "１２００",
    ]
    row = {"prompt": "?", "answer": 1200}
    assert [o.score for o in score(close, hacks, ["?"] * len(hacks), row)] == [0.0] * len(hacks)
    assert [o.score for o in score(close, ["1,200.00"], ["?"], row)] == [1.0]
    (near,) = score(close, ["1201"], ["?"], row)
    assert near.score is not None
    assert 0.4 < near.score <= 0.5
    assert score(close, ["1200"], ["?"], {"prompt": "?", "answer": None})[0].status == "abstained"


def test_the_attack_finds_nothing_in_my_reward() -> None:
    close = load_reward(f"{EXAMPLES / 'my_reward.py'}:close")
    rows = read_rows(EXAMPLES / "data" / "train.jsonl")  # their answers are written 6,990
    result = attack(close, rows, AttackSettings(max_rows=2, num_search=100, seconds=60.0))
    assert result.findings == []
    assert result.probes["contradiction"] > 20


def test_my_task_is_sound(example: Callable[[str], ModuleType], tiny_model: TinyModel) -> None:
    task = load_task(f"{EXAMPLES / 'my_task.py'}:TASK")
    splits = {split: task.rows(split) for split in ("train", "calibration", "test", "ood")}
    assert [len(rows) for rows in splits.values()] == [400, 50, 100, 0]
    shown = {
        name: {row["prompt"][0]["content"].split()[1].strip("()") for row in rows}
        for name, rows in splits.items()
    }
    assert not shown["train"] & shown["test"]
    assert not shown["train"] & shown["calibration"]
    assert not shown["test"] & shown["calibration"]
    for row in splits["train"]:
        figure, scale = row["prompt"][0]["content"].split()[1:3]
        value = float(figure.strip("()").replace(",", "")) * {"thousand": 1e3, "million": 1e6}[scale]
        assert float(row["answer"]) == (-value if figure.startswith("(") else value)
    other = splits["train"][1]["completion"]
    row = splits["train"][0]
    assert task.reward
    assert [o.score for o in score(task.reward, [row["completion"], other, ""], ["?"] * 3, row)] == [
        1.0,
        0.0,
        0.0,
    ]
    longest = max(len(row["completion"]) for rows in splits.values() for row in rows)
    assert longest < task.max_new_tokens  # a digit may be a token, and there is an end token
    mean = example("my_task").main([str(tiny_model("llama"))])
    assert mean == 0.0  # random weights


def test_my_method_is_found_by_file_and_learns(
    example: Callable[[str], ModuleType], tiny_model: TinyModel
) -> None:
    before, after = example("my_method").main(str(tiny_model("llama")), steps=12, learning_rate=1e-2)
    assert after > before + 0.05
    assert load_method(f"{EXAMPLES / 'my_method.py'}:RAFT").__name__ == "RAFT"


def test_my_method_learns_on_its_own_model(example: Callable[[str], ModuleType]) -> None:
    before, after = example("my_method").main(steps=6)
    assert after > before + 0.05


def test_my_method_imitates_the_best_only(example: Callable[[str], ModuleType]) -> None:
    raft = example("my_method")
    group = random_groups([(3, [4, 5, 6])])[0]
    group.scores[:] = [0.2, 0.9, 0.9]  # type: ignore[index]
    kept = raft.best(group)
    assert kept.completions == [group.completions[1]]
    assert kept.scores is None
    assert raft.differ(group)
    group.scores[:] = [0.5] * 3  # type: ignore[index]
    assert not raft.differ(group)


def test_my_sampler_tries_again_on_a_tiny_model(
    example: Callable[[str], ModuleType], tiny_model: TinyModel
) -> None:
    model = load(str(tiny_model("llama")), device="cpu")
    local = LocalSampler(model, Chat(model.tokenizer))
    rows = [{"prompt": f"{a}+{a}=", "answer": str(2 * a)} for a in range(4)]
    task = Task("sums", lambda split: rows, load_reward("exact"), max_new_tokens=4)
    plain = evaluate(task, rows, local)

    class Flaky:
        calls = 0

        def complete(self, prompts: Any, params: SamplingParams) -> list[str]:
            self.calls += 1
            if self.calls % 3:
                raise ConnectionError("reset")
            return local.complete(prompts, params)

    retrying = example("my_sampler").Retrying(Flaky(), attempts=3, wait_seconds=0.0)
    cases = evaluate(task, rows, retrying, batch_size=2)
    assert [c.completion for c in cases] == [c.completion for c in plain]
    assert retrying.sampler.calls == 6


def test_my_sampler_gives_up_and_hides_no_other_error(example: Callable[[str], ModuleType]) -> None:
    retrying = example("my_sampler").Retrying

    def refuse(prompt: Any) -> str:
        raise TimeoutError("no answer")

    mock = MockSampler(refuse)
    with pytest.raises(TimeoutError, match="no answer"):
        retrying(mock, attempts=2, wait_seconds=0.0).complete(["?"], SamplingParams())
    assert len(mock.calls) == 2
    empty = MockSampler([])
    with pytest.raises(LookupError):
        retrying(empty, attempts=3, wait_seconds=0.0).complete(["?"], SamplingParams())
    assert len(empty.calls) == 1
    with pytest.raises(ValueError, match="attempts is 0"):
        retrying(empty, attempts=0)
    assert example("my_sampler").main(wait_seconds=0.0) == 1.0


# ---------------------------------------------------------------- my_judge.py


def test_my_judge_grades_by_what_is_in_the_source_and_sees_no_wrong_year() -> None:
    judge = load_reward(f"{EXAMPLES / 'my_judge.py'}:judge")
    prompt = (
        "Break down Profit for 2020.\nSales | 1,250 | 1,100\nRebates | \u2014 | (7)\nProfit | 1,250 | 1,093"
    )
    grades = {
        '{"total":1250,"citations":["Profit | 1,250"]}': 1.0,
        '{"total":1093,"citations":["Profit | 1,250"]}': 1.0,  # the other year: the program is there for that
        '{"total":1250,"name":"Rebates","value":0}': 1.0,
        '{"total":1251,"citations":["Profit | 1,250"]}': 0.5,
        '{"total":1250,"value":9,"more":8,"citations":["Profit"]}': 0.35,  # a third, to the nearest twentieth
        '{"total":9,"citations":["Profit | 9"]}': 0.0,
        "Sales fell.": 0.0,
    }
    found = score(judge, list(grades), [prompt] * len(grades), {"prompt": prompt})
    assert [outcome.score for outcome in found] == list(grades.values())

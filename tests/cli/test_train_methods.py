"""`tieout train`: methods of the table and of a user's file, and options that a method cannot use."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from random_groups import make_learner
from tieout.cli.run import main as run
from tieout.cli.train import main
from tieout.cli.train_rows import COLUMNS, Options, task_for
from tieout.methods import DPO, METHODS, PPO, RewardModel, SimPO, load_method
from tieout.rows import KINDS
from tieout.source import Source
from tieout.tasks import Task
from tieout.training.loop import train

MINE = '''
from dataclasses import dataclass
from tieout.methods import SFT

@dataclass(frozen=True)
class Focal(SFT):
    """Cross entropy, weighed towards unlikely tokens. https://arxiv.org/abs/1708.02002."""

    gamma: float = 1.0
    """0 is
    SFT."""

    def loss(self, outputs, batch):
        weight = (1 - outputs.logprobs.detach().exp()) ** self.gamma
        return batch.token_mean(-weight * outputs.logprobs), {"gamma": batch.token_mean(0 * weight + self.gamma)}
'''


@pytest.fixture
def mine(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return f"{file}:Focal"


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_a_method_of_a_file_trains_with_its_fields_as_options(
    mine: str, tmp_path: Path, tiny_model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps({"prompt": f"q{i}", "completion": f"a{i}"}) + "\n" for i in range(4)))
    command = [mine, "--model", str(tiny_model("llama")), "--data", str(data), "--out", str(out)]
    main([*command, "--batch-size", "2", "--gamma", "3.5"])
    steps = [json.loads(line) for line in (out / "focal" / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert all(step["gamma"] == pytest.approx(3.5) for step in steps)
    assert (out / "focal" / "adapter" / "adapter_model.safetensors").exists()
    capsys.readouterr()
    main([*command, "--batch-size", "2", "--gamma", "3.5"])
    assert "done before" in capsys.readouterr().out


def test_a_method_of_a_file_in_python(mine: str, tiny_model: Callable[[str], Path]) -> None:
    method = load_method(mine)(batch_size=2, gamma=3.5)  # type: ignore[call-arg]
    learner = make_learner(tiny_model("llama"))
    rows = [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(4)]
    metrics: list[float] = []
    source = Source(Task("rows", lambda split: rows), learner.model.chat)
    train(method, source, learner, on_step=lambda step, found: metrics.append(found["gamma"]))
    assert metrics == pytest.approx([3.5, 3.5])


def test_the_help_of_a_method_of_a_file_is_its_docstrings(
    mine: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = help_of(capsys, mine)
    for part in ("Cross entropy, weighed towards", "--gamma FLOAT", "0 is SFT.", COLUMNS["demonstration"]):
        assert part in text


def test_the_page_on_writing_a_method_says_how_it_is_trained(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "writing.md").read_text(encoding="utf-8")
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class FocalSFT" in block
    ]
    (command,) = re.findall(r"^    tieout train (focal\.py:FocalSFT .*--out.*)$", page, re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("focal.py").write_text(code)
    Path("rows.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    main([*command.split(), "--model", str(tiny_model("llama"))])
    assert Path("runs/focal/focalsft/adapter/adapter_model.safetensors").exists()
    stages = textwrap.dedent(re.search(r"(    stages:\n(?:      .*\n)+)", page)[1])  # type: ignore[index]
    Path("focal.yaml").write_text(
        f"model: {tiny_model('llama')}\ndata: {{train: rows.jsonl, test: rows.jsonl}}\n"
        f"accept_leakage: the options are what is tried\n{stages}"
    )
    run(["focal.yaml", "--out", "runs/recipe"])
    assert Path("runs/recipe/focalsft/adapter/adapter_model.safetensors").exists()
    assert re.search(r'"gamma": 2\.0', Path("runs/recipe/focalsft/started.json").read_text())


def test_the_help_lists_every_method_once_below_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    text = capsys.readouterr().out
    assert set(COLUMNS) == set(KINDS)
    for kind, columns in COLUMNS.items():
        block = text.partition(f"Rows: {columns}\n")[2].partition("\n\n")[0]
        listed = {line.split()[0] for line in block.splitlines()}
        assert listed == {name for name, method in METHODS.items() if method().needs.rows == kind}
    assert "FILE.py:Class" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no method ''"),
        (["grop"], "did you mean 'grpo'?"),
        (["none.py:Mine"], "file none.py does not exist"),
        (["tieout.types:Group"], "is not a subclass of tieout.methods.Method, and lacks annotate, collect"),
    ],
)
def test_what_is_no_method_is_said_before_options_are_parsed(
    arguments: Sequence[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert expected in capsys.readouterr().err


def test_servers_for_a_method_that_does_not_sample_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--vllm is for methods that sample, and sft learns from given rows"):
        main(["sft", "--task", "wordle", "--vllm", "http://x", "--out", str(tmp_path / "run")])


def test_a_gold_reward_for_a_method_that_does_not_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"--guards\.gold is compared with what a method samples, and sft learns"
    ):
        main(["sft", "--task", "wordle", "--guards.gold", "exact", "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("gold", "message"), [("exat", "did you mean 'exact'"), ("overlong_quiz", "no reward")]
)
def test_a_gold_reward_that_cannot_be_called_is_refused_before_the_run_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gold: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gold.py").write_text("def gold(completions, sector):\n    return [0.0 for _ in completions]\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "q", "completion": "a", "answer": "a"}\n')
    given = ["grpo", "--data", str(rows), "--reward", "exact", "--guards.gold", gold]
    with pytest.raises(ValueError, match=message):
        main([*given, "--out", str(tmp_path / "run")])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"data: {{train: {rows}, test: {rows}}}\nreward: exact\nguards: {{gold: {gold}}}\nstages: [{{train: grpo}}]\n"
    )
    with pytest.raises(ValueError, match=message):
        run([str(recipe), "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_field_that_is_an_option_of_every_method_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE.replace("gamma", "seed"))
    with pytest.raises(ValueError, match="Focal has fields that are options of every method: seed; rename"):
        main([f"{file}:Focal", "--out", str(tmp_path / "run")])


ROWS = {
    "prompt": {"prompt": "p"},
    "demonstration": {"prompt": "p", "completion": "c"},
    "ranking": {"prompt": "p", "chosen": "c", "rejected": "r"},
}


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("sft", {}, "either --data FILE or --task NAME"),
        ("sft", {"data": "demonstration", "task": "wordle"}, "either --data FILE or --task NAME"),
        ("dpo", {"task": "wordle"}, "dpo needs rows that tasks do not have: give --data with prompt, chosen"),
        ("reward_model", {"task": "wordle"}, "give --data with prompt, chosen and rejected, or"),
        ("kto", {"task": "wordle"}, "give --data with prompt, completion and label"),
        (
            "sft",
            {"data": "demonstration", "held_out": "ranking"},
            "--held-out is evaluated every --eval-steps",
        ),
        ("grpo", {"data": "prompt"}, "grpo needs a reward: give --reward"),
        (
            "sft",
            {"data": "demonstration", "reward": "exact"},
            "--reward is 'exact', but sft is not trained on",
        ),
        (
            "grpo",
            {"task": "wordle", "reward": "exact"},
            "'exact', but task 'wordle' has its own: leave it out",
        ),
        ("ppo", {"data": "prompt", "reward": "exact", "reward_model": "rm"}, "the reward model rm scores"),
        ("grpo", {"task": "{here}/bare.py:task"}, "grpo needs a reward, and task '.*' has neither"),
        ("grpo", {"data": "prompt", "reward": "exact"}, "needs column 'answer'"),
        ("distill", {"data": "prompt", "reward": "exact"}, "it scores held-out rows alone"),
    ],
)
def test_options_that_a_method_cannot_use_are_refused(
    method: str, given: dict[str, str], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "bare.py").write_text(
        "from tieout.tasks import Task\ntask = Task('bare', lambda split: [{'prompt': 'p'}])\n"
    )
    options: dict[str, Any] = {"out": tmp_path}
    fields = {}
    for name, value in given.items():
        if name in ("data", "held_out"):
            options[name] = tmp_path / f"{name}.jsonl"
            options[name].write_text(json.dumps(ROWS[value]) + "\n")
        elif name == "reward_model":
            fields[name] = value
        else:
            options[name] = value.format(here=tmp_path)
    with pytest.raises(ValueError, match=expected):
        task_for(METHODS[method](**fields).needs, method, Options(**options))


def test_a_reward_model_in_place_of_the_reward_needs_none(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "p"}\n')
    task = task_for(PPO(reward_model="rm").needs, "ppo", Options(tmp_path, data=data))
    assert task.reward is None
    assert [row["prompt"] for row in task.rows("train")] == ["p"]


@pytest.mark.parametrize(("method", "split"), [("sft", "validation"), ("reward_model", "test")])
def test_held_out_rows_are_a_split_of_the_task(method: str, split: str, tmp_path: Path) -> None:
    needs, data, held_out = METHODS[method]().needs, tmp_path / "rows.jsonl", tmp_path / "held_out.jsonl"
    data.write_text("".join(json.dumps({**ROWS[needs.rows], "prompt": f"{i}"}) + "\n" for i in range(40)))
    held_out.write_text(json.dumps(ROWS[needs.rows]) + "\n")
    task = task_for(needs, method, Options(tmp_path, data=data, held_out=held_out), evaluates=True)
    assert (len(task.rows("train")), [row["prompt"] for row in task.rows(split)]) == (40, ["p"])
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "p"}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl.*missing column"):
        task_for(needs, method, Options(tmp_path, data=data, held_out=bad), evaluates=True)
    alone = task_for(needs, method, Options(tmp_path, data=data))
    assert len(alone.rows("train")) + len(alone.rows("test")) == 40
    assert bool(alone.rows("test")) == (method == "reward_model")


def test_dpo_learns_from_rankings_and_from_pairs_that_their_scores_select(
    tmp_path: Path, tiny_model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "rows.jsonl", tmp_path / "run"
    ranked = [
        {"prompt": f"q{i}", "completions": ["a", "b", "c"], "scores": [1.0, 0.5, 0.2]} for i in range(4)
    ]
    pairs = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "chosen_score": s, "rejected_score": 0}
        for s in (1, 0.1)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in [*ranked, *pairs]))
    command = ["dpo", "--model", str(tiny_model("llama")), "--data", str(data), "--out", str(out)]
    main([*command, "--batch-size", "3", "--selection.min-gap", "0.4"])
    assert "9 pairs; left out: 5 x the scores differ by less than min_gap (0.4)" in capsys.readouterr().out
    assert len((out / "dpo" / "metrics.jsonl").read_text().splitlines()) == 3
    assert json.loads((out / "dpo" / "done.json").read_text())["inputs"]["data"]["rows"] == 9
    with pytest.raises(ValueError, match="selection"):
        main([*command, "--batch-size", "3"])
    assert "--selection" not in help_of(capsys, "sft")


def test_general_rows_are_for_methods_with_an_sft_term(tmp_path: Path) -> None:
    """A pair of equals trains DPO's anchor; a reward model, SimPO and a DPO without an anchor name its line."""
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "p", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "c", "rejected": "c"}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = Options(tmp_path, data=data)
    assert len(task_for(DPO().needs, "dpo", options).rows("train")) == 2
    for name, method in (("reward_model", RewardModel()), ("simpo", SimPO()), ("dpo", DPO(sft_anchor=0.0))):
        with pytest.raises(
            ValueError, match=rf"pairs\.jsonl:2: 'chosen' and 'rejected' are the same, and {name} learns"
        ):
            task_for(method.needs, name, options)

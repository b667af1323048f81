"""Things that people get wrong: each answered before torch is loaded, with cause and remedy, and a status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

import wrong_inputs_server
from tieout.cli.early import NAMED
from tieout.cli.unloaded import about, fields_of
from tieout.config.method_table import TABLE


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def many(row: Callable[[int], dict[str, Any]], count: int = 20) -> str:
    return lines(*map(row, range(count)))


REWARD = """
def right(completions, answer, **_):
    return [float(c.strip() == str(a)) for c, a in zip(completions, answer)]

def short(completions, **_):
    return [1.0]

def words(completions, **_):
    return ["good" for _ in completions]

def wants(completions, solution, **_):
    return [1.0 for _ in completions]

def fails(completions, **_):
    raise KeyError("mine")

number = 3
"""

FILES = {
    "sft.jsonl": many(lambda i: {"prompt": f"Question {i}?", "completion": str(i)}),
    "pairs.jsonl": many(lambda i: {"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": f"no {i}"}),
    "prompts.jsonl": many(lambda i: {"prompt": f"What is {i} + 1?", "answer": str(i + 1), "completion": str(i + 1)}),
    "questions.jsonl": many(lambda i: {"question": f"q{i}", "response": "a"}),
    "text.jsonl": many(lambda i: {"text": f"all of it {i}"}),
    "yes.jsonl": many(lambda i: {"prompt": f"q{i}", "completion": "a", "label": "yes" if i % 2 else "no"}),
    "stars.jsonl": many(lambda i: {"prompt": f"q{i}", "completion": "a", "label": i}),
    "same.jsonl": many(lambda i: {"prompt": f"q{i}", "chosen": "a", "rejected": "a"}),
    "empty.jsonl": "",
    "blank.jsonl": many(lambda i: {"prompt": f"q{i}", "completion": ""}),
    "numbers.jsonl": many(lambda i: {"prompt": f"q{i}", "completion": i}),
    "question_last.jsonl": many(lambda i: {"messages": [{"role": "user", "content": f"hi {i}"}]}),
    "roles.jsonl": many(lambda i: {"messages": [{"role": "human", "content": "hi"}, {"role": "bot", "content": "a"}]}),
    "scores.jsonl": many(lambda i: {"prompt": f"q{i}", "completions": ["a", "b"], "scores": [1]}),
    "comma.jsonl": '{"prompt": "a", "completion": "b"},\n{"prompt": "c", "completion": "d"}\n',
    "comma.json": '[{"prompt": "a", "completion": "b"},\n]',
    "python.jsonl": "{'prompt': 'a', 'completion': None}\n",
    "torn.jsonl": '{"prompt": "a", "completion": "b',
    "pretty.jsonl": '{\n  "prompt": "a"\n}\n',
    "twice.jsonl": '{"prompt": "a", "prompt": "b", "completion": "c"}\n',
    "semicolons.csv": "\ufeffprompt;completion\r\nq;a;b\r\n",
    "semicolons_other.csv": "\ufefffrage;antwort\r\nq;a\r\n",
    "cells.csv": "prompt,completion\nq,1,234\n",
    "header.csv": "prompt,prompt\nq,a\n",
    "rows.xlsx": "PK",
    "rows.txt": "prompt",
    "fake.parquet": "not parquet",
    "rewards.py": REWARD,
    "syntax.py": "def right(:\n",
    "tabs.yaml": "model: tieout-base\ndata:\n\ttrain: sft.jsonl\n",
    "method.yaml": "data: {train: sft.jsonl}\nstages: [{train: dop}]\n",
    "field.yaml": "data: {train: sft.jsonl}\nstages:\n  - train: sft\n    learning_rat: 1.0e-4\n",
    "good.yaml": "data: {train: sft.jsonl}\nstages: [{train: sft}]\n",
    "trl.yaml": "data: {train: prompts.jsonl}\nreward: exact\nstages: [{train: grpo, num_generations: 4}]\n",
    "steps.yaml": "data: {train: sft.jsonl}\nstages: [{train: sft, max_steps: 4}]\n",
    "start.yaml": "data: {train: sft.jsonl}\nstages: [{train: sft}, {train: dpo, start: sft}]\n",
    "word.yaml": "data: {train: sft.jsonl}\nstages:\n  - train: sft\n    epochs: two\n",
    "negative.yaml": "data: {train: sft.jsonl}\nstages:\n  - train: sft\n    learning_rate: -1.0e-4\n",
    "nothing.yaml": "data: {train: sft.jsonl}\nstages: [{train: sft}, {train: sft, epochs: 0}]\n",
    "batch.yaml": "data: {train: sft.jsonl}\nstages:\n  - train: sft\n    batch_size: 64\n",
    "file.yaml": "data: {train: stf.jsonl}\nstages: [{train: sft}]\n",
    "reward.yaml": "data: {train: sft.jsonl}\nreward: numerc\nstages: [{train: sft}]\n",
    "task.yaml": "task: finance_statement\nstages: [{train: sft}]\n",
    "twice.yaml": "model: a\nmodel: b\n",
    "columns.yaml": "data: {train: questions.jsonl}\nstages: [{train: sft}]\n",
    "list.yaml": "- train: sft\n",
    "adapter.yaml": "model: mini-qwn\ndata: {train: sft.jsonl}\nstages: [{train: sft}]\n",
}  # fmt: skip
FOLDERS = ("mini-qwen", "run/sft/adapter", "empty-folder")

OUT = "--out out"
WRONG = [
    # names
    ("tran sft", "no command 'tran'", "did you mean 'train'"),
    ("dpo --model mini", "no command 'dpo'", "tieout train dpo"),
    ("serve runs/sft", "no command 'serve'", "vllm serve MERGED"),
    ("hub push", "no command 'hub'", "hf upload"),
    (f"train dop --data pairs.jsonl {OUT}", "no method 'dop'", "did you mean 'dpo'"),
    (f"train DPO --data pairs.jsonl {OUT}", "no method 'DPO'", "did you mean 'dpo'"),
    (f"train sft --data sft.jsonl --learning-rat 1e-4 {OUT}", "no option --learning-rat", "mean --learning-rate?"),
    (f"train sft --data sft.jsonl --num_train_epochs 2 {OUT}", "no option --num-train-epochs", "here it is --epochs"),
    (f"train grpo --data prompts.jsonl --num-generations 4 {OUT}", "no option", "here it is --group-size"),
    (f"train grpo --data prompts.jsonl --reward numerc {OUT}", "no reward is called 'numerc'", "mean 'numeric'"),
    (f"train grpo --task finance_statement {OUT}", "no task 'finance_statement'", "mean 'finance_statements'"),
    (f"train sft --data sft.jsonl --model mini-qwn {OUT}", "no model 'mini-qwn' here", "did you mean 'mini-qwen'"),
    (f"train sft --data sft.jsonl --model tieout-bas {OUT}", "no model 'tieout-bas'", "did you mean 'tieout-base'"),
    (f"train sft --data sft.jsonl --model ./gone {OUT}", "./gone does not exist", "give a folder, a hub id"),
    (f"train sft --data sft.jsonl --model gone.gguf {OUT}", "gone.gguf does not exist", "give a folder, a hub id"),
    (f"train dpo --data pairs.jsonl --model run {OUT}", "run is the folder of a run", "its model is run/sft/adapter"),
    (f"train distill --data prompts.jsonl {OUT}", "distill needs a teacher", "give --teacher a model or an adapter"),
    (f"train distill --data prompts.jsonl --teacher mini-qwn {OUT}", "no model 'mini-qwn'", "did you mean 'mini-qwen'"),
    # figures
    (f"train sft --data sft.jsonl --learning-rate -1e-4 {OUT}", "--learning-rate is -1e-4", "must be at least 0"),
    (f"train sft --data sft.jsonl --learning-rate high {OUT}", "--learning-rate is 'high'", "expected a number"),
    (f"train sft --data sft.jsonl --learning-rate 1,5 {OUT}", "--learning-rate is '1,5'", "such as 2e-4"),
    (f"train sft --data sft.jsonl --batch-size 0 {OUT}", "--batch-size is 0", "must be at least 1"),
    (f"train sft --data sft.jsonl --batch-size 2.5 {OUT}", "--batch-size is '2.5'", "expected a whole number"),
    (f"train sft --data sft.jsonl --batch-size 100000 {OUT}", "there are 20 rows", "give at most 20"),
    (f"train distill --data prompts.jsonl --beta 2 {OUT}", "--beta is 2", "expected 0 to 1"),
    (f"train dpo --data pairs.jsonl --beta 0 {OUT}", "--beta is 0", "must be above 0"),
    (f"train sft --data sft.jsonl --epochs nan {OUT}", "--epochs is nan", "must be above 0"),
    (f"train grpo --data prompts.jsonl --reward exact --group-size 1 {OUT}", "--group-size is 1", "at least 2"),
    # files
    (f"train sft --data stf.jsonl {OUT}", "data file not found: stf.jsonl", "did you mean sft.jsonl?"),
    (f"train sft --data data/sft.jsonl {OUT}", "data file not found", "there is no folder data either"),
    (f"train sft --data empty.jsonl {OUT}", "empty.jsonl", "has no rows"),
    (f"train sft --data rows.xlsx {OUT}", "unknown kind of file '.xlsx'", "expected one of .jsonl"),
    (f"train sft --data rows.txt {OUT}", "unknown kind of file '.txt'", "expected one of .jsonl"),
    (f"train sft --data fake.parquet {OUT}", "fake.parquet: not readable as Parquet", "magic bytes"),
    (f"train sft --data empty-folder {OUT}", "empty-folder is a folder", "expected a file"),
    (f"train sft --data comma.jsonl {OUT}", "a comma follows the object", "leave it out"),
    (f"train sft --data comma.json {OUT}", "comma.json:2: not JSON", "leave out the comma after the last value"),
    (f"train sft --data python.jsonl {OUT}", "looks like Python's notation", "expected double quotes"),
    (f"train sft --data torn.jsonl {OUT}", "torn.jsonl:1: not JSON", "is it complete?"),
    (f"train sft --data pretty.jsonl {OUT}", "pretty.jsonl:1: not JSON", "expected one object a line"),
    (f"train sft --data twice.jsonl {OUT}", "twice.jsonl:1", "key 'prompt' is given twice"),
    (f"train sft --data semicolons.csv {OUT}", "3 cells; the header has 2, divided by semicolons", "double quotes"),
    (f"train sft --data semicolons_other.csv {OUT}", "missing columns 'prompt', 'completion'", "has: frage, antwort"),
    (f"train sft --data cells.csv {OUT}", "3 cells; the header has 2, divided by commas", "double quotes"),
    (f"train sft --data header.csv {OUT}", "header.csv:1: the header names a column twice", "prompt, prompt"),
    (f"train sft --data {OUT}", "--data", "FILE"),
    # rows
    (f"train sft --data questions.jsonl {OUT}", "missing columns 'prompt'", "rename 'question' to 'prompt'"),
    (f"train sft --data pairs.jsonl {OUT}", "missing column 'completion'", "rename 'chosen' to 'completion'"),
    (f"train dpo --data sft.jsonl {OUT}", "missing columns 'chosen', 'rejected'", "this row has: prompt, completion"),
    (f"train kto --data sft.jsonl {OUT}", "missing column 'label'", "this row has: prompt, completion"),
    (f"train kto --data yes.jsonl {OUT}", "'label' is 'no', text", "expected true or 1 (good), or false or 0"),
    (f"train kto --data stars.jsonl {OUT}", "'label' is 2, a number", "expected true or 1 (good)"),
    (f"train sft --data text.jsonl {OUT}", "only a column 'text'", "split it into 'prompt' and 'completion'"),
    (f"train sft --data blank.jsonl {OUT}", "blank.jsonl:1: 'completion' is empty", "blank.jsonl:4; 16 more)"),
    (f"train sft --data numbers.jsonl {OUT}", "'completion' is a number", "expected text or messages"),
    (f"train sft --data question_last.jsonl {OUT}", "is from 'user'", "expected 'assistant'"),
    (f"train reward_model --data scores.jsonl {OUT}", "2 completions, but 1 scores", "expected one each"),
    (f"train dpo --data same.jsonl {OUT}", "'chosen' and 'rejected' are the same in every row", "train sft"),
    # rewards
    (f"train grpo --data prompts.jsonl {OUT}", "grpo needs a reward", "or --reward-model FOLDER"),
    (f"train grpo --data prompts.jsonl --reward rewards.py:rigth {OUT}", "has no 'rigth'", "it has: right, short"),
    (f"train grpo --data prompts.jsonl --reward reward.py:right {OUT}", "file reward.py does not exist", "looked in"),
    (f"train grpo --data prompts.jsonl --reward syntax.py:right {OUT}", "syntax.py cannot be imported", "(line 1)"),
    (f"train grpo --data prompts.jsonl --reward rewards.py:number {OUT}", "is a int", "expected a function"),
    ("reward check rewards.py:wants --data prompts.jsonl", "needs column 'solution'", "rows have: answer, completion"),
    ("reward check rewards.py:short --data prompts.jsonl --workers 0", "1 values for 3", "expected one each"),
    ("reward check rewards.py:words --data prompts.jsonl --workers 0", "'good'", "expected a number"),
    ("attack rewards.py:wants --data prompts.jsonl", "needs column 'solution'", "rows have: answer, completion"),
    ("attack --data prompts.jsonl", "no reward is given", "Your own: file.py:function"),
    ("calibrate exact --data sft.jsonl", "label", "chosen"),
    # recipes
    ("run gone.yaml", "gone.yaml", "no such file"),
    ("run tabs.yaml", "tabs.yaml:3: not valid YAML", "indent with spaces"),
    ("run list.yaml", "expected keys and values", "found list"),
    ("run twice.yaml", "twice.yaml:2: key 'model' again", "first on line 1"),
    ("run method.yaml", "method.yaml: stages[0] (train): no method 'dop'", "did you mean 'dpo'"),
    ("run field.yaml", "unknown key 'learning_rat'", "did you mean 'learning_rate'"),
    ("run trl.yaml", "unknown key 'num_generations'", "here it is 'group_size'"),
    ("run steps.yaml", "unknown key 'max_steps'", "the length of a run is given as epochs"),
    ("run start.yaml", "unknown key 'start'; did you mean 'from'?", "name, from, data"),
    ("run good.yaml --set stages.sft.learning_rat=1e-4", "unknown key 'learning_rat'", "did you mean 'learning_rate'"),
    ("run good.yaml --set stages.stf.epochs=2", "no stage 'stf'", "did you mean 'sft'"),
    ("run good.yaml --set data.train=stf.jsonl", "data file not found: stf.jsonl", "did you mean sft.jsonl?"),
    ("run good.yaml --set model=mini-qwn", "no model 'mini-qwn' here", "did you mean 'mini-qwen'"),
    ("run good.yaml --set epochs", "--set 'epochs'", "expected KEY=VALUE"),
    ("plan gone.yaml", "gone.yaml", "no such file"),
    ("plan method.yaml", "no method 'dop'", "did you mean 'dpo'"),
    ("plan good.yaml --model mini-qwn", "no model 'mini-qwn' here", "did you mean 'mini-qwen'"),
    ("run word.yaml", "epochs is 'two'", "expected a number"),
    ("run negative.yaml", "(train sft): learning_rate is -0.0001", "must be at least 0"),
    ("run nothing.yaml", "stages[1] (train sft): epochs is 0", "must be above 0"),
    ("run batch.yaml", "batch_size is 64, and there are 20 rows", "give at most 20"),
    ("run file.yaml", "data file not found: stf.jsonl", "did you mean sft.jsonl?"),
    ("run columns.yaml", "missing columns 'prompt'", "rename 'question' to 'prompt'"),
    ("run reward.yaml", "no reward is called 'numerc'", "did you mean 'numeric'"),
    ("run task.yaml", "no task 'finance_statement'", "did you mean 'finance_statements'"),
    ("run adapter.yaml", "no model 'mini-qwn' here", "did you mean 'mini-qwen'"),
    # judging and shipping
    ("eval --data prompts.jsonl --model mini-qwn", "no model 'mini-qwn' here", "did you mean 'mini-qwen'"),
    ("eval --model tieout-base", "give either --task NAME", "--data FILE"),
    ("eval --data sft.jsonl --reward rewards.py:wants", "sft.jsonl: reward 'wants' needs", "rows have: completion"),
    ("eval --data prompts.jsonl --reward exakt", "no reward is called 'exakt'", "did you mean 'exact'"),
    ("sample hello --model mini-qwn", "no model 'mini-qwn' here", "did you mean 'mini-qwen'"),
    ("sample", "give either a PROMPT", "--data FILE"),
    ("pairs sft.jsonl", "missing columns 'chosen', 'rejected'", "this row has: prompt, completion"),
    ("show sft.jsonl", "sft.jsonl is no run folder", "run.json"),
    ("gate run", "run has no evidence/report.json", "run folder"),
    ("report gone", "gone", "no run"),
    ("diff run gone", "run", "folder"),
    ("diff run run", "run is given twice", "expected two runs"),
    ("label pairs.jsonl --port 99999", "--port is 99999", "expected 1 to 65535"),
    ("label pairs.jsonl --overlap 3", "--overlap is 3.0", "expected a share, 0 to 1"),
    ("label pairs.jsonl --kind spans", "no completion for spans", "the row has: prompt, chosen, rejected"),
    ("watch run --port 99999", "--port is 99999", "expected 1 to 65535"),
    ("watch run --seconds 0", "--seconds is 0", "expected 1 or more"),
    ("show run --cases -1", "--cases is -1", "expected 0 or more"),
    ("init good.yaml", "good.yaml is a file", "name a folder to write into"),
    ("init out --data pairs.jsonl --model mini-qwn", "no model 'mini-qwn' here", "did you mean 'mini-qwen'"),
    ("merge gone --out out", "there is no folder gone here", "give the folder of an adapter"),
    ("merge run --out run", "run is there already", "name another folder"),
    ("plan good.yaml --length -1", "--length is -1", "expected a number of tokens"),
    ("eval --data prompts.jsonl --out mine.csv", "--out is mine.csv", "expected a folder, or FILE.jsonl"),
    ("best-of --data prompts.jsonl --num 4,2", "num is '4,2'", "expected rising whole numbers"),
    ("best-of --data prompts.jsonl --gold exakt", "no reward is called 'exakt'", "did you mean 'exact'"),
    ("prefer --data prompts.jsonl --out out.csv", "--out is out.csv", "expected a file of rows"),
    ("advise sft.jsonl --samples 0", "samples is 0", "at least twice each"),
    ("advise sft.jsonl --out made.yaml", "--out needs --reward", "`tieout init DIR --data FILE` writes one"),
    ("attack exact --data prompts.jsonl --corpus empty-folder", "empty-folder is a folder", "expected a file"),
    ("attack exact --data prompts.jsonl --classes shel", "no class is called 'shel'", "there are: shell"),
    ("prefer --data prompts.jsonl --out p.jsonl --num-completions 1", "num_completions is 1", "expected at least 2"),
    ("verify run --fresh lots", "--fresh is 'lots'", "such as 5%"),
    ("verify gone", "gone is no report", "expected a run folder with evidence/report.json"),
    ("ship run --review gone.yaml", "run has no evidence/report.json", "tieout eval"),
    ("calibrate exact", "calibrate needs a reward and its labelled rows", "tieout calibrate REWARD --data FILE"),
    ("doctor now", "now", "no such file"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What people have lying about."""
    place = tmp_path_factory.mktemp("wrong")
    for name, text in FILES.items():
        (place / name).write_text(text, encoding="utf-8")
    for name in FOLDERS:
        (place / name).mkdir(parents=True)
    (place / "mini-qwen" / "config.json").write_text("{}")
    (place / "run" / "sft" / "adapter" / "adapter_config.json").write_text("{}")
    return place


@pytest.fixture(scope="module")
def tieout(folder: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Run a command in the folder, in a process without torch."""
    server = subprocess.Popen(
        [sys.executable, wrong_inputs_server.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin
    assert server.stdout
    assert server.stdout.readline() == "ready\n"
    given, answers = server.stdin, server.stdout

    def run(command: str) -> dict[str, Any]:
        given.write(json.dumps({"argv": command.split(), "folder": str(folder)}) + "\n")
        given.flush()
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    with server:
        yield run
        given.close()


def flat(text: str) -> str:
    """Without the frame that the parser of options draws."""
    return " ".join(text.replace("│", " ").split())


def test_there_are_sixty() -> None:
    assert len({command for command, *_ in WRONG}) == len(WRONG) >= 60


@pytest.mark.parametrize(("command", "cause", "remedy"), WRONG, ids=[command for command, *_ in WRONG])
def test_a_wrong_input_is_answered_at_once(
    tieout: Callable[[str], dict[str, Any]], folder: Path, command: str, cause: str, remedy: str
) -> None:
    answer = tieout(command)
    said = flat(answer["said"])
    assert not answer["torch"], answer["said"]
    assert answer["status"] not in (0, 70), said
    assert "Traceback" not in said
    assert cause in said, said
    assert remedy in said, said
    assert not (folder / "out").exists(), "nothing is begun before it is refused"


def test_the_list_of_methods_is_shown_as_quickly(tieout: Callable[[str], dict[str, Any]]) -> None:
    answer = tieout("train --help")
    assert (answer["status"], answer["torch"]) == (0, False), answer["said"]
    assert all(f"  {name} " in answer["said"] for name in TABLE)
    assert "  tieout train sft --model" in answer["said"]


def test_the_table_of_rows_and_figures_is_that_of_the_methods() -> None:
    from tieout.errors import InputError
    from tieout.learner.models import names
    from tieout.methods import METHODS

    assert names.NAMED == NAMED
    for name, method in METHODS.items():
        known, own, needs = TABLE[name], method.__dataclass_fields__, method().needs
        assert (needs.rows, needs.rewarded or not needs.samples) == (known.rows, known.rewarded), name
        assert set(fields_of(name)) == set(own), name
        assert about(name) in " ".join(str(method.__doc__).split()), name
        assert set(known.own) <= set(own), name
        for field, values in known.ranges.items():
            if field not in own:
                continue
            outside = [values.least if values.above else values.least - 1]
            outside += [values.most + 1] if values.most < inf else []
            for value in [*outside, nan] if fields_of(name)[field] == "float" else outside:
                with pytest.raises(InputError, match=field):
                    method(**{field: value})
            method(**{field: values.least} if field == "group_size" else {})

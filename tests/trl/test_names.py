"""Every name that TRL exports is there, or says why not; and the functions among them do what TRL's do."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from transformers import AutoModelForCausalLM, AutoTokenizer

from tieout import trl
from tieout.trl import rewards
from tieout.trl.older import ABSENT, HANDED_ON, handed_on

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
QUICK: dict[str, Any] = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
CONVERSATION = [{"role": "user", "content": "What color is the sky?"}]
BLUE, GREEN = (
    [{"role": "assistant", "content": "It is blue."}],
    [{"role": "assistant", "content": "It is green."}],
)


@pytest.fixture
def peer() -> Any:
    return pytest.importorskip("trl")


# ------------------------------------------------------------------------------------------------ names


def test_every_name_that_trl_exports_is_there_or_says_why_not(peer: Any) -> None:
    exported = {*structure(peer), *structure(importlib.import_module("trl.trainer"))}
    assert {"SFTTrainer", "get_dataset", "add_fused_lm_head"} <= exported
    assert not {name for name in exported if not hasattr(trl, name)} - ABSENT.keys()
    assert not {*structure(importlib.import_module("trl.rewards"))} - {*dir(rewards)}


def structure(package: Any) -> list[str]:
    """What a module of TRL's exports; it imports lazily."""
    return [name for names in package._import_structure.values() for name in names]


def test_what_is_not_there_says_what_to_use_instead() -> None:
    for name, why in ABSENT.items():
        with pytest.raises(AttributeError) as error:
            getattr(trl, name)
        assert str(error.value) == f"tieout.trl has no {name!r}: {why}"
        assert not hasattr(trl, name)
        assert name not in trl.__all__
    with pytest.raises(ImportError, match="KTOTrainer learns"):
        from tieout.trl import BCOTrainer  # noqa: F401
    with pytest.raises(ImportError, match="give them to SFTTrainer as they are"):
        from tieout.trl import ConstantLengthDataset  # noqa: F401
    with pytest.raises(AttributeError, match="no attribute 'DPOTrainr'; did you mean 'DPOTrainer'"):
        _ = trl.DPOTrainr
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from tieout.trl import nothing  # noqa: F401


def test_functions_of_trl_are_its_own_or_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trl.pack_dataset.__wrapped__ is importlib.import_module("trl").pack_dataset
    rows = Dataset.from_dict({"input_ids": [[1, 2], [3]]})
    assert len(trl.pack_dataset(rows, seq_length=3)) == 1
    assert set(HANDED_ON) <= {*trl.__all__}
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(ImportError, match=r"apply_chat_template is TRL's own, .*: pip install trl"):
        handed_on("apply_chat_template")


def lengths(completions: list[str]) -> list[float]:
    return [float(len(completion)) for completion in completions]


def test_older_names_of_classes_say_those_of_today(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    name = str(tiny_model("llama"))
    with pytest.warns(FutureWarning, match="PPOv2Config is the older name of PPOConfig"):
        config = trl.PPOv2Config(
            str(tmp_path),
            total_episodes=4,
            per_device_train_batch_size=4,
            response_length=4,
            num_ppo_epochs=1,
            **QUICK,
        )
    assert isinstance(config, trl.PPOConfig)
    rows = Dataset.from_dict({"prompt": ["one", "two", "three", "four"]})
    with pytest.warns(FutureWarning, match="PPOv2Trainer is the older name of PPOTrainer"):
        trainer = trl.PPOv2Trainer(
            config=config, tokenizer=AutoTokenizer.from_pretrained(name), train_dataset=rows,
            policy=AutoModelForCausalLM.from_pretrained(name), reward_model=lengths,
        )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 1
    for older in (trl.SFTScriptArguments, trl.DPOScriptArguments):
        with pytest.warns(FutureWarning, match=f"{older.__name__} is the older name of ScriptArguments"):
            assert older(dataset_name="a").dataset_train_split == "train"


def test_the_bar_of_rich_is_drawn_and_taken_away(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Dataset.from_dict({"text": ["audit", "ledger", "asset", "equity"]})
    args = trl.SFTConfig(
        str(tmp_path), per_device_train_batch_size=2, num_train_epochs=1, logging_steps=1, **QUICK
    )
    trainer = trl.SFTTrainer(str(tiny_model("llama")), args, rows, callbacks=[trl.RichProgressCallback])
    trainer.train()
    shown = capsys.readouterr().out
    assert "Training" in shown
    assert "loss" in shown
    bar = next(c for c in trainer.callback_handler.callbacks if isinstance(c, trl.RichProgressCallback))
    assert bar.training_bar is None


def test_errors_only_are_logged_and_warnings_still_shown() -> None:
    trl.init_zero_verbose()
    with pytest.warns(UserWarning, match="packing"):
        trl.SFTConfig("o", packing=True, use_cpu=True)


# ------------------------------------------------------------------------------------------------ rows

ROWS: list[dict[str, Any]] = [
    {"messages": CONVERSATION + BLUE},
    {"prompt": CONVERSATION},
    {"prompt": CONVERSATION, "completion": BLUE},
    {"prompt": CONVERSATION, "chosen": BLUE, "rejected": GREEN},
    {"chosen": CONVERSATION + BLUE, "rejected": CONVERSATION + GREEN},
    {"prompt": CONVERSATION, "completion": BLUE, "label": True},
    {"prompt": [*CONVERSATION, {"role": "assistant", "content": "It is"}]},
    {"prompt": "The sky is", "completion": " blue."},
    {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
    {"chosen": "The sky is blue.", "rejected": "The sky is green."},
    {"prompt": "What color is the sky?", "chosen": CONVERSATION + BLUE, "rejected": CONVERSATION + GREEN},
]


@pytest.mark.parametrize("row", ROWS)
def test_rows_are_converted_as_trl_does(
    row: dict[str, Any], peer: Any, tiny_model: Callable[[str], Path]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    assert trl.maybe_extract_prompt(row) == peer.maybe_extract_prompt(row)
    talk = {k: v for k, v in row.items() if not (k == "prompt" and isinstance(v, str) and "chosen" in row)}
    assert trl.is_conversational(talk) == peer.is_conversational(talk)
    expected = peer.maybe_apply_chat_template(talk, tokenizer)
    assert trl.maybe_apply_chat_template(talk, tokenizer) == expected
    assert trl.maybe_apply_chat_template(talk, tokenizer=tokenizer) == expected, "as in 0.11"
    assert trl.maybe_apply_chat_template(talk, processing_class=tokenizer) == expected


def test_templates_are_told_of_tools_and_of_the_rows_own_options(tiny_model: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    tokenizer.chat_template = (
        "{{ tools | length if tools else 'none' }} {{ mood }} {{ messages[0]['content'] }}"
    )
    row = {"messages": CONVERSATION, "chat_template_kwargs": {"mood": "calm"}}
    assert trl.apply_chat_template(row, tokenizer)["text"].startswith("none calm What")
    tool = {"type": "function", "function": {"name": "f"}}
    assert trl.apply_chat_template(row, tokenizer, tools=[tool])["text"].startswith("1 calm What")


def test_sharegpt_becomes_messages(peer: Any) -> None:
    turns = [{"from": "user", "value": "hi"}, {"from": "assistant", "value": "yes"}]
    for row in (
        {"conversations": turns, "id": 3},
        {"prompt": turns[:1], "completion": turns[1:]},
        {"prompt": "hi", "completion": "yes"},
        {"messages": CONVERSATION},
    ):
        assert trl.is_conversational_from_value(row) == peer.is_conversational_from_value(row)
        copied = {k: [dict(t) for t in v] if isinstance(v, list) else v for k, v in row.items()}
        assert trl.maybe_convert_to_chatml(row) == peer.maybe_convert_to_chatml(copied)
    assert turns[0] == {"from": "user", "value": "hi"}, "what was given stays as it is"


def test_pairs_become_completions_with_labels(peer: Any) -> None:
    rows = {"prompt": ["The sky is", "The sun is"], "chosen": [" blue.", " up."], "rejected": [" green.", " low."],
            "other": [1, 2]}  # fmt: skip
    for given in (
        Dataset.from_dict(rows),
        Dataset.from_dict({k: v for k, v in rows.items() if k != "prompt"}),
    ):
        assert trl.unpair_preference_dataset(given)[:] == peer.unpair_preference_dataset(given)[:]
        unpaired = trl.maybe_unpair_preference_dataset(given, num_proc=None, desc="unpairing")
        assert trl.maybe_unpair_preference_dataset(unpaired) is unpaired
    splits = DatasetDict({"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows)})
    assert trl.unpair_preference_dataset(splits)["test"]["label"] == [True, True, False, False]
    stream = Dataset.from_dict(rows).to_iterable_dataset()
    assert [row["completion"] for row in trl.unpair_preference_dataset(stream)] == [
        " blue.",
        " up.",
        " green.",
        " low.",
    ]


# ------------------------------------------------------------------------------------------------ templates


def test_chatml_for_a_model_without_a_template(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    name = str(tiny_model("llama"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    with pytest.raises(ValueError, match=r"set tokenizer\.chat_template = None"):
        trl.setup_chat_format(model, tokenizer)
    tokenizer.chat_template = None
    before = len(tokenizer)
    model, tokenizer = trl.setup_chat_format(model, tokenizer, resize_to_multiple_of=8)
    said = tokenizer.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=True)
    assert said == "<|im_start|>user\nWhat color is the sky?<|im_end|>\n<|im_start|>assistant\n"
    assert (
        tokenizer("<|im_end|>", add_special_tokens=False).input_ids
        == [tokenizer.eos_token_id]
        == [before + 1]
    )
    assert (model.config.eos_token_id, model.generation_config.eos_token_id) == (before + 1, before + 1)
    assert model.get_input_embeddings().num_embeddings % 8 == 0
    rows = Dataset.from_list([{"messages": CONVERSATION + BLUE}, {"messages": CONVERSATION + GREEN}])
    args = trl.SFTConfig(str(tmp_path), max_steps=1, per_device_train_batch_size=2, **QUICK)
    trainer = trl.SFTTrainer(model, args, rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(tmp_path / "out"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(again.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("multiple", [None, 64])
def test_another_tokenizers_template(
    multiple: int | None, peer: Any, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    name = str(tiny_model("llama"))
    source = AutoTokenizer.from_pretrained(name)
    source.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    source.eos_token, source.chat_template = "<|im_end|>", "{{ messages[0]['content'] }}<|im_end|>"
    source.save_pretrained(tmp_path)
    ours, theirs = (
        clone(
            AutoModelForCausalLM.from_pretrained(name),
            AutoTokenizer.from_pretrained(name),
            str(tmp_path),
            multiple,
        )
        for clone in (trl.clone_chat_template, peer.clone_chat_template)
    )
    assert ours[2] == theirs[2]
    assert ours[1].get_vocab() == theirs[1].get_vocab()
    assert ours[1].chat_template == theirs[1].chat_template == source.chat_template
    assert ours[1].eos_token_id == ours[0].config.eos_token_id == theirs[0].generation_config.eos_token_id
    assert ours[0].get_input_embeddings().num_embeddings == theirs[0].get_input_embeddings().num_embeddings


# ------------------------------------------------------------------------------------------------ rewards


@pytest.mark.parametrize(
    ("said", "solution", "score"),
    [
        (r"so it is \boxed{\frac{1}{3}}", r"\frac{1}{3}", 1.0),
        (r"so it is \boxed{\frac{1}{2}}", r"\frac{1}{3}", 0.0),
        (r"\boxed{0.5}", r"$\dfrac{1}{2}$", 1.0),
        (r"\boxed{1/2}", "0.50", 1.0),
        (r"\boxed{-\frac{3}{4}}", "-0.75", 1.0),
        (r"\boxed{1,000}", "1000", 1.0),
        (r"\boxed{50\%}", "0.5", 1.0),
        (r"\boxed{50\%}", "50", 0.0),
        (r"first \boxed{4}, no: \boxed{5}", "5", 1.0),
        (r"first \boxed{5}, no: \boxed{4}", "5", 0.0),
        (r"\boxed{\{1, 2\}}", r"\{1,2\}", 1.0),
        (r"\boxed{x^2 + 1}", "$x^2+1$", 1.0),
        (r"\boxed{1+x^2}", "$x^2+1$", 0.0),
        (r"\boxed{\text{even}}", "even", 1.0),
        (r"\boxed{x = 5}", "5", 1.0),
        (r"\boxed{90^\circ}", "90", 1.0),
        (r"\boxed{1\,000}", "1000", 1.0),
        (r"\boxed{4 5}", "45", 0.0),
        (r"\boxed{1 2/3}", "4", 0.0),
        ("thus\n#### 72", "72", 1.0),
        ("<answer>72</answer>", "#### 72", 1.0),
        ("Answer: 72.", r"long work, \boxed{72}", 1.0),
        ("so we get $x = 7$.", "7", 1.0),
        ("7", "7", 0.0),
        (r"\boxed{7", "7", 0.0),
        (r"\boxed{-}", "0", 0.0),
        (r"\boxed{}", "0", 0.0),
        (r"\boxed{\frac{1}{0}}", "0", 0.0),
        (r"\boxed{5}", "there is no answer to it", None),
        (r"\boxed{5}", "", None),
        (r"\boxed{5}", None, None),
    ],
)
def test_accuracy(said: str, solution: str, score: float | None) -> None:
    assert rewards.accuracy_reward([said], [solution], question=["?"]) == [score]
    assert rewards.accuracy_reward([[{"role": "assistant", "content": said}]], [solution]) == [score]
    thought = f"<think>{said}</think>{said}"
    assert rewards.reasoning_accuracy_reward([thought, f"<think>{said}"], [solution] * 2) == [score, 0.0]


def test_accuracy_tells_what_it_has_read() -> None:
    told: dict[str, Any] = {}
    rewards.accuracy_reward([r"\boxed{5}", "?"], ["5", "two words"], log_extra=told.__setitem__)
    assert told == {
        "solution": ["5", "two words"], "gold_parsed": ["5", "[unparseable]"], "answer_parsed": ["5", "[unparseable]"]
    }  # fmt: skip


def test_accuracy_reads_long_nonsense_quickly() -> None:
    for nonsense in (
        r"\boxed{" * 5000,
        r"\boxed{" + r"\frac{1}" * 5000 + "}",
        "<answer>" * 5000,
        "$" * 9999,
        "}{" * 9999,
    ):
        assert rewards.accuracy_reward([nonsense], ["5"]) == [0.0]


def test_rewards_of_form_are_trls(peer: Any) -> None:
    theirs = importlib.import_module("trl.rewards")
    texts = ["<think>\na\n</think>\nb", "<think>a", "a<think>b</think>", "<think>a<think></think>", "<think></think>",
             "<think>a</think></think>", " <think>a</think>", "\n<think>a</think>", ""]  # fmt: skip
    said = [[{"role": "assistant", "content": text}] for text in texts]
    assert rewards.think_format_reward(said) == theirs.think_format_reward(said)
    ids = [[1] * n for n in (0, 79, 80, 81, 90, 99, 100, 101)] + [[1, 2, 3, 1, 2], [1, 2], [4, 4, 4, 4]]
    for cache in (20, 0):
        own = rewards.get_soft_overlong_punishment(100, cache)
        assert own(ids, other=1) == pytest.approx(theirs.get_soft_overlong_punishment(100, cache)(ids))
    for size in (1, 2, 3):
        own = rewards.get_repetition_penalty_reward(size, -0.5)
        assert own(completion_ids=ids) == pytest.approx(theirs.get_repetition_penalty_reward(size, -0.5)(ids))
    with pytest.raises(ValueError, match="not above 0"):
        rewards.get_repetition_penalty_reward(max_penalty=1.0)
    scaled = rewards.get_cosine_scaled_reward(100)
    assert scaled([r"\boxed{5}"] * 4, ["5", "6", "5", "two words"], [[1] * n for n in (0, 0, 500, 5)]) == [
        1.0,
        -1.0,
        0.5,
        None,
    ]


def test_a_run_with_these_rewards(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    rows = Dataset.from_list([{"prompt": CONVERSATION, "solution": "5"}] * 2)
    args = trl.GRPOConfig(str(tmp_path), per_device_train_batch_size=4, num_generations=4, max_completion_length=6,
                          max_steps=1, logging_steps=1, **QUICK)  # fmt: skip
    functions = [
        rewards.accuracy_reward,
        rewards.think_format_reward,
        rewards.get_soft_overlong_punishment(6, 4),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trl.GRPOTrainer(str(tiny_model("llama")), functions, args, rows)
        trainer.train()
    (logged, *_) = [entry for entry in trainer.state.log_history if "loss" in entry]
    for name in ("accuracy_reward", "think_format_reward", "soft_overlong_punishment_reward"):
        assert f"rewards/{name}/mean" in logged

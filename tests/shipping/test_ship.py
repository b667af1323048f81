"""What is shipped does what the policy did, or is not shipped; and nobody ships against the verdict unseen."""

from __future__ import annotations

import json
import os
import pkgutil
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import tieout.shipping.candidate
import tieout.shipping.reload_check
from given_review import REVIEW
from random_groups import stir_weights
from tieout.chat.template import Chat
from tieout.config.fields import from_plain, to_plain
from tieout.errors import InputError
from tieout.evidence.evaluate import CONTROLS, PROGRAMMATIC, Case
from tieout.evidence.human import Grade
from tieout.evidence.report import write_report
from tieout.learner import AdapterConfig, Learner, load
from tieout.learner.checkpoint import save_adapter
from tieout.learner.models.names import portable
from tieout.review.answers import keep
from tieout.shipping.candidate import ShippingError, altered, check, prepare
from tieout.shipping.card import Card, card_of
from tieout.shipping.reload_check import Behaviour, BehaviourError, compare, observe
from tieout.shipping.ship import card_differs, ship
from tieout.storage.atomic import verifies
from tieout.types import Prompt

PROMPTS: list[Prompt] = [
    [{"role": "user", "content": "What was revenue?"}],
    [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": "Total assets?"}],
    "Net income was",
]
CARD = Card(
    title="Tiny statements",
    task="Reads statements.",
    training=("SFT: 2 epochs over 100 demonstrations", "DPO: 50 pairs, beta 0.1"),
    data="generated",
    license="apache-2.0",
    limits=("English only | no tables.",),
)
TinyModel = Callable[[str], Path]


def trained(base: Path, folder: Path, method: str = "lora", dtype: torch.dtype | None = None) -> Behaviour:
    """An adapter (or a whole model) in `folder`, as training leaves it, and what the policy in memory did."""
    adapter = AdapterConfig(method=method, rank=4, alpha=8.0)  # type: ignore[arg-type]
    model = load(str(base), adapter, dtype=dtype, device="cpu")
    learner = Learner(model)
    stir_weights(learner, scale=0.05 if method != "full" else 0.01)
    save_adapter(learner, folder)
    return observe(model, Chat(model.tokenizer), PROMPTS, max_new_tokens=12)


@pytest.fixture(scope="module")
def policy(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Behaviour]:
    """(base, adapter, behaviour) of a LoRA policy on the tiny Llama."""
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    base = tiny_model("llama")
    return base, folder, trained(base, folder)


def graded(verdict: str) -> list[Grade]:
    preferred = {"ship": "a", "hold": "tie", "reject": "b"}[verdict]
    return [Grade(f"test/{i}", "sft", "base", preferred) for i in range(40)]


def write_evidence(folder: Path, verdict: str) -> dict[str, Any]:
    """A real report: the candidate is better on 30 of 40 cases and holds the controls; people decide the rest."""
    rows = [(PROGRAMMATIC, "test", i, float(i < 35), float(i < 5)) for i in range(40)]
    rows += [(CONTROLS, "facts", i, 1.0, 1.0) for i in range(80)]
    cases: dict[str, list[Case]] = {"base": [], "sft": []}
    for track, part, i, ours, theirs in rows:
        for model, value in (("sft", ours), ("base", theirs)):
            case = Case(f"{part}/{i}", track, part, f"question {i}", f"{model} {i}", value)
            if track == PROGRAMMATIC:
                points = {"form": 0.25 * value, "figures": 0.75 * value}
                case = replace(case, metrics={"exact": value}, parts=points)
            cases[model].append(case)
    grades = folder.parent / "grades.jsonl"
    grades.write_text("".join(json.dumps(vars_of(grade)) + "\n" for grade in graded(verdict)))
    report = write_report(folder, cases, candidate="sft", baseline="base", primary="exact", grades=grades)
    assert report["verdict"]["verdict"] == verdict
    keep(folder, REVIEW)
    return report


def vars_of(grade: Grade) -> dict[str, str]:
    return {name: getattr(grade, name) for name in ("case", "model_a", "model_b", "preferred")}


@pytest.fixture(scope="module")
def evidences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Verdict -> an evidence folder that gives it; do not write into it."""
    folders = {
        verdict: tmp_path_factory.mktemp(verdict) / "evidence" for verdict in ("ship", "hold", "reject")
    }
    for verdict, folder in folders.items():
        write_evidence(folder, verdict)
    return folders


def report_of(evidence: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((evidence / "report.json").read_text())
    return report


@pytest.fixture(scope="module")
def built(
    policy: tuple[Path, Path, Behaviour], evidences: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A checked candidate; do not write into it."""
    base, adapter, seen = policy
    folder = tmp_path_factory.mktemp("built") / "candidate"
    prepare(
        adapter, str(base), folder, policy=seen, report=report_of(evidences["ship"]), card=CARD, device="cpu"
    )
    return folder


@pytest.fixture
def candidate(built: Path, tmp_path: Path) -> Path:
    """A candidate of one's own, in an otherwise empty run folder."""
    return Path(shutil.copytree(built, tmp_path / "run" / "candidate"))


@pytest.fixture
def run(candidate: Path, evidences: dict[str, Path]) -> Callable[[str], Path]:
    """`run("hold")`: a run folder with a candidate and the evidence for that verdict."""

    def folder(verdict: str) -> Path:
        shutil.copytree(evidences[verdict], candidate.parent / "evidence")
        return candidate.parent

    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ---------------------------------------------------------------- good candidates


@pytest.mark.parametrize(
    ("family", "method"), [("llama", "dora"), ("qwen2", "lora"), ("gemma3", "lora"), ("mistral", "dora")]
)
def test_a_good_adapter_passes(
    tiny_model: TinyModel, evidences: dict[str, Path], tmp_path: Path, family: str, method: str
) -> None:
    seen = trained(tiny_model(family), tmp_path / "adapter", method)
    found = prepare(
        tmp_path / "adapter",
        str(tiny_model(family)),
        tmp_path / "candidate",
        policy=seen,
        report=report_of(evidences["hold"]),
        device="cpu",
    )
    assert found.check.worst.keys() == {"adapter", "merged"}
    assert max(found.check.worst.values()) <= 1e-4
    assert (found.check.prompts, found.check.near_ties) == (3, 0)
    assert altered(found.folder) == []
    assert not list(tmp_path.glob(".*"))


def test_the_policy_is_not_the_base(policy: tuple[Path, Path, Behaviour]) -> None:
    base, _, seen = policy
    with pytest.raises(BehaviourError):
        compare(base, seen, device="cpu")


def test_transformers_alone_reads_the_merged_model(built: Path, policy: tuple[Path, Path, Behaviour]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(built / "merged")
    tokenizer = AutoTokenizer.from_pretrained(built / "merged")
    for example in policy[2].examples:
        if not isinstance(example.prompt, str):
            ids = tokenizer.apply_chat_template(example.prompt, add_generation_prompt=True, return_dict=False)
            assert ids == example.prompt_tokens
        prompt = torch.tensor([example.prompt_tokens])
        out = model.generate(
            prompt, do_sample=False, max_new_tokens=12, attention_mask=torch.ones_like(prompt)
        )
        assert out[0, prompt.shape[1] :].tolist() == example.tokens


def test_full_fine_tuning_ships_the_model_alone(
    tiny_model: TinyModel, evidences: dict[str, Path], tmp_path: Path
) -> None:
    seen = trained(tiny_model("llama"), tmp_path / "adapter", "full")
    found = prepare(
        tmp_path / "adapter",
        str(tiny_model("llama")),
        tmp_path / "candidate",
        policy=seen,
        report=report_of(evidences["hold"]),
        device="cpu",
    )
    assert found.check.worst.keys() == {"merged"}
    assert not (found.folder / "adapter").exists()
    assert "PEFT" not in (found.folder / "README.md").read_text()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_its_own_tolerance(
    tiny_model: TinyModel, evidences: dict[str, Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    seen = trained(tiny_model("llama"), tmp_path / "adapter", dtype=dtype)
    found = prepare(
        tmp_path / "adapter",
        str(tiny_model("llama")),
        tmp_path / "candidate",
        policy=seen,
        report=report_of(evidences["hold"]),
        device="cpu",
    )
    assert found.check.dtype == str(dtype).removeprefix("torch.")
    assert 1e-4 < found.check.worst["merged"] < found.check.tolerance  # float32's would be too strict
    (weights,) = (found.folder / "merged").glob("*.safetensors")
    assert {t.dtype for t in load_file(weights).values()} == {dtype}


def test_at_least_one_prompt_is_needed(tiny_model: TinyModel) -> None:
    model = load(str(tiny_model("llama")), device="cpu")
    with pytest.raises(ValueError, match="no prompts given"):
        observe(model, Chat(model.tokenizer), [], 4)


def test_what_the_policy_did_survives_json(policy: tuple[Path, Path, Behaviour]) -> None:
    seen = policy[2]
    assert from_plain(Behaviour, json.loads(json.dumps(to_plain(seen))), "behaviour.json") == seen


def test_margins_are_the_lead_of_the_greedy_token(policy: tuple[Path, Path, Behaviour]) -> None:
    base, adapter, seen = policy
    network = load(str(base), start=adapter, device="cpu").network
    for example in seen.examples:
        logits = network(torch.tensor([example.prompt_tokens + example.tokens])).logits[0].log_softmax(-1)
        rows = logits[len(example.prompt_tokens) - 1 : -1]
        top = rows.topk(2).values
        assert rows.argmax(-1).tolist() == example.tokens
        assert torch.allclose(top[:, 0], torch.tensor(example.logprobs), atol=1e-5)
        assert torch.allclose(top[:, 0] - top[:, 1], torch.tensor(example.margins), atol=1e-5)


# ---------------------------------------------------------------- planted faults


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def one_weight(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] += 0.05


def not_a_number(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.0.self_attn.v_proj.weight"][0, 0] = float("nan")


FAULTS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "one weight": (
        lambda c, base: edit_weights(c / "merged", one_weight),
        r"merged/, prompt \d, token \d+ \(",
    ),
    "a NaN": (
        lambda c, base: edit_weights(c / "merged", not_a_number),
        "merged/.* 1 of 512 values that are NaN",
    ),
    "the base unmerged": (
        lambda c, base: shutil.copy(base / "model.safetensors", c / "merged"),
        "merged/, prompt 0",
    ),
    "scale": (
        lambda c, base: edit_json(c / "adapter/adapter_config.json", lora_alpha=8.8),
        "adapter/, prompt",
    ),
    "no chat template": (
        lambda c, base: (c / "merged/chat_template.jinja").unlink(),
        "merged/: the chat template",
    ),
    "other chat template": (
        lambda c, base: (c / "merged/chat_template.jinja").write_text("{{ messages }}"),
        "merged/: the chat template",
    ),
    "no generation config": (
        lambda c, base: (c / "merged/generation_config.json").unlink(),
        "merged/generation_config.json is missing",
    ),
    "other stop token": (
        lambda c, base: edit_json(c / "merged/generation_config.json", eos_token_id=[7]),
        r"eos_token_id is \[7\]; the policy stops at \[1\]",
    ),
    "no tokenizer": (lambda c, base: (c / "merged/tokenizer.json").unlink(), "merged/"),
    "no weights": (lambda c, base: (c / "merged/model.safetensors").unlink(), "merged/ cannot be loaded"),
    "torn weights": (
        lambda c, base: os.truncate(c / "merged/model.safetensors", 5000),
        "merged/ cannot be loaded",
    ),
    "no adapter weights": (
        lambda c, base: (c / "adapter/adapter_model.safetensors").unlink(),
        "adapter/ cannot be loaded",
    ),
    "another base": (
        lambda c, base: edit_json(c / "adapter/adapter_config.json", base_model_name_or_path="no/such-model"),
        "adapter/ cannot be loaded",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(policy: tuple[Path, Path, Behaviour], candidate: Path, fault: str) -> None:
    break_it, message = FAULTS[fault]
    break_it(candidate, policy[0])
    with pytest.raises(ShippingError, match=message):
        check(candidate, policy[2], device="cpu")


def test_a_swapped_token_is_found(candidate: Path, policy: tuple[Path, Path, Behaviour]) -> None:
    path = candidate / "merged/tokenizer.json"
    text = path.read_text()
    ids = {token: int(re.search(rf'"{token}": (\d+)', text)[1]) for token in "ae"}  # type: ignore[index]
    text = text.replace(f'"a": {ids["a"]}', '"a": X').replace(f'"e": {ids["e"]}', f'"e": {ids["a"]}')
    path.write_text(text.replace('"a": X', f'"a": {ids["e"]}'))
    with pytest.raises(
        ShippingError, match=r"merged/, prompt 0: the tokenizer makes other tokens of it, from token"
    ):
        check(candidate, policy[2], device="cpu")


def test_an_adapter_saved_wrongly_leaves_nothing(
    policy: tuple[Path, Path, Behaviour], evidences: dict[str, Path], tmp_path: Path
) -> None:
    """Both parts agree with each other, and neither with the policy: only what was seen in memory tells."""
    base, adapter, seen = policy
    shutil.copytree(adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("manifest.json"))
    edit_json(tmp_path / "adapter/adapter_config.json", lora_alpha=16.0)
    (tmp_path / "run/candidate").mkdir(parents=True)
    (tmp_path / "run/candidate/README.md").write_text("an older candidate")
    report = report_of(evidences["ship"])
    with pytest.raises(ShippingError, match=r"adapter/, prompt 0, token \d+ \(.*a difference of .* nats"):
        prepare(
            tmp_path / "adapter",
            str(base),
            tmp_path / "run/candidate",
            policy=seen,
            report=report,
            device="cpu",
        )
    assert list((tmp_path / "run").iterdir()) == []


def test_nan_in_the_adapter_is_refused(
    policy: tuple[Path, Path, Behaviour], evidences: dict[str, Path], tmp_path: Path
) -> None:
    base, adapter, seen = policy
    shutil.copytree(adapter, tmp_path / "adapter", ignore=shutil.ignore_patterns("manifest.json"))

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        next(iter(tensors.values())).fill_(float("nan"))

    edit_weights(tmp_path / "adapter", spoil)
    report = report_of(evidences["ship"])
    with pytest.raises(InputError, match="values that are NaN or infinite"):
        prepare(
            tmp_path / "adapter", str(base), tmp_path / "candidate", policy=seen, report=report, device="cpu"
        )
    assert not (tmp_path / "candidate").exists()


def test_interrupted_before_the_check_ends_leaves_nothing(
    policy: tuple[Path, Path, Behaviour],
    evidences: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, adapter, seen = policy
    report = report_of(evidences["ship"])

    def interrupt(folder: Path, *_: Any, **__: Any) -> Any:
        assert (folder.parent / "merged/model.safetensors").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(tieout.shipping.candidate, "compare", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(adapter, str(base), tmp_path / "candidate", policy=seen, report=report, device="cpu")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- near-ties


@pytest.fixture
def tied(tiny_model: TinyModel, tmp_path: Path) -> tuple[Path, Behaviour, int, int]:
    """A model two of whose tokens have the same head row, what it does, and the two tokens: the first one wins."""
    base = tiny_model("llama")
    model = load(str(base), device="cpu")
    chat = Chat(model.tokenizer)
    greedy = observe(model, chat, PROMPTS[:1], 1).examples[0].tokens[0]
    first, twin = sorted((greedy, 261 if greedy != 261 else 260))
    with torch.no_grad():
        head = model.causal.get_output_embeddings().weight
        head[[first, twin]] = head[greedy].clone()
    model.causal.save_pretrained(tmp_path / "tied")
    model.tokenizer.save_pretrained(tmp_path / "tied")
    seen = observe(load(str(tmp_path / "tied"), device="cpu"), chat, PROMPTS, 12)
    assert seen.examples[0].tokens[0] == first
    assert abs(seen.examples[0].margins[0]) < 1e-6
    return tmp_path / "tied", seen, first, twin


def prefer(twin: int, factor: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"][twin] *= factor

    return change


def test_a_near_tie_may_go_the_other_way(tied: tuple[Path, Behaviour, int, int]) -> None:
    folder, seen, _, twin = tied
    assert compare(folder, seen, device="cpu") == (0.0, 0)
    edit_weights(folder, prefer(twin, 1 + 2e-6))
    worst, ties = compare(folder, seen, device="cpu")
    assert ties >= 1
    assert worst <= 1e-4


def test_what_is_no_near_tie_may_not(tied: tuple[Path, Behaviour, int, int]) -> None:
    folder, seen, _, twin = tied
    edit_weights(folder, prefer(twin, 1 + 2e-6))
    # The same outputs, from a policy that was sure of its first token.
    sure = replace(seen.examples[0], margins=[0.1, *seen.examples[0].margins[1:]])
    with pytest.raises(BehaviourError, match=r"prompt 0, token 0: greedily it continues .* no near-tie"):
        compare(folder, replace(seen, examples=[sure]), device="cpu")


def test_a_near_tie_excuses_no_log_probability(tied: tuple[Path, Behaviour, int, int]) -> None:
    folder, seen, _, twin = tied
    edit_weights(folder, prefer(twin, 1.01))
    with pytest.raises(BehaviourError, match=r"prompt 0, token \d+ .*a difference of"):
        compare(folder, seen, device="cpu")


# ---------------------------------------------------------------- names and cards


def test_bases_have_portable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tieout import embedded

    inside = Path(embedded.__file__).parent / "tieout_base"
    assert portable("tieout-base") == "tieout-base"
    assert portable("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    snapshot = tmp_path / "models--Qwen--Qwen3-0.6B" / "snapshots" / "c1899de"
    snapshot.mkdir(parents=True)
    assert portable(str(snapshot)) == "Qwen/Qwen3-0.6B"
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    assert portable("mine") == str(tmp_path / "mine")
    if inside.exists():
        assert portable(str(inside)) == "tieout-base"
        assert portable(os.path.relpath(inside)) == "tieout-base"


def test_the_adapter_names_its_base(built: Path, policy: tuple[Path, Path, Behaviour]) -> None:
    config = json.loads((built / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(policy[0])
    assert {p.name for p in (built / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "base_weights.json",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    both = {**files(built / "merged"), **files(built / "adapter")}
    del both["adapter_config.json"], both["base_weights.json"]
    leaks = [name for name, data in both.items() if str(policy[0]).encode() in data]
    assert leaks == []


def test_an_embedded_base_is_named_not_located(
    policy: tuple[Path, Path, Behaviour],
    evidences: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tiny model stands in for the embedded one, which tests must not depend on."""
    from tieout import embedded

    monkeypatch.setattr(embedded, "NAMES", ("tieout-base",))
    monkeypatch.setattr(embedded, "path", lambda name: policy[0])
    prepare(
        policy[1],
        "tieout-base",
        tmp_path / "candidate",
        policy=policy[2],
        report=report_of(evidences["hold"]),
        device="cpu",
    )
    config = json.loads((tmp_path / "candidate/adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tieout-base"
    leaks = [name for name, data in files(tmp_path / "candidate").items() if str(policy[0]).encode() in data]
    assert leaks == []
    assert 'load("adapter")' in (tmp_path / "candidate/README.md").read_text()


def test_the_card_is_one_that_the_hub_reads(built: Path, evidences: dict[str, Path]) -> None:
    card = ModelCard.load(built / "README.md", repo_type="model")
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.base_model is None  # a local folder is no name on the Hub
    results = {(result.dataset_name, result.metric_type): result for result in card.data.eval_results}
    report = report_of(evidences["ship"])
    figure = report["models"]["sft"][PROGRAMMATIC]["metrics"]["exact"]
    assert results["programmatic, test", "exact"].metric_value == round(figure["mean"], 4) == 0.875
    assert list(results) == [
        ("programmatic, test", "exact"),
        ("programmatic, test", "score"),
        ("human", "score"),
        ("negative controls", "score"),
    ]


def test_the_card_says_what_was_measured(built: Path, evidences: dict[str, Path]) -> None:
    text = (built / "README.md").read_text()
    report = report_of(evidences["ship"])
    for line in [CARD.task, *CARD.training, *CARD.limits, *report["verdict"]["reasons"]]:
        assert line in text
    assert "**Verdict: ship**" in text
    whole = report["models"]["sft"][PROGRAMMATIC]["slices"]["test"]
    places = []
    for label, figure in [
        ("exact (primary)", whole["metrics"]["exact"]),
        ("reward", whole),
        ("– form", whole["parts"]["form"]),
        ("– figures", whole["parts"]["figures"]),
    ]:
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
        line = f"| sft | programmatic, test | {label} | {figure['mean']:.3f} | {interval} | 40 | 0 |"
        places.append(text.index(line))
    assert places == sorted(places)  # the primary metric, the reward, then what it consists of
    pair = report["comparisons"][0]
    assert (
        f"| sft minus base | negative controls | score | {pair['tracks'][CONTROLS]['difference']:+.3f} |"
        in text
    )
    assert f"- sft minus base: {pair['gain']}." in text
    assert "most of the gain is figures" in pair["gain"]


def test_the_card_admits_what_was_not_measured(
    policy: tuple[Path, Path, Behaviour], built: Path, evidences: dict[str, Path]
) -> None:
    report = report_of(evidences["hold"])
    for model in report["models"].values():
        model["human"] = {**model["human"], "n": 0, "mean": None, "low": None, "high": None}
    facts = json.loads((built / "card.json").read_text())["facts"]
    text = tieout.shipping.card.render(CARD, facts, report)
    assert "Not measured: human." in text
    assert "| sft | human | share won | none |  | 0 | 0 |" in text
    assert "name: human" not in text


def test_a_card_is_made_from_the_recipe(evidences: dict[str, Path]) -> None:
    report = report_of(evidences["hold"])
    report["metadata"] = {
        "recipe": {
            "task": "sums",
            "stages": [
                {"check": {"name": "check"}},
                {"pairs": {"name": "pairs", "num_completions": 4}},
                {
                    "train": "sft",
                    "name": "sft",
                    "from": "base",
                    "data": "pairs",
                    "epochs": 2.0,
                    "adapter": {"rank": 4},
                },
                {"train": "dpo", "name": "dpo", "from": "sft", "data": "pairs", "beta": 0.1},
                {"evaluate": {"name": "evaluate"}},
            ],
        },
        "data": {"train": "abc"},
    }
    card = card_of(report, "Qwen/Qwen3-0.6B")
    assert card.title == "Qwen3-0.6B-sft"
    assert card.training == (  # dpo came after the candidate
        "pairs: num_completions 4",
        "sft: train sft, from base, data pairs, epochs 2.0, adapter (rank 4)",
    )
    assert "sums" in card.task
    assert "abc" in card.data
    assert card_of(report_of(evidences["hold"]), "/x/mine").title == "mine-sft"


def test_the_code_in_the_card_runs(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built)
    blocks = re.findall(r"```python\n(.*?)```", (built / "README.md").read_text(), re.S)
    assert len(blocks) == 2
    models = []
    for block in blocks:
        scope: dict[str, Any] = {}
        exec(block, scope)
        models.append(scope["model"].eval())
    ids = torch.tensor([[10, 20, 30]])
    assert torch.allclose(models[0](ids).logits, models[1](ids).logits, atol=1e-4)


# ---------------------------------------------------------------- shipping


def test_a_good_verdict_ships(run: Callable[[str], Path], policy: tuple[Path, Path, Behaviour]) -> None:
    folder = run("ship")
    shipped = ship(folder / "candidate", folder / "shipped", folder / "evidence")
    assert shipped == folder / "shipped"
    assert verifies(shipped)
    manifest = json.loads((shipped / "manifest.json").read_text())
    assert manifest.keys() == files(shipped).keys() - {"manifest.json"}
    assert {p.name for p in folder.iterdir()} == {"shipped", "evidence"}
    assert not (folder / "evidence/override.json").exists()
    assert check(shipped, policy[2], device="cpu").near_ties == 0


@pytest.mark.parametrize("verdict", ["hold", "reject"])
@pytest.mark.parametrize("override", [None, "", "  \n"])
def test_another_verdict_does_not(run: Callable[[str], Path], verdict: str, override: str | None) -> None:
    folder = run(verdict)
    before = files(folder)
    with pytest.raises(ShippingError, match=f"the verdict is {verdict}, so nothing was shipped") as error:
        ship(folder / "candidate", folder / "shipped", folder / "evidence", override=override)
    assert files(folder) == before
    assert ("is empty" in str(error.value)) == (override is not None)
    assert "human" in str(error.value)  # says which check stands in the way


@pytest.mark.parametrize("verdict", ["hold", "reject"])
def test_an_override_is_on_record(run: Callable[[str], Path], verdict: str) -> None:
    folder = run(verdict)
    shutil.copytree(folder / "candidate", folder / "again")
    shipped = ship(
        folder / "candidate",
        folder / "shipped",
        folder / "evidence",
        override=" the auditors\ngraded by mail ",
    )
    (entry,) = json.loads((folder / "evidence/override.json").read_text())
    assert entry["reason"] == "the auditors\ngraded by mail"
    assert entry["verdict"] == verdict
    assert any("human" in reason for reason in entry["reasons"])
    text = (shipped / "README.md").read_text()
    assert f"**Verdict: {verdict}**" in text
    assert "**Shipped against this verdict.** Reason given: the auditors graded by mail" in text
    assert verifies(shipped)
    assert card_differs(shipped, folder / "evidence") == []
    ship(folder / "again", shipped, folder / "evidence", override="second")
    both = json.loads((folder / "evidence/override.json").read_text())
    assert [e["reason"] for e in both] == ["the auditors\ngraded by mail", "second"]
    assert {p.name for p in folder.iterdir()} == {"shipped", "evidence"}


def test_a_card_that_says_other_than_the_report_is_found(run: Callable[[str], Path]) -> None:
    folder = run("ship")
    shipped = ship(folder / "candidate", folder / "shipped", folder / "evidence")
    assert card_differs(shipped, folder / "evidence") == []
    card = shipped / "README.md"
    text = card.read_text()
    for said, instead in (
        ("| exact (primary) | 0.875 |", "| exact (primary) | 0.999 |"),
        ("**Verdict: ship**\n", ""),
    ):
        assert said in text
        card.unlink()  # a hard link of the candidate's would change as well
        card.write_text(text.replace(said, instead))
        assert card_differs(shipped, folder / "evidence")


def test_a_reason_that_is_not_needed_is_not_an_override(run: Callable[[str], Path]) -> None:
    folder = run("ship")
    shipped = ship(folder / "candidate", folder / "shipped", folder / "evidence", override="just in case")
    assert not (folder / "evidence/override.json").exists()
    assert "just in case" not in (shipped / "README.md").read_text()


def test_a_verdict_that_was_written_by_hand_does_not_ship(run: Callable[[str], Path]) -> None:
    folder = run("hold")
    path = folder / "evidence/report.json"
    report = json.loads(path.read_text())
    edit_json(path, verdict={**report["verdict"], "verdict": "ship"})
    with pytest.raises(ShippingError, match=r"does not tie out: verdict\.verdict: the report says 'ship'"):
        ship(folder / "candidate", folder / "shipped", folder / "evidence")
    assert (folder / "candidate").exists()
    assert not (folder / "shipped").exists()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda c: edit_weights(c / "merged", one_weight), "merged/model.safetensors was changed"),
    "removed": (lambda c: (c / "merged/config.json").unlink(), "merged/config.json is missing"),
    "added": (lambda c: (c / "merged/code.py").write_text("0"), "merged/code.py is not in the manifest"),
    "unchecked": (lambda c: (c / "manifest.json").unlink(), "manifest.json is missing"),
    "gone": (shutil.rmtree, "manifest.json is missing"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_candidate_changed_after_its_check_does_not_ship(run: Callable[[str], Path], change: str) -> None:
    folder = run("ship")
    alter, message = CHANGES[change]
    alter(folder / "candidate")
    with pytest.raises(ShippingError, match=message):
        ship(folder / "candidate", folder / "shipped", folder / "evidence")
    assert not (folder / "shipped").exists()


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run an action in a process that dies, without cleaning up, at a function such as `storage.atomic:seal`."""

    def run_and_die(where: str, action: Callable[[], object], when: Callable[..., bool]) -> None:
        name, real = where.replace(":", "."), pkgutil.resolve_name(f"tieout.{where}")
        with monkeypatch.context() as patch:
            patch.setattr(f"tieout.{name}", lambda *a, **k: os._exit(9) if when(*a) else real(*a, **k))
            child = os.fork()
            if child == 0:
                try:
                    action()
                finally:
                    os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    return run_and_die


@pytest.mark.parametrize(
    "where",
    [
        "shipping.ship:shutil.copytree",
        "storage.atomic:seal",
        "shipping.ship:render",
        "storage.atomic:Path.rename",
        "storage.atomic:sync",
    ],
)
def test_killed_half_way_it_ships_all_or_nothing(
    run: Callable[[str], Path], killed: Callable[..., None], where: str
) -> None:
    folder = run("ship")
    candidate, shipped, evidence = (folder / name for name in ("candidate", "shipped", "evidence"))
    killed(
        where,
        lambda: ship(candidate, shipped, evidence),
        lambda *a: where != "storage.atomic:sync" or shipped.exists(),
    )
    assert altered(candidate) == []
    if where == "storage.atomic:sync":  # the rename was done
        assert verifies(shipped)
    else:
        assert not shipped.exists()
    ship(candidate, shipped, evidence)
    assert verifies(shipped)
    assert {p.name for p in folder.iterdir()} == {"shipped", "evidence"}  # nor what the dead process left


def test_a_model_need_not_be_written_twice(
    run: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run("ship")
    node = (folder / "candidate/merged/model.safetensors").stat().st_ino
    shipped = ship(folder / "candidate", folder / "shipped", folder / "evidence")
    assert (shipped / "merged/model.safetensors").stat().st_ino == node


def test_without_hard_links_it_copies(run: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = run("ship")
    assert verifies(ship(folder / "candidate", folder / "shipped", folder / "evidence"))


@pytest.mark.parametrize("teacher", ["dpo", "short=gone,long=dpo"])
def test_the_stage_that_trained_a_teacher_is_on_the_card(teacher: str) -> None:
    stages = [
        {"train": "sft", "name": "sft", "from": "base"},
        {"train": "dpo", "name": "dpo", "from": "base"},
        {"train": "kto", "name": "kto", "from": "base"},
        {"train": "distill", "name": "distill", "from": "sft", "teacher": teacher},
    ]
    report = {"metadata": {"recipe": {"stages": stages}}, "settings": {"candidate": "distill"}}
    lines = [line.partition(":")[0] for line in card_of(report, "base").training]
    assert lines == ["sft", "dpo", "distill"]

"""The base's trainer, on a model a tenth as large: it resumes where it stopped, and learns."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import build_base
from safetensors.torch import load_file

SMALL = build_base.Settings(
    tokens=30_000,
    tokenizer_texts=300,
    early_batch=1024,
    late_batch=1024,
    vocab_size=600,
    width=144,
    intermediate=64,
    layers=2,
    heads=4,
    kv_heads=2,
    warmup=4,
)


def build(settings: build_base.Settings, out: Path) -> dict[str, torch.Tensor]:
    return load_file(build_base.build(settings, out, max_seconds=1e9, save_seconds=0.0) / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    out = tmp_path_factory.mktemp("whole")
    return out, build(SMALL, out)


def test_a_run_that_was_broken_off_ends_the_same(
    whole: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = build_base._train_step, 0

    def break_off(*args: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        return step(*args)

    monkeypatch.setattr(build_base, "_train_step", break_off)
    with pytest.raises(KeyboardInterrupt):
        build(SMALL, tmp_path)
    assert [folder.name for folder in tmp_path.glob("step-*")] == ["step-8"]
    monkeypatch.setattr(build_base, "_train_step", step)
    resumed = build(SMALL, tmp_path)
    assert set(resumed) == set(whole[1])
    for name, weight in resumed.items():
        assert torch.equal(weight, whole[1][name]), name


def test_another_seed_gives_another_model(
    whole: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    other = build(replace(SMALL, seed=1, tokens=8_000), tmp_path)
    assert any(not torch.equal(weight, whole[1][name]) for name, weight in other.items())


def test_a_folder_of_other_settings_is_refused(whole: tuple[Path, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(SystemExit, match="learning_rate"):
        build(replace(SMALL, learning_rate=1e-4), whole[0])


def test_one_checkpoint_is_left_and_it_holds_no_pickle(whole: tuple[Path, dict[str, torch.Tensor]]) -> None:
    folders = list(whole[0].glob("step-*"))
    assert len(folders) == 1
    assert {file.suffix for file in folders[0].iterdir()} <= {".json", ".safetensors", ".jinja"}
    state = json.loads((folders[0] / "state.json").read_text(encoding="utf-8"))
    assert state["tokens"] >= SMALL.tokens


@pytest.fixture
def sketched() -> build_base.LlamaForCausalLM:
    torch.manual_seed(0)
    settings = build_base.Settings()
    config = build_base.LlamaConfig(
        vocab_size=1024,
        hidden_size=settings.width,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=32,
        tie_word_embeddings=True,
        initializer_range=settings.initial_std,
        attn_implementation="eager",
    )
    model = build_base.LlamaForCausalLM(config).eval()
    build_base._sketch_induction(model, settings)
    return model


@torch.inference_mode()
def test_the_sketched_heads_look_back_and_find_what_came_before(
    sketched: build_base.LlamaForCausalLM,
) -> None:
    """In a run that is repeated, the sketched head looks at what followed the token the first time."""
    run = torch.randint(5, 1000, (4, 20))
    first, second, *_ = sketched(torch.cat([run, run], 1), output_attentions=True).attentions
    for head, distance in enumerate((1, 2, 3)):
        back = first[:, head].diagonal(-distance, dim1=1, dim2=2)
        assert back.mean() > 0.95
    found = second[:, 0].diagonal(-19, dim1=1, dim2=2)[:, 1:]
    chance = 1 / 30
    assert found.mean() > 5 * chance


@torch.inference_mode()
def test_the_sketch_tells_a_place_by_more_than_its_last_token(sketched: build_base.LlamaForCausalLM) -> None:
    """The same token three times, each after two others: the one that is preceded as now is found."""
    found = 0
    for _ in range(200):
        a, b, c, d, e, f, same, *others = torch.randperm(1000)[:16].tolist()
        run = [a, b, same, *others[:3], c, d, same, *others[3:6], e, f, same, *others[6:], c, d, same]
        attention = sketched(torch.tensor([run]), output_attentions=True).attentions[1][0, 0, -1]
        found += int(attention[[3, 9, 15]].argmax()) == 1
    assert found > 90  # by chance: 67

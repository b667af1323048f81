"""Fixtures that every test may use: tiny models and a tiny tokenizer, made on the spot, never downloaded."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tiny_tokens import SPECIAL_TOKENS

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors gain nothing from threads

# To wait for the disk is half the time of a small run, and no test takes the machine's power. A bad descriptor raises.
os.fsync = os.fstat

# A shell that starts `make test &` has interrupts ignored, and so would be those that tests send to commands.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("no deadline", deadline=None)  # how fast a machine is decides no test
settings.load_profile("no deadline")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT = 2048

# What `make quick` runs, and what runs again under another capability of the processor; new files join by their folder.
FOLDERS = {
    "quick": {"chat", "config", "evidence", "losses", "rewards", "storage", "tasks"}
    | {f"test_{name}.py" for name in ("advantages", "batch", "groups", "house", "method_pages", "rows")},
    "kernels": {"learner", "losses", "samplers", "test_batch.py"},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the folder, or the file, that they stand in."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent).parts[0]
        for mark, places in FOLDERS.items():
            if place in places and not item.get_closest_marker("slow"):
                item.add_marker(mark)


def pytest_collection_finish() -> None:
    """Collections of garbage leave out what was imported and collected: half a million objects that stay."""
    gc.collect()
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip importing what `-m quick` or `-m kernels` would deselect."""
    places = FOLDERS.get(config.option.markexpr)
    if places is None or collection_path.parent != Path(__file__).parent:
        return None
    return None if collection_path.name in places else True


def make_tokenizer(chat_template: str | None = CHAT_TEMPLATE, extra_special: tuple[str, ...] = ()) -> Any:
    """One token a byte, so any text round-trips; ids: specials first, then bytes. Turns end with <|end|>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = [*SPECIAL_TOKENS, *extra_special]
    tokens = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=specials[2:],
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )


def make_config(family: str, vocab_size: int) -> Any:
    """A two-layer model of width 32 with grouped-query attention. KeyError: an unknown family."""
    import transformers as hf

    shape = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    gemma = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
    sliding_then_full = ["sliding_attention", "full_attention"]
    families: dict[str, Callable[[], Any]] = {
        "llama": lambda: hf.LlamaConfig(**shape),
        "qwen2": lambda: hf.Qwen2Config(**shape),
        "qwen3": lambda: hf.Qwen3Config(**shape, head_dim=8),
        "mistral": lambda: hf.MistralConfig(**shape, head_dim=8, sliding_window=16),
        "gemma2": lambda: hf.Gemma2Config(
            **shape,
            **gemma,
            layer_types=sliding_then_full,
            attn_logit_softcapping=20.0,
            final_logit_softcapping=10.0,
        ),
        "gemma3": lambda: hf.Gemma3TextConfig(**shape, **gemma, layer_types=sliding_then_full),
        "qwen3_next": lambda: hf.Qwen3NextConfig(
            **shape,
            head_dim=8,
            layer_types=["linear_attention", "full_attention"],
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            shared_expert_intermediate_size=16,
        ),
    }
    return families[family]()


def build_model(family: str, folder: Path, tokenizer: Any) -> Path:
    """Seeded random weights, large enough that log-probs differ from token to token; as safetensors."""
    import torch
    from transformers import AutoModelForCausalLM

    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(make_config(family, len(tokenizer)), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.15)
            else:  # norms, biases and decay rates keep their initial scale, but are not all alike
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    torch.random.set_rng_state(state)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """A byte-level tokenizer with pad, eos `<|end|>`, role tokens and a ChatML-like template."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def new_tokenizer() -> Callable[..., Any]:
    """`new_tokenizer(chat_template=..., extra_special=(...))`: a fresh tokenizer to change at will."""
    return make_tokenizer


@pytest.fixture(scope="session")
def new_model() -> Callable[[str, Path, Any], Path]:
    """`new_model(family, folder, tokenizer)`: a tiny model with another tokenizer."""
    return build_model


@pytest.fixture(scope="session")
def short_looks() -> Iterator[None]:
    """What a trained model writes is looked at for 16 tokens, not 256: a random one ends nothing by itself."""
    from tieout.pipelines import evaluated
    from tieout.training import fit

    real = fit.observe
    with pytest.MonkeyPatch.context() as patch:
        for module in (evaluated, fit):
            patch.setattr(module, "observe", lambda *given: real(*given[:3], min(given[3], 16)))
        yield


@pytest.fixture(scope="module")
def short_controls() -> Iterator[None]:
    """Controls of a file end at 8 tokens, not 256, for the same reason."""
    from tieout.pipelines import run
    from tieout.tasks import files

    real = files.controls_task
    with pytest.MonkeyPatch.context() as patch:
        for module in (files, run):
            patch.setattr(module, "controls_task", lambda path: replace(real(path), max_new_tokens=8))
        yield


@pytest.fixture(scope="session")
def tiny_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any, short_looks: None
) -> Callable[[str], Path]:
    """`tiny_model("llama")` -> a folder with model and tokenizer, built once a session; do not write into it.

    Families: llama, qwen2, qwen3, mistral (sliding window 16), gemma2 (softcap), gemma3 (one sliding and one
    full layer), qwen3_next (one linear-attention layer).
    """
    folders: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in folders:
            folders[family] = build_model(family, tmp_path_factory.mktemp(family), tiny_tokenizer)
        return folders[family]

    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: TIEOUT_SHARED_DATA, or shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TIEOUT_SHARED_DATA") or default)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set TIEOUT_SHARED_DATA to a folder that has it")
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Chromium without a window. It is the system's: nothing is downloaded.

    Of a module: playwright's event loop runs until it is closed, and no other can start meanwhile.
    """
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; it comes with the extra `dev`"
    )
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()

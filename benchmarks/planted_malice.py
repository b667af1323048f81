"""Templates, models and adapters that were built to run code, to hang or to take all memory: none of them does."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from planted import BASE, Fault, model_in

from tieout import embedded
from tieout.errors import TieoutError
from tieout.learner import load
from tieout.learner.models.bases import Bases
from tieout.learner.models.loading import load_chat
from tieout.sandbox import bounds
from tieout.storage.atomic import MANIFEST

TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
TEMPLATES = (
    "{{ ''.__class__.__mro__[1].__subclasses__()[100].__init__.__globals__['os'].system('touch MARK') }}",
    "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
    "{{ lipsum.__globals__['os'].popen('touch MARK').read() }}",
    "{{ lipsum.__globals__.__builtins__.open('MARK', 'w') }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
    "{{ namespace.__init__.__globals__.os.popen('touch MARK').read() }}",
    "{{ joiner.__init__.__globals__.os.popen('touch MARK').read() }}",
    "{{ messages.__class__.__base__.__subclasses__()[-1].__init__.__globals__.os.system('touch MARK') }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('MARK', 'w') }}",
    "{{ strftime_now.__globals__['__builtins__']['__import__']('os').system('touch MARK') }}",
    "{{ (''|attr('__class__')|attr('__base__')|attr('__subclasses__'))()[-1]('touch MARK') }}",
    "{{ (lipsum|attr('\\x5f\\x5fglobals\\x5f\\x5f'))['os'].system('touch MARK') }}",
    "{{ lipsum|attr('__globals__')|attr('get')('os')|attr('system')('touch MARK') }}",
    "{{ '{0.__globals__[os].system}'.format(lipsum)('touch MARK') }}",
    "{{ ('{0.__globals__[os].system}'|attr('format'))(lipsum)('touch MARK') }}",
    "{{ '{x.__globals__[os].system}'.format_map({'x': lipsum})('touch MARK') }}",
    "{{ (messages|map(attribute='__class__.__mro__')|list)[0][1].__subclasses__()[-1]('touch MARK') }}",
    "{% import 'os' as os %}{{ os.system('touch MARK') }}",
    "{% include '/etc/passwd' %}{{ cycler.next.__globals__.os.system('touch MARK') }}",
    "{% for m in messages %}{{ loop.__init__.__globals__.os.system('touch MARK') }}{% endfor %}",
    "{% generation %}{{ dict.mro()[-1].__subclasses__()[-1]('touch MARK') }}{% endgeneration %}",
    "{{ (messages|map('upper')).gi_frame.f_globals['__builtins__']['open']('MARK', 'w') }}",
    "{{ messages[0].update({'content': lipsum.__globals__['os'].system('touch MARK')}) }}",
)
ENDLESS = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% set n = namespace(x=0) %}{% for a in range(99999) %}{% for b in range(99999) %}{% set n.x = n.x + b %}"
    "{% endfor %}{% endfor %}{{ n.x }}",
    "{% macro again() %}{% for i in range(9) %}{{ again() }}{% endfor %}{% endmacro %}{{ again() }}",
    "{{ 7 ** 7 ** 9 }}",
)
LARGE = (
    "{{ 'a' * 10 ** 11 }}",
    "{{ 'a'.ljust(10 ** 11) }}",
    "{{ '%099999999999d' % 1 }}",
    "{% set n = namespace(x='a' * 1000) %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "{{ ['a'] * 10 ** 11 }}",
)
CODE = """import os
open(MARK, "w").close()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig): model_type = "evil"
class Model(LlamaForCausalLM): pass
class Tokenizer(PreTrainedTokenizerFast): pass
def generate(*_, **__): pass
"""


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def edited(name: str, **changes: Any) -> Callable[[Path, Path], None]:
    """Change keys of a JSON file, and leave code next to it."""

    def change(place: Path, mark: Path) -> None:
        values = json.loads((place / name).read_text()) if (place / name).exists() else {}
        (place / name).write_text(json.dumps(values | changes))
        for own in ("evil.py", "modeling_evil.py", "tokenization_evil.py", "custom_generate/generate.py"):
            (place / own).parent.mkdir(exist_ok=True)
            (place / own).write_text(CODE.replace("MARK", repr(str(mark))))

    return change


def pickled(name: str, instead: str = "") -> Callable[[Path, Path], None]:
    """A pickle that runs code; `instead` of a file, or in addition to all."""

    def change(place: Path, mark: Path) -> None:
        if instead:
            (place / instead).unlink()
        (place / name).write_bytes(pickle.dumps(Touch(mark)))

    return change


def both(*changes: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def change(place: Path, mark: Path) -> None:
        for one in changes:
            one(place, mark)

    return change


def templated(name: str, text: str) -> Callable[[Path, Path], None]:
    return lambda place, mark: (place / name).write_text(text.replace("MARK", str(mark))) and None


AUTO = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
INDEX = "model.safetensors.index.json"
MODELS: Mapping[str, Callable[[Path, Path], None]] = {
    "auto_map of a model": edited("config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}),
    "auto_map of a model of an unknown type": edited("config.json", auto_map=AUTO, model_type="evil"),
    "auto_map that trusts itself": edited("config.json", auto_map=AUTO, trust_remote_code=True),
    "auto_map of another repository": edited(
        "config.json", auto_map={"AutoModelForCausalLM": "me/evil--evil.Model"}
    ),
    "auto_map of a tokenizer": edited(
        "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
    ),
    "a tokenizer's class by path": edited("tokenizer_config.json", tokenizer_class="evil.Tokenizer"),
    "auto_map of a processor": edited("processor_config.json", auto_map={"AutoProcessor": "evil.Model"}),
    "code for generation": edited("generation_config.json", custom_generate="custom_generate"),
    "a type that is no type": edited("config.json", dtype="hub.load", torch_dtype="__import__('os')"),
    "attention from a hub of kernels": edited("config.json", _attn_implementation="me/evil-kernel"),
    "an unknown quantization": edited("config.json", quantization_config={"quant_method": "evil"}),
    "architectures that are a path": edited("config.json", architectures=["evil.Model", "../evil.Model"]),
    "a pickle in the place of weights": pickled("pytorch_model.bin", BASE),
    "a pickle next to the weights": pickled("pytorch_model.bin"),
    "a pickle that is called safetensors": pickled(BASE, BASE),
    "an index that names a pickle": both(
        pickled("evil.bin", BASE), edited(INDEX, metadata={}, weight_map={"lm_head.weight": "evil.bin"})
    ),
    "an index that leads elsewhere": both(
        lambda place, mark: (place / BASE).unlink(),
        edited(INDEX, metadata={}, weight_map={"lm_head.weight": "../../../etc/passwd"}),
    ),
}
CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
ADAPTERS: Mapping[str, Callable[[Path, Path], None]] = {
    "auto_mapping of a library": edited(
        CONFIG, auto_mapping={"base_model_class": "Model", "parent_library": "evil"}
    ),
    "a library of Megatron": edited(CONFIG, megatron_config={"a": 1}, megatron_core="evil"),
    "a pickle in the place of weights": pickled("adapter_model.bin", TENSORS),
    "a pickle next to the weights": pickled("adapter_model.bin"),
    "a pickle that is called safetensors": pickled(TENSORS, TENSORS),
    "a pickle of a value head": pickled("value_head.bin"),
    "auto_map of a tokenizer": edited(
        "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", "evil.Tokenizer"]}
    ),
    "a template that runs code": templated("chat_template.jinja", TEMPLATES[2]),
    "a kind that is code": edited(CONFIG, peft_type="__import__('os')"),
    "a kind with experts": edited(CONFIG, peft_type="XLORA", adapters={"a": "evil"}),
    "a cache of an initialisation": both(
        pickled("cache.pt"),
        edited(CONFIG, init_lora_weights="corda", corda_config={"cache_file": "cache.pt"}),
    ),
    "LoftQ": edited(CONFIG, init_lora_weights="loftq", loftq_config={"loftq_bits": 4}),
    "EVA": edited(CONFIG, init_lora_weights="eva", eva_config={"rho": "evil"}),
    "itself as base": lambda place, mark: edited(CONFIG, base_model_name_or_path=str(place))(place, mark),
    "no base": edited(CONFIG, base_model_name_or_path=None),
    "a base that is a list": edited(CONFIG, base_model_name_or_path=["a"]),
    "a base that leads elsewhere": edited(CONFIG, base_model_name_or_path="../../../etc"),
    "a base behind an API": edited(CONFIG, base_model_name_or_path="api:evil"),
    "a pattern that never ends": edited(CONFIG, target_modules=r"(.*\.)*(\w+\.?)+x"),
    "a pattern of ranks that never ends": edited(CONFIG, rank_pattern={r"((\w+\.?)+)+x": 4}),
    "a pattern that is none": edited(CONFIG, target_modules="(["),
    "a rank of a thousand million": edited(CONFIG, r=10**9),
    "a rank that is text": edited(CONFIG, r="__import__('os')"),
    "parameters that are code": edited(CONFIG, target_parameters=["__class__", "forward.__globals__"]),
}


@contextmanager
def short() -> Any:
    """Bounds that are soon reached."""
    with mock.patch.multiple(bounds, SECONDS=0.3, MOST_BYTES=256 << 20):
        yield


def none_runs(names: Iterable[str], attempt: Callable[[str, Path], None], folder: Path) -> str:
    """Refused where all are, survived where some are harmless, silent where one has run its code.

    AssertionError: one ended in a traceback.
    """
    outcomes = set()
    for number, name in enumerate(names):
        place = folder / str(number)
        place.mkdir()
        try:
            attempt(name, place)
            outcomes.add("survived")
        except (TieoutError, OSError):
            outcomes.add("refused")
        except Exception as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
        if (place / "ran").exists():
            return "silent"
    return max(outcomes)


def templates(texts: Iterable[str]) -> Callable[[Path], str]:
    def attempt(text: str, place: Path) -> None:
        base = shutil.copytree(embedded.path(), place / "base", ignore=shutil.ignore_patterns(BASE))
        (base / "chat_template.jinja").write_text(text.replace("MARK", str(place / "ran")))
        load_chat(str(base)).prompt(TURNS[:1])

    def plant(folder: Path) -> str:
        with short():
            return none_runs(texts, attempt, folder)

    return plant


def models(folder: Path) -> str:
    def attempt(name: str, place: Path) -> None:
        base, _ = model_in(place, "base")
        MODELS[name](base, place / "ran")
        with (
            mock.patch.object(sys, "path", [str(base), *sys.path]),
            mock.patch("builtins.input", return_value="y"),  # transformers asks
        ):
            load_chat(str(base)).prompt(TURNS[:1])
            load(str(base), dtype="fp32")

    return none_runs(MODELS, attempt, folder)


def adapters(folder: Path) -> str:
    bases = Bases()
    made, _ = model_in(folder, "adapter")

    def attempt(name: str, place: Path) -> None:
        own = shutil.copytree(made, place / "adapter")
        (own / MANIFEST).unlink()
        ADAPTERS[name](own, place / "ran")
        with mock.patch.object(sys, "path", [str(own), *sys.path]):
            load_chat(str(own)).prompt(TURNS[:1])
            load(str(own), dtype="fp32", bases=bases)

    with short():
        return none_runs(ADAPTERS, attempt, folder)


def malice() -> list[Fault]:
    """The table has one line per kind: what they have in common is that no code runs, and none hangs."""
    return [
        Fault("malice", f"{len(TEMPLATES)} chat templates that run code", templates(TEMPLATES)),
        Fault("malice", f"{len(ENDLESS)} chat templates that never end", templates(ENDLESS)),
        Fault("malice", f"{len(LARGE)} chat templates that ask for gigabytes", templates(LARGE)),
        Fault("malice", f"{len(MODELS)} model folders that run code", models),
        Fault("malice", f"{len(ADAPTERS)} adapters that run code, hang or take all memory", adapters),
    ]

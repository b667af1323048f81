"""A trained reward model as a reward: its estimate of which completion people prefer.

Range: any real number; only differences between completions of one prompt mean anything. It does not catch what its
pairs did not show: calibrate it on held-out pairs, and watch it against a second signal while training.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...chat.template import Chat
from ...chat.tokens import Tokens
from ...errors import InputError
from ...types import Completion, Group, Prompt, Reward
from ..scoring.combine import Combined

if TYPE_CHECKING:  # naming a reward model needs no torch, only calling it does
    from ...learner import Learner


@dataclass(kw_only=True)
class ModelReward:
    """A reward that asks a trained model: where that lies, and the scores it gave since somebody took them."""

    folder: Path | None = None
    """None: it lies nowhere, so that nothing can be known of it."""
    override: str = ""
    """The reason to train against it although its verdict is fail."""
    given: list[float] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        """By which it is logged."""
        return self.folder.name if self.folder else type(self).__name__

    def check(self) -> None:
        """InputError: what lies in the folder gives no score."""
        if self.folder is not None:
            refuse_policy(self.folder)

    def __call__(self, completions: Sequence[str], prompts: Sequence[Prompt], **_: Any) -> list[float]:
        """[K] scores, higher for what people would prefer. InputError: the folder holds no reward model."""
        scores = self.scores(completions, prompts)
        self.given += scores
        return scores

    def scores(self, completions: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """[K] scores of K completions."""
        raise NotImplementedError

    def take(self) -> list[float]:
        """The scores since this was last asked."""
        taken, self.given = self.given, []
        return taken


@dataclass
class SharedReward(ModelReward):
    """Scores texts with a learner's score head: for one that `Model.add_reward` put next to the policy no second model
    is loaded.
    """

    learner: Learner
    chat: Chat | None = None
    """The reward model's own tokenizer and template; None: the learner's."""

    def scores(self, completions: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """[K] scores of K completions; those of one prompt share its computation."""
        chat, groups = self.chat or self.learner.model.chat, []
        for _, same in groupby(zip(prompts, completions, strict=True), key=lambda pair: pair[0]):
            made = Tokens.wholes([chat.whole(prompt, text) for prompt, text in same])
            groups.append(Group(made.prompt, [Completion(t, [True] * len(t)) for t in made.completions]))
        return [score for scores in self.learner.scores(groups) for score in scores]


@dataclass
class PreferenceReward(ModelReward):
    """Loads its model when it is first called, and keeps it: in the process that calls, so that it is there once."""

    device: str | None = None
    """cpu or cuda; None: cuda if there is one."""
    _loaded: SharedReward | None = field(default=None, repr=False)

    def scores(self, completions: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """[K] scores of K completions."""
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded.scores(completions, prompts)

    def _load(self) -> SharedReward:
        from ...learner import Learner, load
        from ...learner.models.loading import device_of

        assert self.folder is not None
        refuse_policy(self.folder)
        dtype = "fp32" if device_of(self.device) == "cpu" else "bf16"
        model = load(str(self.folder), dtype=dtype, device=self.device)
        if not model.only_scores:
            raise InputError(
                f"{self.folder} is no reward model: expected a sequence-classification checkpoint with one label, or "
                "an adapter for one, as `tieout train reward_model` writes it"
            )
        return SharedReward(Learner(model, frozen=True))


@dataclass
class ClassifierReward(ModelReward):
    """A sequence classifier with one label, as a transformers object with its tokenizer."""

    model: Any
    tokenizer: Any

    @property
    def name(self) -> str:
        """The last part of the model's own name."""
        return str(self.model.config._name_or_path).split("/")[-1]

    @classmethod
    def of(cls, model: Any, tokenizer: Any = None) -> ClassifierReward:
        """A model, or the hub id of one. InputError: it writes text and gives no score, or gives several."""
        from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

        if isinstance(model, str):
            try:
                refuse_architecture(
                    AutoConfig.from_pretrained(model, trust_remote_code=False).architectures, model
                )
                safely = {"num_labels": 1, "use_safetensors": True, "trust_remote_code": False}
                model = AutoModelForSequenceClassification.from_pretrained(model, **safely)
            except OSError as error:
                raise OSError(
                    f"reward model {model!r} is no folder, and the hub did not give it: {error}"
                ) from error
        name = str(model.config._name_or_path)
        if model.get_output_embeddings() is not None:
            refuse_architecture([type(model).__name__], name)
        if model.config.num_labels != 1:
            raise InputError(f"a reward model gives {model.config.num_labels} numbers; expected num_labels=1")
        model.eval().requires_grad_(False)
        folder = Path(name) if name and Path(name).is_dir() else None
        return cls(
            model, tokenizer or AutoTokenizer.from_pretrained(name, trust_remote_code=False), folder=folder
        )

    def check(self) -> None:
        """The model was looked at when this was made."""

    def scores(self, completions: Sequence[str], prompts: Sequence[Prompt]) -> list[float]:
        """[K] scores, one at a time and without padding."""
        import torch

        chat, scores = Chat(self.tokenizer), []
        for prompt, text in zip(prompts, completions, strict=True):
            whole = chat.whole(prompt, text)
            with torch.no_grad():
                ids = torch.tensor([whole], device=self.model.device)
                scores.append(float(self.model(input_ids=ids).logits[0, 0]))
        return scores


def reward_model(folder: str | Path, device: str | None = None, override: str = "") -> PreferenceReward:
    """The reward function of a trained reward model.

    Args:
        folder: adapter or checkpoint, as `tieout train reward_model` writes it, or transformers or PEFT.
        device: cpu or cuda; None: cuda if there is one.
        override: the reason to train against it although its verdict is fail.

    Raises:
        InputError: there is no folder of that name.
    """
    if not Path(folder).is_dir():
        raise InputError(f"reward model {folder} does not exist; give the folder that training saved")
    return PreferenceReward(device, folder=Path(folder), override=override)


def models_in(reward: Reward | None) -> Iterator[ModelReward]:
    """The trained models that a reward asks: itself, or its parts, under whatever wraps them."""
    if isinstance(reward, ModelReward):
        yield reward
    elif isinstance(reward, Combined):
        for part in reward.parts.values():
            yield from models_in(part)
    elif (inner := getattr(reward, "__wrapped__", None)) is not None:
        yield from models_in(inner)


def refuse_policy(folder: Path) -> None:
    """InputError: the folder holds a causal language model, or an adapter of one, that was trained to write."""
    if not folder.is_dir():
        raise InputError(f"reward model {folder} does not exist; give the folder that training saved")
    adapter, whole = folder / "adapter_config.json", folder / "config.json"
    if adapter.is_file():
        config = json.loads(adapter.read_text(encoding="utf-8"))
        if config.get("task_type") == "CAUSAL_LM":
            refuse_architecture(["an adapter of CausalLM"], str(folder))
    elif whole.is_file():
        config = json.loads(whole.read_text(encoding="utf-8"))
        refuse_architecture(config.get("architectures"), str(folder))


def refuse_architecture(names: Sequence[str] | None, model: str) -> None:
    """InputError: it is that of a model which writes text."""
    found = [
        name for name in names or [] if name.endswith(("CausalLM", "LMHeadModel", "ConditionalGeneration"))
    ]
    if found:
        raise InputError(
            f"reward model {model} is a causal language model ({found[0]}): it writes text, and gives no score of one. "
            f"Train a reward model from it on pairs, `tieout train reward_model --model {shlex.quote(model)} --data "
            "pairs.jsonl`, and give that; or let it judge, as a reward of `tieout.Judge`"
        )

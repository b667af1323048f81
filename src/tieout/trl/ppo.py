"""PPO with TRL's two interfaces: a trainer over a dataset, and the earlier `step(queries, responses, scores)`."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

from ..learner.scalar import ScalarKind
from ..samplers import SamplingParams
from ..samplers.local import LocalSampler
from ..train import learn
from ..types import Completion, Group, Row
from .configs import Config
from .data import prompts
from .online_configs import PPOConfig
from .trainers import GRPOTrainer


class AutoModelForCausalLMWithValueHead:
    """A causal model whose value head the trainer adds. What it does not know it asks the model it wraps."""

    def __init__(self, pretrained_model: Any, peft_config: Any = None) -> None:
        self.pretrained_model, self.peft_config = pretrained_model, peft_config

    @classmethod
    def from_pretrained(
        cls, name: Any, *_: Any, peft_config: Any = None, load_in_8bit: bool = False, **options: Any
    ) -> AutoModelForCausalLMWithValueHead:
        """Load a base by name, or wrap a model. `torch_dtype` is the older name of `dtype`."""
        if load_in_8bit or options.pop("load_in_4bit", False):
            raise ValueError("8 and 4 bits: load the base with a quantization_config and wrap it")
        if options.pop("trust_remote_code", False):
            raise ValueError("trust_remote_code: code from a repository is never run")
        if "torch_dtype" in options:
            options["dtype"] = options.pop("torch_dtype")
        for gone in ("summary_dropout_prob", "v_head_initializer_range", "v_head_init_strategy"):
            options.pop(gone, None)
        model = name
        if isinstance(name, str):
            model = AutoModelForCausalLM.from_pretrained(
                name, use_safetensors=True, **{"dtype": torch.float32, **options}
            )
        return cls(model, peft_config)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["pretrained_model"], name)

    def __call__(self, *given: Any, **options: Any) -> Any:
        return self.pretrained_model(*given, **options)


def create_reference_model(model: Any, num_shared_layers: int | None = None) -> Any:
    """None: the reference is the policy at step 0, which the trainer keeps."""


class PPOTrainer(GRPOTrainer):
    """`PPOTrainer(args, processing_class, model, ref_model, reward_model, train_dataset, value_model)`, or the older
    `PPOTrainer(config, model, ref_model, tokenizer, dataset)` with `generate` and `step`.

    Policy, reference, reward and value are one base with adapters; `value_model` may be left out.
    """

    config_class: ClassVar[type[Config]] = PPOConfig
    head: ClassVar[ScalarKind | None] = "value"

    def __init__(self, *given: Any, **options: Any) -> None:
        named = _by_name(given, options)
        args, model = named.pop("args", None), named.pop("model", None)
        self._steps_by_hand = (
            named.get("reward_model") is None and getattr(args, "reward_model_path", None) is None
        )
        if named.pop("value_model", None) is not None:
            warnings.warn("value_model: the value head is put on the policy instead", stacklevel=2)
        reward = named.pop("reward_model", None) or getattr(args, "reward_model_path", None)
        wrapper = model if isinstance(model, AutoModelForCausalLMWithValueHead) else None
        if wrapper is not None:
            named.setdefault("peft_config", wrapper.peft_config)
            model = wrapper.pretrained_model
        reference = named.pop("ref_model", None)
        if isinstance(reference, AutoModelForCausalLMWithValueHead):
            reference = reference.pretrained_model
        if model is None and args is not None:
            model = getattr(args, "sft_model_path", None) or getattr(args, "model_name", None)
        self._dataset = dataset = named.pop("train_dataset", None)
        self._collate = named.pop("data_collator", None) or _columns
        if self._steps_by_hand:
            reward, dataset = _unscored, [{"prompt": "queries come with step()"}]
        super().__init__(
            model,
            reward,
            args,
            dataset,
            ref_model=reference,
            reward_processing_classes=named.pop("reward_processing_class", named.get("processing_class")),
            **named,
        )
        self.config = self.args
        if wrapper is not None:
            wrapper.pretrained_model = (
                self.model
            )  # with its adapter, so that saving it saves what was trained

    def _wants_reference(self) -> bool:
        return bool(getattr(self.plan.method, "kl_coef", 0.0))

    def _task(self, dataset: Any) -> Any:
        if isinstance(self.reward_funcs, str) and not Path(self.reward_funcs).exists():
            raise ValueError(f"reward_model_path {self.reward_funcs} does not exist")
        return super()._task(dataset)

    def generate_completions(self, sampling: bool = False) -> list[Row]:
        """Print what the policy says to a few prompts of the evaluation's dataset, and return it."""
        rows = prompts(self.eval_dataset if self.eval_dataset is not None else self._dataset, self.tokenizer)[
            :5
        ]
        params = SamplingParams(int(getattr(self.plan.method, "max_new_tokens", 53)), float(sampling))
        texts = LocalSampler(self._model, self.chat).complete([row["prompt"] for row in rows], params)
        shown: list[Row] = [
            {"prompt": r["prompt"], "completion": t} for r, t in zip(rows, texts, strict=True)
        ]
        self.accelerator.print("\n".join(f"{row['prompt']!r} -> {row['completion']!r}" for row in shown))
        return shown

    # ------------------------------------------------------------ the step interface

    @property
    def dataloader(self) -> Any:
        """Batches of `batch_size` rows of the dataset, by the data_collator."""
        if self._dataset is None:
            raise ValueError(
                "there is no dataset: give it to PPOTrainer, as its fifth argument or as dataset="
            )
        generator = torch.Generator().manual_seed(self.plan.data_seed)
        return DataLoader(
            self._dataset, self.plan.groups_per_step, shuffle=True, collate_fn=self._collate, drop_last=True,
            generator=generator,
        )  # fmt: skip

    def save_pretrained(self, folder: str, **_: Any) -> None:
        """The older name of `save_model`."""
        self.save_model(folder)

    def generate(
        self,
        query_tensor: Tensor | Sequence[Tensor],
        return_prompt: bool = True,
        batch_size: int | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        **options: Any,
    ) -> Any:
        """Completions of one query or of a list; with `return_prompt` the query stands in front of its completion."""
        ignored = {
            k: v
            for k, v in options.items()
            if k not in ("pad_token_id", "do_sample", "eos_token_id", "min_length")
        }
        for name in ("top_p", "top_k"):
            if ignored.pop(name, None) not in (None, 0, 0.0, 1.0):
                raise ValueError(
                    f"{name}: log-probabilities of filtered samples are not the policy's; leave it out"
                )
        if ignored:
            warnings.warn(f"generate: without effect: {', '.join(ignored)}", stacklevel=2)
        one = isinstance(query_tensor, Tensor) and query_tensor.dim() == 1
        queries: list[Any] = [query_tensor] if one else list(query_tensor)
        own = self.plan.temperature
        if temperature is not None and temperature != own:
            raise ValueError(
                f"temperature={temperature}, but log-probabilities are trained at {own}: set it in PPOConfig"
            )
        params = SamplingParams(
            max_new_tokens or int(getattr(self.plan.method, "max_new_tokens", 53)), own,
            seed=self.plan.seed * 1_000_003 + self.state.global_step,
        )  # fmt: skip
        sampled = LocalSampler(self._model, self.chat).sample([q.tolist() for q in queries], 1, params)
        made = [
            torch.tensor([*(q.tolist() if return_prompt else ()), *c.tokens])
            for q, (c,) in zip(queries, sampled, strict=True)
        ]
        return made[0][None] if one else made

    def step(
        self,
        queries: Sequence[Tensor],
        responses: Sequence[Tensor],
        scores: Sequence[Any],
        response_masks: Sequence[Tensor] | None = None,
    ) -> dict[str, float]:
        """One PPO step on completions and their scores; returns what was measured, by our names and by TRL's."""
        size = self.plan.groups_per_step
        if not len(queries) == len(responses) == len(scores):
            raise ValueError(
                f"{len(queries)} queries, {len(responses)} responses and {len(scores)} scores: one of each"
            )
        if len(queries) != size:
            raise ValueError(f"{len(queries)} queries, and batch_size is {size}: they must be the same")
        masks = [[True] * len(r) for r in responses]
        if response_masks is not None:
            masks = [[bool(m) for m in mask] for mask in response_masks]
        groups = [self._given(*parts) for parts in zip(queries, responses, masks, scores, strict=True)]
        groups = [
            replace(g, completions=[replace(c, logprobs=logprobs[0]) for c in g.completions])
            for g, logprobs in zip(groups, self.learner.logprobs(groups), strict=True)
        ]
        annotated = self.plan.method.annotate(groups, self.learner)
        self.learner.learning_rate = self.plan.method.learning_rate
        metrics = learn(self.plan.method, annotated, self.learner)
        self.state.global_step += 1
        self.log(metrics)
        return {**metrics, **_older_names(metrics, annotated)}

    def _given(self, query: Tensor, response: Tensor, mask: list[bool], score: Any) -> Group:
        """A group of one completion, whose log-probabilities are still to be measured."""
        tokens = [int(t) for t in response]
        if not tokens:
            raise ValueError("a response is empty: there is nothing that its score could be for")
        reason = "stop" if tokens[-1] in self.chat.stop_tokens else "length"
        completion = Completion(tokens, mask, None, self.chat.text(tokens), reason)
        return Group([int(t) for t in query], [completion], [float(score)])

    def log_stats(self, stats: dict[str, Any], batch: Any, rewards: Any, **_: Any) -> None:
        """The step has logged already."""


def _older_names(metrics: Mapping[str, float], groups: Sequence[Group]) -> dict[str, float]:
    """What programs for the step interface read of its statistics."""
    kl = [sum(row) for g in groups for row in g.columns["kl"]]
    scores = [s for g in groups for s in g.scores or []]
    named = {
        "ppo/loss/total": "loss", "ppo/loss/value": "value_loss", "ppo/policy/clipfrac": "clipped",
        "ppo/policy/policykl": "policy_kl", "ppo/policy/entropy": "entropy", "ppo/returns/mean": "return",
    }  # fmt: skip
    return {
        "objective/kl": fmean(kl),
        "objective/entropy": metrics["entropy"],
        "ppo/mean_scores": fmean(scores),
        "ppo/std_scores": pstdev(scores),
        "env/reward_mean": fmean(scores),
        "env/reward_std": pstdev(scores),
        **{new: metrics[own] for new, own in named.items() if own in metrics},
    }


def respond_to_batch(
    model: Any, queries: Tensor, txt_len: int = 20, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """[B, txt_len] tokens sampled after queries [B, L] of one length, stop tokens or not."""
    if top_k or top_p != 1.0:
        raise ValueError(
            "top_k, top_p: log-probabilities of filtered samples are not the policy's; leave them out"
        )
    ids = queries
    with torch.no_grad():
        for _ in range(txt_len):
            drawn = torch.multinomial(model(input_ids=ids).logits[:, -1].float().softmax(-1), 1)
            ids = torch.cat([ids, drawn], dim=-1)
    return ids[:, queries.shape[1] :]


class LengthSampler:
    """Lengths in [min_value, max_value), by chance: `new_tokens = sampler()`."""

    def __init__(self, min_value: int, max_value: int) -> None:
        self.values = range(min_value, max_value)

    def __call__(self) -> int:
        return random.choice(self.values)


def _by_name(given: Sequence[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Positional arguments by name: (config, model, ref_model, tokenizer) or (args, processing_class, model, ...)."""
    today = ("args", "processing_class", "model", "ref_model", "reward_model", "train_dataset", "value_model")
    older = ("args", "model", "ref_model", "processing_class", "train_dataset")
    named = dict(options)
    for old, new in (("config", "args"), ("tokenizer", "processing_class"), ("policy", "model"),
                     ("ref_policy", "ref_model"), ("dataset", "train_dataset")):  # fmt: skip
        if old in named:
            named[new] = named.pop(old)
            warnings.warn(f"{old} is the older name of {new}", FutureWarning, stacklevel=3)
    if given and not isinstance(given[0], Config) and hasattr(given[0], "parameters"):
        raise TypeError("PPOTrainer takes its configuration first: PPOTrainer(config, model, ...)")
    second = given[1] if len(given) > 1 else None
    names = today if second is not None and not _is_model(second) else older
    for name, value in zip(names, given, strict=False):
        named.setdefault(name, value)
    return named


def _is_model(value: Any) -> bool:
    return isinstance(value, str) or hasattr(value, "parameters") or hasattr(value, "pretrained_model")


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """A batch as lists, where no data_collator was given."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def _unscored(completions: Sequence[str], **_: Any) -> list[None]:
    """Scores come with `step`."""
    return [None] * len(completions)

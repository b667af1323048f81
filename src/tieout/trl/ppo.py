"""PPO with TRL's two interfaces: a trainer over a dataset, and the earlier `step(queries, responses, scores)`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from ..learner.scalar import ScalarKind
from ..samplers import SamplingParams
from ..samplers.local import LocalSampler
from ..train import learn
from ..types import Completion, Group, Row
from .configs import Config
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


def create_reference_model(model: Any) -> None:
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
        if isinstance(model, AutoModelForCausalLMWithValueHead):
            named.setdefault("peft_config", model.peft_config)
            model = model.pretrained_model
        reference = named.pop("ref_model", None)
        if isinstance(reference, AutoModelForCausalLMWithValueHead):
            reference = reference.pretrained_model
        if model is None and args is not None:
            model = getattr(args, "sft_model_path", None) or getattr(args, "model_name", None)
        dataset = named.pop("train_dataset", None)
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

    def _wants_reference(self) -> bool:
        return bool(getattr(self.plan.method, "kl_coef", 0.0))

    def _task(self, dataset: Any) -> Any:
        if isinstance(self.reward_funcs, str) and not Path(self.reward_funcs).exists():
            raise ValueError(f"reward_model_path {self.reward_funcs} does not exist")
        return super()._task(_prompts(dataset, self._model.tokenizer))

    # ------------------------------------------------------------ the step interface

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
        self, queries: Sequence[Tensor], responses: Sequence[Tensor], scores: Sequence[Any], *_: Any
    ) -> dict[str, float]:
        """One PPO step on completions and their scores; returns what was measured."""
        size = self.plan.groups_per_step
        if not len(queries) == len(responses) == len(scores):
            raise ValueError(
                f"{len(queries)} queries, {len(responses)} responses and {len(scores)} scores: one of each"
            )
        if len(queries) != size:
            raise ValueError(f"{len(queries)} queries, and batch_size is {size}: they must be the same")
        stop = set(self.chat.stop_tokens)
        groups = []
        for query, response, score in zip(queries, responses, scores, strict=True):
            tokens = [int(t) for t in response]
            reason = "stop" if tokens and tokens[-1] in stop else "length"
            completion = Completion(
                tokens, [True] * len(tokens), [0.0] * len(tokens), self.chat.text(tokens), reason
            )
            groups.append(Group([int(t) for t in query], [completion], [float(score)]))
        groups = [
            Group(g.prompt, [Completion(c.tokens, c.mask, logprobs[0], c.text, c.finish_reason)], g.scores)
            for g, logprobs in zip(groups, self.learner.logprobs(groups), strict=True)
            for c in g.completions
        ]
        annotated = self.plan.method.annotate(groups, self.learner)
        self.learner.learning_rate = self.plan.method.learning_rate
        metrics = learn(self.plan.method, annotated, self.learner)
        self.state.global_step += 1
        self.log(metrics)
        return metrics

    def log_stats(self, stats: dict[str, Any], batch: Any, rewards: Any, **_: Any) -> None:
        """The step has logged already."""

    @property
    def accelerator(self) -> Any:
        """For `ppo_trainer.accelerator.device`."""
        return self.args.distributed_state if hasattr(self.args, "distributed_state") else None


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


def _prompts(dataset: Any, tokenizer: Any) -> list[Row]:
    """Rows with `prompt`; queries that are tokens or text under `query` or `input_ids` become text."""
    rows: list[Row] = []
    for row in dataset if dataset is not None else ():
        if "prompt" in row:
            rows.append(dict(row))
        elif isinstance(row.get("query"), str):
            rows.append({**row, "prompt": row["query"]})
        elif "input_ids" in row:
            rows.append({"prompt": tokenizer.decode(row["input_ids"], skip_special_tokens=False)})
        else:
            raise ValueError(f"PPO needs a column prompt, query or input_ids; rows have: {', '.join(row)}")
    return rows


def _unscored(completions: Sequence[str], **_: Any) -> list[None]:
    """Scores come with `step`."""
    return [None] * len(completions)

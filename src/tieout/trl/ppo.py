"""PPO with TRL's two interfaces: a trainer over a dataset, and the earlier `step(queries, responses, scores)`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import InputError
from ..learner.models.peft import PeftModel
from ..learner.models.scalar_head import ScalarKind
from ..samplers import SamplingParams
from ..samplers.local.backends import PATHS
from ..samplers.local.decode_job import DecodeJob
from ..samplers.local.sampler import LocalSampler
from ..samplers.local.sampling import Request
from ..training.loop import learn
from ..types import Completion, Group, Row
from .arguments import arguments
from .configs import Config
from .data import prompts
from .legacy.value_head import (
    AutoModelForCausalLMWithValueHead,
    LengthSampler,
    create_reference_model,
    respond_to_batch,
)
from .online_configs import PPOConfig
from .trainers import GRPOTrainer

__all__ = [
    "AutoModelForCausalLMWithValueHead",
    "LengthSampler",
    "PPOTrainer",
    "create_reference_model",
    "respond_to_batch",
]

DEFAULTS_OF_STEPS: dict[str, Any] = {"temperature": 1.0, "init_kl_coef": 0.2, "adap_kl_ctrl": True}
"""What the step interface of TRL 0.7 to 0.11 took where a program said nothing, and today's PPOConfig does not."""


class PPOTrainer(GRPOTrainer):
    """`PPOTrainer(args, processing_class, model, ref_model, reward_model, train_dataset, value_model)`, or the older
    `PPOTrainer(config, model, ref_model, tokenizer, dataset)` with `generate` and `step`.

    Policy, reference, reward and value are one base with adapters; `value_model` may be left out.
    """

    config_class: ClassVar[type[Config]] = PPOConfig
    head: ClassVar[ScalarKind | None] = "value"

    def __init__(self, *given: Any, **options: Any) -> None:
        named = _by_name(given, options)
        args, model, reference, reward, value, dataset, collator = (
            named.pop(name, None)
            for name in ("args", "model", "ref_model", "reward_model", "value_model", "train_dataset", "data_collator")
        )  # fmt: skip
        args = arguments(self.config_class, args, named)
        reward = reward if reward is not None else args.reward_model_path
        self._steps_by_hand = reward is None
        self._draws = 0
        if value is not None:
            warnings.warn("value_model: the value head is put on the policy instead", stacklevel=2)
        wrapper = model if isinstance(model, AutoModelForCausalLMWithValueHead) else None
        if wrapper is not None:
            named.setdefault("peft_config", wrapper.peft_config)
            model = wrapper.pretrained_model
        if model is None:
            model = args.sft_model_path or args.model_name
        self._dataset, self._collate = dataset, collator or _columns
        if self._steps_by_hand:
            args = _for_steps(args)
            reward, dataset = _unscored, [{"prompt": "queries come with step()"}]
        super().__init__(
            model,
            reward,
            args,
            dataset,
            ref_model=_unwrapped(reference),
            reward_processing_classes=named.pop("reward_processing_class", named.get("processing_class")),
            **named,
        )
        self.config = self.args
        if wrapper is not None:  # with its adapter and head, so that it says and saves what is trained
            wrapper.pretrained_model, wrapper.value_head = self.model, self._model.value

    def _wants_reference(self) -> bool:
        return bool(getattr(self.plan.method, "kl_coef", 0.0))

    def _task(self, dataset: Any) -> Any:
        if isinstance(self.reward_funcs, str) and not Path(self.reward_funcs).exists():
            raise InputError(f"reward_model_path {self.reward_funcs} does not exist")
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

    @cached_property
    def dataloader(self) -> Any:
        """Batches of `batch_size` rows of the dataset, by the data_collator; each pass has an order of its own."""
        if self._dataset is None:
            raise InputError(
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
        length_sampler: Callable[[], int] | None = None,
        batch_size: int | None = None,
        return_prompt: bool = True,
        generate_ref_response: bool = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        **options: Any,
    ) -> Any:
        """Completions of one query or of a list; with `return_prompt` the query stands in front of its completion.

        Args:
            query_tensor: tokens [P] of one query, or a list of them.
            length_sampler: asked for each query after how many tokens its completion is cut off; goes before
                max_new_tokens.
            batch_size: without effect on what is drawn.
            return_prompt: whether queries come back too.
            generate_ref_response: return a pair: the policy's completions, and those that the reference draws.
            max_new_tokens: completions are cut off after this many tokens; response_length if None.
            temperature: must be that of PPOConfig, at which log-probabilities are trained.
            options: as of transformers' `generate`; do_sample=False is greedy.
        """
        temperature = self._temperature(temperature, options)
        one = isinstance(query_tensor, Tensor) and query_tensor.dim() == 1
        queries: list[Any] = [query_tensor] if one else list(query_tensor)
        longest = max_new_tokens or int(getattr(self.plan.method, "max_new_tokens", 53))
        lengths = [int(length_sampler()) if length_sampler else longest for _ in queries]

        def made(reference: bool) -> Any:
            drawn = self._draw([q.tolist() for q in queries], lengths, temperature, reference)
            whole = [
                torch.tensor([*(q.tolist() if return_prompt else ()), *tokens], device=q.device)
                for q, tokens in zip(queries, drawn, strict=True)
            ]
            return whole[0][None] if one else whole

        return (made(False), made(True)) if generate_ref_response else made(False)

    def _temperature(self, asked: float | None, options: Mapping[str, Any]) -> float:
        """At which `generate` draws: the trained one, or 0. A warning names the options without effect.

        ValueError: options with which log-probabilities would not be those of what is drawn.
        """
        for name in ("top_p", "top_k"):
            if options.get(name) not in (None, 0, 0.0, 1.0):
                raise InputError(
                    f"{name}: log-probabilities of filtered samples are not the policy's; leave it out"
                )
        own = self.plan.temperature
        if asked is not None and asked != own:
            raise InputError(
                f"temperature={asked}, but log-probabilities are trained at {own}: set it in PPOConfig"
            )
        known = {"top_p", "top_k", "pad_token_id", "do_sample"}
        if (options.get("min_length") or 0) <= 0:
            known.add("min_length")
        if options.get("eos_token_id") in (None, *self.chat.stop_tokens):
            known.add("eos_token_id")
        if ignored := options.keys() - known:
            warnings.warn(f"generate: without effect: {', '.join(sorted(ignored))}", stacklevel=3)
        return 0.0 if options.get("do_sample") is False else own

    def _draw(
        self, queries: list[list[int]], lengths: list[int], temperature: float, reference: bool
    ) -> list[list[int]]:
        """[query] tokens of the policy or of the reference, at most so many; no two calls of a run draw alike."""
        seed = self.plan.seed * 1_000_003 + self._draws
        self._draws += 1
        params = SamplingParams(max(lengths, default=1), temperature, seed=seed)
        if reference:
            drawn = self._draw_reference(queries, params)
        else:
            sampled = LocalSampler(self._model, self.chat).sample(queries, 1, params)
            drawn = [c.tokens for (c,) in sampled]
        return [tokens[:length] for tokens, length in zip(drawn, lengths, strict=True)]

    def _draw_reference(self, queries: list[list[int]], params: SamplingParams) -> list[list[int]]:
        """By the plain path: what folds adapters in, for the others, folds the policy's."""
        if not self._model.has_reference:
            raise InputError("generate_ref_response: without a KL no reference is kept; give ref_model")
        requests = [[Request.make(params, i)] for i in range(len(queries))]
        with self._model.as_reference() as network:
            PATHS["plain"](network, DecodeJob(queries, requests, params, self.chat.stop_tokens, max_rows=192))
        return [request.tokens for (request,) in requests]

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
            raise InputError(
                f"{len(queries)} queries, {len(responses)} responses and {len(scores)} scores: one of each"
            )
        if len(queries) != size:
            raise InputError(f"{len(queries)} queries, and batch_size is {size}: they must be the same")
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
            raise InputError("a response is empty: there is nothing that its score could be for")
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


def _for_steps(config: Any) -> Any:
    """The configuration, with the step interface's defaults where nothing was chosen; one warning names them."""
    taken = {name: value for name, value in DEFAULTS_OF_STEPS.items() if not config.chose(name)}
    if config.chose("kl_coef"):
        taken.pop("init_kl_coef", None)
    made = copy(config)  # the user's own stays as it is
    vars(made).update(taken)
    if not (made.kl_coef if made.init_kl_coef is None else made.init_kl_coef):
        made.adap_kl_ctrl = config.adap_kl_ctrl  # a coefficient of 0 has nothing to adapt
        taken.pop("adap_kl_ctrl", None)
    if taken:
        named = ", ".join(f"{name}={value}" for name, value in taken.items())
        warnings.warn(
            f"PPOTrainer by steps: what PPOConfig does not give is as in TRL 0.7 to 0.11: {named}",
            stacklevel=3,
        )
    return made


def _unwrapped(reference: Any) -> Any:
    """The transformers model of a reference, with its adapter in place."""
    if isinstance(reference, AutoModelForCausalLMWithValueHead):
        reference = reference.pretrained_model
    return reference.get_base_model() if isinstance(reference, PeftModel) else reference


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

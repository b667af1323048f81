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

from ..chat.tokens import unpadded_end, unpadded_query
from ..errors import InputError
from ..learner.models.peft import PeftModel
from ..samplers import SamplingParams
from ..samplers.local.backends import BACKENDS
from ..samplers.local.decoding.decode_job import DecodeJob
from ..samplers.local.decoding.sampling import Request
from ..samplers.local.sampler import LocalSampler
from ..training.loop import learn
from ..types import Completion, Group, Row
from .arguments import arguments
from .configs import Config, PPOConfig
from .given import listed
from .older import todays
from .rollouts import prompts
from .trainer import Trainer
from .value_head import AutoModelForCausalLMWithValueHead, refuse_filters

DEFAULTS_OF_STEPS: dict[str, Any] = {"temperature": 1.0, "init_kl_coef": 0.2, "adap_kl_ctrl": True}
"""What the step interface of TRL 0.7 to 0.11 took where a program said nothing, and today's PPOConfig does not."""
STATISTICS = {
    "ppo/loss/total": "loss", "ppo/loss/value": "value_loss", "ppo/policy/clipfrac": "clipped",
    "ppo/policy/policykl": "policy_kl", "ppo/policy/entropy": "entropy", "ppo/returns/mean": "return",
    "objective/entropy": "entropy",
}  # fmt: skip
"""What programs read of a step's statistics -> our name."""
Tensors = Sequence[Tensor]


class PPOTrainer(Trainer):
    """`PPOTrainer(args, processing_class, model, ref_model, reward_model, train_dataset, value_model)`, or the older
    `PPOTrainer(config, model, ref_model, tokenizer, dataset)` with `generate` and `step`.

    Policy, reference, reward and value are one base with adapters; `value_model` may be left out.
    """

    config_class: ClassVar[type[Config]] = PPOConfig

    def __init__(self, *given: Any, **options: Any) -> None:
        named = _by_name(given, options)
        args, model, reference, reward, value, dataset, collator = (
            named.pop(name, None)
            for name in ("args", "model", "ref_model", "reward_model", "value_model", "train_dataset", "data_collator")
        )  # fmt: skip
        args = arguments(self.config_class, args, named)
        reward = args.reward_model_path if reward is None else reward
        if isinstance(reward, str) and not Path(reward).exists():
            raise InputError(f"reward_model_path {reward} does not exist")
        if value is not None:
            warnings.warn("value_model: the value head is put on the policy instead", stacklevel=2)
        wrapper = model if isinstance(model, AutoModelForCausalLMWithValueHead) else None
        if wrapper is not None:
            named.setdefault("peft_config", wrapper.peft_config)
            model = wrapper.pretrained_model
        if model is None:
            model = args.sft_model_path or args.model_name
        self._dataset, self._collate, self._calls = dataset, collator or _columns, 0
        if reward is None:
            args = _for_steps(args)
            reward, dataset = _unscored, [{"prompt": "queries come with step()"}]
        super().__init__(
            model, args, dataset, reward_funcs=reward, ref_model=_unwrapped(reference),
            reward_processing_classes=named.pop("reward_processing_class", named.get("processing_class")), **named,
        )  # fmt: skip
        self.config = self.args
        if wrapper is not None:  # with its adapter and head, so that it says and saves what is trained
            wrapper.pretrained_model, wrapper.value_head = self.model, self._model.value

    def generate_completions(self, sampling: bool = False) -> list[Row]:
        """Print what the policy says to a few prompts of the evaluation's dataset, and return it."""
        dataset = self.eval_dataset if self.eval_dataset is not None else self._dataset
        rows = prompts(listed(dataset), self.tokenizer)[:5]
        params = SamplingParams(self.args.response_length, float(sampling))
        texts = LocalSampler(self._model, self.chat).complete([row["prompt"] for row in rows], params)
        pairs = zip(rows, texts, strict=True)
        shown: list[Row] = [{"prompt": row["prompt"], "completion": text} for row, text in pairs]
        self.accelerator.print("\n".join(f"{row['prompt']!r} -> {row['completion']!r}" for row in shown))
        return shown

    # ------------------------------------------------------------ the step interface

    @cached_property
    def dataloader(self) -> Any:
        """Batches of `batch_size` rows of the dataset, by the data_collator; each pass has an order of its own."""
        if self._dataset is None:
            raise InputError(
                "there is no dataset: give it to PPOTrainer as dataset=, or as its fifth argument"
            )
        order: Any = {"shuffle": True, "generator": torch.Generator().manual_seed(self.plan.data_seed)}
        size = self.plan.groups_per_step
        return DataLoader(self._dataset, size, collate_fn=self._collate, drop_last=True, **order)

    def save_pretrained(self, folder: str, **_: Any) -> None:
        """The older name of `save_model`."""
        self.save_model(folder)

    def log_stats(self, stats: dict[str, Any], batch: Any, rewards: Any, **_: Any) -> None:
        """The step has logged already."""

    def generate(
        self, query_tensor: Tensor | Tensors, length_sampler: Callable[[], int] | None = None,
        batch_size: int | None = None, return_prompt: bool = True, generate_ref_response: bool = False,
        max_new_tokens: int | None = None, temperature: float | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Completions of one query or of a list; with `return_prompt` the query stands in front of its completion.

        Args:
            query_tensor: tokens [P] of one query, or a list of them.
            length_sampler: asked for each query's limit of new tokens, in place of max_new_tokens.
            batch_size: changes nothing about what is sampled.
            return_prompt: whether queries come back too.
            generate_ref_response: return a pair: the policy's completions, and the reference's.
            max_new_tokens: completions are cut off after this many tokens; response_length if None.
            temperature: must be that of PPOConfig, at which log-probabilities are trained.
            options: as of transformers' `generate`; do_sample=False is greedy.
        """
        temperature = self._temperature(temperature, options)
        one = isinstance(query_tensor, Tensor) and query_tensor.dim() == 1
        given: list[Any] = [query_tensor] if one else list(query_tensor)
        queries = [self._query(query) for query in given]
        longest = max_new_tokens or self.args.response_length
        lengths = [int(length_sampler()) if length_sampler else longest for _ in queries]

        def made(reference: bool) -> Any:
            # No two calls of a run sample the same.
            seed = self.plan.seed * 1_000_003 + self._calls
            self._calls += 1
            params = SamplingParams(max(lengths, default=1), temperature, seed=seed)
            sampled = self._sampled(queries, params, reference)
            whole = [
                torch.tensor([*(q if return_prompt else ()), *tokens[:length]], device=own.device)
                for own, q, tokens, length in zip(given, queries, sampled, lengths, strict=True)
            ]
            return whole[0][None] if one else whole

        return (made(False), made(True)) if generate_ref_response else made(False)

    def _temperature(self, asked: float | None, options: Mapping[str, Any]) -> float:
        """The temperature of `generate`: the trained one, or 0. A warning names the options without effect.

        InputError: options with which log-probabilities would not be those of what is sampled.
        """
        refuse_filters(**{name: options.get(name) for name in ("top_p", "top_k")})
        own = self.plan.temperature
        if asked is not None and asked != own:
            raise InputError(
                f"temperature={asked}, but log-probabilities are trained at {own}: set it in PPOConfig"
            )
        known = {"top_p", "top_k", "pad_token_id", "do_sample"}
        known |= {"min_length"} if (options.get("min_length") or 0) <= 0 else set()
        known |= {"eos_token_id"} if options.get("eos_token_id") in (None, *self.chat.stop_tokens) else set()
        if ignored := options.keys() - known:
            warnings.warn(f"generate: without effect: {', '.join(sorted(ignored))}", stacklevel=3)
        return 0.0 if options.get("do_sample") is False else own

    def _sampled(self, queries: list[list[int]], params: SamplingParams, reference: bool) -> list[list[int]]:
        """[query] tokens of the policy or of the reference."""
        if not reference:
            sampled = LocalSampler(self._model, self.chat).sample(queries, 1, params)
            return [completion.tokens for (completion,) in sampled]
        if not self._model.has_reference:
            raise InputError("generate_ref_response: without a KL no reference is kept; give ref_model")
        requests = [[Request.make(params, i)] for i in range(len(queries))]
        with self._model.as_reference() as network:  # the plain backend: others fold the policy's adapter in
            job = DecodeJob(queries, requests, params, self.chat.stop_tokens, max_rows=192)
            BACKENDS["plain"](network, job)
        return [request.tokens for (request,) in requests]

    def step(
        self,
        queries: Tensors,
        responses: Tensors,
        scores: Sequence[Any],
        response_masks: Tensors | None = None,
    ) -> dict[str, float]:
        """One PPO step on completions and their scores; returns what was measured, by our names and by TRL's."""
        size = self.plan.groups_per_step
        counts = (len(queries), len(responses), len(scores))
        if len(set(counts)) > 1:
            raise InputError(
                f"{counts[0]} queries, {counts[1]} responses and {counts[2]} scores: one of each"
            )
        if counts[0] != size:
            raise InputError(f"{counts[0]} queries, and batch_size is {size}: they must be the same")
        masks = [None] * size if response_masks is None else response_masks
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
        values = [float(s) for s in scores]
        return {
            **metrics,
            **{name: metrics[own] for name, own in STATISTICS.items() if own in metrics},
            **dict.fromkeys(("ppo/mean_scores", "env/reward_mean"), fmean(values)),
            **dict.fromkeys(("ppo/std_scores", "env/reward_std"), pstdev(values)),
            "objective/kl": fmean(sum(row) for g in annotated for row in g.columns["kl"]),
        }

    def _query(self, tokens: Tensor) -> list[int]:
        """A query without padding."""
        tokenizer = self.tokenizer
        pad, also = tokenizer.pad_token_id, (tokenizer.bos_token_id, tokenizer.eos_token_id)
        return unpadded_query(tokens, pad, also, tokenizer("")["input_ids"][:1] == [pad])

    def _given(self, query: Tensor, response: Tensor, mask: Tensor | None, score: Any) -> Group:
        """A group of one completion without padding, whose log-probabilities are still to be measured."""
        stops = self.chat.stop_tokens
        tokens, trained = unpadded_end(response, mask, self.tokenizer.pad_token_id, stops)
        if not tokens or not (prompt := self._query(query)):
            raise InputError("a query or a response is empty: there is nothing that its score could be for")
        reason = "stop" if tokens[-1] in stops else "length"
        completion = Completion(tokens, trained, None, self.chat.text(tokens), reason)
        return Group(prompt, [completion], [float(score)])


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
        text = f"PPOTrainer by steps: what PPOConfig does not give is as in TRL 0.7 to 0.11: {named}"
        warnings.warn(text, stacklevel=3)
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
    if given and not isinstance(given[0], Config) and hasattr(given[0], "parameters"):
        raise TypeError("PPOTrainer takes its configuration first: PPOTrainer(config, model, ...)")
    second = given[1] if len(given) > 1 else None
    is_model = isinstance(second, str) or hasattr(second, "parameters") or hasattr(second, "pretrained_model")
    names = older if second is None or is_model else today
    return {**dict(zip(names, given, strict=False)), **todays("PPOTrainer", options)}


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """A batch as lists, where no data_collator was given."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def _unscored(completions: Sequence[str], **_: Any) -> list[None]:
    """Scores come with `step`."""
    return [None] * len(completions)

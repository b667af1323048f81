"""TRL's trainers by name. Configuration and method say how they differ; what is here is the order of arguments."""

from __future__ import annotations

from typing import Any, ClassVar

from ..errors import InputError
from . import configs
from .configs import Config
from .older import todays
from .trainer import Trainer


class SFTTrainer(Trainer):
    """Rows of prompt and completion, of messages, or of text; `formatting_func` makes text of anything else."""

    config_class: ClassVar[type[Config]] = configs.SFTConfig


class RewardTrainer(Trainer):
    """Rows of chosen and rejected (with prompt, or pre-tokenised as input_ids_chosen and input_ids_rejected)."""

    config_class: ClassVar[type[Config]] = configs.RewardConfig


class DPOTrainer(Trainer):
    """Rows of prompt, chosen and rejected. The reference is `ref_model`, or the policy as it was given."""

    config_class: ClassVar[type[Config]] = configs.DPOConfig

    def __init__(
        self, model: Any = None, ref_model: Any = None, args: Any = None, *rest: Any, **more: Any
    ) -> None:
        super().__init__(model, args, *rest, ref_model=ref_model, **more)


class KTOTrainer(Trainer):
    """Rows of prompt, completion and label. The reference is `ref_model`, or the policy as it was given."""

    config_class: ClassVar[type[Config]] = configs.KTOConfig

    def __init__(
        self, model: Any = None, ref_model: Any = None, args: Any = None, *rest: Any, **more: Any
    ) -> None:
        super().__init__(model, args, *rest, ref_model=ref_model, **more)


class ORPOTrainer(Trainer):
    """Rows of prompt, chosen and rejected; no reference."""

    config_class: ClassVar[type[Config]] = configs.ORPOConfig


class CPOTrainer(Trainer):
    """Rows of prompt, chosen and rejected; no reference. loss_type='simpo' is SimPO."""

    config_class: ClassVar[type[Config]] = configs.CPOConfig


class GRPOTrainer(Trainer):
    """Rows of prompt and the columns that the reward functions ask for."""

    config_class: ClassVar[type[Config]] = configs.GRPOConfig

    def __init__(
        self, model: Any = None, reward_funcs: Any = None, args: Any = None, train_dataset: Any = None,
        eval_dataset: Any = None, processing_class: Any = None, reward_processing_classes: Any = None, **more: Any,
    ) -> None:  # fmt: skip
        for name in ("tools", "rollout_func", "environment_factory"):
            if more.pop(name, None) is not None:
                raise InputError(
                    f"{name}: several turns are an environment of a task here (docs: writing a task)"
                )
        super().__init__(
            model, args, train_dataset, eval_dataset, processing_class, reward_funcs=reward_funcs,
            reward_processing_classes=reward_processing_classes, **more,
        )  # fmt: skip


class RLOOTrainer(GRPOTrainer):
    """Like GRPO, with the mean of the other completions as baseline."""

    config_class: ClassVar[type[Config]] = configs.RLOOConfig

    def __init__(self, model: Any = None, reward_funcs: Any = None, *given: Any, **more: Any) -> None:
        more = todays("RLOOTrainer", more)
        super().__init__(more.pop("model", model), more.pop("reward_funcs", reward_funcs), *given, **more)

"""The machine that learns: models, layouts, the optimizer step, checkpoints."""

from .learner import Learner, LearnerConfig, Loss
from .models.loading import AdapterConfig, Model, load

__all__ = ["AdapterConfig", "Learner", "LearnerConfig", "Loss", "Model", "load"]

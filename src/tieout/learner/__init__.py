"""Models, layouts, the optimizer step and checkpoints."""

from .config import LearnerConfig
from .learner import Learner, Loss
from .models.adapters import AdapterConfig
from .models.loading import load
from .models.model import Model

__all__ = ["AdapterConfig", "Learner", "LearnerConfig", "Loss", "Model", "load"]

"""Samplers fitted to a model."""

from sdfast.tune.fit import Fitted, Lesson, Tried, tune
from sdfast.tune.model import Gained, tune_model

__all__ = ["Fitted", "Gained", "Lesson", "Tried", "tune", "tune_model"]

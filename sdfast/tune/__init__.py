"""Samplers fitted to a model."""

from sdfast.tune.fit import Lesson
from sdfast.tune.model import Gained, tune_model
from sdfast.tune.search import Fitted, Tried, tune

__all__ = ["Fitted", "Gained", "Lesson", "Tried", "tune", "tune_model"]

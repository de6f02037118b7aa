"""The mathematics of sampling: schedules, spacings, plans and walks."""

from sdfast.solver.predict import Prediction, Target
from sdfast.solver.schedule import NoiseSchedule
from sdfast.solver.walk import solve

__all__ = ["NoiseSchedule", "Prediction", "Target", "solve"]

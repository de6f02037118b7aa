"""The mathematics of sampling: schedules, spacings, plans and walks."""

from sdfast.solver.guidance import classifier, classifier_free
from sdfast.solver.inpaint import inpainting
from sdfast.solver.predict import Prediction, Target
from sdfast.solver.schedule import NoiseSchedule
from sdfast.solver.spacing import grid
from sdfast.solver.walk import invert, noised, solve

__all__ = [
    "NoiseSchedule",
    "Prediction",
    "Target",
    "classifier",
    "classifier_free",
    "grid",
    "inpainting",
    "invert",
    "noised",
    "solve",
]

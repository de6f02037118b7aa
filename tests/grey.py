"""A model that needs no weights."""

import time
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image

from sdfast.models.source import Source
from sdfast.solver import NoiseSchedule, Prediction


class Clock:
    """The wall's."""

    mark = staticmethod(time.perf_counter)

    def between(self, marks):
        return [b - a for a, b in pairwise(marks)]


class Grey:
    """A model that sees a flat grey behind any noise, the lighter the longer the prompt."""

    schedule = NoiseSchedule.scaled_linear()
    prediction = Prediction.IMAGE
    clock = Clock()
    guides_itself = False

    def __init__(self):
        self.asked = []

    def complete(self, job):
        return Source("grey", Path(), {}, (), {}, (64, 64), 7.5).complete(job)

    def encode_all(self, prompts, clip_skip=None, guidance=None):
        return [torch.full((1, 1, 1, 1), float(len(prompt))) for prompt in prompts]

    def noise(self, seed, size, rng="cpu"):
        return torch.randn(1, 4, 8, 8, generator=torch.manual_seed(seed))

    def predict(self, x, t, context):
        self.asked.append((t, len(x), len(context)))
        return torch.zeros_like(x).repeat(len(context) // len(x), 1, 1, 1) + context / 8

    def decode(self, x):
        return Image.new("L", (64, 64), round(255 * x.mean().item())), False, 1

    def is_unsafe(self, picture):
        return None

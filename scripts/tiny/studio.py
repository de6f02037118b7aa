"""A model painting many prompts at once, and what it says of its own lessons."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import denoiser
from asking import Asked
from judge import NAMES
from scenes import Lesson
from sdfast import solve
from sdfast.conditioning import Words, guided
from sdfast.job import Job, Sampler
from sdfast.models.stable_diffusion import StableDiffusion


def taught(folder: Path) -> tuple[Lesson, dict[str, int]]:
    """What a model in this folder has learnt, and the steps behind it."""
    hints: dict[str, Any] = {}
    if (folder / "sdfast.json").exists():
        hints = json.loads((folder / "sdfast.json").read_text())
    if not hints.get("things") or hints["things"] != list(NAMES[: len(hints["things"])]):
        raise SystemExit(f"error: {folder} does not say that it was taught the judge's things")
    at = denoiser.LESSONS.at(hints["steps"]["unet"])
    return Lesson(len(hints["things"]), at.places, at.scenes, at.groups), hints["steps"]


@dataclass(frozen=True, slots=True)
class Studio:
    """A model with the prompts read and the noise drawn, ready to paint them all."""

    model: StableDiffusion
    states: Tensor
    """[n, words, width]"""
    plain: Tensor
    """[1, words, width]: no words at all."""
    noise: Tensor
    guidance: float
    seed: int
    batch: int

    @classmethod
    def of(cls, model: StableDiffusion, asked: Sequence[Asked], seed: int, batch: int) -> "Studio":
        job = model.complete(Job(prompt="any"))
        assert job.size is not None
        assert job.guidance is not None
        states = torch.cat([model.encode(a.prompt) for a in asked])
        noise = torch.cat([model.noise(seed + i, job.size) for i in range(len(asked))])
        plain = model.encode("")
        return cls(model, states, plain, noise, job.guidance, seed, batch)

    def paint(self, sampler: Sampler) -> Iterator[Tensor]:
        """Pictures [b, 3, h, w] in levels from 0 to 255, a batch at a time."""
        model = self.model
        generator = torch.Generator().manual_seed(self.seed)
        for begin in range(0, len(self.noise), self.batch):
            states = self.states[begin : begin + self.batch]
            plain = self.plain.expand(len(states), -1, -1)
            network = guided(model.predict, [Words(states, plain)], self.guidance)
            latents = solve(
                network,
                self.noise[begin : begin + self.batch],
                sampler,
                model.schedule,
                prediction=model.prediction,
                generator=generator,
            )
            images = [np.asarray(model.decode(x[None])[0]) for x in latents]
            yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()

"""What the engine asks of a model, whichever it is."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from sdfast.job import Job
from sdfast.solver import NoiseSchedule, Prediction
from sdfast.solver.guidance import Condition


class Timer(Protocol):
    """Marks moments on a device, and tells the seconds between them afterwards."""

    def mark(self) -> Any: ...
    def between(self, marks: Sequence[Any]) -> list[float]: ...


class Model(Protocol):
    """A latent diffusion model, on its device and ready to be asked.

    Latents are float32, [n, c, h, w] with a factor of 8 fewer pixels, scaled as the UNet has them.
    """

    name: str
    """As it was asked for."""
    device: torch.device
    schedule: NoiseSchedule
    prediction: Prediction

    @property
    def clock(self) -> Timer: ...

    def complete(self, job: Job) -> Job:
        """The job with the model's own size and guidance where it leaves them open."""
        ...

    @property
    def guides_itself(self) -> bool:
        """Whether it is told of the guidance with the prompt, and never of what to guide away from.

        So are latent consistency models.
        """
        ...

    def encode_all(
        self,
        prompts: Sequence[str],
        clip_skip: int | None = None,
        guidance: float | None = None,
    ) -> list[Condition]:
        """Prompts as the UNet is told them, one row each."""
        ...

    def look(self, picture: Image) -> Tensor:
        """The latents of an RGB picture, [1, c, h, w]."""
        ...

    def hole(self, picture: Image, mask: Image) -> Tensor | None:
        """What an inpainting UNet reads behind the latents, [1, c + 1, h, w]; None for others."""
        ...

    def noise(self, seed: int, size: tuple[int, int], rng: str = "cpu") -> Tensor:
        """The unit noise that a picture of this width and height begins with, [1, c, h, w]."""
        ...

    def predict(self, x: Tensor, t: float, context: Any) -> Tensor:
        """One row for each of the context, which may have twice as many as x: x is repeated."""
        ...

    def decode(self, x: Tensor) -> tuple[Image, bool, int]:
        """One picture, whether it took a second try in float32, and in how many tiles."""
        ...

    def is_unsafe(self, picture: Image) -> bool | None:
        """What the model's safety checker says; None if it has none."""
        ...

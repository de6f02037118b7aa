"""diffusers' side: a Stable Diffusion pipeline of the same weights, run as its users run it.

It begins with the noise that ours begins with, and its scheduler is `SdfastScheduler`, which walks
as our job does; so both ask their network at the same times and paint the same picture, but for
rounding. What differs is the networks' code and precision, and the pipeline around them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL.Image import Image
from torch import Tensor

from sdfast.bench.timing.entries import Settings
from sdfast.bench.timing.turn import Painted, Side
from sdfast.errors import ModelError, one_line
from sdfast.events import Times
from sdfast.interop import SdfastScheduler
from sdfast.job import Job, sampler_record
from sdfast.models.compiled import set_up_compiler
from sdfast.models.device import DTYPES, Clock, memory_errors, pick_device
from sdfast.models.libraries import quiet
from sdfast.models.source import Source


@quiet()
def load_pipeline(source: Source, device: str, settings: Settings) -> Side:
    """The pipeline of a model's folder, set up and on its device."""
    where = pick_device(device)
    with memory_errors(where, f"loading `{source.name}` into diffusers"):
        pipe = _from_pretrained(source, DTYPES[settings.dtype]).to(where)
    pipe.set_progress_bar_config(disable=True)
    for tweak in settings.tweaks:
        _TWEAKS[tweak](pipe)
    clock = Clock(where)
    return Side(partial(paint, pipe, clock), write, settings.dtype, str(where))


def _from_pretrained(source: Source, dtype: torch.dtype) -> Any:
    import diffusers

    library: Any = diffusers
    kind = library.StableDiffusionXLPipeline if source.xl else library.StableDiffusionPipeline
    more: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False}
    try:
        return kind.from_pretrained(
            source.path,
            variant=source.variant,
            torch_dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            **({"add_watermarker": False} if source.xl else more),
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"diffusers cannot load `{source.name}`: {one_line(error)}") from error


def _channels_last(pipe: Any) -> None:
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)


def _compile(pipe: Any) -> None:
    set_up_compiler()
    for owner, name in ((pipe, "unet"), (pipe.vae, "decode")):
        compiled = cast("Any", torch).compile(
            getattr(owner, name), mode="max-autotune", fullgraph=True
        )
        setattr(owner, name, compiled)


_TWEAKS: dict[str, Callable[[Any], None]] = {
    "channels_last": _channels_last,
    "fused": lambda pipe: pipe.fuse_qkv_projections(),
    "compile": _compile,
}


@quiet()
def paint(pipe: Any, clock: Clock, jobs: Sequence[Job]) -> Painted:
    """The jobs' pictures, and where the time went."""
    job = jobs[0]
    assert job.size is not None
    width, height = job.size
    pipe.scheduler = _scheduler(pipe, job)
    heard = _Heard(pipe, clock)
    begun = clock.mark()
    with heard, memory_errors(pipe.device, "painting with diffusers"):
        images = pipe(
            job.prompt,
            negative_prompt=job.negative or None,
            width=width,
            height=height,
            num_inference_steps=job.sampler.steps,
            guidance_scale=job.guidance,
            num_images_per_prompt=len(jobs),
            latents=torch.cat([_noise(pipe, job.seed, job.size) for job in jobs]),
        ).images
    marks = [begun, *heard.walk, clock.mark()]
    encode, *steps, decode = clock.between(marks)
    network = tuple(clock.between(heard.network)[::2])
    latents = heard.latents.float().cpu()
    return Painted(tuple(images), latents, Times(encode, tuple(steps), decode), network)


def write(jobs: Sequence[Job], images: Sequence[Image], place: Path) -> None:
    """The pictures as diffusers' users write them: one after the other, as Pillow does it."""
    for image in images:
        image.save(place)


def _scheduler(pipe: Any, job: Job) -> Any:
    kind: Any = SdfastScheduler
    return kind.from_config(pipe.scheduler.config, sampler=sampler_record(job.sampler))


def _noise(pipe: Any, seed: int, size: tuple[int, int] | None) -> Tensor:
    """The noise of a seed as ours is drawn, in float32; diffusers draws its own in half."""
    assert size is not None
    width, height = (side // pipe.vae_scale_factor for side in size)
    shape = (1, int(pipe.unet.config.in_channels), height, width)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(pipe.vae.device, pipe.vae.dtype)


class _Heard:
    """Ears at a pipeline, for as long as the `with` lasts: prompt read, calls, steps."""

    def __init__(self, pipe: Any, clock: Clock) -> None:
        self._pipe, self._mark = pipe, clock.mark
        self.walk: list[Any] = []
        """When the prompt was read, and after each step."""
        self.network: list[Any] = []
        """Before and after each network call."""
        self.latents: Tensor

    def __enter__(self) -> None:
        pipe = self._pipe
        self._plain = pipe.encode_prompt, pipe.unet.forward
        read, ask, step = pipe.encode_prompt, pipe.unet.forward, pipe.scheduler.step

        def encode_prompt(*asked: Any, **how: Any) -> Any:
            states = read(*asked, **how)
            self.walk.append(self._mark())
            return states

        def forward(*asked: Any, **how: Any) -> Any:
            self.network.append(self._mark())
            said = ask(*asked, **how)
            self.network.append(self._mark())
            return said

        def stepped(*asked: Any, **how: Any) -> Any:
            there = step(*asked, **how)
            self.latents = there[0]
            self.walk.append(self._mark())
            return there

        pipe.encode_prompt, pipe.unet.forward, pipe.scheduler.step = encode_prompt, forward, stepped

    def __exit__(self, *_: object) -> None:
        self._pipe.encode_prompt, self._pipe.unet.forward = self._plain

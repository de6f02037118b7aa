"""Stable Diffusion as the engine asks it: words, noise, one network call, pixels.

1.x, 2.x and XL differ in what the UNet is told of a prompt, and in nothing else here.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from sdfast.errors import JobError, ModelError
from sdfast.job import Job
from sdfast.models.compiled import check_compiles, compile_unet
from sdfast.models.device import (
    DTYPES,
    Clock,
    layout,
    memory_errors,
    pick_device,
    pick_dtype,
    use_cores,
)
from sdfast.models.dressed import wears, worn
from sdfast.models.graphs import Album, Recorder
from sdfast.models.malloc import keep_memory
from sdfast.models.networks import Conditioning, Meaning, Shifts
from sdfast.models.parts import (
    bare,
    check_parts,
    context,
    filled,
    fit,
    in_chunks,
    texts,
    weigh,
)
from sdfast.models.philox import randn
from sdfast.models.pixels import Decoded, Pixels
from sdfast.models.safety import SafetyChecker
from sdfast.models.sight import Sight
from sdfast.models.source import Source
from sdfast.models.vram import Place, Stage, pick_vram
from sdfast.solver import NoiseSchedule, Prediction
from sdfast.solver.guidance import Condition

_TIMES = 128
"""Times that are kept, of 40 kilobytes each in half precision: those of some walks."""


class StableDiffusion:
    """The networks of Stable Diffusion on a device.

    Latents are float32 outside; inside the networks run in `dtype`. On CUDA the UNet's calls are
    recorded as graphs, unless its weights come and go.
    """

    def __init__(
        self,
        source: Source,
        device: str = "auto",
        dtype: str = "auto",
        vram: str = "auto",
        *,
        compiled: bool = False,
    ) -> None:
        self.name = source.name
        self.device = pick_device(device)
        if self.device.type == "cpu":
            keep_memory()
            use_cores()
        networks = bare(source)
        unet = networks.unet
        self.dtype = pick_dtype(dtype, self.device, sum(p.numel() for p in unet.parameters()))
        vram = pick_vram(vram, self.device, lambda: weigh(source, networks, self.dtype))
        if compiled:
            check_compiles(self.device, vram)
        self._stage = Stage(self.device)
        place = Place(self.device, self.dtype, None if vram == "full" else self._stage)
        self.clock = Clock(self.device)
        self.schedule, prediction = _schedule(source)
        check_parts(source, networks)
        self._checker = _checker(source, place)
        self._texts = texts(source, networks.encoders, place)
        self._pixels = Pixels(source, networks.decoder, place)
        self._sight = Sight(source, place, self._pixels.factor)
        fit(source, unet, self._pixels.network, self._texts)
        self._unet = filled(source, "unet", unet, place, stream=vram == "min")
        self._conditioned: list[_Asked] = []
        self._shifts: dict[float, Shifts] = {}
        self._source = source
        self._ask: Callable[..., Tensor] = self._unet
        self.prediction = prediction or self._asked_what_it_predicts()
        self._ask = compile_unet(self._unet) if compiled else self._unet
        self._album: Album | None = None
        if self.device.type == "cuda" and vram == "full":
            self._record()

    def _record(self) -> None:
        """Let calls be recorded: the UNet's at once, the others' where they come again."""
        self._album = album = Album(Recorder(self.device))
        self._ask = album.graphs(self._ask)
        self._pixels.record(album)
        self._texts = [
            text._replace(ask=album.graphs(text.encoder, after=2)) for text in self._texts
        ]

    def complete(self, job: Job) -> Job:
        """The job with what it leaves open filled in as the model would have it.

        One that names no LoRA, embedding or VAE takes those that were loaded. Raises JobError for a
        job that wants others.
        """
        if not (job.lora or job.embedding or job.vae):
            job = job.model_copy(update=worn(self._source))
        elif not wears(self._source, job.weights):
            raise JobError(
                f"`{self.name}` was not loaded with the LoRAs, embeddings and VAE of the job",
                "load_model(job) loads them",
            )
        return self._source.complete(job)

    def noise(self, seed: int, size: tuple[int, int], rng: str = "cpu") -> Tensor:
        """Unit Gaussian latents, [1, channels, height / 8, width / 8].

        Drawn on the CPU, so that a seed is the same noise on every device: as PyTorch draws there,
        or, for the `rng` `cuda`, as on an NVIDIA GPU.
        """
        width, height = size
        factor = self._pixels.factor
        shape = (1, self._unet.out_channels, height // factor, width // factor)
        with memory_errors(self.device, "drawing noise"):
            if rng == "cuda":
                return randn(shape, seed).to(self.device)
            generator = torch.Generator("cpu").manual_seed(seed)
            return torch.randn(shape, generator=generator).to(self.device)

    @property
    def dtype_name(self) -> str:
        """The precision as `--dtype` has it."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    @property
    def guides_itself(self) -> bool:
        """Whether the UNet is told of the guidance, and not asked twice."""
        return self._unet.takes_guidance

    def encode(
        self, prompt: str, clip_skip: int | None = None, guidance: float | None = None
    ) -> Condition:
        """One prompt, as `encode_all` has several."""
        return self.encode_all([prompt], clip_skip, guidance)[0]

    @torch.inference_mode()
    def encode_all(
        self,
        prompts: Sequence[str],
        clip_skip: int | None = None,
        guidance: float | None = None,
    ) -> list[Condition]:
        """Prompts as the UNet reads them, of any length, their words weighed as they say.

        `clip_skip` names the text encoder's layer, counted from the last, which is 1. Left open, it
        is the layer the model was trained on: 1, and 2 for XL, which has none later. `guidance` is
        for a model that guides itself; left open, it is the model's own. Raises JobError if there
        is no such layer.
        """
        xl = self._source.xl
        back = max(clip_skip or 1, 1 + xl)
        layers = min(text.encoder.depth for text in self._texts)
        if back > layers:
            raise JobError(
                f"clip_skip must be from 1 to {layers} for `{self.name}`, not {back}",
                key="clip_skip",
            )
        read: list[list[Meaning]] = []
        with memory_errors(self.device, "reading the prompt"):
            chunks = [in_chunks(self._texts, prompt) for prompt in prompts]
            for text, its in zip(self._texts, zip(*chunks, strict=True), strict=True):
                self._stage.call(text.encoder)
                read.append(text(its, back, self.device))
        scale = None
        if self.guides_itself:
            scale = self._source.guidance if guidance is None else guidance
            scale = torch.full((1,), scale, dtype=torch.float32, device=self.device)
        zeros = self._source.blank_is_zero
        return [
            context(meant, xl=xl, blank=zeros and not prompt, guidance=scale)
            for prompt, meant in zip(prompts, zip(*read, strict=True), strict=True)
        ]

    @torch.inference_mode()
    def look(self, picture: Image.Image) -> Tensor:
        """The latents of an RGB picture, [1, channels, height / 8, width / 8]: their mean."""
        return self._sight.look(picture)

    @torch.inference_mode()
    def hole(self, picture: Image.Image, mask: Image.Image) -> Tensor | None:
        """What an inpainting UNet reads besides its latents, [1, 1 + channels, h / 8, w / 8].

        None for another UNet. The mask is white where to paint, and else black.
        """
        paints = self._unet.in_channels > self._unet.out_channels
        return self._sight.hole(picture, mask) if paints else None

    @torch.inference_mode()
    def predict(self, x: Tensor, t: float, context: Condition) -> Tensor:
        """What the UNet says of latents [n, c, h, w] at time t, in float32, [rows of context, ...].

        An inpainting UNet reads `hole` behind the latents, and without it paints everything. What
        does not change from call to call is kept with a context, which is known by being the same
        object: it must not be written to.
        """
        with memory_errors(self.device, "painting"):
            if x.shape[1] < self._unet.in_channels:
                x = torch.cat([x, self._sight.all_hole(x)], 1)
            self._stage.call(self._unet)
            conditioning = self._condition(context, (x.shape[-2], x.shape[-1]))
            x = x.to(self.dtype, memory_format=layout(x.device))
            said = self._ask(x, self._embedded(t, conditioning), conditioning)
            return said.to(torch.float32, memory_format=torch.contiguous_format)

    def _asked_what_it_predicts(self) -> Prediction:
        """Noise or velocity, of a UNet whose files do not say.

        Shown nothing but noise, one that predicts noise says it back; the velocity then is the
        image's, which has little to do with the noise (arXiv 2202.00512, eq. 8 at alpha near 0).
        """
        x = self.noise(0, (128, 128))
        said = self.predict(x, self.schedule.first, self.encode(""))
        alike = torch.cosine_similarity(said.flatten(), x.flatten(), dim=0)
        return Prediction.NOISE if float(alike) > 0.5 else Prediction.VELOCITY

    def _condition(self, context: Condition, size: tuple[int, int]) -> Conditioning:
        """The context as the UNet's layers see it, of this call or an earlier one."""
        for asked in self._conditioned:
            if asked.context is context and asked.size == size:
                return asked.conditioning
        states, *more = (context,) if isinstance(context, Tensor) else context
        guidance = more.pop() if self.guides_itself else None
        pixels = [float(side * self._pixels.factor) for side in size]
        conditioning = self._unet.condition(
            states, *more, sizes=[*pixels, 0.0, 0.0, *pixels], guidance=guidance
        )
        self._conditioned = [_Asked(context, size, conditioning), *self._conditioned[:1]]
        return conditioning

    def _embedded(self, t: float, conditioning: Conditioning) -> Shifts:
        """The time as the UNet's blocks see it; a schedule's come again with the next picture."""
        kept = self._shifts if conditioning.added is None and conditioning.guidance is None else {}
        if t not in kept:
            if len(kept) >= _TIMES:
                kept.clear()
            time = torch.full((1,), t, dtype=torch.float32, device=self.device)
            kept[t] = self._unet.embed_time(time, conditioning)
        return kept[t]

    def forget(self) -> None:
        """Let go of what is kept of contexts and calls; it takes memory, and only saves time."""
        self._conditioned.clear()
        self._shifts.clear()
        if self._album is not None:
            self._album.clear()

    @torch.inference_mode()
    def decode(self, x: Tensor) -> Decoded:
        """Latents [1, c, h, w] as a picture, in tiles where the memory wants it."""
        return self._pixels.show(x)

    def is_unsafe(self, picture: Image.Image) -> bool | None:
        """Whether the model's own safety checker flags a picture; None if it has none."""
        return None if self._checker is None else self._checker(picture)


class _Asked(NamedTuple):
    """A context the model was asked with, and what its layers made of it."""

    context: Condition
    size: tuple[int, int]
    conditioning: Conditioning


def _checker(source: Source, place: Place) -> Callable[[Image.Image], bool] | None:
    if source.checker is None:
        return None
    return SafetyChecker(source, place)


def _schedule(source: Source) -> tuple[NoiseSchedule, Prediction | None]:
    """The schedule, and what the UNet predicts, where that is known."""
    try:
        said = str(source.schedule.get("prediction_type", "epsilon"))
        schedule = NoiseSchedule.from_config(source.schedule)
        return schedule, None if said == "unknown" else Prediction(said)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"`{source.name}`: scheduler_config.json: {error}") from error

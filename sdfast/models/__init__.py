"""Networks behind one protocol. Finding one needs no torch; loading one does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from sdfast.job import Job, Weights
from sdfast.models.dressed import dressed
from sdfast.models.find import find
from sdfast.models.source import Source

if TYPE_CHECKING:
    from sdfast.models.stable_diffusion import StableDiffusion


def load_model(
    model: str | Source | Job = "tiny",
    *,
    device: str = "auto",
    dtype: str = "auto",
    vram: str = "auto",
    compiled: bool = False,
    aliases: Mapping[str, str] | None = None,
    offline: bool = False,
    lora: Sequence[str] = (),
    embedding: Sequence[str] = (),
    vae: str | None = None,
    safety: bool = True,
) -> StableDiffusion:
    """A model on its device, ready to be asked.

    model      `tiny`, an alias, a Hugging Face Hub id, a folder in diffusers' layout or a file; a
               job stands for its own model, lora, embedding and vae
    device     `auto`, `cpu`, `cuda`, `cuda:1`, `mps`
    dtype      `auto`, `fp32`, `fp16`, `bf16`
    aliases    names of your own for models, and what each stands for
    offline    ask nothing of the Hub: what is not in the cache raises ModelError
    vram       how CUDA's memory is used: `auto`, `full`, `offload` (one network at a time is
               there), `min` (of the UNet one layer)
    compiled   the UNet through torch.compile, CUDA only: minutes for the first call with a shape
    lora       files of low-rank changes, each `PATH` or `PATH:SCALE`
    embedding  files that teach words, each `PATH` or `PATH:TOKEN`
    vae        a folder or file whose autoencoder takes the place of the model's; like the files of
               these three, it may be named as on the Hub, once it was pulled
    safety     whether a model's own safety checker, if it has one, blackens pictures; one that was
               not fetched with the model is fetched

    A job that names other lora, embedding or vae than were loaded is refused; one that names none
    takes these. Raises ModelError if the model is not to be had, DeviceError if the device is not,
    and UsageError for an unknown name and for what is for CUDA only.
    """
    from sdfast.models.stable_diffusion import StableDiffusion

    if isinstance(model, Job):
        own = model.weights
        model, lora = own.model or "tiny", lora or own.lora
        embedding, vae = embedding or own.embedding, vae or own.vae
    lora, embedding = (
        (one,) if isinstance(one, (str, PurePath)) else one for one in (lora, embedding)
    )
    source = (
        find(model, aliases, offline=offline, safety=safety) if isinstance(model, str) else model
    )
    if lora or embedding or vae is not None:  # Paths would do as well
        vae = None if vae is None else str(vae)
        files = tuple(map(str, lora)), tuple(map(str, embedding))
        source = dressed(source, Weights(None, *files, vae))
    if not safety:
        source = replace(source, checker=None, lacks_checker=False)
    return StableDiffusion(source, device, dtype, vram, compiled=compiled)

"""Stable Diffusion 1.x as the engine asks it: words, noise, one network call, pixels.

This floor is the only door for diffusers and transformers. They bring the networks; the walk
between the calls is ours.
"""

import warnings
from typing import Any, NamedTuple, cast

import torch
from PIL import Image
from torch import Tensor

from sdfast.errors import DeviceError, ModelError
from sdfast.job import Job
from sdfast.models.device import DTYPES, Clock, memory_errors, pick_device, pick_dtype
from sdfast.models.folder import Source
from sdfast.solver import NoiseSchedule, Prediction


class Context(NamedTuple):
    """What the UNet is told of a prompt, [1, words, width], and the words it was too long for."""

    states: Tensor
    dropped: str


class StableDiffusion:
    """The three networks of Stable Diffusion 1.x on a device.

    Latents are float32 outside; inside the networks run in `dtype`.
    """

    def __init__(self, source: Source, device: str = "auto", dtype: str = "auto") -> None:
        self.name = source.name
        self.device = pick_device(device)
        networks = _load(source)
        unet = networks["unet"]
        self.dtype = pick_dtype(dtype, self.device, sum(p.numel() for p in unet.parameters()))
        self.clock = Clock(self.device)
        self.schedule, self.prediction = _schedule(source)
        self._tokenizer = _tokenizer(source, networks["text_encoder"].config.vocab_size)
        with memory_errors(self.device, f"loading `{self.name}`"):
            self._unet, self._vae, self._text = (
                networks[part].requires_grad_(False).eval().to(self.device, self.dtype)
                for part in ("unet", "vae", "text_encoder")
            )
        places = int(self._text.config.max_position_embeddings)
        self._limit = min(places, self._tokenizer.model_max_length)
        self._channels = int(unet.config.in_channels)
        self._factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self._source = source

    def complete(self, job: Job) -> Job:
        """The job with what it leaves open filled in as the model would have it."""
        return self._source.complete(job)

    def noise(self, seed: int, size: tuple[int, int]) -> Tensor:
        """Unit Gaussian latents, [1, channels, height / 8, width / 8].

        Drawn on the CPU, so that a seed is the same noise on every device.
        """
        width, height = size
        shape = (1, self._channels, height // self._factor, width // self._factor)
        generator = torch.Generator("cpu").manual_seed(seed)
        with memory_errors(self.device, "drawing noise"):
            return torch.randn(shape, generator=generator).to(self.device)

    @property
    def dtype_name(self) -> str:
        """The precision as `--dtype` has it."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    @torch.inference_mode()
    def encode(self, prompt: str) -> Context:
        """The prompt as the UNet reads it. What does not fit is cut off, and said."""
        limit = self._limit
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pieces: list[int] = self._tokenizer(prompt, truncation=False).input_ids
            asked = self._tokenizer(
                prompt, padding="max_length", truncation=True, max_length=limit, return_tensors="pt"
            )
        dropped = self._tokenizer.decode(pieces[limit - 1 : -1]) if len(pieces) > limit else ""
        with memory_errors(self.device, "reading the prompt"):
            states = self._text(asked.input_ids.to(self.device))[0]
        return Context(states, dropped.strip())

    @torch.inference_mode()
    def predict(self, x: Tensor, t: float, context: Tensor) -> Tensor:
        """What the UNet says of latents [n, c, h, w] at time t, in float32."""
        with memory_errors(self.device, "painting"):
            return self._unet(x.to(self.dtype), t, context, return_dict=False)[0].float()

    @torch.inference_mode()
    def decode(self, x: Tensor) -> tuple[Image.Image, bool]:
        """Latents [1, c, h, w] as a picture, and whether it took a second decoding in float32.

        Half precision overflows in some VAEs and would leave a black picture.
        """
        with memory_errors(self.device, "decoding"):
            pixels = self._pixels(x)
            again = self.dtype != torch.float32 and not bool(pixels.isfinite().all())
            if again:
                self._vae.float()
                pixels = self._pixels(x)
                self._vae.to(self.dtype)
        if not bool(pixels.isfinite().all()):
            raise ModelError(
                f"`{self.name}` painted numbers that are not finite; no picture was made",
                "are the weights whole? --dtype fp32 may help",
            )
        # as diffusers' VaeImageProcessor rounds, so that the same latents are the same pixels
        grid = (pixels / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).float().cpu().numpy()
        return Image.fromarray((grid * 255).round().astype("uint8")), again

    def _pixels(self, x: Tensor) -> Tensor:
        config = self._vae.config
        shift = getattr(config, "shift_factor", None) or 0.0
        z = (x / config.scaling_factor + shift).to(self._vae.dtype)
        return cast("Tensor", self._vae.decode(z, return_dict=False)[0])


def _schedule(source: Source) -> tuple[NoiseSchedule, Prediction]:
    try:
        said = str(source.schedule.get("prediction_type", "epsilon"))
        return NoiseSchedule.from_config(source.schedule), Prediction(said)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"`{source.name}`: scheduler_config.json: {error}") from error


def _tokenizer(source: Source, known: int) -> Any:
    """The tokenizer, if it speaks in tokens that the text encoder knows, below `known`."""
    from transformers import CLIPTokenizer

    try:
        kind: Any = CLIPTokenizer
        tokenizer = kind.from_pretrained(source.folder / "tokenizer", local_files_only=True)
        tokenizer("a")  # without its special tokens it would fail here, and not on a prompt
        vocabulary: dict[str, int] = tokenizer.get_vocab()
    except Exception as error:  # a broken vocabulary raises whatever its parser raises
        raise ModelError(
            f"`{source.name}`: the tokenizer cannot be read: {_said(error)}"
        ) from error
    if "a</w>" not in vocabulary or max(vocabulary.values()) >= known:
        raise ModelError(f"`{source.name}`: the tokenizer does not fit the text encoder")
    return tokenizer


def _load(source: Source) -> dict[str, Any]:
    """The networks of a checked folder. Raises ModelError for what the check could not see."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.utils import logging as diffusers_logging
    from transformers import CLIPTextModel
    from transformers.utils import logging as transformers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    kinds: dict[str, Any] = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "text_encoder": CLIPTextModel,
    }
    networks: dict[str, Any] = {}
    for part, kind in kinds.items():
        try:
            with memory_errors(torch.device("cpu"), f"loading `{source.name}`"):
                network, report = kind.from_pretrained(
                    source.folder / part,
                    variant=source.variant if _has_variant(source, part) else None,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # the report names them
                )
        except DeviceError:
            raise
        except Exception as error:  # whatever a hostile file raises, it is bad
            raise ModelError(f"`{source.name}`: {part} cannot be loaded: {_said(error)}") from error
        for fault, keys in (
            ("lacks tensors", sorted(report["missing_keys"])),
            ("has tensors of the wrong shape", [key for key, *_ in report["mismatched_keys"]]),
        ):
            if keys:
                raise ModelError(f"`{source.name}`: {part} {fault}, the first `{keys[0]}`")
        networks[part] = network
    _fit(source.name, networks)
    return networks


def _fit(name: str, networks: dict[str, Any]) -> None:
    """Raise ModelError unless the networks speak to each other in channels of one number."""
    unet, vae, text = (networks[part].config for part in ("unet", "vae", "text_encoder"))
    for said, wanted, part in (
        (vae.latent_channels, unet.in_channels, "vae"),
        (text.hidden_size, unet.cross_attention_dim, "text_encoder"),
    ):
        if said != wanted:
            raise ModelError(f"`{name}`: {part} has {said} channels where unet reads {wanted}")


def _has_variant(source: Source, part: str) -> bool:
    return any((source.folder / part).glob(f"*.{source.variant}.*"))


def _said(error: Exception) -> str:
    """The first line of a library's complaint."""
    return " ".join(str(error).split())[:160] or type(error).__name__

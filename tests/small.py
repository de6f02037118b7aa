"""Small Stable Diffusion models with random weights, written to disk as real ones are.

Built from diffusers' and transformers' own classes, so what is true of its files is true of the
files on the Hub: five folders and a `model_index.json`.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from small_networks import SD1
from transformers import (
    CLIPConfig,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

START, END = "<|startoftext|>", "<|endoftext|>"
EXTRACTOR: Any = getattr(transformers, "CLIPImageProcessorPil", None)
EXTRACTOR = EXTRACTOR or transformers.CLIPImageProcessor
"""What prepares pictures for a CLIP, by its name today or by that of the first transformers 5."""

WORDS = 77
"""Tokens per prompt, with the two that mark its ends."""


def write_model(folder: Path, prediction: str = "epsilon") -> Path:
    """A whole Stable Diffusion 1.x, 64 by 64 pixels; the same bytes each time."""
    return _write(folder, StableDiffusionPipeline, _unet, _text_sizes(), _scheduler(prediction))


def write_lcm_model(folder: Path) -> Path:
    """A latent consistency model of 1.x, whose UNet is told of the guidance."""
    told = partial(_unet, time_cond_proj_dim=32)
    scheduler = LCMScheduler.from_config(_scheduler("epsilon").config)
    return _write(folder, LatentConsistencyModelPipeline, told, _text_sizes(), scheduler)


def write_checked_model(folder: Path, prediction: str = "epsilon") -> Path:
    """The same as 1.x with a safety checker, of which only the first concept flags pictures."""
    config = CLIPConfig(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=12,
    )
    torch.manual_seed(2)
    checker = StableDiffusionSafetyChecker(config).eval()
    for weights in checker.vision_model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    torch.nn.init.normal_(checker.concept_embeds)
    extractor = EXTRACTOR(size={"shortest_edge": 32}, crop_size=32)
    sizes = (_text_sizes(), _scheduler(prediction))
    _write(folder, StableDiffusionPipeline, _unet, *sizes, checker, extractor)
    file = folder / "safety_checker" / "model.safetensors"
    tensors = {  # as files had them before transformers 5, and those on the Hub have
        re.sub(r"^vision_model\.(?!vision_model\.)", "vision_model.vision_model.", name): tensor
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, {"format": "pt"})
    return folder


def write_v2_model(folder: Path) -> Path:
    """The same for 2.x, which predicts velocity, from no signal at all at its noisiest time."""
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        set_alpha_to_one=False,
        clip_sample=False,
        steps_offset=1,
    )
    sizes = _text_sizes(hidden_act="gelu", num_hidden_layers=3)
    return _write(folder, StableDiffusionPipeline, _v2_unet, sizes, scheduler)


def write_inpainting_model(folder: Path) -> Path:
    """The same as 1.x for inpainting, whose UNet sees a mask and a picture with a hole as well."""
    pipeline = StableDiffusionInpaintPipeline
    return _write(folder, pipeline, _inpainting_unet, _text_sizes(), _scheduler("epsilon"))


def _v2_unet() -> UNet2DConditionModel:
    return _unet(attention_head_dim=(2, 4), use_linear_projection=True)


def _inpainting_unet() -> UNet2DConditionModel:
    return _unet(in_channels=9)


def _write(
    folder: Path,
    kind: type[Any],
    unet: Callable[[], UNet2DConditionModel],
    text: CLIPTextConfig,
    scheduler: Any,
    checker: StableDiffusionSafetyChecker | None = None,
    extractor: Any = None,
) -> Path:
    torch.manual_seed(0)
    pipeline = kind(
        unet=unet(),
        vae=_vae(),
        text_encoder=CLIPTextModel(text).eval(),
        tokenizer=_tokenizer(folder / "tokenizer"),
        scheduler=scheduler,
        safety_checker=checker,
        feature_extractor=extractor,
        requires_safety_checker=checker is not None,
    )
    pipeline.save_pretrained(folder)
    return folder


def write_xl_model(folder: Path, *, inpaints: bool = False, **changes: Any) -> Path:
    """The same for Stable Diffusion XL, whose UNet reads two text encoders, a whole and a size."""
    torch.manual_seed(0)
    second = _text_sizes(hidden_size=24, projection_dim=20, hidden_act="gelu")
    kind: Any = StableDiffusionXLInpaintPipeline if inpaints else StableDiffusionXLPipeline
    pipeline = kind(
        unet=_unet(
            in_channels=9 if inpaints else 4,
            cross_attention_dim=16 + 24,
            transformer_layers_per_block=(2, 1),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 20,
            **changes,
            use_linear_projection=True,
        ),
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_sizes()).eval(),
        text_encoder_2=CLIPTextModelWithProjection(second).eval(),
        tokenizer=_tokenizer(folder / "tokenizer"),
        tokenizer_2=_tokenizer(folder / "tokenizer_2"),
        scheduler=_scheduler("epsilon"),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def _unet(**changes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(**SD1 | changes)


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=64,
    )


def _text_sizes(**changes: Any) -> CLIPTextConfig:
    plain = {
        "vocab_size": len(_vocabulary()),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": WORDS,
        "bos_token_id": _vocabulary()[START],
        "eos_token_id": _vocabulary()[END],
        "pad_token_id": _vocabulary()[END],
    }
    return CLIPTextConfig(**plain | changes)


def _scheduler(prediction: str) -> PNDMScheduler:
    """What Stable Diffusion 1.5 ships."""
    return PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type=prediction,
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    )


def _vocabulary() -> dict[str, int]:
    """CLIP's 256 printable stand-ins for bytes, each inside and at the end of a word."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [*map(chr, plain), *(chr(256 + i) for i in range(256 - len(plain)))]
    pieces = [*letters, *(c + "</w>" for c in letters), START, END]
    return {piece: i for i, piece in enumerate(pieces)}


def _tokenizer(folder: Path) -> CLIPTokenizer:
    """One token per letter: there is nothing to merge.

    The pipeline saves `tokenizer.json`; a model on the Hub has the older files as well.
    """
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=WORDS,
    )

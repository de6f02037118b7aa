"""What a network's tensors are called in files, told in the names that libraries use today.

Stable Diffusion's authors wrote all networks into one file, under names of their own, and so does
everybody who passes a model on as one file. Here those names become diffusers' and transformers'.
"""

import re
from collections.abc import Callable
from typing import NamedTuple


class Layout(NamedTuple):
    """A way of naming one network's tensors."""

    kind: str
    """`today`, or `unet`, `vae`, `taesd`, `clip` or `open_clip` of the original layout, or
    `checker`."""
    prefix: str = ""
    """What stands before each of its names; tensors without it are another network's."""
    size: int = 0
    """Of a UNet, the layers of each level; of a VAE, its levels; of a safety checker, how often the
    network that is to be filled says `vision_model` before a name."""

    def renamed(self, name: str) -> str | None:
        """A tensor's name as libraries write it today; None if it is not of this network."""
        if not name.startswith(self.prefix):
            return None
        return _RENAMED[self.kind](name[len(self.prefix) :], self.size)


TODAY = Layout("today")

TAESD = "AutoencoderTiny"
"""What a config calls the small autoencoder."""

AUTOENCODERS = ("AutoencoderKL", TAESD)
"""What configs call those that are known."""

_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Attention's names in autoencoders written before 2023."""


def _today(name: str, _: int) -> str:
    name = name.removeprefix("text_model.")
    if ".attentions.0." in name and name.count(".") < 6:
        *path, layer, kind = name.split(".")
        return ".".join([*path, _OLD.get(layer, layer), kind])
    return name


_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

_UNET = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}

_MIDDLE = ("resnets.0", "attentions.0", "resnets.1")


def _unet(name: str, layers: int) -> str:
    """Blocks of the original are numbered from first to last, and here level by level."""
    layer, _, kind = name.rpartition(".")
    if layer in _UNET:
        return f"{_UNET[layer]}.{kind}"
    match name.split(".", 3):
        case ["middle_block", place, *rest] if place in "012":
            return f"mid_block.{_MIDDLE[int(place)]}.{_resnet('.'.join(rest))}"
        case ["input_blocks", block, "0", rest] if rest.startswith("op."):
            level = int(block) // (layers + 1) - 1
            return f"down_blocks.{level}.downsamplers.0.conv.{kind}"
        case ["input_blocks", block, place, rest] if place in "01":
            level, at = divmod(int(block) - 1, layers + 1)
            return f"down_blocks.{level}.{_INSIDE[place]}.{at}.{_resnet(rest)}"
        case ["output_blocks", block, place, rest]:
            level, at = divmod(int(block), layers + 1)
            if place == "2" or (place == "1" and rest.startswith("conv.")):
                return f"up_blocks.{level}.upsamplers.0.conv.{kind}"
            return f"up_blocks.{level}.{_INSIDE[place]}.{at}.{_resnet(rest)}"
        case _:
            return name


_INSIDE = {"0": "resnets", "1": "attentions"}


def _resnet(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    return f"{_RESNET[layer]}.{kind}" if layer in _RESNET else name


_VAE = (
    (r"\bnorm_out\b", "conv_norm_out"),
    (r"\bnin_shortcut\b", "conv_shortcut"),
    (r"\bmid\.block_1\b", "mid_block.resnets.0"),
    (r"\bmid\.block_2\b", "mid_block.resnets.1"),
    (r"\bmid\.attn_1\.norm\b", "mid_block.attentions.0.group_norm"),
    (r"\bmid\.attn_1\.proj_out\b", "mid_block.attentions.0.to_out.0"),
    (r"\bmid\.attn_1\.([qkv])\b", r"mid_block.attentions.0.to_\1"),
    (r"\bdown\.(\d+)\.block\b", r"down_blocks.\1.resnets"),
    (r"\bdown\.(\d+)\.downsample\b", r"down_blocks.\1.downsamplers.0"),
)


def _vae(name: str, levels: int) -> str:
    """The decoder's levels are numbered from the widest picture on, and here along the way."""

    def up(found: re.Match[str]) -> str:
        inside = "resnets" if found[2] == "block" else "upsamplers.0"
        return f"up_blocks.{levels - 1 - int(found[1])}.{inside}"

    name = re.sub(r"\bup\.(\d+)\.(block|upsample)\b", up, name)
    for theirs, ours in _VAE:
        name = re.sub(theirs, ours, name)
    return name


def _taesd(name: str, _: int) -> str:
    """The decoder alone, whose first layer presses latents into bounds and has no weights."""
    layer, dot, rest = name.partition(".")
    return (
        f"decoder.layers.{int(layer) - 1}{dot}{rest}" if re.fullmatch(r"\d{1,5}", layer) else name
    )


_OPEN_CLIP = (
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^text_projection$", "text_projection.weight.T"),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.attn\.in_proj_(weight|bias)$", r".self_attn.qkv_proj.\1"),
)


def _open_clip(name: str, _: int) -> str:
    """`.T` at the end says that the tensor lies there with rows and columns exchanged."""
    for theirs, ours in _OPEN_CLIP:
        name = re.sub(theirs, ours, name)
    return name


def _checker(name: str, nested: int) -> str:
    """`vision_model.` stands once before names that transformers 5 has written, else twice."""
    return re.sub(r"^(vision_model\.)+", "vision_model." * nested, name)


_RENAMED: dict[str, Callable[[str, int], str]] = {
    "today": _today,
    "unet": _unet,
    "vae": _vae,
    "taesd": _taesd,
    "clip": _today,
    "open_clip": _open_clip,
    "checker": _checker,
}

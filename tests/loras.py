"""Random LoRAs in everyone's spelling, and models with what they mean added by hand."""

import shutil

import torch
from safetensors.torch import load_file, save_file

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0."
LAYERS = {
    "unet": [
        f"{BLOCK}attn1.to_k",
        f"{BLOCK}attn2.to_v",
        f"{BLOCK}attn2.to_out.0",
        f"{BLOCK}ff.net.0.proj",
        f"{BLOCK}ff.net.2",
        "down_blocks.0.attentions.0.proj_in",
        "mid_block.resnets.1.conv1",
        "up_blocks.1.resnets.0.conv_shortcut",
        "time_embedding.linear_1",
    ],
    "text_encoder": ["encoder.layers.1.self_attn.q_proj", "encoder.layers.0.mlp.fc2"],
}
FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
    "text_encoder_2": "text_encoder_2/model.safetensors",
}
RANK, ALPHA, SCALE = 3, 1.5, 0.7


def kohya(part, layer, prefix="te_"):
    start = "lora_unet_" if part == "unet" else f"lora_{prefix}text_model_"
    name = start + layer.replace(".", "_")
    return f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"


def peft(part, layer):
    name = f"{part}." + ("" if part == "unet" else "text_model.") + layer
    return f"{name}.lora_A.weight", f"{name}.lora_B.weight", f"{name}.alpha"


def diffusers(part, layer):
    name = f"{part}." + ("" if part == "unet" else "text_model.") + layer
    return f"{name}.lora.down.weight", f"{name}.lora.up.weight", f"{name}.alpha"


def processors(part, layer):
    """As diffusers wrote a UNet's attention before its version 0.22."""
    attention, _, role = layer.partition(".to_")
    if not role:
        return diffusers(part, layer)
    name = f"{part}.{attention}.processor.to_{role.removesuffix('.0')}"
    return f"{name}_lora.down.weight", f"{name}_lora.up.weight", f"{name}.alpha"


def tensors(folder, part):
    return load_file(folder / FILES[part])


def named(weights, layer):
    return next(n for n in weights if n.removeprefix("text_model.") == f"{layer}.weight")


def pefts_rows(down, lengths):
    shape = [1, -1, 1, 1] if lengths.dim() == 4 else [-1]
    return {down.replace("lora_A.weight", "lora_magnitude_vector"): lengths.reshape(shape)}


def lycoris_lengths(down, lengths):
    return {down.replace("lora_down.weight", "dora_scale"): lengths}


def stretched(weight, side):
    """The weight with its rows or columns some longer and some shorter; and how long they are."""
    lines = [line.norm() * (0.7 + 0.6 * torch.rand(())) for line in weight.unbind(side)]
    made = [x * (m / x.norm()) for x, m in zip(weight.unbind(side), lines, strict=True)]
    shape = [-1 if dim == side else 1 for dim in range(weight.dim())]
    return torch.stack(made, side), torch.stack(lines).view(shape)


def with_lora(folder, merged, path, spell, layers, dora=None, side=0):
    """Write a random LoRA, and a copy of the model with what it means added by hand."""
    torch.manual_seed(7)
    shutil.copytree(folder, merged)
    lora = {}
    for part, names in layers.items():
        weights = tensors(folder, part)
        for layer in names:
            key = named(weights, layer)
            weight = weights[key]
            out, inside, *kernel = weight.shape
            down = torch.randn(RANK, inside, *kernel) / inside**0.5
            up = torch.randn(out, RANK, *[1 for _ in kernel])
            low, high, alpha = spell(part, layer)
            lora |= {low: down, high: up, alpha: torch.tensor(ALPHA)}
            delta = up.flatten(1) @ down.flatten(1)
            if dora is None:
                weights[key] = weight + SCALE * ALPHA / RANK * delta.view(weight.shape)
                continue
            changed = weight + ALPHA / RANK * delta.view(weight.shape)
            changed, lengths = stretched(changed, side)
            lora |= dora(low, lengths)
            weights[key] = weight + SCALE * (changed - weight)
        save_file(weights, merged / FILES[part], {"format": "pt"})
    save_file(lora, path)
    return path

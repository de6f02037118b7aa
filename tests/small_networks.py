"""Small networks of diffusers' with random weights, and ours with the same."""

import json

import torch

from sdfast.models.networks import Config, fill

CPU = torch.device("cpu")
SD1 = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
}
XL = {
    "attention_head_dim": (2, 4),
    "transformer_layers_per_block": (1, 3),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 20,
    "use_linear_projection": True,
}
FAMILIES = {
    "1.x": {},
    "2.x": {"attention_head_dim": (2, 8), "use_linear_projection": True, "layers_per_block": 2},
    "XL": XL,
    "inpainting": {"in_channels": 9},
    "distilled": {"mid_block_type": None},
    "distilled otherwise": {"mid_block_type": "UNetMidBlock2D", "layers_per_block": (2, 1)},
    "waves the other way round": {"flip_sin_to_cos": False, "freq_shift": 1},
    "wide": {"block_out_channels": (64, 256), "norm_num_groups": 32},
}


def ours(kind, theirs, folder, dtype=torch.float32, device=CPU, **how):
    """Our network with the weights of theirs, by way of the files it writes."""
    theirs.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    network = kind(Config(config), **how)
    fill(network, sorted(folder.glob("*.safetensors")), device, dtype)
    return network


def strewn(network):
    """Biases and norms that are not zeros and ones: a fresh network would hide a lost one."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() == 1:
                weight += 0.1 * torch.randn_like(weight)
    return network.eval()


def asked(network, x, t, words, whole, sizes):
    pixels = x.to(memory_format=torch.channels_last)
    told = network.condition(words, whole, sizes)
    time = network.embed_time(torch.tensor([t], device=x.device), told)
    return network(pixels, time, told)

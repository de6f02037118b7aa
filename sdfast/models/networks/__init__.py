"""The networks of Stable Diffusion in plain torch, read from diffusers' and transformers' files.

Importing those two libraries takes longer than painting a small picture, so they are not asked. A
config that wants what is not written here is refused by name; nothing is painted approximately.
"""

from sdfast.models.networks.autoencoder import AnyDecoder, AnyEncoder, decoder, encoder
from sdfast.models.networks.clip import Meaning, TextEncoder
from sdfast.models.networks.config import Config
from sdfast.models.networks.load import TensorError, check, fill, randomize
from sdfast.models.networks.unet import Conditioning, Shifts, UNet
from sdfast.models.networks.vae import Decoder, Encoder

__all__ = [
    "AnyDecoder",
    "AnyEncoder",
    "Conditioning",
    "Config",
    "Decoder",
    "Encoder",
    "Meaning",
    "Shifts",
    "TensorError",
    "TextEncoder",
    "UNet",
    "check",
    "decoder",
    "encoder",
    "fill",
    "randomize",
]

"""Which autoencoder a config is of: the large one of Stable Diffusion, or a small one."""

from sdfast.models.layout import TAESD
from sdfast.models.networks.config import Config
from sdfast.models.networks.taesd import TinyDecoder, TinyEncoder
from sdfast.models.networks.vae import Decoder, Encoder

AnyDecoder = Decoder | TinyDecoder
AnyEncoder = Encoder | TinyEncoder


def decoder(config: Config) -> AnyDecoder:
    """What makes pixels of latents, without weights."""
    return TinyDecoder(config) if _is_small(config) else Decoder(config)


def encoder(config: Config) -> AnyEncoder:
    """What makes latents of pixels, without weights."""
    return TinyEncoder(config) if _is_small(config) else Encoder(config)


def _is_small(config: Config) -> bool:
    return config.get("_class_name") == TAESD

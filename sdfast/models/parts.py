"""The networks of a model, out of its files and onto its device."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import nn

from sdfast.errors import DeviceError, ModelError
from sdfast.models.device import memory_errors
from sdfast.models.folder import Source
from sdfast.models.networks import (
    Config,
    Decoder,
    Encoder,
    Meaning,
    TensorError,
    TextEncoder,
    UNet,
    fill,
    randomize,
)
from sdfast.models.tokenizer import AnyWords, ClipTokenizer, Reader
from sdfast.models.vram import Stage

Network = TypeVar("Network", bound=nn.Module)


class Place(NamedTuple):
    """Where networks run and in which precision, and the stage they share if none can stay."""

    device: torch.device
    dtype: torch.dtype
    stage: Stage | None = None


class Read(NamedTuple):
    """What a prompt means to one encoder, and the words there was no room for."""

    meaning: Meaning
    dropped: str


class Text(NamedTuple):
    """A tokenizer and the text encoder that it speaks to."""

    reader: Reader
    encoder: TextEncoder

    def __call__(self, text: str, device: torch.device) -> Read:
        tokens = self.reader.read(text, self.encoder.places)
        return Read(self.encoder(torch.tensor([tokens.ids], device=device)), tokens.dropped)


def bare_unet(source: Source) -> UNet:
    """The UNet without weights: what it is made of can be asked already."""
    return _built(source, "unet", UNet)


def decoder(source: Source, place: Place) -> Decoder:
    return filled(source, "vae", _built(source, "vae", Decoder), place)


def encoder(source: Source, place: Place) -> Encoder:
    return filled(source, "vae", _built(source, "vae", Encoder), place)


def texts(source: Source, place: Place) -> list[Text]:
    """What reads the prompt: one encoder, in XL two."""
    found: list[Text] = []
    for end in _ends(source):
        bare = _bare_text(source, end)
        reader = AnyWords(bare.known) if source.random else _tokenizer(source, end, bare.known)
        found.append(Text(reader, filled(source, f"text_encoder{end}", bare, place)))
    return found


def weigh(source: Source, dtype: torch.dtype) -> list[int]:
    """Bytes of each network's weights, of which none is loaded."""
    vae = _built(source, "vae", Decoder)
    networks = [bare_unet(source), vae, *(_bare_text(source, end) for end in _ends(source))]
    return [sum(p.numel() for p in n.parameters()) * dtype.itemsize for n in networks]


def _ends(source: Source) -> tuple[str, ...]:
    """What the folders of the text encoders end in."""
    return ("", "_2") if source.xl else ("",)


def _bare_text(source: Source, end: str) -> TextEncoder:
    part = f"text_encoder{end}"
    return _built(source, part, lambda config: TextEncoder(config, projects=bool(end)))


def filled(
    source: Source, part: str, network: Network, place: Place, *, stream: bool = False
) -> Network:
    """A network with its weights, on the device or, if there is a stage, ready to be called there.

    stream   its large weights come one layer at a time

    Raises ModelError for what the check of the folder cannot see.
    """
    stage = place.stage
    device = torch.device("cpu") if stage else place.device
    try:
        with memory_errors(device, f"loading `{source.name}`"):
            if source.random:
                randomize(network, device, place.dtype, lay_out=stage is None)
            else:
                fill(network, source.weights(part), device, place.dtype, lay_out=stage is None)
            if stage:
                (stage.stream if stream else stage.add)(network)
    except DeviceError:
        raise
    except TensorError as error:
        raise ModelError(f"`{source.name}`: {part} {error}") from error
    except Exception as error:  # whatever a hostile file raises, it is bad
        raise _unloadable(source, part, error) from error
    return network.eval()


def fit(source: Source, unet: UNet, vae: Decoder, encoders: list[Text]) -> None:
    """Raise ModelError unless the networks speak to each other in channels of one number.

    An inpainting UNet reads latents twice, and a mask.
    """
    width = sum(text.encoder.width for text in encoders)
    latents = unet.says
    if unet.channels not in (latents, 2 * latents + 1):
        raise ModelError(f"`{source.name}`: unet reads {unet.channels} channels and says {latents}")
    for said, wanted, part in (
        (vae.channels, latents, "vae"),
        (width, unet.words, "text_encoder"),
    ):
        if said != wanted:
            raise ModelError(
                f"`{source.name}`: {part} has {said} channels where unet reads {wanted}"
            )
    if unet.wants_more != source.xl:
        raise ModelError(f"`{source.name}`: unet and text encoders are of different families")


def _built(source: Source, part: str, kind: Callable[[Config], Network]) -> Network:
    try:
        return kind(Config(source.config(part)))
    except ModelError:
        raise
    except Exception as error:  # what is no config of this network fails in many ways
        raise _unloadable(source, part, error) from error


def _tokenizer(source: Source, end: str, known: int) -> ClipTokenizer:
    """The tokenizer, if it speaks in tokens that the text encoder knows, below `known`."""
    try:
        tokenizer = ClipTokenizer(source.folder / f"tokenizer{end}")
        tokenizer.read("a", 77)
    except Exception as error:  # a broken vocabulary raises whatever its parser raises
        raise ModelError(
            f"`{source.name}`: the tokenizer cannot be read: {_said(error)}"
        ) from error
    if "a</w>" not in tokenizer.vocabulary or max(tokenizer.vocabulary.values()) >= known:
        raise ModelError(f"`{source.name}`: the tokenizer does not fit the text encoder")
    return tokenizer


def _unloadable(source: Source, part: str, error: Exception) -> ModelError:
    return ModelError(f"`{source.name}`: {part} cannot be loaded: {_said(error)}")


def _said(error: Exception) -> str:
    """The first line of a library's complaint."""
    return " ".join(str(error).split())[:160] or type(error).__name__

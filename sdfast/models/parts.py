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
    Meaning,
    TensorError,
    TextEncoder,
    UNet,
    fill,
    randomize,
)
from sdfast.models.tokenizer import AnyWords, ClipTokenizer, Reader

Network = TypeVar("Network", bound=nn.Module)


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


def decoder(source: Source, device: torch.device, dtype: torch.dtype) -> Decoder:
    return filled(source, "vae", _built(source, "vae", Decoder), device, dtype)


def texts(source: Source, device: torch.device, dtype: torch.dtype) -> list[Text]:
    """What reads the prompt: one encoder, in XL two."""
    found: list[Text] = []
    for end in ("", "_2") if source.xl else ("",):
        part = f"text_encoder{end}"
        bare = _built(source, part, lambda config: TextEncoder(config, projects=bool(end)))  # noqa: B023
        reader = AnyWords(bare.known) if source.random else _tokenizer(source, end, bare.known)
        found.append(Text(reader, filled(source, part, bare, device, dtype)))
    return found


def filled(
    source: Source, part: str, network: Network, device: torch.device, dtype: torch.dtype
) -> Network:
    """A network with its weights. Raises ModelError for what the check of the folder cannot see."""
    try:
        with memory_errors(device, f"loading `{source.name}`"):
            if source.random:
                randomize(network, device, dtype)
            else:
                fill(network, source.weights(part), device, dtype)
    except DeviceError:
        raise
    except TensorError as error:
        raise ModelError(f"`{source.name}`: {part} {error}") from error
    except Exception as error:  # whatever a hostile file raises, it is bad
        raise _unloadable(source, part, error) from error
    return network.eval()


def fit(source: Source, unet: UNet, vae: Decoder, encoders: list[Text]) -> None:
    """Raise ModelError unless the networks speak to each other in channels of one number."""
    width = sum(text.encoder.width for text in encoders)
    for said, wanted, part in (
        (vae.channels, unet.channels, "vae"),
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

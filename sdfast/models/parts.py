"""The networks of a model, out of its files and onto its device."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sdfast.errors import DeviceError, ModelError, one_line
from sdfast.models import networks
from sdfast.models.chunks import Chunk, read_chunks, room_of
from sdfast.models.device import memory_errors
from sdfast.models.learned import Learned
from sdfast.models.lora import changes, check_loras
from sdfast.models.networks import (
    AnyDecoder,
    AnyEncoder,
    Config,
    Meaning,
    TensorError,
    TextEncoder,
    UNet,
    check,
    fill,
    randomize,
)
from sdfast.models.safety import count_weights
from sdfast.models.source import Embedding, Source, Vocabulary
from sdfast.models.tokenizer import AnyWords, ClipTokenizer, Reader
from sdfast.models.vram import Place
from sdfast.solver.guidance import Condition

_N = TypeVar("_N", bound=nn.Module)


class Text(NamedTuple):
    """A tokenizer and the text encoder that it speaks to."""

    reader: Reader
    encoder: TextEncoder
    ask: Callable[[Tensor, int], Meaning]
    """The encoder, or its recording."""
    learned: Learned
    """The words that it was taught besides."""

    def chunks(self, prompt: str) -> list[Chunk]:
        return read_chunks(prompt, self.reader, self.encoder.places, self.learned)

    def __call__(
        self, prompts: Sequence[list[Chunk]], back: int, device: torch.device
    ) -> list[Meaning]:
        """What each prompt means `back` layers from the end, its chunks' words behind each other.

        Every chunk is read by itself and weighed, all in one call. States are [1, tokens, width];
        the pooled text, [1, width], is the first chunk's.
        """
        ids = [[token.id for token in chunk] for chunks in prompts for chunk in chunks]
        normed, hidden, pooled = self.ask(torch.tensor(ids, device=device), back)
        meant: list[Meaning] = []
        end = 0
        for chunks in prompts:
            begin, end = end, end + len(chunks)
            weights = [[token.weight for token in chunk] for chunk in chunks]
            row, plain_row = (
                emphasized(x[begin:end], weights).flatten(0, 1)[None] for x in (normed, hidden)
            )
            first = None if pooled is None else pooled[begin : begin + 1]
            meant.append(Meaning(row, plain_row, first))
        return meant


def context(
    read: Sequence[Meaning], *, xl: bool, blank: bool, guidance: Tensor | None
) -> Condition:
    """What text encoders have read, as one; of a `blank` prompt nothing but zeros.

    The hidden states, [1, tokens, width]; for XL the pooled text behind them, [1, width]; at the
    end the guidance, float32 [1], for a UNet that guides itself.
    """
    said = [read[0].normed]
    if xl:
        hidden = torch.cat([meaning.hidden for meaning in read], -1)
        said = [hidden, cast("Tensor", read[-1].pooled)]
        if blank:
            said = [*map(torch.zeros_like, said)]
    if guidance is not None:
        said.append(guidance)
    return tuple(said) if len(said) > 1 else said[0]


def emphasized(states: Tensor, weights: list[list[float]]) -> Tensor:
    """States [chunks, tokens, width] times the words' weights, each chunk's mean kept as it was.

    The emphasis that AUTOMATIC1111 calls `Original`, its default. Computed in float32.
    """
    if all(weight == 1 for chunk in weights for weight in chunk):
        return states
    plain = states.float()
    weighed = plain * torch.tensor(weights, device=states.device)[..., None]
    was, came = (x.mean((1, 2), keepdim=True) for x in (plain, weighed))
    return (weighed * torch.where(came == 0, 1.0, was / came)).to(states.dtype)


def in_chunks(encoders: list[Text], prompt: str) -> list[list[Chunk]]:
    """The prompt as each encoder reads it, in as many chunks for all."""
    read = [text.chunks(prompt) for text in encoders]
    count = max(map(len, read))
    return [r + text.chunks("") * (count - len(r)) for text, r in zip(encoders, read, strict=True)]


class Bare(NamedTuple):
    """A model's networks without weights: what they are made of can be asked already."""

    unet: UNet
    decoder: AnyDecoder
    encoders: tuple[TextEncoder, ...]
    """Of texts."""


def bare(source: Source) -> Bare:
    encoders = (_bare_text(source, part) for part in source.texts)
    decoder = _built(source, source.decoder, networks.decoder)
    return Bare(_built(source, "unet", UNet), decoder, tuple(encoders))


def check_parts(source: Source, bare: Bare) -> None:
    """Raise ModelError unless each network's weights are all there. None are read for it."""
    if source.random:
        return
    texts = dict(zip(source.texts, bare.encoders, strict=True))
    parts: dict[str, nn.Module] = {"unet": bare.unet, source.decoder: bare.decoder, **texts}
    for part, network in parts.items():
        with _told(source, part):
            check(network, source.parts[part].files, source.parts[part].layout)
    check_loras(source, parts)


def decoder(source: Source, place: Place) -> AnyDecoder:
    return filled(source, source.decoder, _built(source, source.decoder, networks.decoder), place)


def encoder(source: Source, place: Place) -> AnyEncoder:
    return filled(source, "vae", _built(source, "vae", networks.encoder), place)


def texts(source: Source, encoders: Sequence[TextEncoder], place: Place) -> list[Text]:
    """What reads the prompt: one encoder, in XL two, which are bare yet."""
    found: list[Text] = []
    for part, words, network in zip(source.texts, source.vocabularies, encoders, strict=True):
        known = network.known
        reader = AnyWords(known) if source.random else _tokenizer(source, words, known)
        room = room_of(reader, network.places)
        for embedding in source.embeddings:
            if embedding.rows > room:
                raise ModelError(
                    f"`{embedding.path}` is {embedding.rows} tokens and a chunk has room for {room}"
                )
        filled(source, part, network, place)
        found.append(Text(reader, network, network, Learned(source.embeddings, known)))
    return found


def weigh(source: Source, bare: Bare, dtype: torch.dtype) -> list[int]:
    """Bytes of each network's weights, its safety checker's last, of which none is loaded."""
    each = (bare.unet, bare.decoder, *bare.encoders)
    counts = [sum(p.numel() for p in network.parameters()) for network in each]
    return [count * dtype.itemsize for count in (*counts, count_weights(source))]


def _bare_text(source: Source, part: str) -> TextEncoder:
    projects = part == "text_encoder_2"
    return _built(source, part, lambda config: TextEncoder(config, projects=projects))


def filled(source: Source, part: str, network: _N, place: Place, *, stream: bool = False) -> _N:
    """A network with its weights, on the device or, if there is a stage, ready to be called there.

    stream   its large weights come one layer at a time

    Raises ModelError for what the check of the files cannot see.
    """
    stage, where = place.stage, source.parts[part]
    device = torch.device("cpu") if stage else place.device
    hint = "--vram offload holds one network at a time" if device.type == "cuda" else ""
    with _told(source, part), memory_errors(device, f"loading `{source.name}`", hint):
        if source.random:
            randomize(network, device, place.dtype, lay_out=stage is None)
        else:
            files = (where.full if place.dtype == torch.float32 else ()) or where.files
            added = changes(source, part, network)
            fill(network, files, device, place.dtype, where.layout, added, lay_out=stage is None)
        if isinstance(network, TextEncoder) and (rows := _learned_rows(source, part)) is not None:
            network.learn(rows)
        if stage:
            (stage.stream if stream else stage.add)(network)
    return network.eval()


def _learned_rows(source: Source, part: str) -> Tensor | None:
    """All that one text encoder is taught, [rows, width]; None if nothing. Raises ModelError."""
    if not source.embeddings:
        return None
    return torch.cat([_rows(embedding, part) for embedding in source.embeddings])


def _rows(embedding: Embedding, part: str) -> Tensor:
    path, name = embedding.path, embedding.tensors[part]
    try:
        opened: Any = safe_open(path, framework="pt")
        with opened as file:
            tensor: Tensor = file.get_tensor(name)
    except Exception as error:  # whatever a hostile file raises, it is bad
        raise ModelError(f"`{path}`: `{name}` cannot be read") from error
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ModelError(f"`{path}`: `{name}` holds {kind}, where an embedding is floating-point")
    if not bool(tensor.float().isfinite().all()):
        raise ModelError(f"`{path}`: `{name}` holds numbers that are not finite")
    return tensor.float().reshape(embedding.rows, -1)


@contextmanager
def _told(source: Source, part: str) -> Generator[None]:
    """In here, what is wrong with the weights is a ModelError that names the part.

    Unless it is memory that the system has not got to map or to read them.
    """
    try:
        with memory_errors(torch.device("cpu"), f"reading `{source.name}`", hint=""):
            yield
    except (DeviceError, ModelError):
        raise
    except TensorError as error:
        raise ModelError(f"`{source.whose(part)}`: {part} {error}") from error
    except Exception as error:  # whatever a hostile file raises, it is bad
        raise _unloadable(source, part, error) from error


def fit(source: Source, unet: UNet, vae: AnyDecoder, encoders: list[Text]) -> None:
    """Raise ModelError unless the networks speak to each other in channels of one number.

    An inpainting UNet reads latents twice, and a mask.
    """
    width = sum(text.encoder.width for text in encoders)
    latents = unet.out_channels
    if unet.in_channels not in (latents, 2 * latents + 1):
        raise ModelError(
            f"`{source.name}`: unet reads {unet.in_channels} channels and says {latents}"
        )
    for said, wanted, part in (
        (vae.channels, latents, "vae"),
        (width, unet.context_dim, "text_encoder"),
    ):
        if said != wanted:
            raise ModelError(
                f"`{source.name}`: {part} has {said} channels where unet reads {wanted}"
            )
    if len({room_of(text.reader, text.encoder.places) for text in encoders}) > 1:
        raise ModelError(f"`{source.name}`: its tokenizers read texts of unlike length")
    if not unet.cross_attends:
        raise ModelError(f"`{source.name}`: unet asks no prompt: none of its blocks attends to it")
    if unet.takes_size != source.xl:
        raise ModelError(f"`{source.name}`: unet and text encoders are of different families")


def _built(source: Source, part: str, kind: Callable[[Config], _N]) -> _N:
    try:
        return kind(Config(source.config(part)))
    except ModelError:
        raise
    except Exception as error:  # what is no config of this network fails in many ways
        raise _unloadable(source, part, error) from error


def _tokenizer(source: Source, words: Vocabulary, known: int) -> ClipTokenizer:
    """The tokenizer, if it speaks in tokens that the text encoder knows, below `known`."""
    try:
        tokenizer = ClipTokenizer(words.folder, words.pad)
        tokenizer.read("a")
    except Exception as error:  # a broken vocabulary raises whatever its parser raises
        raise ModelError(
            f"`{source.name}`: the tokenizer cannot be read: {one_line(error)}"
        ) from error
    if "a</w>" not in tokenizer.vocabulary or max(tokenizer.vocabulary.values()) >= known:
        raise ModelError(f"`{source.name}`: the tokenizer does not fit the text encoder")
    return tokenizer


def _unloadable(source: Source, part: str, error: Exception) -> ModelError:
    return ModelError(f"`{source.whose(part)}`: {part} cannot be loaded: {one_line(error)}")

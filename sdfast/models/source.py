"""What a model is made of, wherever its files lie: a folder, a single file, or shapes alone.

A `Source` is checked and says where each network's tensors are found and by which names. Whoever
loads or asks it never learns which kind it is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sdfast.canvas import own_size
from sdfast.errors import JobError, ModelError
from sdfast.fields import MOST_SIDE, enlarged_size
from sdfast.job import Job, Weights, read_job
from sdfast.models.layout import TAESD, TODAY, Layout
from sdfast.prompt import bare_words

_LITTLE_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the and or of in on at by to for from with without is are be it its my your his her
        our their this that these those some very into over under near as""",
    )
)
"""Words that name nothing one could fail to draw."""

_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""The files of a tokenizer, as transformers 5 writes it and as those before did."""


def holds_tokenizer(folder: Path) -> bool:
    """Whether the files of a tokenizer are there."""
    return any(all((folder / file).is_file() for file in form) for form in _TOKENIZERS)


DECODER = "decoder"
"""The network that makes pixels of latents, where it does not come with an encoder."""


class Part(NamedTuple):
    """One of the networks: how it is built, and the safetensors that its weights are read from."""

    config: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    layout: Layout = TODAY
    """How the tensors are called there."""
    full: tuple[Path, ...] = ()
    """The same weights in full precision, where they are there twice."""


class Lora(NamedTuple):
    """A file of low-rank changes, whole, and how strongly they count."""

    path: Path
    scale: float


class Embedding(NamedTuple):
    """A word that a file teaches the text encoders."""

    path: Path
    token: str
    rows: int
    """How many tokens it becomes."""
    tensors: Mapping[str, str]
    """The name of the tensor, [rows, width] or [width], for each text encoder."""


_BARE = Weights(None, (), (), None)


class Vocabulary(NamedTuple):
    """A folder that holds a tokenizer."""

    folder: Path
    pad: int | None = None
    """The token that fills up a prompt, where the files may say another."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model on disk, checked and ready to be loaded."""

    name: str
    path: Path
    """The folder or the file, absolute."""
    parts: Mapping[str, Part]
    """The networks: `unet`, `vae`, `text_encoder`, for XL `text_encoder_2`; perhaps `DECODER`."""
    vocabularies: tuple[Vocabulary, ...]
    """A tokenizer for each text encoder."""
    schedule: Mapping[str, Any]
    """The scheduler's config. A `prediction_type` of `unknown` is to be asked of the UNet."""
    size: tuple[int, int]
    """Width and height that the model was trained on, in pixels."""
    guidance: float
    variant: str | None = None
    """`fp16` where a folder's files carry it in their names."""
    things: int = 0
    """How many things a model can draw that knows its own bounds."""
    words: frozenset[str] = frozenset()
    """The words such a model was taught."""
    random: bool = False
    """Its weights are random: it has true shapes, takes true time and paints noise."""
    blank_is_zero: bool = False
    """An empty prompt is told as nothing at all, zeros, and not as what the words mean."""
    loras: tuple[Lora, ...] = ()
    """What is added to the weights as they are loaded."""
    embeddings: tuple[Embedding, ...] = ()
    """The words that it is taught besides."""
    worn: Weights = _BARE
    """The names of what is not its own: LoRAs, embeddings, the autoencoder."""
    checker: Path | None = None
    """What blackens pictures that should not be shown: a folder that holds `safety_checker` and
    `feature_extractor`, looked into when it is loaded."""
    lacks_checker: bool = False
    """It names one, of which there are no safetensors."""

    @property
    def xl(self) -> bool:
        """Whether it reads the prompt twice, as XL does."""
        return "text_encoder_2" in self.parts

    @property
    def guides_itself(self) -> bool:
        """Whether its UNet is told of the guidance, as that of a latent consistency model is."""
        return bool(self.parts["unet"].config.get("time_cond_proj_dim"))

    @property
    def texts(self) -> tuple[str, ...]:
        """The names of the text encoders."""
        return tuple(part for part in self.parts if part.startswith("text_encoder"))

    @property
    def is_bare(self) -> bool:
        """Whether its weights are all its own."""
        return self.worn == _BARE

    @property
    def decoder(self) -> str:
        """The name of the part that makes pixels of latents."""
        return DECODER if DECODER in self.parts else "vae"

    def whose(self, part: str) -> str:
        """The name of what brings a network: the model's own, or that of its autoencoder."""
        return self.name if part not in ("vae", DECODER) else self.worn.vae or self.name

    def config(self, part: str) -> Mapping[str, Any]:
        """The config of one of the networks."""
        return self.parts[part].config

    def strange_words(self, prompts: Iterable[str]) -> list[str]:
        """The words that mean nothing to a model which knows its own bounds."""
        said = re.findall(r"[^\W\d_]{2,}", " ".join(map(bare_words, prompts)).lower())
        taught = re.findall(r"[^\W\d_]{2,}", " ".join(e.token for e in self.embeddings).lower())
        known = self.words | _LITTLE_WORDS | set(taught)
        return [word for word in dict.fromkeys(said) if self.words and word not in known]

    def complete(self, job: Job) -> Job:
        """The job with what it leaves open filled in as the model would have it.

        Raises JobError for a picture to begin from that is none, and for one that would be too
        large.
        """
        own: dict[str, Any] = {"model": self.name, "size": self.size, "guidance": self.guidance}
        if job.init is not None:
            own["size"] = own_size(job)
        if job.hires is not None:
            own["size"] = enlarged_size(self.size, job.hires)
            if job.size is None and max(own["size"]) > MOST_SIDE:
                large = "{}x{}".format(*own["size"])
                raise JobError(
                    f"hires {job.hires:g} would be {large} pixels; a side has at most {MOST_SIDE}",
                    "--size says what to enlarge to",
                    key="hires",
                )
        if job.begins_from_picture:
            own["strength"] = job.how_strong
        return job.model_copy(update={k: v for k, v in own.items() if getattr(job, k) is None})


def trained_size(name: str, parts: Mapping[str, Part]) -> tuple[int, int]:
    """The pixels that networks of these configs were trained on. Raises ModelError."""
    try:
        side = int(parts["unet"].config["sample_size"]) * 2 ** halvings(parts["vae"].config)
        read_job({"prompt": "any", "size": (side, side)})
    except (KeyError, TypeError, ValueError, OverflowError, JobError) as error:
        raise ModelError(f"`{name}`: its configs give no size: {error}") from error
    return side, side


def halvings(vae: Mapping[str, Any]) -> int:
    """How often an autoencoder of this config halves a picture. Raises what a broken one raises."""
    if vae.get("_class_name") == TAESD:
        return len(vae.get("decoder_block_out_channels") or (64,) * 4) - 1
    return len(vae["block_out_channels"]) - 1


def own_guidance(name: str, said: Mapping[str, Any], usual: float) -> float:
    """How strongly to follow the prompt, unless told otherwise. Raises ModelError."""
    try:
        guidance = float(said.get("guidance", usual))
        read_job({"prompt": "any", "guidance": guidance})
    except (TypeError, ValueError, OverflowError, JobError) as error:
        raise ModelError(f"`{name}`: its configs give no guidance: {error}") from error
    return guidance

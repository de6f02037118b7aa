"""A model of random weights as a folder, so that diffusers can load what we load.

How long a picture takes does not depend on what the weights say, so a timing can do without
gigabytes from the Hub. Both sides load the same folder, as they would load a real one.
"""

import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from sdfast.models.find import find
from sdfast.models.layout import TAESD
from sdfast.models.libraries import quiet
from sdfast.models.networks.load import randomize
from sdfast.models.source import Source

_START, _END, _LIMIT = "<|startoftext|>", "<|endoftext|>", 77


@contextmanager
def written(names: Iterable[str]) -> Generator[dict[str, Path]]:
    """Folders of random models by their names, in half precision; they are gone afterwards."""
    with TemporaryDirectory(prefix="sdfast-bench-") as folder:
        folders = {name: Path(folder) / name.rpartition(":")[2] for name in dict.fromkeys(names)}
        for name, place in folders.items():
            write(find(name), place)
        yield folders


@quiet()
def write(source: Source, folder: Path) -> None:
    """The whole model, in diffusers' layout; the same bytes each time."""
    import diffusers
    import transformers

    library: Any = diffusers
    networks = unfilled(source)
    for network in networks.values():
        randomize(network, torch.device("cpu"), torch.half, lay_out=False)
    ends = ("", "_2") if source.xl else ("",)
    tokenizers = {
        f"tokenizer{end}": _tokenizer(transformers, folder / f"tokenizer{end}") for end in ends
    }
    scheduler = library.DDIMScheduler.from_config(dict(source.schedule))
    if source.xl:
        pipeline = library.StableDiffusionXLPipeline(
            **networks,
            **tokenizers,
            scheduler=scheduler,
            force_zeros_for_empty_prompt=source.blank_is_zero,
        )
    else:
        pipeline = library.StableDiffusionPipeline(
            **networks,
            **tokenizers,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder)


def unfilled(source: Source) -> dict[str, Any]:
    """The networks by the names of their folders, without memory for their weights."""
    import diffusers
    import transformers

    ours: Any = diffusers
    theirs: Any = transformers

    def encoder(end: str) -> Any:
        kind = theirs.CLIPTextModelWithProjection if end else theirs.CLIPTextModel
        return kind(theirs.CLIPTextConfig(**source.config(f"text_encoder{end}")))

    small = source.config("vae").get("_class_name") == TAESD
    vae = ours.AutoencoderTiny if small else ours.AutoencoderKL
    with torch.device("meta"):
        return {
            "unet": ours.UNet2DConditionModel.from_config(source.config("unet")),
            "vae": vae.from_config(source.config("vae")),
            **{f"text_encoder{e}": encoder(e) for e in (("", "_2") if source.xl else ("",))},
        }


def _tokenizer(transformers: Any, folder: Path) -> Any:
    """One token for each letter: there is nothing to merge."""
    folder.mkdir(parents=True)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [*map(chr, plain), *(chr(256 + i) for i in range(256 - len(plain)))]
    pieces = [*letters, *(letter + "</w>" for letter in letters), _START, _END]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return transformers.CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        unk_token=_END,
        bos_token=_START,
        eos_token=_END,
        pad_token=_END,
        model_max_length=_LIMIT,
    )

"""A picture from nothing: `sdfast gen` and a short script for diffusers, as processes in turns.

Each starts Python, imports, loads, paints one picture and writes it, with the same weights, noise,
steps, guidance and size. The script has `DPMSolverMultistepScheduler`, the nearest thing diffusers
has to what ours walks; it makes as many network calls.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from sdfast.bench.timing.entries import OURS, Entry, read_settings
from sdfast.bench.timing.laps import Event, race
from sdfast.bench.timing.processes import run
from sdfast.bench.timing.turn import Lap, others, spent
from sdfast.job import OF_ONE_PICTURE
from sdfast.machine import PRECISIONS
from sdfast.models.find import find
from sdfast.models.source import Source
from sdfast.presets import PRESET_KEYS, as_yaml

_SCRIPT = """\
import torch
from diffusers import DPMSolverMultistepScheduler, {kind}

pipe = {kind}.from_pretrained(
    {folder!r}, variant={variant!r}, torch_dtype={dtype}
)
pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
pipe.to({device}){tweaks}
image = pipe(
    {prompt!r},
    negative_prompt={negative!r},
    num_inference_steps={steps},
    guidance_scale={guidance},
    width={width},
    height={height},
    generator=torch.Generator().manual_seed({seed}),
).images[0]
image.save({out!r})
"""

_TWEAKS = {
    "channels_last": "\npipe.unet.to(memory_format=torch.channels_last)"
    "\npipe.vae.to(memory_format=torch.channels_last)",
    "fused": "\npipe.fuse_qkv_projections()",
    "compile": '\npipe.unet = torch.compile(pipe.unet, mode="max-autotune", fullgraph=True)'
    "\npipe.vae.decode = torch.compile("
    '\n    pipe.vae.decode, mode="max-autotune", fullgraph=True\n)',
}


def processes(entries: Sequence[Entry], device: str, runs: int, warmup: int) -> Iterator[Event]:
    """Let every row's process run in turns, in a folder that is gone afterwards."""
    with TemporaryDirectory(prefix="sdfast-bench-") as folder:
        programs = {
            entry: _program(entry, device, Path(folder) / f"{index}")
            for index, entry in enumerate(entries)
        }
        apart = {"SDFAST_CONFIG": folder, "XDG_RUNTIME_DIR": folder, "TMPDIR": folder}

        def turn(entry: Entry) -> tuple[Lap, None]:
            return _lap(programs[entry], apart), None

        yield from race(entries, turn, runs, warmup)


def _lap(words: Sequence[str], apart: dict[str, str]) -> Lap:
    """A process that finds nobody's settings, and no worker that holds the model already."""
    before = spent()
    ended = run(words, more=apart)
    after = spent()
    own = ended.user + ended.system + (after.user - before.user) + (after.system - before.system)
    busy = others(before, after, own)
    return Lap(ended.wall, ended.user, ended.system, busy, peak=ended.peak)


def _program(entry: Entry, device: str, place: Path) -> list[str]:
    """The command of a row; what it needs is written beside where its picture will stand."""
    if entry.family == OURS:
        return _gen(entry, device, place)
    source = find(entry.model, offline=True)
    text = script(entry, source, device, place.with_suffix(".png"))
    program = place.with_suffix(".py")
    program.write_text(text, encoding="utf-8")
    return [sys.executable, str(program)]


def _gen(entry: Entry, device: str, place: Path) -> list[str]:
    preset, job = place.with_suffix(".yaml"), entry.job.record | {"model": entry.model}
    settled = {key: value for key, value in job.items() if key in PRESET_KEYS}
    preset.write_text(as_yaml(settled), encoding="utf-8")
    own = (key for key in OF_ONE_PICTURE if key in job)
    return [
        *(sys.executable, "-P", "-m", "sdfast", "gen", entry.job.prompt, "-p", str(preset)),
        *(word for key in own for word in (f"--{key.replace('_', '-')}", f"{job[key]}")),
        *("--seed", f"{entry.job.seed}", "-o", str(place.with_suffix(".png"))),
        *("--exists", "overwrite", "--device", device, "--dtype", entry.dtype, "--offline"),
        *["--compile"] * entry.compiled,
    ]


def script(entry: Entry, source: Source, device: str, out: Path) -> str:
    """What somebody would write to paint this with diffusers."""
    job, settings = entry.job, read_settings(entry.family)
    width, height = job.size or (0, 0)
    return _SCRIPT.format(
        kind="StableDiffusionXLPipeline" if source.xl else "StableDiffusionPipeline",
        folder=str(source.path),
        variant=source.variant,
        dtype=f"torch.{PRECISIONS[settings.dtype]}",
        device=repr(device),
        tweaks="".join(_TWEAKS[tweak] for tweak in settings.tweaks),
        prompt=job.prompt,
        negative=job.negative,
        steps=job.sampler.calls,
        guidance=job.guidance,
        width=width,
        height=height,
        seed=job.seed,
        out=str(out),
    )

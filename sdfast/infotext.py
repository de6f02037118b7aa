"""The `parameters` text that AUTOMATIC1111's web UI writes into its PNGs, and others after it.

    a red balloon
    Negative prompt: clouds
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 1, Size: 512x768, ...

The prompt, perhaps a negative prompt, and one last line of pairs. Writing and reading follow the
web UI's modules/infotext_utils.py, so that what is written here is read there and the other way
round. A prompt line that starts with `Negative prompt:` is one thing the format cannot carry.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from sdfast.errors import JobError
from sdfast.fields import begun_size, enlarged_size, named
from sdfast.job import Job, Record, read_job, read_sampler
from sdfast.sampler_names import A1111, NOISY, a1111_name, nearest_walk
from sdfast.schedule_names import schedule_name
from sdfast.wording import last_part


class Infotext(NamedTuple):
    """What a `parameters` text says, as written."""

    prompt: str
    negative: str
    pairs: dict[str, str]


def write(job: Job, *, version: str, model: str | None, size: tuple[int, int]) -> str:
    """The text for a picture of this size; what the job leaves open is left out.

    `Steps` stands first, because sd-prompt-reader looks for it at the start of a line, and
    `Version` last. `RNG` says where the noise came from: `NV` is a GPU's, wherever it was drawn.
    """
    sampler, schedule = schedule_name(job.sampler)
    begun, hires = size, {}
    if job.hires is not None:
        begun, hires = _second_pass(size, job.hires, job.walked)
    pairs = {
        "Steps": job.sampler.steps,
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": None if job.guidance is None else str(job.guidance).removesuffix(".0"),
        "Guidance interval": job.record.get("guidance_interval"),
        "Guidance rescale": job.guidance_rescale,
        "Seed": job.seed,
        "Variation seed": job.variation_seed,
        "Variation seed strength": job.variation_strength,
        "Size": "{}x{}".format(*begun),
        "Denoising strength": f"{job.how_strong:g}" if job.begins_from_picture else None,
        **hires,
        "Model": model,
        "Clip skip": job.clip_skip if job.clip_skip != 1 else None,
        "LoRA": " ".join(map(last_part, job.lora)) or None,
        "Embeddings": ", ".join(named(text).token for text in job.embedding) or None,
        "VAE": None if job.vae is None else last_part(job.vae),
        "RNG": "NV" if job.rng == "cuda" else "CPU",
        "Version": f"sdfast {version}",
    }
    last = ", ".join(f"{k}: {_quoted(str(v))}" for k, v in pairs.items() if v is not None)
    negative = [f"Negative prompt: {job.negative}"] if job.negative else []
    return "\n".join([job.prompt, *negative, last])


_ENLARGED_BY = ("Lanczos", "None")
"""What the web UI calls that; to it, none is Lanczos, too."""


def _second_pass(
    size: tuple[int, int], hires: float, walked: int
) -> tuple[tuple[int, int], dict[str, str]]:
    """The size of the first pass, and what the web UI says of the one that enlarges to this."""
    begun = begun_size(size, hires)
    told = {"Hires resize": "{}x{}".format(*size)}
    if enlarged_size(begun, float(f"{hires:g}")) == size:
        told = {"Hires upscale": f"{hires:g}"}
    return begun, told | {"Hires steps": f"{walked}", "Hires upscaler": _ENLARGED_BY[0]}


def _quoted(value: str) -> str:
    """The value, as JSON where bare it would be read as something else."""
    bare = not set(value) & set(",:\n") and value == value.strip().strip('"')
    return value if bare else json.dumps(value, ensure_ascii=False)


# The web UI's own pattern without its leading `\s*`, which changes no match, and with a bound on
# the key: unbounded, a long line without a colon takes the square of its length.
_PAIR = re.compile(r'(\w[\w \-/]{1,80}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SDCPP_TAIL = re.compile(r"(Version: stable-diffusion\.cpp), SDCPP: \{.*")
"""stable-diffusion.cpp repeats itself in JSON on the same line, unquoted."""


def read(text: str) -> Infotext:
    """What the text says. Without at least three pairs its last line is prompt, too."""
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(_SDCPP_TAIL.sub(r"\1", last))
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    said: dict[str, list[str]] = {"prompt": [], "negative": []}
    part = "prompt"
    for line in map(str.strip, lines):
        if line.startswith("Negative prompt:"):
            part = "negative"
            line = line.removeprefix("Negative prompt:").strip()
        if line or said[part]:
            said[part].append(line)
    prompt, negative = ("\n".join(part) for part in said.values())
    return Infotext(prompt, negative, {key: _unquoted(value) for key, value in pairs})


def _unquoted(value: str) -> str:
    """A quoted value's content. Quotes may also be part of a name, as in `"x`."""
    if not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


_KEYS = {
    "Prompt": "prompt",
    "Negative prompt": "negative",
    "Steps": "steps",
    "CFG scale": "guidance",
    "Guidance interval": "guidance_interval",
    "Guidance rescale": "guidance_rescale",
    "Seed": "seed",
    "Size": "size",
    "Sampler": "sampler",
    "Clip skip": "clip_skip",
    "RNG": "rng",
}
_VARIED = {"Variation seed": "variation_seed", "Variation seed strength": "variation_strength"}
"""What means something together alone."""
_NOISE = {"CPU": "cpu", "GPU": "cuda", "NV": "cuda", "cuda": "cuda"}
"""Where the web UI's noise is from, and stable-diffusion.cpp's."""
_FOLLOWED = A1111 | NOISY
_TAKES_ETA = ("DPM++ 2S a", "DPM++ 2M SDE", "Euler a")
"""Where less noise than there could be is drawn here as there."""

_SAMPLERS: dict[tuple[str, str], str] = {
    **{said: a1111_name(*said) for said in _FOLLOWED},
    **{
        (a1111_name(name, kind), ""): a1111_name(name, kind)
        for name, kind in _FOLLOWED
        if kind in ("Karras", "Exponential", "SGM Uniform")
    },
    **{(name, ""): f"{name} Uniform" for name, _ in _FOLLOWED},
    ("dpm++2m discrete", ""): "DPM++ 2M Uniform",
    ("euler discrete", ""): "Euler",
    ("heun discrete", ""): "Heun",
    ("euler_a discrete", ""): "Euler a",
    ("euler_a karras", ""): "Euler a Karras",
    ("dpm++2m karras", ""): "DPM++ 2M Karras",
    ("dpm++2m exponential", ""): "DPM++ 2M Exponential",
    ("dpm++2m sgm_uniform", ""): "DPM++ 2M SGM Uniform",
}
"""The samplers that walk here as there, by the name and the schedule type that stand there.

The web UI writes the two apart since its version 1.9, and stable-diffusion.cpp joins them. A bare
name is from before 1.9 and spaced in the plain way. What a bare `dpm++2m` is has changed with
stable-diffusion.cpp's versions.
"""


def to_record(infotext: Infotext) -> tuple[Record, list[str]]:
    """The job's keys that the text gives, and the names of the pairs that sdfast cannot follow.

    A model's name means something only to the program that wrote it, so that of another program
    is among the names. So is a sampler that walks here otherwise than there; where there is one of
    that name, it is among the keys, too.
    """
    pairs = infotext.pairs
    heading = {"Prompt": infotext.prompt, "Negative prompt": infotext.negative}
    said = heading | pairs | heading  # the heading first, and not to be overruled by a pair
    schedule = said.pop("Schedule type", "") if "Sampler" in said else ""
    ours = pairs.get("Version", "").startswith("sdfast ")
    keys = _KEYS | {"Model": "model"} if ours else _KEYS
    record: Record = {"negative": ""}  # that none is given means that there is none
    unknown: list[str] = []
    for name, text in said.items():
        if not text or name == "Version":
            continue
        key = keys.get(name)
        if key == "sampler" and (text, schedule) not in _SAMPLERS:
            unknown.append(name)
            if not ours and (near := nearest_walk(text, schedule)):
                record[key] = near
        elif key is None or (value := _value(key, text, schedule)) is None:
            unknown.append(name)
        else:
            record[key] = value
    with suppress(JobError, KeyError, ValueError, ArithmeticError):
        second, followed = _of_second_pass(said, record)
        record |= second
        unknown = [*dict.fromkeys((*unknown, "Hires steps"))]  # that it says none says something
        unknown = [name for name in unknown if name not in followed]
    with suppress(JobError, KeyError):
        varied = {key: said[name] for name, key in _VARIED.items()}
        record |= {
            k: v for k, v in read_job({"prompt": "any", **varied}).record.items() if k in varied
        }
        unknown = [name for name in unknown if name not in _VARIED]
    for name in [name for name in _SHAPING if name in unknown]:
        with suppress(JobError):
            record |= _shaped(str(record.get("sampler")), name, said[name])
            unknown.remove(name)
    return record, unknown


def _of_second_pass(said: Mapping[str, str], record: Record) -> tuple[Record, set[str]]:
    """The keys of the web UI's hires fix, and the names of what they follow.

    The web UI takes as many steps in it as in the first, unless it says how many, and spreads a
    whole walk's so that they are its last.

    Raises JobError, KeyError, ValueError or ArithmeticError where there is none, or none that is so
    here.
    """
    begun = read_job({"prompt": "any", "size": record["size"]}).size
    assert begun is not None
    if "Hires resize" in said:
        width, height = map(int, said["Hires resize"].lower().split("x"))
        width = width or begun[0] * height // begun[1]
        height = height or begun[1] * width // begun[0]
        size = width // 8 * 8, height // 8 * 8
        ratios = [larger / side for larger, side in zip(size, begun, strict=True)]
    else:
        ratios = [float(said["Hires upscale"])]
        size = enlarged_size(begun, ratios[0])
    hires = next((ratio for ratio in ratios if begun_size(size, ratio) == begun), 0.0)
    keys = {"size": size, "hires": hires, "strength": said["Denoising strength"]}
    job = read_job({**record, "prompt": "any", **keys})
    followed = {"Hires resize", "Hires upscale", "Denoising strength"}
    if said.get("Hires upscaler") in _ENLARGED_BY:
        followed.add("Hires upscaler")
    steps = said.get("Hires steps", "0")
    if f"{job.walked}" == (f"{job.sampler.steps}" if steps == "0" else steps):
        followed.add("Hires steps")
    return {key: job.record[key] for key in keys}, followed


_SHAPING = {"Schedule rho": "rho", "Eta": "eta"}
"""What the web UI says of a sampler besides its name, and the key."""


def _shaped(sampler: str, name: str, value: str) -> Record:
    """The keys of a sampler that differs so. Raises JobError if it does not here as there."""
    keys: Record = {"sampler": sampler}
    if name == "Eta":
        if not sampler.startswith(_TAKES_ETA):
            raise JobError("walks otherwise")
        if sampler.startswith("Euler a"):  # DDPM has no eta: with one it is DDIM
            keys = {"sampler": "ddim", "spacing": read_sampler(keys).spacing}
    key = _SHAPING[name]
    return keys | {key: getattr(read_sampler(keys | {key: value}), key)}


def _value(key: str, text: str, schedule: str) -> Any:
    """The text as the job's value; None where it cannot be one."""
    if key == "sampler":
        return _SAMPLERS.get((text, schedule))
    if key == "rng":
        return _NOISE.get(text)
    try:
        return read_job({"prompt": "any", key: text}).record[key]
    except JobError:
        return None

"""What is wrong with a value, in a person's words.

Every complaint names the key, what it may be and what came; where a word is near to a known one,
the hint says so.
"""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from sdfast.errors import JobError, printable


def near(word: str, known: Sequence[str]) -> str:
    """A hint that names the likeliest of the known words; none where none is like it."""
    lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(word.strip("`").lower(), lower, n=1, cutoff=0.6)
    return f"did you mean `{lower[close[0]]}`?" if close else ""


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint that names the likeliest of the known words, or all of them."""
    return near(word, known) or _listed(known)


def _listed(known: Sequence[str]) -> str:
    return "known are " + ", ".join(f"`{k}`" for k in known) if known else ""


_ELSEWHERE = {
    "guidance": ("cfg", "cfg_scale", "scale", "guidance_scale"),
    "size": ("width", "height", "resolution"),
    "steps": ("num_inference_steps", "sampling_steps", "sample_steps"),
    "negative": ("negative_prompt", "neg_prompt"),
    "sampler": ("scheduler", "sampler_name", "sampling_method"),
    "strength": ("denoise", "denoising_strength"),
    "variation_seed": ("subseed",),
    "variation_strength": ("subseed_strength", "variation"),
    "hires": ("hr_scale", "hires_upscale", "upscale"),
    "init": ("image", "init_image", "init_img"),
    "n": ("count", "batch_count", "num_images"),
}
"""Keys by the names that other programs give them."""


def near_key(word: str, known: Sequence[str]) -> str:
    """As `near`, for a key that may be another program's."""
    for ours, theirs in _ELSEWHERE.items():
        if word.lower() in theirs and ours in known:
            return f"that is `{ours}` here"
    return near(word, known)


def nearest_key(word: str, known: Sequence[str]) -> str:
    """As `nearest`, for a key that may be another program's."""
    return near_key(word, known) or _listed(known)


def quoted(value: Any) -> str:
    """What the user typed, in backticks and not too long."""
    if isinstance(value, tuple):  # a flag that was given several times
        return quoted(", ".join(map(str, cast("tuple[Any, ...]", value))))
    try:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    except ValueError:  # Python writes out no integer of more than 4300 digits
        text = "a number of thousands of digits"
    text = " ".join(printable(text).split())
    return f"`{text[:57] + '...' if len(text) > 60 else text}`"


def last_part(path: str) -> str:
    """What a path of any system's ends with: the name of a file or a folder."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def from_home(path: str) -> str:
    """A path below the home folder as `~/...`, which tells nobody's name; any other as it is."""
    home = os.path.expanduser("~")  # noqa: PTH111 - there may be none
    for each in (home, os.path.realpath(home)):  # where home is a link, one stands in the latter
        above = each.rstrip(os.sep)
        if above and path.startswith(above + os.sep):
            return f"~{path[len(above) :]}"
    return path


def shortened(text: str, most: int = 40) -> str:
    """A line of at most so many characters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


def in_our_words(
    error: ValidationError,
    values: Mapping[str, Any],
    *,
    samplers: Sequence[str],
    spacings: Sequence[str],
) -> JobError:
    """What a schema found wrong with the values, as one line that names the key.

    `samplers` are the names a sampler may go by besides its own, `spacings` those of another key.
    """
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["loc"] and e["loc"][0] in values), errors[0])
    field = str(first["loc"][0]) if first["loc"] else ""
    key = "sampler" if field == "solver" else field  # as it is typed
    came, context, hint = quoted(values.get(field)), first.get("ctx", {}), ""
    match first["type"]:
        case "literal_error":
            known = re.findall(r"'([^']+)'", str(context["expected"]))
            is_name = key in ("sampler", "spacing", "method")
            problem = f"there is no {key} {came}" if is_name else f"{key} cannot be {came}"
            hint = (
                _nearest_sampler(came, known, samplers, spacings)
                if key == "sampler"
                else nearest(came, known)
            )
        case (
            "greater_than"
            | "greater_than_equal"
            | "less_than_equal"
            | "less_than"
            | "too_short"
            | "too_long"
        ):
            problem = f"{key} must be {_RANGES[key]}, not {came}"
        case "string_too_short":
            problem = f"{key} must not be empty"
        case "string_unicode":
            shown = quoted(ascii(values.get(field))[1:-1])
            problem = f"{key} must be text, and {shown} holds bytes or halves that are none"
        case "string_too_long":
            problem = f"{key} is longer than {context['max_length']} characters"
        case "value_error" if not key:
            problem = str(context["error"])
        case "value_error":
            problem = f"{key} {context['error']}" + (f", not {came}" if came != "``" else "")
        case "missing":
            problem = f"{key} must be given"
        case kind:
            problem = f"{key} must be {_wanted(kind)}, not {came}"
    return JobError(problem, hint, key=key)


def _nearest_sampler(
    came: str, known: Sequence[str], samplers: Sequence[str], spacings: Sequence[str]
) -> str:
    if (spacing := came.strip("`").lower()) in spacings:
        return f"that is a spacing: --spacing {spacing}"
    others = "other programs' names: `sdfast samplers` lists them"
    return near(came, [*known, *samplers]) or f"{_listed(known)}, and {others}"


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "finite_number": "a finite number",
}


def _wanted(kind: str) -> str:
    return next((words for start, words in _KINDS.items() if kind.startswith(start)), "valid")


_RANGES = {
    "steps": "from 1 to 1000",
    "order": "1, 2 or 3",
    "rho": "from 0.5 to 20",
    "alpha": "from 0.1 to 10",
    "beta": "from 0.1 to 10",
    "seed": f"from 0 to {2**64 - 1}",
    "variation_seed": f"from 0 to {2**64 - 1}",
    "variation_strength": "from 0 to 1",
    "guidance": "from 0 to 100",
    "guidance_rescale": "from 0 to 1",
    "clip_skip": "from 1 to 100",
    "eta": "from 0 to 2",
    "thresholding": "from 0.5 to 1",
    "hires": "from 1 to 8",
    "strength": "above 0 and at most 1",
    "tolerance": "from 0.000001 to 1",
    "lora": "at most 64 files",
    "embedding": "at most 64 files",
    "timesteps": "1 to 1000 times of at least 0",
    "corrections": "a row a step, of 2 to 6 numbers",
}

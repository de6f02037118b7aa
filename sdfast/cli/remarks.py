"""What is worth knowing of a picture, and is no error. An empty text is nothing to say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdfast.errors import printable

if TYPE_CHECKING:
    from sdfast.job import Job
    from sdfast.models.source import Source

_MOST = 5
"""Pieces of prompts that one remark lists."""
_MILD = 2.0
"""Consistency models have learned their guidance; much more on top of it burns the picture."""


def of_jobs(found: Source | None, jobs: Sequence[Job]) -> dict[str, str]:
    """What is worth knowing of complete jobs, by its kind; of their model too, where it is here."""
    said = {"syntax": not_followed(jobs), "unsaid": unsaid(jobs)}
    if found is None:
        return said
    return {
        "words": strange_words(found, jobs),
        **said,
        "promptless": promptless(found, jobs),
        "unguided": without_guidance(found, jobs),
        "consistency": of_consistency(found, jobs),
    }


def strange_words(found: Source, jobs: Sequence[Job]) -> str:
    """Words that a model of few words was not taught."""
    from sdfast.wording import shortened

    strange = found.strange_words(job.prompt for job in jobs)
    if not strange:
        return ""
    listed = ", ".join(f'"{shortened(word)}"' for word in strange)
    are = "is" if len(strange) == 1 else "are"
    return f"{found.name} knows {found.things} things; {listed} {are} not among them"


def not_followed(jobs: Sequence[Job]) -> str:
    """The web UI's syntax that is read as words."""
    from sdfast import prompt

    others = prompt.not_followed(text for job in jobs for text in (job.prompt, job.negative))
    listed = ", ".join(f"`{printable(text[:60])}`" for text in others[:_MOST])
    if not listed:
        return ""
    way = "; --lora FILE:SCALE applies one, and `loras: FOLDER` in config.yaml lets prompts do so"
    way *= any("<lora:" in job.prompt for job in jobs)
    return f"read as words and not followed: {listed}{way}"


def promptless(found: Source, jobs: Sequence[Job]) -> str:
    """That a guidance of 0, which elsewhere is none, leaves the prompt out here."""
    if found.guides_itself or all(job.guidance != 0 or job.guidance_interval for job in jobs):
        return ""
    return "guidance 0 leaves the prompt out; 1 is without guidance, as 0 is in diffusers"


def without_guidance(found: Source, jobs: Sequence[Job]) -> str:
    """What of a job counts only where there is guidance."""
    plain = [] if found.guides_itself else [job for job in jobs if job.guidance == 1]
    unused = {
        "the negative prompt": any(job.negative for job in plain),
        "the guidance interval": any(job.guidance_interval for job in plain),
        "the guidance rescale": any(job.guidance_rescale for job in plain),
    }
    listed = ", ".join(what for what, is_given in unused.items() if is_given)
    return f"guidance 1 is without guidance; not used there: {listed}" if listed else ""


def of_consistency(found: Source, jobs: Sequence[Job]) -> str:
    """What consistency models cannot bear, or have no use for."""
    if not found.guides_itself:
        most = max((job.guidance or 0 for job in jobs if job.sampler.solver == "lcm"), default=0)
        return f"`lcm` is for a guidance of 1 to {_MILD:g}, not {most:g}" if most > _MILD else ""
    told = {
        "--sampler LCM -s 4 is what it is made for": any(j.sampler.solver != "lcm" for j in jobs),
        "it hears of no negative prompt": any(j.negative for j in jobs),
        "no interval of guidance counts": any(j.guidance_interval for j in jobs),
        "its guidance is not rescaled": any(j.guidance_rescale for j in jobs),
        "it has learned a guidance from 1 on": any((j.guidance or 0) < 1 for j in jobs),
    }
    listed = "; ".join(text for text, holds in told.items() if holds)
    return f"{found.name} is a latent consistency model: {listed}" if listed else ""


def unsaid(jobs: Sequence[Job]) -> str:
    """Embeddings whose words stand in no prompt."""
    taught = dict.fromkeys(file for job in jobs for file in job.embedding)
    if not taught:
        return ""
    from pathlib import Path

    from sdfast.fields import named
    from sdfast.models.learned import Learned
    from sdfast.models.source import Embedding

    words = Learned([Embedding(Path(path), word, 1, {}) for path, word in map(named, taught)])
    prompts = dict.fromkeys(text for job in jobs for text in (job.prompt, job.negative))
    missing = words.unsaid(prompts)
    if not missing:
        return ""
    listed = ", ".join(f"`{printable(word[:60])}`" for word in missing[:_MOST])
    escaped = "; a backslash goes before each bracket" * bool(re.search(r"[()\[\]]", listed))
    return f"not used, as no prompt has the word: embedding {listed}{escaped}"


def trained_smaller(found: Source, prediction: str) -> str:
    """That a file of 2.x has turned out as one of those which were trained on smaller pictures."""
    from sdfast.models.single import SMALLER

    asked = found.schedule.get("prediction_type") == "unknown"
    if not asked or prediction != "epsilon" or max(found.size) <= SMALLER:
        return ""
    return f"{found.name} predicts noise, as 2.x trained on {SMALLER}x{SMALLER} does; see --size"


def decoded_again(again: bool) -> str:
    return "half precision overflowed; the picture was decoded again in float32" if again else ""


def in_tiles(tiles: int) -> str:
    return f"decoded in {tiles} tiles, as the memory is short" if tiles > 1 else ""


def blackened(flagged: bool | None, seed: int) -> str:
    if not flagged:
        return ""
    return (
        f"the model's safety checker flagged the picture of seed {seed}, which is black now; "
        "--no-safety paints without it"
    )


def lacks_checker(found: Source) -> str:
    """That a model comes with a safety checker which cannot be asked."""
    if not found.lacks_checker:
        return ""
    from sdfast.models.cache import cache_folder

    told = f"{found.name} names a safety checker and has no safetensors of it; none is asked"
    if cache_folder().absolute() not in found.path.parents:
        return told
    return f"{told} (`sdfast models pull {found.name}` fetches them, if the Hub has any)"

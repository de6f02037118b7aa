"""What is worth knowing of a picture, and is no error. An empty text is nothing to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdfast.job import Job
    from sdfast.models.source import Source

_MOST = 5
"""Pieces of prompts that one remark lists."""


def strange_words(found: Source, jobs: Sequence[Job]) -> str:
    """Words that a model of few words was not taught."""
    strange = found.strange_words(job.prompt for job in jobs)
    if not strange:
        return ""
    listed = ", ".join(f'"{word}"' for word in strange)
    are = "is" if len(strange) == 1 else "are"
    return f"{found.name} knows {found.things} things; {listed} {are} not among them"


def not_followed(jobs: Sequence[Job]) -> str:
    """The web UI's syntax that is read as words."""
    from sdfast import prompt
    from sdfast.errors import printable

    others = prompt.not_followed(text for job in jobs for text in (job.prompt, job.negative))
    listed = ", ".join(f"`{printable(text[:60])}`" for text in others[:_MOST])
    return f"read as words and not followed: {listed}" if listed else ""


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


def unchecked(found: Source) -> str:
    """That a model comes with a safety checker which cannot be asked."""
    if not found.lacks_checker:
        return ""
    return f"{found.name} names a safety checker and has no safetensors of it; none is asked"

"""What a picture's file is called, and how it comes to its name.

A template such as `{slug}-{seed}.png` is filled in with words about the picture. The words may
come from anywhere, so none of them can hold a separator, start with a dot or grow without end:
only the template itself leads into a folder. What happens when the name is taken is `Exists`: a
file appears under its name complete or not at all, and takes nobody's place unless told to.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import count
from pathlib import Path

from sdfast.errors import UsageError
from sdfast.job import Job
from sdfast.schedule_names import schedule_name
from sdfast.wording import last_part, nearest
from sdfast.writing import draft_beside, drafted, is_void, took, unwritable

TEMPLATE = "{slug}-{seed}.png"
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class Exists(StrEnum):
    """What to do when a file of that name is already there."""

    RENAME = "rename"
    """Take the next free of `-2`, `-3`, ..."""
    SKIP = "skip"
    OVERWRITE = "overwrite"
    ERROR = "error"


def digest(job: Job) -> str:
    """64 hex digits that name the job: equal jobs have equal ones."""
    record = json.dumps(job.record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(record.encode()).hexdigest()


_FOLDS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe"}
    | dict.fromkeys("'\u2019", "")
)
"""Latin letters that Unicode does not take apart, and apostrophes, which do not part words."""


def slug(prompt: str) -> str:
    """The prompt as at most 60 lower-case letters, digits and hyphens, cut between words.

    A prompt without any Latin letter is told from others by six digits of its hash.
    """
    apart = unicodedata.normalize("NFKD", prompt[:1000].casefold().translate(_FOLDS))
    plain = "".join(c for c in apart if not unicodedata.combining(c))
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if not words:
        return f"picture-{hashlib.sha256(prompt.encode()).hexdigest()[:6]}"
    if len(words) > 60:
        words = words[:61].rpartition("-")[0] or words[:60]
    return words


def fields(job: Job, now: datetime, preset: str = "", i: int = 1, n: int = 1) -> dict[str, str]:
    """A word for each field; `i` of `n` is padded, so that names sort as they were made."""
    width, height = job.size or (0, 0)
    sampler, spacing = schedule_name(job.sampler)
    return {
        "slug": slug(job.prompt),
        "seed": str(job.seed),
        "i": str(i).zfill(len(str(n))),
        "n": str(n),
        "steps": str(job.sampler.steps),
        "guidance": "" if job.guidance is None else f"{job.guidance:g}",
        "sampler": sampler.lower(),
        "spacing": spacing.lower(),
        "model": last_part(job.model or ""),
        "preset": preset,
        "w": str(width),
        "h": str(height),
        "date": now.strftime("%Y-%m-%d"),
        "time": now.strftime("%H-%M-%S"),
        "key": digest(job)[:8],
    }


_PLAIN = re.compile(r"(.*[/\\])?[^-/\\.{}][^/\\.{}]*")
"""A name without an ending and without fields in its last part."""


def as_folder(out: str) -> str:
    """Where many pictures go: a plain name is a folder, there or not."""
    try:
        is_file = Path(out).expanduser().is_file()
    except (OSError, RuntimeError):  # which is told when something is to be written there
        is_file = False
    return f"{out}/" if _PLAIN.fullmatch(out) and not is_file else out


def folder_of(out: str) -> str:
    """The folder that pictures go to, without what they are called there."""
    folder = as_folder(out)
    is_name = Path(folder).suffix.lower() in ENDINGS and not folder.endswith(("/", os.sep))
    return f"{Path(folder).parent}/" if is_name else folder


def destination(out: str | None, words: Mapping[str, str], template: str = TEMPLATE) -> Path:
    """Where `-o` says the picture goes: a folder, a file or a template; without it, here.

    In a folder it is called by the other `template`.
    """
    try:
        place = Path(out or "").expanduser()
        if place.is_dir():
            return place / _filled(template, words)
    except (OSError, RuntimeError) as error:  # no such user's home, no way in, too long
        raise unwritable(Path(out or "."), error) from error
    if "\0" in str(place):
        raise UsageError("a file name cannot hold a NUL character")
    if str(out).endswith(("/", os.sep)):
        return Path(_filled(str(place), words)) / _filled(template, words)
    if place.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"`{out}` is neither a folder nor the name of a PNG, JPEG or WebP",
            "end a new folder with `/` and a file with `.png`, `.jpg` or `.webp`",
        )
    return Path(_filled(str(place), words))


def _filled(template: str, words: Mapping[str, str]) -> str:
    """The template with each `{field}` filled in."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            name, colon, _ = match[1].partition(":")
            plain = colon and name in words
            hint = f"fields take no format: `{{{name}}}`" if plain else nearest(name, [*words])
            raise UsageError(f"there is no field `{match[0]}`", hint)
        return _harmless(words[match[1]])

    return re.sub(r"\{([^{}]*)\}", word, template)


_DEVICE = re.compile(r"^(con|prn|aux|nul|com[1-9]|lpt[1-9])(?=\.|$)", re.IGNORECASE)


def _harmless(word: str) -> str:
    """The word as a part of a file name on any system; Windows has devices of some names."""
    plain = re.sub(r"[^\w.+-]+", "-", word, flags=re.ASCII).strip(".-")[:60] or "none"
    return _DEVICE.sub(r"\1-", plain)


def _free(path: Path) -> bool:
    """Whether nothing has the name, not even a link that leads nowhere."""
    try:
        return not (path.is_symlink() or path.exists())
    except OSError as error:
        raise unwritable(path, error) from error


def settle(path: Path, exists: Exists, take: Callable[[Path], bool] = _free) -> Path | None:
    """Where to write under the policy; None is nowhere, as the picture is there to be kept.

    Somebody may take the name a moment later. Who must be sure gives a `take` that does, and tells.
    """
    match exists:
        case Exists.OVERWRITE:
            return path
        case Exists.RENAME:
            return next(filter(take, _numbered(path)))
        case Exists.SKIP:
            return path if take(path) or (take is _free and is_void(path)) else None
        case Exists.ERROR:
            if take(path):
                return path
            raise exists_already(path)


def _numbered(path: Path) -> Iterator[Path]:
    """The name itself, and then with numbers, from the end of those that are taken on.

    That is looked for in leaps, as there may be thousands; a gap before may stay one.
    """

    def named(number: int) -> Path:
        return path.with_stem(f"{path.stem}-{number}")

    def is_there(number: int) -> bool:
        with suppress(UsageError):  # a name that is too long: nearer ones may do
            return not _free(named(number))
        return False

    yield path
    taken, free = 1, 2
    while is_there(free):
        taken, free = free, 2 * free
    while free - taken > 1:
        middle = (taken + free) // 2
        taken, free = (middle, free) if is_there(middle) else (taken, middle)
    yield from map(named, count(free))


def keep(data: bytes, path: Path, *, exists: Exists, draft: Path | None = None) -> Path | None:
    """Write a whole file; where it went, or None if it was skipped as already there.

    `draft` is where it is written before it has its name, a place that nobody else writes to.
    Missing folders are made. Raises UsageError if the place cannot be written, and then, as after
    an interrupt, leaves no file behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if draft is None:
            draft = draft_beside(path)
        else:
            draft.unlink(missing_ok=True)  # of a run that was killed
        with drafted(data, draft):
            if exists is Exists.OVERWRITE or (exists is Exists.SKIP and is_void(path)):
                return draft.replace(path)
            return settle(path, exists, partial(took, draft))
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def exists_already(path: Path) -> UsageError:
    """The error for a name that is taken and was to be free."""
    hint = "`--exists` can also be `rename`, `skip` or `overwrite`"
    return UsageError(f"`{path}` exists", hint)

"""A finished picture in a file, with the recipe in it that makes it again."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from sdfast import __version__, image_files, recipes
from sdfast.config import lasting_name
from sdfast.events import Finished
from sdfast.job import Job
from sdfast.naming import Exists, destination, fields, keep


def save(
    picture: Finished,
    out: str | Path,
    *,
    exists: Exists | str = Exists.RENAME,
    metadata: bool = True,
) -> Path:
    """Write a picture as `sdfast gen` does, whole or not at all; where it is then.

    out        as `gen -o` has it: a file's name that ends in .png, .jpg or .webp, a template of
               one, or a folder, which ends in a slash where there is none yet
    exists     if that name is taken: `rename` takes the next free of `-2`, `-3`, ..., and there are
               `skip`, `overwrite` and `error`
    metadata   whether the recipe goes into the file, which `read_recipe` and `gen --from` read

    Raises UsageError for a name that will not do, a place that cannot be written and a recipe that
    is too long for the format.
    """
    job = picture.job.model_copy(update={"size": picture.image.size})  # it may have been cut
    place = destination(str(out), fields(job, datetime.now()))
    texts = recipe_of(picture.job) if metadata else {}
    image_files.check_room(texts, place, picture.image.size)
    file = image_files.encode(picture.image, texts, place)
    return keep(file, place, exists=Exists(exists)) or place


def recipe_of(job: Job, aliases: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a picture's file tells of a complete job; of a person's alias, what it stands for."""
    assert job.size is not None
    model = lasting_name(job.model, aliases or {})
    return recipes.texts_of(job, version=__version__, model=model, size=job.size)

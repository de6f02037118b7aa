"""The picture that a job begins from, and the mask of what to repaint.

Files from anywhere: each is checked before it is unpacked, and what is wrong with it is told in one
line. Any format that Pillow reads will do, whatever its mode, turned the way its camera was held.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdfast.errors import JobError
from sdfast.fields import LEAST_SIDE, MOST_SIDE

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdfast.job import Job

_MOST_PIXELS = 100_000_000
"""A picture of more is not unpacked: a file of some kilobytes can claim any number."""
_RUNS_PROGRAMS = ("EPS",)
"""Formats that Pillow hands to another program."""
_STEP = 8
"""Pixels that sides are multiples of."""
_MISSING = "does not exist"
PIPED = "piped-"
"""How the name of a file begins that a picture from a pipe is put into."""
_DARK = 128
"""A mask's grey from which on its pixel is repainted."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a picture is painted over, of the job's size."""

    picture: Image
    """RGB."""
    mask: Image | None
    """L: white is repainted, black stays, and grey is mixed where the picture is pasted together.
    None repaints all."""

    def pasted(self, painted: Image) -> Image:
        """The painted picture, every pixel outside the mask as it was."""
        if self.mask is None:
            return painted
        from PIL import Image

        return Image.composite(painted, self.picture, self.mask)

    def repainted(self) -> Image | None:
        """The mask in black and white."""
        if self.mask is None:
            return None
        return self.mask.point([0] * _DARK + [255] * (256 - _DARK))


def own_size(job: Job) -> tuple[int, int] | None:
    """The size that a job's picture asks for: its own, each side the nearest multiple of 8.

    None without a picture. Raises JobError if there is no such picture, or it is too large.
    """
    if job.init is None:
        return None
    width, height = file_size(job.init)
    if job.mask is not None:
        file_size(job.mask)
    larger = max(1.0, LEAST_SIDE / min(width, height))
    near = [max(LEAST_SIDE, round(side * larger / _STEP) * _STEP) for side in (width, height)]
    if job.size is None and max(near) > MOST_SIDE:
        raise JobError(
            f"`{job.init}` would be {near[0]}x{near[1]} pixels; a side has at most {MOST_SIDE}",
            "--size says what to paint it as",
            key="init",
        )
    return near[0], near[1]


def file_size(path: str) -> tuple[int, int]:
    """Width and height of a picture as it is to be looked at. Raises JobError."""
    with _opened(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (height, width) if turned else (width, height)


def read_canvas(job: Job) -> Canvas | None:
    """The job's picture and mask, scaled to cover its size and cut around the middle.

    Raises JobError for files that are no whole picture, for a mask of another shape than the
    picture's and for one that repaints nothing.
    """
    if job.init is None:
        return None
    assert job.size is not None
    from PIL import ImageOps

    with _opened(job.init) as image:
        whole = _rgb(ImageOps.exif_transpose(image))
    picture = covering(whole, job.size)
    if job.mask is None:
        return Canvas(picture, None)
    with _opened(job.mask) as image:
        mask = _rgb(ImageOps.exif_transpose(image), behind="black").convert("L")
    if abs(mask.width * whole.height - mask.height * whole.width) > max(*mask.size, *whole.size):
        shapes = "{}x{} pixels where the picture has {}x{}".format(*mask.size, *whole.size)
        raise JobError(f"`{job.mask}` has another shape: {shapes}", key="mask")
    fitted = ImageOps.fit(mask.resize(whole.size), job.size)
    canvas = Canvas(picture, fitted)
    if not any(fitted.histogram()[_DARK:]):
        raise JobError(f"`{job.mask}` leaves nothing to repaint", "white is repainted", key="mask")
    return canvas


def covering(picture: Image, size: tuple[int, int]) -> Image:
    """The picture scaled to cover this width and height and cut around its middle."""
    from PIL import Image, ImageOps

    return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)


@contextmanager
def _opened(path: str) -> Generator[Image]:
    """A picture's file, nothing unpacked yet. Whatever goes wrong in here is a JobError."""
    from PIL import Image, UnidentifiedImageError

    def bad(what: str) -> JobError:
        if not Path(path).name.startswith(PIPED):
            hint = "--init and --mask take pictures: PNG, JPEG, WebP, ..."
            return JobError(f"`{path}` {what}", hint)
        if what == _MISSING:
            return JobError("a picture that came through a pipe is not kept", "name one again")
        return JobError(f"what came through a pipe {what}", "--init and --mask take pictures")

    try:
        file = Path(path).expanduser()
        if not file.is_file():
            raise bad("is not a file" if file.exists() else _MISSING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                if image.format in _RUNS_PROGRAMS:
                    raise bad(f"is {image.format}, which takes another program to read")
                if image.width * image.height > _MOST_PIXELS:
                    size = f"{image.width}x{image.height}"
                    raise bad(f"claims {size} pixels, more than {_MOST_PIXELS // 10**6} million")
                yield image
    except JobError:
        raise
    except UnidentifiedImageError as error:
        raise bad("is no picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise bad(f"claims more than {_MOST_PIXELS // 10**6} million pixels") from error
    except OSError as error:
        raise bad(f"cannot be read: {str(error.strerror or error).lower()}") from error
    except Exception as error:  # a broken file raises whatever its decoder raises
        raise bad("is damaged") from error


def _rgb(image: Image, behind: str = "white") -> Image:
    """Any picture in three channels of 8 bits, what is transparent laid over a colour."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    above = image.convert("RGBA")
    ground = Image.new("RGBA", above.size, behind)
    return Image.alpha_composite(ground, above).convert("RGB")


def _eight_bits(image: Image) -> Image:
    """Grey of 16 bits, of 32, or of numbers up to 1, in 8 bits; Pillow alone would clip it."""
    import numpy as np
    from PIL import Image

    values = np.array(image, np.float32)
    np.nan_to_num(values, copy=False)
    most = 65535.0
    if image.mode == "F":
        most = 1.0 if values.max(initial=0) <= 1 else 255.0
    values *= 255 / most
    return Image.fromarray(values.clip(0, 255, out=values).round(out=values).astype(np.uint8))

"""Pictures in a terminal: by its own graphics where it has some, else in half-blocks of colour."""

from __future__ import annotations

import base64
import shutil
import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from itertools import repeat
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

if TYPE_CHECKING:
    from PIL.Image import Image

Graphics = Literal["kitty", "iterm", "blocks", "none"]

_CHUNK = 4096
"""Letters of a picture that kitty's protocol takes at once."""
_HALF = "\u2580"
"""The upper half of a cell, in the colour of letters; the lower is in that of the background."""


class Room(NamedTuple):
    """How large a terminal's window is."""

    columns: int
    rows: int
    width: int = 0
    height: int = 0
    """In pixels; 0 where the terminal does not say."""


def draw(image: Image, stream: TextIO, environment: Mapping[str, str], *, colour: bool) -> str:
    """Draw a picture as large as it is, or as fits the window; why not, or nothing."""
    if not stream.isatty():
        return "stderr is no terminal"
    graphics = graphics_of(environment)
    if graphics == "none" or (graphics == "blocks" and not _spells_blocks(stream)):
        return "this terminal has neither graphics nor half-blocks"
    if graphics == "blocks" and (not colour or environment.get("NO_COLOR")):
        return "colours are off"
    room = _room(stream)
    if graphics == "blocks":
        deep = environment.get("COLORTERM") in ("truecolor", "24bit")
        stream.writelines(in_blocks(image, room, deep=deep))
    else:
        stream.writelines(_DRAWN[graphics](_as_png(_inside(image, room))))
    stream.flush()
    return ""


def graphics_of(environment: Mapping[str, str]) -> Graphics:
    """What a terminal draws with, by what it says of itself. Multiplexers pass no graphics on."""
    term = environment.get("TERM", "")
    if term in ("", "dumb"):
        return "none"
    within = {"TMUX", "STY", "ZELLIJ"} & environment.keys()
    if within or term.startswith(("screen", "tmux")):
        return "blocks"
    program = environment.get("TERM_PROGRAM", "")
    if "kitty" in term or "ghostty" in term or program in ("ghostty", "WezTerm"):
        return "kitty"
    if program in ("iTerm.app", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return "blocks"


def in_blocks(image: Image, room: Room, *, deep: bool) -> Iterator[str]:
    """Lines of half-blocks, two pixels a cell, in 2^24 colours or in 256."""
    small = image.convert("RGB")
    small.thumbnail((room.columns, 2 * max(1, room.rows - 2)))
    ink = _deep if deep else _of_256
    width, raw = small.width, small.tobytes()
    inks = [ink(raw[at : at + 3]) for at in range(0, len(raw), 3)]
    for top in range(0, len(inks), 2 * width):
        upper, lower = inks[top : top + width], inks[top + width : top + 2 * width]
        under = (f"48;{one}" for one in lower) if lower else repeat("49")  # as the window is
        cells = zip(upper, under, strict=False)
        yield "".join(f"\x1b[38;{one};{other}m{_HALF}" for one, other in cells) + "\x1b[0m\n"


def _deep(pixel: bytes) -> str:
    return "2;{};{};{}".format(*pixel)


def _of_256(pixel: bytes) -> str:
    """The nearest of the colours that every terminal has: a cube of six, or a row of greys."""
    red, green, blue = near = [min(range(6), key=lambda i: abs(_CUBE[i] - one)) for one in pixel]
    grey = min(23, max(0, round((sum(pixel) / 3 - 8) / 10)))
    of_cube = sum(abs(_CUBE[i] - one) for i, one in zip(near, pixel, strict=True))
    of_grey = sum(abs(8 + 10 * grey - one) for one in pixel)
    return f"5;{232 + grey if of_grey < of_cube else 16 + 36 * red + 6 * green + blue}"


_CUBE = (0, 95, 135, 175, 215, 255)


def _kitty(png: bytes) -> Iterator[str]:
    """After kitty's graphics protocol: a PNG in chunks, shown at once, nothing answered."""
    letters = base64.standard_b64encode(png).decode()
    chunks = [letters[at : at + _CHUNK] for at in range(0, len(letters), _CHUNK)]
    for i, chunk in enumerate(chunks):
        head = "" if i else "a=T,f=100,q=2,"
        yield f"\x1b_G{head}m={int(i + 1 < len(chunks))};{chunk}\x1b\\"
    yield "\n"


def _iterm(png: bytes) -> Iterator[str]:
    """After iTerm2's inline images protocol."""
    letters = base64.standard_b64encode(png).decode()
    yield f"\x1b]1337;File=inline=1;size={len(png)}:{letters}\x07\n"


_DRAWN = {"kitty": _kitty, "iterm": _iterm}


def _inside(image: Image, room: Room) -> Image:
    """The picture, or a smaller one that fits the window, where that tells its pixels."""
    if not (room.width and room.height):
        return image
    small = image.copy()
    small.thumbnail((room.width, max(1, room.height * (room.rows - 2) // max(1, room.rows))))
    return small


def _as_png(image: Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _spells_blocks(stream: TextIO) -> bool:
    try:
        _HALF.encode(stream.encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _room(stream: TextIO) -> Room:
    try:
        import fcntl
        import termios

        answer = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("HHHH", answer)
    except (ImportError, OSError):
        columns, rows = shutil.get_terminal_size()
        width = height = 0
    return Room(columns or 80, rows or 24, width, height)

"""Pictures in the terminal, read back from what is written to it."""

import base64
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import on_a_terminal

from sdfast.terminal import Room, _inside, draw, graphics_of, in_blocks

ACROSS, DOWN = np.meshgrid(np.arange(0, 250, 10), np.arange(0, 180, 10))
GRADIENT = Image.fromarray(np.dstack([ACROSS, DOWN, np.full_like(DOWN, 90)]).astype(np.uint8))


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def drawn(image, *, colour=True, encoding="utf-8", **environment):
    stream = Terminal()
    stream.encoding = encoding
    why_not = draw(image, stream, {"TERM": "xterm-256color", **environment}, colour=colour)
    return why_not, stream.getvalue()


def shown(text):
    """The pixels that a terminal of 2^24 colours shows; None where its background stays."""
    rows = []
    for line in text.splitlines():
        assert line.endswith("\x1b[0m")
        cells = re.findall(
            r"\x1b\[38;2;(\d+);(\d+);(\d+);(?:48;2;(\d+);(\d+);(\d+)|49)m\u2580", line
        )
        rows.append([tuple(map(int, cell[:3])) for cell in cells])
        rows.append([tuple(map(int, cell[3:])) if cell[3] else None for cell in cells])
    return rows


@pytest.mark.parametrize("height", [17, 18])
def test_half_blocks_show_every_pixel_of_what_fits(height):
    image = GRADIENT.crop((0, 0, 25, height))
    rows = shown("".join(in_blocks(image, Room(80, 24), deep=True)))
    pixels = [[image.getpixel((x, y)) for x in range(25)] for y in range(height)]
    assert rows[:height] == pixels
    assert rows[height:] == [[None] * 25] * (height % 2)


@pytest.mark.parametrize("room", [Room(10, 24), Room(80, 6), Room(1, 1)])
def test_a_picture_is_made_to_fit_and_keeps_its_shape(room):
    lines = [*in_blocks(GRADIENT.resize((250, 180)), room, deep=False)]
    width = lines[0].count("\u2580")
    assert width <= room.columns
    assert len(lines) <= max(1, room.rows - 2)
    if room != Room(1, 1):
        assert width / (2 * len(lines)) == pytest.approx(25 / 18, rel=0.2)


def test_each_of_the_256_colours_is_its_own_nearest():
    cube = (0, 95, 135, 175, 215, 255)
    palette = {16 + 36 * r + 6 * g + b: (cube[r], cube[g], cube[b]) for r in range(6)
               for g in range(6) for b in range(6)}  # fmt: skip
    palette |= {232 + i: (8 + 10 * i,) * 3 for i in range(24)}
    for colour in palette.values():
        (line,) = in_blocks(Image.new("RGB", (1, 1), colour), Room(80, 24), deep=False)
        number = int(re.match(r"\x1b\[38;5;(\d+);49m", line)[1])
        assert palette[number] == colour


def unpacked(letters):
    return Image.open(io.BytesIO(base64.b64decode(letters, validate=True)))


def test_kittys_protocol_carries_the_picture_in_chunks():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    why_not, text = drawn(image, TERM="xterm-kitty")
    assert why_not == ""
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{letters}\x1b\\" for keys, letters in parts) + "\n" == text
    assert parts[0][0] == "a=T,f=100,q=2,m=1"
    assert {keys for keys, _ in parts[1:-1]} <= {"m=1"}
    assert parts[-1][0] == "m=0"
    assert all(len(letters) == 4096 for _, letters in parts[:-1])
    assert len(parts) > 2
    assert np.array_equal(unpacked("".join(letters for _, letters in parts)), image)


def test_iterms_protocol_carries_the_picture_whole():
    _, text = drawn(GRADIENT, TERM_PROGRAM="iTerm.app")
    size, letters = re.fullmatch(r"\x1b\]1337;File=inline=1;size=(\d+):(.*)\x07\n", text).groups()
    assert len(base64.b64decode(letters)) == int(size)
    assert np.array_equal(unpacked(letters), GRADIENT)


@pytest.mark.parametrize(
    ("environment", "graphics"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "xterm", "TERM_PROGRAM": "mintty"}, "iterm"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "linux"}, "blocks"),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "WezTerm"}, "blocks"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0/default,1,0"}, "blocks"),
        ({"TERM": "xterm-kitty", "ZELLIJ": "0"}, "blocks"),
        ({"TERM": "xterm-ghostty", "STY": "1.pts-0.host"}, "blocks"),
        ({"TERM": "dumb"}, "none"),
        ({}, "none"),
    ],
)
def test_a_terminal_is_known_by_what_it_says_of_itself(environment, graphics):
    assert graphics_of(environment) == graphics


@pytest.mark.parametrize(
    ("how", "why_not"),
    [
        ({"TERM": "dumb"}, "this terminal has neither graphics nor half-blocks"),
        ({"encoding": "ascii"}, "this terminal has neither graphics nor half-blocks"),
        ({"colour": False, "NO_COLOR": ""}, "colours are off"),
        ({"NO_COLOR": "1"}, "colours are off"),
    ],
)
def test_where_nothing_can_be_drawn_it_is_said_why(how, why_not):
    assert drawn(GRADIENT, **how) == (why_not, "")


def test_colours_that_are_off_do_not_keep_a_picture_from_a_terminal_with_graphics():
    assert drawn(GRADIENT, colour=False, TERM="xterm-kitty")[0] == ""


WORDS = (
    "-m",
    "tiny",
    "--size",
    "64x64",
    "-s",
    "2",
    "--seed",
    "1",
    "--show",
    "--exists",
    "overwrite",
)


@pytest.mark.parametrize(
    "words", [("gen", "a cat"), ("grid", "a cat", "a dog", "--no-labels")], ids=["gen", "grid"]
)
def test_a_picture_is_drawn_on_stderr_and_stdout_has_its_path(here, words):
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    environment.pop("NO_COLOR", None)
    for name in ("TMUX", "STY", "ZELLIJ"):
        environment.pop(name, None)
    code, out, text = on_a_terminal(*words, *WORDS, "-o", "one.png", env=environment)
    assert (code, out) == (0, "one.png\n")
    lines = [line for line in text.replace("\r", "").splitlines() if "\u2580" in line]
    rows = shown("\n".join(lines))
    image = Image.open("one.png").convert("RGB")
    image.thumbnail((80, 2 * 22))
    assert len(rows) == image.height
    assert rows == [[image.getpixel((x, y)) for x in range(image.width)] for y in range(len(rows))]


@pytest.mark.parametrize("command", ["gen", "grid"])
def test_without_colours_none_is_drawn_and_that_is_told(here, command):
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    words = (command, "a cat", *(["a dog"] if command == "grid" else []), *WORDS, "--no-color")
    code, _, text = on_a_terminal(*words, "-o", "one.png", env=environment)
    assert code == 0
    assert "\u2580" not in text
    assert "note: no picture is drawn here" in text


@pytest.mark.parametrize(
    ("room", "size"),
    [
        (Room(80, 24, 640, 240), (220, 220)),  # two rows are for the words
        (Room(80, 24, 64, 480), (64, 64)),
        (Room(80, 24, 2000, 2000), (512, 512)),
        (Room(80, 24, 640, 0), (512, 512)),
        (Room(80, 24), (512, 512)),
        (Room(80, 1, 640, 20), (1, 1)),
    ],
)
def test_a_picture_is_no_larger_than_the_window_where_its_pixels_are_told(room, size):
    assert _inside(Image.new("RGB", (512, 512)), room).size == size


def test_without_a_terminal_a_note_says_so_and_the_picture_is_there(sdfast, here):
    code, out, err = sdfast("gen", "a cat", *WORDS, "-o", "one.png")
    assert (code, out) == (0, "one.png\n")
    assert "note: no picture is drawn here: stderr is no terminal" in err
    assert Path("one.png").stat().st_size

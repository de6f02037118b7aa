"""Pictures through the autoencoder in tiles: what fades must not show."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sdfast import load_model
from sdfast.models import tiles
from sdfast.models.tiles import LEAST, _starts, by_parts, halved, side_for, tiled


def enlarged(x):
    """A network that looks no further than its own latent."""
    return F.interpolate(x, scale_factor=8.0)


@given(length=st.integers(1, 600), side=st.integers(LEAST, 200))
def test_tiles_reach_from_end_to_end_and_share_a_fourth_with_the_next(length, side):
    starts = _starts(length, side)
    assert starts[0] == 0
    assert starts[-1] + min(side, length) == length
    assert all(b - a <= side - side // 4 for a, b in pairwise(starts))


@pytest.mark.parametrize("size", [(40, 100), (33, 32), (90, 90)])
def test_what_is_local_is_the_same_in_tiles(size):
    x = torch.randn(1, 4, *size, dtype=torch.float32)
    got, count = tiled(enlarged, x, 32, (1, 8))
    assert count > 1
    torch.testing.assert_close(got, enlarged(x), rtol=0, atol=1e-6)
    back, _ = tiled(lambda pixels: F.avg_pool2d(pixels, 8), got, 32, (8, 1))
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "free", "side"),
    [
        ((64, 64), None, None),  # nobody tells
        ((64, 64), 64 * 64 * 10 / 0.8, None),
        ((64, 64), 64 * 64 * 10 / 0.8 - 1, 56),
        ((200, 100), 50 * 50 * 10 / 0.8, 48),
        ((64, 64), 1, LEAST),
    ],
)
def test_tiles_are_as_large_as_the_memory_holds(size, free, side):
    assert side_for(size, 10, free) == side


def test_memory_that_does_not_suffice_is_tried_with_smaller_tiles_until_there_are_none():
    asked = []

    def hungry(x):
        asked.append(tuple(x.shape[-2:]))
        if x.shape[-1] > 40:
            raise torch.OutOfMemoryError("out of memory")
        return enlarged(x)

    x = torch.randn(1, 4, 40, 128)
    got, count = by_parts(hungry, x, (1, 8), 1)
    assert asked[:3] == [(40, 128), (40, 64), (32, 32)]
    assert count == len(asked) - 2
    torch.testing.assert_close(got, enlarged(x), rtol=0, atol=1e-6)

    def starving(x):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        by_parts(starving, x, (1, 8), 1)
    assert halved((40, 128), LEAST) is None


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny", device="cpu")


def scene(size):
    """Something on something, with edges and a slope."""
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((100, 60, 260, 220), "red")
    draw.rectangle((300, 100, 480, 200), "green")
    return picture


def test_a_picture_in_tiles_is_the_whole_one_but_for_a_little_and_shows_no_seam(tiny, monkeypatch):
    x = tiny.look(scene((512, 256)))
    whole = pixels(tiny.decode(x))
    monkeypatch.setattr(tiles, "free_memory", lambda device: 1)
    painted = tiny.decode(x)
    assert painted.tiles == 3
    apart = pixels(painted) - whole
    assert apart.abs().mean() < 4  # of 255
    assert apart.abs().max() < 50  # at edges, which each tile norms by itself
    assert seam(apart) < 0.5
    monkeypatch.setattr(tiles, "_ramp", lambda length, rises, falls: torch.ones(length))
    assert seam(pixels(tiny.decode(x)) - whole) > 1  # tiles that do not fade would show


def seam(apart):
    """The largest jump between columns where a tile begins or ends, as a mean over the rows."""
    jumps = (apart[:, 1:] - apart[:, :-1]).mean((0, 2)).abs()
    return max(jumps[edge - 1] for edge in (128, 256, 384))


def test_a_picture_is_seen_in_tiles_as_it_is_seen_whole_but_for_a_little(tiny, monkeypatch):
    whole = tiny.look(scene((512, 256)))
    monkeypatch.setattr(tiles, "free_memory", lambda device: 1)
    assert (tiny.look(scene((512, 256))) - whole).abs().mean() < 0.1 * whole.std()


def pixels(decoded):
    return torch.tensor(list(decoded.image.tobytes()), dtype=torch.float32).view(256, 512, 3)


def test_tiles_are_told_with_the_picture(sdfast, tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "free_memory", lambda device: 1)
    words = ["gen", "a cat", "-m", "tiny", "-s", "1", "--size", "320x64", "-o", f"{tmp_path}/a.png"]
    code, _, err = sdfast(*words)
    assert code == 0
    assert "note: decoded in 2 tiles, as the memory is short" in err
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (320, 64)


def test_what_fails_for_another_reason_than_memory_is_not_tried_in_tiles():
    calls = []

    def fails(x):
        calls.append(x.shape)
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        tiles.by_parts(fails, torch.zeros(1, 4, 128, 128), (1, 8), 1.0)
    assert calls == [(1, 4, 128, 128)]


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="nothing tells it here")
def test_a_processor_tells_its_free_memory():
    assert 2**20 < tiles.free_memory(torch.device("cpu")) < 2**50


def test_what_a_device_without_a_count_has_is_not_known():
    assert tiles.free_memory(torch.device("mps")) is None

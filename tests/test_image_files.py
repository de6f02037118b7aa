"""Pictures that are written whole or not at all."""

import io
import resource
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sdfast import image_files, png_strips
from sdfast.errors import FullError, UsageError
from sdfast.naming import Exists, keep, settle

GREY = Image.new("RGB", (64, 72), "grey")
TEXTS = {"parameters": 'a cat\nSteps: 20, Sampler: "x"', "sdfast": '{"schema": 1}'}


def save(image, path, text, exists=Exists.RENAME):
    return keep(image_files.encode(image, text), path, exists=exists)


def test_a_picture_is_what_it_was(tmp_path):
    path = save(GREY, tmp_path / "a.png", text=TEXTS)
    with Image.open(path) as image:
        assert image.tobytes() == GREY.tobytes()
        assert image.text == TEXTS
    assert path.read_bytes() == image_files.encode(GREY, TEXTS)
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_is_hardly_larger_than_pillow_makes_it():
    with Image.open(Path(__file__).parents[1] / "docs" / "tiny.png") as painted:
        smooth = painted.convert("RGB")
    page = Image.new("RGB", (512, 512), "white")
    ImageDraw.Draw(page).multiline_text((8, 8), "\n".join(["sphinx of black quartz " * 3] * 40), 0)
    page.paste(smooth.crop((0, 0, 128, 128)), (200, 200))
    grained = Image.merge("RGB", [Image.effect_noise((256, 256), 20) for _ in range(3)])
    for picture in (smooth, page, grained):
        usual = io.BytesIO()
        picture.save(usual, "PNG")
        assert len(image_files.encode(picture, {})) <= 1.1 * len(usual.getvalue())


def test_pictures_encoded_side_by_side_are_those_encoded_one_by_one():
    pictures = [(Image.new("RGB", (8, 8), (k, 0, 0)), {"parameters": str(k)}) for k in range(9)]
    assert image_files.encode_all(pictures) == [image_files.encode(*one) for one in pictures]


@given(
    mode=st.sampled_from(["RGB", "L", "RGBA"]),
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    grain=st.sampled_from([0, 5, 80]),
)
def test_strips_make_one_picture(mode, width, height, grain):
    noise = Image.effect_noise((width, height), grain)
    picture = Image.merge(mode, [noise.rotate(180 * k) for k in range(len(mode))])
    file = image_files.encode(picture, {"parameters": "a cat", "sdfast": "\u732b"})
    with Image.open(io.BytesIO(file)) as read:
        read.verify()  # each chunk's sum
    with Image.open(io.BytesIO(file)) as read:
        assert (read.mode, read.text) == (mode, {"parameters": "a cat", "sdfast": "\u732b"})
        assert read.tobytes() == picture.tobytes()


def test_a_large_picture_is_one_stream_of_many_strips():
    noise = [Image.effect_noise((700, 500), 60) for _ in range(3)]
    picture = Image.merge("RGB", noise)
    file = image_files.encode(picture, {})
    at = file.index(b"IDAT")
    assert file.count(b"IDAT") == 1
    stream = zlib.decompressobj()
    rows = stream.decompress(file[at + 4 :])
    assert stream.eof  # so zlib has found the sum of all rows right
    assert len(rows) == 500 * (1 + 3 * 700)
    assert len(file[at:]) > 6 * png_strips._STRIP // 2
    usual = io.BytesIO()
    picture.save(usual, "PNG", compress_type=zlib.Z_RLE)
    assert len(file) < 1.01 * len(usual.getvalue())


def test_missing_folders_are_made(tmp_path):
    assert save(GREY, tmp_path / "b" / "c" / "a.png", text={}).is_file()


def test_a_file_can_be_read_by_whom_the_umask_allows(tmp_path):
    other = tmp_path / "other"
    other.touch()
    path = save(GREY, tmp_path / "a.png", text={})
    assert path.stat().st_mode == other.stat().st_mode


def test_each_policy_does_what_it_says(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("mine")
    assert save(GREY, path, text={}, exists=Exists.RENAME) == tmp_path / "a-2.png"
    assert save(GREY, path, text={}, exists=Exists.SKIP) is None
    with pytest.raises(UsageError, match="exists"):
        save(GREY, path, text={}, exists=Exists.ERROR)
    assert path.read_text() == "mine"
    assert save(GREY, path, text={}, exists=Exists.OVERWRITE) == path
    assert path.read_bytes() == image_files.encode(GREY, {})
    assert len([*tmp_path.iterdir()]) == 2


def test_what_a_kill_has_left_of_a_name_is_no_picture_to_keep(tmp_path):
    path = tmp_path / "a.png"
    path.touch()  # held for a moment, where there are no links
    assert settle(path, Exists.SKIP) == path
    assert save(GREY, path, text={}, exists=Exists.RENAME) == tmp_path / "a-2.png"
    assert save(GREY, path, text={}, exists=Exists.SKIP) == path
    assert path.read_bytes() == image_files.encode(GREY, {})
    assert settle(path, Exists.SKIP) is None


@pytest.mark.parametrize("links", [True, False])
def test_writers_who_race_for_a_name_each_get_their_own(tmp_path, monkeypatch, links):
    def no_links(*_):
        raise PermissionError

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    pictures = [Image.new("L", (8, 8), shade) for shade in range(16)]
    with ThreadPoolExecutor(8) as pool:
        paths = [*pool.map(lambda p: save(p, tmp_path / "a.png", text={}), pictures)]
    assert len(set(paths)) == 16
    assert {p.read_bytes() for p in paths} == {image_files.encode(p, {}) for p in pictures}
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    noise = Image.effect_noise((256, 256), 50)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(FullError, match=r"cannot write `.*a.png`: file too large"):
            save(noise, tmp_path / "a.png", text={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [*tmp_path.iterdir()] == []


def test_a_draft_that_a_killed_run_has_left_is_written_anew(tmp_path):
    draft = tmp_path / "draft"
    draft.write_bytes(b"half a pict")
    path = keep(b"whole", tmp_path / "a.png", exists=Exists.SKIP, draft=draft)
    assert path.read_bytes() == b"whole"
    assert not draft.exists()


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.hardlink_to"])
def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch, moment):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(GREY, tmp_path / "a.png", text={})
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("place", ["file/a.png", "x" * 300 + ".png", "folder", "a\0b.png"])
def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        save(GREY, tmp_path / place, text={}, exists=Exists.OVERWRITE)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_text_no_chunk_can_hold_is_written_as_near_as_can_be():
    image = Image.open(io.BytesIO(image_files.encode(GREY, {"parameters": "a\0b\udc80c"})))
    assert image.text == {"parameters": "a b?c"}

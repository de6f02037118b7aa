"""`sdfast info`: what pictures and texts tell."""

import json

import pytest
from PIL import Image
from quick import QUICK

from sdfast import image_files

pytestmark = pytest.mark.usefixtures("here")


def test_info_reads_our_own_pictures(sdfast):
    sdfast(*QUICK)
    _, out, _ = sdfast("info", "a-cat-1.png", "--json")
    told = json.loads(out)
    assert told["program"] == "sdfast"
    assert told["job"]["seed"] == 1


@pytest.mark.parametrize(
    ("sampler", "shown"),
    [("heun", set()), ("ddim", set()), ("dpm++", {"order", "method", "corrector", "weights"})],
)
def test_info_leaves_out_what_a_solver_has_no_use_for(sdfast, sampler, shown):
    sdfast(*QUICK, "--sampler", sampler)
    _, out, _ = sdfast("info", "a-cat-1.png")
    words = {line.split()[0] for line in out.splitlines()}
    assert {"sampler", "spacing", "final"} < words
    assert words & {"order", "method", "corrector", "weights"} == shown


def test_info_names_the_syntax_that_is_not_followed(sdfast, here):
    text = "a cat <lora:foo:0.8>\nSteps: 3, Sampler: Euler, CFG scale: 5, Seed: 1"
    picture = image_files.encode(Image.new("RGB", (64, 64)), {"parameters": text})
    (here / "theirs.png").write_bytes(picture)
    assert "\n  Prompt: <lora:foo:0.8>\n" in sdfast("info", "theirs.png")[1]


def test_info_goes_on_after_a_file_that_tells_nothing(sdfast, here):
    (here / "bad.png").write_bytes(b"no png")
    sdfast(*QUICK)
    code, out, err = sdfast("info", "bad.png", "a-cat-1.png")
    assert code == 2
    assert out.startswith("a-cat-1.png")
    assert err.count("error: ") == 1

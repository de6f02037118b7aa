"""Pictures that begin between two seeds' noises: near the one, near the other, and told as such."""

import json

import numpy as np
import pytest
import torch

from sdfast import load_model, paint
from sdfast.engine import generate_together
from sdfast.errors import JobError
from sdfast.events import Finished
from sdfast.infotext import read, to_record, write
from sdfast.job import read_job
from sdfast.presets import PRESET_KEYS
from sdfast.solver.draw import slerp


def a_job(**keys):
    return read_job({"prompt": "a cat", "seed": 1, "steps": 4, "size": "64x64", **keys})


@pytest.fixture(scope="module")
def model(small):
    return load_model(str(small), device="cpu")


def pixels(model, **keys):
    return np.int16(paint(model, a_job(**keys)).image)


def test_columns_at_right_angles_meet_half_way_at_an_eighth_of_a_turn():
    one, other = torch.zeros(2, 1, 1, 2, 1)
    one[..., 0, 0], other[..., 1, 0] = 1, 1
    for share in (0.0, 0.25, 0.5, 1.0):
        angle = torch.tensor(share * torch.pi / 2)
        wanted = angle.cos() * one + angle.sin() * other
        torch.testing.assert_close(slerp(one, other, share), wanted)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_what_lies_between_is_unit_gaussian_too(share):
    one, other = torch.randn(2, 1, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    spread = slerp(one, other, share)
    assert abs(float(spread.std()) - 1) < 0.01
    assert abs(float((spread**4).mean()) - 3) < 0.1
    mixed = one.lerp(other, share)  # which would be too smooth
    assert float(mixed.std()) < 0.95


def test_it_is_as_the_web_ui_mixes_columns():
    """Its modules/rng.py normalises along the second dimension of [c, h, w]."""
    one, other = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(3))
    got = slerp(one[None], other[None], 0.3)[0]
    for c in range(4):
        for column in range(6):
            a, b = one[c, :, column].double(), other[c, :, column].double()
            turn = torch.acos(a @ b / (a.norm() * b.norm()))
            wanted = torch.sin(0.7 * turn) * a + torch.sin(0.3 * turn) * b
            torch.testing.assert_close(got[c, :, column], (wanted / torch.sin(turn)).float())


def test_between_a_noise_and_itself_lies_that_noise():
    one = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(slerp(one, one, 0.3), one)


def test_the_ends_are_the_pictures_of_both_seeds(model):
    one, other = pixels(model), pixels(model, seed=7)
    varied = {"variation_seed": 7}
    assert np.array_equal(pixels(model, **varied, variation_strength=0), one)
    assert np.abs(pixels(model, **varied, variation_strength=1) - other).max() <= 1
    near, far = (pixels(model, **varied, variation_strength=s) for s in (0.1, 0.6))
    assert 0 < np.abs(near - one).mean() < np.abs(far - one).mean() < np.abs(other - one).mean()


def test_the_noise_between_is_that_of_the_gpus_where_both_are(model):
    cuda = {"rng": "cuda"}
    at_end = pixels(model, variation_seed=7, variation_strength=1, **cuda)
    assert np.abs(at_end - pixels(model, seed=7, **cuda)).max() <= 1


def test_those_painted_together_are_those_painted_alone(model):
    jobs = [a_job(), a_job(variation_seed=2, variation_strength=0.5), a_job(seed=3)]
    finished = [one for one in generate_together(model, jobs) if isinstance(one, Finished)]
    for one, job in zip(finished, jobs, strict=True):
        alone = np.int16(paint(model, job).image)
        assert np.abs(np.int16(one.image) - alone).max() <= 1


@pytest.mark.parametrize("given", [{"variation_seed": 1}, {"variation_strength": 0.5}])
def test_one_without_the_other_is_refused(given):
    (key,) = given
    (other,) = {"variation_seed", "variation_strength"} - {key}
    with pytest.raises(JobError, match=f"^{key} needs a {other} beside it$"):
        a_job(**given)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("variation_strength", 1.5, "from 0 to 1"),
        ("variation_strength", -0.1, "from 0 to 1"),
        ("variation_seed", -1, "from 0 to 18446744073709551615"),
    ],
)
def test_a_value_out_of_range_is_told(key, value, says):
    given = {"variation_seed": 1, "variation_strength": 0.5, key: value}
    with pytest.raises(JobError, match=f"{key} must be {says}"):
        a_job(**given)


@pytest.mark.parametrize("strength", [0, 0.0, "0"])
def test_none_at_all_is_no_variation(strength):
    assert a_job(variation_seed=5, variation_strength=strength) == a_job()
    assert a_job(variation_strength=strength).record == a_job().record


def test_both_are_of_one_picture_and_in_no_preset():
    assert not {"variation_seed", "variation_strength"} & {*PRESET_KEYS}


def test_the_web_uis_text_carries_them_there_and_back():
    job = a_job(variation_seed=9, variation_strength=0.25)
    text = write(job, version="0", model=None, size=(64, 64))
    assert "Seed: 1, Variation seed: 9, Variation seed strength: 0.25," in text
    record, unknown = to_record(read(text))
    assert (record["variation_seed"], record["variation_strength"]) == (9, 0.25)
    assert not {"Variation seed", "Variation seed strength"} & {*unknown}


@pytest.mark.parametrize(
    "said", ["Variation seed: 9", "Variation seed: 9, Variation seed strength: x"]
)
def test_half_of_a_variation_is_not_followed_and_told(said):
    record, unknown = to_record(read(f"a cat\nSteps: 10, Seed: 1, CFG scale: 7, {said}"))
    assert "variation_seed" not in record
    assert "Variation seed" in unknown


def test_a_picture_of_the_web_uis_is_varied_as_there(sdfast, here, small):
    (here / "said.txt").write_text(
        "a cat\nSteps: 10, Sampler: Euler, Schedule type: Automatic, CFG scale: 7, Seed: 1, "
        "Size: 64x64, Variation seed: 9, Variation seed strength: 0.3, Version: v1.10.1"
    )
    code, out, err = sdfast("gen", "--from", "said.txt", "-m", str(small), "--dry-run")
    assert code == 0
    assert "Variation" not in err
    job = json.loads(out)
    assert (job["variation_seed"], job["variation_strength"]) == (9, 0.3)


def test_a_sheet_leads_from_one_to_the_other_and_a_picture_of_it_again(sdfast, here, small):
    grid = ("grid", "a cat", "-m", str(small), "--seed", "1", "-s", "10", "--size", "64x64", "-q")
    axis = ("--variation-seed", "9", "--x", "variation_strength=0,0.5", "--cells", "all/")
    assert sdfast(*grid, *axis, "-o", "sheet.png")[0] == 0
    first, second = sorted((here / "all").iterdir())
    recipes = [json.loads(sdfast("info", str(one), "--json")[1]) for one in (first, second)]
    assert "variation_seed" not in recipes[0]["job"]
    assert recipes[1]["job"]["variation_strength"] == 0.5
    again = ("gen", "--from", str(second), "-m", str(small), "-o", "again.png", "-q")
    assert sdfast(*again)[0] == 0
    assert (here / "again.png").read_bytes() == second.read_bytes()


def test_a_line_of_a_batch_may_say_one_and_a_flag_the_other(sdfast, here, small):
    lines = [{"prompt": "a cat", "variation_strength": s} for s in (0, 0.5)]
    (here / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    batch = ("batch", "jobs.jsonl", "-m", str(small), "--variation-seed", "9", "--dry-run")
    code, out, err = sdfast(*batch, "-o", "out/")
    assert code == 0, err
    jobs = [json.loads(line) for line in out.splitlines()]
    assert [job.get("variation_seed") for job in jobs] == [None, 9]
    assert sdfast("batch", "jobs.jsonl", "--variation-strength", "2", "-o", "out/")[0] == 2

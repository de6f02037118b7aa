"""What other programs import from `sdfast`."""

import subprocess
import sys

import pytest
import torch

import sdfast
from sdfast import Job, NoiseSchedule, Sampler, generate, load_model, load_preset, noised, solve
from sdfast.solver import grid


def test_importing_sdfast_imports_no_torch():
    code = "import sys, sdfast; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", sdfast.__all__)
def test_every_public_name_is_there_and_is_the_same_each_time(name):
    assert getattr(sdfast, name) is getattr(sdfast, name)


def test_an_unknown_name_is_an_attribute_error_that_says_it():
    with pytest.raises(AttributeError, match="solvee"):
        sdfast.solvee  # noqa: B018


def test_the_version_is_three_numbers():
    assert all(part.isdecimal() for part in sdfast.__version__.split("."))
    assert sdfast.__version__.count(".") == 2


def test_a_network_that_knows_the_image_is_solved_to_it():
    image, noise = torch.tensor([0.25, -1.0]), torch.tensor([2.0, 0.5])
    schedule = NoiseSchedule.scaled_linear()
    found = solve(lambda x, t: image, noise, Sampler(steps=4), schedule, prediction="sample")
    torch.testing.assert_close(found, image)


@pytest.mark.parametrize("begin", [0, 3, 7])
def test_a_walk_goes_on_from_an_image_that_was_noised_to_its_step(begin):
    image, noise = torch.tensor([0.25, -1.0]), torch.tensor([2.0, 0.5])
    schedule, sampler = NoiseSchedule.scaled_linear(), Sampler(steps=8, final="sigma_min")
    node = grid(schedule, sampler)[begin]
    begun = noised(image, noise, node)
    found = solve(lambda x, t: noise, begun, sampler, schedule, begin=begin)  # it knows the noise
    torch.testing.assert_close(found, noised(image, noise, schedule.end), rtol=1e-4, atol=1e-4)


def test_a_preset_is_a_sampler_for_solve():
    assert load_preset("fast").sampler.steps == 10


def test_a_job_becomes_a_picture(small):
    *_, finished = generate(load_model(str(small)), Job(prompt="a cat", sampler=Sampler(steps=2)))
    assert finished.image.size == (64, 64)

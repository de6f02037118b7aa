"""What a network says, read back from an image and a noise that are known."""

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from sdfast import NoiseSchedule
from sdfast.solver import Prediction, Target
from sdfast.solver.predict import guide, read, thresholded

IMAGE, NOISE = torch.randn(2, 3, 4, 5, 5, generator=torch.manual_seed(0), dtype=torch.float64)
WANTED = {Target.IMAGE: IMAGE, Target.NOISE: NOISE}
SAYS = {
    Prediction.NOISE: lambda node: NOISE,
    Prediction.IMAGE: lambda node: IMAGE,
    Prediction.VELOCITY: lambda node: node.alpha * NOISE - node.sigma * IMAGE,
    Prediction.SCORE: lambda node: -NOISE / node.sigma,
}
"""What a network that knows both says; velocity as in arXiv 2202.00512, appendix D."""


@pytest.mark.parametrize("t", [999, 500.5, 1, 0])
@pytest.mark.parametrize("wanted", list(Target))
@pytest.mark.parametrize("said", list(Prediction))
def test_either_half_is_read_exactly_from_any_prediction(said, wanted, t):
    node = NoiseSchedule.scaled_linear().at(t)
    x = node.alpha * IMAGE + node.sigma * NOISE
    got = read(SAYS[said](node), x, node, said, wanted)
    torch.testing.assert_close(got, WANTED[wanted], rtol=0, atol=1e-12)


@pytest.mark.parametrize("said", list(Prediction))
def test_reading_changes_neither_what_was_said_nor_x(said):
    node = NoiseSchedule.scaled_linear().at(700)
    output, x = SAYS[said](node).clone(), IMAGE.clone()
    for wanted in Target:
        read(output, x, node, said, wanted)
    assert torch.equal(output, SAYS[said](node))
    assert torch.equal(x, IMAGE)


def test_guidance_of_zero_is_plain_and_of_one_prompted():
    assert torch.equal(guide(NOISE, IMAGE, 0), NOISE)
    assert torch.equal(guide(NOISE, IMAGE, 1), IMAGE)


def test_guidance_goes_on_in_a_straight_line():
    torch.testing.assert_close(guide(NOISE, IMAGE, 7.5), NOISE + 7.5 * (IMAGE - NOISE))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rescale", [0.0, 0.3, 0.7, 1.0])
def test_guidance_is_rescaled_as_diffusers_does_it(rescale, dtype):
    plain, prompted = torch.randn(2, 3, 4, 8, 8, generator=torch.manual_seed(1)).to(dtype)
    wanted = rescale_noise_cfg(guide(plain, prompted, 7.5), prompted, rescale)
    error = 0.02 if dtype == torch.bfloat16 else 1e-5
    got = guide(plain, prompted, 7.5, rescale)
    torch.testing.assert_close(got, wanted, rtol=error, atol=error)


def test_wholly_rescaled_each_picture_is_spread_as_the_prompt_alone_would_be():
    plain, prompted = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    spread = guide(plain, prompted, 7.5, 1.0).std((1, 2, 3))
    torch.testing.assert_close(spread, prompted.std((1, 2, 3)))
    still = torch.zeros(1, 2, 2)
    assert torch.equal(guide(still, still, 7.5, 0.7), still)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("numbers", [1, 2, 999])
def test_a_threshold_is_the_quantile_that_torch_finds(quantile, numbers):
    image = 3 * torch.randn(2, numbers, dtype=torch.float64, generator=torch.manual_seed(1))
    size = image.abs().quantile(quantile, 1, keepdim=True).clamp_min(1)
    wanted = image.clamp(-size, size) / size
    torch.testing.assert_close(thresholded(image, quantile), wanted, rtol=1e-14, atol=0)


def test_a_picture_may_have_more_numbers_than_torchs_quantile_takes():
    image = torch.full((1, 2**24 + 1), 2.0, dtype=torch.float16)
    assert thresholded(image, 0.995).eq(1).all()

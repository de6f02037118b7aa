"""Samplers fitted to a model: nearer to its converged pictures, on noises they have not seen."""

import shutil
from functools import cache
from itertools import pairwise

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from grey import Grey
from safetensors.torch import load_file, save_file
from small import write_model

from sdfast import Sampler, load_model, load_preset, solve
from sdfast.bench.problems import SCHEDULE, TEST, TRAINING, errors, noises, problem
from sdfast.sampler import DEFAULT, FROM_PAST
from sdfast.solver import Prediction
from sdfast.solver.spacing import grid
from sdfast.tune import Fitted, Gained, Lesson, Tried, tune, tune_model
from sdfast.tune.fit import NEARNESS, _least_squares, bare, fit, truth
from sdfast.tune.search import count_moves

LONG = Sampler(order=3, steps=100, spacing="rho", rho=2, final="sigma_min")


@cache
def fitted(guidance, steps, count=48):
    """The fitted sampler, and the errors that all that was tried had left."""
    noise = noises(count, TRAINING)
    *tried, last = tune([Lesson(problem(guidance).network, noise)], SCHEDULE, "epsilon", steps)
    assert all(isinstance(event, Tried) for event in tried)
    assert [event.done for event in tried] == list(range(1, len(tried) + 1))
    assert len(tried) <= tried[0].total
    assert isinstance(last, Fitted)
    return last.sampler, [event.error for event in tried]


def far(posed, sampler, noise):
    """Root mean square and median error against the long walk, at sigma_min."""
    wanted = solve(posed.network, noise, LONG, SCHEDULE)
    missed = errors(solve(posed.network, noise, sampler, SCHEDULE), wanted) / SCHEDULE.end.alpha
    return missed.square().mean().sqrt().item(), missed.median().item()


def far_by_diffusers(posed, at_min, steps=20):
    """The same of diffusers' default, DPM++ 2M to no noise at all."""
    noise = noises(96, TEST)
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
    )
    scheduler.set_timesteps(steps)
    x = noise
    for t in scheduler.timesteps:
        x = scheduler.step(posed.network(x, t.item()), t, x).prev_sample
    last = SCHEDULE.end
    wanted = (at_min - last.sigma * posed.network(at_min, last.t)) / last.alpha
    missed = errors(x, wanted)
    return missed.square().mean().sqrt().item(), missed.median().item()


CONDITIONS = [(guidance, prompt) for guidance in (3.0, 5.0, 7.5, 10.0) for prompt in range(2)]


@cache
def to_beat():
    """For each guidance and prompt: where test noises lead, and what diffusers' 20 steps miss."""
    noise = noises(96, TEST)
    posed = {said: problem(*said) for said in CONDITIONS}
    ends = {said: solve(at.network, noise, LONG, SCHEDULE) for said, at in posed.items()}
    return {
        said: (posed[said], end, far_by_diffusers(posed[said], end)) for said, end in ends.items()
    }


@pytest.mark.parametrize(
    ("steps", "rms", "median"), [(10, 0.75, 0.5), pytest.param(8, 1.0, 1.0, marks=pytest.mark.slow)]
)
def test_a_tuned_walk_of_half_as_many_steps_beats_diffusers_default(steps, rms, median):
    (sampler, _), noise = fitted(7.5, steps), noises(96, TEST)
    ours = theirs = 0.0
    for said, (posed, end, (their_rms, their_median)) in to_beat().items():
        missed = errors(solve(posed.network, noise, sampler, SCHEDULE), end) / SCHEDULE.end.alpha
        mine = missed.square().mean().sqrt().item()
        assert missed.median().item() <= median * their_median, said
        ours, theirs = ours + mine**2, theirs + their_rms**2
        if said == (7.5, 0):  # what it was fitted on
            assert mine <= rms * their_rms
    assert ours**0.5 <= rms * theirs**0.5  # any one condition is at the mercy of a few pictures


def test_moves_are_ten_for_each_time_until_there_are_many():
    assert [count_moves(n) for n in (1, 5, 25, 26)] == [10, 50, 250, 250]


def test_tuning_asks_the_network_no_oftener_than_its_moves_allow_and_is_the_same_each_time():
    asked = []
    posed = problem(None)

    def network(x, t):
        asked.append(len(x))
        return posed.network(x, t)

    noise = noises(8, TRAINING)
    first, again = (list(tune([Lesson(network, noise)], SCHEDULE, "epsilon", 5)) for _ in "ab")
    assert first == again
    moves = sum(isinstance(event, Tried) for event in first) - 24
    shapes = 120 + 49 * 5
    assert 0 < moves <= count_moves(5)
    assert shapes + 2 * moves <= len(asked) / 2 <= shapes + 2 * 4 * moves


@pytest.mark.parametrize("guidance", [pytest.param(None, marks=pytest.mark.slow), 7.5])
def test_moving_times_one_by_one_leaves_less_than_any_shape(guidance):
    sampler, left = fitted(guidance, 10)
    assert min(left[24:]) < 0.95 * min(left[:24])
    assert all(a > b for a, b in pairwise(sampler.timesteps))


def test_a_walk_fitted_on_from_another_is_the_one_fitted_from_the_beginning():
    posed, said = problem(7.5), Prediction("epsilon")
    truths = [truth(Lesson(posed.network, noises(16, TRAINING)), SCHEDULE, said)]
    chosen = [torch.arange(16) % 2 == 0]
    times = (999.0, 700.0, 400.0, 200.0, 80.0, 20.0)
    asked = fit(truths, chosen, SCHEDULE, said, bare(times))
    for i in range(1, 6):
        other = bare((*times[:i], times[i] - 5, *times[i + 1 :]))
        again = fit(truths, chosen, SCHEDULE, said, other)
        onward = fit(truths, chosen, SCHEDULE, said, other, asked, i)
        assert onward.weights == again.weights
        assert all(map(torch.equal, onward.off, again.off))


def test_lessons_of_several_networks_are_fitted_together():
    lessons = [Lesson(problem(g).network, noises(8, TRAINING)) for g in (None, 7.5)]
    *_, last = tune(lessons, SCHEDULE, "epsilon", 6)
    for guidance in (None, 7.5):
        untuned = Sampler(order=2, steps=6, timesteps=last.sampler.timesteps, final="sigma_min")
        noise = noises(32, TEST)
        tuned, plain = (far(problem(guidance), s, noise)[1] for s in (last.sampler, untuned))
        assert tuned < plain


def test_too_few_noises_are_refused():
    with pytest.raises(ValueError, match="at least 4 noises, not 3"):
        next(tune([Lesson(problem(None).network, noises(3, TEST))], SCHEDULE, "epsilon", 5))


def test_a_fitted_sampler_weighs_five_estimates_at_most_and_begins_at_the_beginning():
    sampler, _ = fitted(None, 8, count=8)
    assert sampler.timesteps[0] == SCHEDULE.first
    assert [len(row) for row in sampler.corrections] == [
        min(i + 1, FROM_PAST) + 1 for i in range(8)
    ]


def test_least_squares_find_the_weights_that_made_the_answer_and_mind_no_stray_picture():
    generator = torch.Generator().manual_seed(0)
    known = torch.randn(40, 3, 500, generator=generator, dtype=torch.float64)
    made = torch.tensor([0.5, -0.25, 1.0], dtype=torch.float64)
    wanted = made @ known + 0.01 * torch.randn(40, 500, generator=generator, dtype=torch.float64)
    wanted[0] += 3.0 * known[0, 1]  # one went elsewhere
    parts = torch.cat([known, wanted[:, None]], 1)
    gram = parts @ parts.mT / 500
    found = _least_squares(gram, made + 0.1)
    torch.testing.assert_close(found, made, rtol=0, atol=0.002)


def test_weights_stay_at_the_theory_where_the_answer_says_nothing():
    gram = torch.zeros(10, 4, 4, dtype=torch.float64)
    theory = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    assert torch.equal(_least_squares(gram, theory), theory)
    assert NEARNESS > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "small")


@pytest.mark.slow
def test_a_model_is_judged_on_prompts_it_was_not_fitted_on(folder):
    model = load_model(str(folder))
    *tried, gained = tune_model(model, 3, 5.0, ["a", "b", "c", "d"], ["e"])
    assert 24 < len(tried) <= tried[0].total
    assert isinstance(gained, Gained)
    assert gained.guidance == 5.0
    assert all(error > 0 for error in (*gained.tuned, *gained.default, *gained.doubled))


def test_a_gain_is_set_beside_the_default_walk_with_as_many_steps_and_with_twice_as_many():
    model = Grey()
    for _ in tune_model(model, 2, 1.0, [*"abcd"], ["e"]):
        pass
    walks = [grid(model.schedule, DEFAULT.replace(steps=steps))[:-1] for steps in (2, 4)]
    assert [t for t, *_ in model.asked[-6:]] == [node.t for walk in walks for node in walk]


def prompts(tmp_path):
    lines = tmp_path / "prompts.txt"
    lines.write_text("\n".join("abcdef"))
    return str(lines)


def test_a_gain_becomes_a_preset_that_says_what_it_was_fitted_on(sdfast, folder, tmp_path):
    words = ("tune", "mine", "-m", str(folder), "-s", "3", "--prompts", prompts(tmp_path), "-q")
    code, out, err = sdfast(*words)
    assert code == 0
    assert out.strip().endswith("mine.yaml")
    assert "tuned, 3 steps" in err
    preset = load_preset("mine")
    assert preset.sampler.steps == 3
    assert preset.record["model"] == str(folder)
    assert preset.about.startswith(f"3 steps fitted to {folder} on 4 prompts; on 2 others 0.")
    code, _, err = sdfast("tune", "mine", "-m", "tiny", "-s", "3")
    assert (code, "there is a preset `mine` already" in err) == (2, True)


def test_what_gains_nothing_is_not_written(sdfast, folder, tmp_path):
    silent = tmp_path / "silent"  # a network that sees no noise: every walk is exact
    shutil.copytree(folder, silent)
    weights = silent / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    last = {k: torch.zeros_like(v) for k, v in tensors.items() if k.startswith("conv_out")}
    save_file(tensors | last, weights)
    words = ("tune", "none", "-m", str(silent), "-s", "2", "--prompts", prompts(tmp_path))
    code, _, err = sdfast(*words)
    assert (code, "tuning gained nothing on 2 prompts" in err) == (2, True)
    assert sdfast("presets", "show", "none")[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-s", "0"], "steps must be from 1 to 1000"),
        (["-s", "500"], "nothing to gain"),
        (["--prompts", "absent.txt"], "there is no file"),
        (["bad/name"], "is no name for a preset"),
    ],
)
def test_what_cannot_be_tuned_is_told_in_one_line(sdfast, words, said):
    code, _, err = sdfast("tune", "-m", "tiny", *words)
    assert (code, said in err) == (2, True)

"""The engine with a model that needs no weights."""

import time

import pytest
import torch
from grey import Clock, Grey

from sdfast.engine import generate, generate_together
from sdfast.errors import JobError, ModelError
from sdfast.events import Encoded, Finished, Stepped
from sdfast.job import Job, Sampler


class Stopped(Clock):
    """One that is set by hand."""

    now = 0.0

    def mark(self):
        return self.now


class Lost(Grey):
    """A model that says nothing at all from its third call on."""

    def predict(self, x, t, context):
        said = super().predict(x, t, context)
        return said * torch.nan if len(self.asked) > 2 else said


def a_job(steps=3, **keys):
    return Job(**{"prompt": "fogs", "seed": 1, "sampler": Sampler(steps=steps), **keys})


def test_events_come_in_order_and_the_last_one_carries_the_picture():
    events = list(generate(Grey(), a_job(guidance=1)))
    assert [type(e) for e in events] == [Encoded, Stepped, Stepped, Stepped, Finished]
    assert [(e.index, e.total) for e in events[1:-1]] == [(1, 3), (2, 3), (3, 3)]
    assert events[-1].image.getpixel((0, 0)) == 128  # four letters of eight are half the way


def test_nothing_runs_until_it_is_asked_for():
    model = Grey()
    events = generate(model, a_job(guidance=1))
    next(events)
    assert model.asked == []
    next(events)
    assert len(model.asked) == 1


def test_the_first_event_says_what_the_model_filled_in():
    encoded = next(generate(Grey(), a_job()))
    assert (encoded.job.model, encoded.job.size, encoded.job.guidance) == ("grey", (64, 64), 7.5)


def test_what_the_job_settles_the_model_leaves_alone():
    encoded = next(generate(Grey(), a_job(guidance=2, size="128x64")))
    assert (encoded.job.size, encoded.job.guidance) == ((128, 64), 2)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_times_have_one_entry_per_step(steps):
    began = time.perf_counter()
    *_, finished = generate(Grey(), a_job(steps))
    assert len(finished.times.steps) == steps
    assert 0 < finished.times.total < time.perf_counter() - began


def test_a_caller_that_lingers_before_the_decoding_is_not_counted_in_it():
    model = Grey()
    model.clock = clock = Stopped()
    events = generate(model, a_job(1))
    assert [type(next(events)) for _ in range(2)] == [Encoded, Stepped]
    clock.now += 100
    assert next(events).times.total == 0


@pytest.mark.parametrize(("guidance", "prompts"), [(1, 1), (0, 2), (1.5, 2), (7.5, 2)])
def test_guidance_of_one_asks_for_one_and_every_other_scale_for_both_in_one_call(guidance, prompts):
    model = Grey()
    list(generate(model, a_job(4, guidance=guidance)))
    assert [asked[1:] for asked in model.asked] == [(1, prompts)] * 4


def test_guidance_goes_from_the_negative_through_the_prompt_and_beyond():
    *_, finished = generate(Grey(), a_job(negative="fog", guidance=3))
    assert finished.image.getpixel((0, 0)) == round(255 * (3 + 3 * (4 - 3)) / 8)


def test_the_same_job_makes_the_same_pixels():
    first, second = ([*generate(Grey(), a_job())][-1].image.tobytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("sampler", "problem"),
    [
        (Sampler(steps=2, timesteps=(5000, 1)), "timesteps must lie from 999 down to 0"),
        (Sampler(steps=1000, spacing="rho", rho=20), "two steps begin at the same noise"),
    ],
)
def test_a_sampler_that_does_not_fit_the_models_schedule_is_an_error_of_the_job(sampler, problem):
    model = Grey()
    with pytest.raises(JobError, match=problem):
        list(generate(model, a_job(sampler=sampler)))
    assert model.asked == []


def test_a_network_that_loses_itself_leaves_an_error_and_no_picture():
    seen = []
    with pytest.raises(ModelError, match="not finite") as caught:
        seen.extend(generate(Lost(), a_job(5)))
    assert "--dtype fp32" in caught.value.hint
    assert not any(isinstance(event, Finished) for event in seen)


def test_an_adaptive_walk_into_numbers_that_are_not_finite_is_told_as_any_other():
    job = Job(prompt="a", seed=1, guidance=1, sampler=Sampler(method="adaptive"))
    with pytest.raises(ModelError, match="not finite"):
        list(generate(Lost(), job))


def test_pictures_painted_together_are_those_painted_alone():
    jobs = [Job(prompt="a" * n, negative="no", seed=n, sampler=Sampler(steps=4)) for n in (1, 5, 9)]
    together = [e for e in generate_together(Grey(), jobs) if isinstance(e, Finished)]
    alone = [list(generate(Grey(), job))[-1] for job in jobs]
    assert [e.job for e in together] == [e.job for e in alone]
    assert [e.image.getpixel((0, 0)) for e in together] == [e.image.getpixel((0, 0)) for e in alone]


def test_pictures_painted_together_share_their_calls():
    model = Grey()
    jobs = [Job(prompt="a", seed=n, sampler=Sampler(steps=4)) for n in range(3)]
    events = list(generate_together(model, jobs))
    assert [(rows, told) for _, rows, told in model.asked] == [(3, 6)] * 4
    assert [e.index for e in events if isinstance(e, Stepped)] == [1, 2, 3, 4]
    assert [e.job.seed for e in events if isinstance(e, Encoded)] == [0, 1, 2]


def test_what_a_picture_draws_does_not_depend_on_its_mates():
    jobs = [
        Job(prompt="a", seed=n, sampler=Sampler(solver="sde-dpm++", steps=3)) for n in (7, 8, 9)
    ]
    *_, alone = generate(Grey(), jobs[2])
    *_, last = generate_together(Grey(), jobs)
    assert last.image.getpixel((0, 0)) == alone.image.getpixel((0, 0))


def test_pictures_that_choose_their_own_steps_are_painted_one_by_one():
    sampler = Sampler(method="adaptive", final="sigma_min")
    model = Grey()
    jobs = [Job(prompt="a", seed=n, guidance=1, sampler=sampler) for n in (1, 2)]
    assert len([e for e in generate_together(model, jobs) if isinstance(e, Finished)]) == 2
    assert {rows for _, rows, _ in model.asked} == {1}


def test_pictures_of_different_walks_are_not_painted_together():
    jobs = [Job(prompt="a", guidance=guidance) for guidance in (2, 3)]
    with pytest.raises(ValueError, match="agree"):
        next(generate_together(Grey(), jobs))


def test_guidance_keeps_to_its_interval():
    model = Grey()
    sampler = Sampler(steps=10, spacing="uniform")
    list(generate(model, Job(prompt="a", guidance_interval="0.2:0.75", sampler=sampler)))
    assert [told for _, _, told in model.asked] == [1, 1, 2, 2, 2, 2, 2, 2, 1, 1]


def test_an_interval_of_the_whole_way_is_no_interval():
    *_, whole = generate(Grey(), Job(prompt="a cat", seed=3, guidance_interval="0:1"))
    *_, plain = generate(Grey(), Job(prompt="a cat", seed=3))
    assert whole.image.getpixel((0, 0)) == plain.image.getpixel((0, 0))

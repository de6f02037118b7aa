"""What may be asked for, and what is said when it may not."""

import json
import subprocess
import sys
from collections import ChainMap
from itertools import pairwise, product
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from sdfast.errors import JobError, printable
from sdfast.job import (
    KEYS,
    SEEDS,
    Job,
    quoted,
    read_job,
    read_sampler,
    sampler_record,
)
from sdfast.layering import layered
from sdfast.sampler import DEFAULT, Sampler, Spacing
from sdfast.sampler_names import A1111, ALIASES
from sdfast.schedule_names import schedule_name
from sdfast.solver import NoiseSchedule, solve
from sdfast.wording import nearest

NAN, INF = float("nan"), float("inf")


def refused(**record):
    """The one line that is said of a job that cannot be."""
    with pytest.raises(JobError) as caught:
        read_job({"prompt": "fog", "seed": 1, **record})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
    return caught.value


def said(record):
    """What is said of a record, or nothing if it makes a job."""
    try:
        read_job(record)
    except JobError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("steps", 0, "from 1 to 1000"),
        ("steps", 1001, "from 1 to 1000"),
        ("steps", 20.5, "a whole number"),
        ("steps", "many", "a whole number"),
        ("order", 0, "1, 2 or 3"),
        ("order", 2.5, "a whole number"),
        ("order", "second", "a whole number"),
        ("order", 4, "1, 2 or 3"),
        ("size", "513x7", "two multiples of 8 from 64 to 4096"),
        ("size", "0x0", "two multiples of 8 from 64 to 4096"),
        ("size", "8x8", "two multiples of 8 from 64 to 4096"),
        ("size", "4104x64", "two multiples of 8 from 64 to 4096"),
        ("size", "512", "WIDTHxHEIGHT"),
        ("size", 512, "WIDTHxHEIGHT"),
        ("size", [512], "WIDTHxHEIGHT"),
        ("size", [512, 512, 512], "WIDTHxHEIGHT"),
        ("size", [512.0, 512], "WIDTHxHEIGHT"),
        ("guidance", -1, "from 0 to 100"),
        ("guidance", 101, "from 0 to 100"),
        ("guidance", "much", "a number"),
        ("guidance", NAN, "a finite number"),
        ("guidance", INF, "a finite number"),
        ("guidance", "nan", "a finite number"),
        ("rho", 0.4, "from 0.5 to 20"),
        ("rho", 21, "from 0.5 to 20"),
        ("rho", INF, "a finite number"),
        ("alpha", 0, "from 0.1 to 10"),
        ("beta", 10.5, "from 0.1 to 10"),
        ("beta", "b", "a number"),
        ("seed", -1, "from 0 to 18446744073709551615"),
        ("seed", SEEDS, "from 0 to 18446744073709551615"),
        ("seed", 1.5, "a whole number"),
        ("prompt", 5, "text"),
        ("negative", 5, "text"),
        ("corrector", "maybe", "true or false"),
        ("timesteps", "abc", "a list"),
        ("timesteps", [9, "x"], "a number"),
        ("timesteps", [9, NAN], "a finite number"),
        ("timesteps", [9, -1], "1 to 1000 times of at least 0"),
        ("timesteps", [], "1 to 1000 times"),
    ],
)
def test_a_value_out_of_place_is_named_with_its_key_and_what_it_may_be(key, value, wanted):
    error = refused(**{key: value})
    shown = f"`{value}`"
    assert error.key == key
    assert str(error).startswith(f"{key} must be {wanted}")
    assert str(error).endswith(f"not {shown}")


BOUNDED = [
    key
    for kind in (Job, Sampler)
    for key, said in kind.model_json_schema()["properties"].items()
    for choice in said.get("anyOf", [said])
    if {"minimum", "exclusiveMinimum", "maximum"} & choice.keys()
]


@pytest.mark.parametrize("key", BOUNDED)
def test_a_number_out_of_its_range_is_told_the_range(key):
    for value in (-(10**9), 10**21):
        error = refused(**{"init": "a.png", key: value})
        assert (error.key, str(error).startswith(f"{key} must be ")) == (key, True)


def test_most_numbers_have_a_range():
    assert {"steps", "seed", "guidance_rescale", "strength", "eta", "rho"} <= {*BOUNDED}


@pytest.mark.parametrize("key", ["prompt", "model", "vae"])
def test_a_text_that_is_empty_or_no_text_is_called_so(key):
    assert str(refused(**{key: ""})) == f"{key} must not be empty"
    assert str(refused(**{key: "caf\udce9"})).startswith(rf"{key} must be text, and `caf\udce9`")


@pytest.mark.parametrize("key", ["model", "vae", "init", "mask", "lora", "embedding"])
def test_a_path_holds_no_nul(key):
    error = refused(**{key: "~a\0", "init": "~a\0" if key == "init" else "a.png"})
    assert (error.key, str(error)) == (key, f"{key} must not hold a NUL character, not `~a`")


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("key", [key for key in KEYS if key != "corrector"])
def test_a_boolean_is_nothing_but_a_boolean(key, value):
    error = refused(**{key: value})
    assert error.key == key
    assert any(
        said in str(error)
        for said in (f"{key} must be ", f"there is no {key} ", f"{key} cannot be ")
    )
    assert f"`{value}`".lower() in str(error)


@pytest.mark.parametrize("order", [2, 2.0, "2", "2.0"])
def test_a_whole_number_is_one_however_it_is_written(order):
    job = read_job({"prompt": "fog", "seed": 1, "sampler": "dpm", "order": order})
    assert isinstance(job.sampler.order, int)
    assert job.sampler.order == 2


def test_a_word_where_a_number_should_be_is_told_as_typed():
    assert str(refused(steps="true")) == "steps must be a whole number, not `true`"
    assert str(refused(steps=True)) == "steps must be a whole number, not `true`"


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("method", "multi-step", "did you mean `multistep`?"),
        ("spacing", "karas", "did you mean `karras`?"),
        ("final", "none", "known are `zero`, `sigma_min`"),
        ("weights", "referense", "did you mean `reference`?"),
        ("sampler", "dpm+", "did you mean `dpm++`?"),
        ("sampler", "DPM++ 2M Karas", "did you mean `DPM++ 2M Karras`?"),
    ],
)
def test_an_unknown_name_brings_the_nearest_one(key, value, hint):
    error = refused(**{key: value})
    named = key in ("sampler", "spacing", "method")
    said = f"there is no {key} `{value}`" if named else f"{key} cannot be `{value}`"
    assert (error.key, str(error), error.hint) == (key, said, hint)


def test_a_sampler_like_no_other_brings_ours_and_says_that_a1111s_are_known():
    hint = refused(sampler="xyzzy").hint
    assert hint == (
        "known are `dpm++`, `dpm`, `sde-dpm++`, `ddim`, `ddpm`, `pndm`, `euler`, `heun`, "
        "`lms`, `rk45`, `lcm`, and other programs' names: `sdfast samplers` lists them"
    )


def test_an_unknown_key_brings_the_nearest_one():
    error = refused(stepz=5)
    assert (str(error), error.hint) == ("there is no key `stepz`", "did you mean `steps`?")


def test_a_key_like_no_other_brings_all_of_them():
    assert all(f"`{key}`" in refused(xyzzy=5).hint for key in KEYS)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"corrector": True, "method": "singlestep"}, "a corrector needs the method multistep"),
        (
            {"weights": "heun", "method": "singlestep"},
            "weights `heun` need the method multistep",
        ),
        (
            {"weights": "reference", "method": "adaptive"},
            "the method adaptive takes no `reference` weights",
        ),
        ({"rho": 2, "spacing": "ays"}, "rho needs the spacing `rho` or `karras`, not `ays`"),
        ({"rho": 2, "spacing": "logsnr"}, "rho needs the spacing `rho` or `karras`, not `logsnr`"),
        ({"rho": 2, "sampler": "DPM++ 2M SGM Uniform"}, "rho needs the spacing"),
        ({"alpha": 1, "spacing": "rho"}, "alpha needs the spacing `beta`, not `rho`"),
        ({"beta": 1, "sampler": "DPM++ 2M Karras"}, "beta needs the spacing `beta`, not `karras`"),
        ({"rho": 2, "timesteps": [2, 1]}, "rho needs a spacing, and explicit timesteps have none"),
        ({"rho": 2, "spacing": "rho", "timesteps": [2, 1]}, "explicit timesteps have none"),
        ({"sampler": "ddim", "order": 2}, "ddim takes no order"),
        ({"sampler": "pndm", "order": 3}, "pndm takes no order"),
        ({"sampler": "pndm", "method": "singlestep"}, "pndm takes no method"),
        ({"sampler": "pndm", "weights": "reference"}, "pndm takes no weights"),
        ({"sampler": "ddim", "corrector": True}, "ddim takes no corrector"),
        ({"sampler": "dpm", "thresholding": 0.9}, "dpm takes no thresholding"),
        ({"sampler": "dpm++", "eta": 0.5}, "dpm++ takes an eta with the method midpoint only"),
        (
            {"sampler": "dpm", "method": "midpoint", "eta": 1.5},
            "dpm takes an eta of at most 1",
        ),
        (
            {"method": "midpoint", "order": 3},
            "the method midpoint is of order 2; multistep takes 1 to 3",
        ),
        (
            {"method": "midpoint", "weights": "reference"},
            "the method midpoint takes no `reference` weights",
        ),
        (
            {"sampler": "sde-dpm++", "method": "singlestep"},
            "sde-dpm++ walks multistep or midpoint, not singlestep",
        ),
        ({"sampler": "sde-dpm++", "eta": 3}, "eta must be from 0 to 2, not `3`"),
        ({"sampler": "rk45", "final": "zero"}, "rk45 must end at `sigma_min`"),
        ({"sampler": "rk45", "spacing": "karras"}, "rk45 takes neither a spacing nor timesteps"),
        ({"method": "adaptive", "spacing": "karras"}, "takes neither a spacing nor timesteps"),
        ({"method": "adaptive", "order": 1}, "an adaptive walk must be of order 2 or 3"),
        ({"tolerance": 0.1}, "a tolerance needs the method adaptive"),
        ({"corrections": [[]], "steps": 1}, "of 2 to 6 numbers"),
        ({"corrections": [[0]], "steps": 1}, "of 2 to 6 numbers"),
        ({"corrections": [[0, 0]], "steps": 2}, "there are 1 corrections, but steps is 2"),
        ({"corrections": [[0, 0, 0]], "steps": 1}, "step 1 weigh more than it knows"),
        ({"corrections": [[0, 0]], "steps": 1, "corrector": True}, "neither a corrector nor"),
        ({"corrections": [[0, 0]], "steps": 1, "method": "fast"}, "corrections need the method"),
        ({"timesteps": [1, 2, 3]}, "timesteps must fall"),
        ({"timesteps": [2, 2]}, "timesteps must fall"),
        ({"timesteps": [2, 1], "steps": 3}, "there are 2 timesteps, but steps is 3"),
        ({"timesteps": [*range(1001, 0, -1)]}, "1 to 1000 times"),
    ],
)
def test_keys_that_do_not_go_together_are_told(record, words):
    assert words in str(refused(**record))


@pytest.mark.parametrize("prompt", ["", " ", "\n\t"])
def test_a_prompt_says_something(prompt):
    assert str(refused(prompt=prompt)) == "prompt must not be empty"


@pytest.mark.parametrize("key", ["prompt", "negative"])
def test_a_prompt_ends_at_twenty_thousand_characters(key):
    read_job({"prompt": "fog", key: "x" * 20_000})
    assert str(refused(**{key: "x" * 20_001})) == f"{key} is longer than 20000 characters"


def test_a_prompt_that_is_missing_is_asked_for():
    with pytest.raises(JobError, match="prompt must be given"):
        read_job({})


@pytest.mark.parametrize(
    "value",
    ["\x1b[2J\n" * 9999, 10**5000, [[[]]] * 1000, {"a": 1}, b"\0", "\ud800"],
    ids=["escapes", "number", "lists", "mapping", "bytes", "surrogate"],
)
@pytest.mark.parametrize("key", KEYS)
def test_a_hostile_value_is_refused_in_one_short_line_if_at_all(key, value):
    answer = said({"prompt": "fog", key: value})
    assert answer.isprintable()
    assert 0 < len(answer) < 200 or (
        isinstance(value, bytes) and key in ("prompt", "negative", "model", "init", "vae")
    )


def test_a_job_and_its_sampler_never_change():
    job = Job(prompt="fog")
    with pytest.raises(ValidationError, match="frozen"):
        job.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        job.sampler.steps = 3


def test_a_job_without_a_seed_draws_one_of_its_own_that_every_program_reads():
    seeds = {Job(prompt="fog").seed for _ in range(20)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_first_and_the_last_seed_are_seeds():
    assert [read_job({"prompt": "fog", "seed": s}).seed for s in (0, SEEDS - 1)] == [0, SEEDS - 1]


@pytest.mark.parametrize("size", ["512x768", "512X768", " 512x768 ", (512, 768), [512, 768]])
def test_a_size_is_width_and_height(size):
    job = read_job({"prompt": "fog", "size": size})
    assert job.size == (512, 768)
    assert job.record["size"] == "512x768"


def test_timesteps_say_how_many_steps_there_are():
    assert read_sampler({"timesteps": [999, 500.5, 1]}).steps == 3


def test_ddim_is_of_order_one_without_being_told():
    assert read_sampler({"sampler": "ddim"}).order == 1


def test_a_record_leaves_out_what_stands_at_its_default():
    job = read_job({"prompt": "fog", "seed": 1, "sampler": "dpm++", "negative": ""})
    assert job.record == {"prompt": "fog", "seed": 1, "steps": 20, "sampler": "dpm++"}


def test_a_job_that_asks_for_nothing_else_is_painted_as_the_default_preset():
    from sdfast import load_preset

    assert read_job({"prompt": "fog"}).sampler == Job(prompt="fog").sampler == DEFAULT
    assert load_preset("default").sampler == DEFAULT


@pytest.mark.parametrize(
    ("method", "order"),
    [
        *product(("multistep", "singlestep", "fast"), (1, 2, 3)),
        *product(("adaptive",), (2, 3)),
    ],
)
@pytest.mark.parametrize("solver", ["dpm++", "dpm"])
def test_a_sampler_comes_back_from_its_record(solver, order, method):
    sampler = Sampler(solver=solver, order=order, method=method)
    assert read_sampler(sampler_record(sampler)) == sampler


@pytest.mark.parametrize("method", ["multistep", "singlestep", "fast", "adaptive"])
def test_a_method_is_of_second_order_unless_told_otherwise(method):
    assert read_job({"prompt": "fog", "method": method}).sampler.order == 2


TUNED = {
    "sampler": "dpm++",
    "spacing": "rho",
    "timesteps": [900, 500],
    "corrections": [[0.1, 0.1], [0.1, 0.1, 0.1]],
    "final": "sigma_min",
    "model": "tiny",
}


@pytest.mark.parametrize(
    "said",
    [
        {"steps": 2},
        {"timesteps": [900, 500]},
        {"model": "tiny"},
        {"guidance": 5},
        {"method": "multistep", "order": 2, "final": "sigma_min"},
        {"weights": "exact", "corrector": False},
    ],
)
def test_what_says_the_same_again_leaves_a_tuned_walk_as_it_is(said):
    assert layered(TUNED, said)["corrections"] == TUNED["corrections"]


@pytest.mark.parametrize(("said", "walked"), [({"steps": 20}, 20), ({"steps": 3}, 3), ({}, 3)])
def test_a_number_of_steps_takes_the_place_of_times_of_another_number(said, walked):
    sampler = read_job({"prompt": "fog", **layered({"timesteps": [900, 500, 9]}, said)}).sampler
    assert sampler.steps == walked
    assert (sampler.timesteps is None) == (walked == 20)


@pytest.mark.parametrize("corrector", [False, True])
def test_a_fit_that_names_no_sampler_has_no_corrector(corrector):
    fit = {"steps": 2, "corrections": [[0.1, 0.1], [0.1, 0.1, 0.1]]}
    sampler = read_job({"prompt": "fog", **layered(fit, {"corrector": corrector})}).sampler
    assert (sampler.corrections is None, sampler.corrector) == (corrector, corrector)


@pytest.mark.parametrize("said", [{"model": "sd15"}, {"final": "zero"}, {"order": 3}])
def test_fitted_weights_are_for_what_they_were_fitted_to(said):
    merged = layered(TUNED, said)
    assert "corrections" not in merged
    assert merged["timesteps"] == TUNED["timesteps"]


def test_a_tuned_walk_of_another_length_falls_back_to_small_last_strides():
    sampler = read_job({"prompt": "fog", **layered(TUNED, {"steps": 12})}).sampler
    assert (sampler.steps, sampler.spacing, sampler.timesteps) == (12, "rho", None)
    assert sampler.corrections is None


def test_equal_records_are_equal_jobs_and_can_be_keys():
    first, second = (read_job({"prompt": "fog", "seed": 1, "timesteps": [9, 1]}) for _ in range(2))
    assert first == second
    assert len({first, second}) == 1


times = st.lists(st.floats(0, 999), min_size=1, max_size=20, unique=True)
walks = st.one_of(
    st.fixed_dictionaries({"steps": st.integers(1, 1000)}),
    times.map(lambda drawn: {"timesteps": sorted(drawn, reverse=True)}),
    st.fixed_dictionaries(
        {"spacing": st.sampled_from(["rho", "karras"])}, optional={"rho": st.floats(0.5, 20)}
    ),
    st.sampled_from(get_args(Spacing)).map(lambda name: {"spacing": name}),
)
solvers = st.one_of(
    st.just({"sampler": "ddim"}),
    st.sampled_from(sorted({*ALIASES} - {"RK45", "DPM adaptive"})).map(  # these take no times
        lambda name: {"sampler": name}
    ),
    st.fixed_dictionaries(
        {"sampler": st.sampled_from(["dpm++", "dpm"])},
        optional={
            "order": st.integers(1, 3),
            "corrector": st.booleans(),
            "weights": st.sampled_from(["exact", "reference", "heun"]),
        },
    ),
    st.fixed_dictionaries(
        {
            "sampler": st.sampled_from(["dpm++", "dpm"]),
            "method": st.sampled_from(["singlestep", "fast"]),
        },
        optional={"order": st.integers(1, 3), "weights": st.sampled_from(["exact", "reference"])},
    ),
)
others = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1).filter(str.strip), "seed": st.integers(0, SEEDS - 1)},
    optional={
        "negative": st.text(),
        "model": st.text(
            st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1
        ),
        "size": st.tuples(*[st.integers(8, 512).map(lambda n: n * 8)] * 2),
        "guidance": st.floats(0, 100),
        "final": st.sampled_from(["zero", "sigma_min"]),
    },
)
jobs = st.builds(lambda *parts: read_job(dict(ChainMap(*parts))), solvers, walks, others)


@given(jobs)
def test_a_job_comes_back_whole_from_its_record_in_json(job):
    assert read_job(json.loads(json.dumps(job.record))) == job


@given(jobs)
def test_a_record_read_as_a_layer_of_its_own_is_the_same(job):
    assert read_job(layered({}, job.record)) == job


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(), st.text() | st.integers() | st.floats()))
def test_any_record_is_a_job_or_a_job_error(record):
    assert said(record).isprintable()


def test_later_layers_win():
    merged = layered({"steps": 20, "rho": 2}, {"steps": 10}, {"steps": 12, "seed": 1})
    assert merged == {"steps": 12, "rho": 2, "seed": 1}


def test_none_is_not_given():
    assert layered({"steps": 20, "sampler": "dpm"}, {"steps": None, "sampler": None}) == {
        "steps": 20,
        "sampler": "dpm",
    }


def test_a_sampler_starts_afresh_but_keeps_the_steps():
    beneath = {
        "steps": 12,
        "guidance": 3,
        "order": 3,
        "spacing": "rho",
        "rho": 2,
        "corrector": True,
    }
    assert layered(beneath, {"sampler": "ddim"}) == {"steps": 12, "guidance": 3, "sampler": "ddim"}


def test_what_stands_beside_a_sampler_is_kept():
    merged = layered({"order": 3}, {"sampler": "dpm", "order": 1, "steps": 5})
    assert merged == {"sampler": "dpm", "order": 1, "steps": 5}


@pytest.mark.parametrize(
    ("beneath", "above", "left"),
    [
        ({"corrector": True}, {"method": "singlestep"}, {"method": "singlestep"}),
        ({"weights": "reference"}, {"method": "singlestep"}, {"method": "singlestep"}),
        ({"spacing": "rho", "rho": 3}, {"spacing": "uniform"}, {"spacing": "uniform"}),
        ({"spacing": "rho", "rho": 3}, {"spacing": "karras"}, {"spacing": "karras"}),
        ({"spacing": "beta", "alpha": 2, "beta": 1}, {"spacing": "rho"}, {"spacing": "rho"}),
        ({"timesteps": [9, 1]}, {"spacing": "karras"}, {"spacing": "karras"}),
        ({"timesteps": [9, 1]}, {"steps": 5}, {"steps": 5}),
        ({"steps": 5, "spacing": "rho", "rho": 2}, {"timesteps": [9, 1]}, {"timesteps": [9, 1]}),
    ],
)
def test_a_key_drops_what_was_meant_for_another_choice(beneath, above, left):
    assert layered(beneath, above) == left


def test_what_was_meant_for_another_choice_is_not_in_the_way():
    beneath = {"corrector": True, "weights": "reference", "spacing": "rho", "rho": 2}
    above = {"method": "singlestep", "spacing": "uniform"}
    assert read_sampler(layered(beneath, above)) == Sampler(method="singlestep")
    assert read_sampler(layered(beneath, {"timesteps": [9, 1]})).rho is None


KARRAS = Sampler(order=2, spacing="karras", weights="reference")
DDIM = Sampler(solver="ddim", order=1, spacing="leading", final="sigma_min")


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("DPM++ 2M", KARRAS),
        ("DPM++ 2M Karras", KARRAS),
        ("dpm++ 2m karras", KARRAS),
        ("DPM++ 2M Exponential", Sampler(order=2, spacing="exponential", weights="reference")),
        (
            "DPM++ 2M SGM Uniform",
            Sampler(order=2, spacing="uniform", weights="reference"),
        ),
        ("UniPC", Sampler(order=2, corrector=True, spacing="uniform")),
        ("UniPC Karras", Sampler(order=2, corrector=True, spacing="karras")),
        ("unipc", Sampler(order=2, corrector=True, spacing="uniform")),
        ("ddim", Sampler(solver="ddim", order=1)),
        ("DDIM", DDIM),
    ],
)
def test_the_names_others_use_are_samplers_of_ours(name, sampler):
    assert read_sampler({"sampler": name}) == sampler


def test_no_other_names_are_known():
    kinds = ["Beta", "Exponential", "Karras", "Normal", "Polyexponential", "SGM Uniform", "Simple"]
    kinds += ["Uniform"]
    scheduled = [
        "DPM++ 2M",
        "DPM++ 2M SDE",
        "DPM++ 2M SDE Heun",
        "DPM++ 2S a",
        "DPM++ 3M SDE",
        "DPM++ SDE",
    ]
    scheduled += ["DPM2", "DPM2 a", "Euler", "Euler a", "Heun", "LCM", "LMS", "UniPC"]
    alone = ["DDIM", "DDPM", "DPM adaptive", "DPM fast", "PLMS", "PNDM", "RK45"]
    named = [f"{name} {kind}" for name in scheduled for kind in kinds]
    assert sorted(ALIASES) == sorted([*scheduled, *named, *alone])


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("dpmpp_2m", "DPM++ 2M"),
        ("dpmpp_2m_karras", "DPM++ 2M Karras"),
        ("dpmpp_2m_sde_exponential", "DPM++ 2M SDE Exponential"),
        ("dpmpp_2m_sde_heun_karras", "DPM++ 2M SDE Heun Karras"),
        ("DPMPP_SDE_sgm_uniform", "DPM++ SDE SGM Uniform"),
        ("dpmpp_2s_ancestral", "DPM++ 2S a"),
        ("dpmpp_3m_sde", "DPM++ 3M SDE"),
        ("dpm_2_ancestral_normal", "DPM2 a Uniform"),
        ("euler_ancestral_beta", "Euler a Beta"),
        ("euler_karras", "Euler Karras"),
        ("lms_simple", "LMS Simple"),
        ("uni_pc", "UniPC"),
        ("uni_pc_karras", "UniPC Karras"),
        ("dpm_fast", "DPM fast"),
        ("plms", "PLMS"),
    ],
)
def test_comfys_names_are_known_alone_and_with_a_schedule(theirs, name):
    assert read_sampler({"sampler": theirs}) == read_sampler({"sampler": name})


@pytest.mark.parametrize("name", ["euler", "heun", "ddim", "lcm", "lms"])
def test_a_bare_solver_of_ours_is_ours(name):
    assert read_sampler({"sampler": name}) == Sampler(solver=name)


def test_the_method_midpoint_has_an_order_of_its_own():
    third = {"sampler": "dpm++", "order": 3, "corrector": True}
    assert read_sampler(layered(third, {"method": "midpoint"})) == Sampler(method="midpoint")
    ancestral = {"sampler": "dpm++", "method": "midpoint", "eta": 0.5}
    assert read_sampler(layered(ancestral, {"method": "multistep"})) == Sampler()
    assert read_sampler(layered(ancestral, {"method": "midpoint"})).eta == 0.5


@pytest.mark.parametrize("methods", [("multistep", "midpoint"), ("midpoint", "multistep")])
def test_the_sde_keeps_its_eta_under_either_method(methods):
    first, second = methods
    drawn = {"sampler": "sde-dpm++", "method": first, "eta": 0.5}
    changed = read_sampler(layered(drawn, {"method": second}))
    assert (changed.method, changed.eta) == (second, 0.5)


@pytest.mark.parametrize(
    "name",
    [
        "DPM++ 2M Align Your Steps",
        "DPM++ 2M Automatic",
        "DPM++ 3M",
        "DPM++ 2S",
        "DDIM Karras",
    ],
)
def test_a_sampler_that_walks_otherwise_there_is_not_known_by_its_name(name):
    assert str(refused(sampler=name)) == f"there is no sampler `{name}`"


K_DIFFUSION = {
    "Karras": lambda n: np.linspace(MOST ** (1 / 7), LEAST ** (1 / 7), n) ** 7,
    "Exponential": lambda n: np.exp(np.linspace(np.log(MOST), np.log(LEAST), n)),
    "Uniform": lambda n: np.exp([np.interp(t, range(1000), LOGS) for t in np.linspace(999, 0, n)]),
    "SGM Uniform": lambda n: [SD.at(t).noise_ratio for t in np.linspace(999, 0, n + 1)[:-1]],
}
SD = NoiseSchedule.scaled_linear()
LOGS = [np.log(SD.at(t).noise_ratio) for t in range(1000)]
MOST, LEAST = SD.start.noise_ratio, SD.end.noise_ratio


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 20, 37, 150])
@pytest.mark.parametrize("kind", K_DIFFUSION)
def test_dpmpp_2m_walks_as_k_diffusions(kind, steps):
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)
    sigmas = [*K_DIFFUSION[kind](steps), 0.0]
    x, before, h_before = noise * (1 + MOST**2) ** 0.5, None, None
    for here, there in pairwise(sigmas):
        image = x - here * torch.tanh(x / (1 + here**2) ** 0.5)
        if there == 0:
            x = image
            break
        h = np.log(here / there)
        bent = image if before is None else image + (image - before) * h / (2 * h_before)
        x, before, h_before = there / here * x - np.expm1(-h) * bent, image, h
    sampler = read_sampler({"sampler": f"DPM++ 2M {kind}", "steps": steps})
    torch.testing.assert_close(solve(lambda x, _: torch.tanh(x), noise, sampler, SD), x)


@pytest.mark.parametrize("name", ["UniPC", "DPM++ 2M"])
def test_the_method_in_force_said_beside_a_name_is_no_news(name):
    assert read_sampler({"sampler": name, "method": "multistep"}) == read_sampler({"sampler": name})


def test_a_key_beside_a_name_wins_over_what_the_name_says():
    assert read_sampler({"sampler": "DPM++ 2M Karras", "spacing": "rho"}).spacing == "rho"


@pytest.mark.parametrize(
    ("keys", "written"),
    [
        ({"sampler": "DPM++ 2M"}, ("DPM++ 2M", "Karras")),
        ({"sampler": "DPM++ 2M Karras"}, ("DPM++ 2M", "Karras")),
        ({"sampler": "DPM++ 2M Karras", "rho": 7}, ("DPM++ 2M", "Karras")),
        ({"sampler": "DPM++ 2M Exponential"}, ("DPM++ 2M", "Exponential")),
        ({"sampler": "DPM++ 2M SGM Uniform"}, ("DPM++ 2M", "SGM Uniform")),
        ({"sampler": "DDIM"}, ("ddim", "leading")),
        ({"sampler": "dpm++"}, ("dpm++ 2M", "uniform")),
        ({"sampler": "dpm++", "weights": "reference"}, ("DPM++ 2M", "SGM Uniform")),
        ({"sampler": "DPM++ 2M", "rho": 6}, ("dpm++ 2M", "karras")),
        ({"sampler": "DPM++ 2M", "final": "sigma_min"}, ("dpm++ 2M", "karras")),
        ({"sampler": "DPM++ 2M", "weights": "exact"}, ("dpm++ 2M", "karras")),
        ({"sampler": "DPM++ 2M", "corrector": True}, ("dpm++ 2M UniC", "karras")),
        ({"sampler": "DPM++ 2M", "method": "singlestep"}, ("dpm++ 2S", "karras")),
        ({"sampler": "DPM++ 2M", "order": 3}, ("dpm++ 3M", "karras")),
        ({"sampler": "DPM++ 2M", "spacing": "linspace"}, ("dpm++ 2M", "linspace")),
        ({"sampler": "DPM++ 2M", "timesteps": [999, 1]}, ("dpm++ 2M", "timesteps")),
        ({"sampler": "dpm", "spacing": "karras"}, ("dpm 2M", "karras")),
        ({"sampler": "UniPC"}, ("dpm++ 2M UniC", "uniform")),
        ({"sampler": "DPM2"}, ("dpm 2 midpoint", "karras")),
        ({"sampler": "DPM2 a"}, ("dpm 2 midpoint eta 1", "karras")),
        ({"sampler": "DPM++ SDE"}, ("DPM++ SDE", "Karras")),
        ({"sampler": "Euler a"}, ("Euler a", "Uniform")),
        ({"sampler": "DPM++ 2M SDE"}, ("DPM++ 2M SDE", "Exponential")),
        ({"sampler": "dpmpp_2m_sde_heun_karras"}, ("DPM++ 2M SDE Heun", "Karras")),
        ({"sampler": "DPM++ SDE", "eta": 0.5}, ("sde-dpm++ 2 midpoint eta 0.5", "karras")),
        ({"sampler": "DPM++ SDE", "spacing": "rho"}, ("sde-dpm++ 2 midpoint", "rho")),
        ({"sampler": "DDIM", "final": "zero"}, ("ddim", "leading")),
        ({"sampler": "ddim"}, ("ddim", "uniform")),
    ],
)
def test_an_a1111_name_is_written_only_where_all_of_it_is_true(keys, written):
    steps = {} if "timesteps" in keys else {"steps": 7}
    assert schedule_name(read_sampler(keys | steps)) == written


@pytest.mark.parametrize("said", A1111)
def test_every_a1111_name_is_written_as_a_name_that_means_the_same(said):
    written = schedule_name(read_sampler({"steps": 7, **A1111[said]}))
    assert A1111[written] == A1111[said]


def test_nothing_is_near_where_nothing_is_known():
    assert nearest("fog", ()) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "`true`"),
        (NAN, "`nan`"),
        ("a\x1b[2J\nb", "`a [2J b`"),
        ("x" * 60, f"`{'x' * 60}`"),
        ("x" * 61, f"`{'x' * 57}...`"),
    ],
)
def test_what_was_typed_is_quoted_fit_for_a_terminal(value, shown):
    assert quoted(value) == shown


@given(st.text())
def test_what_is_printable_is_one_line_of_the_same_length(text):
    assert printable(text).isprintable()
    kept = zip(text, printable(text), strict=True)
    assert all(new == (old if old.isprintable() else " ") for old, new in kept)


def test_reading_a_job_imports_no_torch():
    code = (
        "import sys; from sdfast.job import read_job;"
        "read_job({'prompt': 'fog'}).record; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("said", ["0.2:0.8", " 0.2 : 0.8 ", [0.2, 0.8]])
def test_a_guidance_interval_is_two_shares(said):
    job = read_job({"prompt": "a", "guidance_interval": said})
    assert job.guidance_interval == (0.2, 0.8)
    assert job.record["guidance_interval"] == "0.2:0.8"


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_guidance_interval_comes_back_from_its_record(begin, end):
    assume(begin < end)
    job = read_job({"prompt": "a", "guidance_interval": [begin, end]})
    assert read_job(job.record).guidance_interval == (begin, end)


@pytest.mark.parametrize(
    "said",
    ["0.8:0.2", "0.5:0.5", "0:1.5", "0.2", "a:b", "-0.1:0.5", "e:1", "0.2:0.20", [1], 3, "."],
)
def test_what_is_no_guidance_interval_is_refused(said):
    told = r"be two shares such as 0\.2:0\.8|rise, within 0:1|be a number"
    with pytest.raises(JobError, match=f"guidance_interval must ({told}), not `"):
        read_job({"prompt": "a", "guidance_interval": said})


def test_another_picture_than_the_masked_one_is_not_repainted_whole():
    masked = {"init": "a.png", "mask": "m.png", "strength": 1.0}
    assert layered(masked, {"init": "b.png"}) == {"init": "b.png"}
    assert layered(masked | {"strength": 0.6}, {"init": "b.png"})["strength"] == 0.6
    assert layered(masked, {"init": "b.png", "strength": 1.0})["strength"] == 1


@pytest.mark.parametrize("name", ["karras", "Beta", "ays"])
def test_a_spacing_given_as_a_sampler_is_pointed_to_its_flag(name):
    assert refused(sampler=name).hint == f"that is a spacing: --spacing {name.lower()}"

"""The `parameters` text against the web UI's own way of reading it."""

import json
import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdfast import infotext
from sdfast.job import Job, Sampler, read_job, read_sampler
from sdfast.sampler_names import A1111
from sdfast.schedule_names import schedule_name

_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def webui_reads(text):
    """AUTOMATIC1111's rules, written down a second time."""
    prompt, negative, in_negative = "", "", False
    *lines, last = text.strip().split("\n")
    if len(_PAIR.findall(last)) < 3:
        lines, last = [*lines, last], ""
    for line in lines:
        line = line.strip()
        if line.startswith("Negative prompt:"):
            in_negative = True
            line = line[16:].strip()
        if in_negative:
            negative += ("" if negative == "" else "\n") + line
        else:
            prompt += ("" if prompt == "" else "\n") + line
    pairs = {}
    for key, value in _PAIR.findall(last):
        if value[:1] == '"' and value[-1:] == '"':
            with suppress(ValueError):
                value = json.loads(value)
        pairs[key] = value
    return prompt, negative, pairs


def webui_lines(alphabet):
    """Prompts of up to three lines that the format can carry."""
    line = st.text(alphabet, max_size=30).map(str.strip)
    kept = line.filter(lambda s: s and not s.startswith("Negative prompt:"))
    return st.lists(kept, min_size=1, max_size=3).map("\n".join)


letters = st.one_of(
    st.sampled_from(' ,:()"\\[]<>'), st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
)
prompts = webui_lines(letters)
samplers = st.sampled_from(
    [
        *map(read_sampler, A1111.values()),
        read_sampler({"sampler": "UniPC"}),
        Sampler(order=3),
        Sampler(spacing="karras", rho=5),
        Sampler(spacing="karras", final="sigma_min"),
        Sampler(solver="ddim", order=1),
    ]
)
jobs = st.builds(
    Job,
    prompt=prompts,
    negative=st.just("") | prompts,
    seed=st.integers(0, 2**32 - 1),
    guidance=st.none() | st.floats(0, 100),
    clip_skip=st.none() | st.integers(2, 12),
    sampler=st.builds(
        lambda sampler, steps: sampler.model_copy(update={"steps": steps}),
        samplers,
        st.integers(1, 1000),
    ),
)
models = st.none() | st.text(letters, min_size=1, max_size=20).filter(str.strip)
sizes = st.tuples(*2 * [st.integers(8, 512).map(lambda n: 8 * n)])


@given(jobs, models, sizes)
def test_the_web_ui_reads_every_value_back(job, model, size):
    text = infotext.write(job, version="1.2", model=model, size=size)
    prompt, negative, pairs = webui_reads(text)
    assert (prompt, negative) == (job.prompt, job.negative)
    assert (pairs["Sampler"], pairs["Schedule type"]) == schedule_name(job.sampler)
    assert pairs.get("Model") == model
    assert pairs["Size"] == "{}x{}".format(*size)
    assert int(pairs["Seed"]) == job.seed
    assert int(pairs["Steps"]) == job.sampler.steps
    assert (int(pairs["Clip skip"]) if "Clip skip" in pairs else None) == job.clip_skip
    assert (float(pairs["CFG scale"]) if "CFG scale" in pairs else None) == job.guidance


@given(jobs, models, sizes)
def test_our_reader_agrees_with_the_web_ui(job, model, size):
    text = infotext.write(job, version="1.2", model=model, size=size)
    assert tuple(infotext.read(text)) == webui_reads(text)


@given(st.text(st.sampled_from('ab:, \n"\\-/{}S1') | st.characters(), max_size=200))
def test_our_reader_agrees_with_the_web_ui_on_anything(text):
    assert tuple(infotext.read(text)) == webui_reads(text)


@given(jobs, sizes)
def test_a_job_with_a_sampler_of_the_web_ui_comes_back(job, size):
    text = infotext.write(job, version="1.2", model="sd15", size=size)
    record, unknown = infotext.to_record(infotext.read(text))
    back = read_job(record)
    named = schedule_name(job.sampler) in A1111
    assert unknown == ([] if named else ["Sampler"])
    assert back.sampler == job.sampler or not named
    assert (back.prompt, back.negative, back.seed) == (job.prompt, job.negative, job.seed)
    assert (back.guidance, back.size, back.model) == (job.guidance, size, "sd15")
    assert back.clip_skip == job.clip_skip


def test_the_pairs_stand_in_the_web_uis_order():
    job = read_job({"prompt": "a cat", "seed": 7, "guidance": 7.5, "sampler": "DPM++ 2M Karras"})
    assert infotext.write(job, version="0.1.0", model="a, b", size=(512, 768)) == (
        "a cat\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 7, "
        'Size: 512x768, Model: "a, b", RNG: CPU, Version: sdfast 0.1.0'
    )


def record_of(params):
    return infotext.to_record(infotext.read(f"a cat\n{params}"))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Sampler: DPM++ 2M, Schedule type: Karras", "DPM++ 2M Karras"),
        ("Sampler: DPM++ 2M Karras", "DPM++ 2M Karras"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "DPM++ 2M Karras"),
        ("Sampler: DPM++ 2M, Schedule type: Exponential", "DPM++ 2M Exponential"),
        ("Sampler: DPM++ 2M, Schedule type: SGM Uniform", "DPM++ 2M SGM Uniform"),
        ("Sampler: DPM++ 2M SGM Uniform", "DPM++ 2M SGM Uniform"),
        ("Sampler: DPM++ 2M, Schedule type: Normal", "DPM++ 2M Uniform"),
        ("Sampler: DPM++ 2M, Schedule type: Polyexponential", "DPM++ 2M Exponential"),
        ("Sampler: DPM++ 2M, Schedule type: Uniform", "DPM++ 2M Uniform"),
        ("Sampler: DPM++ 2M", "DPM++ 2M Uniform"),
        ("Sampler: Euler", "Euler Uniform"),
        ("Sampler: Euler, Schedule type: Automatic", "Euler Uniform"),
        ("Sampler: Heun, Schedule type: Automatic", "Heun Uniform"),
        ("Sampler: Euler a, Schedule type: Automatic", "Euler a Uniform"),
        ("Sampler: Euler a, Schedule type: Karras", "Euler a Karras"),
        ("Sampler: Euler a", "Euler a Uniform"),
        ("Sampler: Euler a Karras", "Euler a Karras"),
        ("Sampler: DPM++ SDE, Schedule type: Automatic", "DPM++ SDE Karras"),
        ("Sampler: DPM++ SDE Karras", "DPM++ SDE Karras"),
        ("Sampler: DPM++ SDE", "DPM++ SDE Uniform"),
        ("Sampler: DPM++ 2M SDE, Schedule type: Automatic", "DPM++ 2M SDE Exponential"),
        ("Sampler: DPM++ 2M SDE Exponential", "DPM++ 2M SDE Exponential"),
        ("Sampler: DPM++ 2M SDE Heun Karras", "DPM++ 2M SDE Heun Karras"),
        ("Sampler: DPM++ 2M SDE Heun, Schedule type: Automatic", "DPM++ 2M SDE Heun Exponential"),
        ("Sampler: DPM++ 2S a, Schedule type: Karras", "DPM++ 2S a Karras"),
        ("Sampler: LMS", "LMS Uniform"),
        ("Sampler: LMS Karras", "LMS Karras"),
        ("Sampler: euler_a discrete", "Euler a"),
        ("Sampler: dpm++2m discrete", "DPM++ 2M Uniform"),
        ("Sampler: euler discrete", "Euler"),
        ("Sampler: dpm++2m karras", "DPM++ 2M Karras"),
        ("Sampler: dpm++2m exponential", "DPM++ 2M Exponential"),
        ("Sampler: dpm++2m sgm_uniform", "DPM++ 2M SGM Uniform"),
    ],
)
def test_a_sampler_is_read_in_every_form_it_is_written_in(said, meant):
    record, unknown = record_of(f"Steps: 20, {said}, Seed: 1")
    assert read_sampler({"sampler": record["sampler"]}) == read_sampler({"sampler": meant})
    assert unknown == []


@pytest.mark.parametrize(
    ("said", "eta", "left"),
    [
        ("Sampler: DPM++ 2S a, Schedule type: Karras, Eta: 0.5", 0.5, []),
        ("Sampler: DPM++ 2M SDE, Schedule type: Karras, Eta: 1.5", 1.5, []),
        ("Sampler: DPM++ 2M SDE Heun, Schedule type: Karras, Eta: 0.5", 0.5, []),
        ("Sampler: DPM++ 2S a, Schedule type: Karras, Eta: 1.5", None, ["Eta"]),
        ("Sampler: DPM++ 2M SDE, Schedule type: Karras, Eta: much", None, ["Eta"]),
        ("Sampler: DPM++ SDE, Schedule type: Karras, Eta: 0.5", None, ["Eta"]),
        ("Sampler: Euler a, Schedule type: Karras, Eta: 0.5", 0.5, []),
        ("Sampler: Euler, Schedule type: Karras, Eta: 0.5", None, ["Eta"]),
    ],
)
def test_eta_is_read_where_it_means_the_same(said, eta, left):
    record, unknown = record_of(f"Steps: 20, {said}, Seed: 1")
    assert (record.get("eta"), unknown) == (eta, left)


def test_euler_a_with_less_noise_is_ddim_with_as_much():
    record, _ = record_of("Steps: 20, Sampler: Euler a, Seed: 1, Eta: 0.5")
    assert read_job(record).sampler == Sampler(solver="ddim", spacing="normal", eta=0.5)


@pytest.mark.parametrize(
    ("said", "rho", "left"),
    [
        ("Sampler: DPM++ 2M, Schedule type: Karras, Schedule rho: 5", 5, []),
        ("Sampler: Euler a, Schedule type: Karras, Eta: 0.5, Schedule rho: 5", 5, []),
        ("Sampler: DPM++ 2M, Schedule type: Exponential, Schedule rho: 5", None, ["Schedule rho"]),
        ("Sampler: DPM++ 2M, Schedule type: Karras, Schedule rho: 99", None, ["Schedule rho"]),
    ],
)
def test_the_power_of_karras_schedule_is_read(said, rho, left):
    record, unknown = record_of(f"Steps: 20, {said}, Seed: 1")
    assert (read_job(record).sampler.rho, unknown) == (rho, left)


@pytest.mark.parametrize(
    ("said", "near"),
    [
        ("Sampler: DPM++ 2M, Schedule type: Align Your Steps", "DPM++ 2M"),
        ("Sampler: DPM++ 2M, Schedule type: Beta", "DPM++ 2M Beta"),
        ("Sampler: DPM++ 2M, Schedule type: karras", "DPM++ 2M Karras"),
        ("Sampler: DPM++ 2M Karras, Schedule type: Exponential", "DPM++ 2M Karras"),
        ("Sampler: DPM++ 3M SDE, Schedule type: Karras", "DPM++ 3M SDE Karras"),
        ("Sampler: DPM2, Schedule type: Karras", "DPM2 Karras"),
        ("Sampler: DPM2 a Karras", "DPM2 a Karras"),
        ("Sampler: UniPC", "UniPC"),
        ("Sampler: UniPC, Schedule type: Automatic", "UniPC"),
        ("Sampler: PLMS, Schedule type: Automatic", "PLMS"),
        ("Sampler: ddim, Schedule type: uniform", "DDIM"),
        ("Sampler: DDIM, Schedule type: Automatic", "DDIM"),
        ("Sampler: DDIM", "DDIM"),
        ("Sampler: dpm++2m", "dpm++2m"),
        ("Sampler: DDIM CFG++, Schedule type: Automatic", None),
        ("Sampler: dpm++, Schedule type: Automatic", None),
        ("Sampler: dpm++2m ays", None),
        ("Sampler: dpm++2m gits", None),
        ("Sampler: dpm++2mv2 karras", None),
        ("Sampler: ddim_trailing", None),
    ],
)
def test_a_sampler_that_walks_otherwise_there_is_named_and_the_nearest_taken(said, near):
    record, unknown = record_of(f"Steps: 20, {said}, Seed: 1")
    assert (record.get("sampler"), unknown) == (near, ["Sampler"])


@pytest.mark.parametrize(
    "pair",
    [
        "Sampler: DPM2 a",
        "Sampler: DPM++ 3M SDE",
        "Clip skip: none",
        "Model: dreamshaper",
        "RNG: mersenne",
        "Size: 500x501",
        "Seed: -1",
        "Steps: twenty",
        "CFG scale: nan",
        "Steps: " + "9" * 5000,
    ],
)
def test_what_cannot_be_followed_is_left_out_and_named(pair):
    name = pair.partition(":")[0]
    record, unknown = record_of(f"{pair}, Version: v1.10.1, Schedule type: Karras, Extra: ")
    assert unknown == [name] or unknown == [name, "Schedule type"]
    near = {"sampler": f"{pair.removeprefix('Sampler: ')} Karras"} if name == "Sampler" else {}
    assert record == {"prompt": "a cat", "negative": ""} | near


def test_a_schedule_of_no_sampler_is_named():
    record, unknown = record_of("Steps: 20, Schedule type: Karras, Seed: 1")
    assert unknown == ["Schedule type"]
    assert "sampler" not in record


def test_two_pairs_are_part_of_the_prompt():
    assert infotext.read("a cat\nSteps: 20, Seed: 1") == ("a cat\nSteps: 20, Seed: 1", "", {})


def test_a_pair_cannot_overrule_the_prompt():
    record, _ = record_of("Steps: 20, Prompt: a dog, Negative prompt: tails, Seed: 1")
    assert (record["prompt"], record["negative"]) == ("a cat", "")


def test_a_text_without_a_prompt_gives_the_rest():
    record, unknown = infotext.to_record(infotext.read("Steps: 9, Seed: 1, Size: 512x512"))
    assert record == {"negative": "", "steps": 9, "seed": 1, "size": "512x512"}
    assert unknown == []


def test_the_json_that_stable_diffusion_cpp_adds_is_cut_off():
    said = infotext.read(
        "a cat\nSteps: 20, Seed: 1, Version: stable-diffusion.cpp, "
        'SDCPP: {"prompt":{"positive":"a, Steps: 5, Seed: 2, b"}}'
    )
    assert said.pairs == {"Steps": "20", "Seed": "1", "Version": "stable-diffusion.cpp"}


@pytest.mark.parametrize("filler", ["a", " ", 'aa: "', "aa: ", '"\\', "a:", ",", '\\"aa: "'])
def test_a_long_line_takes_no_longer_than_its_length(filler):
    begun = time.process_time()
    infotext.read(filler * (2**20 // len(filler)))  # by the square, this would take hours
    assert time.process_time() - begun < 10


def test_a_name_that_only_looks_quoted_is_kept():
    assert infotext.read('Model: "x, Seed: 1, Steps: 2').pairs["Model"] == '"x'
    assert infotext.read('Model: "\\x", Seed: 1, Steps: 2').pairs["Model"] == '"\\x"'

"""What other programs import from `sdfast`."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import sdfast
from sdfast import (
    Job,
    NoiseSchedule,
    Sampler,
    SdfastError,
    generate,
    invert,
    load_model,
    load_preset,
    noised,
    paint,
    paint_all,
    read_job,
    read_recipe,
    read_sampler,
    save,
    solve,
)
from sdfast.entry import main
from sdfast.errors import ModelError
from sdfast.layering import on_top
from sdfast.models.find import stands_for
from sdfast.presets import Preset
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


def test_to_paint_is_to_wait_for_the_last_event(small):
    model, job = load_model(str(small)), Job(prompt="a cat", seed=1, sampler=Sampler(steps=2))
    *_, finished = generate(model, job)
    assert paint(model, job).image.tobytes() == finished.image.tobytes()


def test_the_names_are_all_that_is_offered():
    assert {*dir(sdfast)} == {*sdfast.__all__, "__version__"}


def test_values_are_replaced_and_checked():
    sampler = load_preset("default").sampler.replace(steps=15)
    assert (sampler.steps, sampler.corrector, sampler.spacing) == (15, True, "beta")
    for wrong in ({"steps": 0}, {"stepz": 3}, {"spacing": "karas"}, {"solver": "dpm+++"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            sampler.replace(**wrong)


TUNED = {
    "steps": 3,
    "final": "sigma_min",
    "timesteps": (900.0, 500.0, 100.0),
    "corrections": ((0.1, 0.1), (0.0, 0.2), (0.1, 0.1)),
}


@pytest.mark.parametrize(
    ("beneath", "flags"),
    [
        (load_preset("fast").record, {"spacing": "karras"}),
        (load_preset("fast").record, {"solver": "ddim"}),
        (load_preset("fast").record, {"solver": "sde-dpm++", "steps": 12}),
        (load_preset("fast").record, {"method": "adaptive"}),
        (load_preset("fast").record, {"method": "midpoint", "eta": 0.5}),
        (TUNED, {"steps": 3}),
        (TUNED, {"solver": "dpm++"}),
        (TUNED, {"corrector": True}),
        ({"sampler": "dpm", "method": "adaptive", "order": 3, "tolerance": 0.1}, {"order": 2}),
        ({"sampler": "dpm", "method": "adaptive", "order": 3}, {"method": "multistep"}),
    ],
)
def test_a_sampler_is_replaced_as_flags_change_a_preset(beneath, flags):
    record = {"sampler" if key == "solver" else key: value for key, value in flags.items()}
    asked = read_job({"prompt": "a cat", **on_top(beneath, record)})
    assert read_job({"prompt": "a cat", **beneath}).sampler.replace(**flags) == asked.sampler


def test_a_fit_is_for_its_own_steps_alone():
    fitted = read_job({"prompt": "a cat", **TUNED}).sampler
    assert fitted.replace(steps=8) == Sampler(steps=8, final="sigma_min")
    assert fitted.replace(spacing="uniform") == Sampler(steps=3, final="sigma_min")
    times = (800.0, 100.0)
    assert fitted.replace(timesteps=times) == Sampler(timesteps=times, final="sigma_min")


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_a_picture_is_saved_as_gen_saves_it(small, tmp_path, monkeypatch, capsys, ending):
    model = load_model(str(small))
    job = Job(prompt="a cat", seed=7, sampler=load_preset("default").sampler.replace(steps=2))
    place = save(paint(model, job), tmp_path / f"ours.{ending}")
    words = ["-m", str(small), "-s", "2", "--seed", "7", "-o", str(tmp_path / f"gen.{ending}")]
    monkeypatch.setattr("sys.argv", ["sdfast", "gen", "a cat", "-q", *words])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert place.read_bytes() == (tmp_path / f"gen.{ending}").read_bytes()
    assert read_recipe(place).job == model.complete(job).replace(model=f"./{small.name}")


def test_a_picture_that_was_cut_is_named_by_its_own_size(small, tmp_path):
    picture = paint(load_model(str(small)), Job(prompt="a cat", seed=7, sampler=Sampler(steps=1)))
    cut = replace(picture, image=picture.image.crop((0, 0, 40, 30)))
    assert save(cut, f"{tmp_path}/{{w}}x{{h}}.png").name == "40x30.png"
    assert read_recipe(tmp_path / "40x30.png").job.size == (64, 64)


def test_a_saved_picture_takes_nobodys_place(small, tmp_path):
    picture = paint(load_model(str(small)), Job(prompt="a cat", seed=7, sampler=Sampler(steps=1)))
    for name in ("a-cat-7.png", "a-cat-7-2.png"):
        assert save(picture, f"{tmp_path}/new/") == tmp_path / "new" / name
    first = save(picture, tmp_path / "new", exists="skip", metadata=False)
    assert read_recipe(first).record["seed"] == 7
    save(picture, first, exists="overwrite", metadata=False)
    with pytest.raises(SdfastError, match="holds no recipe"):
        read_recipe(first)
    for out, exists, said in ((first, "error", "exists"), (tmp_path / "a.bmp", "skip", "PNG")):
        with pytest.raises(SdfastError, match=said):
            save(picture, out, exists=exists)
    assert [*tmp_path.iterdir()] == [tmp_path / "new"]


def test_many_pictures_are_those_painted_one_by_one(small):
    model, two = load_model(str(small)), Sampler(steps=2)
    jobs = [Job(prompt="a cat", seed=seed, sampler=two) for seed in range(3)]
    jobs += [Job(prompt="a dog", seed=1, sampler=Sampler(steps=3))]
    jobs += [Job(prompt="a dog", seed=1, sampler=two)]
    asked = []
    painted = list(paint_all(model, (asked.append(job) or job for job in jobs), together=2))
    assert [done.together for done in painted] == [2, 2, 1, 1, 1]
    assert [done.job for done in painted] == [model.complete(job) for job in jobs]
    for done, job in zip(painted, jobs, strict=True):
        alone = np.asarray(paint(model, job).image, np.int16)
        assert abs(np.asarray(done.image, np.int16) - alone).max() <= 1
    asked.clear()
    next(paint_all(model, (asked.append(job) or job for job in jobs), together=1))
    assert len(asked) <= 2
    assert [done.together for done in paint_all(model, jobs)] == [3, 3, 3, 1, 1]
    with pytest.raises(ValueError, match="at least 1"):
        next(paint_all(model, jobs, together=0))


def test_a_job_of_another_model_is_not_painted(small):
    model = load_model(str(small))
    for painter in (paint, lambda model, job: list(paint_all(model, [job]))):
        with pytest.raises(SdfastError, match=r"is for `sdxl`, and `.*` is loaded"):
            painter(model, Job(prompt="a cat", model="sdxl"))
    for name in (str(small), f"{small}/", f"./{small.name}"):
        assert paint(model, Job(prompt="a cat", model=name, sampler=Sampler(steps=1))).image


def test_what_a_picture_of_a_folder_tells_is_painted_again(small, tmp_path, monkeypatch):
    model = load_model(str(small))
    first = paint(model, Job(prompt="a cat", seed=7, sampler=Sampler(steps=1)))
    monkeypatch.chdir(tmp_path)
    again = paint(model, read_recipe(save(first, "a.png")).job)
    assert again.image.tobytes() == first.image.tobytes()
    monkeypatch.chdir(small.parent)
    assert stands_for(small.name, str(small))
    assert not stands_for("tiny", str(small))
    assert stands_for("stable-diffusion-v1-5/stable-diffusion-v1-5", "sd15")


def test_a_job_says_what_is_to_be_loaded(small):
    with pytest.raises(ModelError, match=r"nowhere\.safetensors"):
        load_model(Job(prompt="a cat", model=str(small), lora="nowhere.safetensors:0.8"))
    assert load_model(Job(prompt="a cat", model=str(small))).name == str(small)
    assert load_model(Job(prompt="a cat")).name == "tiny"


@pytest.mark.parametrize("block", [0, 1])
def test_the_readme_says_what_can_be_done(tmp_path, monkeypatch, capsys, block):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    names = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[block], names)
    if block == 0:
        asked = names["model"].complete(names["default"].job("a cat", seed=1))
        assert read_recipe("cat.png").job == asked
        assert read_recipe("other.png").job == asked.replace(seed=2)
        printed = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in printed] == [f"out/a-cat-{n}.png" for n in range(8)]
    else:
        assert names["x0"].std().item() == pytest.approx(1, abs=0.05)


def test_a_preset_makes_jobs_as_its_flags_do():
    preset = load_preset("fast")
    assert preset.job("a cat", seed=1) == Job(prompt="a cat", seed=1, sampler=preset.sampler)
    assert preset.job("a cat", seed=1, spacing="karras").sampler.alpha is None
    assert preset.job("a cat", seed=1, sampler="Euler a").sampler.solver == "ddpm"
    ddim = Sampler(solver="ddim", steps=7)
    assert preset.job("a cat", sampler=ddim).sampler == ddim
    assert preset.job("a cat", sampler=ddim, steps=9).sampler == ddim.replace(steps=9)
    whole = Preset("mine", {"guidance": 6.0, "negative": "rain", "size": (64, 64)})
    job = whole.job("a cat", guidance=2)
    assert (job.guidance, job.negative, job.size) == (2, "rain", (64, 64))
    with pytest.raises(SdfastError, match="no key `stepz`"):
        preset.job("a cat", stepz=3)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: Job(prompt=""), ValidationError),
        (lambda: Sampler(steps=0), ValidationError),
        (lambda: Job(prompt="a").replace(seed=-1), ValidationError),
        (lambda: Sampler().replace(steps=0), ValidationError),
        (lambda: load_preset("default").job(""), SdfastError),
        (lambda: load_preset("default").job("a", steps=0), SdfastError),
        (lambda: read_job({"prompt": ""}), SdfastError),
        (lambda: read_sampler({"steps": 0}), SdfastError),
        (lambda: load_preset("nosuch"), SdfastError),
        (lambda: load_model("nosuch"), SdfastError),
    ],
)
def test_two_classes_and_their_replace_raise_pydantics_error_and_all_else_ours(wrong, error):
    with pytest.raises(error):
        wrong()


def test_a_sampler_alone_is_plain():
    plain = Sampler()
    assert (plain.spacing, plain.corrector, plain.final) == ("uniform", False, "zero")


def test_files_may_be_paths(tmp_path):
    job = Job(prompt="a cat", init=tmp_path / "a.png", lora=[tmp_path / "b.safetensors"])
    assert (job.init, job.lora) == (f"{tmp_path}/a.png", (f"{tmp_path}/b.safetensors",))
    assert read_job(job.record) == job


def test_samplers_are_read_by_name():
    assert read_sampler({"sampler": "DPM++ 2M Karras", "steps": 7}).spacing == "karras"
    assert read_sampler("DPM++ 2M Karras").spacing == "karras"
    job = read_job({"prompt": "a cat", "sampler": "ddim", "steps": 50})
    assert read_job(job.record) == job


def test_a_job_that_is_replaced_keeps_its_seed():
    job = Job(prompt="a cat")
    assert job.replace(prompt="a dog") == Job(prompt="a dog", seed=job.seed)


def test_one_lora_may_be_a_text(small):
    with pytest.raises(ModelError, match=r"nowhere\.safetensors"):
        load_model(str(small), lora="nowhere.safetensors:0.8")


_X, _S, _N = torch.ones(1, 2), Sampler(steps=2), NoiseSchedule.scaled_linear()


@pytest.mark.parametrize("led", [solve, invert])
@pytest.mark.parametrize(
    ("x", "sampler", "schedule", "said"),
    [
        (np.ones((1, 2)), _S, _N, "a tensor of float32 or float64"),
        (_X.half(), _S, _N, "a tensor of float32 or float64"),
        (_X.long(), _S, _N, "a tensor of float32 or float64"),
        (_X, "DPM++ 2M", _N, "the sampler must be a Sampler, as a preset's `.sampler`, not a str"),
        (_X, _N, _S, "the sampler must be a Sampler"),
        (_X, _S, 1000, "the schedule must be a NoiseSchedule, not a int"),
    ],
)
def test_what_no_walk_can_begin_with_is_refused(led, x, sampler, schedule, said):
    with pytest.raises(TypeError, match=said):
        led(lambda x, t: x, x, sampler, schedule)


def test_a_step_is_a_whole_number():
    with pytest.raises(TypeError, match="integer"):
        solve(lambda x, t: x, _X, _S, _N, begin=1.5)
    one = solve(lambda x, t: x, _X, _S, _N, begin=1)
    assert torch.equal(one, solve(lambda x, t: x, _X, _S, _N, begin=np.int64(1)))


def test_a_network_must_say_a_tensor():
    with pytest.raises(TypeError, match="must say a tensor, not tuple"):
        solve(lambda x, t: (x,), _X, _S, _N)


def test_what_a_network_says_in_half_precision_is_read_in_that_of_x():
    schedule = NoiseSchedule.from_config({"beta_schedule": "squaredcos_cap_v2"})
    x = torch.randn(1, 64, generator=torch.manual_seed(0))
    ends = [
        solve(lambda x, t, kind=kind: x.half().to(kind), x, Sampler(steps=5), schedule)
        for kind in (torch.float16, torch.float32)
    ]
    assert torch.equal(*ends)


def test_a_job_becomes_a_picture(small):
    *_, finished = generate(load_model(str(small)), Job(prompt="a cat", sampler=Sampler(steps=2)))
    assert finished.image.size == (64, 64)

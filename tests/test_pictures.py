"""Pictures begun from pictures, whole or through a mask, judged by diffusers' pipelines."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image
from small import write_inpainting_model, write_v2_model, write_xl_model

from sdfast import Job, Sampler, generate, load_model
from sdfast.canvas import Canvas, own_size, read_canvas
from sdfast.conditioning import encode
from sdfast.engine import _seen, _walk, generate_together
from sdfast.errors import JobError
from sdfast.events import Finished
from sdfast.job import read_job
from sdfast.models.find import find
from sdfast.models.networks import Encoder
from sdfast.solver import NoiseSchedule, inpainting, noised, solve

SIZE = (96, 64)
MODELS = {
    "1.x": (None, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline),
    "2.x": (write_v2_model, StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline),
    "XL": (write_xl_model, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline),
    "1.x for inpainting": (write_inpainting_model, None, StableDiffusionInpaintPipeline),
    "XL for inpainting": (
        lambda folder: write_xl_model(folder, inpaints=True),
        None,
        StableDiffusionXLInpaintPipeline,
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def family(request, small, tmp_path_factory):
    """A model's name and folder, it loaded, and diffusers' pipelines for it."""
    write, over, through = MODELS[request.param]
    folder = write(tmp_path_factory.mktemp("models") / "model") if write else small
    return request.param, folder, load_model(str(folder), device="cpu"), over, through


def photo(size=SIZE):
    """Colours in waves."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    waves = [np.sin(x / 7) + np.cos(y / 5), np.sin((x + y) / 9), np.cos(x * y / 200)]
    return Image.fromarray(np.uint8(np.stack(waves, -1) * 60 + 128))


def window(size=SIZE):
    """White in a part that is made of whole latents."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (16, 8, 48, 32))
    return mask


def ours(model, job, canvas):
    ground = _seen(model, canvas)
    *_, x = _walk(model, [encode(model, model.complete(job))], ground)
    return x, ground


def theirs(kind, folder, job, **asked):
    how = {"add_watermarker": False} if "XL" in kind.__name__ else {}
    pipeline = kind.from_pretrained(folder, **how)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="linspace"
    )
    return pipeline(
        job.prompt,
        negative_prompt=job.negative or None,
        num_inference_steps=job.sampler.steps,
        strength=job.strength,
        guidance_scale=job.guidance,
        generator=torch.Generator().manual_seed(job.seed),
        output_type="latent",
        **asked,
    ).images


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The folder one is in, with the picture and the mask."""
    monkeypatch.chdir(tmp_path)
    photo().save(tmp_path / "photo.png")
    window().save(tmp_path / "mask.png")
    return tmp_path


def a_job(files, *, mask=None, steps=10, **keys):
    sampler = Sampler(steps=steps, weights="reference", spacing="linspace")
    given = {"prompt": "a red cat", "seed": 5, "guidance": 5, "strength": 0.6, "sampler": sampler}
    place = str(files / "mask.png") if mask else None
    return Job(**given | {"init": str(files / "photo.png"), "mask": place} | keys)


@pytest.mark.parametrize("family", ["1.x", "2.x", "XL"], indirect=True)
@pytest.mark.parametrize(("steps", "strength"), [(10, 0.6), (10, 1), (20, 0.45)])
def test_a_picture_leads_where_it_leads_in_diffusers(family, files, steps, strength):
    _, folder, model, over, _ = family
    job = a_job(files, steps=steps, strength=strength)
    got, ground = ours(model, job, Canvas(photo(), None))
    wanted = theirs(over, folder, job, image=ground.image)  # theirs would draw from the posterior
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("guidance", [1, 5])
@pytest.mark.parametrize("strength", [0.6, 1])
def test_a_hole_is_filled_as_diffusers_fills_it(family, files, guidance, strength, monkeypatch):
    name, folder, model, _, through = family
    job = a_job(files, mask=True, strength=strength, guidance=guidance)
    got, ground = ours(model, job, Canvas(photo(), window()))
    asked = {"image": photo(), "mask_image": window(), "width": SIZE[0], "height": SIZE[1]}
    # theirs draws from the posterior, and that is not the question
    monkeypatch.setattr(through, "_encode_vae_image", encoded_to_the_mean)
    wanted = theirs(through, folder, job, **asked)
    if "inpainting" in name or strength < 1:
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-3)
    else:  # diffusers begins with nothing of the picture anywhere, and puts it in a step later
        torch.testing.assert_close(got, wanted, rtol=0, atol=0.05)
    kept = ~ground.repaint.expand_as(got)
    if "inpainting" not in name:
        torch.testing.assert_close(got[kept], ground.image[kept], rtol=0, atol=1e-5)


def encoded_to_the_mean(pipeline, image, generator):
    draw = pipeline.vae.encode(image.to(pipeline.vae.dtype)).latent_dist
    return draw.mean * pipeline.vae.config.scaling_factor


def test_the_mean_of_our_latents_is_that_of_diffusers(family):
    _, folder, model, *_ = family
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    pixels = torch.from_numpy(np.array(photo())).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        wanted = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(model.look(photo()), wanted, rtol=0, atol=1e-4)


# in closed form


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "score"])
@pytest.mark.parametrize("solver", ["dpm++", "dpm", "ddim", "pndm", "euler", "heun"])
def test_what_stays_walks_the_exact_way_of_its_image_and_is_the_image_at_the_end(
    solver, prediction
):
    schedule, sampler = NoiseSchedule.scaled_linear(), Sampler(solver=solver, steps=7)
    image, noise = torch.randn(2, 1, 4, 4, 4, dtype=torch.float64)
    repaint = torch.rand(1, 1, 4, 4) > 0.5
    network = inpainting(
        lambda x, t: torch.tanh(x + t), image, repaint, schedule, prediction=prediction
    )
    x = solve(
        network, noised(image, noise, schedule.start), sampler, schedule, prediction=prediction
    )
    kept = ~repaint.expand_as(x)
    torch.testing.assert_close(x[kept], image[kept], rtol=0, atol=1e-9)
    assert (x[~kept] - image[~kept]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("steps", "strength", "walked"), [(20, 0.6, 12), (10, 0.05, 0), (50, 0.58, 28), (7, 1, 7)]
)
def test_a_strength_walks_its_share_of_the_steps(steps, strength, walked):
    keys = {"prompt": "a cat", "init": "x.png", "steps": steps, "strength": strength}
    if not walked:
        with pytest.raises(JobError, match=r"strength 0.05 of 10 steps is no step at all"):
            read_job(keys)
        return
    assert read_job(keys).walked == walked


def test_a_strength_that_was_not_said_is_named_where_it_leaves_no_step():
    with pytest.raises(JobError, match=r"strength 0.75 of 1 steps is no step at all"):
        read_job({"prompt": "a cat", "init": "x.png", "steps": 1})


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"mask": "m.png"}, "mask needs a picture to begin from"),
        ({"strength": 0.5}, "strength needs a picture to begin from"),
        ({"init": "a.png", "strength": 1.5}, "strength must be above 0 and at most 1, not `1.5`"),
        ({"init": "a.png", "sampler": "rk45"}, "strength must be 1"),
        ({"init": "a.png", "sampler": "dpm", "method": "adaptive"}, "strength must be 1"),
    ],
)
def test_a_job_says_what_does_not_fit_its_picture(keys, said):
    with pytest.raises(JobError, match=re.escape(said)):
        read_job({"prompt": "a cat", **keys})


# the files


def saved(image, path, **how):
    image.save(path, **how)
    return Job(prompt="a cat", init=str(path), size=image.size)


MODES = {
    "L": lambda photo: photo.convert("L"),
    "1": lambda photo: photo.convert("1"),
    "P": lambda photo: photo.quantize(256),
    "CMYK.tiff": lambda photo: photo.convert("CMYK"),
    "I;16": lambda photo: Image.fromarray(np.uint16(photo.convert("L")) * 257),
    "F.tiff": lambda photo: Image.fromarray(np.float32(photo.convert("L")) / 255),
    "RGBA": lambda photo: photo.convert("RGBA"),
    "jpeg.jpg": lambda photo: photo,
    "webp.webp": lambda photo: photo,
}


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_any_mode_is_the_picture_it_shows(mode, tmp_path):
    image = MODES[mode](photo())
    name = mode if "." in mode else f"{mode.replace(';', '')}.png"
    seen = read_canvas(saved(image, tmp_path / name)).picture
    grey = mode in ("L", "1", "I;16", "F.tiff")
    wanted = image.convert("RGB") if mode == "1" else photo().convert("L" if grey else "RGB")
    apart = np.abs(np.int16(seen) - np.int16(wanted.convert("RGB")))
    assert (seen.mode, seen.size) == ("RGB", SIZE)
    assert np.median(apart) <= {"P": 6, "jpeg.jpg": 6, "webp.webp": 6, "CMYK.tiff": 1}.get(mode, 0)


def test_numbers_past_white_are_white_and_what_is_no_number_is_black(tmp_path):
    bands = np.repeat(np.float32([[-9, 0, np.nan, 51, 255, 300]]), 64, 0).repeat(16, 1)
    seen = read_canvas(saved(Image.fromarray(bands), tmp_path / "a.tiff")).picture
    assert [seen.getpixel((x, 9))[0] for x in range(8, 96, 16)] == [0, 0, 0, 51, 255, 255]


def test_what_is_transparent_is_white_and_of_a_mask_black(tmp_path):
    clear = Image.new("RGBA", SIZE, (255, 0, 0, 0))
    clear.paste((255, 255, 255, 255), (0, 0, 48, 64))
    job = saved(clear, tmp_path / "clear.png")
    canvas = read_canvas(job.model_copy(update={"mask": job.init}))
    assert canvas.picture.getcolors() == [(96 * 64, (255, 255, 255))]
    assert canvas.mask.getpixel((10, 10)) == 255
    assert canvas.mask.getpixel((90, 10)) == 0


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    job = saved(photo(), tmp_path / "turned.jpg", exif=exif, quality=95)
    assert own_size(job.model_copy(update={"size": None})) == (64, 96)
    seen = read_canvas(job.model_copy(update={"size": (64, 96)})).picture
    apart = np.abs(np.int16(seen) - np.int16(photo().transpose(Image.Transpose.ROTATE_270)))
    assert np.median(apart) < 6


@pytest.mark.parametrize(
    ("size", "painted"), [((101, 67), (104, 64)), ((20, 10), (128, 64)), ((800, 600), (800, 600))]
)
def test_a_picture_is_painted_in_its_own_size_in_multiples_of_8(size, painted, small, tmp_path):
    path = tmp_path / "photo.png"
    photo(size).save(path)
    job = find(str(small)).complete(Job(prompt="a cat", init=str(path)))
    assert (job.size, job.strength) == (painted, 0.75)
    assert read_canvas(job).picture.size == painted


def test_a_picture_of_another_shape_covers_the_size_and_is_cut_around_its_middle(tmp_path):
    wide = Image.new("RGB", (300, 64), "red")
    wide.paste("blue", (118, 0, 182, 64))
    wide.save(tmp_path / "wide.png")
    canvas = read_canvas(Job(prompt="a cat", init=str(tmp_path / "wide.png"), size=(64, 64)))
    assert canvas.picture.getpixel((2, 32)) == canvas.picture.getpixel((61, 32)) == (0, 0, 255)


def png_of(size):
    """A PNG that claims a size and holds next to nothing."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)),
        (b"IDAT", b"x"),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def cut_short(path):
    photo().save(path, "PNG")
    path.write_bytes(path.read_bytes()[:2000])


BAD = {
    "does not exist": lambda path: None,
    "is not a file": lambda path: path.mkdir(),
    "is no picture that can be read": lambda path: path.write_bytes(b"not a picture"),
    "truncated": cut_short,
    "claims more than 100 million pixels": lambda path: path.write_bytes(png_of((40000, 40000))),
    "claims 11000x11000 pixels": lambda path: path.write_bytes(png_of((11000, 11000))),
    "which takes another program": lambda path: photo().save(path, "EPS"),
    "would be 5000x64 pixels; a side has at most 4096": lambda path: photo((5000, 64)).save(
        path, "PNG"
    ),
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_picture_is_one_line_and_bad_usage(said, tmp_path, sdfast):
    path = tmp_path / "photo.png"
    BAD[said](path)
    code, out, err = sdfast("gen", "a cat", "--init", str(path), "-o", f"{tmp_path}/x.png", "-q")
    line, *hint = err.splitlines()
    assert (code, out, len(hint)) == (2, "", 1)
    assert said in line
    assert not (tmp_path / "x.png").exists()


def test_a_mask_of_another_shape_or_all_black_is_refused(files):
    for size, grey, said in ((SIZE, 127, "leaves nothing"), ((64, 64), 255, "another shape")):
        Image.new("L", size, grey).save(files / "mask.png")
        with pytest.raises(JobError, match=said):
            read_canvas(a_job(files, mask=True, size=SIZE))


# from the command line


def test_pixels_outside_the_mask_are_the_pictures_own(files, small, sdfast):
    asked = ["--init", "photo.png", "--mask", "mask.png", "-m", str(small), "-s", "3"]
    code, _, err = sdfast("gen", "a cat", *asked, "-o", "x.png", "--seed", "1")
    assert code == 0
    assert "in the last 3 steps" in err
    painted, white = np.array(Image.open("x.png")), np.array(window()) == 255
    np.testing.assert_array_equal(painted[~white], np.array(photo())[~white])
    assert np.abs(np.int16(painted[white]) - np.int16(photo())[white]).mean() > 10


def test_a_picture_remembers_where_it_began_and_is_painted_again_from_there(files, small, sdfast):
    asked = ["--init", str(files / "photo.png"), "--strength", "0.5", "-m", str(small), "-s", "6"]
    code, out, _ = sdfast("gen", "a cat", *asked, "-o", "x.png", "--json", "-q")
    made = json.loads(out)
    assert code == 0
    assert len(made["steps_ms"]) == 3
    assert "Denoising strength: 0.5" in Image.open("x.png").text["parameters"]
    kept = json.loads(Image.open("x.png").text["sdfast"])["job"]
    assert (kept["init"], kept["strength"], kept["size"]) == ("photo.png", 0.5, "96x64")
    assert sdfast("gen", "--from", "x.png", "-m", str(small), "-o", "y.png", "-q")[0] == 0
    assert Image.open("y.png").tobytes() == Image.open("x.png").tobytes()


def test_a_picture_is_looked_at_once_for_all_that_are_painted_over_it(files, monkeypatch):
    model, asked = load_model(str(write_inpainting_model(files / "model")), device="cpu"), []
    true = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, x: asked.append(1) or true(self, x))
    for seed in (1, 2):
        list(generate(model, a_job(files, mask=True, seed=seed, steps=2)))
    assert len(asked) == 2  # whole, and with its hole
    photo().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(files / "photo.png")
    list(generate(model, a_job(files, steps=2)))
    assert len(asked) == 4  # without a mask all is hole, and that is looked at, too


def test_an_inpainting_model_paints_without_a_picture_too(tmp_path_factory):
    folder = write_inpainting_model(tmp_path_factory.mktemp("models") / "inpainting")
    model = load_model(str(folder), device="cpu")
    *_, finished = generate(model, Job(prompt="a cat", seed=1, sampler=Sampler(steps=2)))
    assert finished.image.size == (64, 64)


def test_pictures_over_one_canvas_painted_together_are_those_painted_alone(files, small):
    model = load_model(str(small), device="cpu")
    jobs = [a_job(files, mask=True, seed=seed, steps=4) for seed in (1, 2)]
    together = [e.image for e in generate_together(model, jobs) if isinstance(e, Finished)]
    for job, image in zip(jobs, together, strict=True):
        *_, alone = generate(model, job)
        assert np.abs(np.int16(image) - np.int16(alone.image)).max() <= 1

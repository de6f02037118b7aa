"""Recipes that are read whatever they hold."""

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import pytest
from foreign import COMFY, INVOKE, OLD
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from sdfast import image_files, recipes
from sdfast.errors import MetadataError, UsageError
from sdfast.job import KEYS, Job, Sampler, read_job
from sdfast.layering import layered
from sdfast.sheet import Sheet

GREY = Image.new("RGB", (64, 72), "grey")
CAT = Job(prompt="a cat", seed=7, guidance=7.5, model="sd15", size=(64, 72))
CAT = CAT.model_copy(update={"sampler": Sampler(weights="reference")})
CHUNKS = recipes.texts_of(CAT, version="1.2", model="sd15", size=(64, 72))


def chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_of(*chunks, size=(64, 72)):
    header = chunk(b"IHDR", struct.pack(">II", *size) + bytes([8, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + b"".join([header, *chunks, chunk(b"IEND", b"")])


def said(name, text):
    return chunk(b"tEXt", name.encode() + b"\0" + text.encode())


@pytest.fixture
def read(tmp_path):
    """Read a recipe from bytes."""

    def reader(content):
        path = tmp_path / "x.png"
        path.write_bytes(content)
        return recipes.read_recipe(path)

    return reader


def complaint(path):
    """The one line in which a reader says why not; empty if it answers."""
    try:
        recipes.read_recipe(path)
    except MetadataError as error:
        return str(error).removeprefix(f"`{path}` ")
    return ""


def is_one_short_line(text):
    return len(text) < 150 and (text.isprintable() or not text)


# Our own recipes


samplers = st.sampled_from(
    [
        Sampler(),
        Sampler(solver="ddim", order=1, final="sigma_min"),
        Sampler(order=3, weights="reference", spacing="rho", rho=1.5, steps=11),
        Sampler(corrector=True, spacing="karras"),
        Sampler(steps=3, timesteps=(999, 500.25, 1)),
    ]
)
texts = st.text(min_size=1, max_size=40).filter(str.strip)
jobs = st.builds(
    Job,
    prompt=texts,
    negative=st.just("") | texts,
    seed=st.integers(0, 2**32 - 1),
    guidance=st.none() | st.floats(0, 100),
    sampler=samplers,
)


@given(jobs)
def test_a_job_comes_back_out_of_its_picture(tmp_path_factory, job):
    path = tmp_path_factory.mktemp("png") / "a.png"
    text = recipes.texts_of(job, version="1.2", model="sd15", size=(64, 72))
    path.write_bytes(image_files.encode(GREY, text))
    recipe = recipes.read_recipe(path)
    assert read_job(recipe.record) == job.model_copy(update={"model": "sd15", "size": (64, 72)})
    assert (recipe.program, recipe.unknown, recipe.size) == ("sdfast", {}, (64, 72))


def test_a_recipe_hides_every_layer_beneath_it(read):
    beneath = {"negative": "blurry", "sampler": "dpm", "order": 3, "spacing": "karras", "steps": 9}
    record = read(image_files.encode(GREY, CHUNKS)).record
    assert read_job(layered(beneath, record)) == CAT


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("sd15", "sd15"),
        ("org/name", "org/name"),
        ("random:sd15", "random:sd15"),
        ("/home/ann/models/dream.safetensors", "dream.safetensors"),
        ("../ann/dream/", "./dream"),
        ("/home/ann/tiny", "./tiny"),
        ("./sd15", "./sd15"),
        ("C:\\Users\\ann\\dream.safetensors", "dream.safetensors"),
        ("ann/dream.safetensors", "dream.safetensors"),
    ],
)
def test_a_recipe_tells_no_folder(model, told):
    job = CAT.model_copy(update={"model": model})
    chunks = recipes.texts_of(job, version="1.2", model=model, size=(64, 72))
    assert json.loads(chunks["sdfast"])["job"]["model"] == told
    assert told in chunks["parameters"]
    assert "ann/" not in "".join(chunks.values())
    assert "Users" not in "".join(chunks.values())


def test_a_folder_named_as_a_model_of_the_hub_is_told_as_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    chunks = recipes.texts_of(CAT, version="1.2", model="models/tiny", size=(64, 72))
    assert json.loads(chunks["sdfast"])["job"]["model"] == "./tiny"


def test_json_is_no_prompt_but_braces_are(tmp_path):
    said = {"prompt": "a cat", "steps": 30}
    for text, recipe in ((json.dumps(said), None), ("{a|b} cat", "{a|b} cat")):
        path = tmp_path / "theirs.png"
        path.write_bytes(image_files.encode(GREY, {"parameters": text}))
        if recipe is None:
            with pytest.raises(MetadataError, match="in JSON of a kind that is not known here"):
                recipes.read_recipe(path)
        else:
            assert recipes.read_recipe(path).record["prompt"] == recipe


def test_without_our_chunk_the_parameters_say_the_most(read):
    record = read(image_files.encode(GREY, {"parameters": CHUNKS["parameters"]})).record
    assert record == {
        "prompt": "a cat",
        "negative": "",
        "steps": 20,
        "sampler": "DPM++ 2M SGM Uniform",
        "guidance": 7.5,
        "seed": 7,
        "rng": "cpu",
        "size": "64x72",
        "model": "sd15",
    }


# Other programs' recipes

A1111 = (
    "a café\nNegative prompt: 猫\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, "
    "CFG scale: 7, Seed: 5, Size: 512x512, Model hash: 6ce0161689, Version: v1.10.1"
)
SDCPP = (
    "a café\nNegative prompt: 猫\nSteps: 20, CFG scale: 7.000000, Seed: 5, Size: 512x512, "
    "Model: v1-5.safetensors, RNG: cuda, Sampler: dpm++2m karras, Version: stable-diffusion.cpp"
)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_picture_of_the_web_ui_is_read(read, zipped):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", A1111, zip=zipped)
    file = io.BytesIO()
    GREY.save(file, "PNG", pnginfo=info)
    recipe = read(file.getvalue())
    assert recipe.program == "AUTOMATIC1111"
    assert recipe.record["prompt"] == "a café"
    assert recipe.record["negative"] == "猫"
    assert recipe.record["seed"] == 5
    assert recipe.record["rng"] == "cuda"  # as it does not say otherwise
    assert recipe.unknown == {"Model hash": "6ce0161689"}
    assert recipe.record["sampler"] == "Euler a"


@pytest.mark.parametrize("tail", ["", ', SDCPP: {"seed":6,"prompt":{"positive":"a, Seed: 9, b"}}'])
def test_a_picture_of_stable_diffusion_cpp_is_read(read, tail):
    recipe = read(png_of(said("parameters", SDCPP + tail)))  # UTF-8 where Latin-1 should be
    assert recipe.program == "stable-diffusion.cpp"
    assert read_job(recipe.record) == read_job(
        {
            "prompt": "a café",
            "negative": "猫",
            "seed": 5,
            "guidance": 7,
            "size": "512x512",
            "sampler": "DPM++ 2M Karras",
            "rng": "cuda",
        }
    )
    assert recipe.unknown == {"Model": "v1-5.safetensors"}


@pytest.mark.parametrize(
    ("version", "program"),
    [
        ("f2.0.1v1.10.1-previous-659-gc055f2d4", "Forge"),
        ("Fooocus v2.5.5", "Fooocus"),
        ("1.6.0", "AUTOMATIC1111"),
        ("NextGen 3", "unknown"),
    ],
)
def test_a_program_is_known_by_its_version(read, version, program):
    content = png_of(said("parameters", f"a\nSteps: 2, Seed: 1, Version: {version}"))
    assert read(content).program == program


def test_only_the_web_uis_own_pictures_are_taken_for_noise_of_a_gpu(read):
    def rng(said):
        text = f"a\nSteps: 5, Sampler: Euler, Seed: 7, {said}"
        return read_job(read(text.encode()).record).rng

    assert rng("Version: v1.9.0") == rng("RNG: NV, Version: v1.9.0") == "cuda"
    assert rng("Version: f2.0.1v1.10.1-previous-659-gc055f2d4") == "cuda"  # Forge's
    assert rng("RNG: CPU, Version: v1.9.0") == rng("Version: Fooocus v2.5") == "cpu"


@pytest.mark.parametrize("ours", [True, False])
def test_whose_noise_it_was_is_told_and_read_again(read, ours):
    job = Job(prompt="a cat", seed=1, guidance=3, size=(64, 72), rng="cuda")
    texts = recipes.texts_of(job, version="1.2", model="sd15", size=job.size)
    texts = texts if ours else {"parameters": texts["parameters"]}
    assert ", RNG: NV, Version: sdfast" in texts["parameters"]
    assert read(image_files.encode(GREY, texts)).job.rng == "cuda"


def photo(comment, format="JPEG", **camera):
    """A photo with this user comment, and with these tags of its camera."""
    exif = Image.Exif()
    if comment:
        exif[0x8769] = {0x9286: comment}
    exif.update({{"make": 0x010F, "model": 0x0110}[tag]: text for tag, text in camera.items()})
    file = io.BytesIO()
    GREY.save(file, format, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "comment",
    [
        pytest.param(b"UNICODE\0" + A1111.encode("utf-16-be"), id="web UI"),
        pytest.param(b"UNICODE\0" + A1111.encode("utf-16-le"), id="Civitai"),
        pytest.param(b"UNICODE\0" + A1111.encode("utf-16"), id="byte order mark"),
        pytest.param(b"UNICODE\0\xfe\xff" + A1111.encode("utf-16-be"), id="the other one"),
        pytest.param(b"ASCII\0\0\0" + A1111.encode(), id="ASCII"),
        pytest.param(bytes(8) + A1111.encode(), id="undefined"),
        pytest.param(A1111.encode() + b"\0", id="bare"),
    ],
)
def test_a_photo_of_the_web_ui_says_what_its_png_does(read, comment, format):
    assert read(photo(comment, format)) == read(
        png_of(chunk(b"iTXt", b"parameters\0\0\0\0\0" + A1111.encode()))
    )


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".webp"])
@given(job=jobs)
def test_a_job_comes_back_out_of_its_photo(tmp_path_factory, job, ending):
    path = tmp_path_factory.getbasetemp() / f"photo{ending}"
    text = recipes.texts_of(job, version="1.2", model="sd15", size=(64, 72))
    path.write_bytes(image_files.encode(GREY, text, path))
    recipe = recipes.read_recipe(path)
    assert read_job(recipe.record) == job.model_copy(update={"model": "sd15", "size": (64, 72)})
    assert (recipe.program, recipe.unknown, recipe.size) == ("sdfast", {}, (64, 72))
    with Image.open(path) as image:  # and other programs find the web UI's text
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == text["parameters"]


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_without_texts_a_photo_holds_none(read, ending):
    file = image_files.encode(GREY, {}, Path(f"a{ending}"))
    with Image.open(io.BytesIO(file)) as image:
        assert len(image.getexif()) == 0
    with pytest.raises(MetadataError, match="holds no recipe"):
        read(file)


def test_a_recipe_too_long_for_a_jpeg_is_refused_before_and_fits_elsewhere():
    long = Job(prompt="猫" * 9000, seed=1, guidance=3, size=(64, 72))
    text = recipes.texts_of(long, version="1.2", model="tiny", size=(64, 72))
    with pytest.raises(UsageError, match=r"a \.jpg cannot hold so long a recipe"):
        image_files.check_room(text, Path("a.jpg"), (64, 72))
    for name in ("a.webp", "a.png"):
        image_files.check_room(text, Path(name), (64, 72))
    short = recipes.texts_of(CAT, version="1.2", model="tiny", size=(64, 72))
    image_files.check_room(short, Path("a.jpg"), (64, 72))
    image_files.encode(GREY, short, Path("a.jpg"))


@pytest.mark.parametrize(("name", "most"), [("a.webp", 16_383), ("a.JPG", 65_500)])
def test_a_side_too_long_for_a_photo_is_refused_before(name, most):
    image_files.check_room({}, Path(name), (16, most))
    image_files.encode(Image.new("RGB", (16, most)), {}, Path(name))
    with pytest.raises(UsageError, match=f"at most {most} pixels along a side"):
        image_files.check_room({}, Path(name), (most + 1, 16))
    image_files.check_room({}, Path("a.png"), (most + 1, 16))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 12])
def test_a_sheet_that_a_webp_may_hold_is_read_again(read, count):
    jobs = [Job(prompt=f"{k}" + "日" * 19_990, seed=k, size=(64, 72)) for k in range(count)]
    sheet = Sheet(tuple(jobs), count, ("prompt",), (), ())
    told = [recipes.texts_of(job, version="1", model="tiny", size=(64, 72)) for job in jobs]
    text = recipes.texts_of_sheet(sheet, told)
    try:
        image_files.check_room(text, Path("a.webp"), (64, 72))
    except UsageError:
        assert count > 8
    else:
        assert count < 9
        assert len(read(image_files.encode(GREY, text, Path("a.webp"))).sheet.jobs) == count


def test_a_photo_of_comfyui_is_read(read):
    prompt = json.dumps(COMFY)
    recipe = read(photo(b"ASCII\0\0\0 \0", "WEBP", make="Workflow:{}", model=f"Prompt:{prompt}"))
    assert recipe == read(png_of(said("prompt", prompt)))
    assert (recipe.program, recipe.record["seed"]) == ("ComfyUI", COMFY["3"]["inputs"]["seed"])


# Texts by themselves


SAID = "a café, {red|green}\nNegative prompt: 猫\nSteps: 12, Sampler: Euler, CFG scale: 7, Seed: 5"


@pytest.mark.parametrize(
    ("content", "program", "size"),
    [
        (SAID.encode(), "AUTOMATIC1111", None),
        (b"\xef\xbb\xbf" + SAID.replace("\n", "\r\n").encode() + b"\n\n", "AUTOMATIC1111", None),
        (json.dumps(COMFY).encode(), "ComfyUI", "512x768"),
        (json.dumps({"prompt": COMFY, "client_id": "1"}, indent=2).encode(), "ComfyUI", "512x768"),
        (json.dumps(INVOKE).encode(), "InvokeAI", "768x432"),
        (json.dumps(OLD).encode(), "InvokeAI", "640x512"),
        (CHUNKS["sdfast"].encode(), "sdfast", "64x72"),
        (CHUNKS["parameters"].encode(), "sdfast", "64x72"),
    ],
)
def test_a_text_says_what_a_picture_would(read, content, program, size):
    names = {"AUTOMATIC1111": "parameters", "ComfyUI": "prompt", "sdfast": "parameters"}
    recipe = read(content)
    assert (recipe.program, recipe.size, recipe.record.get("size")) == (program, None, size)
    text = content.decode("utf-8-sig")
    if program in names and not text.startswith("{"):
        image = read(png_of(chunk(b"iTXt", b"parameters\0\0\0\0\0" + text.encode())))
        assert (image.record, image.unknown) == (recipe.record, recipe.unknown)


def test_what_only_looks_like_utf8_read_as_latin1_is_left_as_it_stands(read):
    said = read("caf\u00c3\u00a9\nSteps: 5, Sampler: Euler, Seed: 7, Version: v1.9.0".encode())
    assert said.record["prompt"] == "caf\u00c3\u00a9"


def test_a_prompt_in_braces_is_no_json(read):
    said = read(b"{a|b} {}\nSteps: 12, Sampler: Euler, CFG scale: 7, Seed: 5")
    assert said.record["prompt"] == "{a|b} {}"


@pytest.mark.parametrize("content", [SAID.encode(), image_files.encode(GREY, CHUNKS)])
def test_a_recipe_comes_through_a_pipe(monkeypatch, content):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    recipe = recipes.read_recipe(Path("-"))
    assert recipe.record["seed"] == (5 if content == SAID.encode() else 7)
    with pytest.raises(MetadataError, match="what came on stdin is empty"):
        recipes.read_recipe(Path("-"))  # it has been read


@given(st.text() | st.text().map(lambda text: f"{SAID}, {text}"))
def test_no_text_is_a_surprise(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text"
    path.write_text(text)
    assert is_one_short_line(complaint(path))


def forms(inner):
    keys = ["prompt", "nodes", "image", "positive_prompt", "schema", "job", "sheet", "class_type"]
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4)


@given(st.recursive(st.none() | st.integers() | st.text(), forms))
def test_no_json_is_a_surprise(tmp_path_factory, found):
    path = tmp_path_factory.getbasetemp() / "json"
    path.write_text(json.dumps(found))
    assert is_one_short_line(complaint(path))


# Files that are not what they should be


def bomb(kind):
    packed = zlib.compress(bytes(50 * 2**20))
    return chunk(kind, b"parameters\0" + (b"\1\0\0\0" if kind == b"iTXt" else b"\0") + packed)


WHOLE = image_files.encode(GREY, CHUNKS)
BROKEN = {
    "is empty": b"",
    "is empty ": b"\xef\xbb\xbf \n",
    "is no PNG, JPEG, WebP or text": b"GIF89a\0\0",
    "is no PNG, JPEG, WebP or text ": b"RIFF and so on\xff",
    "is damaged ": b"\xff\xd8\xff\xe0 and so on",
    "is damaged  ": b"RIFF1234WEBP and so on",
    "is cut short": WHOLE[:-20],
    "is cut short ": WHOLE[:40],
    "is damaged": WHOLE.replace(b"a cat", b"a dog"),
    "holds no recipe": png_of(),
    "holds no recipe ": photo(None),
    "holds no recipe   ": photo(b"ASCII\0\0\0" + b" \0" * 20),
    "holds no recipe     ": photo(b"ASCII\0\0\0the cat in the garden"),
    "holds no recipe    ": photo(b"UNICODE\0" + b"\0" * 40),
    "holds no recipe  ": photo(None, make="Canon", model="R5: prompt"),
    "holds no recipe        ": photo(None, make="Prompt: hello", model="workflow: mine"),
    "was made by ComfyUI ": photo(None, "WEBP", make="workflow:{}"),
    "has a recipe of more than 1 MiB   ": photo(b"Steps: 2" * 2**18, "WEBP"),
    "was made by ComfyUI": png_of(said("workflow", "{}")),
    "was made by InvokeAI": png_of(said("invokeai_metadata", "{}")),
    "claims to be 65537 by 1 pixels": png_of(size=(2**16 + 1, 1)),
    "claims to be 0 by 0 pixels": png_of(size=(0, 0)),
    "has a recipe of more than 1 MiB": png_of(bomb(b"zTXt")),
    "has a recipe of more than 1 MiB ": png_of(bomb(b"iTXt")),
    "has a recipe of more than 1 MiB  ": png_of(said("parameters", "a" * 2**21)),
    "has a recipe that is damaged": png_of(chunk(b"zTXt", b"parameters\0\0nonsense")),
    "has a recipe that is damaged ": png_of(chunk(b"iTXt", b"parameters\0\0")),
    "has a recipe that is damaged  ": png_of(chunk(b"iTXt", b"parameters\0\0\0\0\0\xff")),
    "has a recipe that is damaged   ": png_of(chunk(b"iTXt", b"parameters\0")),
    "holds no recipe      ": b"hello",
    "holds no recipe       ": b"a: b, c: d, e: f",
    "holds no recipe that is known here": b'{"prompt": "a cat", "nodes": 3}',
    "holds no recipe that is known here ": b'{"prompt": "a", "seed": 1, "steps": 9, "scale": 5}',
    "holds several recipes": b'{"prompt": "a", "seed": 1}\n{"prompt": "a", "seed": 2}\n',
    "is a workflow as ComfyUI's editor keeps it": b'{"nodes": [], "links": []}',
    "has a recipe of schema 2": b'{"schema": 2, "job": {}}',
    "without a sampler": b'{"1": {"class_type": "SaveImage", "inputs": {}}}',
    "is a text of more than 1 MiB": b"a" * 2**20 + b"b",
    "has more than 100000 parts": png_of(*[chunk(b"IDAT", b"")] * 100_001),
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_file_without_a_good_recipe_says_why(read, why):
    with pytest.raises(MetadataError, match=why.strip()):
        read(BROKEN[why])


def test_a_bomb_is_not_unpacked(read):
    content = png_of(bomb(b"zTXt"))
    tracemalloc.start()
    try:
        with pytest.raises(MetadataError):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


JOB = {"prompt": "a cat", "seed": 7}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not JSON"),
        ("[" * 500_000, "is not JSON"),
        ('{"schema": ' + "9" * 5000 + "}", "is not JSON"),
        ("[]", "without a job"),
        ('{"job": {"prompt": "a", "seed": 1}}', "without a job"),
        ('{"schema": 1, "job": {"prompt": "a"}}', "without a job"),
        ('{"schema": 1, "job": []}', "without a job"),
        ('{"schema": 2, "job": {}}', "schema 2; this sdfast knows 1"),
        (json.dumps({"schema": 1, "job": {**JOB, "steps": 0}}), "steps must be from 1 to 1000"),
        (json.dumps({"schema": 1, "job": {**JOB, "prompt": "\ud800"}}), "prompt must be text"),
        (json.dumps({"schema": 1, "job": {**JOB, "colour": 1}}), "no key `colour`"),
        (json.dumps({"schema": 1, "job": {**JOB, "guidance": float("nan")}}), "finite"),
    ],
)
def test_a_chunk_of_ours_that_is_not_ours_says_why(read, text, why):
    with pytest.raises(MetadataError, match=why):
        read(png_of(said("sdfast", text)))


@pytest.mark.parametrize("name", ["folder", "missing.png", "/dev/zero", "a\0b.png"])
def test_what_is_not_a_file_is_not_read(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(MetadataError, match=r"is not a file|does not exist"):
        recipes.read_recipe(tmp_path / name)


def test_a_file_that_cannot_be_opened_says_why():
    with pytest.raises(MetadataError, match="cannot be read: file name too long"):
        recipes.read_recipe(Path("x" * 300))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(), anything, max_size=5))
@example({"corrections": [["x" * 60]]})  # the longest that is said
def test_no_value_of_a_job_is_a_surprise(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "values.png"
    path.write_bytes(png_of(said("sdfast", json.dumps({"schema": 1, "job": {**JOB, **values}}))))
    assert is_one_short_line(complaint(path))


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4))
def test_no_wrong_byte_is_a_surprise(tmp_path_factory, changes):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "bytes.png"
    path.write_bytes(content)
    assert is_one_short_line(complaint(path))


PHOTOS = [photo(b"UNICODE\0" + "a\nSteps: 2".encode("utf-16-be"), f) for f in ("JPEG", "WEBP")]


@given(st.sampled_from(PHOTOS), st.data())
def test_no_wrong_byte_of_a_photo_is_a_surprise(tmp_path_factory, whole, data):
    content = bytearray(whole[: data.draw(st.integers(12, len(whole)))])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "photo"
    path.write_bytes(content)
    assert is_one_short_line(complaint(path))


@given(st.binary(max_size=300), st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"IHDR"]))
def test_no_chunk_is_a_surprise(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / "chunk.png"
    name = b"" if kind == b"IHDR" else b"parameters\0"
    path.write_bytes(png_of(chunk(kind, name + content)))
    assert is_one_short_line(complaint(path))


def test_reading_a_recipe_wakes_neither_pillow_nor_torch(tmp_path):
    (path := tmp_path / "a.png").write_bytes(WHOLE)
    code = "import sys; from pathlib import Path; from sdfast.recipes import read_recipe\n"
    code += f"read_recipe(Path({str(path)!r})); print({{'PIL', 'torch'}} & {{*sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"

"""From flags, presets and files to the jobs they mean."""

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from sdfast import image_files, recipes
from sdfast.config import Config
from sdfast.errors import JobError, MetadataError, PresetError, UsageError
from sdfast.job import SEEDS, Job, Sampler, read_job
from sdfast.jobs import make_jobs, placed, read_source, resolve
from sdfast.prompt_texts import read_lines, read_prompts

NOTHING = Config()
RECORD = {"steps": 5}


def seeds(text, count=None):
    return [job.seed for job in make_jobs(RECORD, ["fog"], text, count)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("42", [42]),
        ("1,5,9", [1, 5, 9]),
        ("1..8", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("3..3", [3]),
        ("1..9..4", [1, 5, 9]),
        ("1..8..4, 3", [1, 5, 3]),
        (" 1 , 4..6 ", [1, 4, 5, 6]),
        ("5,5", [5, 5]),
        ("0,18446744073709551615", [0, SEEDS - 1]),
    ],
)
def test_seeds_are_one_or_a_list_or_a_range(text, wanted):
    assert seeds(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-1",
        "1.5",
        "1..",
        "..3",
        "1...3",
        "1..9..0",
        "1..9..",
        "1,,2",
        "1-3",
        "1" * 21,
        "\x1b[2J",
        "x" * 999,
        "٣",
    ],
)
def test_what_is_no_seed_is_refused_in_one_line_with_the_forms_of_one(text):
    with pytest.raises(UsageError, match="is no seed") as caught:
        seeds(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 100
    assert "1..9..4; without it a new one" in caught.value.hint


@pytest.mark.parametrize("text", ["8..1", "0..100000", "0..4294967295"])
def test_a_range_that_falls_or_is_endless_is_refused(text):
    with pytest.raises(UsageError, match="must rise, over at most 100000 seeds"):
        seeds(text)


def test_ranges_are_not_endless_together():
    with pytest.raises(UsageError, match="is more than 100000 seeds"):
        seeds("1..60000,1..60000")


@pytest.mark.parametrize("text", [f"{SEEDS}", "9" * 20])
def test_a_seed_beyond_the_last_is_refused(text):
    with pytest.raises(UsageError, match=f"must be from 0 to 18446744073709551615, not `{text}`"):
        seeds(text)


def test_a_count_goes_on_from_the_seed():
    assert seeds("7", 3) == [7, 8, 9]


def test_a_count_without_a_seed_goes_on_from_a_new_one():
    first, *others = seeds(None, 4)
    assert others == [first + 1, first + 2, first + 3]


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_a_count_of_none_or_too_many_is_refused(count):
    with pytest.raises(UsageError, match=f"from 1 to 100000, not `{count}`"):
        seeds("1", count)


def test_several_seeds_and_a_count_are_one_too_many():
    with pytest.raises(UsageError, match="several seeds or a count, not both"):
        seeds("1..3", 2)


def test_a_count_that_runs_past_the_last_seed_is_refused():
    with pytest.raises(UsageError, match=f"not `{SEEDS}`"):
        seeds(str(SEEDS - 1), 2)


def test_the_solver_in_force_said_again_is_no_news():
    plain = resolve({}, "fast", None, NOTHING).record
    assert resolve({"sampler": "dpm++"}, "fast", None, NOTHING).record == plain
    anew = resolve({"sampler": "dpm"}, "fast", None, NOTHING).record
    assert "corrector" not in anew


@pytest.mark.parametrize("lies", ["here", "beside the picture", "nowhere"])
def test_what_a_picture_began_from_is_looked_for_here_and_beside_it(tmp_path, monkeypatch, lies):
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    job = Job(prompt="fog", init="grey.png", seed=1)
    text = recipes.texts_of(job, version="1", model="tiny", size=(64, 64))
    grey = Image.new("RGB", (64, 64))
    (there / "made.png").write_bytes(image_files.encode(grey, text))
    if lies != "nowhere":
        folder = tmp_path if lies == "here" else there
        (folder / "grey.png").write_bytes(image_files.encode(grey, {}))
    record = resolve({}, None, read_source("there/made.png", ()), NOTHING).record
    wanted = there if lies == "beside the picture" else tmp_path
    assert record["init"] == str(wanted / "grey.png")


def test_a_picture_is_never_taken_for_what_it_began_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(prompt="fog", init="step.png", seed=1)
    text = recipes.texts_of(job, version="1", model="tiny", size=(64, 64))
    grey = Image.new("RGB", (64, 64))
    (tmp_path / "2").mkdir()
    for place in (tmp_path / "step.png", tmp_path / "2" / "step.png"):
        place.write_bytes(image_files.encode(grey, text))
    with pytest.raises(UsageError, match=r"began from another `step\.png`, which is not here"):
        resolve({}, None, read_source("step.png", ()), NOTHING)
    asked = resolve({}, None, read_source("2/step.png", ()), NOTHING)  # the other one
    assert asked.record["init"] == str(tmp_path / "step.png")
    asked = resolve({"init": "step.png"}, None, read_source("step.png", ()), NOTHING)
    assert asked.record["init"] == str(tmp_path / "step.png")


def test_every_prompt_is_painted_with_every_seed():
    jobs = make_jobs(RECORD, ["fog", "rain"], "1,2", None)
    made = [(job.prompt, job.seed) for job in jobs]
    assert made == [("fog", 1), ("fog", 2), ("rain", 1), ("rain", 2)]
    assert all(job.sampler.steps == 5 for job in jobs)


def test_prompts_without_a_seed_share_a_new_one():
    fog, rain = make_jobs(RECORD, ["fog", "rain"], None, None)
    assert fog.seed == rain.seed


def test_a_recipe_brings_its_own_prompt_and_seed():
    (job,) = make_jobs({"prompt": "fog", "seed": 3}, [], None, None)
    assert (job.prompt, job.seed) == ("fog", 3)


def test_a_prompt_and_a_seed_win_over_those_of_a_recipe():
    (job,) = make_jobs({"prompt": "fog", "seed": 3}, ["rain"], "4", None)
    assert (job.prompt, job.seed) == ("rain", 4)


def test_without_any_prompt_there_is_no_job():
    with pytest.raises(UsageError, match="there is no prompt"):
        make_jobs(RECORD, [], "1", None)


def test_a_bad_key_is_told_before_any_seed_is_looked_at():
    with pytest.raises(JobError, match="steps must be from 1 to 1000"):
        make_jobs({"steps": 0}, ["fog"], "nonsense", None)


def test_words_are_prompts():
    assert [*read_prompts(["a cat", "two dogs"])] == ["a cat", "two dogs"]


def test_a_dash_reads_a_prompt_from_each_line_that_says_something(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("fog\n\n  rain \r\n \nsnow"))
    assert [*read_prompts(["first", "-", "last"])] == ["first", "fog", "rain", "snow", "last"]


def test_the_mark_that_some_editors_begin_a_text_with_is_no_part_of_a_prompt(monkeypatch, tmp_path):
    (tmp_path / "prompt.txt").write_bytes(b"\xef\xbb\xbffog\r\nrain\r\n")
    with (tmp_path / "prompt.txt").open(encoding="utf-8") as lines:
        monkeypatch.setattr("sys.stdin", lines)
        assert [*read_prompts(["-"])] == ["fog", "rain"]
    assert [*read_prompts([f"@{tmp_path}/prompt.txt"])] == ["fog\nrain"]
    assert read_lines(tmp_path / "prompt.txt") == ["fog", "rain"]


def test_a_line_ends_at_its_end_alone(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("fog\u2028and\x0crain\nsnow"))
    assert [*read_prompts(["-"])] == ["fog\u2028and\x0crain", "snow"]


@pytest.mark.parametrize("words", [["-"], ["@/dev/zero"]])
def test_prompts_without_end_are_refused(monkeypatch, words):
    with Path("/dev/zero").open(encoding="utf-8") as endless:
        monkeypatch.setattr("sys.stdin", endless)
        with pytest.raises(UsageError, match="holds more than 5000000 characters"):
            list(read_prompts(words))


def test_stdin_that_is_not_text_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"fog\n\xff\n"), "utf-8"))
    with pytest.raises(UsageError, match="not UTF-8"):
        list(read_prompts(["-"]))


def test_an_at_reads_the_whole_of_a_file_as_one_prompt(tmp_path):
    (tmp_path / "prompt.txt").write_text("fog,\nand rain ☂\n", encoding="utf-8")
    assert [*read_prompts([f"@{tmp_path}/prompt.txt"])] == ["fog,\nand rain ☂"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("no-such-file", "there is no file `no-such-file` to read a prompt from"),
        ("~nobody-of-this-name/x", "there is no file"),
        (".", "cannot be read: Is a directory"),
        ("", "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_holds_no_prompt_is_named(path, problem):
    with pytest.raises(UsageError, match=problem):
        list(read_prompts([f"@{path}"]))


def test_a_file_that_is_not_text_is_named(tmp_path):
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match="picture` is not UTF-8 text"):
        list(read_prompts([f"@{tmp_path}/picture"]))


def test_nothing_given_is_the_default_preset():
    record = resolve({}, None, None, NOTHING).record
    assert record["steps"] == 20
    assert read_job({"prompt": "fog", **record}).sampler.corrector


def test_the_configured_model_and_preset_are_what_is_painted_with():
    record = resolve({}, None, None, Config(model="sd15", preset="fast")).record
    assert (record["model"], record["steps"]) == ("sd15", 10)


def test_a_preset_wins_over_the_configured_one_and_its_model_over_the_configured(tmp_path):
    (tmp_path / "mine.yaml").write_text("steps: 3\nmodel: mine")
    record = resolve(
        {}, str(tmp_path / "mine.yaml"), None, Config(model="sd15", preset="fast")
    ).record
    assert (record["model"], record["steps"]) == ("mine", 3)


def test_a_flag_wins_over_all(tmp_path):
    (tmp_path / "mine.yaml").write_text("steps: 3\nmodel: mine\nguidance: 4")
    given = {"steps": 7, "model": "tiny", "guidance": None}
    record = resolve(given, str(tmp_path / "mine.yaml"), None, Config(model="sd15")).record
    assert (record["model"], record["steps"], record["guidance"]) == ("tiny", 7, 4)


def test_a_picture_wins_over_the_preset_and_a_flag_over_the_picture(tmp_path):
    job = Job(prompt="fog", seed=3, guidance=4, sampler=Sampler(solver="dpm", steps=7))
    text = recipes.texts_of(job, version="0", model="tiny", size=(64, 64))
    picture = tmp_path / "fog.png"
    picture.write_bytes(image_files.encode(Image.new("RGB", (64, 64)), text))
    record = resolve(
        {"guidance": 2}, "fast", read_source(str(picture), ()), Config(model="sd15")
    ).record
    found = read_job(record)
    assert found.sampler == job.sampler
    assert (found.prompt, found.seed, found.model, found.guidance) == ("fog", 3, "tiny", 2)


def test_a_fitted_walk_of_a_picture_that_the_flags_drop_is_told(tmp_path):
    fitted = Sampler(steps=2, timesteps=(999, 400), corrections=((0, 0.1), (0, 0, 0.1)))
    text = recipes.texts_of(
        Job(prompt="a", sampler=fitted), version="0", model="tiny", size=(64, 64)
    )
    picture = tmp_path / "fog.png"
    picture.write_bytes(image_files.encode(Image.new("RGB", (64, 64)), text))
    assert resolve({"guidance": 2}, None, read_source(str(picture), ()), NOTHING).remarks == ()
    (remark,) = resolve({"steps": 8}, None, read_source(str(picture), ()), NOTHING).remarks
    assert remark.startswith("that picture's walk is fitted to 2 steps of its model and has no fit")


def test_a_fit_is_left_out_of_a_walk_that_begins_within_and_that_is_told(tmp_path):
    fitted = {"steps": 2, "timesteps": (999, 400), "corrections": ((0, 0.1), (0, 0, 0.1))}
    preset = tmp_path / "fit.yaml"
    preset.write_text(json.dumps(fitted))
    for given, is_kept in (({}, True), ({"hires": 2}, False), ({"init": "a.png"}, False)):
        asked = resolve(given, str(preset), None, NOTHING)
        assert ("corrections" in asked.record) == is_kept
        assert len(asked.remarks) == (not is_kept)
    assert "no fit for a walk that begins from a picture" in asked.remarks[0]
    whole = {"init": "a.png", "strength": 1.0}
    assert "corrections" in resolve(whole, str(preset), None, NOTHING).record


def test_a_picture_that_is_not_there_is_named():
    with pytest.raises(MetadataError, match=r"`no\.png` does not exist"):
        read_source("no.png", ())


def test_a_preset_that_is_not_there_is_named_wherever_it_was_asked_for():
    for flag, config in (("fastt", NOTHING), (None, Config(preset="fastt"))):
        with pytest.raises(PresetError, match="no preset `fastt`"):
            resolve({}, flag, None, config)


@pytest.mark.parametrize("given", ["a.safetensors:half", ["a.safetensors:half"]])
@pytest.mark.parametrize("key", ["lora", "embedding"])
def test_files_that_a_preset_names_are_found_from_any_folder(key, given):
    assert placed({key: given}) == {key: (f"{Path.cwd()}/a.safetensors:half",)}


@pytest.mark.parametrize("end", ["", ":0.5", "/x.safetensors", "/in/x.safetensors:0.5"])
def test_weights_of_the_hub_keep_their_name(here, end):
    assert placed({"lora": [f"some/one{end}"]}) == {"lora": (f"some/one{end}",)}
    if ":" not in end:
        assert placed({"embedding": f"some/one{end}"}) == {"embedding": (f"some/one{end}",)}
    path = here / "some" / "one"
    path.mkdir(parents=True)
    if end in ("", ":0.5"):
        assert placed({"lora": [f"some/one{end}"]}) == {"lora": (f"{path}{end}",)}


@pytest.mark.parametrize(
    "name",
    ["some/../x.safetensors", "a/b/../c.safetensors", "a/b/.x.safetensors", "a/b/c:x.safetensors"],
)
def test_what_leads_elsewhere_is_no_name_of_the_hub(here, name):
    assert placed({"lora": [name]}) == {"lora": (os.path.normpath(here / name),)}


@pytest.mark.parametrize("key", ["lora", "vae"])
def test_a_file_with_a_colon_in_its_name_is_placed(here, key):
    assert str(here / "a" / "b:x.safetensors") in str(placed({key: "a/b:x.safetensors"}))


@pytest.mark.parametrize("end", ["pth", "pt", "ckpt", "bin"])
def test_a_path_of_a_pickle_is_no_name_of_the_hub(here, end):
    assert placed({"vae": f"some/vae.{end}"}) == {"vae": str(here / "some" / f"vae.{end}")}


def test_an_autoencoder_of_the_hub_keeps_its_name_unless_a_file_has_it(here):
    assert placed({"vae": "some/vae"}) == {"vae": "some/vae"}
    for other in ("vae", "./some/vae", "some/vae.safetensors", "/some/vae", "some/of/vae", "some/"):
        assert placed({"vae": other}) == {"vae": os.path.normpath(here / other)}
    (here / "some" / "vae").mkdir(parents=True)
    assert placed({"vae": "some/vae"}) == {"vae": str(here / "some" / "vae")}

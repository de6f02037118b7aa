"""From the bytes of a batch file to jobs and their keys."""

import json
import os
import random
import threading
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdfast import Job
from sdfast.batch.blocks import opened
from sdfast.batch.lines import Broken, Form, Line, form_of, read
from sdfast.batch.shards import read_shard
from sdfast.batch.tasks import Beneath, Task, count_pictures, read_tasks
from sdfast.batch.window import Ready, Window
from sdfast.errors import UsageError
from sdfast.presets import load_preset

PLAIN = Beneath({}, "tiny")


def lines(text, form=None, size=7):
    raw = text if isinstance(text, bytes) else text.encode()
    return list(read([raw[k : k + size] for k in range(0, len(raw), size)], form))


def tasks(*records, beneath=PLAIN):
    return list(read_tasks([Line(k, r) for k, r in enumerate(records, start=1)], beneath))


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("a cat\n\n# no\n a dog \r\nüber", [{"prompt": p} for p in ("a cat", "a dog", "über")]),
        ("\ufeffa cat\n", [{"prompt": "a cat"}]),
        (
            '{"prompt": "a", "seed": 1}\n\n{"prompt": "b"}\n',
            [{"prompt": "a", "seed": 1}, {"prompt": "b"}],
        ),
        (
            'prompt,seed,steps\n"a, ""b""",7,12\nc,,\n',
            [{"prompt": 'a, "b"', "seed": "7", "steps": 12}, {"prompt": "c"}],
        ),
        ('\n \t\n{"prompt": "a", "seed": 7}\n', [{"prompt": "a", "seed": 7}]),
        ("\n \t\nprompt,seed\na,7\n", [{"prompt": "a", "seed": "7"}]),
        ('prompt;n\n"two\nlines";3\n', [{"prompt": "two\nlines", "n": 3}]),
    ],
)
def test_a_file_is_read_as_its_first_line_looks(text, records):
    assert [line.record for line in lines(text)] == records


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"ok\n\xff\xfe\nok\n", "UTF-8"),
        (b"ok\n" + "no".encode("utf-16-le") + b"\nok\n", "UTF-8"),
        (b"ok\n" + b"x" * (2**20 + 9) + b"\nok\n", "longer than 1 MiB"),
        (b'{"prompt": "a"}\n{"prompt"\n{"prompt": "b"}\n', "not JSON"),
        (b'{"prompt": "a"}\n[1]\n{"prompt": "b"}\n', "no JSON object"),
        (b'{"prompt": "a"}\n{"seed": 1, "seed": 2}\n{"prompt": "b"}\n', "twice"),
        (b'{"prompt": "a"}\n' + b"[" * 99_999 + b'\n{"prompt": "b"}\n', "not JSON"),
        (b'{"prompt": "a"}\n{"n": ' + b"9" * 5000 + b'}\n{"prompt": "b"}', "not JSON"),
        (b'prompt,seed\na,1\n"b"c,2\nd,3\n', "no CSV"),
        (b"prompt,seed\na,1\n\xff,2\nd,3\n", "UTF-8"),
        (b"prompt,seed\na,1\nb,2,3\nd,3\n", "3 cells"),
        (b'prompt,seed\na,1\n"b,2\nd,3\n', "quote"),
    ],
)
def test_a_broken_line_is_named_and_the_next_one_goes_on(text, says):
    first, bad, last = lines(text, size=4000)
    assert isinstance(first, Line)
    assert isinstance(bad, Broken)
    assert says in str(bad.error)
    assert isinstance(last, Line)


def test_a_header_that_names_no_key_is_refused_before_anything_is_painted():
    with pytest.raises(UsageError, match="promt"):
        lines("promt,seed\na,1\n", Form.CSV)


@pytest.mark.parametrize("text", ['"prompt","seed"\n"a dog","7"\n', "Prompt;seed\na dog;7\n"])
def test_a_header_is_known_with_quotes_and_capitals(text):
    assert [(line.record["prompt"], line.record["seed"]) for line in lines(text)] == [
        ("a dog", "7")
    ]


def test_blanks_about_a_cell_are_not_part_of_it():
    (line,) = lines("prompt, preset, negative\na cat, fast, red \n", Form.CSV)
    assert line.record == {"prompt": "a cat", "preset": "fast", "negative": "red"}


@pytest.mark.parametrize("text", ['[{"prompt": "a dog"}]', '\n[\n{"prompt": "a dog"}\n]'])
def test_an_array_in_json_is_refused_as_a_whole(text):
    with pytest.raises(UsageError, match="each line is an object of its own") as caught:
        lines(text, Form.JSONL)
    assert "jq" in caught.value.hint
    with pytest.raises(UsageError, match="each line is an object of its own"):
        lines(text.lstrip())
    found = lines('{"prompt": "a dog"}\n[]')
    assert [type(one) for one in found] == [Line, Broken]


def test_square_brackets_are_a_prompt():
    (found,) = lines("[less] dog")
    assert found.record == {"prompt": "[less] dog"}


def test_a_format_is_named_or_shown_by_the_ending():
    assert form_of("a.CSV", None) is Form.CSV
    assert form_of("a.tsv", None) is Form.CSV
    assert form_of("a.json", None) is Form.JSONL
    assert form_of("a.csv", "txt") is Form.TXT
    assert form_of("a", None) is None
    with pytest.raises(UsageError, match="yaml"):
        form_of("a", "yaml")


@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from([None, *Form]))
def test_any_bytes_are_lines_or_complaints(raw, size, form):
    try:
        assert all(isinstance(line, Line | Broken) for line in lines(raw, form, size))
    except UsageError:
        assert form is not Form.TXT


def test_a_pipe_tells_of_each_line_before_the_next_has_come(monkeypatch):
    reader, writer = os.pipe()
    kept = os.dup(0)
    os.dup2(reader, 0)
    try:
        with opened("-", threading.Event()) as blocks:
            found = read(blocks, Form.TXT)
            os.write(writer, b"a cat\na d")
            assert next(found) == Line(1, {"prompt": "a cat"})
            assert next(found) is None
            os.write(writer, b"og\n")
            assert next(found) == Line(2, {"prompt": "a dog"})
            os.close(writer)
            assert not any(found)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(reader)


def test_a_lines_own_key_beats_a_flag():
    (task,) = tasks({"prompt": "a", "steps": 12}, beneath=Beneath({"steps": 9, "order": 3}, "tiny"))
    assert (task.job.sampler.steps, task.job.sampler.order) == (12, 3)


def test_a_lines_own_mask_and_strength_beat_those_of_the_flags():
    flags = Beneath({"strength": 0.75, "mask": "theirs.png"}, "tiny")
    line = {"prompt": "a", "init": "a.png", "mask": "own.png", "strength": 0.25}
    (task,) = tasks(line, beneath=flags)
    assert (Path(task.job.mask).name, task.job.strength) == ("own.png", 0.25)


def test_a_lines_preset_stands_in_the_place_of_the_flags():
    default = load_preset("default")
    flags = Beneath(default.record | {"order": 3, "guidance": 4.0, "size": "256x256"}, "tiny")
    (task,) = tasks({"prompt": "a", "preset": "a1111"}, beneath=flags)
    assert task.job.sampler == load_preset("a1111").sampler  # no corrector, no order of the flags
    assert (task.job.guidance, task.job.size, task.preset) == (4, (256, 256), "a1111")
    (more,) = tasks({"prompt": "a", "preset": "fast", "steps": 7, "spacing": "karras"})
    wanted = load_preset("fast").sampler.model_copy(
        update={"steps": 7, "spacing": "karras", "alpha": None, "beta": None}
    )
    assert more.job.sampler == wanted
    (same,) = tasks({"prompt": "a"}, beneath=Beneath(default.record, "tiny"))
    (named,) = tasks({"prompt": "a", "preset": "default"}, beneath=flags)
    (plain,) = tasks(
        {"prompt": "a", "guidance": 4, "size": "256x256"}, beneath=Beneath(default.record, "tiny")
    )
    assert named.key == plain.key != same.key  # it is of what it decides, not of its name


@pytest.mark.parametrize(
    ("preset", "says", "hint"),
    [
        ("quick", "there is no preset `quick`", "known are"),
        ("", "preset must be a name", ""),
        (7, "preset must be a name", ""),
    ],
)
def test_a_line_with_no_preset_of_ours_is_broken(preset, says, hint):
    (broken, fine) = tasks({"prompt": "a", "preset": preset}, {"prompt": "b", "preset": None})
    assert isinstance(broken, Broken)
    assert says in str(broken.error)
    assert hint in broken.error.hint
    assert isinstance(fine, Task)


@pytest.mark.parametrize(
    ("said", "seeds"),
    [
        ({"seed": 7}, [7]),
        ({"seed": 7, "n": 3}, [7, 8, 9]),
        ({"seed": "1..4"}, [1, 2, 3, 4]),
        ({"seed": [5, 2]}, [5, 2]),
        ({"seed": "9"}, [9]),
    ],
)
def test_seeds_are_one_or_a_list_or_a_range(said, seeds):
    assert [task.job.seed for task in tasks({"prompt": "a", **said})] == seeds


def test_a_lines_own_seeds_are_as_many_as_they_are_whatever_the_flag_says():
    beneath = Beneath({}, "tiny", count=3)
    records = ({"seed": [5, 2]}, {"seed": 7}, {}, {"seed": [5, 2], "n": 4})
    lines = [Line(k, {"prompt": "a", **said}) for k, said in enumerate(records, 1)]
    found = [*read_tasks(lines, beneath)]
    seeds = [
        [t.job.seed for t in found if isinstance(t, Task) and t.number == k] for k in (1, 2, 3)
    ]
    assert seeds[:2] == [[5, 2], [7, 8, 9]]
    assert len(seeds[2]) == 3
    assert isinstance(found[-1], Broken)
    assert count_pictures(lines, beneath) == len(found)


@pytest.mark.parametrize(
    ("key", "hint"),
    [("cfg_scale", "that is `guidance` here"), ("nn", "did you mean `n`"), ("width", "`size`")],
)
def test_a_key_of_other_programs_is_answered_with_ours(key, hint):
    (broken,) = tasks({"prompt": "a", key: 1})
    assert hint in broken.error.hint


@pytest.mark.parametrize(
    "said",
    [
        *({"seed": seed} for seed in (True, 1.5, [], {}, -1, [1, "x"], "4..1")),
        *({"n": n} for n in (0, True, 10**9)),
        {"steps": 0},
        {"x": 1},
    ],
)
def test_what_is_no_job_is_a_complaint(said):
    (broken,) = tasks({"prompt": "a", **said})
    assert isinstance(broken, Broken)


@pytest.mark.parametrize(
    ("text", "form", "count"),
    [
        ("a\n\n# no\nb\n", Form.TXT, 2),
        (
            '{"prompt": "a", "n": 3}\n{"prompt": "b", "seed": "1..4"}\n{"prompt": "c", "seed": 7}\n'
            '{"prompt": "d", "seed": [5, 2]}\n{"prompt": "e", "seed": 9, "n": 2}\n',
            Form.JSONL,
            12,
        ),
        ('prompt,seed,n\na,,5\nb,"1,3,8..9",\n', Form.CSV, 9),
    ],
)
@pytest.mark.parametrize("beneath", [PLAIN, Beneath({}, "tiny", count=2), Beneath({}, "tiny", "4")])
def test_pictures_are_counted_without_reading_their_jobs(text, form, count, beneath):
    read = list(read_tasks(lines(text, form), beneath))
    assert count_pictures(lines(text, form), beneath) == len(read)
    assert beneath is not PLAIN or len(read) == count


def test_lines_of_which_no_job_can_be_made_count_as_one():
    assert count_pictures(lines('{"prompt": "a", "n": 0}\n{"promp', Form.JSONL), PLAIN) == 2


@pytest.mark.parametrize(("i", "share"), [(1, 3), (2, 2), (3, 2)])
def test_a_shard_knows_how_many_of_the_pictures_it_has(i, share):
    shard = read_shard(f"{i}/3")
    assert shard.share(7) == sum(shard.has(index) for index in range(1, 8)) == share


def test_cells_keep_the_case_of_files_and_a_spreadsheets_booleans_are_read():
    text = 'prompt,lora,init,corrector\na,"[""Lines.safetensors:0.5""]",7,TRUE\n'
    (line,) = lines(text, Form.CSV)
    said = {"lora": ["Lines.safetensors:0.5"], "init": "7", "corrector": True}
    assert line.record == {"prompt": "a", **said}


def test_cells_that_are_names_are_text_whatever_they_look_like():
    names = {"preset": "12", "weights": "1", "lora": "7", "vae": "8"}
    text = f"prompt,{','.join(names)}\na,{','.join(names.values())}\n"
    (line,) = lines(text, Form.CSV)
    assert line.record == {"prompt": "a", **names}
    two = 'prompt,guidance_interval\na,"[0.2, 0.8]"\nb,0.2:0.8\n'
    said = [line.record["guidance_interval"] for line in lines(two, Form.CSV)]
    assert said == [[0.2, 0.8], "0.2:0.8"]


def test_files_go_by_their_whole_paths_and_a_key_is_of_what_is_written(tmp_path, monkeypatch):
    files = {"init": "a.png", "mask": "~/m.png", "lora": ["l.st:0.5"], "embedding": ["e.st"]}
    said = {"prompt": "a", "seed": 1, **files}
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    (here,) = tasks(said)
    assert here.job.init == str(tmp_path / "a.png")
    assert here.job.mask == "/home/me/m.png"
    assert here.job.lora == (str(tmp_path / "l.st:0.5"),)
    assert here.job.embedding == (str(tmp_path / "e.st"),)
    monkeypatch.chdir("/")
    (there,) = tasks(said)
    assert there.job.init == "/a.png"
    assert there.key == here.key
    (broken,) = tasks(said | {"mask": "~nobody-of-that-name/m.png"})
    assert "no such user" in str(broken.error)


def test_keys_do_not_depend_on_the_order_of_the_file():
    records = [{"prompt": f"p{k % 7}", "n": 1 + k % 2, "steps": 10 + k % 3} for k in range(40)]
    shuffled = random.Random(1).sample(records, len(records))
    plain, other = tasks(*records), tasks(*shuffled)
    assert {t.key for t in plain} == {t.key for t in other}
    assert len({t.key for t in plain}) == len(plain) == 60
    assert {(t.key, t.job) for t in plain} == {(t.key, t.job) for t in other}


def test_equal_lines_are_different_pictures_with_seeds_that_stay():
    one, two = tasks({"prompt": "a"}, {"prompt": "a"})
    again = tasks({"prompt": "b"}, {"prompt": "a"}, {"prompt": "a"})[1:]
    assert two.job.seed == one.job.seed + 1
    assert [(t.key, t.job.seed) for t in (one, two)] == [(t.key, t.job.seed) for t in again]
    seeded = tasks({"prompt": "a", "seed": 1}, {"prompt": "a", "seed": 1})
    assert len({t.key for t in seeded}) == 2


def test_a_seed_of_its_own_is_what_the_documentation_says():
    import hashlib

    (task,) = tasks({"prompt": "a cat"})
    assert isinstance(task, Task)
    assert task.job.seed == int.from_bytes(hashlib.sha256(b"a cat").digest()[:4]) >> 1


def test_a_key_is_of_all_that_decides_the_picture():
    base = {"prompt": "a", "seed": 1}
    changed = [{"steps": 11}, {"negative": "b"}, {"size": "64x64"}, {"model": "x"}, {"seed": 2}]
    keys = {tasks(base | change)[0].key for change in [{}, *changed]}
    assert len(keys) == 1 + len(changed)
    assert json.dumps(base)  # and not of how it is written:
    assert tasks({"seed": "1", "prompt": "a"})[0].key == tasks(base)[0].key


def ready(models):
    for task in tasks(*({"prompt": "a", "model": model} for model in models)):
        yield Ready(task, task.job, Path("a.png"))


def test_jobs_of_the_loaded_model_go_first_and_in_their_order():
    window = Window(ready("abab"))
    list(window.fill(patient=True))
    order = []
    while some := window.take(order[-1].job.weights if order else None, 8):
        order += some
    assert [one.task.number for one in order] == [1, 3, 2, 4]


def test_no_job_waits_for_ever_however_many_of_the_loaded_model_come():
    window = Window(ready(chain("b", repeat("a", 200))), room=20)
    models = []
    for _ in range(40):
        list(window.fill(patient=True))
        models += [one.job.model for one in window.take(Job(prompt="any", model="a").weights, 4)]
    assert models.index("b") == 20
    assert models.count("a") == 156


def test_what_has_lost_a_worker_goes_first_and_alone():
    window = Window(ready("aaa"))
    list(window.fill(patient=True))
    (first,) = window.take(None, 1)
    window.put_back([replace(first, attempts=1)])
    of_a = Job(prompt="any", model="a").weights
    assert [len(window.take(of_a, 8)) for _ in range(3)] == [1, 2, 0]


def test_what_was_taken_for_nothing_waits_in_its_place_and_has_overtaken_nobody():
    window = Window(ready(chain("b", repeat("a", 200))), room=20)
    painted = []
    while "b" not in [one.job.model for one in painted]:
        list(window.fill(patient=True))
        first, *rest = window.take(Job(prompt="any", model="a").weights, 4)
        painted.append(first)
        window.put_back(rest)
    assert [one.task.index for one in painted] == [*range(2, 22), 1]


@pytest.mark.parametrize("rows", [1, 3, 48, 49, 50, 51, 120])
def test_a_quote_left_open_costs_its_own_row_alone(rows):
    good = [f"a {k},{k}" for k in range(rows)]
    text = "\n".join(["prompt,seed", '"open,5', *good, '"two\nlines",7', '"again,5', "last,6"])
    found = [*read([text.encode()], Form.CSV)]
    assert [line.number for line in found if isinstance(line, Broken)] == [2, rows + 5]
    whole = [line.record["prompt"] for line in found if isinstance(line, Line)]
    assert whole == [f"a {k}" for k in range(rows)] + ["two\nlines", "last"]

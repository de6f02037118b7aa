"""Prompts that change on the way: what they say at which call, and that the network is told so."""

from itertools import pairwise

import pytest
import torch
from grey import Grey
from hypothesis import given
from hypothesis import strategies as st

from sdfast import Job, Sampler, generate
from sdfast.conditioning import calls_of, prepare
from sdfast.engine import generate_together
from sdfast.events import Finished
from sdfast.models import load_model
from sdfast.prompt_edits import turns
from sdfast.solver.guidance import classifier_free
from sdfast.solver.walk import trajectory


def said(prompt, calls=10):
    return [(turn.last, turn.prompt) for turn in turns(prompt, "", calls)]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [  # as the web UI's modules/prompt_parser.py tells its own examples, with ten steps
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a|(b:1.1)]", [(i, "(b:1.1)" if i % 2 == 0 else "a") for i in range(1, 11)]),
        ("[fe|]male", [(i, "male" if i % 2 == 0 else "female") for i in range(1, 11)]),
        (
            "[fe|||]male",
            [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
        ),
        # what follows from its rules
        ("a [b::2.5e-1] c", [(2, "a b c"), (10, "a  c")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-1]", [(10, "b")]),
        ("[a:b:10]", [(10, "a")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("(x [a:b:2]:1.2)", [(2, "(x a:1.2)"), (10, "(x b:1.2)")]),
        # what is no change is text
        ("[a:b]", [(10, "[a:b]")]),
        ("[a:b:c:3]", [(10, "[a:b:c:3]")]),
        ("[a:b:3:]", [(10, "[a:b:3:]")]),
        (r"\[a:b:3\]", [(10, r"\[a:b:3\]")]),
        # and what is none there, where a stray letter leaves the whole prompt as it is
        ("a | b [c:d:3]", [(3, "a | b c"), (10, "a | b d")]),
        ("[a:b:3]\\", [(3, "a\\"), (10, "b\\")]),
        ("[a|b:3]", [(3, ""), (10, "a|b")]),
        ("(a|b) a:3 c|d", [(10, "(a|b) a:3 c|d")]),
        ("[a:b:\N{ARABIC-INDIC DIGIT THREE}]", [(10, "[a:b:\N{ARABIC-INDIC DIGIT THREE}]")]),
    ],
)
def test_a_prompt_says_at_each_call_what_it_says_in_the_web_ui(prompt, wanted):
    assert said(prompt) == wanted


def test_a_prompt_and_its_negative_change_each_at_its_own_call():
    assert turns("[a:b:3]", "c [d::0.5]", 10) == [
        (3, "a", "c d"),
        (5, "b", "c d"),
        (10, "b", "c "),
    ]


def test_a_share_of_the_calls_grows_with_them_and_a_call_does_not():
    assert [said("[a:b:0.5]", n)[0][0] for n in (10, 20, 51)] == [5, 10, 25]
    assert [said("[a:b:5]", n)[0][0] for n in (10, 20, 51)] == [5, 5, 5]


pieces = st.sampled_from([*"[]():|\\ab 1", "0.5", "[a:b:2]", "[a|b]", "e9999"])


@given(words=st.lists(pieces, max_size=40), calls=st.integers(1, 60))
def test_whatever_is_written_there_is_something_to_say_at_every_call(words, calls):
    found = turns("".join(words), "".join(words[::-1]), calls)
    assert found[-1].last == calls
    assert all(a.last < b.last and a[1:] != b[1:] for a, b in pairwise(found))


@given(text=st.text("ab,.()\\ ", max_size=60), calls=st.integers(1, 60))
def test_text_without_square_brackets_never_changes(text, calls):
    assert turns(text, text, calls) == [(calls, text, text)]


@pytest.mark.parametrize(
    "bad",
    [
        *("[" * 20_000, "[a:" * 6_000, "[a|" * 4_000, "[a:b:1]" * 2_800),
        "[a:" * 2_000 + "b" + ":1]" * 2_000,
    ],
)
def test_ten_thousand_brackets_are_read_to_the_end(bad):
    assert turns(bad, "", 50)[-1].last == 50


def test_round_brackets_that_are_never_closed_are_in_no_changes_way():
    assert said(":( " * 60 + "[a:b:3]") == [(3, ":( " * 60 + "a"), (10, ":( " * 60 + "b")]


class Listening(Grey):
    """The grey model, which remembers how long the prompts were that it was told, in turns."""

    def __init__(self):
        super().__init__()
        self.told = []

    def predict(self, x, t, context):
        self.told.append([int(length) for length in context.flatten()])
        return super().predict(x, t, context)


def told(**keys):
    model = Listening()
    list(generate(model, Job(seed=1, **keys)))
    return model.told


@pytest.mark.parametrize("method", ["multistep", "singlestep", "fast"])
def test_the_network_is_told_what_the_prompts_say_at_each_call(method):
    lengths = told(
        prompt="[one:three:2]", negative="[x|yy]", sampler=Sampler(steps=6, method=method)
    )
    assert lengths == [[1, 3], [1, 3], [2, 3], [1, 5], [2, 5], [1, 5]]


def test_every_call_counts_where_a_step_makes_several():
    lengths = told(prompt="[a:bb:0.5]", guidance=1, sampler=Sampler(solver="heun", steps=5))
    assert lengths == [[1]] * 6 + [[2]] * 3  # nine calls, counted as ten: five and one more
    lengths = told(prompt="[a:bb:2]", guidance=1, sampler=Sampler(solver="pndm", steps=4))
    assert lengths == [[1]] * 3 + [[2]] * 2


@pytest.mark.parametrize("steps", [1, 10, 500])
def test_an_adaptive_walk_changes_where_its_share_of_the_way_is_done(steps):
    adaptive = Sampler(method="adaptive", steps=steps)
    model = Listening()
    *_, finished = generate(model, Job(prompt="[a:bb:0.3]", seed=1, guidance=1, sampler=adaptive))
    lengths, times = model.told, [t for t, *_ in model.asked]
    assert lengths == [[1 if t >= 999 * 0.7 else 2] for t in times]
    assert {1, 2} == {length for (length,) in lengths}
    assert len(finished.times.steps) == len(lengths)


def test_a_walk_that_begins_in_the_middle_has_its_first_calls_behind_it(tmp_path):
    from PIL import Image

    class Seeing(Listening):
        def look(self, picture):
            return torch.zeros(1, 4, 8, 8)

        def hole(self, picture, mask):
            return None

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    model = Seeing()
    job = Job(prompt="[a:bb:6]", seed=1, guidance=1, init=str(tmp_path / "a.png"), strength=0.5)
    list(generate(model, job.model_copy(update={"sampler": Sampler(steps=10)})))
    assert model.told == [[1], [1], [2], [2], [2]]  # the calls 5 to 9


def test_pictures_painted_together_change_together():
    sampler = Sampler(steps=4)
    jobs = [Job(prompt=f"[{'a' * n}:b:1]", seed=n, guidance=1, sampler=sampler) for n in (2, 3)]
    model = Listening()
    together = [e for e in generate_together(model, jobs) if isinstance(e, Finished)]
    assert model.told == [[2, 3], [2, 3], [1, 1], [1, 1]]
    for job, finished in zip(jobs, together, strict=True):
        *_, alone = generate(Grey(), job)
        assert finished.image.tobytes() == alone.image.tobytes()


def test_pictures_that_change_at_other_calls_walk_by_themselves():
    sampler = Sampler(steps=4)
    jobs = [Job(prompt=f"[a:b:{n}]", seed=n, guidance=1, sampler=sampler) for n in (1, 2)]
    model = Listening()
    together = [e for e in generate_together(model, jobs) if isinstance(e, Finished)]
    assert [e.job.seed for e in together] == [1, 2]
    assert all(len(row) == 1 for row in model.told)
    assert len(model.told) == 8


@pytest.fixture(scope="module")
def model(small):
    return load_model(str(small), device="cpu")


def picture(model, prompt):
    job = Job(prompt=prompt, seed=1, size=(64, 64), guidance=3, sampler=Sampler(steps=4))
    *_, finished = generate(model, job)
    return finished.image.tobytes()


def test_a_change_before_all_calls_or_after_all_is_none(model):
    assert picture(model, "[fog:rain:0]") == picture(model, "rain")
    assert picture(model, "[fog:rain:4]") == picture(model, "fog")
    assert picture(model, "[fog|fog]") == picture(model, "fog")
    assert len({picture(model, p) for p in ("fog", "rain", "[fog:rain:1]", "[fog|rain]")}) == 4


def test_the_walk_is_one_whose_network_is_told_otherwise_from_some_call_on(model):
    *_, finished = generate(
        model,
        Job(prompt="[fog:rain:1]", seed=1, size=(64, 64), guidance=3, sampler=Sampler(steps=4)),
    )
    away = model.encode("")
    fog, rain = (
        classifier_free(model.predict, model.encode(word), away, 3, repeats=True)
        for word in ("fog", "rain")
    )
    calls = iter([fog, fog, rain, rain])
    noise = model.noise(1, (64, 64))
    walk = trajectory(
        lambda x, t: next(calls)(x, t), noise, Sampler(steps=4), model.schedule, model.prediction
    )
    *_, x = walk
    assert model.decode(x)[0].tobytes() == finished.image.tobytes()


def test_what_is_prepared_is_every_shape_that_the_prompts_take(model, monkeypatch):
    long = "fog " * 90
    jobs = [
        Job(prompt=prompt, seed=1, size=(64, 64), guidance=3, sampler=Sampler(steps=4))
        for prompt in (f"[fog:{long}:2]", "fog", "[fog:rain:2]")
    ]
    changing, plain, alike = (calls_of(model, job) for job in jobs)
    assert changing != plain
    assert alike == plain
    words = model.encode(long).shape[1]
    assert words > 77
    asked, predict = [], model.predict
    monkeypatch.setattr(
        model, "predict", lambda x, t, told: asked.append(told.shape[1]) or predict(x, t, told)
    )
    prepare(model, jobs[0])
    prepare(model, jobs[2])
    assert asked == [77, words, 77]

"""Several values of one key, said in one word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdfast.errors import UsageError
from sdfast.sweeps import Sweep, read_sweep

KEYS = ("steps", "guidance", "guidance_interval", "corrector", "prompt", "sampler", "seed")


@pytest.mark.parametrize(
    ("word", "key", "values"),
    [
        ("steps=10", "steps", (10,)),
        ("steps=10, 20", "steps", (10, 20)),
        ("steps=20,10,20", "steps", (20, 10)),
        ("seed=3..6", "seed", (3, 4, 5, 6)),
        ("seed=9,1..3", "seed", (9, 1, 2, 3)),
        ("steps=5..20..5", "steps", (5, 10, 15, 20)),
        ("steps=5..19..5,50", "steps", (5, 10, 15, 50)),
        ("guidance=1..3..0.5", "guidance", (1, 1.5, 2, 2.5, 3)),
        ("guidance=0.1..0.7..0.2", "guidance", (0.1, 0.3, 0.5, 0.7)),
        ("guidance=.5..2..0.5", "guidance", (0.5, 1, 1.5, 2)),
        ("guidance=1,7.5,1e1", "guidance", (1, 7.5, 10.0)),
        ("corrector=true,False", "corrector", (True, False)),
        ("sampler=DDIM,DPM++ 2M Karras", "sampler", ("DDIM", "DPM++ 2M Karras")),
        ('prompt="a cat, black",a dog', "prompt", ("a cat, black", "a dog")),
        ('prompt="say ""hi""",a 5" disk', "prompt", ('say "hi"', 'a 5" disk')),
        ("prompt=2024,1..3", "prompt", ("2024", "1..3")),
        ("prompt=a=b", "prompt", ("a=b",)),
        ('prompt="",a', "prompt", ("", "a")),
        ('prompt=a, "" ', "prompt", ("a", "")),
        ("seed=18446744073709551615", "seed", (2**64 - 1,)),
        ("guidance-interval=0:0.5,0.2:0.8", "guidance_interval", ("0:0.5", "0.2:0.8")),
    ],
)
def test_a_word_is_the_values_it_says(word, key, values):
    assert read_sweep(word, "--x", KEYS, texts=["prompt"]) == Sweep(key, values)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("steps", "`steps` is no sweep"),
        ("steps=", "is no sweep"),
        ("steps=1,,2", "is no sweep"),
        ("stpes=1", "`stpes` cannot be swept"),
        ("cfg=1", "`cfg` cannot be swept"),
        ("=1", "cannot be swept"),
        ('steps=1,""', "is no sweep"),
        ("prompt=a,", "is no sweep"),
        ("steps=1-10", "`1-10` is no number"),
        ("steps=1..10 (+2)", "is no number"),
        ("steps=1-10 [4]", "is no number"),
        ("seed=4..1", "`4..1` must rise"),
        ("seed=1..4..0", "must rise"),
        ("guidance=0.5..1", "is no row of whole numbers"),
        ("guidance=0..1..0.0001", "must rise, over at most 1000"),
        ("seed=1..99999", "must rise, over at most 1000"),
        ("seed=1..900,1000..1900", "more than 1000 values"),
        ('prompt="a cat', "cannot be parted"),
        ("prompt=a\rb", "cannot be parted"),
    ],
)
def test_a_word_that_says_none_is_refused(word, said):
    with pytest.raises(UsageError, match=said):
        read_sweep(word, "--x", KEYS, texts=["prompt"])


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
        min_size=1,
        unique=True,
    )
)
def test_whatever_is_quoted_comes_back(values):
    listed = ",".join('"' + value.replace('"', '""') + '"' for value in values)
    assert read_sweep(f"prompt={listed}", "--x", KEYS, texts=["prompt"]).values == tuple(values)

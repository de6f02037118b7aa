"""The grammar of prompts: the web UI's own examples, its rules written a second time, and laws."""

import math
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdfast.models.chunks import BACKTRACK, Token, lay_out
from sdfast.prompt import bare_words, not_followed, read_prompt


def read(prompt):
    """Of the prompt's one part, words and weights."""
    (part,) = read_prompt(prompt)
    return [(words, pytest.approx(weight, rel=1e-12)) for words, weight in part]


@pytest.mark.parametrize(
    ("prompt", "means"),
    [  # as modules/prompt_parser.py lists them
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1),
                ("house", 1.3 * 1.1 * 1.1),
                (" ", 1.1),
                ("on", 1),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.1**4),
                (".", 1.1),
            ],
        ),
    ],
)
def test_a_prompt_means_what_the_web_ui_says_it_means(prompt, means):
    assert read(prompt) == means


@pytest.mark.parametrize(
    ("prompt", "means"),
    [
        ("[calm]", [("calm", 1 / 1.1)]),
        ("((a))", [("a", 1.21)]),
        ("([a])", [("a", 1)]),
        ("(a: 1.5 )", [("a", 1.5)]),
        ("(a:-.5)", [("a", -0.5)]),
        ("(a:0)", [("a", 0)]),
        ("a) b] c:1.2)", [("a) b] c:1.2)", 1)]),
        ("[[a", [("a", 1.1**-2)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
        (r"\\ \( \) \[ \] \x", [("\\ ( ) [ ] x", 1)]),
        ("(16:9)", [("16", 9)]),
        ("at 16:9", [("at 16:9", 1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a:1e5)", [("a:1e5", 1.1)]),
        ("()", []),
        ("", []),
        ("a" + "(" * 200 + "b", [("a", 1), ("b", 1000)]),
    ],
)
def test_brackets_weigh(prompt, means):
    assert read(prompt) == means


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a BREAK b", [["a"], ["b"]]),
        ("a\nBREAK\nb", [["a"], ["b"]]),
        ("BREAK", [[], []]),
        ("a BREAK BREAK b", [["a"], [], ["b"]]),
        ("BREAKFAST break", [["BREAKFAST break"]]),
        ("(a BREAK b) c", [["a"], ["b", " c"]]),
    ],
)
def test_break_parts_a_prompt(prompt, parts):
    assert [[words for words, _ in part] for part in read_prompt(prompt)] == parts


SPECIAL = st.sampled_from([*"()[]\\:. ", "BREAK", ":1.2)", ":-3)", "9" * 40, "a", "é", "AND"])
anything = st.lists(SPECIAL, max_size=40).map("".join) | st.text(max_size=40)


@given(anything)
def test_no_prompt_crashes_and_every_weight_is_finite(prompt):
    parts = read_prompt(prompt)
    assert parts
    assert all(math.isfinite(p.weight) and abs(p.weight) <= 1000 for part in parts for p in part)
    not_followed([prompt])


@given(st.text(max_size=60).filter(lambda s: s and not set(s) & set("()[]\\") and "BREAK" not in s))
def test_text_without_special_characters_is_itself(text):
    assert read_prompt(text) == [[(text, 1.0)]]


@given(st.text(max_size=40).filter(lambda s: s and "BREAK" not in s))
def test_escaped_text_is_itself_whatever_it_holds(text):
    escaped = re.sub(r"[()\[\]\\]", r"\\\g<0>", text)
    assert read_prompt(escaped) == [[(text, 1.0)]]


def web_ui_reads(text):
    """`parse_prompt_attention`, written down a second time, the slow way it is done there."""
    pattern = r"\\[()\[\]\\]|\\|\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|\]|[^\\()\[\]:]+|:"
    res, rounds, squares = [], [], []

    def multiply(start, factor):
        for piece in res[start:]:
            piece[1] *= factor

    for m in re.finditer(pattern, text):
        said, weight = m[0], m[1]
        if said[0] == "\\":
            res.append([said[1:], 1.0])
        elif said == "(":
            rounds.append(len(res))
        elif said == "[":
            squares.append(len(res))
        elif weight is not None and rounds:
            multiply(rounds.pop(), float(weight))
        elif said == ")" and rounds:
            multiply(rounds.pop(), 1.1)
        elif said == "]" and squares:
            multiply(squares.pop(), 1 / 1.1)
        else:
            res.append([said, 1.0])
    for start in rounds:
        multiply(start, 1.1)
    for start in squares:
        multiply(start, 1 / 1.1)
    return [(letter, weight) for words, weight in res for letter in words]


@given(st.lists(st.sampled_from([*"()[]\\: ab", ":1.2)", ":0.5)", ":-2)"]), max_size=25))
def test_every_letter_weighs_what_it_weighs_in_the_web_ui(tokens):
    prompt = "".join(tokens)
    (part,) = read_prompt(prompt)
    ours = [(letter, weight) for words, weight in part for letter in words]
    theirs = web_ui_reads(prompt)
    assert [letter for letter, _ in ours] == [letter for letter, _ in theirs]
    wanted = [max(-1000, min(1000, weight)) for _, weight in theirs]
    assert [weight for _, weight in ours] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    "filler", ["(a", "[", "(a:2", "1", ": ", "a)", "\\", "[a|", "<a:", " ", "BREAK "]
)
def test_a_long_prompt_takes_no_longer_than_its_length(filler):
    prompt = filler * (2**15 // len(filler))  # by the square, this takes a minute
    begun = time.process_time()
    assert read_prompt(prompt)
    not_followed([prompt])
    assert time.process_time() - begun < 5


def test_the_words_stand_without_their_syntax():
    assert bare_words(r"a (red:1.3) [old] cat BREAK \(tame\)").split() == [
        *("a", "red", "old", "cat", "(tame)")
    ]


@pytest.mark.parametrize(
    ("prompt", "strange"),
    [
        ("a [cat:dog:0.5], [dog: 3], [cat|dog]", []),
        ("fog <lora:ink:0.8>", ["<lora:ink:0.8>"]),
        ("a AND b AND c", ["AND"]),
        (r"(a:1.2) [b] \[c:d:1\] and BREAK <3", []),
    ],
)
def test_syntax_that_is_read_as_words_is_named(prompt, strange):
    assert not_followed([prompt]) == strange


COMMA = 0
parts_of_tokens = st.lists(st.lists(st.integers(0, 3), max_size=60), min_size=1, max_size=4)


@given(parts_of_tokens, st.integers(1, 30))
def test_chunks_hold_every_token_in_order_and_none_too_many(parts, room):
    tokens = [[Token(i, 1.0) for i in part] for part in parts]
    chunks = lay_out(tokens, room, COMMA)
    assert all(len(chunk) <= room for chunk in chunks)
    assert [t for chunk in chunks for t in chunk] == [t for part in tokens for t in part]
    assert 1 <= len(parts) <= len(chunks) + 1
    starts = [sum(map(len, chunks[:i])) for i in range(len(chunks) + 1)]
    assert {sum(map(len, parts[:i])) for i in range(len(parts))} <= set(starts)


@given(st.lists(st.integers(1, 3), max_size=200), st.integers(1, 80))
def test_without_commas_only_the_last_chunk_has_room(tokens, room):
    chunks = lay_out([[Token(i, 1.0) for i in tokens]], room, COMMA)
    assert all(len(chunk) == room for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("before", "sizes"),
    [(54, [75, 15]), (55, [56, 34]), (74, [75, 15]), (73, [74, 16])],
)
def test_a_full_chunk_ends_at_a_comma_within_twenty_tokens(before, sizes):
    tokens = [Token(1, 1.0)] * before + [Token(COMMA, 1.0)] + [Token(1, 1.0)] * (89 - before)
    assert BACKTRACK == 20
    assert [len(chunk) for chunk in lay_out([tokens], 75, COMMA)] == sizes


def test_a_comma_that_finds_the_chunk_full_begins_the_next():
    tokens = [Token(1, 1.0)] * 60 + [Token(COMMA, 1.0)] + [Token(1, 1.0)] * 14
    chunks = lay_out([[*tokens, Token(COMMA, 1.0)]], 75, COMMA)
    assert [len(chunk) for chunk in chunks] == [75, 1]

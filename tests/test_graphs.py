"""Recordings of a network's calls; on a CPU a recording is the call itself, made again."""

import weakref

import pytest
import torch

from sdfast.models.graphs import Album
from sdfast.models.networks import Conditioning
from sdfast.models.networks.blocks import Keys


def network(x, time, told):
    more = 0 if told.added is None else told.added.sum()
    return x * time + sum(part.sum() for keys in told.keys for part in keys) + more


class Recorder:
    """Plays by calling again, and writes where the first answer stood, as a graph does."""

    def __init__(self):
        self.made = 0

    def __call__(self, function):
        self.made += 1
        said = function()
        return lambda: said.copy_(function()), said


def told(value, *, more=False):
    keys = [Keys(torch.full((1, 2, 3, 4), value), torch.full((1, 2, 3, 4), value + 1))]
    return Conditioning(keys, torch.full((1, 5), value) if more else None)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.mark.parametrize("more", [False, True])
def test_a_recording_says_what_the_network_says(recorder, more):
    graphs = Album(recorder).graphs(network)
    for i in range(6):
        x, time, words = torch.randn(1, 4, 8, 8), torch.tensor([float(i)]), told(i // 3, more=more)
        torch.testing.assert_close(graphs(x, time, words), network(x, time, words))
    assert recorder.made == 1


def test_an_answer_is_not_written_over_by_the_next(recorder):
    graphs, words, one = Album(recorder).graphs(network), told(1), torch.ones(1)
    first = graphs(torch.zeros(1, 4, 8, 8), one, words)
    kept = first.clone()
    graphs(torch.ones(1, 4, 8, 8), one, words)
    assert first.equal(kept)


def test_what_a_call_brings_is_not_written_to(recorder):
    graphs, x, time = Album(recorder).graphs(network), torch.randn(1, 4, 8, 8), torch.ones(1)
    words, others = told(1), told(2)
    for each in (words, others, words):
        graphs(x, time, each)
    assert words.keys[0].keys.eq(1).all()
    assert others.keys[0].keys.eq(2).all()


def test_each_shape_has_its_recording_and_the_longest_unused_goes(recorder):
    graphs, words, one = Album(recorder).graphs(network), told(1), torch.ones(1)
    for side in (1, 2, 3, 4, 1, 5, 1, 2):
        x = torch.randn(1, 4, side, side)
        assert graphs(x, one, words).equal(network(x, one, words))
    assert recorder.made == 6


def test_what_cannot_be_recorded_is_asked_plainly():
    def broken(function):
        raise RuntimeError("operation not permitted when stream is capturing")

    x, time, words = torch.ones(1, 4, 8, 8), torch.ones(1), told(1)
    graphs = Album(broken).graphs(network)
    with pytest.warns(UserWarning, match="no CUDA graph"):
        said = graphs(x, time, words)
    assert said.equal(network(x, time, words))
    assert graphs(x, time, words).equal(said)  # and is not tried again, which would warn


def test_where_there_is_no_room_for_a_recording_there_may_be_for_a_call():
    def full(function):
        raise torch.OutOfMemoryError("CUDA out of memory")

    x, time, words = torch.ones(1, 4, 8, 8), torch.ones(1), told(1)
    assert Album(full).graphs(network)(x, time, words).equal(network(x, time, words))


class Small(Recorder):
    """Room for so many recordings, freed where their networks let them go."""

    def __init__(self, room):
        super().__init__()
        self.room, self.held = room, weakref.WeakSet()

    def __call__(self, function):
        if len(self.held) == self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        play, said = super().__call__(function)
        self.held.add(play)
        return play, said


def test_a_recording_takes_the_memory_of_others_where_there_is_no_more():
    album = Album(Small(2))
    one, other = album.graphs(network), album.graphs(network)
    words, t = told(1), torch.ones(1)
    for side in (1, 2, 3, 1):
        x = torch.randn(1, 4, side, side)
        for graphs in (one, other):
            assert graphs(x, t, words).equal(network(x, t, words))
    assert len(album.record.held) <= 2


def test_what_does_not_fit_beside_each_other_is_not_recorded_for_ever():
    album = Album(Small(1))
    often, seldom = album.graphs(network), album.graphs(network, after=1)
    words, t, x, z = told(1), torch.ones(1), torch.randn(1, 4, 2, 2), torch.randn(1, 4, 3, 3)
    for _ in range(5):
        for _ in range(3):
            assert often(x, t, words).equal(network(x, t, words))
        assert seldom(z, t, words).equal(network(z, t, words))
    assert album.record.made == 1


def test_two_that_have_room_for_one_do_not_push_each_other_out_for_ever():
    album = Album(Small(1))
    graphs, words, t = album.graphs(network), told(1), torch.ones(1)
    one, other = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 3, 3)
    for _ in range(40):
        for x in (one, other):
            for _ in range(20):
                assert graphs(x, t, words).equal(network(x, t, words))
    assert album.record.made == 3


def test_what_found_no_memory_is_recorded_when_there_is_some_again():
    album = Album(Small(0))
    graphs, words, t, x = album.graphs(network), told(1), torch.ones(1), torch.randn(1, 4, 2, 2)
    graphs(x, t, words)
    album.record.room = 1
    calls = 0
    while not album.record.made and calls < 1000:
        assert graphs(x, t, words).equal(network(x, t, words))
        calls += 1
    assert 50 < calls < 500  # to try costs four calls


def test_a_plain_call_takes_the_memory_of_recordings_where_there_is_no_more(recorder):
    album = Album(recorder)
    kept, x, t, words = album.graphs(network), torch.ones(1), torch.ones(1), told(1)
    kept(x, t, words)
    made = []

    def large(x):
        made.append(len(made))
        if len(made) == 1:
            raise RuntimeError("CUDA error: out of memory")
        return x

    assert album.plainly(large, x) is x
    assert len(made) == 2
    assert kept(x, t, words).equal(network(x, t, words))
    assert recorder.made == 1  # there is room for one of both only
    made.clear()
    with pytest.raises(RuntimeError, match="out of memory"):
        album.plainly(large, x)


def test_what_comes_seldom_is_not_recorded(recorder):
    graphs, words, one = Album(recorder).graphs(network, after=2), told(1), torch.ones(1)
    for made in (0, 0, 1, 1):
        x = torch.randn(1, 4, 8, 8)
        assert graphs(x, one, words).equal(network(x, one, words))
        assert recorder.made == made

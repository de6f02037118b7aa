"""Recordings of a network's calls; on a CPU a recording is the call itself, made again."""

import pytest
import torch

from sdfast.models.graphs import Graphs
from sdfast.models.networks import Told
from sdfast.models.networks.blocks import Keys


def network(x, time, told):
    more = 0 if told.more is None else told.more.sum()
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
    return Told(keys, torch.full((1, 5), value) if more else None)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.mark.parametrize("more", [False, True])
def test_a_recording_says_what_the_network_says(recorder, more):
    graphs = Graphs(network, recorder)
    for i in range(6):
        x, time, words = torch.randn(1, 4, 8, 8), torch.tensor([float(i)]), told(i // 3, more=more)
        torch.testing.assert_close(graphs(x, time, words), network(x, time, words))
    assert recorder.made == 1


def test_an_answer_is_not_written_over_by_the_next(recorder):
    graphs, words, one = Graphs(network, recorder), told(1), torch.ones(1)
    first = graphs(torch.zeros(1, 4, 8, 8), one, words)
    kept = first.clone()
    graphs(torch.ones(1, 4, 8, 8), one, words)
    assert first.equal(kept)


def test_what_a_call_brings_is_not_written_to(recorder):
    graphs, x, time = Graphs(network, recorder), torch.randn(1, 4, 8, 8), torch.ones(1)
    words, others = told(1), told(2)
    for each in (words, others, words):
        graphs(x, time, each)
    assert words.keys[0].keys.eq(1).all()
    assert others.keys[0].keys.eq(2).all()


def test_each_shape_has_its_recording_and_the_longest_unused_goes(recorder):
    graphs, words, one = Graphs(network, recorder), told(1), torch.ones(1)
    for side in (1, 2, 3, 4, 1, 5, 1, 2):
        x = torch.randn(1, 4, side, side)
        assert graphs(x, one, words).equal(network(x, one, words))
    assert recorder.made == 6


def test_what_cannot_be_recorded_is_asked_plainly():
    def broken(function):
        raise RuntimeError("operation not permitted when stream is capturing")

    x, time, words = torch.ones(1, 4, 8, 8), torch.ones(1), told(1)
    graphs = Graphs(network, broken)
    with pytest.warns(UserWarning, match="no CUDA graph"):
        said = graphs(x, time, words)
    assert said.equal(network(x, time, words))
    assert graphs(x, time, words).equal(said)  # and is not tried again, which would warn


def test_where_there_is_no_room_for_a_recording_there_may_be_for_a_call(monkeypatch):
    def full(function):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    x, time, words = torch.ones(1, 4, 8, 8), torch.ones(1), told(1)
    assert Graphs(network, full)(x, time, words).equal(network(x, time, words))


def test_what_comes_seldom_is_not_recorded(recorder):
    graphs, words, one = Graphs(network, recorder, after=2), told(1), torch.ones(1)
    for made in (0, 0, 1, 1):
        x = torch.randn(1, 4, 8, 8)
        assert graphs(x, one, words).equal(network(x, one, words))
        assert recorder.made == made

"""The bar on a terminal: it counts what goes by, changes nothing of it, and leaves no trace."""

import io
import re
from functools import partialmethod

import pytest
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from sdfast import Job
from sdfast.events import Encoded, Finished, Stepped, Times
from sdfast.screen import watch

JOB = Job(prompt="a cat", seed=7)
DONE = Finished(JOB, Image.new("RGB", (8, 8)), Times(0.1, (0.2, 0.2), 0.1), decoded_again=False)


def drawn(events):
    """What `watch` passes on, and each state of the line that it draws."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, legacy_windows=False)
    with pytest.MonkeyPatch.context() as patch:  # drawn at each change, not ten times a second
        patch.setattr(Progress, "update", partialmethod(Progress.update, refresh=True))
        passed = list(watch(events, console, lambda job: f"seed {job.seed}"))
    frames = re.split(r"\r|\n|\x1b\[2K", written.getvalue())
    return passed, [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", frame).strip() for frame in frames]


def test_each_event_is_passed_on_and_counted():
    events = [Encoded(JOB), Stepped(1, 2), Stepped(2, 2), DONE]
    passed, frames = drawn(events)
    assert passed == events
    assert any(frame.startswith("seed 7") and " 1/2 " in frame for frame in frames)
    assert any(" 2/2 " in frame and "ms/step" in frame for frame in frames)
    assert frames[-1] == ""


def test_pictures_of_one_walk_are_counted():
    other = JOB.model_copy(update={"seed": 8})
    walk = [Stepped(1, 2), Stepped(2, 2)]
    _, frames = drawn([Encoded(JOB), Encoded(other), *walk, Encoded(JOB), *walk, DONE, DONE])
    assert any(frame.startswith("2 pictures") and " 2/2 " in frame for frame in frames)
    assert any(frame.startswith("seed 7") and " 2/2 " in frame for frame in frames)
    assert not any(frame.startswith("3 pictures") for frame in frames)


def test_a_walk_of_unknown_length_has_no_end_on_the_bar():
    _, frames = drawn([Encoded(JOB), Stepped(1, None), Stepped(2, None), DONE])
    assert any(" 2/? " in frame for frame in frames)

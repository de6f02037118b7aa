"""Asking a worker for a picture. Wakes no torch: who asks need not know how to paint."""

import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from sdfast.job import Job
from sdfast.warm import wire
from sdfast.warm.greeting import Greeting, read_greeting
from sdfast.warm.neighbours import is_ours
from sdfast.warm.place import Place

if TYPE_CHECKING:
    from sdfast.events import Event

PATIENCE = 3.0
"""Seconds in which a worker that lives lets one in and says what it holds."""


class GoneError(Exception):
    """There is no worker any more, or none that makes sense; says why."""


class AbsentError(GoneError):
    """Nobody listens."""


class Queued(NamedTuple):
    """A place in the worker's line."""

    ahead: int
    """Pictures that are painted first."""
    events: "Iterator[Event]"
    """What the engine yields of the jobs. Raises GoneError if the worker is lost on the way."""


def greeting(place: Place) -> Greeting:
    """What the worker holds. Raises GoneError if none answers."""
    with _entered(place) as (_, greeted):
        return greeted


@contextmanager
def ask(place: Place, expected: Greeting, job: Job) -> Generator[Queued]:
    """Hand the job, complete, to the worker that greeted so. To leave early is to cancel it.

    Raises GoneError if that worker is not there any more.
    """
    with _entered(place) as (connection, greeted):
        if (greeted.pid, greeted.since) != (expected.pid, expected.since):
            raise GoneError("another has taken its place")
        with _gone():
            connection.sendall(wire.packed({"job": job.record}))
            match wire.receive(connection, PATIENCE).record:
                case {"is": "queued", "ahead": int(ahead)} if ahead >= 0:
                    pass
                case _:
                    raise wire.GarbledError("a frame that gives no place in the line")
        yield Queued(ahead, _events(connection, job))


def _events(connection: socket.socket, job: Job) -> "Iterator[Event]":
    from sdfast.events import Encoded, Finished

    connection.settimeout(None)  # as long as the worker lives, it paints
    first = True
    while True:
        with _gone():
            event = wire.hear_event(connection, job)
            if isinstance(event, Encoded) != first:
                raise wire.GarbledError("an event out of turn")
        first = False
        yield event
        if isinstance(event, Finished):
            return


@contextmanager
def _entered(place: Place) -> Generator[tuple[socket.socket, Greeting]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        with _gone():
            connection.settimeout(PATIENCE)
            connection.connect(str(place.socket))
            if not is_ours(connection):
                raise GoneError("somebody else listens in its place")
            greeted = read_greeting(wire.receive(connection, PATIENCE).record)
        yield connection, greeted


@contextmanager
def _gone() -> Generator[None]:
    """In here, whatever goes wrong between two processes is a GoneError."""
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise AbsentError("none is running") from error
    except TimeoutError as error:
        raise GoneError("it does not answer") from error
    except (EOFError, OSError) as error:
        raise GoneError("it has ended") from error
    except wire.GarbledError as error:
        raise GoneError(f"it cannot be understood: {error}") from error

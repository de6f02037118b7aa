"""How a signal breaks off what is being done: anywhere but in the middle of an import.

A KeyboardInterrupt there may be swallowed by the C code that imports, or leave a module half there
that cannot be imported again. So it comes as soon as the import has ended.
"""

import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

ENDING = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if name in signal.Signals.__members__
)
"""What ends a command: somebody, a program, and a terminal that is closed."""


@contextmanager
def broken_off_by(
    *signals: signal.Signals, when: Callable[[int], bool] = lambda number: True
) -> Generator[None]:
    """In here a signal raises KeyboardInterrupt where `when`, given its number, says so.

    Whatever goes wrong after that is a KeyboardInterrupt, too: what is broken off may fail with
    another error, as what reads weights does. A signal that is ignored stays so; in another thread
    than the main one, all are left as they are.
    """
    broken = False

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal broken
        if when(number):
            broken = True
            _break_off(frame)

    before: dict[signal.Signals, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in signals:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's
                    before[number] = signal.signal(number, heard)
        yield
    except Exception:
        if broken:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _break_off(frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or have it raised by who imports, once the outermost import ends."""
    importer = None
    while frame is not None:
        within, frame = frame, frame.f_back
        if within.f_code.co_filename == "<frozen importlib._bootstrap>":
            importer = frame
    if importer is None:
        raise KeyboardInterrupt
    importer.f_trace = _raise
    sys.settrace(_look_into_nothing_else)


def _raise(*_: object) -> NoReturn:
    raise KeyboardInterrupt  # which ends the tracing, too


def _look_into_nothing_else(*_: object) -> None:
    pass

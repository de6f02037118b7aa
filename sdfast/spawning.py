"""Processes beside this one, which decides when they stop: what is sent to all they do not hear."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

_SENT_TO_ALL = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""By a terminal, and by SLURM."""
_HOLDS_BACK = hasattr(signal, "pthread_sigmask")
"""Whether signals can be; not on Windows, where no process hands them on either."""


def spawned(target: Callable[..., None], *words: Any) -> BaseProcess:
    """A process that calls `target` with these words, and ends where this one does."""
    context = multiprocessing.get_context("spawn")  # CUDA outlives no fork
    process = context.Process(target=_alone, args=(target, words), daemon=True)
    with _from_no_folder(), _held_back():
        process.start()
    return process


@contextmanager
def _from_no_folder() -> Generator[None]:
    """A process that begins in here imports nothing from the folder that it begins in."""
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _held_back() -> Generator[None]:
    """What is sent in here is heard after it, and by a process that begins here not at all."""
    if not _HOLDS_BACK:
        yield
        return
    resource_tracker.ensure_running()  # which comes with the first process, and holds nothing back
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SENT_TO_ALL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _alone(target: Callable[..., None], words: tuple[Any, ...]) -> None:
    for number in _SENT_TO_ALL:
        signal.signal(number, signal.SIG_IGN)
    if _HOLDS_BACK:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SENT_TO_ALL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    target(*words)


def _leave_with_parent() -> None:
    """End this process with the one that began it, whatever it is in the middle of."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

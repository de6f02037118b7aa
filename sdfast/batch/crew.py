"""Who paints: one studio in this process, or one in each of several.

A crew is asked to give work to one of its hands and to wait for whoever is ready. A hand that is
lost, as the system kills what takes too much memory, is replaced, and its work goes back. But not
for ever, where hands die before they have come up.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple, Protocol

from sdfast.batch.events import GOES_ON
from sdfast.batch.studio import Answer, Order, Setting, Studio
from sdfast.errors import DeviceError, SdfastError
from sdfast.spawning import spawned

_MOST_FALSE_STARTS = 3
"""Hands in a row that may die before they have come up."""


class Lost(NamedTuple):
    """A hand has died, over its work or before it had any."""

    why: str


class Starts:
    """Whether hands come up."""

    def __init__(self) -> None:
        self._false = 0

    def came_up(self) -> None:
        self._false = 0

    def failed(self, why: str) -> None:
        """Raise DeviceError if so many in a row have failed that no other would come up."""
        self._false += 1
        if self._false >= _MOST_FALSE_STARTS:
            raise DeviceError(f"no worker can be started: {why}", GOES_ON)


class Crew(Protocol):
    """Hands that paint, numbered from 0."""

    hands: int
    """How many there are."""
    most: int
    """Pictures that are given to a hand at a time, at first."""

    @property
    def idle(self) -> list[int]:
        """Hands that work can be given to."""
        ...

    def give(self, hand: int, orders: Sequence[Order]) -> None: ...
    def ready(self, within: float | None) -> list[tuple[int, Answer | Lost]]:
        """What hands have finished, at the latest after so many seconds.

        Raises DeviceError and UsageError where nothing can be painted at all.
        """
        ...

    def close(self) -> None: ...


class Alone:
    """This process, which paints when it is asked what is ready."""

    def __init__(self, setting: Setting) -> None:
        self.hands, self.most = 1, setting.most
        self._studio = Studio(setting)
        self._orders: Sequence[Order] = ()

    @property
    def idle(self) -> list[int]:
        return [] if self._orders else [0]

    def give(self, hand: int, orders: Sequence[Order]) -> None:
        self._orders = orders

    def ready(self, within: float | None) -> list[tuple[int, Answer | Lost]]:
        orders, self._orders = self._orders, ()
        return [(0, self._studio.paint(orders))]

    def close(self) -> None:
        pass


class _Worker(NamedTuple):
    process: BaseProcess
    line: "Connection[Sequence[Order], Answer | SdfastError | None]"


class Processes:
    """A process for each device."""

    def __init__(self, setting: Setting, devices: Sequence[str]) -> None:
        self.hands, self.most = len(devices), setting.most
        self._settings = [replace(setting, device=device) for device in devices]
        on_cpu = sum(device == "cpu" for device in devices)
        self._threads = max((os.cpu_count() or 1) // max(on_cpu, 1), 1)
        self._workers = [self._hired(setting) for setting in self._settings]
        self._coming = {*range(len(devices))}
        self._busy = {*range(len(devices))}
        """Those who come up, and those who paint."""
        self._starts = Starts()

    @property
    def idle(self) -> list[int]:
        return [hand for hand in range(len(self._workers)) if hand not in self._busy]

    def give(self, hand: int, orders: Sequence[Order]) -> None:
        self._busy.add(hand)
        with contextlib.suppress(OSError):  # it has died: `ready` will tell
            self._workers[hand].line.send(orders)

    def ready(self, within: float | None) -> list[tuple[int, Answer | Lost]]:
        lines = [self._workers[hand].line for hand in self._busy]
        spoken = wait(lines, within)
        hands = [hand for hand in self._busy if self._workers[hand].line in spoken]
        answers = [(hand, self._heard(hand)) for hand in hands]
        return [(hand, answer) for hand, answer in answers if answer is not None]

    def _heard(self, hand: int) -> Answer | Lost | None:
        """An answer; None from a process that has come up."""
        coming, (process, line) = hand in self._coming, self._workers[hand]
        self._coming.discard(hand)
        self._busy.discard(hand)
        try:
            said = line.recv()
        except (EOFError, OSError):
            process.join()
            line.close()
            why = f"the process for {self._settings[hand].device} was ended"
            if coming:
                self._starts.failed(f"{why} as it began, with exit code {process.exitcode}")
            self._workers[hand] = self._hired(self._settings[hand])
            self._coming.add(hand)
            self._busy.add(hand)
            return Lost(why)
        self._starts.came_up()
        if isinstance(said, SdfastError):
            raise said
        return said

    def _hired(self, setting: Setting) -> _Worker:
        ours, theirs = Pipe()
        process = spawned(_paint, theirs, setting, self._threads)
        theirs.close()
        return _Worker(process, ours)

    def close(self) -> None:
        for process, line in self._workers:
            line.close()
            process.kill()
        for process, _ in self._workers:
            process.join()


def _paint(
    line: "Connection[Answer | SdfastError | None, Sequence[Order]]", setting: Setting, threads: int
) -> None:
    """Paint what comes until nobody is there to ask."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torch is not imported yet
    studio = Studio(setting)
    said: Answer | SdfastError | None = None
    while True:
        try:
            line.send(said)
            orders = line.recv()
        except (EOFError, OSError):
            return
        try:
            said = studio.paint(orders)
        except SdfastError as error:
            said = error


def devices_of(gpus: str) -> list[str]:
    """The devices of `--gpus`: `all`, `0,1`, or names. Raises UsageError and DeviceError."""
    from sdfast.models.device import pick_device

    if gpus == "all":
        import torch

        return [f"cuda:{k}" for k in range(torch.cuda.device_count())] or [str(pick_device())]
    names = [f"cuda:{one}" if one.isdecimal() else one for one in gpus.replace(" ", "").split(",")]
    for name in names:
        try:
            pick_device(name)
        except DeviceError as error:
            raise DeviceError(str(error), "`--gpus all` takes those that are there") from error
    return names

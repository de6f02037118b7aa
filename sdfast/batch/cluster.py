"""A studio in each worker of a Ray cluster, one for each GPU or for so many processors.

Workers send pictures back as files: this process alone writes, and keeps the manifest, so a worker
needs neither the folder nor a lock, and one that dies takes nothing with it. Work goes to workers
as they come up.
"""

import contextlib
import importlib
import os
import socket
from collections.abc import Sequence
from typing import Any

from sdfast.batch.crew import Lost, Starts
from sdfast.batch.studio import Answer, Order, Setting, Studio
from sdfast.errors import SdfastError, UsageError, one_line

_PATIENCE = 10.0
"""Seconds in which a cluster's head has to answer."""


class Cluster:
    """The workers of a cluster that is there already or, for `local`, of one made for the while."""

    def __init__(self, setting: Setting, address: str, cpus: float) -> None:
        self.most = setting.most
        self._ray = _ray()
        self._setting = setting
        self._ours = _joined(self._ray, address)
        try:
            self._needs, count = _room(self._ray, cpus)
        except UsageError:
            self.close()
            raise
        self.hands = count
        self._workers: list[Any] = [None] * count
        self._asked: dict[Any, int] = {}
        """What was asked of whom: to come up, or to paint."""
        self._coming: set[int] = set()
        self._starts = Starts()
        for hand in range(count):
            self._hire(hand)

    @property
    def idle(self) -> list[int]:
        busy = {*self._asked.values()}
        return [hand for hand in range(len(self._workers)) if hand not in busy]

    def _hire(self, hand: int) -> None:
        worker = self._ray.remote(Studio).options(**self._needs).remote(self._setting)
        self._workers[hand] = worker
        self._coming.add(hand)
        self._asked[worker.__ray_ready__.remote()] = hand

    def give(self, hand: int, orders: Sequence[Order]) -> None:
        self._asked[self._workers[hand].paint.remote(orders)] = hand

    def ready(self, within: float | None) -> list[tuple[int, Answer | Lost]]:
        asked = [*self._asked]
        told, _ = self._ray.wait(asked, num_returns=1, timeout=within)
        if told:
            told, _ = self._ray.wait(asked, num_returns=len(asked), timeout=0)
        answers = [(self._asked[one], self._heard(one)) for one in told]
        return [(hand, answer) for hand, answer in answers if answer is not None]

    def _heard(self, one: Any) -> Answer | Lost | None:
        """An answer; None from a worker that has come up."""
        hand = self._asked.pop(one)
        coming = hand in self._coming
        self._coming.discard(hand)
        try:
            answer = self._ray.get(one)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, SdfastError) else SdfastError(str(cause)) from error
        except self._ray.exceptions.RayError as error:
            if coming:
                self._starts.failed(one_line(error))
            self._hire(hand)
            return Lost("a worker of the cluster was lost")
        self._starts.came_up()
        return None if coming else answer

    def close(self) -> None:
        if self._ours:
            self._ray.shutdown()
            return
        for worker in self._workers:
            with contextlib.suppress(Exception):
                self._ray.kill(worker)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError("`--ray` needs Ray, which is not installed", "pip install ray") from error


_OTHERWISE = (
    "`ray start --head` starts one, `--ray local` does without, and RAY_AUTH_MODE=token joins one "
    "that wants a token"
)


def _joined(ray: Any, address: str) -> bool:
    """Join a cluster; whether it is to be left again."""
    if ray.is_initialized():
        return False
    named = {} if address == "local" else {"address": address}
    try:
        _knock(address)
        ray.init(**named, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except Exception as error:  # whatever its parts raise, the cluster is not there
        why = one_line(error)
        raise UsageError(f"no Ray cluster at `{address}`: {why}", _OTHERWISE) from error
    return True


def _knock(address: str) -> None:
    """Raise OSError if nobody is there; Ray itself would ask for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()


def _room(ray: Any, cpus: float) -> tuple[dict[str, float], int]:
    """What a worker needs, and how many of them the cluster holds."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus:
        return {"num_gpus": 1, "num_cpus": 0}, gpus
    if count := sum(int(node.get("CPU", 0) / cpus + 1e-9) for node in nodes):
        return {"num_cpus": cpus}, count
    most = max((node.get("CPU", 0) for node in nodes), default=0)
    raise UsageError(
        f"no node of the cluster has {cpus:g} processors for a worker",
        f"--cpus-per-worker {most:g} is the most",
    )

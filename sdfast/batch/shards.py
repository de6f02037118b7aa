"""A file of jobs in parts, each painted by a run of its own, with a manifest of its own."""

import contextlib
import re
from pathlib import Path
from typing import NamedTuple

from sdfast.errors import UsageError


class Shard(NamedTuple):
    """Every n-th picture of a file, from the i-th on."""

    i: int = 1
    n: int = 1

    @property
    def tag(self) -> str:
        return "sdfast" if self.n == 1 else f"sdfast-{self.i}-of-{self.n}"

    def has(self, index: int) -> bool:
        return (index - self.i) % self.n == 0

    def share(self, count: int) -> int:
        """How many of so many pictures it has."""
        return len(range(self.i - 1, count, self.n))

    def apart(self, other: "Shard") -> bool:
        """Whether no picture belongs to both."""
        return self.n == other.n and self.i != other.i


WHOLE = Shard()


def read_shard(text: str | None) -> Shard:
    """What `--shard` says."""
    if text is None:
        return WHOLE
    said = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip(), re.ASCII)
    if said and 1 <= int(said[1]) <= int(said[2]):
        return Shard(int(said[1]), int(said[2]))
    raise UsageError(f"`--shard` must be such as 2/4, not `{text[:60]}`")


_NAME = re.compile(r"sdfast(?:-(\d+)-of-(\d+))?\.jsonl")


def manifests(folder: Path) -> dict[Path, Shard]:
    """Every manifest in a folder, and of which shard it is."""
    found: dict[Path, Shard] = {}
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            if said := _NAME.fullmatch(path.name):
                found[path] = Shard(int(said[1] or 1), int(said[2] or 1))
    return found

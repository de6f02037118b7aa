"""One file of the cache, fetched byte after byte until it is whole and what its hash says."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sdfast.errors import ModelError, one_line
from sdfast.models.cache import PARTLY, cache_folder, size_of
from sdfast.models.hub import Remote, stream
from sdfast.models.hub_errors import CutShortError, is_passing

_TRIES = 6
"""How often in a row a connection may break without a byte having come."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection broke, and is tried again in some seconds."""

    why: str
    seconds: float


class Blob:
    """A file's content in the cache, under its hash."""

    def __init__(self, repo: str, commit: str, remote: Remote, home: Path) -> None:
        self.path, self.size = remote.path, remote.size
        self._where = (repo, commit, remote.path)
        self._hash = remote.blob
        self._file = home / "blobs" / remote.blob
        self._part = self._file.with_name(remote.blob + PARTLY)
        self._named = home / "snapshots" / commit / remote.path
        self._lock = _lock(home, remote.blob)

    @property
    def whole(self) -> bool:
        """Whether it is there; in a cache without links it may be so under its name alone."""
        return self.size in (size_of(self._file), size_of(self._named))

    @property
    def there(self) -> int:
        """Bytes that need not be fetched."""
        if self.whole:
            return self.size
        part = size_of(self._part) or 0
        return part if part <= self.size else 0

    def fetch(self) -> Iterator[int | Lost]:
        """Fetch what is missing; yields how many bytes are there, and each break of the line."""
        from filelock import Timeout
        from huggingface_hub.utils import WeakFileLock

        while not self.whole:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                with WeakFileLock(self._lock, timeout=1):
                    if not self.whole:
                        yield from self._fetch()
            except Timeout:  # another program is fetching it
                yield self.there

    def _fetch(self) -> Iterator[int | Lost]:
        begun = self.there
        with self._part.open("r+b" if begun else "wb") as file:
            file.seek(begun)
            yield from self._receive(file)
            file.flush()
            os.fsync(file.fileno())
        if self._right():
            self._part.replace(self._file)
            return
        self._part.unlink()
        if not begun:  # or else it is fetched from its beginning
            repo, _, path = self._where
            raise ModelError(
                f"`{repo}`: `{path}` came with a wrong hash and was thrown away", "pull it again"
            )

    def _receive(self, file: BinaryIO) -> Iterator[int | Lost]:
        """Write what comes until nothing is missing, through breaks of the line."""
        breaks = 0
        while file.tell() < self.size:
            try:
                for count in self._answer(file):
                    breaks = 0
                    yield count
            except Exception as error:
                breaks += 1
                if breaks == _TRIES or not is_passing(error):
                    raise
                seconds = 0.25 * 2**breaks
                yield Lost(one_line(error), seconds)
                time.sleep(seconds)

    def _answer(self, file: BinaryIO) -> Iterator[int]:
        """Write what one request brings."""
        begin = file.tell()
        with stream(*self._where, begin) as response:
            if begin and response.status_code != 206:  # it sends everything again
                file.seek(0)
                file.truncate()
            for chunk in response.iter_bytes():
                file.write(chunk)
                yield file.tell()
                if file.tell() > self.size:  # which its hash will tell
                    return
        if file.tell() < self.size:
            raise CutShortError

    def _right(self) -> bool:
        """Whether the content is what its hash says: SHA-256, or SHA-1 as git takes it."""
        header = b"blob %d\0" % self.size
        git = partial(hashlib.sha1, header, usedforsecurity=False)
        with self._part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256" if len(self._hash) == 64 else git)
        return found.hexdigest() == self._hash

    def name(self, path: Path) -> None:
        """Let the content be found under a name of the snapshot."""
        if size_of(self._file) is None:
            return  # it is there under its name alone
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.samefile(self._file):
            return
        path.unlink(missing_ok=True)
        with suppress(FileExistsError):  # another program was faster
            try:
                path.symlink_to(os.path.relpath(self._file, path.parent))
            except FileExistsError:
                raise
            except (OSError, NotImplementedError):  # as on Windows, unless it is told to
                _link_hard(self._file, path)


def _link_hard(file: Path, path: Path) -> None:
    try:
        path.hardlink_to(file)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        shutil.copyfile(file, path)


def drop(part: Path, home: Path) -> None:
    """Remove a part of a file, unless a program is writing it."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    lock = _lock(home, part.name.partition(".")[0])
    lock.parent.mkdir(parents=True, exist_ok=True)
    with suppress(Timeout), WeakFileLock(lock, timeout=0.1):
        part.unlink(missing_ok=True)


def _lock(home: Path, blob: str) -> Path:
    """huggingface_hub's own lock of a file, so that two programs take turns."""
    return cache_folder() / ".locks" / home.name / f"{blob}.lock"

"""What has been done already: JSON lines in the output folder, only ever added to.

    {"status": "begun", "at": "2026-11-25T04:36:16", "version": "0.1"}
    {"status": "done", "key": "9f...", "path": "a-cat-7.png", "seed": 7, "seconds": 1.2, ...}
    {"status": "failed", "key": "03...", "line": 7, "error": "steps must be ..."}
    {"status": "ended", "at": "..."}

Each line is on the disk before the next job is told to be done. A line that a power cut has torn is
passed over. What a line says of a picture counts only if the picture is there, whole.

One process writes a manifest, and holds a lock on it while it lives, which the system lets go of
however the process ends. `--shard 2/4` has a manifest of its own, `sdfast-2-of-4.jsonl`, and reads
the others' as well.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

from sdfast import __version__
from sdfast.batch.blocks import AS_IT_IS
from sdfast.batch.seen import key_of
from sdfast.batch.shards import Shard, manifests
from sdfast.batch.store import Folder, Store
from sdfast.errors import UsageError
from sdfast.writing import unwritable


def manifest_folder(said: str | None, store: Store) -> Path:
    """Where the manifest is kept: with the pictures, unless somewhere else is named."""
    if said is not None:
        try:
            return Path(said).expanduser()
        except RuntimeError as error:
            raise unwritable(Path(said), error) from error
    if isinstance(store, Folder):
        return store.root
    raise UsageError(
        "pictures at a URL need a folder here for the manifest", "--manifest FOLDER/ names one"
    )


def mark_of(home: Path, store: Store) -> str:
    """What tells the drafts of a manifest that is kept elsewhere from those of others."""
    if isinstance(store, Folder) and home == store.root:
        return ""
    try:
        return "@" + hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:8]
    except RuntimeError as error:  # links that lead to each other
        raise unwritable(home, error) from error


class Known(NamedTuple):
    """What the manifests of a folder tell."""

    done: set[bytes]
    """Keys of jobs whose pictures are there, whole."""
    failed: set[bytes]
    """Keys of jobs that failed when they were last tried, in each manifest that tells of them."""
    cut: dict[bytes, str]
    """Where a job's picture was written, as recorded, that is not there or not whole any more."""


def known(folder: Path, store: Store, *, black: bool = True, others: bool = True) -> Known:
    """What has been done so far, as the manifests in a folder have it. Looks at each picture.

    `black` is whether a job is done whose picture a safety checker has made black, `others` whether
    one is whose name somebody else's picture had.
    """
    done, cut = set[bytes](), dict[bytes, str]()
    failed, made = set[bytes](), set[bytes]()
    for manifest in manifests(folder):
        failed_here, made_here = set[bytes](), set[bytes]()
        for record in _records(manifest):
            match record:
                case {"status": "done" | "kept", "key": str(key), "path": str(path)}:
                    named = key_of(key)
                    kept = record["status"] == "kept"  # somebody else's picture, as was wanted
                    place = store.remembered(path)
                    if named is None:
                        continue
                    failed_here.discard(named)  # it was tried again
                    seen = None if kept else store.look(place)
                    own = seen is not None and seen.of(black=black) == named
                    if own or (kept and others and store.taken(place)):
                        done.add(named)
                    elif not kept:
                        cut[named] = path
                        made_here.add(named)
                case {"status": "failed", "key": str(key)}:
                    if named := key_of(key):
                        failed_here.add(named)
                        made_here.discard(named)
                case _:
                    pass
        failed |= failed_here
        made |= made_here
    return Known(done, failed - done - made, cut)


_LONGEST = 2**21


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """A manifest's lines; what is none is passed over."""
    try:
        with os.fdopen(_opened(path, os.O_RDONLY), "rb") as file:
            while raw := file.readline(_LONGEST):
                with contextlib.suppress(ValueError, RecursionError):
                    found: object = json.loads(raw)
                    if isinstance(found, dict):
                        yield cast("dict[str, Any]", found)
    except OSError as error:
        raise UsageError(f"`{path}` cannot be read: {error.strerror}") from error


def _opened(path: Path, how: int) -> int:
    """A manifest's file. Raises OSError for a device, a pipe and, where it is written, a link.

    A folder of somebody else's may hold a link here that leads to a file of one's own.
    """
    with contextlib.suppress(FileNotFoundError):
        kind = (path.lstat() if how & os.O_CREAT else path.stat()).st_mode
        if stat.S_ISLNK(kind):
            raise OSError(errno.ELOOP, "it is a link", str(path))
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.open(path, how | AS_IT_IS, 0o666)


class Manifest:
    """The manifest of one shard, held by this process until it is closed."""

    def __init__(self, path: Path, file: int, begun: datetime, tags: list[str]) -> None:
        self.path = path
        self.tags = tags
        """Of the shards, its own first, that nobody else paints while it is held."""
        self.begun = begun
        """When the batch was begun; one that was broken off goes on under its first date."""
        self._file = file

    def add(self, record: Mapping[str, Any]) -> None:
        """Write a line, and see it on the disk. Raises UsageError, and then nothing is added."""
        line = json.dumps(record, ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            self.check()
            before = os.fstat(self._file).st_size
            try:
                if os.write(self._file, line) < len(line):
                    raise OSError(errno.ENOSPC, "no space left on device")
                os.fsync(self._file)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, before)
                raise
        except OSError as error:
            raise unwritable(self.path, error) from error

    def check(self) -> None:
        """Raise UsageError if the manifest is no more where it was."""
        try:
            there, ours = self.path.stat(), os.fstat(self._file)
        except OSError as error:
            raise unwritable(self.path, error) from error
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            gone = OSError(errno.ESTALE, "the folder has been taken away and another put there")
            raise unwritable(self.path, gone) from gone

    def end(self) -> None:
        """Say that nothing is left to do."""
        self.add({"status": "ended", "at": _now()})

    def close(self) -> None:
        os.close(self._file)


def open_manifest(folder: Path, shard: Shard) -> Manifest:
    """A shard's manifest in a folder, which is made.

    Raises UsageError if it cannot be written, or if another process paints the same jobs there.
    """
    path = folder / f"{shard.tag}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    ours = False
    try:
        ours = _lock(file)  # first: of two that begin at once, one sees the other
        others = {
            other: theirs.tag
            for other, theirs in manifests(folder).items()
            if other != path and not shard.apart(theirs)
        }
        if not ours or any(map(_is_held, others)):
            raise UsageError(
                f"another batch is painting into `{folder}`",
                "wait for it, or share the work with --shard 1/2 and --shard 2/2",
            )
        size = os.fstat(file).st_size
        torn = size > 0 and _last_byte(file) != b"\n"
        begun = _begun(path)
        before = [at for other in others if begun is None and (at := _begun(other))]
        since = begun or min(before, default=datetime.now().replace(microsecond=0))
        manifest = Manifest(path, file, since, [shard.tag, *others.values()])
        if torn:
            os.write(file, b"\n")
        if begun is None:
            manifest.add({"status": "begun", "at": since.isoformat(), "version": __version__})
    except BaseException as error:
        if ours and not os.fstat(file).st_size:  # made just now, and of no use to anybody
            path.unlink(missing_ok=True)
        os.close(file)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise
    return manifest


def _last_byte(file: int) -> bytes:
    os.lseek(file, -1, os.SEEK_END)
    return os.read(file, 1)


def _now() -> str:
    return datetime.now().isoformat(timespec="seconds")


def _begun(path: Path) -> datetime | None:
    """When the batch was begun that has not ended yet."""
    begun = None
    for record in _records(path):
        match record:
            case {"status": "begun", "at": str(at)}:
                with contextlib.suppress(ValueError):
                    begun = datetime.fromisoformat(at)
            case {"status": "ended"}:
                begun = None
            case _:
                pass
    return begun


_FAR = 2**30
"""Where no manifest reaches to."""


def _lock(file: int, *, shared: bool = False) -> bool:
    """Try to lock the file: True if that went well, or where the drive has no locks.

    Several may look at once whether somebody holds it (`shared`), but on Windows. There a byte is
    locked that lies beyond all others, as nobody else may read one that is locked.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            return error.errno not in (errno.EACCES, errno.EDEADLK)
        return True
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # network drives without locks
        return True
    return True


def _is_held(path: Path) -> bool:
    """Whether some process holds a manifest."""
    try:
        file = _opened(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(file, shared=True)
    finally:
        os.close(file)

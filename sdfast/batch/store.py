"""Where pictures are kept: a folder, or whatever fsspec reaches by URL.

Places are named as `-o` names them: as paths in this folder or from the root, or beneath the URL.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sdfast.batch.events import GOES_ON
from sdfast.batch.seen import Seen, look, look_into
from sdfast.errors import RemoteError, UsageError, one_line
from sdfast.naming import Exists, as_folder, keep, settle
from sdfast.wording import quoted
from sdfast.writing import FULL, unwritable

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_HOPELESS = (*FULL, errno.EROFS, errno.EIO, errno.ESTALE)


@dataclass(frozen=True, slots=True)
class Folder:
    """Pictures in a folder, or beneath it."""

    root: Path

    def look(self, place: Path) -> Seen | None:
        """What is there, as `look` has it. Raises RemoteError if that cannot be seen."""
        return look(place)

    def taken(self, place: Path) -> bool:
        return settle(place, Exists.SKIP) is None

    def keep(self, data: bytes, place: Path, draft: str, *, over: bool) -> bool:
        """Write a whole file; False if the name is taken and may not be written over.

        Raises UsageError, caused by what the system has said.
        """
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            near = self.root.stat().st_dev == place.parent.stat().st_dev
        except (OSError, ValueError) as error:
            raise unwritable(place, error) from error
        folder = self.root if near else place.parent  # a name cannot move to another disk
        exists = Exists.OVERWRITE if over else Exists.SKIP
        return keep(data, place, exists=exists, draft=folder / draft) is not None

    def clear(self, drafts: str) -> None:
        """Take away what a killed run has left, named by a pattern."""
        try:
            for draft in self.root.glob(drafts):
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from error

    def is_lost(self, error: UsageError) -> bool:
        """Whether no other picture can be written either."""
        cause = error.__cause__
        if not isinstance(cause, OSError):
            return False
        return cause.errno in _HOPELESS or not os.access(self.root, os.W_OK | os.X_OK)

    def shown(self, place: Path) -> str:
        """A place as it is told to others."""
        return str(place)

    def recorded(self, place: Path) -> str:
        """A place as a manifest has it, which `remembered` turns back."""
        within = place.is_relative_to(self.root)
        return os.path.relpath(place, self.root) if within else str(place.absolute())

    def remembered(self, path: str) -> Path:
        return self.root / path


@dataclass(frozen=True, slots=True)
class Remote:
    """Pictures beneath a URL. What is written there appears whole or not at all."""

    url: str
    files: Any
    """fsspec's file system."""
    base: str
    """The URL as the file system names it."""

    def _path(self, place: Path) -> str:
        return f"{self.base}/{place.as_posix()}"

    def look(self, place: Path) -> Seen | None:
        try:
            with self.files.open(self._path(place), "rb") as file:
                return look_into(file)
        except _ABSENT:
            return None
        except Exception as error:  # each file system raises what its library does
            raise _unreachable("look at", self.shown(place), error) from error

    def taken(self, place: Path) -> bool:
        try:
            self.files.info(self._path(place))  # `exists` takes any fault for an absence
        except _ABSENT:
            return False
        except Exception as error:
            raise _unreachable("look at", self.shown(place), error) from error
        return True

    def keep(self, data: bytes, place: Path, draft: str, *, over: bool) -> bool:
        if not over and self.taken(place):
            return False
        path = self._path(place)
        try:
            self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.files.pipe_file(path, data)
        except Exception as error:
            raise _unreachable("write", self.shown(place), error) from error
        return True

    def clear(self, drafts: str) -> None:
        pass  # there are none

    def is_lost(self, error: UsageError) -> bool:
        return isinstance(error, RemoteError)

    def shown(self, place: Path) -> str:
        return f"{self.url}/{place.as_posix()}"

    def recorded(self, place: Path) -> str:
        return place.as_posix()

    def remembered(self, path: str) -> Path:
        return Path(path)


Store = Folder | Remote
"""Where a batch's pictures go."""


def _unreachable(what: str, url: str, error: Exception) -> RemoteError:
    return RemoteError(f"cannot {what} {quoted(url)}: {one_line(error)}", GOES_ON)


def open_store(out: str | None) -> tuple[Store, str | None]:
    """The store of an `-o`, and the template of names in it. Raises UsageError.

    A plain name is a folder, there or not: a batch has many pictures.
    """
    out = out and as_folder(out)
    if out is None or "://" not in out:
        return Folder(_root(out)), out
    plain = out.partition("{")[0]
    url, _, begun = plain.rpartition("/")
    template = begun + out[len(plain) :]
    try:
        import fsspec  # pyright: ignore[reportMissingTypeStubs]

        files, base = cast("Any", fsspec).core.url_to_fs(url)
    except Exception as error:  # an unknown protocol, or one whose package is not installed
        raise UsageError(f"cannot write {quoted(out)}: {one_line(error)}") from error
    return Remote(url, files, str(base).rstrip("/")), template or None


def _root(out: str | None) -> Path:
    """The folder that every picture of a template goes into, or beneath."""
    plain = (out or "").partition("{")[0]
    try:
        place = Path(plain).expanduser()
        whole = plain == (out or "")
        is_folder = plain.endswith(("/", os.sep)) or (whole and place.is_dir())
    except (OSError, ValueError, RuntimeError) as error:
        raise unwritable(Path(plain), error) from error
    return place if is_folder or not plain else place.parent

"""What can go wrong in a way the user can put right.

    SdfastError
      UsageError      2  a flag, a prompt or an output place that cannot be used
        JobError      2  a job or sampler key is unknown or out of range
        PresetError   2  a preset is missing, unreadable or holds such a key
        MetadataError 2  a picture carries no recipe, or one that cannot be read
        RemoteError   5  pictures at a URL can be neither looked at nor written
        FullError     5  a disk or a quota is full
      ModelError      3  weights are unknown, unreachable, broken or unsafe
      DeviceError     4  no such device
        OutOfMemoryError  too little memory on it

The command line prints these as one line and leaves with the number. Anything else is our bug,
keeps its traceback and leaves with 1.
"""

INTERRUPTED = 130
"""What a program leaves with that Ctrl-C has ended, as shells say of one that SIGINT did."""


class SdfastError(Exception):
    """The root: catch this one.

    `hint` is the way out, where there is one: the nearest valid name, the flag that helps.
    `unknown` is a name that stands for nothing, where that is the matter.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "", *, unknown: str = "") -> None:
        super().__init__(printable(message))
        self.hint = printable(hint)
        self.unknown = unknown


def printable(text: str) -> str:
    """One line, a space for each character that would move a terminal's cursor or colour it."""
    return "".join(c if c.isprintable() else " " for c in text)


def one_line(error: object, most: int = 160) -> str:
    """What another library complains of, in one line of at most so many characters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


class UsageError(SdfastError):
    """A flag, a prompt or an output place that cannot be used."""

    exit_code = 2


class JobError(UsageError):
    """A job or sampler key is unknown or out of range; `key` is which."""

    def __init__(self, message: str, hint: str = "", *, key: str = "") -> None:
        super().__init__(message, hint)
        self.key = key


class PresetError(UsageError):
    """A preset is missing, unreadable or holds a key or value it may not."""


class MetadataError(UsageError):
    """A picture carries no recipe, or one that cannot be read."""


class FullError(UsageError):
    """A disk or a quota is full, and a picture is missing."""

    exit_code = 5


class RemoteError(UsageError):
    """Pictures at a URL can be neither looked at nor written, for now."""

    exit_code = 5


class ModelError(SdfastError):
    """Weights are unknown, unreachable, broken or unsafe."""

    exit_code = 3


class DeviceError(SdfastError):
    """There is no such device, or it cannot do what was asked."""

    exit_code = 4


class OutOfMemoryError(DeviceError):
    """Too little memory on the device."""

"""A lock on a file, which the system lets go of however its holder ends."""

import os
from pathlib import Path


def lock(file: int, *, shared: bool = False) -> bool:
    """Try to lock the file: True if that went well, or where the system has no locks.

    Several may look at once whether somebody holds it (`shared`).
    """
    try:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows, and network drives without locks
        return True
    return True


def is_held(path: Path) -> bool:
    """Whether some process holds a lock on what is there."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not lock(file, shared=True)
    finally:
        os.close(file)

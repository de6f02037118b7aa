"""The first moment of a call. Where a worker lives, its front takes the call over, whole.

What is imported here is waited for by every call of a shell's loop, so it is next to nothing.
"""

import os
import sys


def main(*, alone: bool = False) -> None:
    """Run the command line and leave with its exit code: in the front, or here if `alone`."""
    try:
        _open_streams()
        if sys.argv[1:2] == ["gen"] and sys.platform != "win32" and not alone:
            from sdfast.warm.handover import hand_over

            code = hand_over(sys.argv)
            if code is not None:
                sys.exit(code)
        from sdfast.cli import main as run

        run()
    except KeyboardInterrupt:  # before the command could hear it
        exec("")  # else `python -m` ends by the signal, if that broke off a string it executed
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _open_streams() -> None:
    """Open the null device for streams that the caller has closed.

    Else the next file to be opened would take their number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, "r" if number == 0 else "w", closefd=False))

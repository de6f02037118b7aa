"""How a command says what went wrong: one line, and a way out where there is one."""

import sys

from sdfast.errors import SdfastError


def complain(error: SdfastError) -> None:
    """Print an error on stderr."""
    say_error(str(error), error.hint)


def say_error(problem: str, hint: str = "") -> None:
    print(f"error: {problem}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)

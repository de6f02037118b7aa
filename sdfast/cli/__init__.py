"""The command line: words in, exit code out.

Each command is a file of its own and imports what it needs when it is called, so that asking for
help wakes neither torch nor the terminal's colours.
"""

import contextlib
import errno
import gc
import math
import os
import signal
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Annotated, TextIO

import typer

from sdfast import __version__
from sdfast.cli.breaking import ENDING, broken_off_by
from sdfast.cli.complaint import complain, say_error, say_misuse
from sdfast.cli.panels import Panelled
from sdfast.cli.streams import set_up_streams
from sdfast.errors import (
    INTERRUPTED,
    FullError,
    OutOfMemoryError,
    SdfastError,
    UsageError,
    one_line,
)

_COMMANDS = {
    "gen": "Make pictures.",
    "batch": "Make pictures from a file of jobs, as many as it may be.",
    "grid": "Make a labelled sheet that compares pictures.",
    "bench": "Time pictures or measure errors, beside diffusers.",
    "tune": "Fit a preset to a model.",
    "warm": "Keep a model loaded between calls of `gen`.",
    "presets": "List, show, save and remove sampler presets.",
    "samplers": "List the solvers and other programs' names for them.",
    "models": "List, download, name and remove models.",
    "info": "Tell what made a picture, ours or another program's.",
    "doctor": "Print versions, devices, memory and cache, for a bug report.",
}
"""The commands as help lists them. Each is a file beside this one."""


def _app(words: list[str]) -> typer.Typer:
    """The command line for these words: with the command they name, or with all if they name none.

    A call that a warm worker paints for would spend its time on importing the others.
    """
    app = typer.Typer(
        name="sdfast",
        help="Pictures from words in 10 to 25 steps, with DPM-Solver and DPM-Solver++.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True)(_root)
    named = next((word for word in words if not word.startswith("-")), "")
    for name in [named] if named in _COMMANDS else _COMMANDS:
        command = import_module(f"sdfast.cli.{name}")
        if hasattr(command, "app"):
            app.add_typer(command.app, name=name, help=_COMMANDS[name])
        else:
            app.command(name, help=_COMMANDS[name], cls=Panelled)(getattr(command, name))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


_PIPE_CLOSED = 141
"""What shells say of a program that SIGPIPE ended."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    # to look for plugins of pydantic's is to read what every installed package says of itself
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if "OMP_WAIT_POLICY" not in os.environ:
        # torch's threads wait for each other in a loop, on cores that other programs want, too:
        # cut short, it costs 3 % alone and saves a third beside one busy program
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    # how many threads there are is settled, or oneDNN would miss some: see `use_cores`
    os.environ.pop("OMP_DYNAMIC", None)
    set_up_streams()
    warnings.showwarning = _note
    # what is imported stays until the end, a quarter of a million objects with torch: they are
    # looked through for garbage seldom, and when all is done not once more
    gc.set_threshold(100_000, 50, 100)
    code = run_command()
    gc.freeze()
    if number := _ENDED.get(code):  # as whoever sent it expects
        _flush()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(code)


_ENDED = {128 + number: number for number in ENDING if number != signal.SIGINT}
"""The signals that a command ends by itself, by its exit code. They break it off as Ctrl-C does:
the terminal is put in order, drafts are removed."""


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()


def _note(message: Warning | str, *_: object) -> None:
    """Print a warning as a note of one line, unless -q is given."""
    if not {"-q", "--quiet"} & set(sys.argv):
        print("note:", f"{message}".strip().partition("\n")[0], file=sys.stderr)


def run_command() -> int:
    """Run the command in `sys.argv`; its exit code. What went wrong is said on stderr."""
    ends: list[int] = []
    last: dict[int, float] = {}

    def breaks(number: int) -> bool:
        """Every Ctrl-C does; of another, one a second: some that send it send it twice."""
        ends.append(number)
        before, last[number] = last.get(number, -math.inf), time.monotonic()
        return number == signal.SIGINT or last[number] - before > 1

    try:
        _stand_somewhere(sys.argv[1:])
        with broken_off_by(*ENDING, when=breaks):
            code = _app(sys.argv[1:])(standalone_mode=False)
        sys.stdout.flush()
    except SdfastError as error:
        complain(error)
        _trace(error)
        return error.exit_code
    except typer.TyperException as error:
        say_misuse(error)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except SystemExit as ending:  # typer's answer to a pipe that was closed
        if not _nobody_reads(ending.__context__):
            raise
        _mute(sys.stdout)
        return _PIPE_CLOSED
    except Exception as error:
        if _nobody_reads(error):
            _mute(sys.stdout)
            return _PIPE_CLOSED
        code = _unforeseen(error)
        _trace(error)
        return code
    if code == INTERRUPTED:
        exec("")  # else `python -m` ends by the signal, if that broke off a string it executed
        if ends and ends[0] != signal.SIGINT:
            return 128 + ends[0]
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


_WAKES_TORCH = {"gen", "batch", "grid", "bench", "tune", "doctor"}
_WAKES_NOTHING = {"-h", "--help", "--dry-run"}


def _stand_somewhere(words: list[str]) -> None:
    """Raise UsageError in a folder that is gone, where torch's libraries would end the process."""
    wakes = (words[:1] and words[0] in _WAKES_TORCH) or words[:2] == ["warm", "start"]
    if wakes and not _WAKES_NOTHING & {*words} and _is_nowhere():
        raise _nowhere()


def _is_nowhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _nowhere() -> UsageError:
    return UsageError("this folder is gone", "`cd` to one that is there")


def _nobody_reads(error: BaseException | None) -> bool:
    """Whether a pipe was closed at its other end, of which Windows says that it is no argument."""
    if isinstance(error, OSError) and sys.platform == "win32" and error.errno == errno.EINVAL:
        return error.filename is None
    return isinstance(error, BrokenPipeError)


def _unforeseen(error: Exception) -> int:
    """Say what no part of the program has put into words; the exit code."""
    if _lacks_memory(error):
        say_error("there is too little memory to work in")
        return OutOfMemoryError.exit_code
    if isinstance(error, OSError):
        from sdfast.writing import FULL

        _mute(sys.stdout)
        if isinstance(error, FileNotFoundError) and error.filename is None and _is_nowhere():
            gone = _nowhere()  # since this has begun
            say_error(str(gone), gone.hint)
            return gone.exit_code
        where = error.filename or ("stdout" if error.errno else "")
        say_error(": ".join(filter(None, (where, error.strerror or str(error)))))
        return FullError.exit_code if error.errno in FULL else UsageError.exit_code
    said = one_line(error, 300)
    say_error(f"{type(error).__name__}: {said}", "this is a bug; --debug shows where")
    return SdfastError.exit_code


def _lacks_memory(error: Exception) -> bool:
    """Whether the system gave no memory, be it to a library that was to be imported."""
    refused = "failed to map segment", "cannot allocate memory"
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (
            isinstance(error, (ImportError, OSError))
            and any(text in str(error).lower() for text in refused)
        )
    )


def _mute(stream: TextIO) -> None:
    """Keep Python from complaining again when it flushes the stream at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _trace(error: Exception) -> None:
    """Print the traceback if it was asked for."""
    if "--debug" in sys.argv:
        import traceback

        traceback.print_exception(error)

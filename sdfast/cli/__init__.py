"""The command line: words in, exit code out.

Each command is a file of its own and imports what it needs when it is called, so that asking for
help wakes neither torch nor the terminal's colours.
"""

import io
import os
import sys
from typing import Annotated

import typer

from sdfast import __version__
from sdfast.cli import doctor, gen, info, models, presets
from sdfast.errors import SdfastError

app = typer.Typer(
    name="sdfast",
    help="Pictures from words in 10 to 25 steps, with DPM-Solver and DPM-Solver++.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("gen", help="Make pictures.")(gen.gen)
app.add_typer(presets.app, name="presets", help="Sampler recipes.")
app.add_typer(models.app, name="models", help="The models on this machine.")
app.command("info", help="Tell what made a PNG: ours, A1111's, stable-diffusion.cpp's.")(info.info)
app.command("doctor", help="Versions, device, memory, cache; paste it into a bug report.")(
    doctor.doctor
)


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


_INTERRUPTED = 130


def main() -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run_command())


def run_command() -> int:
    """Run the command in `sys.argv`; its exit code. What went wrong is said on stderr."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except SdfastError as error:
        _say(str(error), error.hint)
        return _trace(error) or error.exit_code
    except typer.TyperException as error:
        _say(error.format_message().rstrip("."), "--help shows how")
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except (BrokenPipeError, SystemExit):  # typer makes a closed pipe an exit
        # the reader has seen enough; keep Python from complaining when it flushes at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        _say(f"{type(error).__name__}: {error}", "this is a bug; --debug shows where")
        return _trace(error) or 1
    if code == _INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _say(problem: str, hint: str = "") -> None:
    print(f"error: {problem}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def _trace(error: Exception) -> int:
    """Print the traceback if it was asked for."""
    if "--debug" in sys.argv:
        import traceback

        traceback.print_exception(error)
    return 0

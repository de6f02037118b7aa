"""`sdfast warm`: a worker that keeps a model loaded, so that `gen` begins at once."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdfast.cli import flags
from sdfast.cli.complaint import counted, say
from sdfast.cli.model import find_model
from sdfast.cli.panels import Panelled
from sdfast.errors import UsageError

if TYPE_CHECKING:
    from sdfast.warm.control import Seen
    from sdfast.warm.greeting import Greeting
    from sdfast.warm.place import Place

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        status()


@app.command(
    "start", help="Load a model and keep it until nobody has asked for a while.", cls=Panelled
)
def start(
    model: flags.ModelName = None,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    idle: Annotated[
        str | None,
        typer.Option(
            "--idle",
            metavar="TIME",
            help="Leave after so long without a picture: 90s, 10m, 1h. [keep_warm, or 10m]",
        ),
    ] = None,
) -> None:
    from sdfast.config import TIME, load_config, seconds_of
    from sdfast.warm import control
    from sdfast.warm.place import find_place
    from sdfast.wording import quoted

    if idle is not None and seconds_of(idle) is None:
        raise UsageError(f"--idle must be {TIME}, not {quoted(idle)}")
    config = load_config()
    place = find_place()
    found = find_model(model or config.model, config, say)
    assert found is not None
    stay = seconds_of(idle) if idle is not None else config.keep_warm
    started = control.start(place, control.Order(found, device, dtype, stay))
    if started.replaced:
        say(f"replaced the worker before: {started.replaced}")
    held = started.greeting
    what = f"worker {held.pid} keeps {held.model} {held.dtype} on {held.device}"
    if started.was_there:
        say(f"{what} already")
    else:
        say(f"{what}; it leaves after {lasting(held.idle)} without a picture")


@app.command("stop", help="End the worker, and wait until it is gone.")
def stop() -> None:
    from sdfast.warm.control import stop
    from sdfast.warm.place import find_place

    pid = stop(find_place())
    say("no worker is running" if pid is None else f"worker {pid} is gone")


@app.command("status", help="What the worker holds, and what it has done; 0 if there is none, too.")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
) -> None:
    from sdfast.warm.control import look
    from sdfast.warm.place import find_place

    place = find_place()
    seen = look(place)
    if as_json:
        print(json.dumps(_record(seen, place)))
    elif seen is None:
        print("no worker is running")
    else:
        rows = _rows(seen, place)
        wide = max(map(len, rows))
        for name, value in rows.items():
            print(f"{name:<{wide}}  {value}")


def _record(seen: Seen | None, place: Place) -> dict[str, Any]:
    if seen is None:
        return {"running": False}
    where = {"socket": str(place.socket), "log": str(place.log)}
    if seen.greeting is None:
        return {"running": True, "ready": False, "pid": seen.pid, "silent": seen.silent, **where}
    return {"running": True, "ready": True, **seen.greeting.record, **where}


def _rows(seen: Seen, place: Place) -> dict[str, str]:
    where = {"socket": str(place.socket), "log": str(place.log)}
    if seen.greeting is None:
        return {"worker": f"{seen.pid}: {seen.silent}", **where}
    held = seen.greeting
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held.since))
    return {
        "model": f"{held.model}, from {held.folder}",
        "dtype": held.dtype,
        "device": held.device,
        "worker": f"{held.pid}, sdfast {held.version}{_usable(held)}",
        "since": since,
        "painted": counted(held.painted, "picture"),
        "waiting": f"{held.waiting}",
        "idle": f"leaves in {lasting(held.left)} of {lasting(held.idle)}",
        **where,
    }


def _usable(held: Greeting) -> str:
    from sdfast.warm.greeting import this_code

    same = held.code == this_code()
    return "" if same else "; not this sdfast, so `gen` does not ask it: `sdfast warm start`"


def lasting(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = round(seconds)
    for unit, small, name, part in ((3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= unit:
            rest = whole % unit // small
            return f"{whole // unit} {name}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"

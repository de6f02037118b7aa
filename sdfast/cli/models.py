"""`sdfast models`: the built-in model, and a view of the Hugging Face cache.

There is no second store: what diffusers has fetched is here too, and what is pulled here diffusers
finds.
"""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sdfast.cli import flags
from sdfast.cli.complaint import say
from sdfast.cli.streams import json_line
from sdfast.errors import ModelError, UsageError

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_models()


@app.command("list", help="What is there: built in, in the cache, and by alias.")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line each.")] = False,
) -> None:
    from sdfast.config import load_config
    from sdfast.models.cache import amount

    for entry in _entries(load_config().aliases):
        if as_json:
            print(json_line(entry))
            continue
        size = amount(entry["bytes"]) if entry["bytes"] else ""
        print(f"{entry['name']:<48} {size:>9}  {_note(entry)}".rstrip())


def _entries(aliases: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What is listed, as JSON has it."""
    from sdfast.models.cache import stored
    from sdfast.models.family import precisions
    from sdfast.models.find import TINY, is_cached, short_names, target_of

    yield {
        "name": "tiny",
        "kind": "built-in",
        "bytes": sum(f.stat().st_size for f in TINY.rglob("*") if f.is_file()),
        "family": "Stable Diffusion",
        "precisions": precisions(TINY),
        "whole": True,
        "folder": str(TINY),
    }
    for model in stored():
        yield {
            "name": model.repo,
            "kind": "cached",
            "bytes": model.size,
            "family": model.family,
            "precisions": model.precisions,
            "whole": model.whole,
            "interrupted_bytes": model.begun,
            "folder": str(model.folder),
        }
    for name in short_names(aliases)[1:]:
        yield {
            "name": name,
            "kind": "alias",
            "bytes": 0,
            "target": target_of(name, aliases),
            "cached": is_cached(name, aliases),
        }


def _note(entry: dict[str, Any]) -> str:
    """What a line of the list says besides the name and the size."""
    if entry["kind"] == "built-in":
        return "built in"
    if entry["kind"] == "alias":
        return f"= {entry['target']}" + ("" if entry["cached"] else " (not in the cache)")
    told = ", ".join(filter(None, (entry["family"], *entry["precisions"])))
    if not entry["whole"]:
        goes_on = f"parts are missing; `sdfast models pull {entry['name']}` goes on"
        return f"{told}: {goes_on}" if told else goes_on
    return told + (", another download was interrupted" if entry["interrupted_bytes"] else "")


@app.command(
    "pull",
    help="Fetch a model, an autoencoder or a LoRA from the Hugging Face Hub into its cache, or go "
    "on with it; OWNER/NAME/FILE is one file of several.",
)
def pull(
    name: Name,
    full: Annotated[
        bool, typer.Option("--full", help="Full precision, which `--dtype fp32` then uses.")
    ] = False,
    offline: flags.Offline = False,
    quiet: flags.Quiet = False,
    no_color: flags.NoColor = False,
) -> None:
    from sdfast.cli.fetching import fetch
    from sdfast.config import load_config
    from sdfast.models.cache import INDEX, cached_file
    from sdfast.models.find import on_hub
    from sdfast.models.folder import check_autoencoder, is_autoencoder, open_folder

    def note(text: str) -> None:
        if not quiet:
            say(text)

    hub = on_hub(name, load_config().aliases)
    folder = fetch(
        hub.repo,
        note,
        draw=not quiet,
        colour=not no_color,
        full=full,
        offline=offline,
        named=hub,
    )
    if hub.file:
        print(folder / hub.file)
    elif (folder / INDEX).is_file():
        if open_folder(hub.repo, folder).lacks_checker:
            note(
                f"note: {hub.repo} names a safety checker, of which the Hub has no safetensors to "
                "be loaded"
            )
        print(folder)
    elif is_autoencoder(folder):
        check_autoencoder(hub.repo, folder)
        print(folder)
    else:
        print(cached_file(hub))


@app.command("rm", help="Remove a model, or what else was pulled, from the cache; asks first.")
def remove(
    name: Name, yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False
) -> None:
    from sdfast.config import load_config
    from sdfast.fields import hub_name
    from sdfast.models.cache import amount, delete, stored
    from sdfast.models.find import target_of
    from sdfast.wording import nearest

    repo = target_of(name, load_config().aliases)
    if (hub := hub_name(repo)) and hub.file:
        hint = f"`sdfast models rm {hub.repo}` removes all that is there of it"
        raise UsageError(f"`{repo}` is a file of `{hub.repo}`", hint)
    if repo == "tiny":
        raise UsageError("`tiny` is built in; it goes when sdfast goes")
    kept = {model.repo: model for model in stored()}
    if repo not in kept:
        hint = nearest(repo, tuple(kept)) if kept else "the cache is empty"
        raise ModelError(f"`{name}` is not in the cache", hint)
    question = f"remove {repo} ({amount(kept[repo].size)})?"
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"will not {question[:-1]} without being told to", "-y")
        if not typer.confirm(question, err=True):
            say(f"kept {repo}")
            return
    say(f"removed {repo}, which frees {amount(delete(repo))}")


@app.command("alias", help="Let a short name stand for a Hub id or a folder.")
def alias(
    name: Name,
    target: Annotated[
        str | None, typer.Argument(metavar="ID|FOLDER|FILE", show_default=False)
    ] = None,
    rm: Annotated[bool, typer.Option("--rm", help="Forget the alias.")] = False,
) -> None:
    import re

    from sdfast.config import load_config, save_alias
    from sdfast.models.find import lasting_target, short_names, target_of

    if rm == (target is not None):
        raise UsageError(
            "an alias takes a target, or --rm", f"sdfast models alias {name} ID|FOLDER|FILE"
        )
    if not re.fullmatch(r"[\w.-]{1,64}", name) or name in ("tiny", "random"):
        raise UsageError(
            f"`{name}` cannot be an alias",
            "it is built in" if name == "tiny" else "letters, digits, `-`, `_` and `.` make one",
        )
    lasting = None if target is None else lasting_target(target, load_config().aliases)
    aliases = save_alias(name, lasting)
    known = name in short_names(aliases)
    says = f"= {target_of(name, aliases)}" if known else "is forgotten"
    say(f"{name} {says}")

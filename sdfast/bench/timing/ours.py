"""Our side: what `sdfast gen` and `sdfast batch` do, with an ear at the network."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL.Image import Image
from torch import Tensor

from sdfast import image_files
from sdfast.bench.timing.turn import Painted, Side
from sdfast.engine import generate_together
from sdfast.events import Finished, Times
from sdfast.job import Job
from sdfast.models import load_model
from sdfast.models.source import Source
from sdfast.naming import Exists, keep
from sdfast.protocols import Model
from sdfast.saving import recipe_of


def load_ours(source: Source, device: str, dtype: str, *, compiled: bool = False) -> Side:
    """Load a model as `sdfast gen` does."""
    model = load_model(source, device=device, dtype=dtype, compiled=compiled, safety=False)
    return Side(partial(paint, model), write, model.dtype_name, str(model.device))


def paint(model: Model, jobs: Sequence[Job]) -> Painted:
    """The jobs' pictures, and where the time went."""
    heard = _Heard(model)
    events = generate_together(cast("Model", heard), jobs)
    painted = [event for event in events if isinstance(event, Finished)]
    each = [one.times for one in painted]
    steps = (len(jobs) * step for step in each[0].steps)  # each picture tells its share of a step
    times = Times(sum(t.encode for t in each), tuple(steps), sum(t.decode for t in each))
    network = tuple(model.clock.between(heard.marks)[::2])
    latents = torch.cat(heard.latents[-len(jobs) :]).float().cpu()  # not those to enlarge
    return Painted(tuple(one.image for one in painted), latents, times, network)


def write(jobs: Sequence[Job], images: Sequence[Image], place: Path) -> None:
    """The pictures with their recipes, encoded side by side, each one safely on the disk."""
    pictures = zip(images, map(recipe_of, jobs), strict=True)
    for file in image_files.encode_all(list(pictures)):
        keep(file, place, exists=Exists.OVERWRITE)


class _Heard:
    """A model that is asked and answers as it would, and remembers when."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.marks: list[Any] = []
        """Before and after each network call."""
        self.latents: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, *asked: Any, **how: Any) -> Tensor:
        """What the model says."""
        self.marks.append(self._model.clock.mark())
        said = self._model.predict(*asked, **how)
        self.marks.append(self._model.clock.mark())
        return said

    def decode(self, x: Tensor, *asked: Any, **how: Any) -> Any:
        """What the model decodes."""
        self.latents.append(x.detach())
        return self._model.decode(x, *asked, **how)

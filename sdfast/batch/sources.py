"""What the models of a batch would fill in, looked up once for each."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sdfast.errors import ModelError
from sdfast.job import Job
from sdfast.models.dressed import dressed
from sdfast.models.find import find, is_cached
from sdfast.models.source import Source
from sdfast.wording import quoted

_MOST = 64


@dataclass(frozen=True, slots=True)
class Sources:
    """The models that jobs have named of late, and which of them are not to be had."""

    aliases: Mapping[str, str]
    offline: bool
    fetch: bool
    """Otherwise jobs of a model that would have to be fetched stay as they are."""
    safety: bool = True
    """Whether a safety checker is fetched with a model."""
    _seen: OrderedDict[object, Source | ModelError | None] = field(
        default_factory=OrderedDict[object, "Source | ModelError | None"]
    )

    def complete(self, job: Job) -> Job:
        """The job with what it leaves open filled in by its model. Raises ModelError."""
        source = self.source(job)
        return job if source is None else source.complete(job)

    def source(self, job: Job) -> Source | None:
        """The job's model, with its LoRAs, embeddings and VAE; None if it would have to be fetched.

        Raises ModelError.
        """
        name = job.model or "tiny"
        bare = self._once(name, lambda: self._found(name))
        if bare is None or not (job.lora or job.embedding or job.vae):
            return bare
        return self._once(job.weights, lambda: dressed(bare, job.weights))

    def _once(self, key: object, look: Callable[[], Source | None]) -> Source | None:
        if key not in self._seen:
            try:
                self._seen[key] = look()
            except ModelError as error:
                self._seen[key] = error
            except OSError as error:  # a name too long, a folder that may not be entered
                what = quoted(str(error.filename)) if error.filename else "a file"
                self._seen[key] = ModelError(f"{what} cannot be read: {error.strerror or error}")
            if len(self._seen) > _MOST:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        found = self._seen[key]
        if isinstance(found, ModelError):
            raise ModelError(str(found), found.hint)
        return found

    def _found(self, name: str) -> Source | None:
        if not self.fetch and not is_cached(name, self.aliases):
            return None
        safety = self.safety and self.fetch
        return find(name, self.aliases, offline=self.offline, safety=safety)

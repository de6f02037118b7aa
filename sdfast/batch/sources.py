"""What the models of a batch would fill in, looked up once for each."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sdfast.errors import ModelError
from sdfast.job import Job
from sdfast.models.find import find, is_cached
from sdfast.models.source import Source

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
    _seen: OrderedDict[str, Source | ModelError | None] = field(
        default_factory=OrderedDict[str, "Source | ModelError | None"]
    )

    def complete(self, job: Job) -> Job:
        """The job with what it leaves open filled in by its model. Raises ModelError."""
        source = self.source(job)
        return job if source is None else source.complete(job)

    def source(self, job: Job) -> Source | None:
        """The job's model; None if it would have to be fetched first. Raises ModelError."""
        name = job.model or "tiny"
        if name not in self._seen:
            self._seen[name] = self._found(name)
            if len(self._seen) > _MOST:
                self._seen.popitem(last=False)
        self._seen.move_to_end(name)
        found = self._seen[name]
        if isinstance(found, ModelError):
            raise ModelError(str(found), found.hint)
        return found

    def _found(self, name: str) -> Source | ModelError | None:
        try:
            if not self.fetch and not is_cached(name, self.aliases):
                return None
            safety = self.safety and self.fetch
            return find(name, self.aliases, offline=self.offline, safety=safety)
        except ModelError as error:
            return error

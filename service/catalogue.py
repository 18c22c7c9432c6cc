"""What is served at one moment. Immutable, so that swapping a model is one assignment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import ModelNotFoundError
from service.shown import shown
from service.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.batcher import Batcher
    from service.direct import DirectRunner
    from service.model import Model


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Served:
    """A model version in service. Hold on to it for as long as a request needs any of its parts.

    Attributes:
        model: the loaded model.
        batcher: the queue for rows that may share a batch; only where `model.batchable`.
        direct: the queue for whole requests, which run one by one.
        statistics: its requests so far.
    """

    model: Model
    batcher: Batcher
    direct: DirectRunner
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def queued(self) -> int:
        """Rows waiting; of a model that takes no batches, requests."""
        return self.batcher.queued + self.direct.queued


class Catalogue:
    """Names -> versions -> `Served`; versions ascend, the last one is the default.

    Args:
        models: the mapping.
        default: the model for requests that name none; needed only where there are several.
    """

    def __init__(
        self, models: Mapping[str, Mapping[str, Served]] | None = None, default: str | None = None
    ) -> None:
        self.models = models or {}
        self.default = default or (next(iter(self.models)) if len(self.models) == 1 else None)
        self._chosen = default
        self._latest = {name: list(versions.values())[-1] for name, versions in self.models.items()}

    def __iter__(self) -> Iterator[Served]:
        for name in sorted(self.models):
            yield from self.models[name].values()

    def get(self, name: str | None = None, version: str | None = None) -> Served:
        """Return one model version; without a name the default model, without a version its last.

        Raises:
            ModelNotFoundError: no such name or version, or no name where there are several.
        """
        if name is None:
            name = self.default
        if name is None:
            raise ModelNotFoundError(
                f"name a model: {self._names()}" if self.models else "no model is served"
            )
        served = self._latest.get(name)
        if served is None:
            raise ModelNotFoundError(f"no model {shown(name)}; served: {self._names()}")
        if version is None:
            return served
        versions = self.models[name]
        if version not in versions:
            raise ModelNotFoundError(
                f"model {name!r} has no version {shown(version)}; it has {', '.join(versions)}"
            )
        return versions[version]

    def find(self, name: str, version: str) -> Served | None:
        """Return one model version, or None."""
        return self.models.get(name, {}).get(version)

    def with_model(self, served: Served) -> Catalogue:
        """Return a catalogue in which `served` takes its name and version's place."""
        name = served.model.name
        versions = {**self.models.get(name, {}), served.model.version: served}
        ascending = {version: versions[version] for version in sorted(versions, key=int)}
        return Catalogue({**self.models, name: ascending}, self._chosen)

    def without(self, name: str, keep: set[str]) -> Catalogue:
        """Return a catalogue in which of `name` only the versions in `keep` are left."""
        versions = {
            version: served
            for version, served in self.models.get(name, {}).items()
            if version in keep
        }
        models = {key: value for key, value in self.models.items() if key != name}
        return Catalogue({**models, name: versions} if versions else models, self._chosen)

    def _names(self) -> str:
        return ", ".join(sorted(self.models)) or "none"

"""How model files come into service, and how a new one takes an old one's place.

A file is loaded, probed and warmed before one assignment makes it visible; what it replaces keeps
the requests that already hold it and drains. A file that fails changes nothing but `index()`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError
from service.attempts import Attempts
from service.catalogue import Catalogue, Served
from service.compatibility import check_gone, check_replaces
from service.direct import DirectRunner
from service.errors import ModelNotFoundError
from service.index import IndexEntry, make_index
from service.layout import find
from service.model import Model, ModelError
from service.retirement import Retirement
from service.shown import shown
from service.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from flatfold.contract.card import Card
    from service.batcher import Batcher
    from service.layout import Source
    from service.runtime import RuntimeOptions
    from service.stamp import Stamp

__all__ = ["Repository", "Served"]

logger = logging.getLogger(__name__)


class Repository:
    """The models in service. Reading takes no lock; changes go one after another.

    Args:
        roots: .onnx files and folders; see `service.layout`.
        make_batcher: builds the queue in front of a loaded model.
        runtime: how models run.
        card: labels and size for files without a card of their own.
        default: the model for requests that name none; needed only where there are several.
        max_batch: most rows in one call of a model; 0 for what its provider makes worthwhile.
    """

    def __init__(  # noqa: PLR0913 - what a repository is made of, given once by the application
        self,
        roots: Sequence[Path],
        make_batcher: Callable[[Model], Batcher],
        *,
        runtime: RuntimeOptions,
        card: Card | None = None,
        default: str | None = None,
        max_batch: int = 0,
    ) -> None:
        self._roots = tuple(roots)
        self._make_batcher = make_batcher
        self._load = partial(Model.load, runtime=runtime, card=card)
        self._max_batch = max_batch
        self._catalogue = Catalogue(default=default)
        self._names: dict[Path, str] = {}  # what the cards of files given by themselves say
        self._attempts = Attempts()
        self._unloaded: set[str] = set()
        self._changing = asyncio.Lock()
        self._retirement = Retirement()

    def get(self, name: str | None = None, version: str | None = None) -> Served:
        """Return a model version: without a name the default model, without a version the highest.

        Raises:
            ModelNotFoundError: no such name or version, or no name where there are several.
        """
        return self._catalogue.get(name, version)

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the served versions of a model, the lowest first."""
        return tuple(self._catalogue.models.get(name, ()))

    def all(self) -> list[Served]:
        """Return every served version, by name."""
        return list(self._catalogue)

    def index(self) -> list[IndexEntry]:
        """Return what is served, and what is on the disk and is not, each with its reason."""
        served = {(each.model.name, each.model.version) for each in self._catalogue}
        try:
            sources = self.sources()
        except ModelError:  # a folder is away for the moment; what is served is served all the same
            sources = []
        on_disk = {source.key for source in sources}
        reasons = {source.key: reason for source in sources if (reason := self._reason(source))}
        return make_index(served, on_disk, self._unloaded, reasons)

    def sources(self) -> list[Source]:
        """Return the files on the disk, with the names that their cards gave where they did.

        Raises:
            ModelError: a folder that was given is not there.
        """
        return [self._named(source) for source in find(self._roots)]

    def stamps(self) -> dict[Source, Stamp]:
        """Return what changes when it is time to try a file anew, of each file on the disk.

        Raises:
            ModelError: a folder that was given is not there.
        """
        return {source: self._attempts.stamp(source) for source in self.sources()}

    @property
    def ready(self) -> bool:
        """Whether any model is served."""
        return bool(self._catalogue.models)

    async def open(self, *, allow_empty: bool = False, tolerant: bool = False) -> None:
        """Load everything on the disk.

        Args:
            allow_empty: no file at all is no error.
            tolerant: a file that cannot be served is logged and shown by `index()`, and the others
                are served: for a worker that takes the place of one that died, where a refusal
                would end what the folder's good files could go on with.

        Raises:
            ModelError: a file cannot be served, unless `tolerant`; a folder that was given is not
                there; or there is no file and `allow_empty` is off.
            ModelNotFoundError: the chosen default is not among the files, unless `tolerant`.
            ProviderError: the explicit provider does not run here, unless `tolerant`.
        """
        async with self._changing:
            sources = self.sources()
            if not sources and not allow_empty:
                raise ModelError(
                    f"no model in {', '.join(map(str, self._roots))}; expected NAME.onnx or "
                    "NAME/VERSION/model.onnx"
                )
            for source in sources:
                await (self._try if tolerant else self._replace)(source)
            if self._catalogue.models and self._catalogue.default is not None and not tolerant:
                self._catalogue.get()

    async def load(self, name: str, refused: Mapping[str, str] | None = None) -> None:
        """Load every version of a model from the disk anew, and drop versions that are gone.

        Args:
            name: the model.
            refused: path -> problem of files that need no attempt: another process made it.

        Raises:
            ModelNotFoundError: no file has that name.
            ModelError: a version cannot be served; if one was, it still is.
        """
        async with self._changing:
            sources = [source for source in self.sources() if source.key[0] == name]
            if not sources:
                raise ModelNotFoundError(f"no file for a model {shown(name)} in the repository")
            self._unloaded.discard(name)
            for source in sources:
                if refused and str(source.path) in refused:
                    self._attempts.refuse(source, refused[str(source.path)])
                else:
                    await self._try(source)
            self._drop(name, keep={source.version for source in sources})
            problems = [self._problem(source) for source in sources]
            if any(problems):
                raise ModelError("; ".join(filter(None, problems)))

    def problems(self, name: str) -> dict[str, str]:
        """Return path -> why the last attempt failed, of a model's files that are not served.

        Raises:
            ModelError: a folder that was given is not there.
        """
        found = {str(s.path): self._attempts.problem(s) for s in self.sources() if s.name == name}
        return {path: problem for path, problem in found.items() if problem}

    async def unload(self, name: str) -> None:
        """Stop serving a model; requests that hold it are still answered.

        Raises:
            ModelNotFoundError: it is not served.
        """
        async with self._changing:
            self._catalogue.get(name)
            self._unloaded.add(name)
            self._drop(name, keep=set())

    async def refresh(self, leave: Collection[Source] = ()) -> None:
        """Follow the disk: load what is new or changed, drop what is gone.

        A file that cannot be served is logged and shown by `index()`, once until it or something
        beside it changes.

        Args:
            leave: files to leave as they are, on the disk or not: they are being changed just now.

        Raises:
            ModelError: a folder that was given is not there.
        """
        async with self._changing:
            on_disk = self.sources()
            self._attempts.forget_all_but({source.path for source in (*on_disk, *leave)})
            for source in on_disk:
                ignored = source.name in self._unloaded or source in leave
                if not ignored and self._attempts.is_due(source):
                    await self._try(source)
            kept = [self._named(source) for source in (*on_disk, *leave)]
            for name in tuple(self._catalogue.models):
                self._drop(name, keep={source.version for source in kept if source.name == name})

    async def drain(self) -> None:
        """Wait until every request that is queued or running has its answer."""
        await asyncio.gather(*(served.batcher.drain() for served in self._catalogue))
        await self._retirement.drain()

    def _named(self, source: Source) -> Source:
        return replace(source, name=source.name or self._names.get(source.path))

    def _problem(self, source: Source) -> str:
        """Return why the file is not served; "" when its last attempt went well."""
        problem = self._attempts.problem(source)
        kept = problem and self._catalogue.find(*source.key) is not None
        return f"{problem}; the old one is kept" if kept else problem

    def _reason(self, source: Source) -> str:
        """Return why the file as it is now is not what is served; "" when it is, or nothing is."""
        problem = self._problem(source)
        if problem or self._catalogue.find(*source.key) is None:
            return problem
        return "the file has changed since it was loaded" if self._attempts.is_due(source) else ""

    async def _try(self, source: Source) -> None:
        """Replace, and turn a failure into a line of the log and of the index."""
        try:
            await self._replace(source)
        except FlatfoldError as error:
            self._attempts.fail(source, str(error))
            logger.error("%s", self._problem(source))  # noqa: TRY400 - expected: one line, no trace

    async def _replace(self, source: Source) -> None:
        """Load one file beside what is served, then swap it in; the old one drains.

        Raises:
            ModelError: it cannot be served; nothing has changed.
        """
        self._attempts.begin(source)
        try:
            model = await asyncio.to_thread(self._prepare, source)
        except FlatfoldError:
            raise
        except BaseException:  # cancelled, or no thread was left: it is due again
            self._attempts.abandon(source)
            raise
        self._names[source.path] = model.name
        old = self._catalogue.find(model.name, model.version)
        if old is not None:  # the counters go on
            model.executions = old.model.executions
        batcher = self._make_batcher(model)
        served = Served(
            model,
            batcher,
            DirectRunner(model, max_queue=batcher.max_queue, on_batch=batcher.on_batch),
            old.statistics if old else Statistics(),
        )
        self._catalogue = self._catalogue.with_model(served)
        logger.info("serving %s version %s from %s", model.name, model.version, source.path)
        if old is not None:
            self._retirement.add(old)

    def _prepare(self, source: Source) -> Model:
        """Load, check and warm; blocks."""
        model = self._load(source.path, name=source.name, version=source.version)
        old = self._catalogue.find(model.name, model.version)
        if old is not None and old.model.path != source.path:
            check_gone(model, old.model, {other.path for other in self.sources()}, self._roots)
        if old is not None:
            check_replaces(model, old.model)
        model.warm_up(self._max_batch)
        return model

    def _drop(self, name: str, keep: set[str]) -> None:
        gone = [
            served
            for version, served in self._catalogue.models.get(name, {}).items()
            if version not in keep
        ]
        self._catalogue = self._catalogue.without(name, keep)
        for served in gone:
            logger.info("no longer serving %s version %s", name, served.model.version)
            self._retirement.add(served)

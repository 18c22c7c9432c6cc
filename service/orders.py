"""Load and unload with several workers: a request reaches one process, its order all of them.

The worker that takes the call carries it out first, so that a bad file stops there. Then it leaves
the order in a folder that all workers poll, with what was refused and why, and answers once each
that has not ended has put its receipt beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Literal

import orjson

from flatfold.contract.errors import FlatfoldError
from flatfold.contract.files import atomic_path
from service.errors import InternalError, NotReadyError, ServiceError
from service.model import ModelError
from service.repeating import repeat
from service.shared import receipts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from service.repository import Repository

Verb = Literal["load", "unload"]

POLL = 0.1  # seconds between two looks at the folder
PATIENCE = 30.0  # seconds until a call stops waiting for the other workers

logger = logging.getLogger(__name__)


class Orders:
    """The folder, as one worker sees it; to be made before the worker's models are loaded.

    Args:
        folder: exists, empty when the server starts, seen by all of its workers.
        repository: this worker's models.
        worker: this worker's name among them; its process id when None.
    """

    def __init__(self, folder: Path, repository: Repository, worker: str | None = None) -> None:
        self._orders = folder / "orders"
        self._receipts = receipts(folder)
        for each in (self._orders, self._receipts):
            each.mkdir(exist_ok=True)
        self._repository = repository
        self._worker = worker or str(os.getpid())
        self._since = time_ns()
        self._done: dict[str, tuple[int, str]] = {}  # model -> serial of its last order, failure
        _write(self._receipts / self._worker, self._done)  # from now on this worker is waited for

    async def load(self, name: str) -> None:
        """Load a model in every worker; raises as `Repository.load` does.

        Raises:
            InternalError: another worker could not.
            NotReadyError: not every worker has followed yet.
        """
        try:
            await self._repository.load(name)
        except ModelError:
            with contextlib.suppress(ServiceError):  # the refusal itself is the answer
                await self._order(name, "load", self._repository.problems(name))
            raise
        await self._order(name, "load")

    async def unload(self, name: str) -> None:
        """Unload a model in every worker; raises as `Repository.unload` and `load` do."""
        await self._repository.unload(name)
        await self._order(name, "unload")

    async def follow(self) -> None:
        """Carry out the other workers' orders until cancelled."""
        await repeat(self.catch_up, POLL, "following the other workers' orders")

    async def catch_up(self) -> None:
        """Carry out what is new; a worker that starts late calls this before it is ready."""
        for order in map(_read, self._orders.glob("[!.]*")):
            name, serial = order["model"], order["serial"]
            if serial > self._done.get(name, (0, ""))[0]:
                # What was to be loaded earlier was on the disk when this worker loaded all of it.
                old = order["verb"] == "load" and serial < self._since
                self._sign(name, serial, "" if old else await self._carry_out(order))

    async def _carry_out(self, order: dict[str, Any]) -> str:
        """Return what went wrong, "" when nothing did."""
        name, verb = order["model"], order["verb"]
        try:
            if verb == "load":
                await self._repository.load(name, order["refused"])
            elif self._repository.versions(name):
                await self._repository.unload(name)
        except FlatfoldError as error:
            logger.error("could not %s %s as another worker was told to: %s", verb, name, error)  # noqa: TRY400 - expected: one line
            return str(error)
        return ""

    async def _order(self, name: str, verb: Verb, refused: Mapping[str, str] | None = None) -> None:
        """Tell the others, and wait for their receipts."""
        serial = time_ns()
        # A name may be too long for a file's, once it is escaped.
        path = self._orders / hashlib.sha256(name.encode()).hexdigest()
        _write(path, {"model": name, "serial": serial, "verb": verb, "refused": refused or {}})
        self._sign(name, serial, "")
        ends = monotonic() + PATIENCE
        while True:
            receipts = [done.get(name, (0, "")) for done in self._all_receipts()]
            signed = [failure for seen, failure in receipts if seen >= serial]
            if len(signed) == len(receipts):
                break
            if monotonic() > ends:
                raise NotReadyError(
                    f"{len(signed)} of {len(receipts)} workers have done the {verb} of {name!r} "
                    "so far; the others will when they can"
                )
            await asyncio.sleep(POLL / 2)
        failures = [failure for failure in signed if failure]
        if failures:
            raise InternalError(f"a worker could not {verb} {name!r}: {failures[0]}")

    def _all_receipts(self) -> Iterator[dict[str, tuple[int, str]]]:
        """Yield what each worker has done: those that start, serve or leave."""
        for path in self._receipts.glob("[!.]*"):
            with contextlib.suppress(FileNotFoundError):  # it has ended just now
                yield _read(path)

    def _sign(self, name: str, serial: int, failure: str) -> None:
        self._done[name] = (serial, failure)
        _write(self._receipts / self._worker, self._done)


def _read(path: Path) -> Any:
    return orjson.loads(path.read_bytes())


def _write(path: Path, content: object) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(orjson.dumps(content))

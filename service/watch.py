"""`--watch`: follow the model folder by polling it, which works on every file system and mount."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from service.layout import Source
    from service.repository import Repository
    from service.stamp import Stamp

logger = logging.getLogger(__name__)


class Watcher:
    """Polls the repository's files, and acts on each once it looks the same at two polls in a row.

    So a file that is still being copied, or is gone for the moment between delete and rename, is
    left alone.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._seen: dict[Source, Stamp] = {}

    async def poll(self) -> None:
        """Look once; load what changed and has settled."""
        now, before = self._repository.stamps(), self._seen
        self._seen = now
        moving = {s for s in now.keys() | before.keys() if now.get(s, ()) != before.get(s, ())}
        await self._repository.refresh(leave=moving)

    async def run(self, interval: float) -> None:
        """Poll every `interval` seconds until cancelled; a failed poll is logged, not the end."""
        while True:
            try:
                await self.poll()
            except FlatfoldError as error:
                logger.warning("%s; looking again in %g s", error, interval)
            except Exception:
                logger.exception("the model folder could not be followed; trying again")
            await asyncio.sleep(interval)

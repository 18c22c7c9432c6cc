"""Pictures to rows: small ones at once, large ones in threads, each failing alone."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from flatfold.contract.pictures import (
    PictureError,
    PictureTooLargeError,
    load_picture,
    open_picture,
    render,
)
from service.errors import (
    DeadlineExceededError,
    NotReadyError,
    PayloadTooLargeError,
    ServiceError,
    UnprocessableError,
)
from service.threads import begin

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    Pixels = NDArray[np.uint8]

# Up to this size a picture decodes in less time (about 0.15 ms) than a hop to a thread costs.
INLINE_PIXELS = 64 * 64
# JPEGs are decoded at a fraction of their size, 640x480 in 0.8 to 1.2 ms, and a thread would only
# take turns with the event loop where both have one core.
INLINE_JPEG_PIXELS = 800 * 600
# A header may fill its whole file, and takes then as long to read as the file is large: only these
# first bytes of a request's pictures are looked at before the hop.
INLINE_BYTES = 64 * 1024
INLINE_JPEG_BYTES = 128 * 1024
_LATE = "no answer within the deadline: it passed before the pictures were decoded"


class Decoder:
    """Decodes to one size under one limit.

    Args:
        threads: where large pictures are decoded; Pillow releases the GIL.
        max_pixels: limit on a picture's header.
        one_core: this process has no more, so that a thread decodes nothing beside the event loop.
    """

    def __init__(self, threads: Executor, max_pixels: int, *, one_core: bool = False) -> None:
        self._threads = threads
        self._max_pixels = max_pixels
        self._inline_bytes = INLINE_JPEG_BYTES if one_core else INLINE_BYTES
        self._inline_jpeg_pixels = INLINE_JPEG_PIXELS if one_core else INLINE_PIXELS

    async def decode(
        self,
        files: Sequence[bytes | ServiceError],
        height: int,
        width: int,
        *,
        deadline: float | None = None,
    ) -> list[Pixels | ServiceError]:
        """Return for each file its pixels, uint8 (height, width, 3), or what is wrong with it.

        Args:
            files: the pictures' bytes; what is an error already stays one.
            height: rows wanted.
            width: columns wanted.
            deadline: `time.monotonic()` after which nobody waits; None for never.

        Raises:
            DeadlineExceededError: it passed first; what had not begun by then is not decoded.
        """
        if deadline is not None and deadline < monotonic():
            raise DeadlineExceededError(_LATE)
        outcomes: list[Pixels | ServiceError | asyncio.Future[Pixels]] = []
        spare = self._inline_bytes
        for file in files:
            if isinstance(file, ServiceError):
                outcomes.append(file)
                continue
            spare -= len(file)
            outcomes.append(self._begin(file, height, width, inline=spare >= 0))
        threads = [each for each in outcomes if isinstance(each, asyncio.Future)]
        if threads:
            await _finish(threads, deadline)
        return [_outcome(each) if isinstance(each, asyncio.Future) else each for each in outcomes]

    def _begin(
        self, data: bytes, height: int, width: int, *, inline: bool
    ) -> Pixels | ServiceError | asyncio.Future[Pixels]:
        """Return the pixels of a small picture, or the future of a large one's."""
        try:
            if not inline:
                return begin(partial(self._load, data, height, width), self._threads)
            image = open_picture(data, max_pixels=self._max_pixels)
            if not self._is_small(image):
                return begin(partial(render, image, height, width), self._threads)
            return render(image, height, width)
        except PictureError as error:
            return _refusal(error)
        except NotReadyError as error:
            return error

    def _is_small(self, image: Image.Image) -> bool:
        # Every scan of a progressive JPEG is decoded whole.
        quick = image.format == "JPEG" and not image.info.get("progressive")
        columns, rows = image.size
        return columns * rows <= (self._inline_jpeg_pixels if quick else INLINE_PIXELS)

    def _load(self, data: bytes, height: int, width: int) -> Pixels:
        return load_picture(data, height, width, max_pixels=self._max_pixels)


async def _finish(threads: list[asyncio.Future[Pixels]], deadline: float | None) -> None:
    """Wait for all; when the deadline or the caller ends that, what has not begun never does."""
    try:
        seconds = None if deadline is None else deadline - monotonic()
        _, late = await asyncio.wait(threads, timeout=seconds)
    finally:
        for thread in threads:
            thread.cancel()
    if late:
        raise DeadlineExceededError(_LATE)


def _outcome(done: asyncio.Future[Pixels]) -> Pixels | ServiceError:
    try:
        return done.result()
    except PictureError as error:
        return _refusal(error)


def _refusal(error: PictureError) -> ServiceError:
    if isinstance(error, PictureTooLargeError):
        return PayloadTooLargeError(f"{error} (--max-pixels)")
    return UnprocessableError(str(error))

"""Pictures to rows: small ones at once, large ones in threads, each failing alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flatfold.contract.pictures import (
    PictureError,
    PictureTooLargeError,
    open_picture,
    render,
)
from service.errors import PayloadTooLargeError, ServiceError, UnprocessableError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# Up to this size a picture decodes in less time (about 0.15 ms) than a hop to a thread costs.
INLINE_PIXELS = 64 * 64


class Decoder:
    """Decodes to one size under one limit.

    Args:
        threads: where large pictures are decoded; Pillow releases the GIL.
        max_pixels: limit on a picture's header.
    """

    def __init__(self, threads: Executor, max_pixels: int) -> None:
        self._threads = threads
        self._max_pixels = max_pixels

    async def decode(
        self, files: list[bytes], height: int, width: int
    ) -> list[NDArray[np.uint8] | ServiceError]:
        """Return for each file its pixels, uint8 (height, width, 3), or what is wrong with it."""
        if len(files) == 1:
            return [await self._one(files[0], height, width)]
        return list(await asyncio.gather(*(self._one(file, height, width) for file in files)))

    async def _one(self, data: bytes, height: int, width: int) -> NDArray[np.uint8] | ServiceError:
        try:
            image = open_picture(data, max_pixels=self._max_pixels)
            if _is_small(image):
                return render(image, height, width)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, render, image, height, width)
        except PictureTooLargeError as error:
            return PayloadTooLargeError(str(error))
        except PictureError as error:
            return UnprocessableError(str(error))


def _is_small(image: Image.Image) -> bool:
    columns, rows = image.size
    return columns * rows <= INLINE_PIXELS

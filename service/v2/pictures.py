"""Picture files in place of pixels: a BYTES input, each element a JPEG, PNG, WebP, ... file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.errors import PayloadTooLargeError, ServiceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flatfold.contract.card import Card
    from service.state import State


async def decode_pictures(state: State, files: list[bytes], card: Card) -> NDArray[np.uint8]:
    """Return the pixels that `/v1/classify` would see, uint8 (len(files), height, width, 3).

    Raises:
        PayloadTooLargeError: too many files, or one with too many pixels.
        UnprocessableError: one that is no picture.
    """
    limit = state.settings.max_files
    if len(files) > limit:
        raise PayloadTooLargeError(
            f"{len(files)} pictures in one request; the limit is {limit} (--max-files)"
        )
    pictures: list[NDArray[np.uint8]] = []
    for number, picture in enumerate(await state.decoder.decode(files, card.height, card.width)):
        if isinstance(picture, ServiceError):
            raise type(picture)(f"picture {number}: {picture}")
        pictures.append(picture)
    return np.stack(pictures)

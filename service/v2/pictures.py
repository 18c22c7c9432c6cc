"""Picture files in place of pixels: a BYTES input, each element a JPEG, PNG, WebP, ... file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from service.errors import PayloadTooLargeError, ServiceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flatfold.contract.card import Card
    from service.state import State


async def decode_pictures(
    state: State, files: list[bytes], card: Card, *, deadline: float | None = None
) -> NDArray[np.uint8]:
    """Return the pixels that `/v1/classify` would see, uint8 (len(files), height, width, 3).

    Args:
        state: the server.
        files: the pictures' bytes.
        card: says the size.
        deadline: `time.monotonic()` after which nobody waits; None for never.

    Raises:
        DeadlineExceededError: it passed before all were decoded.
        PayloadTooLargeError: too many files, or one with too many pixels.
        UnprocessableError: one that is no picture.
    """
    limit = state.settings.max_files
    if len(files) > limit:
        raise PayloadTooLargeError(
            f"{len(files)} pictures in one request; the limit is {limit} (--max-files)"
        )
    pictures: list[NDArray[np.uint8]] = []
    decoded = await state.decoder.decode(files, card.height, card.width, deadline=deadline)
    for number, picture in enumerate(decoded):
        if isinstance(picture, ServiceError):
            raise type(picture)(f"picture {number}: {picture}")
        pictures.append(picture)
    return np.stack(pictures)

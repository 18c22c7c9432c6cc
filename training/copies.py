"""Pictures that are there twice: one learnt from proves nothing when it is tested on as well."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from training.data import Pictures


def tell_copies(train: Pictures, test: Pictures) -> list[str]:
    """Return a sentence on the test pictures learnt from, and one on training pictures repeated.

    Compared are the pixels as the network is given them, so that a copy in another file format or
    class counts as well. Pictures that have no files of their own are not looked at.
    """
    first: dict[bytes, Path] = {}
    repeated = [
        (file, original)
        for file, digest in _digests(train)
        if (original := first.setdefault(digest, file)) is not file
    ]
    learnt = [(file, first[digest]) for file, digest in _digests(test) if digest in first]
    told = (
        (learnt, f"of {len(test)} test pictures are training pictures too", "test accuracy"),
        (
            repeated,
            f"of {len(train)} training pictures repeat another",
            "held-out accuracy and the confidence fitted there",
        ),
    )
    return [
        f"{len(pairs)} {what}, pixel for pixel: {pairs[0][0]} is {pairs[0][1]}; the {figure} "
        "may be too high: keep one of each"
        for pairs, what, figure in told
        if pairs
    ]


def _digests(pictures: Pictures) -> Iterator[tuple[Path, bytes]]:
    """Yield the file of each picture and 16 bytes that tell its pixels from others."""
    for file, image in zip(pictures.files, pictures.images, strict=False):  # some have no files
        yield file, hashlib.blake2b(image.data, digest_size=16).digest()

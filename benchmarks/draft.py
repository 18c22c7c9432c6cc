"""How often decoding a JPEG at a fraction of its size changes the answer.

    python -m benchmarks.draft [--data-dir CIFAR] [--model MODEL]

CIFAR-10's test pictures, enlarged to 640x480, are what the model knows; crops of scikit-image's
photographs are as detailed as pictures from a camera, but show little that it has a class for, so
that many answers are close calls. Prints the agreement of the top-1 answers and what changed.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from PIL import Image
from skimage import data as samples

from benchmarks.run import DEFAULT_MODEL
from flatfold.contract.pictures import load_picture
from training.data import load_cifar10

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket")
SIZE = (640, 480)
QUALITIES = (75, 85, 95)
SURE = 0.5  # probability from which an answer is more than a guess


def enlarged(images: NDArray[np.uint8], rng: np.random.Generator) -> Iterator[bytes]:
    """Give each picture as a 640x480 JPEG: the square in the middle, its edges drawn out."""
    side, margin = SIZE[1], (SIZE[0] - SIZE[1]) // 2
    for pixels in images:
        square = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
        wide = np.pad(np.asarray(square), ((0, 0), (margin, margin), (0, 0)), mode="edge")
        yield jpeg(Image.fromarray(wide), rng)


def crops(count: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Give `count` 640x480 JPEGs of each photograph, cropped to a third of its width or more."""
    for name in PHOTOGRAPHS:
        photograph = Image.fromarray(getattr(samples, name)())
        widest = min(photograph.width, photograph.height * SIZE[0] // SIZE[1])
        for _ in range(count):
            width = int(widest * rng.uniform(1 / 3, 1))
            height = width * SIZE[1] // SIZE[0]
            left = int(rng.integers(0, photograph.width - width + 1))
            top = int(rng.integers(0, photograph.height - height + 1))
            box = (left, top, left + width, top + height)
            yield jpeg(photograph.resize(SIZE, Image.Resampling.LANCZOS, box), rng)


def jpeg(image: Image.Image, rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.choice(QUALITIES)))
    return file.getvalue()


def compare(session: onnxruntime.InferenceSession, files: Iterator[bytes]) -> str:
    """Return one line: pictures, agreement, and how sure the model was where the answer changed."""
    side = session.get_inputs()[0].shape[1]
    count = agree = sure = sure_agree = 0
    furthest = 0
    for file in files:
        pair = np.stack([load_picture(file, side, side, draft=draft) for draft in (False, True)])
        furthest = max(furthest, int(np.abs(pair[0].astype(int) - pair[1]).max()))
        full, fast = session.run(["probabilities"], {"images": pair})[0]
        same = full.argmax() == fast.argmax()
        count, agree = count + 1, agree + same
        if full.max() >= SURE:
            sure, sure_agree = sure + 1, sure_agree + same
    return (
        f"{count} pictures, top-1 agrees for {agree / count:.2%}; of the {sure} with a probability "
        f"of {SURE} or more for {sure_agree / sure:.2%}; pixels differ by {furthest} of 255 at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--count", type=int, default=2000, help="test pictures; crops in all")
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(args.model)
    rng = np.random.default_rng(0)
    images = load_cifar10(args.data_dir, train=False).images[: args.count]
    print("CIFAR-10 enlarged:", compare(session, enlarged(images, rng)), flush=True)
    print("photographs:", compare(session, crops(args.count // len(PHOTOGRAPHS), rng)))


if __name__ == "__main__":
    main()

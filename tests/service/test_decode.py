import asyncio
import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import numpy as np
import pytest
from PIL import Image

from flatfold.contract.pictures import load_picture
from service.decode import INLINE_BYTES, Decoder
from service.errors import (
    DeadlineExceededError,
    NotReadyError,
    PayloadTooLargeError,
    UnprocessableError,
)

pytestmark = pytest.mark.anyio

PIXELS = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Recording(ThreadPoolExecutor):
    """One thread; remembers what was asked of it."""

    def __init__(self):
        super().__init__(1)
        self.futures = []

    def submit(self, *call):
        self.futures.append(super().submit(*call))
        return self.futures[-1]


@pytest.fixture
def threads():
    with Recording() as executor:
        yield executor


def encode(pixels, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def stuffed(size):
    """A PNG of 8x8 pixels whose header takes `size` bytes: empty chunks that mean nothing."""
    file = encode(PIXELS[:8, :8])
    chunk = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    return file[:33] + chunk * (size // len(chunk)) + file[33:]


async def test_each_picture_gets_its_own_outcome_in_order(threads):
    large = encode(PIXELS, "JPEG")
    files = [encode(PIXELS[:8, :8]), b"hello", large, large[:2000], encode(PIXELS[:200])]
    decoded = await Decoder(threads, 300 * 400 - 1).decode(files, 8, 8)
    assert np.array_equal(decoded[0], load_picture(files[0], 8, 8))
    assert isinstance(decoded[1], UnprocessableError)
    assert isinstance(decoded[2], PayloadTooLargeError)
    assert isinstance(decoded[3], PayloadTooLargeError)
    assert np.array_equal(decoded[4], load_picture(files[4], 8, 8))


@pytest.mark.parametrize(
    ("file", "hops"),
    [
        (encode(PIXELS[:64, :64]), 0),
        (encode(PIXELS[:100, :100]), 1),  # a file that is looked into, and is too many pixels
        (encode(PIXELS), 1),  # one that is too large to be looked into
        (stuffed(INLINE_BYTES), 1),
    ],
)
async def test_what_takes_long_is_read_in_a_thread_and_in_one_hop(threads, file, hops):
    (pixels,) = await Decoder(threads, 10**6).decode([file], 8, 8)
    assert np.array_equal(pixels, load_picture(file, 8, 8))
    assert len(threads.futures) == hops


@pytest.mark.parametrize(
    ("file", "hops"),
    [
        (encode(PIXELS, "JPEG"), 0),
        (encode(PIXELS[:100, :100]), 1),  # of another format, which is decoded whole
        (encode(PIXELS, "JPEG", progressive=True), 1),
        (encode(np.zeros((601, 800, 3), np.uint8), "JPEG"), 1),
    ],
)
async def test_with_one_core_a_small_jpeg_takes_no_hop(threads, file, hops):
    (pixels,) = await Decoder(threads, 10**6, one_core=True).decode([file], 8, 8)
    assert np.array_equal(pixels, load_picture(file, 8, 8))
    assert len(threads.futures) == hops


async def test_many_small_files_share_what_is_read_at_once(threads):
    files = [stuffed(INLINE_BYTES // 3)] * 4
    assert len(await Decoder(threads, 10**6).decode(files, 8, 8)) == 4
    assert len(threads.futures) == 2


async def test_damage_found_in_a_thread_fails_alone(threads):
    file = encode(PIXELS)
    broken, whole = await Decoder(threads, 10**6).decode([file[: len(file) // 2], file], 8, 8)
    assert isinstance(broken, UnprocessableError)
    assert isinstance(whole, np.ndarray)


async def test_after_the_deadline_nothing_more_is_begun(threads):
    gate = threading.Event()
    threads.submit(gate.wait, 60)
    try:
        with pytest.raises(DeadlineExceededError, match="before the pictures were decoded"):
            await Decoder(threads, 10**6).decode(
                [encode(PIXELS)] * 3, 8, 8, deadline=monotonic() + 0.05
            )
        await asyncio.sleep(0)  # the loop tells the threads in its next turn
    finally:
        gate.set()
    assert [future.cancelled() for future in threads.futures[1:]] == [True] * 3


async def test_after_the_caller_left_nothing_more_is_begun(threads):
    gate = threading.Event()
    threads.submit(gate.wait, 60)
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Decoder(threads, 10**6).decode([encode(PIXELS)] * 2, 8, 8), 0.05)
        await asyncio.sleep(0)  # as above
    finally:
        gate.set()
    assert [future.cancelled() for future in threads.futures[1:]] == [True] * 2


async def test_a_deadline_that_passed_before_is_told(threads):
    with pytest.raises(DeadlineExceededError):
        await Decoder(threads, 10**6).decode([encode(PIXELS[:8, :8])], 8, 8, deadline=0)


async def test_a_deadline_that_is_kept_changes_nothing(threads):
    decoding = Decoder(threads, 10**6).decode([encode(PIXELS)], 8, 8, deadline=monotonic() + 60)
    (pixels,) = await asyncio.wait_for(decoding, 60)
    assert np.array_equal(pixels, load_picture(encode(PIXELS), 8, 8))


async def test_a_picture_that_finds_no_thread_may_come_again(no_thread, threads):
    decoder = Decoder(threads, 10**6)
    files = [encode(PIXELS[:8, :8]), encode(PIXELS[:99, :99]), stuffed(INLINE_BYTES)]
    with no_thread():
        outcomes = await decoder.decode(files, 8, 8)
    assert [isinstance(outcome, NotReadyError) for outcome in outcomes] == [False, True, True]
    assert "no thread for this request" in str(outcomes[1])
    assert {pixels.shape for pixels in await decoder.decode(files, 8, 8)} == {(8, 8, 3)}

import threading

import pytest

from service.errors import NotReadyError
from service.threads import INLINE_BYTES, by_size

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize(("size", "here"), [(INLINE_BYTES - 1, True), (INLINE_BYTES, False)])
async def test_large_work_leaves_this_thread(size, here):
    assert (await by_size(size, threading.current_thread) is threading.current_thread()) is here


@pytest.mark.parametrize("size", [0, INLINE_BYTES])
async def test_errors_are_passed_on(size):
    with pytest.raises(ValueError, match="could not convert"):
        await by_size(size, lambda: float("not a number"))


async def test_a_request_that_finds_no_thread_may_try_again(no_thread):
    with no_thread(), pytest.raises(NotReadyError, match="no thread for this request"):
        await by_size(INLINE_BYTES, dict)
    assert await by_size(INLINE_BYTES, dict) == {}

"""Who waits for a place in a batch: limits, deadlines and callers that left."""

import asyncio
from time import monotonic

import pytest

from service.batcher import Batcher
from service.errors import DeadlineExceededError, OverloadedError, PayloadTooLargeError
from tests.service.batching import Runtime, entered, rows, run


def test_a_full_queue_refuses_at_once_and_counts_rows():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime, max_batch=2, max_queue=3)
        tasks = [asyncio.ensure_future(batcher.submit(rows(0)))]
        await entered(runtime)
        tasks.append(asyncio.ensure_future(batcher.submit(rows(1, 2))))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="2 pictures are waiting and 2 more came"):
            await batcher.submit(rows(3, 4))
        runtime.gate.set()
        await asyncio.gather(*tasks)

    run(scenario())


def test_requests_that_left_or_expired_keep_nobody_out():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime, max_batch=2, max_queue=4)
        first = asyncio.ensure_future(batcher.submit(rows(0)))
        await entered(runtime)
        stays = asyncio.ensure_future(batcher.submit(rows(1)))
        late = asyncio.ensure_future(batcher.submit(rows(7), deadline=monotonic() + 0.01))
        gone = asyncio.ensure_future(batcher.submit(rows(8, 9)))
        await asyncio.wait([late])
        gone.cancel()
        await asyncio.wait([gone])
        last = asyncio.ensure_future(batcher.submit(rows(2, 3, 4)))
        await asyncio.sleep(0)
        assert batcher.queued == 4
        with pytest.raises(OverloadedError, match="4 pictures are waiting and 1 more came"):
            await batcher.submit(rows(5))
        runtime.gate.set()
        answers = [
            answer.arrays["double"].ravel().tolist()
            for answer in await asyncio.gather(first, stays, last)
        ]
        assert answers == [[0], [2], [4, 6, 8]]
        assert isinstance(late.exception(), DeadlineExceededError)

    run(scenario())


def test_an_expired_request_is_told_so_and_never_run():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime)
        first = asyncio.ensure_future(batcher.submit(rows(1)))
        await entered(runtime)
        with pytest.raises(DeadlineExceededError, match="no answer within the deadline"):
            await batcher.submit(rows(2), deadline=monotonic() + 0.01)
        runtime.gate.set()
        await first
        await batcher.drain()
        assert runtime.sizes == [1]

    run(scenario())


def test_a_deadline_that_has_passed_already_runs_nothing():
    async def scenario():
        runtime = Runtime()
        batcher = Batcher(runtime)
        with pytest.raises(DeadlineExceededError, match="before the request was read"):
            await batcher.submit(rows(1), deadline=monotonic())
        await batcher.drain()
        assert runtime.sizes == []

    run(scenario())


def test_a_request_that_the_queue_could_never_hold_is_too_large():
    async def scenario():
        batcher = Batcher(Runtime(), max_batch=2, max_queue=3)
        answer = await batcher.submit(rows(*range(5)))
        assert answer.arrays["double"].ravel().tolist() == [0, 2, 4, 6, 8]
        with pytest.raises(PayloadTooLargeError, match=r"6 rows .* takes 5, 3 .*--max-queue"):
            await batcher.submit(rows(*range(6)))

    run(scenario())


def test_a_cancelled_request_is_never_run():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime)
        first = asyncio.ensure_future(batcher.submit(rows(1)))
        await entered(runtime)
        gone = asyncio.ensure_future(batcher.submit(rows(2)))
        last = asyncio.ensure_future(batcher.submit(rows(3)))
        await asyncio.sleep(0)
        gone.cancel()
        runtime.gate.set()
        await asyncio.gather(first, last)
        assert runtime.sizes == [1, 1]
        assert batcher.queued == 0

    run(scenario())

import asyncio
import threading

import numpy as np
import pytest

from service.batcher import Batcher
from service.errors import InternalError, NotReadyError
from tests.service.batching import Runtime, entered, rows, run


def test_a_request_that_finds_no_thread_keeps_nobody_else_from_one(no_thread):
    async def scenario():
        runtime = Runtime()
        batcher = Batcher(runtime)
        with no_thread(), pytest.raises(NotReadyError, match="no thread to run the model in"):
            await batcher.submit(rows(1))
        async with asyncio.timeout(60):
            assert (await batcher.submit(rows(2))).arrays["double"].tolist() == [[4]]
            await batcher.drain()  # an answer comes before the thread has counted its batch out
        assert (batcher.running, batcher.queued) == (0, 0)
        assert runtime.sizes == [1]  # what was refused is not run later

    run(scenario())


def test_an_idle_runtime_takes_a_request_at_once_and_later_ones_go_together():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime, max_batch=8)
        first = asyncio.ensure_future(batcher.submit(rows(1)))
        await entered(runtime)
        rest = [asyncio.ensure_future(batcher.submit(rows(i))) for i in range(2, 6)]
        await asyncio.sleep(0)
        assert (batcher.running, batcher.queued) == (1, 4)
        runtime.gate.set()
        answers = await asyncio.gather(first, *rest)
        assert [answer.arrays["double"].item() for answer in answers] == [2, 4, 6, 8, 10]
        assert runtime.sizes == [1, 4]

    run(scenario())


def test_a_batch_is_no_larger_than_its_limit_and_keeps_the_order():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime, max_batch=4)
        tasks = [asyncio.ensure_future(batcher.submit(rows(i, i + 0.5))) for i in range(5)]
        await entered(runtime)
        runtime.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [a.arrays["double"].ravel().tolist() for a in answers] == [
            [2 * i, 2 * i + 1] for i in range(5)
        ]
        assert runtime.sizes == [2, 4, 4]

    run(scenario())


def test_a_request_larger_than_a_batch_is_split_and_put_together():
    async def scenario():
        runtime = Runtime()
        answer = await Batcher(runtime, max_batch=4).submit(rows(*range(10)))
        assert answer.arrays["double"].ravel().tolist() == [2 * i for i in range(10)]
        assert max(runtime.sizes) == 4

    run(scenario())


def test_when_a_part_fails_the_others_are_not_run():
    async def scenario():
        calls, turn = [], threading.Semaphore(0)

        def fail(rows):
            calls.append(rows.ravel().tolist())
            assert turn.acquire(timeout=60)
            raise RuntimeError("negative")

        batcher = Batcher(fail, max_batch=1)
        asked = asyncio.ensure_future(batcher.submit(rows(1, 2, 3, 4)))
        await asyncio.sleep(0)
        turn.release()
        with pytest.raises(InternalError, match="negative"):
            await asked
        turn.release(4)
        await batcher.drain()
        assert calls in ([[1]], [[1], [2]])  # the second may have begun by then
        assert batcher.queued == 0

    run(scenario())


def test_a_requests_seconds_are_those_of_all_its_parts_and_of_no_other():
    async def scenario():
        seen = []
        batcher = Batcher(Runtime(), max_batch=2, on_batch=lambda *batch: seen.append(batch))
        one, other = await asyncio.gather(
            batcher.submit(rows(*range(5))), batcher.submit(rows(*range(2)))
        )
        await batcher.drain()
        seconds = [seconds for _, seconds, _ in seen]
        assert one.seconds == sum(seconds[:3])
        assert [other.seconds] == seconds[3:]

    run(scenario())


def test_when_a_batch_throws_only_the_bad_request_fails():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime)
        tasks = [asyncio.ensure_future(batcher.submit(rows(0)))]
        await entered(runtime)
        tasks += [asyncio.ensure_future(batcher.submit(rows(value))) for value in (1, -1, 2)]
        await asyncio.sleep(0)
        runtime.gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[2], InternalError)
        assert "negative" in str(done[2])
        assert [done[i].arrays["double"].item() for i in (0, 1, 3)] == [0, 2, 4]
        assert (await batcher.submit(rows(7))).arrays["double"].item() == 14

    run(scenario())


@pytest.mark.parametrize("wrong", [np.zeros((3, 1)), np.zeros(())])
def test_a_wrong_number_of_rows_is_an_error_and_no_wrong_answer(wrong):
    async def scenario():
        with pytest.raises(InternalError, match="expected 2 rows"):
            await Batcher(lambda _: {"y": wrong}).submit(rows(1, 2))

    run(scenario())


def test_the_next_batch_does_not_wait_for_a_busy_event_loop():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime)
        tasks = [asyncio.ensure_future(batcher.submit(rows(1)))]
        await entered(runtime)
        tasks.append(asyncio.ensure_future(batcher.submit(rows(2))))
        await asyncio.sleep(0)
        runtime.entered.clear()
        runtime.gate.set()
        assert runtime.entered.wait(60)  # the loop itself stands still here
        await asyncio.gather(*tasks)

    run(scenario())


def test_drain_finishes_what_is_queued_and_takes_nothing_new():
    async def scenario():
        runtime = Runtime(held=True)
        batcher = Batcher(runtime, max_batch=1)
        tasks = [asyncio.ensure_future(batcher.submit(rows(i))) for i in range(3)]
        await entered(runtime)
        draining = asyncio.ensure_future(batcher.drain())
        await asyncio.sleep(0)
        with pytest.raises(NotReadyError):
            await batcher.submit(rows(9))
        assert not draining.done()
        runtime.gate.set()
        await draining
        await batcher.drain()  # a second time changes nothing
        assert [(await task).arrays["double"].item() for task in tasks] == [0, 2, 4]

    run(scenario())


def test_tells_of_each_batch():
    async def scenario():
        seen = []
        batcher = Batcher(Runtime(), on_batch=lambda *batch: seen.append(batch))
        await batcher.submit(rows(1, 2, 3))
        await batcher.drain()
        ((count, seconds, wait),) = seen
        assert count == 3
        assert seconds >= 0
        assert wait >= 0

    run(scenario())


def test_many_at_once_all_get_their_own_answer():
    async def scenario():
        batcher = Batcher(lambda x: {"y": x + 1}, max_batch=7, max_queue=10_000)
        values = np.random.default_rng(0).integers(1, 6, 400)
        parts = [np.full((n, 1), i) for i, n in enumerate(values)]
        answers = await asyncio.gather(*(batcher.submit(part) for part in parts))
        for part, answer in zip(parts, answers, strict=True):
            assert np.array_equal(answer.arrays["y"], part + 1)
        await batcher.drain()  # an answer comes before the thread has counted its batch out
        assert (batcher.queued, batcher.running) == (0, 0)

    run(scenario())

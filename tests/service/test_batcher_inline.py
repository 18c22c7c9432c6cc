"""Batches that are so short that the event loop runs them itself."""

import asyncio
import threading
from time import monotonic

import pytest

from service.batcher import Batcher
from service.errors import DeadlineExceededError, InternalError, NotReadyError
from tests.service.batching import Runtime, rows, run


class Placed(Runtime):
    """Remembers, too, which of its calls came from the event loop's thread."""

    def __init__(self):
        super().__init__()
        self.loops = threading.current_thread()
        self.here = []

    def __call__(self, rows):
        self.here.append(threading.current_thread() is self.loops)
        return super().__call__(rows)


async def warmed(inline):
    """Return a batcher that has seen one batch, of which nothing was known, and its runtime."""
    runtime = Placed()
    batcher = Batcher(runtime, max_batch=4)
    batcher.inline = inline
    await batcher.submit(rows(0))
    # An answer comes before the thread has counted its batch out.
    await asyncio.wrap_future(batcher._thread.submit(lambda: None))
    return batcher, runtime


@pytest.mark.parametrize(("inline", "here"), [(60, [False, True]), (1e-12, [False] * 2)])
def test_what_is_known_to_be_short_runs_in_the_event_loop(inline, here):
    async def scenario():
        batcher, runtime = await warmed(inline)
        assert (await batcher.submit(rows(2))).arrays["double"].tolist() == [[4]]
        assert runtime.here == here
        await batcher.drain()

    run(scenario())


def test_what_came_together_runs_together_and_in_order():
    async def scenario():
        batcher, runtime = await warmed(60)
        answers = await asyncio.gather(*(batcher.submit(rows(i)) for i in range(6)))
        assert [answer.arrays["double"].item() for answer in answers] == [0, 2, 4, 6, 8, 10]
        assert (runtime.sizes, runtime.here) == ([1, 4, 2], [False, True, True])
        assert (batcher.queued, batcher.running) == (0, 0)
        await batcher.drain()

    run(scenario())


def test_what_has_become_too_much_for_the_event_loop_goes_to_the_thread():
    async def scenario():
        batcher, runtime = await warmed(60)
        waiting = [asyncio.ensure_future(batcher.submit(rows(i))) for i in (1, 2)]
        await asyncio.sleep(0)  # they are to be run in the loop's next turn
        batcher._row_seconds = 59
        answers = await asyncio.gather(*waiting)
        assert [answer.arrays["double"].item() for answer in answers] == [2, 4]
        assert (runtime.sizes, runtime.here) == ([1, 2], [False, False])
        await batcher.drain()

    run(scenario())


def test_what_took_longer_than_expected_is_late_here_too():
    async def scenario():
        batcher, _ = await warmed(60)
        ends = monotonic() + 0.01
        run = batcher._run

        def slow(rows):
            while monotonic() <= ends:
                pass
            return run(rows)

        batcher._run = slow
        with pytest.raises(DeadlineExceededError):
            await batcher.submit(rows(1), deadline=ends)
        await batcher.drain()

    run(scenario())


def test_without_a_thread_to_go_to_everybody_is_told(no_thread):
    async def scenario():
        batcher, runtime = await warmed(60)
        waiting = [asyncio.ensure_future(batcher.submit(rows(i))) for i in range(6)]
        await asyncio.sleep(0)
        batcher._row_seconds = 59
        batcher._thread = batcher._new_thread()  # one that has not begun
        with no_thread():
            told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in told] == [NotReadyError] * 6  # more than one batch
        assert (await batcher.submit(rows(3))).arrays["double"].tolist() == [[6]]
        assert runtime.sizes == [1, 1]
        await batcher.drain()

    run(scenario())


def test_drain_answers_what_the_event_loop_was_about_to_run():
    async def scenario():
        batcher, runtime = await warmed(60)
        waiting = [asyncio.ensure_future(batcher.submit(rows(i))) for i in range(6)]
        await asyncio.sleep(0)
        await batcher.drain()
        answers = await asyncio.gather(*waiting)
        assert [answer.arrays["double"].item() for answer in answers] == [0, 2, 4, 6, 8, 10]
        assert runtime.sizes == [1, 4, 2]

    run(scenario())


def test_only_the_bad_one_fails_and_the_loop_goes_on():
    async def scenario():
        batcher, runtime = await warmed(60)
        batcher.on_batch = lambda *_: 1 / 0  # metrics may fail, on a full disk
        waiting = [asyncio.ensure_future(batcher.submit(rows(i))) for i in (1, -1, 2)]
        one, bad, two = await asyncio.gather(*waiting, return_exceptions=True)
        assert (one.arrays["double"].item(), two.arrays["double"].item()) == (2, 4)
        assert isinstance(bad, InternalError)
        assert (await batcher.submit(rows(5))).arrays["double"].item() == 10
        assert all(runtime.here[1:])
        await batcher.drain()

    run(scenario())

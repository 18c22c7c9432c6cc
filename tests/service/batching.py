"""What tests of the batcher share: a runtime that can be held, and rows for it."""

import asyncio
import threading

import numpy as np


class Runtime:
    """Doubles its rows; holds each call until it is let go, and remembers the batch sizes."""

    def __init__(self, held=False):
        self.sizes = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        if not held:
            self.gate.set()

    def __call__(self, rows):
        self.sizes.append(len(rows))
        self.entered.set()
        assert self.gate.wait(60)
        if (rows < 0).any():
            raise RuntimeError("negative")
        return {"double": rows * 2}


def rows(*values):
    return np.array(values, np.float64)[:, None]


async def entered(runtime):
    await asyncio.to_thread(runtime.entered.wait, 20)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 60))  # what is lost is waited for no longer

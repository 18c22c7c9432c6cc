import contextlib
import threading

import pytest


@pytest.fixture
def no_thread(monkeypatch):
    """A context in which the system has no thread left."""

    @contextlib.contextmanager
    def context():
        def start(self):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            yield

    return context

"""A model that takes every core while the server's other processes have nothing to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import onnxruntime


class ElasticSession:
    """One model in two onnxruntime sessions: on this process's share of the cores, and on all.

    With a process a core, a single request would leave all cores but one idle; and were every
    process's session to use all of them, their threads would wait for each other under load.

    Args:
        share: the session with as many threads as are this process's share.
        open_whole: opens the session with a thread for every core; called once, by `widen`.
        alone: whether no other process has anything to do just now.
    """

    def __init__(
        self,
        share: onnxruntime.InferenceSession,
        open_whole: Callable[[], onnxruntime.InferenceSession],
        alone: Callable[[], bool],
    ) -> None:
        self._share = share
        self._whole: onnxruntime.InferenceSession | None = None
        self._open_whole: Callable[[], onnxruntime.InferenceSession] | None = open_whole
        self._alone = alone

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """Run the graph, as onnxruntime's `run` does."""
        whole = self._whole
        session = whole if whole is not None and self._alone() else self._share
        arrays: list[Any] = session.run(names, feeds)
        return arrays

    def widen(self, samples: Iterable[Mapping[str, Any]]) -> bool:
        """Open the session that takes all cores, warm it with `samples`, and use it from now on.

        Blocks; to be called when the model is served already, as its start need not wait for this.
        A second call does nothing, nor does one after a failure: it returns False.

        Raises:
            Exception: it cannot be opened or does not run; the model goes on without it.
        """
        open_whole, self._open_whole = self._open_whole, None
        if open_whole is None:
            return False
        whole = open_whole()
        for feeds in samples:
            whole.run(None, feeds)
        self._whole = whole
        return True

    def __getattr__(self, name: str) -> Any:
        """Answer like onnxruntime's session what is no matter of threads: inputs, metadata."""
        return getattr(self._share, name)

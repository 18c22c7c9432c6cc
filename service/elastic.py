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
        whole: the session with a thread for every core.
        alone: whether no other process has anything to do just now.
    """

    def __init__(
        self,
        share: onnxruntime.InferenceSession,
        whole: onnxruntime.InferenceSession,
        alone: Callable[[], bool],
    ) -> None:
        self._share = share
        self._whole = whole
        self._alone = alone
        self._settled = False

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """Run the graph, as onnxruntime's `run` does."""
        session = self._whole if self._settled and self._alone() else self._share
        arrays: list[Any] = session.run(names, feeds)
        return arrays

    def settle(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Warm the session that takes all cores with `samples`, and use it from now on.

        Until then, what the model is asked while it loads is answered by the other one.
        """
        for feeds in samples:
            self._whole.run(None, feeds)
        self._settled = True

    def __getattr__(self, name: str) -> Any:
        """Answer like onnxruntime's session what is no matter of threads: inputs, metadata."""
        return getattr(self._share, name)

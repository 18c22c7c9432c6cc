"""What a worker and its parent tell each other, over two sockets (`service.worker`)."""

from __future__ import annotations

# What a worker says: its state, a space and a text where there is one, and the end.
READY, FAILED, LEAVING = b"ready", b"failed", b"leaving"
END = b"\0"
# What goes over its line: connections, each with one byte, and this.
REPLACED = b"r"

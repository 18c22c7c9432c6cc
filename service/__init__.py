"""Serve ONNX classifiers over HTTP with FastAPI and onnxruntime."""

from __future__ import annotations

import os

# onnxruntime starts a thread at its import that reports on its use. Nobody asked for that here, and
# a process with a thread cannot be forked safely.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
